"""The picture of an encoder's own upsampler, resampled to any grid by an antialiased bicubic.

A network for one factor gives its picture at that factor, the native one; other sizes are read off it, at coordinates of
the whole picture like everything else. `native` as a decoder is that alone. Under another decoder the picture takes the
place of the bilinear image, to which the decoder adds what it has learned: `skip = "native"`.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srcli.models.layers import bicubic_at, bicubic_grid, pixels_around
from srcli.models.sr import Decoder, Frame, GenerativeDecoder, Grid, small_share

HALO = 3  # LR pixels: two samples each way, stretched by the native factor at most


class NativePicture(NamedTuple):
    """A picture of `factor` samples per LR pixel, of the frame's box."""

    pixels: Tensor  # (B, 3, factor * h, factor * w), normalised, float32
    factor: int
    frame: Frame

    @staticmethod
    def of(channels: Tensor, frame: Frame) -> NativePicture:
        """The picture from the 3 * factor^2 channels (B, C, h, w) in which it travels."""
        factor = math.isqrt(channels.shape[1] // 3)
        return NativePicture(F.pixel_shuffle(channels.float(), factor), factor, frame)

    def grid(self, grid: Grid) -> Tensor:
        """Colours (B, 3, H, W) of a rectangle of HR pixels."""
        return bicubic_grid(self.pixels, grid, self.factor)

    def at(self, coord: Tensor) -> Tensor:
        """Colours (B, Q, 3) at coord (B, Q, 2) for pixels of the frame's cell; the frame is that of the whole image."""
        return bicubic_at(self.pixels, coord, self.frame.cell)


class Native(Decoder):
    """The native picture, resampled, or two of them blended by the scale; nothing is learned here."""

    halo = HALO

    def __init__(self, *, in_dim: int) -> None:
        super().__init__()
        self.channels = in_dim

    def prepare(self, feat: Tensor, lr: Tensor, frame: Frame) -> tuple[NativePicture, ...]:
        more = feat.shape[1] - self.channels
        parts = feat.split([more, self.channels], dim=1) if more > 0 else (feat,)
        return tuple(NativePicture.of(part, frame) for part in parts)

    def query(self, prepared: tuple[NativePicture, ...], coord: Tensor) -> Tensor:
        return self._blended([picture.at(coord) for picture in prepared], prepared[0].frame)

    def render(self, prepared: tuple[NativePicture, ...], grid: Grid) -> Tensor:
        return self._blended([picture.grid(grid) for picture in prepared], prepared[0].frame)

    def _blended(self, pictures: list[Tensor], frame: Frame) -> Tensor:
        small, large = pictures[0], pictures[-1]
        return small if len(pictures) == 1 else torch.lerp(large, small, small_share(frame.scale))


class OnNative(Decoder):
    """A decoder whose answer is added to the native picture: it is shown a black image, whose bilinear skip is nothing.

    A factor on the answer begins at 0 and is learned, so that training starts from the native picture itself
    (Bachlechner et al., "ReZero is All You Need", UAI 2021). `feat_dim`: channels of the features; those behind them
    are the picture's.
    """

    def __init__(self, decoder: Decoder, feat_dim: int) -> None:
        super().__init__()
        self.decoder, self.feat_dim = decoder, feat_dim
        self.factor = nn.Parameter(torch.zeros(()))
        self.halo = max(HALO, decoder.halo)
        self.local, self.tiling, self.note = decoder.local, decoder.tiling, decoder.note
        self.n_branches = decoder.n_branches  # CLIT's, which a cascade of scales trains

    @property
    def alone(self) -> Decoder:
        return self.decoder

    def prepare(self, feat: Tensor, lr: Tensor, frame: Frame) -> tuple[Any, NativePicture]:
        features, picture = feat[:, : self.feat_dim], feat[:, self.feat_dim :]
        nothing = torch.zeros_like(lr)
        return self.decoder.prepare(features, nothing, frame), NativePicture.of(picture, frame)

    def query(self, prepared: tuple[Any, NativePicture], coord: Tensor) -> Tensor:
        own, native = prepared
        return self.factor * self.decoder.query(own, coord) + native.at(coord)

    def render(self, prepared: tuple[Any, NativePicture], grid: Grid) -> Tensor:
        own, native = prepared
        return self.factor * self.decoder.render(own, grid) + native.grid(grid)


class GenerativeOnNative(OnNative, GenerativeDecoder):
    """The same for a distribution of colours, whose mean moves."""

    def __init__(self, decoder: GenerativeDecoder, feat_dim: int) -> None:
        super().__init__(decoder, feat_dim)
        self.decoder: GenerativeDecoder
        self.factor = nn.Parameter(torch.ones(()), requires_grad=False)  # a density cannot begin with nothing
        self.patch = decoder.patch

    def render_affine(
        self, prepared: tuple[Any, NativePicture], grid: Grid, noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        own, native = prepared
        mean, direction = self.decoder.render_affine(own, grid, noise)
        return mean + native.grid(grid), direction

    def sample(
        self, prepared: tuple[Any, NativePicture], coord: Tensor, noise: Tensor | None = None
    ) -> Tensor:
        own, native = prepared
        return self.decoder.sample(own, coord, noise) + self._patches(native, coord)

    def log_density(self, prepared: tuple[Any, NativePicture], coord: Tensor, hr: Tensor) -> Tensor:
        own, native = prepared
        return self.decoder.log_density(own, coord, hr - self._patches(native, coord))

    def _patches(self, native: NativePicture, coord: Tensor) -> Tensor:
        at = pixels_around(coord, native.frame.cell, self.patch)
        return native.at(at.flatten(1, 2)).unflatten(1, at.shape[1:3]).transpose(-1, -2).flatten(-2)


def on_native(decoder: Decoder, feat_dim: int) -> Decoder:
    """A decoder on the native picture in place of the bilinear image."""
    if isinstance(decoder, GenerativeDecoder):
        return GenerativeOnNative(decoder, feat_dim)
    return OnNative(decoder, feat_dim)
