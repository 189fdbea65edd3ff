"""A pipeline in one process: while the network works on one picture, the next is read and the last is written.

One thread reads, one runs the network, one writes (the encoders have threads of their own); the caller's is free to
report what is finished at once. What is between them is bounded, in results and in bytes. Files, records and their order
are those of `Worker.process`, picture by picture.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

from srcli.batch.inputs import Source
from srcli.batch.job import Record
from srcli.batch.render import Rendering
from srcli.batch.worker import Item, Outcome, PreparedInput, Worker, capture_warnings, memory_errors_of
from srcli.errors import ResourceError
from srcli.image.samples import IN_MEMORY

BANDS = 2  # that wait for the writer
AHEAD = 5  # results between the start of reading and the end of writing


class Stopped(Exception):  # noqa: N818 - nothing went wrong
    """The batch, or the result, ends early."""


class _Bands:
    """Rows on their way from the thread that makes them to the one that writes them."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._rows = deque[np.ndarray]()
        self._is_over = False
        self._error: BaseException | None = None

    def put(self, rows: np.ndarray) -> None:
        """Hand rows over; waits while too many are on their way."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_over or len(self._rows) < BANDS)
            if self._is_over:
                raise Stopped
            self._rows.append(rows)
            self._changed.notify_all()

    def end(self, error: BaseException | None = None) -> None:
        """No more rows come; with an error, those that wait are not wanted either. Only the first call counts."""
        with self._changed:
            if not self._is_over:
                self._is_over, self._error = True, error
            self._changed.notify_all()

    def __iter__(self) -> Iterator[np.ndarray]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_over or self._rows)
                if self._error is not None:
                    raise self._error
                if not self._rows:
                    return
                rows = self._rows.popleft()
                self._changed.notify_all()
            yield rows


class _ByteBudget:
    """Bounds the bytes of pictures between reading and the end of writing."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._held = 0
        self._is_closed = False
        self._changed = threading.Condition()

    def take(self, nbytes: int) -> None:
        """Wait until there is room for so much, or nothing else is held."""
        self._wait_for(lambda: not self._held or self._held + nbytes <= self.limit, nbytes)

    def give(self, nbytes: int) -> None:
        """What was taken is free again."""
        with self._changed:
            self._held -= nbytes
            self._changed.notify_all()

    def becomes_free(self) -> bool:
        """Wait until nothing is held; False if nothing was in the first place."""
        if not self._held:
            return False
        self._wait_for(lambda: not self._held)
        return True

    def close(self) -> None:
        """Nobody waits any more."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def _wait_for(self, what: Callable[[], bool], nbytes: int = 0) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or what())
            if self._is_closed:
                raise Stopped
            self._held += nbytes


@dataclass(frozen=True)
class _Result:
    """One result on its way; `rendered` is done with its last row, what it gives with the file."""

    item: Item
    number: int  # among those of its input
    work: Future[tuple[PreparedInput, int]]  # and the bytes that it holds
    bands: _Bands = field(default_factory=_Bands)
    rendered: Future[Future[Record]] = field(default_factory=Future)


class Overlap:
    """How a batch is done in this process; a context that ends its threads and leaves no partial file.

    `worker`: what to do. `data`: gives the content of standard input, for the source that is that. `room`: bytes of
    pictures that are held at once, where there are several.
    """

    def __init__(
        self,
        worker: Worker,
        data: Callable[[Source], bytes | None] = lambda _source: None,
        *,
        room: int = IN_MEMORY,
    ) -> None:
        self._worker = worker
        self._data = data
        self._budget = _ByteBudget(room)
        self._under_way = deque[_Result]()
        self._broken: Item | None = None  # has failed: its other results are not wanted
        self._reader, self._network, self._writer = self._threads = [
            ThreadPoolExecutor(1, name) for name in ("read", "network", "write")
        ]

    def __enter__(self) -> Overlap:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        for thread in self._threads:
            thread.shutdown(cancel_futures=True)

    def _stop(self) -> None:
        self._budget.close()
        for result in self._under_way:
            result.bands.end(Stopped())

    def outcomes(self, items: Iterable[Item]) -> Iterator[Outcome]:
        """Do all items; what became of them comes in their order, one record or one error at a time.

        To be gone through once.
        """
        for item in items:
            work = self._reader.submit(self._read, item)
            for number in range(self._worker.settings.samples):
                result = _Result(item, number, work)
                self._under_way.append(result)
                self._network.submit(self._render, result)
                if len(self._under_way) == AHEAD:
                    yield from self._next_outcome()
        while self._under_way:
            yield from self._next_outcome()

    def last_outcomes(self) -> Iterator[Outcome]:
        """End the batch: what the network is done with is still written and comes here, the rest is dropped."""
        self._stop()
        while self._under_way and self._under_way[0].rendered.done():
            result = self._under_way.popleft()
            with suppress(Exception):
                yield Outcome(result.item, [result.rendered.result().result()])

    def _next_outcome(self) -> Iterator[Outcome]:
        result = self._under_way[0]  # until it is finished: an interrupt may come
        records, error = list[Record](), None
        try:
            records = [result.rendered.result().result()]
        except Exception as problem:  # of this picture, or a bug: yielded in the order of inputs
            error = problem
        self._under_way.popleft()
        if result.item is not self._broken:
            self._broken = self._broken if error is None else result.item
            yield Outcome(result.item, records, error)

    # --- the threads ---

    def _read(self, item: Item) -> tuple[PreparedInput, int]:
        data = self._data(item[1])
        try:
            return self._read_within_room(item, data)
        except ResourceError:
            # The pictures that are being worked on may have what this one needs.
            if not self._budget.becomes_free():
                raise
        return self._read_within_room(item, data)

    def _read_within_room(self, item: Item, data: bytes | None) -> tuple[PreparedInput, int]:
        held = 0

        def take(nbytes: int) -> None:
            nonlocal held
            self._budget.take(nbytes)
            held = nbytes

        try:
            return self._worker.read(item, data, take=take), held
        except BaseException:
            self._budget.give(held)
            raise

    def _render(self, result: _Result) -> None:
        """Run the network for one result, and hand its rows to the writer."""
        try:
            try:
                work, held = result.work.result()
            except Exception:
                with self._worker.watch(result.item[1].label, 0):
                    raise
            try:
                result.rendered.set_result(self._rendered(result, work))
            finally:
                if result.number == len(work.jobs) - 1:
                    self._writer.submit(self._budget.give, held)  # after all that is to be written of it
        except BaseException as error:
            result.rendered.set_exception(error)

    def _rendered(self, result: _Result, work: PreparedInput) -> Future[Record]:
        worker, job, written = self._worker, work.jobs[result.number], Future[Record]()
        if result.number not in work.loaded or result.item is self._broken:
            with worker.watch(job.source.label, 0):
                written.set_result(Record.of(job, "skipped"))
            return written
        rendering = worker.rendering(work, result.number)
        warned = work.loaded[result.number].warned
        written = self._writer.submit(self._write, result, work, rendering)
        try:
            with (
                worker.watch(job.source.label, job.pixels) as report,
                capture_warnings(warned),
                memory_errors_of(job),
            ):
                for rows in rendering.rows(report):
                    result.bands.put(rows)
            result.bands.end()
        except BaseException as error:
            result.bands.end(error)  # the writer finds it
        return written

    def _write(self, result: _Result, work: PreparedInput, rendering: Rendering) -> Record:
        try:
            return self._worker.write(work, result.number, rendering, result.bands)
        finally:
            result.bands.end(Stopped())
