"""LTE and LTE+: local decoders that predict the dominant frequencies around a pixel.

Lee and Jin, "Local Texture Estimator for Implicit Representation Function", CVPR 2022,
https://arxiv.org/abs/2111.08918. Written from the paper; keys of the authors' release. LTE reads frequencies
for the vertical and horizontal offset from interleaved channels, LTE+ from halves, and its MLP is made of 1x1
convolutions; weights do not move between the two.

The angle is linear in the offset: its vertical part is computed once per HR row and LR column. The weights of the
ensemble sum to one, so the last layer runs once, on the mixed activations. Angles are always float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import ClassVar, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srcli.geometry import Size
from srcli.models.layers import (
    MLP,
    bilinear_at,
    bilinear_grid,
    conv,
    ensemble_weights,
    gather,
    last_linear,
    linear,
    mixed,
    no_autocast,
    pointwise,
    row_chunks,
    sample_neighbours,
    tensor,
)
from srcli.models.sr import Decoder, Frame, Grid


class Waves(NamedTuple):
    """Amplitudes and frequencies at every LR pixel, and the cell's phase, of which each neighbour makes waves."""

    coef: Tensor  # (B, 2K, h, w), channels_last
    freq: Tensor  # (B, 2K, h, w), channels_last, float32, times pi: vertical, then horizontal
    phase: Tensor  # (B, K), float32, times pi

    @staticmethod
    def of(decoder: HasWaves, feat: Tensor, frame: Frame, *, interleaved: bool = False) -> Waves:
        """Of features (B, C, h, w); channels of frequencies are interleaved, or vertical ones come first."""
        weight, bias = decoder.freq.weight, decoder.freq.bias
        assert bias is not None
        if interleaved:
            order = torch.arange(len(bias), device=feat.device).reshape(-1, 2).T.flatten()
            weight, bias = weight[order], bias[order]
        with no_autocast(feat):
            wide = feat.float().contiguous(memory_format=torch.channels_last)
            freq = F.conv2d(wide, weight.float() * math.pi, bias.float() * math.pi, padding=1)
            phase = F.linear(frame.rel_cell, decoder.phase.weight.float()) * math.pi
        return Waves(conv(decoder.coef, feat), freq, phase)

    def at(self, coord: Tensor, size: Size) -> tuple[Tensor, Tensor]:
        """Waves (B, 4, Q, 2K) of the neighbours of coord (B, Q, 2), and their weights (B, 4, Q, 1)."""
        samples, weights = sample_neighbours(coord, size)
        index = torch.cat([sample.index for sample in samples], dim=1)
        offset = torch.cat([sample.distance for sample in samples], dim=1)
        vertical, horizontal = gather(self.freq, index).chunk(2, dim=-1)
        angle = vertical * offset[..., :1] + horizontal * offset[..., 1:] + self.phase.unsqueeze(1)
        waves = gather(self.coef, index) * _wave(angle, self.coef.dtype)
        return waves.unflatten(1, (4, -1)), weights.transpose(1, 2).unsqueeze(-1)

    def on_grid(self, grid: Grid) -> Callable[..., Iterator[Tensor]]:
        """Gives, for some rows of a rectangle, the waves (B, rows, W, 2K) of each of the four neighbours.

        Without gradients they are written into a second argument (B, rows, W, 4, 2K) if there is one.
        """
        coef, freq = self.coef.permute(0, 2, 3, 1), self.freq.permute(0, 2, 3, 1)
        (iy, dy), (ix, dx) = grid.rows.neighbours(), grid.cols.neighbours()
        index_y, down = tensor(iy, freq), tensor(dy, freq)[..., None, None]
        index_x, right = tensor(ix, freq), tensor(dx, freq)[..., None]

        def waves(rows: slice, into: Tensor | None = None) -> Iterator[Tensor]:
            for v in (0, 1):
                line = coef.index_select(1, index_y[v, rows])
                vertical, across = freq.index_select(1, index_y[v, rows]).chunk(2, dim=-1)
                along = torch.cat([vertical * down[v, rows] + self.phase[:, None, None], across], dim=-1)
                for u in (0, 1):
                    start, slope = along.index_select(2, index_x[u]).chunk(2, dim=-1)
                    angle = torch.addcmul(start, slope, right[u])
                    wave = line.index_select(2, index_x[u])
                    if torch.is_grad_enabled():
                        yield wave * _wave(angle, coef.dtype)
                        continue
                    out, k = wave if into is None else into[..., 2 * v + u, :], angle.shape[-1]
                    torch.mul(wave[..., :k], angle.cos(), out=out[..., :k])
                    torch.mul(wave[..., k:], angle.sin_(), out=out[..., k:])
                    yield out

        return waves


