"""Blend: a one-pass decoder that blends its neighbours before the network instead of after it. Ours.

LIIF runs its MLP four times per query, once for each neighbour, and mixes colours. Here the first layer is
evaluated for the four neighbours (a gather and two additions each, since it is linear in feature, offset and cell),
its activations are mixed bilinearly, and the rest of the MLP runs once. The mix is continuous in the coordinate,
as LIIF's local ensemble is.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from srcli.models.layers import (
    MLP,
    bilinear_at,
    bilinear_grid,
    ensemble_weights,
    gather,
    sample_neighbours,
    tensor,
)
from srcli.models.sr import Decoder, Frame, Grid

CHUNK = 8192  # queries at once on a grid: activations of 64 channels stay in the cache


class BlendField(NamedTuple):
    """The first layer at every LR pixel, with the cell's part added, and the image for the skip."""

    first: Tensor  # (B, width, h, w)
    lr: Tensor  # (B, 3, h, w)
    frame: Frame


class Blend(Decoder):
    """Colour = MLP(sum_v w_v relu(P_v + W d_v + C c')) + bilinear skip, v the four neighbours.

    Args:
        in_dim: channels of the features.
        width: channels of the blended hidden layer.
        hidden: widths of the MLP after it.
    """

    halo = 2  # one for the convolution, one for the neighbours

    def __init__(self, *, in_dim: int, width: int = 64, hidden: tuple[int, ...] = (64, 64)) -> None:
        super().__init__()
        self.project = nn.Conv2d(in_dim, width, 3, padding=1)
        self.offset = nn.Linear(2, width, bias=False)  # per LR pixel of offset, (y, x)
        self.cell = nn.Linear(2, width, bias=False)  # of the cell in LR pixels
        self.mlp = MLP(width, hidden, 3)

    def prepare(self, feat: Tensor, lr: Tensor, frame: Frame) -> BlendField:
        """See `Decoder.prepare`."""
        cell = self.cell(frame.rel_cell / 2)
        return BlendField(self.project(feat) + cell[:, :, None, None].to(feat.dtype), lr, frame)

    def query(self, prepared: BlendField, coord: Tensor) -> Tensor:
        """See `Decoder.query`."""
        samples, weights = sample_neighbours(coord, prepared.frame.size)
        index = torch.cat([sample.index for sample in samples], dim=1)
        first = gather(prepared.first, index).unflatten(1, (4, -1))  # (B, 4, Q, width)
        offset = torch.stack([sample.distance for sample in samples], dim=1) / 2
        mix = weights.transpose(1, 2).unsqueeze(-1).to(first.dtype)
        hidden = ((first + self.offset(offset).to(first.dtype)).relu() * mix).sum(1)
        return self.mlp(hidden) + bilinear_at(prepared.lr, coord)

    def render(self, prepared: BlendField, grid: Grid) -> Tensor:
        """See `Decoder.render`; 1-D tables per row and column, in chunks of whole rows."""
        first, lr, _ = prepared
        columns = first.permute(0, 2, 3, 1).contiguous()  # pixel-major: a row of channels per LR pixel
        (iy, dy), (ix, dx) = grid.rows.neighbours(), grid.cols.neighbours()
        index_y, index_x = tensor(iy, first), tensor(ix, first)
        down = self.offset.weight[:, 0] * (tensor(dy, lr) / 2).unsqueeze(-1)  # (2, H, width)
        right = self.offset.weight[:, 1] * (tensor(dx, lr) / 2).unsqueeze(-1)  # (2, W, width)
        weights = ensemble_weights(grid, lr).to(first.dtype)
        height, width = grid.size
        out = lr.new_empty(lr.shape[0], height, width, 3)
        step = max(1, CHUNK // width)
        for top in range(0, height, step):
            rows = slice(top, min(top + step, height))
            hidden = torch.zeros((), dtype=first.dtype, device=first.device)
            for v in (0, 1):
                line = columns[:, index_y[v, rows]]
                for u in (0, 1):
                    at = line[:, :, index_x[u]]
                    at = at.add_(down[v, rows, None, :].to(at.dtype)).add_(right[u].to(at.dtype)).relu_()
                    hidden = hidden + at.mul_(weights[2 * v + u, rows, :, None])
            out[:, rows] = self.mlp(hidden)
        return out.permute(0, 3, 1, 2) + bilinear_grid(lr, grid)
