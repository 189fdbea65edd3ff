"""TIFF files: what their tags say about the pixels, and an encoder.

TIFF 6.0 (Adobe, 1992), its deflate supplement, and BigTIFF beyond 4 GB. We have our own encoder because libvips writes
no EXIF into TIFF and takes no floats in bands.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from srcli.image.ifd import LONG, LONG8, RATIONAL, SHORT, Directory, Entry, read_directories, write_directory
from srcli.image.png import DEFLATE_END, deflate_runs, in_order
from srcli.image.samples import Raster, Samples

SUBFILE, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, ORIENTATION = 254, 256, 257, 258, 259, 262, 274
STRIP_OFFSETS, SAMPLES, ROWS_PER_STRIP, STRIP_BYTES, PREDICTOR = 273, 277, 278, 279, 317
X_RESOLUTION, Y_RESOLUTION, PLANAR, RESOLUTION_UNIT, COLOUR_MAP, INK_SET = 282, 283, 284, 296, 320, 332
TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_BYTES, EXTRA, SAMPLE_FORMAT = 322, 323, 324, 325, 338, 339
XMP, IPTC, ICC, DNG_VERSION = 700, 33723, 34675, 50706

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, SEPARATED = 0, 1, 2, 3, 5
COLOURS = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3, PALETTE: 1, SEPARATED: 4}
RAW = (32803, 34892)  # a sensor's mosaic, and what is left of one
DEFLATE = 8
BLOCK_BYTES = 1 << 20
CLASSIC_LIMIT = 2**32 - 2**20  # room for the tags


@dataclass(frozen=True)
class TiffPage:
    """One picture of a TIFF file as its tags describe it; `kind` is u, i or f with the bits of a sample."""

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
    def bits(self) -> int:
        """Of a sample."""
        return int(self.kind[1:])

    @property
    def colours(self) -> int:
        """Channels without the extra ones."""
        return COLOURS.get(self.photometric, 3)


def read_pages(stream: BinaryIO) -> list[TiffPage]:
    """The pictures of a TIFF file without reduced copies (thumbnails); ValueError if the structure is damaged."""
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
    letter = {2: "i", 3: "f"}.get(tags.integer(SAMPLE_FORMAT, 1), "u")
    photometric, samples = tags.integer(PHOTOMETRIC, BLACK_IS_ZERO), tags.integer(SAMPLES, 1)
    spare = samples - COLOURS.get(photometric, 3)
    if spare < 0 and photometric not in RAW:
        raise ValueError(f"{samples} samples a pixel are too few for its colours")
    # An unspecified extra channel (0) right after the colours is what many programs write for alpha.
    extra = (tags.integers(EXTRA) or (0,))[0] if spare > 0 else None
    return TiffPage(
        index,
        tags,
        width,
        height,
        kind=f"{letter}{bits[0]}",
        samples=samples,
        photometric=photometric,
        compression=tags.integer(COMPRESSION, 1),
        planar=tags.integer(PLANAR, 1) == 2 and samples > 1,
        alpha=extra in (0, 1, 2),
        premultiplied=extra == 1,
        orientation=turn if 1 <= (turn := tags.integer(ORIENTATION, 1)) <= 8 else 1,
    )


def is_raw(page: TiffPage) -> bool:
    """Whether this is a camera's raw file that uses TIFF's structure."""
    return page.photometric in RAW or DNG_VERSION in page.tags.entries


def check_blocks(page: TiffPage, length: int) -> None:
    """Raise ValueError if strips or tiles are missing or lie beyond the end of a file of `length` bytes."""
    tags, width, height = page.tags, page.width, page.height
    keys, rows = (STRIP_OFFSETS, STRIP_BYTES), min(tags.integer(ROWS_PER_STRIP, height), height)
    if TILE_OFFSETS in tags.entries:
        keys, rows = (TILE_OFFSETS, TILE_BYTES), tags.integer(TILE_HEIGHT, 0)
        width = tags.integer(TILE_WIDTH, 0)
    offsets, sizes = (tags.integers(key) for key in keys)
    if rows <= 0 or width <= 0:
        raise ValueError("its blocks have no size")
    need = -(-height // rows) * -(-page.width // width) * (page.samples if page.planar else 1)
    if len(offsets) < need or len(offsets) != len(sizes):
        raise ValueError("blocks are missing")
    if any(offset + size > length for offset, size in zip(offsets, sizes, strict=True)):
        raise ValueError("it ends early")


def encode_tiff(
    stream: BinaryIO,
    raster: Raster,
    tags: Directory,
    *,
    cmyk: bool = False,
    alpha: bool = False,
    level: int = 6,
    block_bytes: int = BLOCK_BYTES,
    classic_limit: int = CLASSIC_LIMIT,
) -> None:
    """Write a picture as a TIFF file of deflated strips.

    Args:
        stream: seekable; written from its current start.
        raster: (H, W, c), uint8, uint16 or float32.
        tags: more tags and directories (EXIF, XMP, a profile, density).
        cmyk: whether the first four channels are inks.
        alpha: whether the last channel is alpha (not premultiplied).
        level: effort of zlib, 0 to 9.
        block_bytes: of a strip.
        classic_limit: bytes of samples beyond which it is a BigTIFF.
    """
    height = raster.shape[0]
    big = height * raster.row_bytes > classic_limit
    step, predict = max(1, min(block_bytes // raster.row_bytes, height)), raster.dtype != np.float32
    stream.write(b"II" + (struct.pack("<HHHQ", 43, 8, 0, 0) if big else struct.pack("<HI", 42, 0)))
    position, places = 16 if big else 8, list[tuple[int, int]]()
    for data in in_order(lambda rows: _strip(rows, level, predict), raster.blocks(step)):
        places.append((position, len(data)))
        position += stream.write(data + bytes(len(data) % 2))
    tags = tags.in_order("<").without()
    _describe(tags, raster, cmyk=cmyk, alpha=alpha)
    tags.set_integers(PREDICTOR, SHORT, (2 if predict else 1,))
    tags.set_integers(ROWS_PER_STRIP, LONG, (step,))
    offsets, sizes = zip(*places, strict=True)
    tags.set_integers(STRIP_OFFSETS, LONG8 if big else LONG, offsets)
    tags.set_integers(STRIP_BYTES, LONG8 if big else LONG, sizes)
    stream.write(write_directory(tags, position, big=big))
    stream.seek(8 if big else 4)
    stream.write(struct.pack("<Q" if big else "<I", position))
    stream.seek(0, 2)


def _describe(tags: Directory, raster: Raster, *, cmyk: bool, alpha: bool) -> None:
    height, width, channels = raster.shape
    floats = raster.dtype == np.float32
    colours = SEPARATED if cmyk else RGB if channels - alpha == 3 else BLACK_IS_ZERO
    for tag, value in ((SUBFILE, 0), (WIDTH, width), (HEIGHT, height)):
        tags.set_integers(tag, LONG, (value,))
    shorts = {COMPRESSION: DEFLATE, PHOTOMETRIC: colours, ORIENTATION: 1, SAMPLES: channels, PLANAR: 1}
    for tag, value in shorts.items():
        tags.set_integers(tag, SHORT, (value,))
    tags.set_integers(BITS, SHORT, (8 * raster.dtype.itemsize,) * channels)
    tags.set_integers(SAMPLE_FORMAT, SHORT, (3 if floats else 1,) * channels)
    if alpha:
        tags.set_integers(EXTRA, SHORT, (2,))
    if cmyk:
        tags.set_integers(INK_SET, SHORT, (1,))


def _strip(rows: Samples, level: int, predict: bool) -> bytes:
    little = rows.astype(rows.dtype.newbyteorder("<"))
    if predict:
        little[:, 1:] = rows[:, 1:] - rows[:, :-1]
    data = little.tobytes()
    packed = deflate_runs(data, level) if rows.dtype == np.uint16 else None
    if packed is None:
        return zlib.compress(data, level)
    return zlib.compress(b"", level)[:2] + packed + DEFLATE_END + struct.pack(">I", zlib.adler32(data))


def set_density(tags: Directory, density: tuple[float, float], unit: int) -> None:
    """Pixels across and down an inch (`unit` 2), or a length that is not known (1)."""
    for tag, value in zip((X_RESOLUTION, Y_RESOLUTION), density, strict=True):
        tags.entries[tag] = Entry(RATIONAL, 1, struct.pack("<II", round(value * 10000), 10000))
    tags.set_integers(RESOLUTION_UNIT, SHORT, (unit,))


def density_of(tags: Directory) -> tuple[float, float] | None:
    """Horizontal and vertical dots per inch of a TIFF or EXIF directory, if it has them."""
    x, y = tags.numbers(X_RESOLUTION), tags.numbers(Y_RESOLUTION)
    factor = {2: 1.0, 3: 2.54}.get(tags.integer(RESOLUTION_UNIT, 2))
    if not x or not y or not factor or x[0] <= 0 or y[0] <= 0:
        return None
    return x[0] * factor, y[0] * factor
