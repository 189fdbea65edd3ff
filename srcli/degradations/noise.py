"""Sensor noise: Gaussian, and Poisson noise that depends on the picture's own values."""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from srcli.degradations import LUMA
from srcli.degradations.counter import bits, normal

_ONE = 1 << 32


@dataclass(frozen=True)
class Noise:
    """Noise as numbers."""

    kind: str  # gaussian or poisson
    strength: float  # standard deviation in levels of 255, or what Poisson noise is multiplied by
    gray: bool  # the same in all three channels
    key: int  # which noise


def with_noise(picture: Tensor, noise: Noise) -> Tensor:
    """A picture (1, 3, h, w) in [0, 1] with noise, clipped to [0, 1]."""
    added = _gaussian(picture, noise) if noise.kind == "gaussian" else _poisson(picture, noise)
    return (picture + added).clamp(0, 1)


def _gaussian(picture: Tensor, noise: Noise) -> Tensor:
    _, channels, h, w = picture.shape
    key = torch.tensor([noise.key], device=picture.device)
    drawn = normal(key, (1 if noise.gray else channels) * h * w)
    return drawn.reshape(1, -1, h, w) * (noise.strength / 255)


def _poisson(picture: Tensor, noise: Noise) -> Tensor:
    """The difference that counting photons makes; the fewer values a picture has, the fewer photons there are."""
    if noise.gray:
        picture = (picture * picture.new_tensor(LUMA).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)
    levels = (picture.clamp(0, 1) * 255).round().long()
    brightest = 2 ** math.ceil(math.log2(levels.unique().numel()))  # photons of a white pixel
    key = torch.tensor([noise.key], device=picture.device)
    drawn = bits(key, levels.numel()).reshape(levels.shape)
    table = _counts(brightest, picture.device)
    # All 256 distributions lie one behind the other, so that one search serves every pixel.
    place = torch.searchsorted(table.flatten(), (levels * _ONE + drawn).contiguous(), right=True)
    count = place - levels * table.shape[1]
    return (count.to(picture.dtype) / brightest - levels.to(picture.dtype) / 255) * noise.strength


@lru_cache(maxsize=32)
def _counts(brightest: int, device: torch.device) -> Tensor:
    """Cumulative Poisson probabilities (256, counts) of the levels, in parts of 2^32, each plus its level * 2^32."""
    rate = torch.arange(256, dtype=torch.float64)[:, None] * brightest / 255
    count = torch.arange(brightest + math.ceil(8 * math.sqrt(brightest)) + 20, dtype=torch.float64)
    single = torch.exp(torch.xlogy(count, rate) - rate - torch.lgamma(count + 1))
    parts = (single.cumsum(1) * _ONE).long().clamp(max=_ONE)
    return (torch.arange(256)[:, None] * _ONE + parts).to(device)
