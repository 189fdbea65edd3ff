"""Huge pictures decoded a few rows at a time, by the decoders that read them whole.

TIFF of the plain kinds has blocks of its own. A PNG is cut: its filters look at the row above and no further, so a
small PNG of that row, unfiltered, and of the next ones as they are decodes to the same samples. JPEG takes libvips
(the extra `big`), whose reader is sequential.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np

from srcli.image import png, tiff
from srcli.image.header import Inspection, inspect
from srcli.image.pillow import damaged
from srcli.image.pixels import Decoded, decode, finish_tiff
from srcli.image.quantise import Samples
from srcli.image.source import Origin, Source, open_source

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

BAND_BYTES = 8 << 20
PLAIN_PHOTOMETRICS = (tiff.WHITE_IS_ZERO, tiff.BLACK_IS_ZERO, tiff.RGB, tiff.SEPARATED)
KEPT_CHUNKS = (b"gAMA", b"cHRM", b"sRGB", b"sBIT")  # what a decoder might look at


def comes_in_bands(source: Source, found: Inspection) -> bool:
    """Whether `decode_bands` reads this picture; those that are turned or transparent need their whole."""
    header = found.header
    if header.alpha or header.orientation != 1 or found.index:
        return False
    if found.page is not None:
        return found.page.photometric in PLAIN_PHOTOMETRICS and tiff.can_decode(found.page)
    if source.format == "png":
        return _is_plain_png(source, found.picture)
    return source.format == "jpg" and header.kind != "cmyk" and find_spec("pyvips") is not None


def decode_bands(source: Source, found: Inspection) -> Iterator[Decoded]:
    """The samples of a picture that `comes_in_bands`, from top to bottom.

    Raises:
        ImageError: the file is cut off or damaged.
    """
    try:
        if found.page is not None:
            for rows in tiff.decode_rows(source.stream, found.page):
                yield finish_tiff(rows, found.page)
        elif source.format == "png":
            yield from _png_bands(source)
        else:
            yield from _jpeg_bands(source, found)
    except (ValueError, OSError, zlib.error) as error:
        raise damaged(source, error) from error


def can_read_in_bands(origin: Origin, frames: str | int) -> bool:
    """Whether a picture can be read with little memory; see `read_image`."""
    with open_source(origin) as source:
        return comes_in_bands(source, inspect(source, frames))


def _is_plain_png(source: Source, picture: Picture | None) -> bool:
    header = png.read_png_header(source.stream)
    animated = int(getattr(picture, "n_frames", 1)) > 1
    return header.bits in (8, 16) and header.colour_type in (0, 2) and not header.interlaced and not animated


def _png_bands(source: Source) -> Iterator[Decoded]:
    header = png.read_png_header(source.stream)
    row_bytes = 1 + header.width * {0: 1, 2: 3}[header.colour_type] * header.bits // 8
    step = max(1, BAND_BYTES // row_bytes)
    kept, filtered = _png_parts(source)
    above = b""
    for top in range(0, header.height, step):
        rows = min(step, header.height - top)
        data = above + _exactly(filtered, rows * row_bytes)
        count = rows + bool(above)
        decoded = _decoded_png(source, header, count, kept, data)
        pixels = decoded.pixels[count - rows :]
        above = b"\0" + pixels[-1:].astype(pixels.dtype.newbyteorder(">")).tobytes()
        yield Decoded(pixels, None, decoded.kind, notes=decoded.notes)


def _decoded_png(source: Source, header: png.PngHeader, rows: int, kept: bytes, data: bytes) -> Decoded:
    size = struct.pack(">IIBBBBB", header.width, rows, header.bits, header.colour_type, 0, 0, 0)
    pixels = png.chunk(b"IDAT", zlib.compress(data, 0))
    file = png.SIGNATURE + png.chunk(b"IHDR", size) + kept + pixels + png.chunk(b"IEND", b"")
    part = Source(io.BytesIO(file), source.name, len(file), "png")
    return decode(part, inspect(part, "error"))


def _png_parts(source: Source) -> tuple[bytes, _Inflated]:
    """The small chunks before the pixels that are kept, and the filtered rows."""
    kept = b""
    source.stream.seek(len(png.SIGNATURE))
    while True:
        kind, data = _chunk(source)
        if kind == b"IDAT":
            return kept, _Inflated(source, data)
        if kind in KEPT_CHUNKS:
            kept += png.chunk(kind, data)


def _chunk(source: Source) -> tuple[bytes, bytes]:
    head = source.stream.read(8)
    if len(head) < 8:
        raise ValueError("it ends early")
    length, kind = struct.unpack(">I4s", head)
    data, tail = source.stream.read(length), source.stream.read(4)
    if len(data) < length or len(tail) < 4:
        raise ValueError("it ends early")
    if zlib.crc32(data, zlib.crc32(kind)) != struct.unpack(">I", tail)[0]:
        raise ValueError(f"the checksum of a {kind.decode('latin-1')} chunk is wrong")
    return kind, data


class _Inflated:
    """The bytes of a PNG's pixels, a bounded number at a time; the stream stands behind the first IDAT chunk."""

    def __init__(self, source: Source, first: bytes) -> None:
        self._source = source
        self._waiting = first
        self._inflate = zlib.decompressobj()

    def read(self, most: int) -> bytes:
        """Up to `most` bytes, at least one."""
        while True:
            data = self._inflate.decompress(self._waiting, most)
            self._waiting = self._inflate.unconsumed_tail
            if data:
                return data
            if self._inflate.eof:
                raise ValueError("it ends early")
            if not self._waiting:
                kind, self._waiting = _chunk(self._source)
                if kind != b"IDAT":
                    raise ValueError("it ends early")


def _exactly(inflated: _Inflated, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        data += inflated.read(count - len(data))
    return bytes(data)


def _jpeg_bands(source: Source, found: Inspection) -> Iterator[Decoded]:
    import pyvips

    height, width = found.header.size
    source.stream.seek(0)
    try:
        stream = pyvips.SourceCustom()
        stream.on_read(source.stream.read)
        stream.on_seek(source.stream.seek)
        picture = pyvips.Image.new_from_source(stream, "", access="sequential", fail_on="truncated")
        region = pyvips.Region.new(picture)  # row by row in this thread: several would ask out of order
        step = max(1, BAND_BYTES // (width * picture.bands))
        for top in range(0, height, step):
            rows = min(step, height - top)
            data = region.fetch(0, top, width, rows)
            pixels: Samples = np.frombuffer(data, np.uint8).reshape(rows, width, picture.bands)
            yield Decoded(pixels, None, found.header.kind)
    except pyvips.Error as error:
        raise ValueError(str(error).strip()) from error
