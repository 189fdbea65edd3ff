"""A conditional flow that is affine in its variable: linear layers, and between them a scale and a shift given.

Yao et al., "Local Implicit Normalizing Flow for Arbitrary-Scale Image Super-Resolution", CVPR 2023,
https://arxiv.org/abs/2303.05156. Written from the paper; keys of the authors' release. Layer i multiplies by a
learnt matrix, adds a learnt bias, then scales and shifts every entry by what the condition says; one more linear
layer ends it. Nothing in it is nonlinear in the variable, so for a given condition it is a Gaussian with a full
covariance, and a sample is mean + temperature * direction.

Always float32: log-determinants and eleven products in a row deserve their bits.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srcli.models.layers import no_autocast

SMALLEST_SCALE = 1e-4
SCALE_SHIFT = 2.0  # a condition of zero scales by sigmoid(2), so that training starts near no change
GROWTH = 1.5  # of a linear layer at the start: residuals of images are small, noise is not


class Linear(nn.Module):
    """x -> W x + b with a square matrix."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        # A rotation, as in Glow: well conditioned, and every layer scales along other axes. On the meta device, where
        # only shapes are asked for, there is nothing to rotate.
        weight = torch.empty(dim, dim)
        self._weight = nn.Parameter(weight if weight.is_meta else GROWTH * nn.init.orthogonal_(weight))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self._weight, self.bias)


class Inverse(NamedTuple):
    """The linear layers backwards, x -> W x + b each; the last layer is the last here, too."""

    weights: Tensor  # (layers + 1, dim, dim)
    biases: Tensor  # (layers + 1, dim)


class Flow(nn.Module):
    """Data x (..., dim) to noise z (..., dim), given a condition (..., condition_dim)."""

    def __init__(self, dim: int, layers: int = 10) -> None:
        super().__init__()
        self.dim = dim
        self.linears = nn.ModuleList(Linear(dim) for _ in range(layers))
        self.last = Linear(dim)

    @property
    def condition_dim(self) -> int:
        """Channels of a condition: for every layer `dim` raw scales, then `dim` shifts."""
        return 2 * self.dim * len(self.linears)

    def forward(self, x: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """The noise z (..., dim) behind x, and the logarithm (...) of the density of x."""
        with no_autocast(x):
            h = x.float()
            scales, shifts = self._scales_and_shifts(condition)
            for i, layer in enumerate(self.linears):
                h = scales[i] * layer(h) + shifts[i]
            z = self.last(h)
            volume = torch.linalg.slogdet(self._matrices()).logabsdet.sum() + scales.log().sum((0, -1))
            return z, volume - 0.5 * (z.square() + math.log(2 * math.pi)).sum(-1)

    def inverted(self) -> Inverse:
        """All linear layers inverted, once for as many calls of `mean` and `direction` as there are."""
        layers = [*self.linears, self.last]
        # In double on the CPU: no device lacks it, and all give the same bits.
        weights = torch.linalg.inv(self._matrices().cpu().double())
        biases = torch.stack([layer.bias for layer in layers]).cpu().double()
        shifts = -(weights @ biases.unsqueeze(-1)).squeeze(-1)
        device = self.last.bias.device
        return Inverse(weights.float().to(device), shifts.float().to(device))

    def mean(self, inverse: Inverse, condition: Tensor) -> Tensor:
        """The data x (..., dim) behind z = 0."""
        with no_autocast(condition):
            scales, shifts = (part.flatten(1, -2).mT for part in self._scales_and_shifts(condition))
            biases = inverse.biases.unsqueeze(-1)
            h = biases[-1].expand(
                shifts.shape[1:]
            )  # (dim, patches): rows of 27 floats would be too short to be fast
            for i in reversed(range(len(self.linears))):
                h = torch.addmm(biases[i], inverse.weights[i], (h - shifts[i]) / scales[i])
            return h.T.unflatten(0, condition.shape[:-1])

    def direction(self, inverse: Inverse, condition: Tensor, z: Tensor) -> Tensor:
        """How far z (..., dim) leads away from the mean: x(z) = mean + direction."""
        with no_autocast(condition):
            scales, _ = self._scales_and_shifts(condition)
            h = F.linear(z.float(), inverse.weights[-1])
            for i in reversed(range(len(self.linears))):
                h = F.linear(h / scales[i], inverse.weights[i])
            return h

    def _scales_and_shifts(self, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Of each layer: (layers, .., dim)."""
        parts = condition.float().unflatten(-1, (len(self.linears), 2, self.dim))
        scales, shifts = parts.movedim((-2, -3), (0, 1))
        return torch.sigmoid(scales + SCALE_SHIFT) + SMALLEST_SCALE, shifts

    def _matrices(self) -> Tensor:
        layers = [*self.linears, self.last]
        return torch.stack([layer._weight for layer in layers])
