"""HIIF: a query's place within its LR pixel, told bit by bit, and attention over all queries asked together.

Jiang et al., "HIIF: Hierarchical Encoding based Implicit Image Function for Continuous Super-resolution", CVPR 2025,
https://arxiv.org/abs/2412.03748. Written from a description of the released decoder, whose keys it keeps.

Attention is linear: each query reads sums over all queries of its call, so a colour depends on what else is asked.
A grid can be called in two ways. "whole" is one call for the image: one pass over its rows for the sums of the first
block, one for those of the second, and then any band of rows is rendered with these. "official" are calls of a few
hundred rows, as the authors test; their sums are gathered one call after the other.

Exact but for the order of summation: the first layer reads a LayerNorm of the weighted features, but apart from one
factor per query it is linear in them, so it runs once per LR pixel and neighbour; and once the sums are known,
queries, attention and the projection after them are one matrix.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srcli.geometry import F32, I64, Axis, Box, spans
from srcli.models.layers import (
    AtOnce,
    bilinear_at,
    bilinear_grid,
    conv,
    gather,
    last_linear,
    linear,
    sample_neighbours,
    take,
    tensor,
)
from srcli.models.linear_attention import Attention, Block
from srcli.models.sr import Decoder, Frame, Grid

BAND = AtOnce(1 << 13, 1 << 16)  # LR pixels whose first layers are held
CHUNK = AtOnce(1 << 11, 1 << 16)  # queries, some 8 kB each
KEEP = AtOnce(
    1 << 18, 1 << 21
)  # queries of a grid that are kept between passes, not computed again: 256 MiB, 2 GiB
AREA = 1e-9  # added to the ensemble's areas
NUDGE = 1e-9  # taken from a place before its bits are read
CORNERS = ((0, 0), (0, 1), (1, 0), (1, 1))


class Level(nn.Module):
    """LayerNorm, linear, GELU, linear."""

    def __init__(self, in_dim: int, hidden: int, out_dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(in_dim)
        self.fc1 = nn.Linear(in_dim, hidden)
        self.fc2 = nn.Linear(hidden, out_dim)

    def hidden(self, x: Tensor) -> Tensor:
        return F.gelu(linear(self.fc1, self.norm(x)))


class First(NamedTuple):
    """The first layer before its LayerNorm's factor, for the four neighbours, and what the factor needs."""

    parts: list[Tensor]  # four (B, h, w, width)
    moments: Tensor  # (B, h, w, 2) float32, sum and sum of squares of the features
    constant: Tensor  # (B, width), the cell's part
    cell: Tensor  # (B, 2), relative


class Call(NamedTuple):
    """HR rows that are one call."""

    rows: slice  # the rows
    blocks: tuple[Block, Block]  # the attention of both blocks
    # (B, rows, W, dim), all queries before the second block, where the image is small enough to keep them
    kept: Tensor | None


class HIIFField(NamedTuple):
    """Features, the image for the skip, and the calls that the target's rows are in."""

    feat: Tensor  # (B, C, h, w)
    lr: Tensor  # (B, 3, h, w)
    frame: Frame
    calls: list[Call]


class Slots(NamedTuple):
    """Per query of an axis: LR pixels and distances of its two neighbours (2, n), and its bits (levels, n)."""

    index: I64  # type: ignore[assignment]  # hides tuple.index
    distance: F32  # in LR pixels
    bits: F32

    def part(self, queries: slice, start: int) -> Slots:
        return Slots(self.index[:, queries] - start, self.distance[:, queries], self.bits[:, queries])


