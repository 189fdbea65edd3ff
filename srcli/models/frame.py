"""Where the tensor at hand sits in the whole LR image, and how large an output pixel is."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from srcli.geometry import Box, Size


@dataclass(frozen=True)
class Frame:
    """Where the tensor at hand sits in the whole LR image, and how large an output pixel is."""

    size: Size  # size of the whole LR image (after window padding, if any)
    box: Box  # the part of it that is present
    # (B, 2) or (1, 2) float32, the size (y, x) of one output pixel in [-1, 1] units, after any cell clip
    cell: Tensor
    # size of the whole output, where there is one grid; None for scattered queries
    target: Size | None = None
    # for a cascade in training, the sizes that its stages before the last reach; None: by the scale
    stages: tuple[Size, ...] | None = None

    @staticmethod
    def whole(lr: Tensor, cell: Tensor, target: Size | None = None) -> Frame:
        """The frame of an untiled image `lr` (B, C, h, w)."""
        h, w = lr.shape[-2:]
        return Frame(Size(h, w), Box(0, 0, h, w), cell, target)

    @staticmethod
    def of_grid(lr: Tensor, target: Size, *, cell_clip: float | None = None) -> Frame:
        """The frame of an untiled image `lr` rendered to `target`; see `pixel_cell` for `cell_clip`."""
        h, w = lr.shape[-2:]
        cell = pixel_cell(Size(h, w), target, cell_clip=cell_clip).to(lr.device)
        return Frame.whole(lr, cell, target)

    @property
    def scale(self) -> float:
        """The larger of the two factors between the LR image and its target; 1 without a target."""
        return max(self.target.h / self.size.h, self.target.w / self.size.w) if self.target else 1.0

    @property
    def rel_cell(self) -> Tensor:
        """Cell (B, 2) in units where one LR pixel is 2: `cell * size`."""
        return self.cell * self.cell.new_tensor([self.size.h, self.size.w])


def pixel_cell(lr: Size, target: Size, *, cell_clip: float | None = None) -> Tensor:
    """Cell (1, 2) float32 of one pixel of `target`: 2/H, 2/W.

    `cell_clip`: the largest trained scale; beyond it the cell is multiplied by scale / cell_clip, so that the decoder
    sees the cell of that scale (evaluation of the LTE family).
    """
    cell = torch.tensor([[2 / target.h, 2 / target.w]], dtype=torch.float32)
    if cell_clip is not None:
        factors = [max(target.h / lr.h / cell_clip, 1.0), max(target.w / lr.w / cell_clip, 1.0)]
        cell = cell * torch.tensor([factors], dtype=torch.float32)
    return cell
