"""All results for one input, planned and made: what a batch does again and again, in this process or in another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

from srcli.batch.degradation import network_of
from srcli.batch.draw import SampleDeviation, uncertainty_path
from srcli.batch.inputs import Source
from srcli.batch.naming import Destination
from srcli.batch.plan import plan
from srcli.batch.render import Engine
from srcli.batch.run import run
from srcli.batch.task import Record, Settings, Task
from srcli.engine.request import Report
from srcli.errors import SrcliError
from srcli.files import remove_leftovers

Item = tuple[int, Source]
Watch = Callable[[str, int], AbstractContextManager[Report | None]]


class Outcome(NamedTuple):
    """What became of one input: its records, and the error if it failed."""

    item: Item
    records: list[Record]
    error: Exception | None = None


class Fatal(Exception):  # noqa: N818 - it only carries the error past those of single pictures
    """What would fail for every picture; `cause` says what."""

    def __init__(self, cause: SrcliError) -> None:
        super().__init__(str(cause))
        self.cause = cause


def unwatched(_label: str, _pixels: int) -> AbstractContextManager[Report | None]:
    """Nobody is told how far the work is."""
    return nullcontext()


@dataclass(frozen=True)
class Job:
    """One input, planned.

    Attributes:
        source: the input.
        tasks: one for each of its samples.
        spread: gathers the deviation between them, where that is wanted.
        path: of the picture of that deviation.
    """

    source: Source
    tasks: Sequence[Task]
    spread: SampleDeviation | None = None
    path: Path | None = None

    def is_left(self, task: Task) -> bool:
        """Whether there is work to do; where all samples are needed, those up to date are made again."""
        return task.record.status != "skipped" or self.spread is not None

    def conclude(self, task: Task, record: Record, settings: Settings) -> Record:
        """The record of a finished task; after the last one the deviation is drawn.

        Raises:
            SrcliError: it cannot be drawn.
        """
        if self.spread is not None and self.path is not None and task is self.tasks[-1]:
            self.spread.write(self.path, record.in_content, replace=settings.exists == "overwrite")
            record.diversity, record.uncertainty = round(self.spread.value(), 4), str(self.path)
            record.notes.append(f"diversity {record.diversity:.2f} levels, drawn in {self.path}")
        return record


def job_of(item: Item, settings: Settings, place: Destination, data: bytes | None = None) -> Job:
    """Plan all results for one input, and clear their folders of what dead processes left.

    Args:
        item: its number, from 1, and the input.
        settings: what to do.
        place: where results go.
        data: the content of standard input, if that is the source.

    Raises:
        SrcliError: it cannot be done.
    """
    tasks = _tasks(item, settings, place, data)
    for task in tasks:
        if task.path is not None:
            remove_leftovers(task.path.parent)
    return Job(item[1], tasks, *_spread(tasks, settings))


def _tasks(item: Item, settings: Settings, place: Destination, data: bytes | None) -> list[Task]:
    index, source = item
    numbers = range(1, settings.samples + 1)
    return [plan(source, index, settings, place, sample=number, data=data) for number in numbers]


def records_of(
    index: int,
    source: Source,
    settings: Settings,
    place: Destination,
    engine: Callable[[], Engine],
    *,
    data: bytes | None = None,
    dry_run: bool = False,
    watch: Watch = unwatched,
    stdout: BinaryIO | None = None,
) -> Iterator[Record]:
    """What became of one input: a record for each of its samples.

    Args:
        index: its number, from 1.
        source: the input.
        settings: what to do.
        place: where results go.
        engine: gives the network; called only where one is needed.
        data: the content of standard input, if that is the source.
        dry_run: plan only.
        watch: called with a label and the output's pixels; inside, the work is done and its share reported.
        stdout: takes the bytes of a result that has no path.

    Raises:
        SrcliError: it did not work; nothing is left behind.
    """
    if dry_run:
        for task in _tasks((index, source), settings, place, data):
            yield task.record
        return
    job = job_of((index, source), settings, place, data)
    for task in job.tasks:
        if not job.is_left(task):
            yield task.record
            continue
        network = network_of(task, settings, engine)
        with watch(source.label, task.pixels) as report:
            record = run(task, settings, network, report=report, stdout=stdout, spread=job.spread)
        yield job.conclude(task, record, settings)


def _spread(tasks: Sequence[Task], settings: Settings) -> tuple[SampleDeviation | None, Path | None]:
    """What gathers the deviation between samples, and where its picture goes; neither where it is not wanted.

    It needs all samples: those that are up to date are made again, unless its picture is there as well.
    """
    paths = [task.path for task in tasks if task.path is not None]
    if not settings.diversity or not tasks[0].needs_network:
        return None, None
    path = uncertainty_path(paths, tasks[0].source.label)
    skipped = [task for task in tasks if task.record.status == "skipped"]
    if skipped and (settings.exists == "skip" or (len(skipped) == len(tasks) and path.is_file())):
        return None, None
    return SampleDeviation(tasks[0].target.size), path
