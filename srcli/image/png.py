"""PNG files: their chunks, and an encoder for 8 and 16 bits that takes rows as they come.

W3C, Portable Network Graphics (Third Edition). We have our own encoder because it is faster than others: photos are
deflated by `deflate_runs`, pages and drawings as usual, in parallel blocks that are joined in order (as pigz does).
"""

from __future__ import annotations

import os
import struct
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, BinaryIO, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from srcli.image.samples import Raster, Samples

Bytes = NDArray[np.uint8]
Item = TypeVar("Item")
Block = TypeVar("Block")

SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLOUR_TYPE = {1: 0, 2: 4, 3: 2, 4: 6}  # channels to colour type
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
BLOCK_BYTES = 1 << 20
MAX_CHUNK = 1 << 28
DEFLATE_RATIO = 1032  # at most: 258 bytes for two bits
DEFLATE_END = b"\x03\x00"  # an empty last block
SAMPLED, STRIDE = 64, 256  # bytes of a row that are looked at to choose its filter
CHUNK = 1 << 15  # bytes that are filtered at once: they stay in the cache
THOROUGH = 6  # the highest level that may be quick
FLAT, NOISY = 0.12, 0.4  # compressed to less, repeats are cheap to find; to more, there are hardly any
SAMPLE, WORTH = 1 << 16, 0.95
WORKERS = min(os.cpu_count() or 1, 8)


