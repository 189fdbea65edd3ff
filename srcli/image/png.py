"""PNG files: their chunks, and an encoder for 8 and 16 bits.

W3C, Portable Network Graphics (Third Edition). An encoder of our own because it is the fastest one: filtered photos
are packed by `deflate_runs`, pages and drawings as others do it. It also takes rows as they come.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from srcli.image.deflate import deflate_block, deflate_runs, in_order
from srcli.image.quantise import Samples
from srcli.image.raster import Raster

SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLOUR_TYPE = {1: 0, 2: 4, 3: 2, 4: 6}  # channels to colour type
BLOCK_BYTES = 1 << 20
DEFLATE_RATIO = 1032  # at most: 258 bytes for two bits
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))

SAMPLED, STRIDE = 64, 256  # bytes of a row that are looked at to choose its filter
CHUNK = 1 << 15  # bytes that are filtered at once: they stay in the cache

Bytes = NDArray[np.uint8]


class PngHeader(NamedTuple):
    """The IHDR chunk."""

    width: int
    height: int
    bits: int
    colour_type: int
    interlaced: bool


def read_png_header(stream: BinaryIO) -> PngHeader:
    """The header of a PNG stream.

    Raises:
        ValueError: the stream does not begin with one.
    """
    stream.seek(0)
    head = stream.read(33)
    if len(head) < 33 or not head.startswith(SIGNATURE) or head[12:16] != b"IHDR":
        raise ValueError("no PNG header")
    width, height, bits, colour_type = struct.unpack(">IIBB", head[16:26])
    return PngHeader(width, height, bits, colour_type, head[28] == 1)


def find_chunk(stream: BinaryIO, kind: bytes, *, before: bytes = b"") -> bytes | None:
    """Content of the first chunk of a kind, skipping over the others; None if there is none before the file ends.

    Args:
        stream: the file.
        kind: four letters.
        before: a kind at which the search ends.
    """
    stream.seek(len(SIGNATURE))
    while len(head := stream.read(8)) == 8:
        length, found = struct.unpack(">I4s", head)
        if found == kind:
            return stream.read(length)
        if found == before:
            break
        stream.seek(length + 4, 1)
    return None


def colour_chunks(stream: BinaryIO) -> dict[bytes, bytes]:
    """The chunks that describe colours, the first of each kind; they come before the pixels."""
    found: dict[bytes, bytes] = {}
    stream.seek(len(SIGNATURE))
    while len(head := stream.read(8)) == 8 and head[4:] not in (b"IDAT", b"IEND"):
        length = int.from_bytes(head[:4], "big")
        if head[4:] in (b"gAMA", b"cHRM", b"sRGB", b"cICP"):
            found.setdefault(head[4:], stream.read(min(length, 64)))
            length -= min(length, 64)
        stream.seek(length + 4, 1)
    return found


def check_png(stream: BinaryIO) -> None:
    """Walk over all chunks, compare their checksums, and unpack and count the (first) picture's rows.

    Raises:
        ValueError: a chunk is cut off or damaged, the end is missing, or there are fewer rows than promised.
    """
    need = raw_bytes(read_png_header(stream))
    unpack, kind = zlib.decompressobj(), b""
    stream.seek(len(SIGNATURE))
    while kind != b"IEND":
        head = stream.read(8)
        length, kind = struct.unpack(">I4s", head) if len(head) == 8 else (0, b"")
        data, tail = stream.read(length), stream.read(4)
        if len(data) < length or len(tail) < 4:
            raise ValueError("it ends early")
        if zlib.crc32(data, zlib.crc32(kind)) != struct.unpack(">I", tail)[0]:
            raise ValueError(f"the checksum of a {kind.decode('latin-1')} chunk is wrong")
        while kind == b"IDAT" and data and need > 0 and not unpack.eof:
            try:
                need -= len(unpack.decompress(data, BLOCK_BYTES))
            except zlib.error as error:
                raise ValueError(f"its pixels cannot be unpacked ({error})") from error
            data = unpack.unconsumed_tail
    if need > 0:
        raise ValueError("its pixels end early")


def raw_bytes(header: PngHeader) -> int:
    """Bytes of the rows with their filters (section 7), in one pass or in Adam7's seven (section 8)."""
    bits = header.bits * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(header.colour_type, 1)
    passes = ADAM7 if header.interlaced else ((0, 0, 1, 1),)
    total = 0
    for x, y, step_x, step_y in passes:
        width, height = -(-(header.width - x) // step_x), -(-(header.height - y) // step_y)
        if width > 0 and height > 0:
            total += height * (1 + -(-width * bits // 8))
    return total


def chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk with its length and checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))


def text_chunk(keyword: str, text: str) -> tuple[bytes, bytes]:
    """An international text chunk, uncompressed, as (kind, data)."""
    return b"iTXt", keyword.encode("latin-1") + b"\0\0\0\0\0" + text.encode()


def profile_chunk(name: str, icc: bytes) -> tuple[bytes, bytes]:
    """An iCCP chunk as (kind, data)."""
    printable = "".join(c for c in name if " " <= c <= "~")[:79].strip() or "ICC profile"
    return b"iCCP", printable.encode("ascii") + b"\0\0" + zlib.compress(icc, 9)


def density_chunk(dpi: tuple[float, float]) -> tuple[bytes, bytes]:
    """A pHYs chunk (pixels per metre) as (kind, data)."""
    return b"pHYs", struct.pack(">IIB", *(round(value / 0.0254) for value in dpi), 1)


def aspect_chunk(aspect: tuple[int, int]) -> tuple[bytes, bytes]:
    """A pHYs chunk (pixels across and down in a length that is not known) as (kind, data)."""
    return b"pHYs", struct.pack(">IIB", *aspect, 0)


def encode_png(
    stream: BinaryIO, raster: Raster, *, level: int = 6, chunks: Iterable[tuple[bytes, bytes]] = ()
) -> None:
    """Write a picture as PNG; memory stays within a few blocks of rows.

    Args:
        stream: only written to, from front to back.
        raster: (H, W, c), uint8 or uint16; 1 gray, 2 gray and alpha, 3 RGB, 4 RGB and alpha.
        level: effort of zlib, 0 to 9.
        chunks: (kind, data) to be written before the pixels.
    """
    height, width, channels = raster.shape
    bits = 8 * raster.dtype.itemsize
    stream.write(SIGNATURE)
    stream.write(chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, COLOUR_TYPE[channels], 0, 0, 0)))
    stream.writelines(chunk(kind, data) for kind, data in chunks)
    stream.writelines(chunk(b"IDAT", data) for data in _image_data(raster, level))
    stream.write(chunk(b"IEND", b""))


