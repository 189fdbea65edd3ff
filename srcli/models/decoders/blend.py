"""Blend: a one-pass decoder that blends its neighbours before the network instead of after it. Ours.

LIIF runs its MLP four times per query, once for each neighbour, and mixes colours. Here the first layer is
evaluated for the four neighbours (a gather and two additions each, since it is linear in feature, offset and cell),
its activations are mixed bilinearly, and the rest of the MLP runs once. The mix is continuous in the coordinate,
as LIIF's local ensemble is.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from srcli.models.layers import (
    MLP,
    bilinear_at,
    bilinear_grid,
    conv,
    ensemble_weights,
    gather,
    last_linear,
    linear,
    mixed,
    row_chunks,
    sample_neighbours,
    tensor,
)
from srcli.models.sr import Decoder, Frame, Grid


class BlendField(NamedTuple):
    """The first layer at every LR pixel, with the cell's part added, and the image for the skip."""

    first: Tensor  # (B, width, h, w)
    lr: Tensor  # (B, 3, h, w)
    frame: Frame


class Blend(Decoder):
    """Colour = MLP(sum_v w_v relu(P_v + W d_v + C c')) + bilinear skip, v the four neighbours."""

    halo = 2  # one for the convolution, one for the neighbours

    def __init__(self, *, in_dim: int, width: int = 64, hidden: tuple[int, ...] = (64, 64)) -> None:
        super().__init__()
        self.project = nn.Conv2d(in_dim, width, 3, padding=1)
        self.offset = nn.Linear(2, width, bias=False)  # per LR pixel of offset, (y, x)
        self.cell = nn.Linear(2, width, bias=False)  # of the cell in LR pixels
        self.mlp = MLP(width, hidden, 3)

    def prepare(self, feat: Tensor, lr: Tensor, frame: Frame) -> BlendField:
        first = conv(self.project, feat)
        return BlendField(first + self.cell(frame.rel_cell / 2)[:, :, None, None].to(first.dtype), lr, frame)

    def query(self, prepared: BlendField, coord: Tensor) -> Tensor:
        samples, weights = sample_neighbours(coord, prepared.frame.size)
        index = torch.cat([sample.index for sample in samples], dim=1)
        offset = self.offset(torch.stack([sample.distance for sample in samples], dim=1) / 2)
        first = gather(prepared.first, index).reshape(offset.shape)  # (B, 4, Q, width)
        mix = weights.transpose(1, 2).unsqueeze(-1).to(first.dtype)
        hidden = ((first + offset.to(first.dtype)).relu() * mix).sum(1)
        return self._colour(hidden) + bilinear_at(prepared.lr, coord)

    def render(self, prepared: BlendField, grid: Grid) -> Tensor:
        first, lr, _ = prepared
        columns = first.permute(0, 2, 3, 1)  # pixel-major: a row of channels per LR pixel
        (iy, dy), (ix, dx) = grid.rows.neighbours(), grid.cols.neighbours()
        index_y, index_x = tensor(iy, first), tensor(ix, first)
        down = self.offset.weight[:, 0] * (tensor(dy, lr) / 2)[..., None]  # (2, H, width)
        right = self.offset.weight[:, 1] * (tensor(dx, lr) / 2)[..., None]  # (2, W, width)
        down, right = down.to(first.dtype), right.to(first.dtype)
        weights = ensemble_weights(grid, lr).to(first.dtype)
        (height, width), batch = grid.size, len(lr)
        out = torch.empty(batch, height, width, 3, device=lr.device)
        for rows in row_chunks(height, batch * width // 2, lr.device):
            lines = (columns.index_select(1, index_y[v, rows]) + down[v, rows, None] for v in (0, 1))
            hidden = (
                line.index_select(2, index_x[u]).add_(right[u]).relu_() for line in lines for u in (0, 1)
            )
            out[:, rows] = self._colour(mixed(hidden, weights[:, rows]))
        return out.permute(0, 3, 1, 2) + bilinear_grid(lr, grid)

    def _colour(self, hidden: Tensor) -> Tensor:
        """Mixed activations (..., width) through the rest of the MLP."""
        *inner, last = self.mlp.linears
        for layer in inner:
            hidden = linear(layer, hidden, relu=True)
        return last_linear(last, hidden)
