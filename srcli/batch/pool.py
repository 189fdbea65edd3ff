"""Several processes for one batch: on several GPUs, or on a CPU whose cores one picture does not keep busy.

Each process has a network of its own and asks for the next picture when it is idle, large files first. One that
dies gives its picture back, once; a picture whose second process dies has failed.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing.connection import Connection, wait
from typing import Any

from srcli.batch.each import Fatal, Item, Outcome
from srcli.batch.inputs import Source
from srcli.batch.naming import Destination
from srcli.batch.render import Engine
from srcli.batch.staging import staged_records
from srcli.batch.task import Record, Settings
from srcli.errors import ModelError, ResourceError, SrcliError, as_ours
from srcli.processes import ENDING, mind_signals

PATIENCE = 5.0  # seconds that a process gets to clean up
TRIES = 2  # processes that one picture may cost
Load = Callable[[str], Engine]
Answer = tuple[str, list[Record], dict[str, Any] | None]  # done, failed or fatal; records; what went wrong


@dataclass(frozen=True)
class Work:
    """What every process of a crew is told; all of it can be sent to another process.

    Attributes:
        settings: what to do.
        place: where results go.
        load: makes the network on the device that is named.
        threads: of the CPU, per process.
    """

    settings: Settings
    place: Destination
    load: Load
    threads: int


@dataclass
class _Worker:
    process: Any
    pipe: Connection
    device: str
    item: Item | None = None


@dataclass(frozen=True)
class Crew:
    """Processes to be started.

    Attributes:
        devices: one for each process.
        load: makes the network on the device that is named; sent to the processes.
        threads: of the CPU, per process.
    """

    devices: tuple[str, ...]
    load: Load
    threads: int
    least = 2  # pictures for which processes are started

    def outcomes(self, settings: Settings, place: Destination, items: Sequence[Item]) -> Generator[Outcome]:
        """See `outcomes`."""
        return outcomes(Work(settings, place, self.load, self.threads), self.devices, items)


def outcomes(work: Work, devices: Sequence[str], items: Sequence[Item]) -> Generator[Outcome]:
    """Do all items with a process per entry of `devices`; what became of them comes as it is ready.

    Raises:
        Fatal: weights or a device that are not there.
    """
    context = multiprocessing.get_context("spawn")  # a forked process cannot use CUDA
    waiting, lost = deque(largest_first(items)), dict.fromkeys(items, 0)
    workers = [_hire(context, work, device) for device in devices[: len(items)]]
    try:
        while workers:
            for worker in workers:
                if worker.item is None and waiting:
                    worker.item = waiting.popleft()
                    with suppress(OSError):  # it is dead: seen below
                        worker.pipe.send(worker.item)
            for worker in [w for w in workers if w.item is None]:
                worker.pipe.close()  # it reads the end and leaves
                workers.remove(worker)
            ready = wait([worker.pipe for worker in workers]) if workers else []
            for worker in [w for w in workers if w.pipe in ready]:
                item = worker.item
                assert item is not None
                try:
                    worker.item = None
                    yield outcome_of(item, worker.pipe.recv())
                except (EOFError, OSError):
                    worker.process.join()
                    lost[item] += 1
                    workers[workers.index(worker)] = _hire(context, work, worker.device)
                    if lost[item] < TRIES:
                        waiting.appendleft(item)
                    else:
                        yield Outcome(item, [], death(item, _how(worker.process.exitcode)))
    finally:
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            worker.process.join(PATIENCE)
            if worker.process.is_alive():
                worker.process.kill()


def largest_first(items: Sequence[Item]) -> list[Item]:
    """The order of work: what takes long is not begun last."""
    return sorted(items, key=_bytes, reverse=True)


def _bytes(item: Item) -> int:
    path = item[1].path
    with suppress(OSError):
        return 0 if path is None else path.stat().st_size
    return 0


def _hire(context: Any, work: Work, device: str) -> _Worker:
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(work, device, theirs), daemon=True)
    with _without_interrupts():
        process.start()
    theirs.close()
    return _Worker(process, ours, device)


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """What is started inside never sees Ctrl-C, not even in its imports: this process ends it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, set(ENDING) - {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _how(exitcode: int | None) -> str:
    return f"signal {-exitcode}" if exitcode is not None and exitcode < 0 else f"exit code {exitcode}"


def death(item: Item, how: str) -> ResourceError:
    """The error for a picture that has cost as many processes as it may."""
    return ResourceError(
        f"{item[1].label}: the process that worked on it died ({how}), twice.",
        hint="Perhaps memory ran out: use fewer --workers, or a smaller size.",
    )


def outcome_of(item: Item, answer: Answer) -> Outcome:
    """What another process answered.

    Raises:
        Fatal: it would be the same for every picture.
    """
    kind, records, about = answer
    error = None if about is None else _rebuilt(about)
    if kind == "fatal" and error is not None:
        raise Fatal(error)
    return Outcome(item, records, error)


def _rebuilt(about: dict[str, Any]) -> SrcliError:
    """The error that another process described."""
    found = getattr(importlib.import_module("srcli.errors"), str(about["type"]), SrcliError)
    return found(about["message"], hint=about["hint"])


# --- in the other process -----------------------------------------------------------------------------------------


def serve(work: Work, device: str, pipe: Connection) -> None:
    """Do what comes through the pipe until it is closed."""
    mind_signals()
    engine = engine_on(work, device)
    with suppress(EOFError, BrokenPipeError):
        while True:
            pipe.send(attempt(work, pipe.recv(), engine))
    os._exit(0)  # everything is written; taking libraries down takes seconds


def engine_on(work: Work, device: str) -> Callable[[], Engine]:
    """Gives the network, loaded at the first call."""
    os.environ["OMP_NUM_THREADS"] = str(work.threads)

    @lru_cache(maxsize=1)
    def engine() -> Engine:
        try:
            import torch

            torch.set_num_threads(work.threads)
            return work.load(device)
        except Exception as error:
            raise Fatal(as_ours(error)) from error

    return engine


def attempt(work: Work, item: Item, engine: Callable[[], Engine]) -> Answer:
    """One picture; whatever goes wrong is in the answer, which can be sent."""
    index, source = item
    records: list[Record] = []
    try:
        records += staged_records(index, source, work.settings, work.place, engine)
    except Fatal as error:
        return "fatal", records, _about(source, error.cause)
    except ModelError as error:
        return "fatal", records, _about(source, error)
    except Exception as error:
        return "failed", records, _about(source, as_ours(error, bug="tell"))
    return "done", records, None


def _about(source: Source, error: SrcliError) -> dict[str, Any]:
    about = Record.failure(source.label, error).error
    assert about is not None
    return about