def _image_data(raster: Raster, level: int) -> Iterator[bytes]:
    """The zlib stream in pieces, one for each block of rows."""
    step = max(1, BLOCK_BYTES // (raster.row_bytes + 1))

    def work(block: tuple[Samples, Samples | None]) -> tuple[bytes, int, int]:
        packed, data = _packed(*block, level)
        return packed, zlib.adler32(data), len(data)

    yield zlib.compress(b"", level)[:2]
    checksum = 1
    for data, part, length in in_order(work, _with_row_above(raster.blocks(step))):
        checksum = _join_adler(checksum, part, length)
        yield data
    yield b"\x03\x00" + struct.pack(">I", checksum)  # an empty last block, then Adler-32


def _packed(pixels: Samples, above: Samples | None, level: int) -> tuple[bytes, bytes]:
    """A block deflated, and what was deflated."""
    if level == 0:
        data = np.pad(_row_bytes(pixels), ((0, 0), (1, 0))).tobytes()
        return deflate_block(data, 0), data
    data = filter_rows(pixels, above, stride=STRIDE).tobytes()
    packed = deflate_runs(data, level)
    if packed is not None:
        return packed, data
    data = filter_rows(pixels, above).tobytes()
    return deflate_block(data, level), data


def _with_row_above(blocks: Iterable[Samples]) -> Iterator[tuple[Samples, Samples | None]]:
    above = None
    for block in blocks:
        yield block, above
        above = block[-1:].copy()


def _join_adler(first: int, second: int, length: int) -> int:
    """Adler-32 of two pieces in a row from theirs; `length` is the second's."""
    base = 65521
    a1, b1, a2, b2 = first & 0xFFFF, first >> 16, second & 0xFFFF, second >> 16
    a = (a1 + a2 - 1) % base
    b = (b1 + b2 + length % base * (a1 - 1)) % base
    return b << 16 | a


def filter_rows(pixels: Samples, above: Samples | None = None, *, stride: int = SAMPLED) -> Bytes:
    """Filtered rows (n, 1 + bytes) of pixels; each takes the filter with the smallest sum of absolute values.

    Args:
        pixels: (n, W, c).
        above: the row (1, W, c) before them; None at the top.
        stride: the sum is taken over the first `SAMPLED` of so many bytes.
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
            return here[at] - paeth(left[at], up[at], corner[at])
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


def paeth(left: Bytes, up: Bytes, corner: Bytes) -> Bytes:
    """The neighbour nearest to left + up - corner; ties go to left, then to up (section 9.4)."""
    a, b = up.astype(np.int16) - corner, left.astype(np.int16) - corner  # from left, from up
    c = np.abs(a + b)
    to_a, to_b = np.abs(a, out=a), np.abs(b, out=b)
    return np.where(to_a <= np.minimum(to_b, c), left, np.where(to_b <= c, up, corner))
