"""An encoder of one convolution, a robust loss, and the mean absolute error."""

import numpy as np
from torch import Tensor, nn

from srcli.data.samples import Batch
from srcli.metrics import Metric, Scene
from srcli.models.sr import Encoder, ImplicitSR


class OneConv(Encoder):
    """`width` features of 5x5 pixels each."""

    halo = 2  # LR pixels around a tile with which its features equal the picture's

    def __init__(self, *, width: int = 16) -> None:
        super().__init__()
        self.out_dim = width
        self.conv = nn.Conv2d(3, width, 5, padding=2)

    def forward(self, lr: Tensor) -> Tensor:
        return self.conv(lr).relu()


def charbonnier(epsilon: float = 1e-3) -> tuple:
    """Mean of sqrt(error^2 + epsilon^2); arguments are settings of [objective] in a recipe."""

    def loss(network: ImplicitSR, batch: Batch) -> Tensor:
        error = network(batch.lr, batch.coord, batch.cell, batch.stages).float() - batch.hr
        return (error.square() + epsilon**2).sqrt().mean()

    return (loss,)


def mean_error(scene: Scene) -> float:
    """Mean absolute difference of result and truth, float arrays (H, W, 3) in [0, 1], in levels of 8 bits."""
    return 255 * float(np.abs(scene.sr - scene.hr).mean())


MAE = Metric(
    "mae", mean_error, "levels", higher_is_better=False, about="mean absolute error, RGB", decimals=3
)
