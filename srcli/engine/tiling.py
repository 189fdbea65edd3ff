"""How an image is cut: encoder tiles with a margin, and bands of output rows.

Two levels. The encoder runs on tiles of the LR image, each read with `halo` more pixels; only the tile's own
features are kept. Output rows are then decoded in bands whose coordinates come from tables of the whole image, so
a tile border cannot show in them, at any scale, and there is nothing to feather. Bands depend on the sizes of the
images alone, never on the tiles: another tile size runs the same arithmetic on the same features.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from srcli.errors import UsageError
from srcli.geometry import Axis, Box, Size

SMALLEST_TILE = 32
BAND_LR = 1 << 15  # LR pixels decoded at once: prepared maps of 256 channels take 32 MiB
BAND_HR = 1 << 22  # HR pixels decoded at once: 48 MiB of float colours


def spans(length: int, step: int) -> list[tuple[int, int]]:
    """[0, length) in pieces of `step`, the last one shorter."""
    return [(start, min(start + step, length)) for start in range(0, length, step)]


def checked_tile(tile: str | int) -> str | int:
    """The tile option as "auto", "none" or pixels; 0 means auto.

    Raises:
        UsageError: anything else.
    """
    text = str(tile).strip().lower()
    if text in ("auto", "0"):
        return "auto"
    if text == "none":
        return "none"
    if text.isdigit() and int(text) >= 8:
        return int(text)
    raise UsageError(f"--tile takes auto, none or a side of at least 8 pixels, got '{tile}'.")


def tile_shape(
    size: Size, halo: int, multiple: int, *, tile: str | int, bytes_per_pixel: int, free: int
) -> Size:
    """Sides of the encoder's tiles, without the halo.

    Args:
        size: the LR image, padded to `multiple`.
        halo: margin on every side.
        multiple: tile corners and sides are multiples of it.
        tile: "none" for the whole image, a number of pixels, or "auto".
        bytes_per_pixel: memory that the encoder needs per LR pixel.
        free: memory that may be spent, in bytes.
    """
    if tile == "none":
        return size
    if isinstance(tile, int):
        side = max(multiple, math.ceil(tile / multiple) * multiple)
        return Size(min(side, size.h), min(side, size.w))
    pixels = max(free // bytes_per_pixel, (SMALLEST_TILE + 2 * halo) ** 2)
    if (size.h + 2 * halo) * (size.w + 2 * halo) <= pixels:
        return size
    # Wide tiles waste least: columns are split only when a square tile of that memory would be narrower.
    columns = math.ceil(size.w / max(1, 2 * math.isqrt(pixels) - 2 * halo))
    width = math.ceil(size.w / columns / multiple) * multiple
    height = (pixels // (width + 2 * halo) - 2 * halo) // multiple * multiple
    least = math.ceil(SMALLEST_TILE / multiple) * multiple
    return Size(min(max(height, least), size.h), min(width, size.w))


def tile_rows(size: Size, shape: Size) -> Iterator[list[Box]]:
    """Tiles of `shape` that cover an image once, a list per row of tiles, from top to bottom."""
    for top, bottom in spans(size.h, shape.h):
        yield [Box(top, left, bottom, right) for left, right in spans(size.w, shape.w)]


class Band(NamedTuple):
    """Output rows [top, bottom) decoded together, the LR rows they need, and their column blocks."""

    top: int
    bottom: int
    lr_top: int
    lr_bottom: int
    blocks: list[Block]


class Block(NamedTuple):
    """Output columns [left, right) of a band and the LR columns they need."""

    left: int
    right: int
    lr_left: int
    lr_right: int


def bands(lr: Size, hr: Size, halo: int, patch: int = 1) -> Iterator[Band]:
    """The output's rows in bands, from top to bottom.

    Args:
        lr: the LR image.
        hr: the output.
        halo: LR pixels that the decoder looks around the nearest one.
        patch: bands and blocks begin at multiples of it.
    """
    scale = hr.h / lr.h
    wanted = max(8, BAND_LR // lr.w)
    rows = _whole(min(hr.h, BAND_HR // hr.w, round(wanted * scale)), patch)
    columns = max(1, round(4 * BAND_LR / (rows / scale + 2 * halo) - 2 * halo))
    width = _whole(math.ceil(columns * hr.w / lr.w), patch)
    for top, bottom in spans(hr.h, rows):
        lr_top, lr_bottom = Axis(lr.h, hr.h, top, bottom).source(halo)
        blocks = [
            Block(left, right, *Axis(lr.w, hr.w, left, right).source(halo))
            for left, right in spans(hr.w, width)
        ]
        yield Band(top, bottom, lr_top, lr_bottom, blocks)


def _whole(pixels: int, patch: int) -> int:
    return max(1, pixels // patch) * patch