class HasWaves(Protocol):
    """The layers that `Waves` are made by."""

    coef: nn.Conv2d
    freq: nn.Conv2d
    phase: nn.Linear


class LTEField(NamedTuple):
    """What each neighbour makes waves of, and the image for the skip."""

    waves: Waves
    lr: Tensor  # (B, 3, h, w)
    frame: Frame


class LTE(Decoder):
    """Colour = sum_v w_v MLP(A_v * cat[cos, sin](pi (F_v . d_v + P c'))) + bilinear skip; 493,827 parameters."""

    title: ClassVar[str | None] = "LTE"
    halo = 2  # one for the convolutions, one for the neighbours
    interleaved = True

    def __init__(
        self, *, in_dim: int, hidden_dim: int = 256, hidden: tuple[int, ...] = (256, 256, 256)
    ) -> None:
        super().__init__()
        self.coef = nn.Conv2d(in_dim, hidden_dim, 3, padding=1)
        self.freq = nn.Conv2d(in_dim, hidden_dim, 3, padding=1)
        self.phase = nn.Linear(2, hidden_dim // 2, bias=False)
        self._add_mlp(hidden_dim, hidden)

    def _add_mlp(self, in_dim: int, hidden: tuple[int, ...]) -> None:
        self.imnet = MLP(in_dim, hidden, 3)

    @property
    def _layers(self) -> list[nn.Linear] | list[nn.Conv2d]:
        return self.imnet.linears

    def prepare(self, feat: Tensor, lr: Tensor, frame: Frame) -> LTEField:
        return LTEField(Waves.of(self, feat, frame, interleaved=self.interleaved), lr, frame)

    def query(self, prepared: LTEField, coord: Tensor) -> Tensor:
        waves, weights = prepared.waves.at(coord, prepared.frame.size)
        answer = (self._trunk(waves) * weights).sum(1)
        return last_linear(self._layers[-1], answer) + bilinear_at(prepared.lr, coord)

    def render(self, prepared: LTEField, grid: Grid) -> Tensor:
        lr, waves, weights = prepared.lr, prepared.waves.on_grid(grid), ensemble_weights(grid, prepared.lr)
        (height, width), batch = grid.size, len(lr)
        out = torch.empty(batch, height, width, 3, device=lr.device)
        for rows in row_chunks(height, batch * width, lr.device):
            answer = mixed(map(self._trunk, waves(rows)), weights[:, rows])
            out[:, rows] = last_linear(self._layers[-1], answer)
        return out.permute(0, 3, 1, 2) + bilinear_grid(lr, grid)

    def _trunk(self, hidden: Tensor) -> Tensor:
        for layer in self._layers[:-1]:
            hidden = linear(layer, hidden, relu=True)
        return hidden


class LTEPlus(LTE):
    """LTE with frequencies in halves and an MLP of 1x1 convolutions ("lte-fast" in the release)."""

    title = None
    interleaved = False

    def _add_mlp(self, in_dim: int, hidden: tuple[int, ...]) -> None:
        self.layers = pointwise(in_dim, hidden, 3)

    @property
    def _layers(self) -> list[nn.Linear] | list[nn.Conv2d]:
        return [layer for layer in self.layers if isinstance(layer, nn.Conv2d)]


def _wave(angle: Tensor, dtype: torch.dtype) -> Tensor:
    """Cosines and sines (..., 2K) of angles (..., K)."""
    return torch.cat([angle.cos(), angle.sin()], dim=-1).to(dtype)
