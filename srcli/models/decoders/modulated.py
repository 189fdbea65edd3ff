"""The render side of the LMF decoders: a 16-wide MLP, modulated by what its LR pixels say.

He and Jin, "Latent Modulated Function for Computational Optimal Continuous Image Representation" (CVPR 2024). Every
LR pixel holds a scale and a shift for each hidden unit and a short code, the MLP's input beside the offset. What
belongs to an LR pixel alone is folded before a query looks at it (`Tables`). Scattered queries gather those; a grid is
rendered LR pixel by LR pixel: each one serves a rectangle of HR pixels, on which the first layer is a sum or a product
of a table per row and a table per column, and nothing is gathered at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from srcli.geometry import I64, Axis
from srcli.models.layers import (
    MLP,
    AtOnce,
    Sample,
    bilinear_at,
    bilinear_grid,
    ensemble_weights,
    last_linear,
    no_autocast,
    sample_nearest,
    sample_neighbours,
    tensor,
)
from srcli.models.sr import Decoder, Frame, Grid

CHUNK = AtOnce(1 << 15, 1 << 21)  # evaluations of the render MLP, 16 floats each


class LatentField(NamedTuple):
    """What the latent MLP says at every LR pixel of a box."""

    latent: Tensor  # (B, h, w, C) float32: scales of the hidden layers, their shifts, then the code
    code: Tensor  # (B, h, w, c) float32, the render MLP's input apart from offset and cell
    lr: Tensor  # (B, 3, h, w), for the skip
    # the box; its cell is the one the *render* side reads (the latent has the target's built in)
    frame: Frame


class Tables(NamedTuple):
    """The render MLP folded into LR pixels: what a query has to read there, each (B, h, w, ..) float32."""

    first: tuple[Tensor, ...]  # what the first activations are made of, see `Modulated.first_at`
    scale: Tensor  # (B, h, w, n, width) of the n layers that follow
    shift: Tensor  # same, with the layers' biases


class Slots(NamedTuple):
    """Which pixels of an HR axis an LR pixel serves: consecutive ones, which fill its slots 0, 1, .."""

    start: int  # the LR pixel of the box that the tables begin with
    pixel: I64  # (V, n) LR pixel of each HR pixel, counted from `start`; V neighbours, ascending along n
    slot: I64  # (V, n) the HR pixel's place in that LR pixel's row of slots
    distance: np.ndarray  # (slots, pixels) float32, where one LR pixel is 2; unused slots hold 0

    @staticmethod
    def of(axis: Axis, ensemble: bool) -> Slots:
        """The slots of `axis`, for the two ensemble neighbours or for the nearest pixel only."""
        index, distance = axis.neighbours() if ensemble else axis.nearest()
        index, distance = np.atleast_2d(index), np.atleast_2d(distance)
        start = int(index.min())
        pixel = index - start
        first = np.full(int(pixel.max()) + 1, len(axis))
        columns = np.broadcast_to(np.arange(len(axis)), pixel.shape)
        np.minimum.at(first, pixel, columns)
        slot = columns - first[pixel]
        table = np.zeros((int(slot.max()) + 1, len(first)), np.float32)
        table[slot, pixel] = distance
        return Slots(start, pixel, slot, table)

    def served(self, begin: int, end: int) -> list[slice]:
        """Per neighbour, the HR pixels that read LR pixels [begin, end) of the tables."""
        return [slice(*np.searchsorted(row, [begin, end]).tolist()) for row in self.pixel]


class Piece(NamedTuple):
    """A rectangle of LR pixels, rendered at once: rows [top, bottom), columns [left, right) of the tables."""

    top: int
    bottom: int
    left: int
    right: int


def _pieces(rows: Slots, cols: Slots, budget: int) -> Iterator[Piece]:
    (tall, height), (wide, width) = rows.distance.shape, cols.distance.shape
    across = min(width, max(1, budget // (tall * wide)))
    down = max(1, budget // (tall * wide * width))
    for top in range(0, height, down):
        for left in range(0, width, across):
            yield Piece(top, min(top + down, height), left, min(left + across, width))


def _part(axis: Axis, pixels: slice) -> Axis:
    return replace(axis, start=axis.start + pixels.start, stop=axis.start + pixels.stop)


class Modulated(Decoder):
    """What the two decoders share: the modulated render MLP at scattered coordinates and on a grid.

    A subclass fills the latent (`prepare`), folds what belongs to an LR pixel into `Tables`, and computes the first
    activations from them.
    """

    halo = 2  # one for the 3x3 convolution, one for the neighbours
    skip: ClassVar[bool]  # whether the bilinearly enlarged LR image is added

    def __init__(self, *, in_dim: int, depth: int, width: int, local_ensemble: bool) -> None:
        super().__init__()
        if not 1 <= depth <= 64:
            raise ValueError(f"depth must be 1 to 64, got {depth}")
        self.depth = depth
        self.width = width
        self.local_ensemble = local_ensemble
        self.imnet = MLP(in_dim, [width] * depth, 3)

    def tables(self, prepared: LatentField) -> Tables:
        """Fold the latent and the render MLP's constants; see `Tables`."""
        raise NotImplementedError

    def first_at(self, first: tuple[Tensor, ...], distance: Tensor) -> Tensor:
        """First activations (.., c) from gathered table rows (.., *) and offsets (.., 2)."""
        raise NotImplementedError

    def first_on_grid(self, first: tuple[Tensor, ...], down: Tensor, right: Tensor) -> Tensor:
        """First activations (K, L, B, h, w, c) of all slots, at offsets (K, 1, h, 1, 1) and (L, 1, 1, w, 1)."""
        raise NotImplementedError

    def modulation(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Factor and offset (B, h, w, depth, width) of every hidden unit: scale and bias folded into them."""
        units = self.depth * self.width
        scale = 1 + latent[..., :units].unflatten(-1, (self.depth, self.width))
        shift = latent[..., units : 2 * units].unflatten(-1, (self.depth, self.width))
        biases = torch.stack([layer.bias for layer in self.imnet.linears[: self.depth]])
        return scale, torch.addcmul(shift, scale, biases)

    def query(self, prepared: LatentField, coord: Tensor) -> Tensor:
        sr = self.residual(prepared, coord)
        return sr + bilinear_at(prepared.lr, coord) if self.skip else sr

    def residual(self, prepared: LatentField, coord: Tensor) -> Tensor:
        """`query` without the skip: (B, Q, 2) -> (B, Q, 3). All neighbours must lie in the prepared box."""
        step = max(
            1, CHUNK.on(coord.device) // (8 * coord.shape[0])
        )  # four neighbours, and their tables beside them
        with no_autocast(coord):  # modulated layers amplify what half precision loses
            tables = self.tables(prepared)
            parts = [*tables.first, tables.scale.flatten(-2), tables.shift.flatten(-2)]
            widths = [part.shape[-1] for part in parts]
            rows = torch.cat(parts, dim=-1).flatten(1, 2)
            chunks = [self._at(rows, widths, prepared.frame, part) for part in coord.split(step, dim=1)]
        return torch.cat(chunks, dim=1)

    def _at(self, rows: Tensor, widths: list[int], frame: Frame, coord: Tensor) -> Tensor:
        """Colours of one chunk of queries from packed tables (B, h*w, sum of widths)."""
        if self.local_ensemble:
            samples, weights = sample_neighbours(coord, frame.size)
        else:
            samples, weights = [sample_nearest(coord, frame.size)], torch.ones_like(coord[..., :1])
        index = torch.stack([_in_box(sample, frame) for sample in samples], dim=1)  # (B, V, Q)
        first = torch.arange(len(rows), device=rows.device).view(-1, 1, 1) * rows.shape[1]
        parts = F.embedding(first + index, rows.flatten(0, 1)).split(widths, dim=-1)
        distance = torch.stack([sample.distance for sample in samples], dim=1)
        hidden = self.first_at(parts[:-2], distance)
        scale, shift = (part.unflatten(-1, (-1, self.width)) for part in parts[-2:])
        hidden = self._hidden(hidden, scale.unbind(-2), shift.unbind(-2))
        mixed = (hidden * weights.transpose(1, 2).unsqueeze(-1)).sum(1)
        return last_linear(self.imnet.linears[-1], mixed)  # linear, and the weights sum to 1: after the mix

    def _hidden(self, x: Tensor, scale: tuple[Tensor, ...], shift: tuple[Tensor, ...]) -> Tensor:
        """The hidden layers after the first activations, modulated: relu(scale * Wx + shift)."""
        layers = self.imnet.linears[self.depth - len(scale) : self.depth]
        for layer, factor, offset in zip(layers, scale, shift, strict=True):
            x = torch.addcmul(offset, factor, F.linear(x, layer.weight)).relu_()
        return x

    def render(self, prepared: LatentField, grid: Grid) -> Tensor:
        rows, cols = (Slots.of(axis, self.local_ensemble) for axis in grid)
        (down, across), latent = (len(axis.distance.T) for axis in (rows, cols)), prepared.latent
        box = np.s_[:, rows.start : rows.start + down, cols.start : cols.start + across]
        out = latent.new_zeros(3, len(latent), *grid.size)
        with no_autocast(latent):
            tables = self.tables(prepared._replace(latent=latent[box], code=prepared.code[box]))
            for piece in _pieces(rows, cols, CHUNK.on(latent.device) // len(latent)):
                self._add(out, self._piece(tables, rows, cols, piece), rows, cols, piece, grid)
            sr = out.transpose(0, 1) + self.imnet.linears[-1].bias[:, None, None]
        return sr + bilinear_grid(prepared.lr, grid) if self.skip else sr

    def _piece(self, tables: Tables, rows: Slots, cols: Slots, piece: Piece) -> Tensor:
        """Colours (3, K * L * B * h * w) of all slots of a rectangle of LR pixels, without the bias."""
        top, bottom, left, right = piece
        box = np.s_[:, top:bottom, left:right]
        down = tensor(rows.distance[:, top:bottom], tables.scale)[:, None, :, None, None]
        along = tensor(cols.distance[:, left:right], tables.scale)[:, None, None, :, None]
        hidden = self.first_on_grid(tuple(part[box] for part in tables.first), down, along)
        # Slots outside, LR pixels inside: scale and shift then meet long runs of memory.
        scale, shift = (table[box].flatten(0, 2).transpose(0, 1).contiguous() for table in tables[1:])
        hidden = self._hidden(
            hidden.view(-1, scale.shape[1], hidden.shape[-1]), scale.unbind(), shift.unbind()
        )
        return self.imnet.linears[-1].weight @ hidden.flatten(0, 1).t()

    def _add(self, out: Tensor, colours: Tensor, rows: Slots, cols: Slots, piece: Piece, grid: Grid) -> None:
        """Add a piece's colours, weighted, to the HR pixels (3, B, H, W) that it serves."""
        batch, across = out.shape[1], piece.right - piece.left
        pixels = (piece.bottom - piece.top) * across
        slots_across = len(cols.distance)
        lower = torch.arange(batch, device=out.device)[:, None, None] * pixels
        for v, ys in enumerate(rows.served(piece.top, piece.bottom)):
            below = (
                rows.slot[v, ys] * (slots_across * batch * pixels) + (rows.pixel[v, ys] - piece.top) * across
            )
            for u, xs in enumerate(cols.served(piece.left, piece.right)):
                beside = cols.slot[u, xs] * (batch * pixels) + (cols.pixel[u, xs] - piece.left)
                at = tensor(below, out)[:, None] + tensor(beside, out) + lower
                part = colours.index_select(1, at.flatten()).view(3, *at.shape)
                if self.local_ensemble:
                    weights = ensemble_weights(Grid(_part(grid.rows, ys), _part(grid.cols, xs)), out)
                    part = part * weights[2 * v + u]
                out[:, :, ys, xs] += part


class OffsetModulated(Modulated):
    """A render MLP that reads cat[code, offset] and, where `cell_decode`, the cell (LM-LIIF, LM-CiaoSR)."""

    cell_decode: bool

    def tables(self, prepared: LatentField) -> Tables:
        """First activations are relu(U + d_y V_y + d_x V_x): `first` is (U, V_y, V_x)."""
        code, columns = prepared.code, prepared.code.shape[-1]
        weight = self.imnet.linears[0].weight
        constant = F.linear(code, weight[:, :columns])
        if self.cell_decode:
            cell = F.linear(prepared.frame.rel_cell, weight[:, columns + 2 :])
            constant = constant + cell[:, None, None]
        scale, shift = self.modulation(prepared.latent)
        now = scale[..., 0, :]
        first = (
            torch.addcmul(shift[..., 0, :], now, constant),
            now * weight[:, columns],
            now * weight[:, columns + 1],
        )
        return Tables(first, scale[..., 1:, :], shift[..., 1:, :])

    def first_at(self, first: tuple[Tensor, ...], distance: Tensor) -> Tensor:
        constant, down, right = first
        return (constant + down * distance[..., :1] + right * distance[..., 1:]).relu_()

    def first_on_grid(self, first: tuple[Tensor, ...], down: Tensor, right: Tensor) -> Tensor:
        rows, cols = first[0] + down * first[1], right * first[2]
        return (rows[:, None] + cols).relu_()


def _in_box(sample: Sample, frame: Frame) -> Tensor:
    """Flat index into the frame's box of samples counted in the whole image."""
    if frame.box.size == frame.size:
        return sample.index
    width, box = frame.size.w, frame.box
    row, column = sample.index.div(width, rounding_mode="floor") - box.top, sample.index % width - box.left
    return row * box.size.w + column
