"""A batch with all hands busy: while the network works on one picture, the next is read and the last is written.

One thread plans and reads, one runs the network, one writes (the encoders have threads of their own); the caller's
is free to report what is finished at once. What waits between them is bounded, in pictures and in bytes. Files,
records and their order are those of `records_of`, picture by picture.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, Full, Queue
from types import MappingProxyType
from typing import BinaryIO, NamedTuple, TypeVar

import numpy as np

from srcli.batch.capture_warnings import heard
from srcli.batch.degradation import network_of
from srcli.batch.each import Item, Job, Outcome, Watch, job_of, unwatched
from srcli.batch.inputs import Source
from srcli.batch.naming import Destination
from srcli.batch.render import Engine, Rendering
from srcli.batch.run import Loaded, load, memory_errors_of, rendering_of, write
from srcli.batch.task import Record, Settings, Task
from srcli.errors import ResourceError
from srcli.image.samples import IN_MEMORY

BANDS = 2  # that wait for the writer
BEHIND = 3  # results that are begun and not yet written
TICK = 0.1  # seconds between looks at whether all is to end
T = TypeVar("T")
_Result = tuple[Item, Future[Record]]


class Stopped(Exception):  # noqa: N818 - nothing went wrong
    """The batch ends early."""


class _Ready(NamedTuple):
    """An input that was planned and, if there is something to do, read; or what went wrong."""

    item: Item
    job: Job | None = None
    loaded: Mapping[int, Loaded] = MappingProxyType({})  # by the place among the job's tasks
    nbytes: int = 0
    error: Exception | None = None


class _Bands:
    """Rows on their way from the thread that makes them to the one that writes them."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._queue: Queue[np.ndarray | None] = Queue(BANDS)
        self._error: BaseException | None = None
        self._is_complete = False
        self.unwanted = False

    def put(self, rows: np.ndarray | None) -> bool:
        """Hand rows over, None behind the last; False if the writer has given up."""
        self._is_complete = rows is None
        while not self.unwanted:
            try:
                self._queue.put(rows, timeout=TICK)
                return True
            except Full:
                continue
        return False

    def fail(self, error: BaseException) -> None:
        """There will be no more rows; the writer finds this error instead."""
        self._error = error

    def __iter__(self) -> Iterator[np.ndarray]:
        while True:
            if self._error is not None:
                raise self._error
            if self._stop.is_set() and not self._is_complete:
                raise Stopped
            try:
                rows = self._queue.get(timeout=TICK)
            except Empty:
                continue
            if rows is None:
                return
            yield rows


