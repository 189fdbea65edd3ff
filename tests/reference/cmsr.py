"""Controllable multi-scale rendering: easy LR pixels are rendered coarsely and enlarged bilinearly.

He and Jin, "Latent Modulated Function for Computational Optimal Continuous Image Representation" (CVPR 2024). The
mean absolute shift of an LR pixel's latent says how hard the pixel is. A table gives, for one scale, levels (coarser
scales) and up to which intensity each is good enough. The picture starts as the LR image; level by level it is
enlarged bilinearly, and the pixels whose intensity belongs to the level are rendered. Pixels change, so it is an
option, off unless asked for.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from srcli.errors import UsageError
from srcli.geometry import Axis, Box, Size, centres, output_size
from srcli.models.decoders.modulated import LatentField, Modulated
from srcli.models.layers import bilinear_at, bilinear_grid, grid_coord, sample_nearest, tensor
from srcli.models.sr import Frame, Grid, pixel_cell

Table = Sequence[tuple[float, float]]  # (level, threshold), both rising
Protocol = Literal["centred", "official"]

LEVELS = (1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32)  # what a table is built from
CANDIDATES = tuple(k / 100 for k in range(101))  # for LM-LTE, whose intensities are lower: steps of 0.005
DENSE = 0.4  # from this share of a level's pixels on, rendering all of them costs less than the chosen ones


class Level(NamedTuple):
    """One pass: pixels with low <= intensity <= high are rendered at `scale`."""

    scale: float
    low: float
    high: float


def mean_scale(lr: Size, target: Size) -> float:
    """The scale that tables are chosen by: the square root of the enlargement of the area."""
    return math.sqrt(target.h * target.w / (lr.h * lr.w))


def choose_table(tables: Mapping[str, Table], scale: float) -> Table:
    """The table for the smallest scale not below `scale`, or for the largest there is; keys are scales as text."""
    known = sorted(tables, key=float)
    return tables[next((key for key in known if float(key) >= scale), known[-1])]


def levels_of(table: Table, scale: float) -> list[Level]:
    """The passes of a table at `scale`, coarse to fine; the last takes all that is harder."""
    below = [(float(level), threshold) for level, threshold in table if level < scale]
    if not below or below[-1][1] < 1:
        below.append((scale, 1.0))
    lows = [-math.inf, *(threshold for _, threshold in below[:-1])]
    highs = [*lows[1:], math.inf]
    return [
        Level(level, low, high)
        for (level, _), low, high in zip(below, lows, highs, strict=True)
        if level >= 1
    ]


def multiscale_halo(decoder: Modulated, levels: Sequence[Level]) -> int:
    """LR pixels around the nearest one that a pixel of `render_multiscale` depends on.

    Every enlargement reaches one pixel of the level below it.
    """
    return decoder.halo + math.ceil(1 + sum(1 / level.scale for level in levels))


def render_multiscale(
    decoder: Modulated,
    prepared: LatentField,
    grid: Grid,
    table: Table,
    *,
    cell_clip: float | None = 4.0,
    protocol: Protocol = "centred",
) -> Tensor:
    """Render a rectangle of HR pixels by levels: (B, 3, H, W), normalised, like `Modulated.render`.

    With `protocol="centred"` a level has round(side * level) pixels per axis, on an axis that is enlarged less than
    the level round(side * scale), and is sampled at its pixel centres; any scale and any rectangle will do, if the
    prepared box reaches `multiscale_halo` around it. With "official", as in the authors' code, sides are cut instead
    of rounded, coordinates stop at the outer LR pixels' centres, a level without a pixel is passed over, and nothing
    happens up to scale 4.

    Args:
        decoder: LM-LIIF or LM-LTE.
        prepared: its latent, of the target's cell.
        grid: the HR pixels.
        table: levels and thresholds for this scale, see `choose_table`.
        cell_clip: the largest trained scale, as in `pixel_cell`; used for the cell of each level.
        protocol: "centred" or "official".

    Raises:
        UsageError: the authors' protocol with sides or a part of the image that it cannot render.
    """
    lr, target = Size(grid.rows.lr, grid.cols.lr), Size(grid.rows.hr, grid.cols.hr)
    levels = levels_of(table, mean_scale(lr, target))
    if protocol == "official":
        return _render_official(decoder, prepared, grid, levels, cell_clip)
    sizes = [_level_size(lr, target, level) for level in levels]
    sr, below = prepared.lr.float(), None
    intensity = decoder.intensity(prepared)
    for level, size, box in zip(levels, sizes, _boxes(sizes, grid), strict=True):
        own = Grid.of(lr, size, box, (grid.rows.origin, grid.cols.origin))
        sr = bilinear_grid(sr, own if below is None else _between(below, own))
        at_level = prepared.at_cell(pixel_cell(lr, size, cell_clip=cell_clip).to(sr.device))
        sr = _fill(decoder, at_level, own, sr, _chosen(intensity, own, level))
        below = own
    if below is not None and sizes[-1] != target:
        sr = bilinear_grid(sr, _between(below, grid))
    return sr


def _level_size(lr: Size, target: Size, level: Level) -> Size:
    if level.scale >= mean_scale(lr, target):
        return target
    rows, cols = (min(level.scale, hr / side) for side, hr in zip(lr, target, strict=True))
    return output_size(lr, (rows, cols))


def _boxes(sizes: Sequence[Size], grid: Grid) -> list[Box]:
    """The part of each level that the HR pixels of `grid` need, coarse to fine."""
    above, boxes = grid, []
    for size in reversed(sizes):
        if size == Size(above.rows.hr, above.cols.hr):
            spans = [(axis.start, axis.stop) for axis in above]
        else:
            spans = [_taps(side, axis) for side, axis in zip(size, above, strict=True)]
        boxes.append(Box(spans[0][0], spans[1][0], spans[0][1], spans[1][1]))
        above = Grid.of(size, size, boxes[-1])
    return boxes[::-1]


def _taps(side: int, axis: Axis) -> tuple[int, int]:
    """Pixels [first, last) of an axis of `side` pixels that bilinear enlargement to `axis` reads."""
    taps = Axis(side, axis.hr, axis.start, axis.stop).lerp()
    return int(taps.low[0]), int(taps.high[-1]) + 1


def _between(below: Grid, above: Grid) -> Grid:
    """The pixels of `above` as an enlargement of the level `below`."""
    return Grid(*(Axis(b.hr, a.hr, a.start, a.stop, b.start) for b, a in zip(below, above, strict=True)))


def _chosen(intensity: Tensor, grid: Grid, level: Level) -> Tensor:
    """Which pixels (B, H, W) of a level's grid lie nearest to an LR pixel of the level's intensity."""
    ours = (intensity >= level.low) & (intensity <= level.high)
    rows, cols = (tensor(axis.nearest().index, intensity) for axis in grid)
    return ours.index_select(1, rows).index_select(2, cols)


def _fill(decoder: Modulated, prepared: LatentField, grid: Grid, sr: Tensor, chosen: Tensor) -> Tensor:
    """`sr` (B, 3, H, W) with the chosen pixels rendered."""
    if chosen.float().mean() > DENSE:
        return torch.where(chosen.unsqueeze(1), decoder.render(prepared, grid), sr)
    coord = grid_coord(grid, sr)
    skip = bilinear_grid(prepared.lr, grid).flatten(2) if decoder.skip else None
    planes = sr.flatten(2).clone()
    for image, mask in enumerate(chosen.flatten(1)):
        where = mask.nonzero()[:, 0]
        if len(where):
            colours = decoder.residual(_one(prepared, image), coord[:, where])[0].T
            planes[image, :, where] = colours if skip is None else colours + skip[image, :, where]
    return planes.view_as(sr)


def _one(prepared: LatentField, image: int) -> LatentField:
    """One image of a batch, with the level's cell, which all share."""
    part = slice(image, image + 1)
    return prepared._replace(latent=prepared.latent[part], code=prepared.code[part], lr=prepared.lr[part])


