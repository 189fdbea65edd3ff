"""Overlapping tiles that are enlarged as images of their own and averaged, as the authors of CiaoSR evaluate.

The engine's own tiles never show; these do, a little. They are here to reproduce published figures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from srcli.engine.device import autocast
from srcli.engine.features import NormalisedImage
from srcli.engine.request import RenderStats, Report
from srcli.errors import UsageError
from srcli.geometry import Box, Grid, Size, starts
from srcli.models.layers import window_pad
from srcli.models.sr import Frame, Tiling

if TYPE_CHECKING:
    from srcli.engine.upscaler import Upscaler


def whole_scale(lr: Size, target: Size) -> int:
    """The scale between two sizes.

    Raises:
        UsageError: it is no whole number, or not the same for both sides.
    """
    scale = target.h // lr.h
    if scale < 1 or target != Size(lr.h * scale, lr.w * scale):
        raise UsageError(
            f"The official protocol of this preset cannot make {target.w}x{target.h} of {lr.w}x{lr.h}: its tiles "
            "meet only at whole-number scales.",
            hint='Take one, or set protocol = "whole" under [decoder] in the preset.',
        )
    return scale


def tile_starts(lr: Size, tiling: Tiling) -> tuple[int, list[int], list[int]]:
    """Side of the square tiles, their first rows and their first columns."""
    side = min(tiling.side, *lr)
    overlap = tiling.overlap if tiling.overlap < side else side // 2
    return side, starts(lr.h, side, overlap), starts(lr.w, side, overlap)


def averaged_rows(enlarge: Callable[[Box], Tensor], lr: Size, scale: int, tiling: Tiling) -> Iterator[Tensor]:
    """Finished rows (rows, W, 3) of the output, from top to bottom.

    Args:
        enlarge: the output (h * scale, w * scale, 3) of a box of the LR image.
        lr: size of the LR image.
        scale: a whole number.
        tiling: the protocol.
    """
    side, tops, lefts = tile_starts(lr, tiling)
    pending: Tensor | None = None  # sums over tiles so far, of rows that the next tiles overlap
    for top, after in zip(tops, [*tops[1:], lr.h], strict=True):
        tiles = [enlarge(Box(top, left, top + side, left + side)) for left in lefts]
        row = tiles[0].new_zeros(
            side * scale, lr.w * scale, 4
        )  # colours, and how many tiles they are summed over
        for left, tile in zip(lefts, tiles, strict=True):
            row[:, left * scale : (left + side) * scale] += torch.nn.functional.pad(tile, (0, 1), value=1)
        if pending is not None:
            row[: len(pending)] += pending
        done, pending = row[: (after - top) * scale], row[(after - top) * scale :]
        yield done[..., :3] / done[..., 3:]


def rows_apart(
    upscaler: Upscaler,
    lr: NormalisedImage,
    target: Size,
    tiling: Tiling,
    report: Report | None,
    stats: RenderStats,
) -> Iterator[Tensor]:
    """Rows by the decoder's own protocol of tiles."""
    scale = whole_scale(lr.inside, target)
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
