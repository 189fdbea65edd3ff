"""LINF: a distribution over the detail around a pixel, as a flow whose condition is read from the features.

Yao et al., "Local Implicit Normalizing Flow for Arbitrary-Scale Image Super-Resolution", CVPR 2023,
https://arxiv.org/abs/2303.05156. Written from the paper; keys of the authors' release. Frequencies and amplitudes
are those of LTE+; the four neighbours of the ensemble are concatenated, weighted, before the MLP, which so runs once
per patch. The variable of the flow is what a patch of n x n output pixels has beyond the bilinear image.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from srcli.geometry import Axis
from srcli.models.decoders.lte import Waves
from srcli.models.flow import Flow, Inverse
from srcli.models.layers import (
    bilinear_at,
    bilinear_grid,
    ensemble_weights,
    last_linear,
    linear,
    no_autocast,
    pixels_around,
    pointwise,
    row_chunks,
    tensor,
)
from srcli.models.sr import Frame, GenerativeDecoder, Grid

Ensemble = Literal["fourier", "fourier-unweighted", "local", "local-condition"]
Protocol = Literal["extrapolated", "official"]


class WeightedCondition(NamedTuple):
    """The condition of a flow, (.., channels), and the share (.., 1) that its output has; 1.0 for a single one."""

    condition: Tensor
    share: Tensor | float


class LINFField(NamedTuple):
    """What each neighbour makes waves of, the flow backwards, and the image."""

    waves: Waves
    inverse: Inverse
    lr: Tensor  # (B, 3, h, w)
    frame: Frame


class LINF(GenerativeDecoder):
    """Residuals of patches by a flow; 705,216 parameters for single pixels, 836,760 for 3x3.

    `ensemble`: "fourier" concatenates the neighbours, each multiplied by its weight; "fourier-unweighted" leaves the
    weights out; "local" is the paper's local ensemble (eq. 8): a flow for each neighbour, all from the same noise, and
    the weighted mean of the four outputs; "local-condition" takes the mean of the four conditions before one flow.
    `protocol`: where a patch looks whose middle pixel lies beyond the output, at the bottom or the right of sizes that
    are one more than a multiple of three: "extrapolated" continues the grid; "official" sends it to the centre of the
    image, as the authors' zero padding of coordinates does.
    """

    title = "LINF"
    halo = 2  # one for the convolutions, one for the neighbours

    def __init__(
        self,
        *,
        in_dim: int,
        patch: int = 1,  # side of a patch, 1 or 3
        hidden_dim: int = 256,
        hidden: tuple[int, ...] = (256, 256, 256),
        flow_layers: int = 10,
        ensemble: Ensemble = "fourier",
        protocol: Protocol = "extrapolated",
    ) -> None:
        super().__init__()
        if patch not in (1, 3):
            raise ValueError(f"patch is 1 or 3, got {patch}")
        self.patch = patch
        self.ensemble = ensemble
        self.official_border = protocol == "official" and patch > 1
        self.local = not self.official_border
        self.imnet = Flow(self.noise_channels, flow_layers)
        self.coef = nn.Conv2d(in_dim, hidden_dim, 3, padding=1)
        self.freq = nn.Conv2d(in_dim, hidden_dim, 3, padding=1)
        self.phase = nn.Linear(2, hidden_dim // 2, bias=False)
        seen = hidden_dim if ensemble.startswith("local") else 4 * hidden_dim
        self.layers = pointwise(seen, hidden, self.imnet.condition_dim)

    def prepare(self, feat: Tensor, lr: Tensor, frame: Frame) -> LINFField:
        with no_autocast(feat):
            inverse = self.imnet.inverted()
        return LINFField(Waves.of(self, feat, frame), inverse, lr, frame)

    def query(self, prepared: LINFField, coord: Tensor) -> Tensor:
        residual = self._mean(prepared, self.conditions(prepared, coord))
        middle = residual.unflatten(-1, (3, -1))[..., self.patch * self.patch // 2]
        return middle + bilinear_at(prepared.lr, coord)

    def sample(self, prepared: LINFField, coord: Tensor, noise: Tensor | None = None) -> Tensor:
        given = self.conditions(prepared, coord)
        residual = self._mean(prepared, given)
        if noise is not None:
            residual = residual + self._direction(prepared, given, noise)
        return residual + self._skip(prepared, coord)[0]

    def log_density(self, prepared: LINFField, coord: Tensor, hr: Tensor) -> Tensor:
        """Beyond the image a residual is zero, as in the authors' training."""
        skip, inside = self._skip(prepared, coord)
        residual = torch.where(inside, hr - skip, 0)
        given = self.conditions(prepared, coord)
        if len(given) == 1:
            return self.imnet(residual, given[0].condition)[1]
        # The mean of flows that are affine in the noise is affine, too: x = mean + matrix z.
        unit = torch.eye(self.imnet.dim, device=residual.device)
        each = [
            WeightedCondition(condition.unsqueeze(-2), torch.as_tensor(share).unsqueeze(-2))
            for condition, share in given
        ]
        matrix = self._direction(prepared, each, unit).transpose(-1, -2)
        away = residual - self._mean(prepared, given)
        z = torch.linalg.solve(matrix, away.unsqueeze(-1)).squeeze(-1)
        return -0.5 * (z.square() + math.log(2 * math.pi)).sum(-1) - torch.linalg.slogdet(matrix).logabsdet

    def _mean(self, prepared: LINFField, given: Sequence[WeightedCondition]) -> Tensor:
        return _shared(given, partial(self.imnet.mean, prepared.inverse))

    def _direction(self, prepared: LINFField, given: Sequence[WeightedCondition], noise: Tensor) -> Tensor:
        return _shared(given, lambda condition: self.imnet.direction(prepared.inverse, condition, noise))

    def conditions(self, prepared: LINFField, coord: Tensor) -> list[WeightedCondition]:
        """What the flows of patches around coord (B, Q, 2) are given; (B, Q, channels) each."""
        waves, weights = prepared.waves.at(coord, prepared.frame.size)
        return self._from_waves(waves.transpose(1, 2), weights.transpose(1, 2))

    def render(self, prepared: LINFField, grid: Grid) -> Tensor:
        return self._render(prepared, grid, None)[0] + bilinear_grid(prepared.lr, grid)

    def render_affine(self, prepared: LINFField, grid: Grid, noise: Tensor) -> tuple[Tensor, Tensor]:
        mean, direction = self._render(prepared, grid, noise)
        return mean + bilinear_grid(prepared.lr, grid), direction

    def _render(self, prepared: LINFField, grid: Grid, noise: Tensor | None) -> list[Tensor]:
        """Residuals at temperature 0 and, with noise, their direction; (B, 3, H, W) each.

        1-D tables per row and column of patches, in chunks of whole rows.
        """
        patches = grid.patches(self.patch)
        (height, width), batch, device = patches.size, len(prepared.lr), prepared.lr.device
        shape = (batch, height, width, self.imnet.dim)
        out = [torch.empty(shape, device=device) for _ in range(1 if noise is None else 2)]
        elsewhere = self._elsewhere(prepared, patches)
        waves, weights = prepared.waves.on_grid(patches), ensemble_weights(patches, prepared.lr)
        weights = weights.movedim(0, -1).unsqueeze(-1)
        for rows in row_chunks(height, 4 * batch * width, device):
            share = weights[rows]
            if torch.is_grad_enabled():
                terms = torch.stack([*waves(rows)], dim=-2)
            else:
                terms = prepared.waves.coef.new_empty(batch, len(share), width, 4, self.coef.out_channels)
                for _ in waves(rows, terms):
                    pass
            given = self._from_waves(terms, share)
            if elsewhere is not None:
                lost, instead = elsewhere
                given = [_where(lost[rows], *pair) for pair in zip(instead, given, strict=True)]
            out[0][:, rows] = self._mean(prepared, given)
            if noise is not None:
                out[1][:, rows] = self._direction(prepared, given, noise[:, :, rows].permute(0, 2, 3, 1))
        top, left = grid.rows.start % self.patch, grid.cols.start % self.patch
        seen = (..., slice(top, top + grid.size.h), slice(left, left + grid.size.w))
        return [unfolded(part, self.patch)[seen] for part in out]

    def _from_waves(self, terms: Tensor, weights: Tensor) -> list[WeightedCondition]:
        """What the flows are given, from what each neighbour contributes, (.., 4, 2K), and its weight (.., 4, 1)."""
        shares = weights
        weights = weights.to(terms.dtype)
        *inner, last = (layer for layer in self.layers if isinstance(layer, nn.Conv2d))

        def trunk(hidden: Tensor) -> Tensor:
            for layer in inner:
                hidden = linear(layer, hidden, relu=True)
            return hidden

        if self.ensemble == "local":
            each = last_linear(last, trunk(terms)).unbind(-2)
            return [WeightedCondition(*pair) for pair in zip(each, shares.float().unbind(-2), strict=True)]
        if self.ensemble == "local-condition":  # weights sum to one: the last layer may follow the mean
            return [WeightedCondition(last_linear(last, (weights * trunk(terms)).sum(-2)), 1.0)]
        if self.ensemble == "fourier":
            terms = terms.mul_(weights)
        return [WeightedCondition(_channel_major(last, trunk(terms.flatten(-2))), 1.0)]

    def _skip(self, prepared: LINFField, coord: Tensor) -> tuple[Tensor, Tensor]:
        """The bilinear image at the patches around coord (B, Q, 2), and whether their pixels lie inside it."""
        at = pixels_around(coord, prepared.frame.cell, self.patch)
        colours = bilinear_at(prepared.lr, at.flatten(1, 2)).unflatten(1, at.shape[1:3])
        inside = (at.abs() < 1).all(-1)
        return colours.transpose(-1, -2).flatten(-2), inside.repeat(1, 1, 3)

    def _elsewhere(self, prepared: LINFField, patches: Grid) -> tuple[Tensor, list[WeightedCondition]] | None:
        """Which patches (rows, columns, 1) the authors send to the centre of the image, and what is given there."""
        down, right = (tensor(self._beyond(axis), prepared.lr) for axis in (patches.rows, patches.cols))
        if not self.official_border or not bool(down.any() or right.any()):
            return None
        centre = prepared.lr.new_zeros(len(prepared.lr), 1, 2)
        there = self.conditions(prepared, centre)
        given = [
            WeightedCondition(c.unsqueeze(1), s if isinstance(s, float) else s.unsqueeze(1)) for c, s in there
        ]
        return (down[:, None] | right).unsqueeze(-1), given

    def _beyond(self, patches: Axis) -> NDArray[np.bool_]:
        """Whether the middle pixel of each patch lies beyond the end of the axis."""
        return np.arange(patches.start, patches.stop) * self.patch + self.patch // 2 >= patches.hr