class PngHeader(NamedTuple):
    """The IHDR chunk."""

    width: int
    height: int
    bits: int
    colour_type: int
    interlaced: bool

    @property
    def raw_bytes(self) -> int:
        """Bytes of the rows with their filters (section 7), in one pass or in Adam7's seven (section 8)."""
        bits = self.bits * {2: 3, 4: 2, 6: 4}.get(self.colour_type, 1)
        passes = ADAM7 if self.interlaced else ((0, 0, 1, 1),)
        sizes = [(-(-(self.width - x) // dx), -(-(self.height - y) // dy)) for x, y, dx, dy in passes]
        return sum(rows * (1 + -(-across * bits // 8)) for across, rows in sizes if across > 0 < rows)


def read_png_header(stream: BinaryIO) -> PngHeader:
    """The header of a PNG stream; ValueError if it does not begin with one."""
    stream.seek(0)
    head = stream.read(33)
    if len(head) < 33 or not head.startswith(SIGNATURE) or head[12:16] != b"IHDR":
        raise ValueError("no PNG header")
    return PngHeader._make((*struct.unpack(">IIBB", head[16:26]), head[28] == 1))


def walk(stream: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Kind and length of each chunk; the stream is at its data."""
    at = stream.seek(len(SIGNATURE))
    while len(head := stream.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        yield kind, length
        at = stream.seek(at + 12 + length)


def find_chunks(stream: BinaryIO, *kinds: bytes, end: bytes = b"IDAT") -> dict[bytes, bytes]:
    """Contents of the first chunk of each of these kinds that there is before one of kind `end`."""
    found: dict[bytes, bytes] = {}
    for kind, length in walk(stream):
        if kind == end:
            break
        if kind in kinds and kind not in found:
            found[kind] = stream.read(min(length, MAX_CHUNK))
            if len(found) == len(kinds):
                break
    return found


def check_png(stream: BinaryIO) -> None:
    """Walk over all chunks, compare their checksums, and unpack and count the (first) picture's rows.

    Raises:
        ValueError: a chunk is cut off or damaged, the end is missing, or there are fewer rows than promised.
    """
    need, unpack, kind = read_png_header(stream).raw_bytes, zlib.decompressobj(), b""
    for kind, length in walk(stream):
        data, tail = stream.read(length), stream.read(4)
        if len(tail) < 4:
            raise ValueError("it ends early")
        if zlib.crc32(data, zlib.crc32(kind)) != int.from_bytes(tail, "big"):
            raise ValueError(f"the checksum of a {kind.decode('latin-1')} chunk is wrong")
        while kind == b"IDAT" and data and need > 0 and not unpack.eof:
            try:
                need -= len(unpack.decompress(data, BLOCK_BYTES))
            except zlib.error as error:
                raise ValueError(f"its pixels cannot be unpacked ({error})") from error
            data = unpack.unconsumed_tail
        if kind == b"IEND":
            break
    if kind != b"IEND":
        raise ValueError("it ends early")
    if need > 0:
        raise ValueError("its pixels end early")


def chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk with its length and checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))


def encode_png(
    write: Callable[[bytes], Any],
    raster: Raster,
    *,
    level: int = 6,
    chunks: Iterable[tuple[bytes, bytes]] = (),
    block_bytes: int = BLOCK_BYTES,
) -> None:
    """Write a picture as PNG; memory stays within a few blocks of rows.

    Args:
        write: takes the bytes of the file, from front to back.
        raster: (H, W, c), uint8 or uint16; 1 gray, 2 gray and alpha, 3 RGB, 4 RGB and alpha.
        level: effort of zlib, 0 to 9.
        chunks: (kind, data) to be written before the pixels.
        block_bytes: of rows that a thread packs at once.
    """
    height, width, channels = raster.shape
    head = struct.pack(">IIBBBBB", width, height, 8 * raster.dtype.itemsize, COLOUR_TYPE[channels], 0, 0, 0)
    write(SIGNATURE + chunk(b"IHDR", head))
    for kind, data in chunks:
        write(chunk(kind, data))
    for data in _image_data(raster, level, block_bytes):
        write(chunk(b"IDAT", data))
    write(chunk(b"IEND", b""))


def _image_data(raster: Raster, level: int, block_bytes: int) -> Iterator[bytes]:
    """The zlib stream in pieces, one for each block of rows."""
    blocks, checksum = raster.blocks(max(1, block_bytes // (raster.row_bytes + 1))), 1
    yield zlib.compress(b"", level)[:2]
    for packed, data in in_order(lambda block: _packed(*block, level), _with_row_above(blocks)):
        checksum = zlib.adler32(data, checksum)
        yield packed
    yield DEFLATE_END + struct.pack(">I", checksum)


def _packed(pixels: Samples, above: Samples | None, level: int) -> tuple[bytes, bytes]:
    """A block deflated, and what was deflated."""
    if level == 0:
        data = np.pad(_row_bytes(pixels), ((0, 0), (1, 0))).tobytes()
        return deflate_block(data, 0), data
    data = filter_rows(pixels, above, stride=STRIDE).tobytes()
    packed = deflate_runs(data, level)
    if packed is None:
        data = filter_rows(pixels, above).tobytes()
        packed = deflate_block(data, level)
    return packed, data


def _with_row_above(blocks: Iterable[Samples]) -> Iterator[tuple[Samples, Samples | None]]:
    above = None
    for block in blocks:
        yield block, above
        above = block[-1:].copy()


def filter_rows(pixels: Samples, above: Samples | None = None, *, stride: int = SAMPLED) -> Bytes:
    """Filtered rows (n, 1 + bytes) of pixels; each takes the filter with the smallest sum of absolute values.

    `above` is the row (1, W, c) before them; the sum is taken over the first `SAMPLED` of `stride` bytes.
    """
    raw = _row_bytes(pixels)
    n, width = raw.shape
    unit = pixels.shape[2] * pixels.dtype.itemsize
    framed = np.zeros((n + 1, unit + width), np.uint8)
    framed[1:, unit:] = raw
    if above is not None:
        framed[:1, unit:] = _row_bytes(above)
    here, left, up, corner = framed[1:, unit:], framed[1:, :-unit], framed[:-1, unit:], framed[:-1, :-unit]

    def rest(kind: int, at: Any) -> Bytes:
        if kind == 0:
            return here[at]
        if kind == 4:
            return here[at] - _paeth(left[at], up[at], corner[at])
        return here[at] - (left if kind == 1 else up)[at]

    kinds = np.array([0, 1, 2, 4], np.uint8)
    costs = np.zeros((len(kinds), n), np.int64)
    for start in range(0, width, stride):
        seen = slice(None), slice(start, start + SAMPLED)
        costs += [_cost(rest(kind, seen)) for kind in kinds]
    chosen = kinds[costs.argmin(axis=0)]
    out = np.empty((n, width + 1), np.uint8)
    out[:, 0] = chosen
    step = max(1, CHUNK // width)
    for kind in kinds:
        rows = np.flatnonzero(chosen == kind)
        for part in (rows[i : i + step] for i in range(0, len(rows), step)):
            together = part[-1] - part[0] == len(part) - 1
            at = slice(part[0], part[-1] + 1) if together else part
            out[at, 1:] = rest(kind, (at, slice(None)))
    return out


def _row_bytes(pixels: Samples) -> Bytes:
    """Rows as bytes, big-endian."""
    ordered = np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder(">"))
    return ordered.view(np.uint8).reshape(len(pixels), -1)


def _cost(rows: Bytes) -> NDArray[np.int64]:
    return np.abs(rows.view(np.int8)).view(np.uint8).sum(axis=1, dtype=np.int64)  # |-128| is 128 again


def _paeth(left: Bytes, up: Bytes, corner: Bytes) -> Bytes:
    """The neighbour nearest to left + up - corner; ties go to left, then to up (section 9.4)."""
    a, b = up.astype(np.int16) - corner, left.astype(np.int16) - corner  # from left, from up
    c = np.abs(a + b)
    to_a, to_b = np.abs(a, out=a), np.abs(b, out=b)
    return np.where(to_a <= np.minimum(to_b, c), left, np.where(to_b <= c, up, corner))


def deflate_block(data: bytes, level: int, strategy: int = zlib.Z_FILTERED) -> bytes:
    """Raw deflate of `data` that ends on a byte boundary and can be followed by more."""
    squeeze = zlib.compressobj(level, zlib.DEFLATED, -15, 9, strategy)
    return squeeze.compress(data) + squeeze.flush(zlib.Z_FULL_FLUSH)


def deflate_runs(data: bytes, level: int) -> bytes | None:
    """As `deflate_block`, but looking for runs alone; None if searching for repeats pays, or `level` is high.

    A filtered photo has hardly any repeats: this is eight times as fast, for 1 to 2 % more bytes.
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
    """`work(item)` of each item in order, computed a few items ahead in threads."""
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
