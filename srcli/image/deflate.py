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

WORKERS = min(os.cpu_count() or 1, 8)


def deflate_block(data: bytes, level: int) -> bytes:
    """Raw deflate of `data` that ends on a byte boundary and can be followed by more."""
    squeeze = zlib.compressobj(level, zlib.DEFLATED, -15, 9, zlib.Z_FILTERED)
    return squeeze.compress(data) + squeeze.flush(zlib.Z_FULL_FLUSH)


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
