"""LIIF: an MLP that answers from a feature, the offset from it and the cell, mixed over four neighbours.

Chen et al., "Learning Continuous Image Representation with Local Implicit Image Function", CVPR 2021,
https://arxiv.org/abs/2012.09161. Written from the paper; keys of the authors' release.

The first layer is linear in what is concatenated, so its part for the unfolded features is a 3x3 convolution
that runs before the features are gathered; those for offset and cell are added. The weights of the ensemble sum
to one, so the last layer runs once, on the mixed activations. Both are exact up to the order of summation.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from srcli.geometry import Axis
from srcli.models.layers import (
    MLP,
    ensemble_weights,
    gather,
    last_linear,
    linear,
    mixed,
    row_chunks,
    sample_nearest,
    sample_neighbours,
    tensor,
    unfolded_conv,
)
from srcli.models.sr import Decoder, Frame, Grid


class LIIFField(NamedTuple):
    """The first layer at every LR pixel with the cell's part and the bias, without the offset's part."""

    first: Tensor  # (B, width, h, w), channels_last
    frame: Frame


class LIIF(Decoder):
    """Colour = sum_v w_v MLP(cat[feature_v, d_v, c']), v the four neighbours; 346,883 parameters by default."""

    title = "LIIF"

    def __init__(
        self,
        *,
        in_dim: int,  # channels of the features
        hidden: tuple[int, ...] = (256, 256, 256, 256),  # widths of the MLP
        local_ensemble: bool = True,  # mix four neighbours; otherwise the nearest pixel answers alone
        feat_unfold: bool = True,  # a feature is its 3x3 neighbourhood
        cell_decode: bool = True,  # the MLP is told the size of an HR pixel
    ) -> None:
        super().__init__()
        self.local_ensemble, self.feat_unfold, self.cell_decode = local_ensemble, feat_unfold, cell_decode
        self.halo = local_ensemble + feat_unfold
        self.feat_dim = in_dim * 9 if feat_unfold else in_dim
        self.imnet = MLP(self.feat_dim + 2 + 2 * cell_decode, hidden, 3)

    def prepare(self, feat: Tensor, lr: Tensor, frame: Frame) -> LIIFField:
        layer = self.imnet.linears[0]
        weight = layer.weight[:, : self.feat_dim]
        if self.feat_unfold:
            first = unfolded_conv(feat, weight, layer.bias)
        else:
            bias = layer.bias.to(feat.dtype)
            feat = feat.contiguous(memory_format=torch.channels_last)
            first = F.conv2d(feat, weight[:, :, None, None].to(feat.dtype), bias)
        if self.cell_decode:
            first = first + F.linear(frame.rel_cell, layer.weight[:, -2:])[:, :, None, None].to(first.dtype)
        return LIIFField(first, frame)

    def query(self, prepared: LIIFField, coord: Tensor) -> Tensor:
        first, frame = prepared
        if self.local_ensemble:
            samples, weights = sample_neighbours(coord, frame.size)
        else:
            samples, weights = [sample_nearest(coord, frame.size)], coord.new_ones(*coord.shape[:2], 1)
        index = torch.stack([sample.index for sample in samples], dim=1)  # (B, V, Q)
        offset = F.linear(torch.stack([sample.distance for sample in samples], dim=1), self._offset)
        at = gather(first, index.flatten(1)).reshape(offset.shape)
        hidden = self._trunk((at + offset.to(at.dtype)).relu_())
        answer = (hidden * weights.transpose(1, 2).unsqueeze(-1)).sum(1)
        return last_linear(self.imnet.linears[-1], answer)

    def render(self, prepared: LIIFField, grid: Grid) -> Tensor:
        first = prepared.first.permute(0, 2, 3, 1)
        index_y, down = self._tables(grid.rows, first, self._offset[:, 0])
        index_x, right = self._tables(grid.cols, first, self._offset[:, 1])
        weights = ensemble_weights(grid, first) if self.local_ensemble else first.new_ones(1, *grid.size)
        (height, width), batch = grid.size, first.shape[0]
        out = torch.empty(batch, height, width, 3, device=first.device)
        for rows in row_chunks(height, batch * width, first.device):
            lines = (
                first.index_select(1, iy[rows]) + dy[rows, None] for iy, dy in zip(index_y, down, strict=True)
            )
            hidden = (
                self._trunk(line.index_select(2, ix).add_(dx).relu_())
                for line in lines
                for ix, dx in zip(index_x, right, strict=True)
            )
            out[:, rows] = last_linear(self.imnet.linears[-1], mixed(hidden, weights[:, rows]))
        return out.permute(0, 3, 1, 2)

    @property
    def _offset(self) -> Tensor:
        """The first layer's columns (width, 2) for the offset (y, x)."""
        return self.imnet.linears[0].weight[:, self.feat_dim : self.feat_dim + 2]

    def _trunk(self, hidden: Tensor) -> Tensor:
        for layer in self.imnet.linears[1:-1]:
            hidden = linear(layer, hidden, relu=True)
        return hidden

    def _tables(self, axis: Axis, like: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Per neighbour and pixel of an axis: LR index (V, n), the first layer's part for the offset (V, n, width)."""
        index, distance = axis.neighbours() if self.local_ensemble else axis.nearest()
        ensemble = 2 if self.local_ensemble else 1
        part = tensor(distance, like).reshape(ensemble, -1, 1) * weight
        return tensor(index, like).reshape(ensemble, -1), part.to(like.dtype)
