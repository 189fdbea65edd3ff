"""TIFF files: what their tags say about the pixels, and an encoder.

TIFF 6.0 (Adobe, 1992), its deflate supplement, and BigTIFF beyond 4 GB. An encoder of our own because libvips
writes no EXIF into TIFF and takes no floats in bands.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from srcli.image.deflate import deflate_runs, in_order
from srcli.image.ifd import (
    ASCII,
    BYTE,
    LONG,
    LONG8,
    RATIONAL,
    SHORT,
    UNDEFINED,
    Directory,
    Entry,
    read_directories,
    write_directory,
)
from srcli.image.quantise import Samples
from srcli.image.raster import Raster

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, ORIENTATION = 256, 257, 258, 259, 262, 274
STRIP_OFFSETS, SAMPLES, ROWS_PER_STRIP, STRIP_BYTES = 273, 277, 278, 279
X_RESOLUTION, Y_RESOLUTION, PLANAR, RESOLUTION_UNIT, PREDICTOR = 282, 283, 284, 296, 317
TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_BYTES, INK_SET, EXTRA, SAMPLE_FORMAT = (
    322,
    323,
    324,
    325,
    332,
    338,
    339,
)
XMP, IPTC, ICC, SUBFILE, DNG_VERSION = 700, 33723, 34675, 254, 50706

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, SEPARATED, CFA = 0, 1, 2, 3, 5, 32803
NONE, DEFLATE = 1, 8
BLOCK_BYTES = 1 << 20
CLASSIC_LIMIT = 2**32 - 2**20  # room for the tags
COLOURS = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3, PALETTE: 1, SEPARATED: 4}


@dataclass(frozen=True)
class TiffPage:
    """One picture of a TIFF file as its tags describe it.

    Attributes:
        index: its place among all directories of the file.
        kind: u, i or f with the bits of a sample: u8, u16, f32, ...
        samples: channels, extra ones included.
        premultiplied: whether colours were multiplied by alpha.
    """

    index: int
    tags: Directory
    width: int
    height: int
    kind: str
    samples: int
    photometric: int
    compression: int
    planar: bool
    alpha: bool
    premultiplied: bool
    orientation: int

    @property
    def colours(self) -> int:
        """Channels without the extra ones."""
        return COLOURS.get(self.photometric, 3)


def read_pages(stream: BinaryIO) -> list[TiffPage]:
    """The pictures of a TIFF file; reduced copies (thumbnails) are left out.

    Raises:
        ValueError: the structure is damaged, or it is a camera's raw file.
    """
    directories = read_directories(stream)
    full = [(i, tags) for i, tags in enumerate(directories) if not tags.integer(SUBFILE, 0) & 1]
    return [_page(i, tags) for i, tags in full or [(0, directories[0])]]


def _page(index: int, tags: Directory) -> TiffPage:
    width, height = tags.integer(WIDTH, 0), tags.integer(HEIGHT, 0)
    if width <= 0 or height <= 0:
        raise ValueError("its size is missing")
    bits = tags.integers(BITS) or (1,)
    if len(set(bits)) > 1:
        raise ValueError(f"channels of different depths {bits}")
    letter = {1: "u", 2: "i", 3: "f"}.get(tags.integer(SAMPLE_FORMAT, 1), "u")
    photometric = tags.integer(PHOTOMETRIC, BLACK_IS_ZERO)
    samples = tags.integer(SAMPLES, 1)
    extra = tags.integers(EXTRA)
    # An unspecified extra channel (0) right after the colours is what many programs write for alpha.
    spare = samples - COLOURS.get(photometric, 3)
    if spare < 0 and photometric not in (CFA, 34892):
        raise ValueError(f"{samples} samples a pixel are too few for its colours")
    alpha = spare > 0 and (extra[:1] or (0,))[0] in (0, 1, 2)
    return TiffPage(
        index,
        tags,
        width,
        height,
        f"{letter}{bits[0]}",
        samples,
        photometric,
        tags.integer(COMPRESSION, NONE),
        tags.integer(PLANAR, 1) == 2 and samples > 1,
        alpha,
        alpha and extra[:1] == (1,),
        tags.integer(ORIENTATION, 1),
    )


def is_raw(page: TiffPage) -> bool:
    """Whether this is a camera's raw file in TIFF's clothes."""
    return page.photometric in (CFA, 34892) or DNG_VERSION in page.tags.entries


def check_blocks(page: TiffPage, length: int) -> None:
    """Raise ValueError if strips or tiles are missing or lie beyond the end of a file of `length` bytes."""
    tags, tiled = page.tags, TILE_OFFSETS in page.tags.entries
    keys = (TILE_OFFSETS, TILE_BYTES) if tiled else (STRIP_OFFSETS, STRIP_BYTES)
    offsets, sizes = tags.integers(keys[0]), tags.integers(keys[1])
    height = (
        tags.integer(TILE_HEIGHT, 0) if tiled else min(tags.integer(ROWS_PER_STRIP, page.height), page.height)
    )
    width = tags.integer(TILE_WIDTH, 0) if tiled else page.width
    if height <= 0 or width <= 0:
        raise ValueError("its blocks have no size")
    need = -(-page.height // height) * -(-page.width // width) * (page.samples if page.planar else 1)
    if len(offsets) < need or len(offsets) != len(sizes):
        raise ValueError("blocks are missing")
    if any(offset + size > length for offset, size in zip(offsets, sizes, strict=True)):
        raise ValueError("it ends early")


def encode_tiff(
    stream: BinaryIO,
    raster: Raster,
    *,
    cmyk: bool = False,
    alpha: bool = False,
    level: int = 6,
    icc: bytes | None = None,
    dpi: tuple[float, float] | None = None,
    aspect: tuple[int, int] | None = None,
    extra: Directory | None = None,
) -> None:
    """Write a picture as a TIFF file of deflated strips, as BigTIFF where 4 GB could be exceeded.

    Args:
        stream: seekable; written from its current start.
        raster: (H, W, c), uint8, uint16 or float32.
        cmyk: whether the first four channels are inks.
        alpha: whether the last channel is alpha (not premultiplied).
        level: effort of zlib, 0 to 9.
        icc: profile to embed.
        dpi: horizontal and vertical.
        aspect: where there are none, pixels across and down in a length that is not known.
        extra: more tags and directories (EXIF, XMP, IPTC), little-endian.
    """
    big = raster.nbytes > CLASSIC_LIMIT
    step = max(1, min(BLOCK_BYTES // raster.row_bytes, raster.shape[0]))
    stream.write(b"II" + (struct.pack("<HHHQ", 43, 8, 0, 0) if big else struct.pack("<HI", 42, 0)))
    position = 16 if big else 8
    offsets, sizes = [], []
    predict = raster.dtype != np.float32
    for data in in_order(lambda rows: _strip(rows, level, predict), raster.blocks(step)):
        padded = data + bytes(len(data) % 2)
        stream.write(padded)
        offsets.append(position)
        sizes.append(len(data))
        position += len(padded)
    tags = extra.in_order("<") if extra is not None else Directory()
    tags = Directory(dict(tags.entries), dict(tags.children))
    _describe(tags, raster, cmyk=cmyk, alpha=alpha)
    tags.set_integers(PREDICTOR, SHORT, (2 if predict else 1,))
    tags.set_integers(ROWS_PER_STRIP, LONG, (step,))
    tags.set_integers(STRIP_OFFSETS, LONG8 if big else LONG, tuple(offsets))
    tags.set_integers(STRIP_BYTES, LONG8 if big else LONG, tuple(sizes))
    if icc is not None:
        tags.entries[ICC] = Entry(UNDEFINED, len(icc), icc)
    if dpi is not None or aspect is not None:
        _set_density(tags, dpi or aspect or (1, 1), unit=2 if dpi else 1)
    stream.write(write_directory(tags, position, big=big))
    stream.seek(8 if big else 4)
    stream.write(struct.pack("<Q" if big else "<I", position))
    stream.seek(0, 2)


def _strip(rows: Samples, level: int, predict: bool) -> bytes:
    little = rows.astype(rows.dtype.newbyteorder("<"))
    if predict:
        little[:, 1:] = rows[:, 1:] - rows[:, :-1]
    data = little.tobytes()
    if rows.dtype == np.uint16:
        packed = deflate_runs(data, level)
        if packed is not None:
            return (
                zlib.compress(b"", level)[:2] + packed + b"\x03\x00" + struct.pack(">I", zlib.adler32(data))
            )
    return zlib.compress(data, level)


def _describe(tags: Directory, raster: Raster, *, cmyk: bool, alpha: bool) -> None:
    height, width, channels = raster.shape
    colours = channels - alpha
    tags.set_integers(SUBFILE, LONG, (0,))
    tags.set_integers(WIDTH, LONG, (width,))
    tags.set_integers(HEIGHT, LONG, (height,))
    tags.set_integers(BITS, SHORT, (8 * raster.dtype.itemsize,) * channels)
    tags.set_integers(COMPRESSION, SHORT, (DEFLATE,))
    tags.set_integers(PHOTOMETRIC, SHORT, (SEPARATED if cmyk else RGB if colours == 3 else BLACK_IS_ZERO,))
    tags.set_integers(ORIENTATION, SHORT, (1,))
    tags.set_integers(SAMPLES, SHORT, (channels,))
    tags.set_integers(PLANAR, SHORT, (1,))
    tags.set_integers(SAMPLE_FORMAT, SHORT, (3 if raster.dtype == np.float32 else 1,) * channels)
    if alpha:
        tags.set_integers(EXTRA, SHORT, (2,))
    if cmyk:
        tags.set_integers(INK_SET, SHORT, (1,))


def _set_density(tags: Directory, dpi: tuple[float, float], unit: int) -> None:
    for tag, value in zip((X_RESOLUTION, Y_RESOLUTION), dpi, strict=True):
        tags.entries[tag] = Entry(RATIONAL, 1, struct.pack("<II", round(value * 10000), 10000))
    tags.set_integers(RESOLUTION_UNIT, SHORT, (unit,))


def density_of(tags: Directory) -> tuple[float, float] | None:
    """Horizontal and vertical dots per inch of a TIFF or EXIF directory, if it has them."""
    x, y = tags.numbers(X_RESOLUTION), tags.numbers(Y_RESOLUTION)
    factor = {2: 1.0, 3: 2.54}.get(tags.integer(RESOLUTION_UNIT, 2))
    if not x or not y or not factor or x[0] <= 0 or y[0] <= 0:
        return None
    return x[0] * factor, y[0] * factor


def text_entry(text: str) -> Entry:
    """An ASCII entry."""
    data = text.encode("ascii", "replace") + b"\0"
    return Entry(ASCII, len(data), data)


def bytes_entry(data: bytes) -> Entry:
    """An entry of plain bytes, as XMP is stored."""
    return Entry(BYTE, len(data), data)
