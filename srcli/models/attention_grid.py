"""Local cross-scale attention on a grid: values pass the linear layer once for all queries that share a window.

`pieces` walks a rectangle of output pixels in rectangles of windows that have equally many queries, so that everything
is a batched matrix product; see `attention` for what is computed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from srcli.geometry import I64, Axis, Grid, Size, centres
from srcli.models.attention import PositionBias, Taps, budget, window_offsets, zero_taps
from srcli.models.layers import tensor

AVX512 = torch.backends.cpu.get_cpu_capability() == "AVX512"
SMALL = 10**6  # multiplications; for so many OpenBLAS neither copies a matrix nor starts threads
LONGEST = 32  # queries of a run: more of them no longer repay the memory of their weights


class Runs(NamedTuple):
    """Queries of an axis that share a window, in groups of equally many: (G,) windows, (G, n) queries each."""

    window: I64
    query: I64

    def part(self, first: int, last: int) -> Runs:
        return Runs(self.window[first:last], self.query[first:last])

    @staticmethod
    def of(index: I64) -> list[Runs]:
        """Groups of an ascending index (N,) of windows; runs longer than LONGEST are cut."""
        starts = np.flatnonzero(np.diff(index, prepend=index[:1] - 1))
        stops = np.append(starts[1:], len(index))
        by_length: dict[int, list[int]] = {}
        for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
            for first in range(start, stop, LONGEST):
                by_length.setdefault(min(LONGEST, stop - first), []).append(first)
        return [
            Runs(index[firsts], np.asarray(firsts)[:, None] + np.arange(length))
            for length, firsts in by_length.items()
        ]


class Table(NamedTuple):
    """An axis of a grid before a padded map: each query's window and what belongs to the axis alone."""

    window: I64  # (n,) the window's first pixel, from the map's edge; ascending
    bias: Tensor | None  # (heads, n, side * side) float32
    taps: Taps  # of the query itself, from the map's edge

    @staticmethod
    def of(
        axis: Axis, centre: I64, edge: int, reach: int, bias: PositionBias | None, number: int, *, own: bool
    ) -> Table:
        """The table of an axis with its queries' middle pixels (n,); `edge` is where the padded map begins.

        With `own` a query is that of the middle pixel, not interpolated. `number`: 0 for rows, 1 for columns.
        """
        part = None
        if bias is not None:
            like = bias.proj.weight
            p, middle = tensor(axis.centres, like), tensor(centres(axis.lr)[centre], like)
            along = bias.along(window_offsets(p, middle, axis.lr, reach), number).movedim(-1, 0)
            part = along.unsqueeze(3 - number).expand(*along.shape, along.shape[-1]).flatten(2)
        if own:
            taps = Taps(centre, np.ones(len(axis), np.float32), np.zeros(len(axis), np.float32))
        else:
            taps = zero_taps(axis.centres, axis.lr)
        return Table(centre - reach - edge, part, taps._replace(low=taps.low - edge))


class Maps(NamedTuple):
    """Queries, keys and values of a part of a map, zero-padded so that every window is whole."""

    q: Tensor | None  # (h, w, C), None without attention
    k: Tensor | None  # (h * w, C), likewise
    v: Tensor  # (heads, h * w, C / heads)
    width: int  # w

    @staticmethod
    def of(stacked: Tensor, heads: int) -> Maps:
        """Maps from (h, w, 3, C), or from values alone (h, w, 1, C)."""
        *asked, v = (part.contiguous() for part in stacked.unbind(2))
        q, k = asked or (None, None)
        by_head = v.flatten(0, 1).unflatten(1, (heads, -1)).transpose(0, 1).contiguous()
        return Maps(q, None if k is None else k.flatten(0, 1), by_head, stacked.shape[1])


