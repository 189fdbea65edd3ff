"""CiaoSR: four neighbours, weighted by attention instead of by area, and features from the whole image.

Cao et al., "CiaoSR: Continuous Implicit Attention-in-Attention Network for Arbitrary-Scale Image Super-Resolution",
CVPR 2023, https://arxiv.org/abs/2212.04362. Written from the paper and the published settings; the releases' keys.

With q the 3x3 surroundings of the nearest LR pixel, k_v those of a neighbour and x_v the same beside its cross-scale
features, the colour is MLP_q(sum_v softmax_v(q . (k_v * MLP_k(k_v, d_v, c'))) x_v * MLP_v(x_v, d_v, c')) plus the
bilinear image. Exact but for the order of summation:

* the first layers of MLP_k and MLP_v run once per LR pixel; the parts of offset and cell are added;
* q . (k * (W h + b)) = h . W'(q * k) + b . (q * k) depends on the query through h alone, and q and k belong to two LR
  pixels that touch: MLP_k's last layer runs once per such pair instead of four times per query (on grids).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from srcli.geometry import EPSILON, F32, I64, SIDES, Axis, centres, nearest_index
from srcli.models.decoders.cross_scale import CrossScaleAttention, in_windows
from srcli.models.layers import (
    MLP,
    AtOnce,
    bilinear_at,
    bilinear_grid,
    last_linear,
    linear,
    sample_at,
    sample_nearest,
    take,
    tensor,
)
from srcli.models.sr import Decoder, Frame, Grid, Tiling

BAND = AtOnce(1 << 13, 1 << 16)  # LR pixels whose first layers are held
CHUNK = AtOnce(1 << 11, 1 << 16)  # queries, some 16 kB each

CORNERS = tuple(product((0, 1), repeat=2))


class CiaoField(NamedTuple):
    """Features, cross-scale features, and the image for the skip."""

    feat: Tensor  # (B, C, h, w)
    wide: Tensor  # (B, C, h, w)
    lr: Tensor  # (B, 3, h, w)
    frame: Frame


class Seen(NamedTuple):
    """What belongs to LR pixels alone: rows of a band of the image, pixel-major."""

    values: Tensor  # (B, rows, w, 10C): the 3x3 surroundings, then the cross-scale features
    key: Tensor  # (B, rows, w, width), first layer of MLP_k without the part for the offset
    value: Tensor  # same of MLP_v


class Reach(NamedTuple):
    """Per query of an axis, the nearest LR pixel (n,), the two neighbours' indices and distances (2, n)."""

    nearest: I64
    index: I64  # type: ignore[assignment]  # hides tuple.index
    distance: F32  # one LR pixel is 2

    def part(self, queries: slice, start: int) -> Reach:
        return Reach(self.nearest[queries] - start, self.index[:, queries] - start, self.distance[:, queries])

    def runs(self, pixels: int) -> Iterator[slice]:
        """Consecutive queries, nearest to `pixels` consecutive LR pixels each time."""
        first, last = int(self.nearest[0]), int(self.nearest[-1])
        for start in range(first, last + 1, pixels):
            begin, end = np.searchsorted(self.nearest, [start, start + pixels]).tolist()
            if begin < end:  # where the image shrinks, some LR pixels have no query
                yield slice(begin, end)

    @property
    def span(self) -> tuple[int, int]:
        """The LR pixels [first, last) that are read."""
        both = np.concatenate([self.nearest, self.index.ravel()])
        return int(both.min()), int(both.max()) + 1

    def pairs(self) -> tuple[I64, I64, I64]:
        """The different (nearest, neighbour) pairs, each (pairs,), and which of them each query needs, (2, n)."""
        both = np.stack([np.broadcast_to(self.nearest, self.index.shape), self.index]).reshape(2, -1)
        (asked, key), place = np.unique(both, axis=1, return_inverse=True)
        return asked, key, place.reshape(self.index.shape)