def _shared(given: Sequence[WeightedCondition], flow: Callable[[Tensor], Tensor]) -> Tensor:
    """The output of the flow that is given something, or the mean of several."""
    if len(given) == 1:
        return flow(given[0].condition)
    return torch.stack([share * flow(condition) for condition, share in given]).sum(0)


def _channel_major(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """`last_linear`, with the same bits; channel after channel in a CPU's memory, which is how the flow takes it."""
    rows, fast = x.float().flatten(0, -2), x.device.type == "cpu" and torch.backends.mkldnn.is_available()
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or not fast or len(rows) == 1:
        return last_linear(layer, x)
    out = torch.ops.mkldnn._linear_pointwise(layer.weight.flatten(1), rows, None, "none", [], "")
    assert layer.bias is not None
    return out.add_(layer.bias.unsqueeze(-1)).T.unflatten(0, x.shape[:-1])


def _where(lost: Tensor, instead: WeightedCondition, given: WeightedCondition) -> WeightedCondition:
    """`instead` where `lost` (rows, columns, 1)."""
    share = given.share
    if isinstance(share, Tensor):
        share = torch.where(lost, torch.as_tensor(instead.share), share)
    return WeightedCondition(torch.where(lost, instead.condition, given.condition), share)


def unfolded(patches: Tensor, side: int) -> Tensor:
    """Pixels (B, 3, rows * side, columns * side) from patches (B, rows, columns, 3 * side^2) side by side."""
    pixels = patches.unflatten(-1, (3, side, side)).permute(0, 3, 1, 4, 2, 5)
    return pixels.flatten(4, 5).flatten(2, 3)
