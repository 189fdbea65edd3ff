"""The first LIT, with a branch of local frequencies: kept for weights of that design; no published figures are its.

Chen et al., "Cascaded Local Implicit Transformer for Arbitrary-Scale Super-Resolution", CVPR 2023,
https://arxiv.org/abs/2303.16513; keys of the class that the authors' release keeps beside CLIT. A window of a further
map is Fourier transformed and turned by the offsets' phases; real and imaginary parts join the weighted values.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srcli.geometry import Box, Grid
from srcli.models.attention import FREQUENCIES, PositionBias, Scattered, budget, grown, window_maps
from srcli.models.layers import (
    MLP,
    bilinear_at,
    bilinear_grid,
    grid_coord,
    last_linear,
    linear,
    sample_nearest,
)
from srcli.models.sr import Decoder, Frame

REACH, SIDE = 3, 7


class LITFFTField(NamedTuple):
    """Zero-padded maps as rows (B * h * w, C), and the box they are of."""

    q: Tensor
    k: Tensor
    v: Tensor
    frequency: Tensor
    box: Box
    lr: Tensor
    frame: Frame


class LITFFT(Decoder):
    """Colour = MLP(cat over a 7x7 window of [weighted value, Fourier coefficients turned by the offset], cell) + skip.

    Args:
        in_dim: channels of the features.
        base_dim: channels of queries, keys and values.
        n_heads: attention heads.
        hidden: widths of the MLP.
    """

    halo = 4  # a convolution and the window

    def __init__(
        self,
        *,
        in_dim: int,
        base_dim: int = 64,
        n_heads: int = 8,
        hidden: tuple[int, ...] = (256, 256, 256, 256),
    ) -> None:
        super().__init__()
        waves = 2 * len(FREQUENCIES)
        self.n_heads = n_heads
        self.conv_v, self.conv_q, self.conv_k = (nn.Conv2d(in_dim, base_dim, 3, padding=1) for _ in range(3))
        self.conv_freq = nn.Conv2d(in_dim, waves, 3, padding=1)
        self.pb_encoder = PositionBias(n_heads)
        self.pe_encoder = PositionBias(1)  # never asked, but checkpoints have it
        self.imnet = MLP(SIDE**2 * (base_dim + 2 * waves) + 2, hidden, 3, activation=nn.GELU)

    def prepare(self, feat: Tensor, lr: Tensor, frame: Frame) -> LITFFTField:
        """See `Decoder.prepare`."""
        box = grown(frame.box, REACH)
        asked = window_maps(feat, frame.box, box, [self.conv_q, self.conv_k, self.conv_v])
        waves = window_maps(feat, frame.box, box, [self.conv_freq])
        q, k, v = (maps.flatten(0, 2) for maps in asked.unbind(3))
        return LITFFTField(q, k, v, waves.flatten(0, 3), box, lr, frame)

    def query(self, prepared: LITFFTField, coord: Tensor) -> Tensor:
        """See `Decoder.query`."""
        return self._answers(prepared, coord) + bilinear_at(prepared.lr, coord)

    def render(self, prepared: LITFFTField, grid: Grid) -> Tensor:
        """See `Decoder.render`."""
        coord = grid_coord(grid, prepared.lr).expand(len(prepared.lr), -1, -1)
        colours = self._answers(prepared, coord).transpose(1, 2).unflatten(2, grid.size)
        return colours + bilinear_grid(prepared.lr, grid)

    def _answers(self, prepared: LITFFTField, coord: Tensor) -> Tensor:
        first = self.imnet.linears[0]
        step = max(1, budget(coord).gathered // (4 * len(coord) * first.in_features))
        return torch.cat([self._answer(prepared, part) for part in coord.split(step, dim=1)], dim=1)

    def _answer(self, prepared: LITFFTField, coord: Tensor) -> Tensor:
        q, k, v, frequency, box, _, frame = prepared
        near = Scattered.around(sample_nearest(coord, frame.size), coord, frame.size, box, REACH)
        weights = near.weights(near.bilinear(q), k, self.pb_encoder)
        values = F.embedding(near.pixels, v).float().unflatten(-1, (self.n_heads, -1))
        parts = [(values * weights.unsqueeze(-1)).flatten(3), _turned(near, frequency)]
        rel_cell = frame.rel_cell[:, None].expand(len(coord), coord.shape[1], 2)
        hidden = torch.cat([torch.cat(parts, dim=-1).flatten(2), rel_cell], dim=-1).to(v.dtype)
        *layers, last = self.imnet.linears
        for layer in layers:
            hidden = F.gelu(linear(layer, hidden))
        return last_linear(last, hidden)


def _turned(near: Scattered, frequency: Tensor) -> Tensor:
    """Fourier coefficients of windows of a map, each turned by the phases of its place: (B, Q, area, 2 * waves)."""
    down, along = (near.offset(axis).unsqueeze(-1) * near.coord.new_tensor(FREQUENCIES) for axis in (0, 1))
    angle = torch.cat(
        [down.unsqueeze(3).expand(-1, -1, -1, SIDE, -1), along.unsqueeze(2).expand(-1, -1, SIDE, -1, -1)],
        dim=-1,
    )
    window = F.embedding(near.pixels, frequency).float().unflatten(2, (SIDE, SIDE))
    turned = torch.fft.fft2(window, dim=(2, 3), norm="ortho") * torch.complex(angle.cos(), angle.sin())
    return torch.view_as_real(turned).flatten(-2).flatten(2, 3)