class _Room:
    """How many bytes of pictures are between reading and the end of writing."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._held = 0
        self._changed = threading.Condition()

    def take(self, nbytes: int, stop: threading.Event) -> None:
        """Wait until there is room for so much, or nothing else is held."""
        with self._changed:
            while self._held and self._held + nbytes > self.limit:
                if stop.is_set():
                    raise Stopped
                self._changed.wait(TICK)
            self._held += nbytes

    def give(self, nbytes: int) -> None:
        """It is free again."""
        with self._changed:
            self._held -= nbytes
            self._changed.notify()

    def is_all_free(self, stop: threading.Event) -> bool:
        """Wait until nothing is held; False if nothing was in the first place."""
        with self._changed:
            if not self._held:
                return False
            while self._held:
                if stop.is_set():
                    raise Stopped
                self._changed.wait(TICK)
            return True


@dataclass
class Pipeline:
    """How a batch is done in this process; a context that ends its threads and leaves no partial file.

    Attributes:
        settings: what to do.
        place: where results go.
        engine: gives the network; called only where one is needed.
        data: the content of standard input, for the source that is that.
        watch: called with a label and the output's pixels; inside, the network works and its share is reported.
        stdout: takes the bytes of a result that has no path.
    """

    settings: Settings
    place: Destination
    engine: Callable[[], Engine]
    data: Callable[[Source], bytes | None] = lambda _source: None
    watch: Watch = unwatched
    stdout: BinaryIO | None = None
    _stop: threading.Event = field(default_factory=threading.Event, init=False)
    _room: _Room = field(default_factory=lambda: _Room(IN_MEMORY), init=False)
    _behind: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(BEHIND), init=False)
    _broken: Item | None = field(default=None, init=False)  # has failed: its other results are not wanted
    _failure: BaseException | None = field(default=None, init=False)  # of a thread, not of a picture
    _results: Queue[_Result | None] = field(default_factory=lambda: Queue(BEHIND), init=False)
    _taken: _Result | None = field(default=None, init=False)  # the result that is waited for
    _stages: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(2, "stage"), init=False)
    _writer: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "write"), init=False)

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._stages.shutdown()
        self._writer.shutdown()

    def outcomes(self, items: Iterable[Item]) -> Iterator[Outcome]:
        """Do all items; what became of them comes in their order, one record or one error at a time.

        To be gone through once.
        """
        ahead: Queue[_Ready | None] = Queue(1)
        self._stages.submit(self._guarded, self._read(items), ahead)
        self._stages.submit(self._guarded, self._rendered(ahead), self._results)
        while (result := self._results.get()) is not None:
            self._taken = result
            if result[0] is not self._broken:
                yield self._outcome(*result)
        if self._failure is not None:
            raise self._failure

    def last_outcomes(self) -> Iterator[Outcome]:
        """End the batch: what the network is done with is still written and comes here, the rest is dropped."""
        self._stop.set()
        result = self._taken
        while True:
            if result is None:
                try:
                    result = self._results.get_nowait()
                except Empty:
                    return
            if result is None:
                return
            with suppress(Exception):
                yield Outcome(result[0], [result[1].result()])
            result = None

    def _outcome(self, item: Item, future: Future[Record]) -> Outcome:
        try:
            record = future.result()
        except Exception as error:
            self._taken, self._broken = None, item
            return Outcome(item, [], error)
        self._taken = None
        return Outcome(item, [record])

    def _guarded(self, stage: Iterable[T], following: Queue[T | None]) -> None:
        """Hand over what a stage makes, until it or the batch ends; None is the end."""
        try:
            for made in stage:
                self._hand_over(made, following)
        except Stopped:
            pass
        except BaseException as error:
            self._failure = error
        finally:
            with suppress(Stopped):
                self._hand_over(None, following)

    def _hand_over(self, made: T, following: Queue[T]) -> None:
        while not self._stop.is_set():
            try:
                following.put(made, timeout=TICK)
            except Full:
                continue
            return
        raise Stopped

    # --- reading ---

    def _read(self, items: Iterable[Item]) -> Iterator[_Ready]:
        for item in items:
            try:
                yield self._ready(item)
            except (Stopped, GeneratorExit):
                raise
            except Exception as error:  # the picture's own, or a bug: the caller is told in its turn
                yield _Ready(item, error=error)

    def _ready(self, item: Item) -> _Ready:
        data = self.data(item[1])
        try:
            return self._loaded(item, data)
        except ResourceError:
            # The pictures that are being worked on may have what this one needs.
            if not self._room.is_all_free(self._stop):
                raise
        return self._loaded(item, data)

    def _loaded(self, item: Item, data: bytes | None) -> _Ready:
        job = job_of(item, self.settings, self.place, data)
        todo = {i: task for i, task in enumerate(job.tasks) if job.is_left(task)}
        if not todo:
            return _Ready(item, job)
        nbytes = _bytes_of(job.tasks[0])
        self._room.take(nbytes, self._stop)
        try:
            loaded = load(list(todo.values()), self.settings)
        except BaseException:
            self._room.give(nbytes)
            raise
        return _Ready(item, job, dict(zip(todo, loaded, strict=True)), nbytes)

    # --- the network ---

    def _rendered(self, ahead: Queue[_Ready | None]) -> Iterator[_Result]:
        while (ready := self._next(ahead)) is not None:
            if ready.job is None:
                assert ready.error is not None
                for _ in range(self.settings.samples):
                    self._pass(ready.item)
                yield ready.item, _failed(ready.error)
            else:
                yield from self._results_of(ready, ready.job)

    def _next(self, ahead: Queue[_Ready | None]) -> _Ready | None:
        while not self._stop.is_set():
            with suppress(Empty):
                return ahead.get(timeout=TICK)
        raise Stopped

    def _results_of(self, ready: _Ready, job: Job) -> Iterator[_Result]:
        item, last = ready.item, None
        for i, task in enumerate(job.tasks):
            if item is self._broken:
                break
            if i not in ready.loaded:
                self._pass(item)
                yield item, _finished(task.record)
                continue
            try:
                network = network_of(task, self.settings, self.engine)
            except Exception as error:
                yield item, _failed(error)
                break
            bands = _Bands(self._stop)
            rendering = rendering_of(ready.loaded[i], self.settings, network, job.spread)
            self._take_turn()
            last = self._writer.submit(self._write, ready.loaded[i], job, network, rendering, bands)
            last.add_done_callback(lambda _: self._behind.release())
            yield item, last
            self._render(ready.loaded[i], rendering, bands)
        if last is None:
            self._room.give(ready.nbytes)
        else:
            last.add_done_callback(lambda _: self._room.give(ready.nbytes))

    def _take_turn(self) -> None:
        while not self._behind.acquire(timeout=TICK):
            if self._stop.is_set():
                raise Stopped

    def _render(self, loaded: Loaded, rendering: Rendering, bands: _Bands) -> None:
        """Run the network for one result, and hand its rows to the writer."""
        task = loaded.task
        try:
            with (
                self.watch(task.source.label, task.pixels) as report,
                heard(loaded.warned),
                memory_errors_of(task),
            ):
                for rows in rendering.rows(report):
                    if self._stop.is_set():
                        raise Stopped
                    if not bands.put(rows):
                        break
            bands.put(None)
        except BaseException as error:
            bands.fail(error)
            if not isinstance(error, Exception) or isinstance(error, Stopped):
                raise

    def _pass(self, item: Item) -> None:
        with self.watch(item[1].label, 0):
            pass

    # --- writing ---

    def _write(
        self, loaded: Loaded, job: Job, network: Engine | None, rendering: Rendering, bands: _Bands
    ) -> Record:
        try:
            record = write(loaded, self.settings, network, rendering.samples(bands), self.stdout)
            return job.conclude(loaded.task, record, self.settings)
        finally:
            bands.unwanted = True


def _bytes_of(task: Task) -> int:
    height, width = task.header.size
    return height * width * 4 * {"8": 1, "16": 2, "32f": 4}[task.header.depth]


def _finished(record: Record) -> Future[Record]:
    future: Future[Record] = Future()
    future.set_result(record)
    return future


def _failed(error: Exception) -> Future[Record]:
    future: Future[Record] = Future()
    future.set_exception(error)
    return future
