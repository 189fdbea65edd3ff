"""All results for one input, planned and made: what a batch does again and again, in this process or in another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import BinaryIO

from srcli.errors import SrcliError
from srcli.image.temporary import remove_leftovers
from srcli.inputs import Source
from srcli.job.draw import Spread, uncertainty_path
from srcli.job.plan import plan
from srcli.job.run import Engine, Report, run
from srcli.job.task import Record, Settings, Task
from srcli.outputs import Destination


class Fatal(Exception):  # noqa: N818 - it only carries the error past those of single pictures
    """What would fail for every picture; `cause` says what."""

    def __init__(self, cause: SrcliError) -> None:
        super().__init__(str(cause))
        self.cause = cause


Watch = Callable[[str, int], AbstractContextManager[Report | None]]


def unwatched(_label: str, _pixels: int) -> AbstractContextManager[Report | None]:
    """Nobody is told how far the work is."""
    return nullcontext()


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
    tasks = [
        plan(source, index, settings, place, sample=number, data=data)
        for number in range(1, settings.samples + 1)
    ]
    spread, path = (None, None) if dry_run else _spread(tasks, settings)
    for task in tasks:
        if task.path is not None and not dry_run:
            remove_leftovers(task.path.parent)
        if dry_run or (task.record.status == "skipped" and spread is None):
            yield task.record
            continue
        network = engine() if task.needs_network else None
        with watch(source.label, task.pixels) as report:
            record = run(task, settings, network, report=report, stdout=stdout, spread=spread)
        if spread is not None and path is not None and task is tasks[-1]:
            spread.write(path, replace=settings.exists == "overwrite")
            record.diversity, record.uncertainty = round(spread.value(), 4), str(path)
            record.notes.append(f"diversity {record.diversity:.2f} levels, drawn in {path}")
        yield record


def _spread(tasks: Sequence[Task], settings: Settings) -> tuple[Spread | None, Path | None]:
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
    return Spread(tasks[0].target.size), path