def _render_official(
    decoder: Modulated, prepared: LatentField, grid: Grid, levels: Sequence[Level], cell_clip: float | None
) -> Tensor:
    lr, target = Size(grid.rows.lr, grid.cols.lr), Size(grid.rows.hr, grid.cols.hr)
    scale = mean_scale(lr, target)
    if scale <= 4:
        return decoder.render(prepared, grid)
    if grid.size != target or prepared.frame.box.size != lr or len(prepared.lr) != 1:
        raise UsageError(
            "The authors' multi-scale rendering takes one whole image.", hint="Use protocol 'centred'."
        )
    if (int(lr.h * scale), int(lr.w * scale)) != target:
        raise UsageError(
            f"The authors' multi-scale rendering cannot make {target.h} x {target.w} pixels from {lr.h} x {lr.w}.",
            hint="Use one whole scale for both sides, or protocol 'centred'.",
        )
    intensity, sr = decoder.intensity(prepared).flatten(), prepared.lr.float()
    for level in levels:
        size = Size(int(lr.h * level.scale), int(lr.w * level.scale))
        coord = _clamped_coord(lr, size, sr)
        nearest = intensity[sample_nearest(coord, lr).index[0]]
        where = ((nearest >= level.low) & (nearest <= level.high)).nonzero()[:, 0]
        if not len(where):
            continue
        sr = bilinear_at(sr, coord).transpose(1, 2)
        at_level = prepared.at_cell(pixel_cell(lr, size, cell_clip=cell_clip).to(sr.device))
        sr[:, :, where] = decoder.query(at_level, coord[:, where]).transpose(1, 2)
        sr = sr.unflatten(-1, size)
    size = Size(*sr.shape[-2:])
    if size != target:
        sr = bilinear_grid(sr, Grid.of(size, target))
    return sr


