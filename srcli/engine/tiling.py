"""How an image is cut: encoder tiles with a margin, and bands of output rows.

Two levels. The encoder runs on tiles of the LR image, each read with `halo` more pixels; only the tile's own
features are kept. Output rows are then decoded in bands whose coordinates come from tables of the whole image, so
a tile border cannot show in them, at any scale, and there is nothing to feather. Bands depend on the sizes of the
images alone, never on the tiles: another tile size runs the same arithmetic on the same features.

`averaged_rows` is for published figures: tiles enlarged as images of their own and averaged where they overlap.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from srcli.engine.device import autocast
from srcli.engine.request import RenderStats, Report
from srcli.errors import UsageError
from srcli.geometry import Axis, Box, Grid, Size, spans, starts
from srcli.models.layers import window_pad
from srcli.models.sr import Frame, Tiling

if TYPE_CHECKING:
    from srcli.engine.normalised_image import NormalisedImage
    from srcli.engine.upscaler import Upscaler

BAND_LR = 1 << 15  # LR pixels decoded at once: prepared maps of 256 channels take 32 MiB
BAND_HR = 1 << 22  # HR pixels decoded at once: 48 MiB of float colours


def checked_tile(tile: str | int) -> str | int:
    """The tile option as "auto" (also 0), "none" or pixels; UsageError for anything else."""
    text = str(tile).strip().lower()
    if text in ("auto", "0"):
        return "auto"
    if text == "none":
        return "none"
    if text.isdigit() and int(text) >= 8:
        return int(text)
    raise UsageError(f"--tile takes auto, none or a side of at least 8 pixels, got '{tile}'.")


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
    """The output's rows in bands that begin at multiples of `patch`; the decoder looks `halo` LR pixels around."""
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


def tile_starts(lr: Size, tiling: Tiling) -> tuple[int, list[int], list[int]]:
    """Side of the square tiles, their first rows and their first columns."""
    side = min(tiling.side, *lr)
    overlap = tiling.overlap if tiling.overlap < side else side // 2
    return side, starts(lr.h, side, overlap), starts(lr.w, side, overlap)


def averaged_rows(enlarge: Callable[[Box], Tensor], lr: Size, scale: int, tiling: Tiling) -> Iterator[Tensor]:
    """Finished rows (rows, W, 3) of the output; `enlarge` gives (h * scale, w * scale, 3) of a box of the LR image."""
    side, tops, lefts = tile_starts(lr, tiling)
    pending: Tensor | None = None  # sums over tiles so far, of rows that the next tiles overlap
    for top, after in zip(tops, [*tops[1:], lr.h], strict=True):
        tiles = [enlarge(Box(top, left, top + side, left + side)) for left in lefts]
        # Colours, and how many tiles they are summed over.
        row = tiles[0].new_zeros(side * scale, lr.w * scale, 4)
        for left, tile in zip(lefts, tiles, strict=True):
            row[:, left * scale : (left + side) * scale] += torch.nn.functional.pad(tile, (0, 1), value=1)
        if pending is not None:
            row[: len(pending)] += pending
        done, pending = row[: (after - top) * scale], row[(after - top) * scale :]
        yield done[..., :3] / done[..., 3:]


def overlapping_rows(
    upscaler: Upscaler,
    lr: NormalisedImage,
    target: Size,
    tiling: Tiling,
    report: Report | None,
    stats: RenderStats,
) -> Iterator[Tensor]:
    """Rows by the decoder's own protocol of tiles, as the authors of CiaoSR evaluate."""
    scale = target.h // lr.inside.h
    if scale < 1 or target != Size(lr.inside.h * scale, lr.inside.w * scale):
        raise UsageError(
            f"The official protocol of this preset cannot make {target.w}x{target.h} of {lr.inside.w}x{lr.inside.h}: "
            "its tiles meet only at whole-number scales.",
            hint='Take one, or set protocol = "whole" under [decoder] in the preset.',
        )
    side, tops, lefts = tile_starts(lr.inside, tiling)
    stats.tile, stats.tiles = Size(side, side), len(tops) * len(lefts)
    enlarged, done = Size(side * scale, side * scale), 0

    def enlarge(box: Box) -> Tensor:
        x, multiple = lr.box(box), upscaler.network.encoder.multiple_of
        short = min(x.shape[-2:]) < multiple  # for padding by reflection
        windowed = window_pad(x, multiple, always=False) if short else x
        frame = Frame.of_grid(x, enlarged, cell_clip=upscaler.preset.engine.cell_clip)
        with autocast(upscaler.device, upscaler.precision):
            feat = upscaler.network.encoder(windowed)[..., :side, :side]
            prepared = upscaler.network.decoder.prepare(feat, x, frame)
            grid = Grid.of(box.size, enlarged)
            return upscaler.finished(prepared, grid, partial(upscaler.rendered, seed=None))[0]

    for rows in averaged_rows(enlarge, lr.inside, scale, tiling):
        yield rows * lr.std.flatten() + lr.mean.flatten()
        done += len(rows)
        if report:
            report(done / target.h)
