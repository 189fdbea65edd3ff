"""The decoder of models whose generator samples the output itself: there is nothing left to decode."""

from typing import NamedTuple

from torch import Tensor

from srcli.models.layers import bilinear_at, bilinear_grid
from srcli.models.sr import Decoder, Frame, Grid


class CanvasField(NamedTuple):
    """The LR image."""

    lr: Tensor


class Canvas(Decoder):
    """Colours of the LR image, bilinear: what is there before anything is sampled."""

    halo = 1

    def __init__(self, *, in_dim: int) -> None:
        super().__init__()
        self.in_dim = in_dim

    def prepare(self, feat: Tensor, lr: Tensor, frame: Frame) -> CanvasField:
        return CanvasField(lr)

    def query(self, prepared: CanvasField, coord: Tensor) -> Tensor:
        return bilinear_at(prepared.lr, coord)

    def render(self, prepared: CanvasField, grid: Grid) -> Tensor:
        return bilinear_grid(prepared.lr, grid)
