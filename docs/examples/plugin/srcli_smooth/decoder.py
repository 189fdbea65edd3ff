"""Colour = MLP(features mixed bilinearly, size of a pixel) + bilinear picture."""

import torch
from torch import Tensor

from srcli.models.layers import MLP, bilinear_at, bilinear_grid
from srcli.models.sr import Decoder, Frame, Grid

Field = tuple[Tensor, Tensor, Tensor]


class SmoothMLP(Decoder):
    """`hidden` are the widths of the MLP; `in_dim`, the channels of the features, comes from the encoder."""

    halo = 1  # LR pixels around the nearest one that an answer depends on

    def __init__(self, *, in_dim: int, hidden: tuple[int, ...] = (48, 48)) -> None:
        super().__init__()
        self.mlp = MLP(in_dim + 2, hidden, 3)

    def prepare(self, feat: Tensor, lr: Tensor, frame: Frame) -> Field:
        return feat.float(), lr, frame.rel_cell

    def query(self, prepared: Field, coord: Tensor) -> Tensor:
        feat, lr, cell = prepared
        return self._colour(bilinear_at(feat, coord), cell[:, None]) + bilinear_at(lr, coord)

    def render(self, prepared: Field, grid: Grid) -> Tensor:
        feat, lr, cell = prepared
        mixed = bilinear_grid(feat, grid).permute(0, 2, 3, 1)
        return self._colour(mixed, cell[:, None, None]).permute(0, 3, 1, 2) + bilinear_grid(lr, grid)

    def _colour(self, mixed: Tensor, cell: Tensor) -> Tensor:
        return self.mlp(torch.cat([mixed, cell.expand(*mixed.shape[:-1], 2)], dim=-1)).float()


DECODERS = {"smooth-mlp": SmoothMLP}  # for `srcli --plugin decoder.py`; an installed package does without
