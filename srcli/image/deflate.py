"""Deflate on several cores: independent blocks, joined in order (as pigz does)."""

from __future__ import annotations

import os
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Block = TypeVar("Block")

THOROUGH = 6  # the highest level that may be quick
FLAT, NOISY = 0.12, 0.4  # of the bytes: with less left, repeats are cheap to find; with more, there are none
SAMPLE, WORTH = 1 << 16, 0.95
WORKERS = min(os.cpu_count() or 1, 8)


def deflate_block(data: bytes, level: int, strategy: int = zlib.Z_FILTERED) -> bytes:
    """Raw deflate of `data` that ends on a byte boundary and can be followed by more."""
    squeeze = zlib.compressobj(level, zlib.DEFLATED, -15, 9, strategy)
    return squeeze.compress(data) + squeeze.flush(zlib.Z_FULL_FLUSH)


def deflate_runs(data: bytes, level: int) -> bytes | None:
    """As `deflate_block`, looking for runs alone; None where a search for repeats finds more, or `level` asks for it.

    The rests that filters leave of a photo hold nothing else: eight times as fast, for 1 to 2 % more bytes.
    """
    if not 1 <= level <= THOROUGH:
        return None
    packed = deflate_block(data, level, zlib.Z_RLE)
    if len(packed) > NOISY * len(data):
        return packed
    if len(packed) < FLAT * len(data):
        return None
    sample = data[len(data) // 2 :][:SAMPLE]
    found = len(deflate_block(sample, level)) / len(deflate_block(sample, level, zlib.Z_RLE))
    return packed if found > WORTH else None


def in_order(work: Callable[[Item], Block], items: Iterable[Item]) -> Iterator[Block]:
    """`work(item)` of each item in order, computed a few ahead in threads. The result does not depend on them."""
    if WORKERS == 1:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(WORKERS) as pool:
        waiting: deque[Future[Block]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > WORKERS:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
