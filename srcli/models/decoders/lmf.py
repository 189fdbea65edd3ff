"""LM-LIIF and LM-LTE: the wide network runs once per LR pixel, a 16-wide one per colour.

He and Jin, "Latent Modulated Function for Computational Optimal Continuous Image Representation" (CVPR 2024). The
latent MLP gives every LR pixel a scale and a shift for each hidden unit of the render MLP, and a short code that
replaces the feature as its input; `modulated` is the render side. State-dict keys are those of the authors' release.
The unfold before LM-LIIF's latent MLP is a convolution here.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srcli.models.decoders.modulated import LatentField, Modulated, OffsetModulated, Tables
from srcli.models.layers import MLP, last_linear, linear, no_autocast, unfolded_conv
from srcli.models.sr import Frame


def _conv(layer: nn.Conv2d, feat: Tensor) -> Tensor:
    # In the layout of the features, unlike layers.conv: eight modulated layers amplify the last bits of amplitude and
    # frequency, and only the release's own order of summation stays within the tolerance of its numbers.
    bias = None if layer.bias is None else layer.bias.to(feat.dtype)
    return F.conv2d(feat, layer.weight.to(feat.dtype), bias, padding=layer.padding)


class LMLIIF(OffsetModulated):
    """LM-LIIF: latent from the unfolded features and the cell; render MLP on (code, offset, cell); no skip.

    `depth`, `width`: hidden layers of the render MLP, and their units. `mod_input`: whether the render MLP reads a code
    of the latent; otherwise it reads the feature itself.
    """

    skip = False

    def __init__(
        self,
        *,
        in_dim: int = 64,
        depth: int = 6,
        width: int = 16,
        latent: int = 208,  # units of the latent MLP's hidden layer
        feat_unfold: bool = True,
        local_ensemble: bool = True,
        cell_decode: bool = True,
        mod_input: bool = True,
    ) -> None:
        cell = 2 if cell_decode else 0
        code = width if mod_input else in_dim
        super().__init__(in_dim=code + 2 + cell, depth=depth, width=width, local_ensemble=local_ensemble)
        self.feat_unfold, self.cell_decode, self.mod_input = feat_unfold, cell_decode, mod_input
        out_dim = 2 * depth * width + (width if mod_input else 0)
        self.hypernet = MLP(in_dim * (9 if feat_unfold else 1) + cell, [latent], out_dim)

    def prepare(self, feat: Tensor, lr: Tensor, frame: Frame) -> LatentField:
        first, second = self.hypernet.linears
        columns = feat.shape[1] * (9 if self.feat_unfold else 1)
        hidden = self._spread(feat, first.weight[:, :columns])
        constant: Tensor = first.bias
        if self.cell_decode:
            constant = constant + F.linear(frame.rel_cell, first.weight[:, columns:])
        hidden = hidden + constant.to(feat.dtype).view(-1, hidden.shape[1], 1, 1)
        latent = last_linear(second, hidden.relu_().permute(0, 2, 3, 1))
        own = latent[..., 2 * self.depth * self.width :]
        code = own if self.mod_input else feat.permute(0, 2, 3, 1).float()
        return LatentField(latent, code, lr, frame)

    def _spread(self, feat: Tensor, weight: Tensor) -> Tensor:
        """The first layer's part that reads features: (B, C, h, w) -> (B, latent, h, w)."""
        if not self.feat_unfold:
            return F.conv2d(feat, weight[..., None, None].to(feat.dtype))
        # In two halves: one sum of 576 terms is twice as far off, and the modulated layers amplify that.
        half = (feat.shape[1] + 1) // 2
        parts = zip(feat.split(half, dim=1), weight.split(9 * half, dim=1), strict=True)
        return torch.stack([unfolded_conv(*part) for part in parts]).sum(0)


class LMLTE(Modulated):
    """LM-LTE: Fourier features with learned amplitudes and frequencies on both sides; bilinear skip.

    `hidden_dim`: amplitudes, and twice the number of frequencies, of the latent side; `width` of the render side.
    `mod_input`: whether those of the render side come from the latent; otherwise those of the latent side are read
    again.
    """

    skip = True

    def __init__(
        self,
        *,
        in_dim: int = 64,
        hidden_dim: int = 128,
        depth: int = 8,
        width: int = 16,
        latent: int = 288,
        local_ensemble: bool = True,
        mod_input: bool = True,
    ) -> None:
        waves = width if mod_input else hidden_dim
        super().__init__(in_dim=waves, depth=depth, width=width, local_ensemble=local_ensemble)
        self.mod_input = mod_input
        self.coef = nn.Conv2d(in_dim, hidden_dim, 3, padding=1)
        self.freq = nn.Conv2d(in_dim, hidden_dim, 3, padding=1)
        self.phase = nn.Linear(2, hidden_dim // 2, bias=False)
        self.hypernet = MLP(hidden_dim, [latent], 2 * depth * width + (2 * width if mod_input else 0))
        if mod_input:
            self.imphase = nn.Linear(2, width // 2, bias=False)

    def prepare(self, feat: Tensor, lr: Tensor, frame: Frame) -> LatentField:
        with no_autocast(feat):  # half precision would cost the phases whole turns
            amplitude = _conv(self.coef, feat.float()).permute(0, 2, 3, 1)
            frequency = _conv(self.freq, feat.float()).permute(0, 2, 3, 1)
            # The latent side looks along the offset (1, 1).
            angle = frequency[..., 0::2] + frequency[..., 1::2] + self.phase(frame.rel_cell)[:, None, None]
            angle = math.pi * angle
            waves = amplitude * torch.cat([angle.cos(), angle.sin()], dim=-1)
        first, second = self.hypernet.linears
        latent = last_linear(second, linear(first, waves.to(feat.dtype), relu=True))
        own = latent[..., 2 * self.depth * self.width :]
        code = own if self.mod_input else torch.cat([amplitude, frequency], dim=-1)
        return LatentField(latent, code, lr, frame)

    def tables(self, prepared: LatentField) -> Tables:
        """`first` is amplitude (2k), vertical and horizontal frequency (k each), phase of the cell (k)."""
        amplitude, frequency = prepared.code.chunk(2, dim=-1)
        down, right = frequency[..., 0::2], frequency[..., 1::2]
        layer = self.imphase if self.mod_input else self.phase
        phase = layer(prepared.frame.rel_cell)[:, None, None].expand_as(down)
        return Tables((amplitude, down, right, phase), *self.modulation(prepared.latent))

    def first_at(self, first: tuple[Tensor, ...], distance: Tensor) -> Tensor:
        amplitude, down, right, phase = first
        angle = math.pi * (down * distance[..., :1] + right * distance[..., 1:] + phase)
        return amplitude * torch.cat([angle.cos(), angle.sin()], dim=-1)

    def first_on_grid(self, first: tuple[Tensor, ...], down: Tensor, right: Tensor) -> Tensor:
        """Sines and cosines per row and per column, joined by angle addition."""
        amplitude, down_by, right_by, phase = first
        of_cos, of_sin = amplitude.chunk(2, dim=-1)
        rows, cols = math.pi * (down_by * down + phase), math.pi * (right_by * right)
        cos, sin = rows.cos(), rows.sin()
        with_cos = torch.cat([of_cos * cos, of_sin * sin], dim=-1)
        with_sin = torch.cat([-of_cos * sin, of_sin * cos], dim=-1)
        cos, sin = (wave.repeat(1, 1, 1, 1, 2) for wave in (cols.cos(), cols.sin()))
        return (with_cos[:, None] * cos).addcmul_(with_sin[:, None], sin)