class Piece(NamedTuple):
    """A rectangle of windows with equally many queries in each, and how these weigh the window."""

    rows: Tensor  # (R * n,) rows of the grid, n for each of R rows of windows
    cols: Tensor  # (C * m,) columns, likewise
    shape: tuple[int, int, int, int]  # R, C, n, m
    corner: Tensor  # (R * C,) flat index into the padded map of each window's first pixel
    weights: Tensor  # (heads, R * C, n * m, side * side)

    def on_grid(self, values: Tensor) -> Tensor:
        """Values (R * C, n * m, c) of the queries, in the order of the grid: (R * n, C * m, c)."""
        tall, wide, n, m = self.shape
        return values.view(tall, wide, n, m, -1).transpose(1, 2).reshape(tall * n, wide * m, -1)

    def project(self, values: Tensor, width: int, layer: Tensor) -> Tensor:
        """The layer (heads, area, d, out) at the weighted values (heads, P, d) of queries: (R * C, n * m, out)."""
        _heads, windows, queries, area = self.weights.shape
        side = round(area**0.5)
        steps = torch.arange(area, device=values.device)
        pixels = ((steps // side) * width + steps % side)[:, None] + self.corner
        out = torch.zeros(windows, queries, layer.shape[-1], device=values.device)
        limits = budget(values)  # the same steps for all pieces: tiles' sums have the same bits
        step = max(1, limits.projected // (limits.windows * layer.shape[-1] * values.element_size()))
        for weights, rows, part in zip(self.weights.to(values.dtype), values, layer, strict=True):
            for first in range(0, area, step):
                some = slice(first, first + step)
                projected = product(F.embedding(pixels[some], rows), part[some]).transpose(0, 1)
                out += product(weights[..., some], projected)
        return out


def product(left: Tensor, right: Tensor) -> Tensor:
    """`torch.bmm`, with the same bits: (n, rows, inner) by (n, inner, columns).

    Small matrices take MKL on one thread up to twice the time of the OpenBLAS that NumPy brings.
    """
    rows, inner = left.shape[1:]
    small = rows > 1 and rows * inner * right.shape[2] <= SMALL and torch.get_num_threads() == 1
    known = type(left) is Tensor and left.device.type == "cpu" and left.dtype == torch.float32
    if small and known and AVX512 and not torch.is_grad_enabled():
        return torch.from_numpy(np.matmul(left.numpy(), right.numpy()))
    return torch.bmm(left, right)


def pieces(maps: Maps, rows: Table, cols: Table, reach: int, heads: int) -> Iterator[Piece]:
    """Every query of a grid, in rectangles of windows that fit a cache."""
    for down in Runs.of(rows.window):
        for along in Runs.of(cols.window):
            (n_rows, n), (n_cols, m) = down.query.shape, along.query.shape
            limits = budget(maps.v)
            windows = max(1, min(limits.windows, limits.queries // (n * m)))
            across = min(n_cols, windows)
            step = max(1, windows // across)
            for top in range(0, n_rows, step):
                for left in range(0, n_cols, across):
                    part = down.part(top, top + step), along.part(left, left + across)
                    yield _piece(maps, rows, cols, *part, reach, heads)


def _piece(maps: Maps, rows: Table, cols: Table, down: Runs, along: Runs, reach: int, heads: int) -> Piece:
    (n_rows, n), (n_cols, m) = down.query.shape, along.query.shape
    corner = tensor((down.window[:, None] * maps.width + along.window).reshape(-1), maps.v)
    at = tensor(down.query.reshape(-1), maps.v), tensor(along.query.reshape(-1), maps.v)
    shape = (n_rows, n_cols, n, m)
    area = (2 * reach + 1) ** 2
    if maps.q is None or maps.k is None or rows.bias is None or cols.bias is None:
        weights = torch.ones(heads, n_rows * n_cols, n * m, area, device=maps.v.device)
        return Piece(*at, shape, corner, weights)
    q = _sampled(maps.q, rows.taps, cols.taps, down.query.reshape(-1), along.query.reshape(-1))
    q = q.view(n_rows, n, n_cols, m, -1).transpose(1, 2).reshape(n_rows * n_cols, n * m, heads, -1)
    side = 2 * reach + 1
    steps = torch.arange(area, device=q.device)
    window = corner[:, None] + (steps // side) * maps.width + steps % side
    k = F.embedding(window, maps.k).unflatten(-1, (heads, -1))  # (windows, area, heads, d)
    of_rows = rows.bias.index_select(1, at[0]).view(heads, n_rows, 1, n, 1, area)
    of_cols = cols.bias.index_select(1, at[1]).view(heads, 1, n_cols, 1, m, area)
    logits = (of_rows + of_cols).view(heads, -1, n * m, area)
    for i in range(heads):  # in training a view of one head may be written to, all views at once may not
        logits[i].add_(torch.bmm(q[:, :, i], k[:, :, i].mT), alpha=q.shape[-1] ** -0.5)
    return Piece(*at, shape, corner, logits.softmax(-1))


def _sampled(maps: Tensor, rows: Taps, cols: Taps, at_rows: I64, at_cols: I64) -> Tensor:
    """A padded map (h, w, C) at the taps of some rows and columns: (rows, cols, C)."""
    first, last = cols.low[at_cols].min(), cols.low[at_cols].max() + 2
    out = maps[:, first:last]
    for dim, taps, at, origin in ((0, rows, at_rows, 0), (1, cols, at_cols, first)):
        low = tensor(taps.low[at] - origin, maps)
        shape = (-1, 1, 1) if dim == 0 else (1, -1, 1)
        weights = (tensor(w[at], maps).to(maps.dtype).view(shape) for w in taps[1:])
        below, above = (out.index_select(dim, low + i) * w for i, w in enumerate(weights))
        out = below + above
    return out


def parts_of(grid: Grid, size: Size, side: int) -> Iterator[tuple[slice, slice, Grid]]:
    """Rectangles of a grid that look at about `side` pixels of a map of `size` each way, and where they lie in it."""
    spans = []
    for axis, n in zip(grid, size, strict=True):
        step = max(1, side * axis.hr // n)
        spans.append(
            [
                (slice(first, min(first + step, len(axis))), replace(axis, lr=n, origin=0))
                for first in range(0, len(axis), step)
            ]
        )
    for rows, down in spans[0]:
        for cols, along in spans[1]:
            yield rows, cols, Grid(_cut(down, rows), _cut(along, cols))


def _cut(axis: Axis, part: slice) -> Axis:
    return replace(axis, start=axis.start + part.start, stop=axis.start + part.stop)
