"""Latents that need no training: the lowest cosines of every square of pixels, by luma and chroma.

For miniatures of latent diffusion: a small auto-encoder that a CPU trains in an hour loses more of a picture than
restoring it gains, and these 16 numbers for 48 pixel values lose almost nothing of a photograph.
"""

import math
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from srcli.models.sr import Decoder

OPPONENTS = ((1.0, 1.0, 1.0), (1.0, 0.0, -1.0), (1.0, -2.0, 1.0))  # of red, green and blue: luma, two chromas


class LatentDecoder(Decoder):
    """Pictures to latents, and back."""

    local = False
    needs_lr = False
    channels: int
    factor: int  # pixels for each latent along a side

    def encode(self, picture: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] -> scaled latents (B, channels, H / factor, W / factor), the most likely ones."""
        return self.moments(picture)[0]

    def moments(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation of the latents of a picture, each shaped as `encode` says."""
        raise NotImplementedError

    def decode(self, latent: Tensor) -> Tensor:
        """The inverse of `encode`, not clamped."""
        raise NotImplementedError


class Cosines(LatentDecoder):
    """The discrete cosine transform of squares of pixels, of which the highest frequencies are dropped.

    `luma`, `chroma`: how many diagonals of frequencies are kept: n gives n (n + 1) / 2 numbers. `rise`: frequencies i,
    j are multiplied by sqrt(1 + rise (i + j)), so that they are told from noise sooner; with 6 about halfway, in the
    logarithm, to deviations that are alike.
    """

    basis: Tensor
    inverse: Tensor

    def __init__(
        self,
        in_dim: int,
        *,
        side: int = 4,
        luma: int = 4,
        chroma: int = 2,
        rise: float = 6.0,
        scaling: float = 2.0,  # brings the strongest to a deviation of about one
    ) -> None:
        super().__init__()
        waves = []
        for frequency in range(side):
            wave = torch.cos(math.pi * (torch.arange(side) + 0.5) * frequency / side)
            waves.append(wave / wave.norm())
        basis, inverse = [], []
        for colour, kept in zip(OPPONENTS, (luma, chroma, chroma), strict=True):
            direction = torch.tensor(colour) / torch.tensor(colour).norm()
            for i, j in product(range(side), repeat=2):
                if i + j < kept:
                    wave = direction.view(3, 1, 1) * torch.outer(waves[i], waves[j])
                    # Gray as luma: a white square, 1 in three colours and side * side pixels, counts `scaling`.
                    gain = scaling * math.sqrt(1 + rise * (i + j)) / (math.sqrt(3) * side)
                    basis.append(wave * gain)
                    inverse.append(wave / gain)
        self.register_buffer("basis", torch.stack(basis), persistent=False)
        self.register_buffer("inverse", torch.stack(inverse), persistent=False)
        self.channels, self.factor = len(basis), side

    def moments(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        latent = F.conv2d(picture, self.basis.to(picture), stride=self.factor)
        return latent, torch.zeros_like(latent)

    def decode(self, latent: Tensor) -> Tensor:
        return F.conv_transpose2d(latent, self.inverse.to(latent), stride=self.factor)