def _clamped_coord(lr: Size, size: Size, like: Tensor) -> Tensor:
    """Coordinates (1, H*W, 2) as enlarging the LR pixels' own coordinates gives them: never beyond their centres."""
    axes = [
        F.interpolate(tensor(centres(side), like)[None, None], size=n, mode="linear", align_corners=False)[
            0, 0
        ]
        for side, n in zip(lr, size, strict=True)
    ]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(1, -1, 2)


def build_table(
    decoder: Modulated,
    images: Iterable[tuple[Tensor, Tensor]],
    scale: float,
    *,
    levels: Sequence[float] = LEVELS,
    candidates: Sequence[float] = CANDIDATES,
    mse: float = 2e-5,
    width: float = 1e-3,
    cell_clip: float | None = 4.0,
) -> list[tuple[float, float]]:
    """Thresholds with which every level stays close to the full rendering on the given images.

    On each image a level's threshold rises through the candidates as long as pixels of that intensity (within
    `width`), rendered at the level and enlarged bilinearly, differ by no more than `mse` from the full rendering.
    A candidate that no pixel has is passed over; one that a coarser level has settled is not asked again. A level
    gets the lowest threshold of all images that set it a limit, 1 if none did, and never one below a coarser
    level's. Levels are rendered with the cell that `render_multiscale` uses.

    Args:
        decoder: LM-LIIF or LM-LTE with its final weights; a table belongs to one checkpoint.
        images: pairs of features (1, C, h, w) and normalised LR image (1, 3, h, w).
        scale: the scale of the table.
        levels: coarser scales to try, rising; those from `scale` on are left out.
        candidates: thresholds to try, rising.
        mse: the mean squared error allowed, in the normalised domain.
        width: how far an intensity may be from a candidate to count.
        cell_clip: the largest trained scale, as in `pixel_cell`.

    Returns:
        (level, threshold) for each level and, last, (scale, 1).
    """
    coarser = [level for level in levels if level < scale]
    thresholds = [1.0] * len(coarser)
    for feat, lr in images:
        intensity, errors = _errors(decoder, feat, lr, scale, coarser, cell_clip)
        limits = _limits(intensity, errors, candidates, mse, width)
        thresholds = [min(pair) for pair in zip(thresholds, limits, strict=True)]
    for k in reversed(range(len(thresholds) - 1)):
        thresholds[k] = min(thresholds[k], thresholds[k + 1])
    return [*zip(coarser, thresholds, strict=True), (scale, 1.0)]


@torch.no_grad()
def _errors(
    decoder: Modulated,
    feat: Tensor,
    lr: Tensor,
    scale: float,
    levels: Sequence[float],
    cell_clip: float | None,
) -> tuple[Tensor, list[Tensor]]:
    """Of every HR pixel the intensity (n,), and for each level the squared error (n,) of enlarging it."""
    size = Size(*lr.shape[-2:])
    target = output_size(size, scale)
    grid = Grid.of(size, target)
    prepared = decoder.prepare(feat, lr, Frame.of_grid(lr, target, cell_clip=cell_clip))
    full = decoder.render(prepared, grid)
    rows, cols = (tensor(axis.nearest().index, lr) for axis in grid)
    intensity = decoder.intensity(prepared).index_select(1, rows).index_select(2, cols)
    errors = []
    for level in levels:
        small = output_size(size, level)
        at_level = prepared.at_cell(pixel_cell(size, small, cell_clip=cell_clip).to(lr.device))
        enlarged = bilinear_grid(decoder.render(at_level, Grid.of(size, small)), Grid.of(small, target))
        errors.append((enlarged - full).square().mean(1).flatten())
    return intensity.flatten(), errors


def _limits(
    intensity: Tensor, errors: Sequence[Tensor], candidates: Sequence[float], mse: float, width: float
) -> list[float]:
    """The highest threshold that one image allows each level, 1 where it sets no limit."""
    intensity, order = intensity.double().sort()
    bounds = [intensity.new_tensor([c - width, c + width]) for c in candidates]
    spans = [
        (int(torch.searchsorted(intensity, low)), int(torch.searchsorted(intensity, high, right=True)))
        for low, high in bounds
    ]
    waiting = [(c, *span) for c, span in zip(candidates, spans, strict=True) if span[0] < span[1]]
    settled, limits = 0.0, []
    for error in errors:
        total = F.pad(error.double()[order].cumsum(0), (1, 0))
        good = [bool((total[last] - total[first]) / (last - first) <= mse) for _, first, last in waiting]
        passed = good.index(False) if False in good else len(good)
        settled = waiting[passed - 1][0] if passed else settled
        limits.append(settled if passed < len(good) else 1.0)
        waiting = waiting[passed:]
    return limits