class CiaoSR(Decoder):
    """1,428,614 parameters for 64 channels, 3,167,918 for 180.

    `protocol`: "whole" decodes the image as one; "official" as the authors evaluate scales up to 4, in tiles of `tile`
    LR pixels that share `overlap`, know nothing of each other and are averaged. The cross-scale attention sees up to
    `whole_up_to` LR pixels as a whole; beyond, where it would cost more than all else, such tiles of them.
    """

    title = "CiaoSR"
    local = False
    halo = 2

    def __init__(
        self,
        *,
        in_dim: int,
        hidden: tuple[int, ...] = (256, 256, 256, 256),
        protocol: Literal["whole", "official"] = "whole",
        tile: int = 192,
        overlap: int = 32,
        whole_up_to: int = 1 << 18,
    ) -> None:
        super().__init__()
        if not 0 <= overlap < tile:
            raise ValueError(f"overlap must be less than tile, got {overlap} and {tile}")
        self.tile, self.overlap, self.whole_up_to = tile, overlap, whole_up_to
        self.key_dim = 9 * in_dim
        value_dim = self.key_dim + in_dim
        self.imnet_q = MLP(value_dim, hidden, 3)
        self.imnet_k = MLP(self.key_dim + 4, hidden, self.key_dim)
        self.imnet_v = MLP(value_dim + 4, hidden, value_dim)
        self.cs_attn = CrossScaleAttention(in_dim)
        self.note = (
            f"attention spans the whole image, or {tile}x{tile} LR pixels where it has over {whole_up_to}"
        )
        if protocol == "official":
            self.tiling = Tiling(tile, overlap)
            self.note = (
                f"decoded in tiles of {tile} LR pixels that share {overlap}, as its authors evaluate it"
            )

    def prepare(self, feat: Tensor, lr: Tensor, frame: Frame) -> CiaoField:
        if feat.shape[2] * feat.shape[3] <= self.whole_up_to:
            wide = self.cs_attn(feat)
        else:
            wide = in_windows(self.cs_attn, feat, self.tile, self.overlap)
        return CiaoField(feat, wide.to(feat.dtype), lr, frame)

    def query(self, prepared: CiaoField, coord: Tensor) -> Tensor:
        seen = Seen(*(part.flatten(1, 2) for part in self._seen(prepared, 0, prepared.frame.size.h)))
        step = max(1, CHUNK.on(coord.device) // len(coord))
        parts = [self._at(seen, prepared.frame, part) for part in coord.split(step, dim=1)]
        return torch.cat(parts, dim=1) + bilinear_at(prepared.lr, coord)

    def render(self, prepared: CiaoField, grid: Grid) -> Tensor:
        lr, frame = prepared.lr, prepared.frame
        down, right = (_reach(axis, cell) for axis, cell in zip(grid, frame.one_cell.tolist(), strict=True))
        budget = CHUNK.on(lr.device) / (len(lr) * grid.rows.scale * grid.cols.scale)
        out = lr.new_empty(len(lr), *grid.size, 3)
        for band in down.runs(max(1, BAND.on(lr.device) // frame.size.w)):
            top, bottom = down.part(band, 0).span
            seen, below, colours = self._seen(prepared, top, bottom), down.part(band, top), out[:, band]
            for rows in below.runs(max(1, int(budget / frame.size.w))):
                for cols in right.runs(max(1, int(budget))):
                    colours[:, rows, cols] = self._block(seen, below.part(rows, 0), right.part(cols, 0))
        return out.permute(0, 3, 1, 2) + bilinear_grid(lr, grid)

    def _seen(self, prepared: CiaoField, top: int, bottom: int) -> Seen:
        """LR rows [top, bottom) of the image."""
        feat, wide, _, frame = prepared
        border = (1, 1, int(top == 0), int(bottom == frame.size.h))
        around = F.pad(feat[:, :, max(top - 1, 0) : bottom + 1], border).permute(0, 2, 3, 1)
        surroundings = around.unfold(1, 3, 1).unfold(2, 3, 1).flatten(3)
        values = torch.cat([surroundings, wide[:, :, top:bottom].permute(0, 2, 3, 1)], dim=-1)
        key = _first(self.imnet_k, surroundings, frame)
        return Seen(values, key, _first(self.imnet_v, values, frame))

    def _at(self, seen: Seen, frame: Frame, coord: Tensor) -> Tensor:
        """Colours (B, Q, 3) at coord (B, Q, 2) without the skip; the LR pixels of `seen` in one dimension."""
        index, distance = _neighbours(coord, frame)
        asked = _rows(seen.values, sample_nearest(coord, frame.size).index.unsqueeze(1))[..., : self.key_dim]
        values = _rows(seen.values, index)
        first = [
            _rows(part, index) + F.linear(distance, _offset(mlp)).to(part.dtype)
            for mlp, part in ((self.imnet_k, seen.key), (self.imnet_v, seen.value))
        ]
        keys = linear(self.imnet_k.linears[-1], _trunk(self.imnet_k, first[0])) * values[..., : self.key_dim]
        share = (keys * asked).float().sum(-1, keepdim=True).softmax(1)
        values = linear(self.imnet_v.linears[-1], _trunk(self.imnet_v, first[1])) * values
        return self._colour((values * share.to(values.dtype)).sum(1))

    def _block(self, seen: Seen, down: Reach, right: Reach) -> Tensor:
        """Colours (B, H, W, 3) of a rectangle of queries, without the skip."""
        turned, constant, (down_pair, right_pair) = self._pairs(seen.values, down, right)
        logits, hidden = [], []
        for v, u in CORNERS:
            pair = down_pair[v], right_pair[u]
            keys = _trunk(self.imnet_k, _on_grid(self.imnet_k, seen.key, down, right, v, u))
            logits.append((keys * take(turned, *pair)).float().sum(-1) + take(constant, *pair))
            hidden.append(_trunk(self.imnet_v, _on_grid(self.imnet_v, seen.value, down, right, v, u)))
        share = torch.stack(logits).softmax(0).to(seen.values.dtype).unsqueeze(-1)
        mixed: Tensor | None = None
        for (v, u), each, weight in zip(CORNERS, hidden, share, strict=True):
            values = linear(self.imnet_v.linears[-1], each)
            values = values.mul_(take(seen.values, down.index[v], right.index[u]))
            mixed = values.mul_(weight) if mixed is None else mixed.addcmul_(values, weight)
        assert mixed is not None
        return self._colour(mixed)

    def _pairs(self, values: Tensor, down: Reach, right: Reach) -> tuple[Tensor, Tensor, tuple[I64, I64]]:
        """W'(q * k) and b . (q * k) of pairs of LR pixels, W and b of MLP_k's last layer; and who needs which."""
        (asked_y, key_y, of_row), (asked_x, key_x, of_col) = down.pairs(), right.pairs()
        surroundings = values[..., : self.key_dim]
        both = take(surroundings, asked_y, asked_x).mul_(take(surroundings, key_y, key_x))
        last = self.imnet_k.linears[-1]
        turned = F.linear(both, last.weight.t().to(both.dtype))
        constant = F.linear(both, last.bias.unsqueeze(0).to(both.dtype)).squeeze(-1).float()
        return turned, constant, (of_row, of_col)

    def _colour(self, mixed: Tensor) -> Tensor:
        """The last MLP, (.., 10C) -> (.., 3) float32."""
        for layer in self.imnet_q.linears[:-1]:
            mixed = linear(layer, mixed, relu=True)
        return last_linear(self.imnet_q.linears[-1], mixed)


def _first(mlp: MLP, values: Tensor, frame: Frame) -> Tensor:
    """The first layer at every LR pixel (B, rows, w, *), without the part for the offset."""
    layer = mlp.linears[0]
    weight = layer.weight[:, : values.shape[-1]]
    first = F.linear(values, weight.to(values.dtype), layer.bias.to(values.dtype))
    return first + F.linear(frame.rel_cell, layer.weight[:, -2:])[:, None, None].to(first.dtype)


def _offset(mlp: MLP) -> Tensor:
    """The first layer's columns (width, 2) for the offset (y, x)."""
    return mlp.linears[0].weight[:, -4:-2]


def _trunk(mlp: MLP, first: Tensor) -> Tensor:
    """The last hidden activations (.., width) from the first layer's values."""
    hidden = first.relu_()
    for layer in mlp.linears[1:-1]:
        hidden = linear(layer, hidden, relu=True)
    return hidden


def _on_grid(mlp: MLP, first: Tensor, down: Reach, right: Reach, v: int, u: int) -> Tensor:
    """The first layer's values (B, H, W, width) on a grid, for the neighbour on sides v and u."""
    weight = _offset(mlp)
    dy, dx = tensor(down.distance[v], first), tensor(right.distance[u], first)
    values = take(first, down.index[v], right.index[u])
    values += (dy[:, None, None] * weight[:, 0]).to(values.dtype)
    values += (dx[:, None] * weight[:, 1]).to(values.dtype)
    return values


def _rows(table: Tensor, index: Tensor) -> Tensor:
    """Rows of a table (B, N, c) at index (B, V, Q) -> (B, V, Q, c)."""
    first = torch.arange(len(table), device=table.device).view(-1, 1, 1) * table.shape[1]
    # An embedding's backward is several times faster than an index's.
    return F.embedding(first + index, table.flatten(0, 1))


def _reach(axis: Axis, cell: float) -> Reach:
    """Where the queries of an axis look; `cell` is the size of one in [-1, 1]."""
    nearest = axis.nearest()
    index = np.empty((2, len(axis)), np.int64)
    distance = np.empty((2, len(axis)), np.float32)
    step = np.float32(0)
    if axis.lr > 1:
        with np.errstate(divide="ignore"):  # an output of two pixels has a cell of 1
            steps = np.float32(1) / (np.float32(1) - np.float32(cell)) * np.float32(axis.lr - 1)
        step = np.float32(1) / steps
    for v, side in enumerate(SIDES):
        shifted = axis.centres + (np.float32(side) * step + np.float32(EPSILON))
        shifted = np.clip(shifted, np.float32(-1 + EPSILON), np.float32(1 - EPSILON))
        index[v] = np.clip(nearest_index(shifted, axis.lr), 0, axis.lr - 1)
        distance[v] = (axis.centres - centres(axis.lr)[index[v]]) * np.float32(axis.lr)
    return Reach(nearest.index, index, distance)


def _neighbours(coord: Tensor, frame: Frame) -> tuple[Tensor, Tensor]:
    """Index (B, 4, Q) and distance (B, 4, Q, 2) of the neighbours of coord (B, Q, 2), as `_reach` on a grid.

    The step to a neighbour is half an LR pixel only at scale 2: the releases take (1 - cell) / (size - 1).
    """
    size = coord.new_tensor(frame.size)
    step = 1 / ((1 / (1 - frame.cell)) * (size - 1)).unsqueeze(1)
    samples = []
    for v, u in CORNERS:
        side = coord.new_tensor([SIDES[v], SIDES[u]])
        shifted = (coord + (side * step + EPSILON)).clamp(-1 + EPSILON, 1 - EPSILON)
        samples.append(sample_at(shifted, coord, frame.size))
    return torch.stack([s.index for s in samples], 1), torch.stack([s.distance for s in samples], 1)
