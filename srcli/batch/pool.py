"""Several workers for one batch: processes on several GPUs, or on a CPU whose cores one picture does not keep busy.

Each has a network of its own and gets the next picture when it is idle, large files first. A picture whose worker dies
goes to another one, once; with its second worker it has failed. `srcli.batch.ray` has workers on other machines.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
from collections import Counter, deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple, Protocol, TypeVar

from srcli.batch.job import Record, Settings
from srcli.batch.naming import Destination
from srcli.batch.render import Engine
from srcli.batch.worker import Fatal, Item, Outcome, Worker
from srcli.errors import ModelError, ResourceError, SrcliError, as_ours
from srcli.processes import ENDING, handle_signals
from srcli.resources import collect_rarely, keep_freed_memory

PATIENCE = 5.0  # seconds that a process gets to clean up
TRIES = 2  # workers that one picture may cost
Answer = tuple[str, list[Record], dict[str, Any] | None]  # done, failed or fatal; records; what went wrong
W = TypeVar("W")


@dataclass(frozen=True)
class WorkerSetup:
    """What a worker needs to start; can be sent to another process."""

    settings: Settings
    place: Destination
    threads: int  # of the CPU, for each worker


class Died(NamedTuple):
    """Takes the place of an answer where the worker has ended."""

    how: str


class Workers(Protocol[W]):
    """Where workers run."""

    count: int

    def start_worker(self) -> W:
        """A new worker; `wait` tells when it can be given a picture."""

    def send(self, worker: W, item: Item) -> None:
        """Give an idle worker a picture."""

    def wait(self) -> tuple[W, Answer | Died | None]:
        """The next worker that answers, has started (None), or has died."""

    def stop(self, worker: W) -> None:
        """Let an idle worker go."""

    def close(self) -> None:
        """End all that still run."""


def outcomes(workers: Workers[W], items: Sequence[Item]) -> Generator[Outcome]:
    """Do all items; what became of them comes as it is ready.

    Raises Fatal (what would fail for every picture, such as weights that are not there).
    """
    waiting, deaths, busy = deque(_largest_first(items)), Counter[Item](), dict[W, Item | None]()
    try:
        for _ in range(min(workers.count, len(items))):
            busy[workers.start_worker()] = None
        while busy:
            worker, answer = workers.wait()
            item = busy.pop(worker)
            if isinstance(answer, Died):
                outcome = None
                if item is not None:
                    deaths[item] += 1
                    if deaths[item] < TRIES:
                        waiting.appendleft(item)
                    else:
                        outcome = Outcome(item, [], _death(item, answer.how))
                if waiting:
                    busy[workers.start_worker()] = None
            else:
                if waiting:
                    busy[worker] = following = waiting.popleft()
                    workers.send(worker, following)
                else:
                    workers.stop(worker)
                outcome = None if item is None or answer is None else _outcome(item, answer)
            if outcome is not None:
                yield outcome
    finally:
        workers.close()


def _largest_first(items: Sequence[Item]) -> list[Item]:
    """What takes long is not begun last."""

    def nbytes(item: Item) -> int:
        path = item[1].path
        with suppress(OSError):
            return 0 if path is None else path.stat().st_size
        return 0

    return sorted(items, key=nbytes, reverse=True)


def _death(item: Item, how: str) -> ResourceError:
    return ResourceError(
        f"{item[1].label}: the process that worked on it died ({how}), twice.",
        hint="Perhaps memory ran out: use fewer --workers, or a smaller size.",
    )


def _outcome(item: Item, answer: Answer) -> Outcome:
    kind, records, about = answer
    error = None
    if about is not None:
        known = getattr(importlib.import_module("srcli.errors"), str(about["type"]), SrcliError)
        error = known(about["message"], hint=about["hint"])
        if kind == "fatal":
            raise Fatal(error)
    return Outcome(item, records, error)


@dataclass(frozen=True)
class ProcessPool:
    """Processes of this machine, one for each of `devices`."""

    devices: tuple[str, ...]
    threads: int
    least = 2  # pictures for which processes are started

    def outcomes(self, settings: Settings, place: Destination, items: Sequence[Item]) -> Generator[Outcome]:
        """Do all items; what became of them comes as it is ready."""
        return outcomes(_Processes(WorkerSetup(settings, place, self.threads), self.devices), items)


class _Processes:
    """Workers that are known by our end of their pipe."""

    def __init__(self, setup: WorkerSetup, devices: Sequence[str]) -> None:
        self.count = len(devices)
        self._setup = setup
        self._free = deque(devices)
        self._started = deque[Connection]()
        self._running: dict[Connection, tuple[Any, str]] = {}
        self._context = multiprocessing.get_context("spawn")  # a forked process cannot use CUDA

    def start_worker(self) -> Connection:
        device = self._free.popleft()
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=serve, args=(self._setup, device, theirs), daemon=True)
        with _without_interrupts():
            process.start()
        theirs.close()
        self._running[ours] = process, device
        self._started.append(ours)  # what is sent waits in the pipe
        return ours

    def send(self, worker: Connection, item: Item) -> None:
        with suppress(OSError):  # it is dead: `wait` will see
            worker.send(item)

    def wait(self) -> tuple[Connection, Answer | Died | None]:
        if self._started:
            return self._started.popleft(), None
        worker = wait(list(self._running))[0]
        assert isinstance(worker, Connection)
        try:
            return worker, worker.recv()
        except (EOFError, OSError):
            process, device = self._running.pop(worker)
            process.join()
            self._free.append(device)
            code = process.exitcode
            return worker, Died(f"signal {-code}" if code is not None and code < 0 else f"exit code {code}")

    def stop(self, worker: Connection) -> None:
        del self._running[worker]
        worker.close()  # it reads the end and leaves

    def close(self) -> None:
        for process, _ in self._running.values():
            process.terminate()
        for process, _ in self._running.values():
            process.join(PATIENCE)
            if process.is_alive():
                process.kill()


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


# --- in the other process -----------------------------------------------------------------------------------------


def serve(setup: WorkerSetup, device: str, pipe: Connection) -> None:
    """Do what comes through the pipe until it is closed."""
    worker = worker_on(setup, device)
    handle_signals()
    with suppress(EOFError, BrokenPipeError):
        while True:
            pipe.send(attempt(worker, pipe.recv()))
    os._exit(0)  # everything is written; taking libraries down takes seconds


def worker_on(setup: WorkerSetup, device: str) -> Worker:
    """A worker whose network is loaded by the first picture that needs it."""
    os.environ["OMP_NUM_THREADS"] = str(setup.threads)
    keep_freed_memory()
    collect_rarely()

    @lru_cache(maxsize=1)
    def engine() -> Engine:
        try:
            import torch

            torch.set_num_threads(setup.threads)
            return setup.settings.model.load(device)
        except Exception as error:
            raise Fatal(as_ours(error)) from error

    return Worker(setup.settings, setup.place, engine)


def attempt(worker: Worker, item: Item) -> Answer:
    """One picture; whatever goes wrong is in the answer, which can be sent."""
    label, records = item[1].label, list[Record]()
    try:
        records += worker.process(item)
    except (Fatal, ModelError) as error:
        cause = error.cause if isinstance(error, Fatal) else error
        return "fatal", records, Record.failure(label, cause).error
    except Exception as error:
        return "failed", records, Record.failure(label, as_ours(error, bug="tell")).error
    return "done", records, None
