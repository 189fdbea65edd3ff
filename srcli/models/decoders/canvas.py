"""The decoder of models whose generator samples the output itself: there is nothing left to decode."""

from torch import Tensor

from srcli.models.layers import bilinear_at, bilinear_grid
from srcli.models.sr import Decoder, Frame, Grid


class Canvas(Decoder):
    """Colours of the LR image, bilinear: what is there before anything is sampled."""

    halo = 1

    def __init__(self, *, in_dim: int) -> None:
        super().__init__()
        self.in_dim = in_dim

    def prepare(self, feat: Tensor, lr: Tensor, frame: Frame) -> Tensor:
        return lr

    def query(self, prepared: Tensor, coord: Tensor) -> Tensor:
        return bilinear_at(prepared, coord)

    def render(self, prepared: Tensor, grid: Grid) -> Tensor:
        return bilinear_grid(prepared, grid)