class HIIF(Decoder):
    """1,735,071 parameters by default for 64 channels.

    `protocol`: "whole" asks for all pixels of a grid in one call; "official" for `rows_per_call` rows at a time.
    """

    title = "HIIF"
    local = False

    def __init__(
        self,
        *,
        in_dim: int,
        hidden_dim: int = 256,
        levels: int = 6,  # bits per axis of a query's place, and layers that are told one each
        n_heads: int = 16,
        protocol: Literal["whole", "official"] = "whole",
        rows_per_call: int = 300,
    ) -> None:
        super().__init__()
        if hidden_dim % n_heads:
            raise ValueError(f"hidden_dim must be a multiple of n_heads, got {hidden_dim} and {n_heads}")
        if not 2 <= levels <= 24 or rows_per_call < 1:
            raise ValueError(f"needs 2 to 24 levels and a row per call, got {levels} and {rows_per_call}")
        self.hidden_dim, self.levels = hidden_dim, levels
        self.rows_per_call = rows_per_call if protocol == "official" else None
        self.note = "attention spans the whole output"
        if protocol == "official":
            self.note = (
                f"attention spans {rows_per_call} rows of the output at a time, as its authors test it"
            )
        self.freq = nn.Conv2d(in_dim, hidden_dim, 3, padding=1)
        widths = [(4 * hidden_dim + 4, hidden_dim)] + [(hidden_dim + 2, hidden_dim)] * (levels - 2)
        levels_of = [Level(width, hidden_dim, out_dim) for width, out_dim in [*widths, (hidden_dim + 2, 3)]]
        self.fc_layers = nn.ModuleList(levels_of)
        self.conv0, self.conv1 = Attention(hidden_dim, n_heads), Attention(hidden_dim, n_heads)

    def prepare(self, feat: Tensor, lr: Tensor, frame: Frame) -> HIIFField:
        """With a target, also the sums of its calls."""
        prepared, calls = HIIFField(feat, lr, frame, []), []
        if frame.target is not None:
            height, width = frame.target
            step = height if self.rows_per_call is None else self.rows_per_call
            for top in range(0, height, step):
                bottom = min(top + step, height)
                grid = Grid.of(frame.size, frame.target, Box(top, 0, bottom, width))
                calls.append(self._call(prepared, grid))
        return prepared._replace(calls=calls)

    def query(self, prepared: HIIFField, coord: Tensor) -> Tensor:
        frame, blocks = prepared.frame, (self.conv0, self.conv1)
        first = self._first(prepared, 0, frame.size.h)
        samples, _ = sample_neighbours(coord, frame.size)
        away = torch.stack([sample.distance for sample in samples], dim=1) / 2
        weights = _weights(away[..., 0], away[..., 1], dim=1)
        size = coord.new_tensor(frame.size)
        bits = _bits(torch.where(away[:, 0] > 0, away[:, 0], 1 / size - away[:, 0]), self.levels)
        parts = [
            gather(part.permute(0, 3, 1, 2), s.index) for part, s in zip(first.parts, samples, strict=True)
        ]
        moments = [gather(first.moments.permute(0, 3, 1, 2), s.index) for s in samples]
        x = self._enter(first, parts, moments, list(weights.unsqueeze(-1).unbind(1)), bits[0])
        for block in blocks:
            x = block(x, block.block(block.sums(x) / coord.shape[1]))
        return self._levels(x, bits) + bilinear_at(prepared.lr, coord)

    def render(self, prepared: HIIFField, grid: Grid) -> Tensor:
        if not prepared.calls:
            raise ValueError("the frame needs a target: attention spans all of its pixels")
        out = prepared.lr.new_empty(len(prepared.lr), *grid.size, 3)
        down, right = (_slots(axis, self.levels) for axis in grid)
        start = grid.rows.start
        for call in prepared.calls:
            top, bottom = max(call.rows.start, start), min(call.rows.stop, grid.rows.stop)
            if top >= bottom:
                continue
            part = Grid(replace(grid.rows, start=top, stop=bottom), grid.cols)
            seen = (
                slice(top - call.rows.start, bottom - call.rows.start),
                slice(grid.cols.start, grid.cols.stop),
            )
            kept = None if call.kept is None else call.kept[:, *seen]
            for rows, cols, x in self._queries(prepared, part, kept):
                x = self.conv1(self.conv0(x, call.blocks[0]) if kept is None else x, call.blocks[1])
                rows = slice(rows.start + top - start, rows.stop + top - start)
                colours = self._levels(x, _bits_of(down.part(rows, 0), right.part(cols, 0), out))
                out[:, rows, cols] = colours.unflatten(1, (rows.stop - rows.start, -1))
        return out.permute(0, 3, 1, 2) + bilinear_grid(prepared.lr, grid)

    def _call(self, prepared: HIIFField, grid: Grid) -> Call:
        """The attention of one call over a grid, in a pass for each block."""
        kept: Tensor | None = None
        mean = torch.zeros((), dtype=torch.float64)
        size, queries = grid.size, grid.size.h * grid.size.w
        for rows, cols, x in self._entered(prepared, grid):
            mean = mean + self.conv0.sums(x).cpu().double() / queries
            if self._keeps(prepared):
                kept = x.new_empty(len(x), *size, self.hidden_dim) if kept is None else kept
                kept[:, rows, cols] = x.unflatten(1, (rows.stop - rows.start, -1))
        first, mean = self.conv0.block(mean.to(prepared.lr)), torch.zeros_like(mean)
        for rows, cols, x in self._queries(prepared, grid, kept):
            x = self.conv0(x, first)
            mean = mean + self.conv1.sums(x).cpu().double() / queries
            if kept is not None:
                kept[:, rows, cols] = x.unflatten(1, (rows.stop - rows.start, -1))
        blocks = first, self.conv1.block(mean.to(prepared.lr))
        return Call(slice(grid.rows.start, grid.rows.stop), blocks, kept)

    def _keeps(self, prepared: HIIFField) -> bool:
        """Whether the queries of all calls fit the memory meant for them; they are overwritten, so not in training."""
        lr, target = prepared.lr, prepared.frame.target
        assert target is not None
        queries = len(lr) * target.h * target.w
        return queries <= KEEP.on(lr.device) and not torch.is_grad_enabled()

    def _queries(
        self, prepared: HIIFField, grid: Grid, kept: Tensor | None
    ) -> Iterator[tuple[slice, slice, Tensor]]:
        """Rows, columns and their queries (B, Q, dim): what was kept of the grid, or after the first level."""
        if kept is None:
            yield from self._entered(prepared, grid)
            return
        for rows, cols in _rectangles(grid, _chunk(kept)):
            yield rows, cols, kept[:, rows, cols].flatten(1, 2)

    def _entered(self, prepared: HIIFField, grid: Grid) -> Iterator[tuple[slice, slice, Tensor]]:
        """Rows and columns of the grid, and their queries (B, Q, dim) after the first level."""
        lr, width = prepared.lr, prepared.frame.size.w
        down, right = (_slots(axis, self.levels) for axis in grid)
        band = max(1, round(BAND.on(lr.device) // width * grid.rows.scale))
        for start, stop in spans(grid.size.h, band):
            seen = down.part(slice(start, stop), 0)
            top = int(seen.index.min())
            first = self._first(prepared, top, int(seen.index.max()) + 1)
            part = Grid(replace(grid.rows, start=start, stop=stop), grid.cols)
            for rows, cols in _rectangles(part, _chunk(lr)):
                rows = slice(rows.start + start, rows.stop + start)
                yield rows, cols, self._on_grid(first, down.part(rows, top), right.part(cols, 0))

    def _on_grid(self, first: First, down: Slots, right: Slots) -> Tensor:
        """Queries (B, Q, dim) of a rectangle after the first level."""
        like = first.moments
        away_y = torch.stack([tensor(down.distance[v], like)[:, None] for v, _ in CORNERS])
        away_x = torch.stack([tensor(right.distance[u], like) for _, u in CORNERS])[:, None]
        weights = list(_weights(away_y, away_x, dim=0).flatten(1)[..., None])
        at = [(down.index[v], right.index[u]) for v, u in CORNERS]
        parts = [take(part, *where).flatten(1, 2) for part, where in zip(first.parts, at, strict=True)]
        moments = [take(first.moments, *where).flatten(1, 2) for where in at]
        return self._enter(first, parts, moments, weights, _bits_of(down, right, like)[0])

    def _first(self, prepared: HIIFField, top: int, bottom: int) -> First:
        feat, frame = prepared.feat, prepared.frame
        above = max(top - 1, 0)
        maps = conv(self.freq, feat[:, :, above : bottom + 1])[:, :, top - above : bottom - above]
        maps = maps.permute(0, 2, 3, 1)
        weight, _ = self._centred()
        parts = [F.linear(maps, part.to(maps.dtype)) for part in weight[:, :-4].split(self.hidden_dim, dim=1)]
        moments = torch.stack([maps.float().sum(-1), maps.float().square().sum(-1)], dim=-1)
        cell = frame.rel_cell
        return First(parts, moments, F.linear(cell, weight[:, -4:-2]), cell)

    def _centred(self) -> tuple[Tensor, Tensor]:
        """The first layer after LayerNorm as weight and bias for what is not normalised yet.

        fc1(norm(x)) = weight x / deviation(x) + bias: the norm's factors are in the weight, and so is its mean.
        """
        level, *_ = self._all_levels
        weight = level.fc1.weight * level.norm.weight
        bias = F.linear(level.norm.bias, level.fc1.weight, level.fc1.bias)
        return weight - weight.mean(1, keepdim=True), bias

    def _enter(
        self, first: First, parts: list[Tensor], moments: list[Tensor], weights: list[Tensor], bits: Tensor
    ) -> Tensor:
        """The first level (B, Q, dim) from its neighbours' parts, moments (B, Q, 2) and weights (.., Q, 1)."""
        level, *_ = self._all_levels
        weight, bias = self._centred()
        beside = F.linear(bits, weight[:, -2:]) + first.constant.unsqueeze(1)
        x = beside.to(parts[0].dtype)
        extra = first.cell.unsqueeze(1)
        total = extra.sum(-1) + bits.sum(-1)
        squares = extra.square().sum(-1) + bits.square().sum(-1)
        for part, moment, share in zip(parts, moments, weights, strict=True):
            x = torch.addcmul(x, part, share.to(part.dtype))
            total = total + moment[..., 0] * share[..., 0]
            squares = squares + moment[..., 1] * share[..., 0].square()
        n = weight.shape[1]
        variance = squares / n - (total / n).square()
        factor = (variance + level.norm.eps).rsqrt().unsqueeze(-1)
        return linear(level.fc2, F.gelu(x * factor.to(x.dtype) + bias.to(x.dtype)))

    def _levels(self, x: Tensor, bits: Tensor) -> Tensor:
        """Colours (B, Q, 3) float32 after the levels that follow attention; bits (levels, ..)."""
        _, *between, last = self._all_levels
        for level, place in zip(between, bits[1:-1], strict=True):
            x = linear(level.fc2, level.hidden(_with_bits(x, place)))
        return last_linear(last.fc2, last.hidden(_with_bits(x, bits[-1])))

    @property
    def _all_levels(self) -> list[Level]:
        return [level for level in self.fc_layers if isinstance(level, Level)]


def _weights(away_y: Tensor, away_x: Tensor, *, dim: int) -> Tensor:
    """Ensemble weights from the distances to the four neighbours along `dim`: the opposite areas over their sum."""
    areas = (away_y * away_x).abs() + AREA
    return areas.flip(dim) / areas.sum(dim, keepdim=True)


def _bits(place: Tensor, levels: int) -> Tensor:
    """Which half, quarter, .. of a pixel a place in [0, 1] lies in: (..) -> (levels, ..), 0 or 1."""
    place = (place - NUDGE).clamp(0, 1)
    return torch.stack([(place * 2 ** (level + 1)).floor() % 2 for level in range(levels)])


def _slots(axis: Axis, levels: int) -> Slots:
    index, distance = axis.neighbours()
    distance = distance / np.float32(2)
    place = torch.from_numpy(np.where(distance[0] > 0, distance[0], np.float32(1 / axis.lr) - distance[0]))
    return Slots(index, distance, _bits(place, levels).numpy())


def _with_bits(x: Tensor, bits: Tensor) -> Tensor:
    return torch.cat([x, bits.to(x.dtype).expand(*x.shape[:-1], 2)], dim=-1)


def _bits_of(down: Slots, right: Slots, like: Tensor) -> Tensor:
    """Bits (levels, Q, 2) of a rectangle of queries, row-major."""
    both = torch.broadcast_tensors(tensor(down.bits, like)[:, :, None], tensor(right.bits, like)[:, None])
    return torch.stack(both, dim=-1).flatten(1, 2)


def _chunk(like: Tensor) -> int:
    return max(1, CHUNK.on(like.device) // len(like))


def _rectangles(grid: Grid, queries: int) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of pieces of a grid: whole rows, or part of one where that is too long."""
    height, width = grid.size
    across = min(width, queries)
    for top, bottom in spans(height, queries // across):
        for left, right in spans(width, across):
            yield slice(top, bottom), slice(left, right)
