"""MetaSR as the LIIF family runs it: a small MLP turns the offset into a linear map of the feature.

Hu et al., "Meta-SR: A Magnification-Arbitrary Network for Super-Resolution", CVPR 2019,
https://arxiv.org/abs/1903.00875, in the version of the LIIF authors, who look from the top-left corners of pixels
instead of their centres; keys of their release.

The map predicted for a query is linear in the MLP's 256 activations, and these do not depend on the image. So
feature times map is done once per LR pixel for every activation (one 3x3 convolution to 3 x 257 channels), and a
query is a scalar product with its activations: exact up to the order of summation, and for each query 771
multiplications instead of 444,000.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from srcli.geometry import EPSILON, centres
from srcli.models.layers import MLP, axis_nearest, gather, grouped, row_chunks, tensor, unfolded_conv
from srcli.models.sr import Decoder, Frame, Grid


class MetaSRField(NamedTuple):
    """Feature times predicted map at every LR pixel, for each activation of the MLP and its bias."""

    products: Tensor  # (B, 3 * (width + 1), h, w), channels_last; colour by colour, the bias last
    frame: Frame


class MetaSR(Decoder):
    """Colour = unfold(feature) @ MLP(offset, 1 / vertical scale); 445,120 parameters by default."""

    title = "MetaSR"
    halo = 2  # one for the unfolding; the corner of a pixel may lie one LR pixel up or left of its centre's

    def __init__(self, *, in_dim: int, hidden: int = 256) -> None:
        super().__init__()
        self.feat_dim = in_dim * 9
        self.imnet = MLP(3, (hidden,), self.feat_dim * 3)

    def prepare(self, feat: Tensor, lr: Tensor, frame: Frame) -> MetaSRField:
        layer = self.imnet.linears[1]
        maps = torch.cat([layer.weight, layer.bias[:, None]], dim=1)  # (feat_dim * 3, width + 1)
        kernel = maps.reshape(self.feat_dim, 3, -1).permute(1, 2, 0).flatten(0, 1)
        return MetaSRField(unfolded_conv(feat, kernel), frame)

    def query(self, prepared: MetaSRField, coord: Tensor) -> Tensor:
        products, frame = prepared
        cell, (h, w) = frame.cell.unsqueeze(1), frame.size
        index_y, dy = _corners(coord[..., 0], cell[..., 0], h)
        index_x, dx = _corners(coord[..., 1], cell[..., 1], w)
        weight, bias = self._first
        offset = torch.stack([dy, dx, (cell[..., 0] * (h / 2)).expand_as(dy)], dim=-1)
        hidden = F.linear(offset, weight, bias).relu()
        at = gather(products, index_y * w + index_x).float().reshape(*dy.shape, 3, -1)
        return (at * hidden.unsqueeze(-2)).sum(-1)

    def render(self, prepared: MetaSRField, grid: Grid) -> Tensor:
        """The queries of a row that share an LR pixel share a small matrix product; ValueError for different cells."""
        products, frame = prepared
        cell = frame.one_cell
        weight, bias = self._first
        index_y, dy = _corners(tensor(grid.rows.centres, products), cell[0], frame.size.h)
        index_x, dx = _corners(tensor(grid.cols.centres, products), cell[1], frame.size.w)
        down = dy[:, None] * weight[:, 0] + (cell[0] * (frame.size.h / 2) * weight[:, 2] + bias)
        first, most, place = grouped(index_x)
        right = weight.new_zeros(len(first) * most, len(weight)).index_copy(
            0, place, dx[:, None] * weight[:, 1]
        )
        right = right.reshape(len(first), most, -1)
        batch, (height, width) = len(products), grid.size
        lines = products.permute(0, 2, 3, 1)  # (B, h, w, 3 * (width + 1))
        out = torch.empty(batch, height, width, 3, device=products.device)
        for rows in row_chunks(height, 4 * batch * width, products.device):
            line = lines.index_select(1, index_y[rows] - grid.rows.origin)
            line = line.index_select(2, first - grid.cols.origin).float()
            line = line.reshape(*line.shape[:3], 3, -1)
            hidden = (down[rows, None, None] + right).relu_()
            out[:, rows] = (hidden @ line.transpose(-1, -2)).flatten(2, 3).index_select(2, place)
        return out.permute(0, 3, 1, 2)

    @property
    def _first(self) -> tuple[Tensor, Tensor]:
        """The hidden layer with one more unit that is always 1 and takes the place of the second layer's bias."""
        layer = self.imnet.linears[0]
        return F.pad(layer.weight, (0, 0, 0, 1)), F.pad(layer.bias, (0, 1), value=1.0)


def _corners(p: Tensor, cell: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """LR pixel of the lower corner of HR pixels with centres p (..., n), and the distance from its corner."""
    corner = p - cell / 2
    index = axis_nearest((corner + EPSILON).clamp(-1 + EPSILON, 1 - EPSILON), size)
    return index, (corner - (tensor(centres(size), p)[index] - 1 / size)) * (size / 2)
