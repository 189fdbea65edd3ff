"""The perceptual auto-encoder of FPLIA and of Kim et al.: a picture four times the LR's size <-> a latent on its grid.

Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion Models" (CVPR 2022), with a decoder that stays on
the latent's grid and gives features instead of colours (Kim et al., CVPR 2024; FPLIA, arXiv 2606.21910). Module names
are those of latent diffusion, so that published states load as they are.

The published form normalises over whole pictures (GroupNorm) and attends to all of them in the middle: there is no halo
with which a tile's features equal the picture's. `norm = "pixel"` normalises the channels of every pixel alone and
goes with `attention = false`: then features depend on `halo` latent pixels around and on no more, tiles equal the
whole, and this is what our own models use.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from srcli.models.layers import channels_last

EPS = 1e-6
LOGVAR = (-30.0, 20.0)  # the range of a posterior's log variance
Norms = Callable[[int], nn.Module]


@dataclass(frozen=True)
class Sizes:
    """How large an auto-encoder is; the defaults are FPLIA's."""

    # channels of the encoder's levels from fine to coarse; each further level halves the sides
    widths: tuple[int, ...] = (128, 256, 512)
    resblocks: int = 2  # residual blocks of a level of the encoder
    # channels of the decoder's levels in the order in which they run; all have the same sides
    decoder_widths: tuple[int, ...] = (512, 256, 128)
    decoder_resblocks: int = 3  # residual blocks of a level of the decoder
    z_channels: int = 3  # channels of the latent
    # the encoder gives a mean and a log variance, not one latent (Kim et al. without faces).
    variational: bool = True
    attention: bool = True  # self-attention in the middle of both halves
    norm: Literal["group", "pixel"] = "group"  # "group" (published) or "pixel" (tiles equal the whole)
    groups: int = 32  # of the group norm


class AutoEncoder(nn.Module):
    """Pictures in [-1, 1] to latents and latents to features.

    `factor`: side of a picture over side of its latent. `halo`: latent pixels that features depend on, if they are
    `local`.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        if not sizes.widths or not sizes.decoder_widths:
            raise ValueError("an auto-encoder needs at least one level in each half")
        if sizes.norm == "group" and any(
            width % sizes.groups for width in (*sizes.widths, *sizes.decoder_widths)
        ):
            raise ValueError(f"widths must be multiples of the {sizes.groups} groups")
        moments = sizes.z_channels * (1 + sizes.variational)
        self.variational = sizes.variational
        self.perc_encoder = PerceptualEncoder(sizes, moments)
        self.quant_conv = nn.Conv2d(moments, moments, 1)
        self.post_quant_conv = nn.Conv2d(sizes.z_channels, sizes.z_channels, 1)
        self.perc_decoder = FeatureDecoder(sizes)
        self.factor = 2 ** (len(sizes.widths) - 1)
        self.out_dim = sizes.decoder_widths[-1]
        self.halo = 1 + 2 * (2 + len(sizes.decoder_widths) * sizes.decoder_resblocks)
        self.local = sizes.norm == "pixel" and not sizes.attention
        if self.local:
            channels_last(self)

    def moments(self, pictures: Tensor) -> tuple[Tensor, Tensor | None]:
        """Mean and, if variational, log variance (B, z, h, w) of pictures (B, 3, factor * h, ..) in [-1, 1]."""
        coded = self.quant_conv(self.perc_encoder(pictures))
        if not self.variational:
            return coded, None
        mean, logvar = coded.chunk(2, dim=1)
        return mean, logvar.clamp(*LOGVAR)

    def decode(self, z: Tensor) -> Tensor:
        """Features (B, out_dim, h, w) of a latent (B, z, h, w), as `moments` gives them, not normalised."""
        return self.perc_decoder(self.post_quant_conv(z))


class PerceptualEncoder(nn.Module):
    """Residual levels that halve the sides between them."""

    def __init__(self, sizes: Sizes, out_channels: int) -> None:
        super().__init__()
        norm = _norms(sizes)
        self.conv_in = nn.Conv2d(3, sizes.widths[0], 3, padding=1)
        self.down = nn.ModuleList()
        channels = sizes.widths[0]
        for number, width in enumerate(sizes.widths):
            last = number == len(sizes.widths) - 1
            self.down.append(Level(channels, width, sizes.resblocks, norm, halves=not last))
            channels = width
        self.mid = Middle(channels, norm, attention=sizes.attention)
        self.norm_out = norm(channels)
        self.conv_out = nn.Conv2d(channels, out_channels, 3, padding=1)

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, 3, factor * h, factor * w) -> (B, moments, h, w)."""
        x = self.conv_in(pictures)
        for level in self.down:
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(self.mid(x))))


class FeatureDecoder(nn.Module):
    """The encoder's mirror image without its changes of size and without a head for colours."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        norm = _norms(sizes)
        channels = sizes.decoder_widths[0]
        self.conv_in = nn.Conv2d(sizes.z_channels, channels, 3, padding=1)
        self.mid = Middle(channels, norm, attention=sizes.attention)
        levels: list[nn.Module] = []
        for width in sizes.decoder_widths:
            levels.append(Level(channels, width, sizes.decoder_resblocks, norm, halves=False))
            channels = width
        self.up = nn.ModuleList(reversed(levels))  # latent diffusion counts them from the finest

    def forward(self, z: Tensor) -> Tensor:
        """(B, z, h, w) -> (B, C, h, w)."""
        x = self.mid(self.conv_in(z))
        for number in range(len(self.up) - 1, -1, -1):
            x = self.up[number](x)
        return x


class Level(nn.Module):
    """Residual blocks, and a convolution of stride 2 behind them if it `halves`."""

    def __init__(self, in_dim: int, out_dim: int, blocks: int, norm: Norms, *, halves: bool) -> None:
        super().__init__()
        self.block = nn.ModuleList(
            ResidualBlock(out_dim if i else in_dim, out_dim, norm) for i in range(blocks)
        )
        self.downsample = Halved(out_dim) if halves else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_dim, h, w) -> (B, out_dim, h, w), or half the sides."""
        for block in self.block:
            x = block(x)
        return x if self.downsample is None else self.downsample(x)


class Halved(nn.Module):
    """A 3x3 convolution of stride 2 that begins with the first pixel: zeros only at the bottom and the right."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Middle(nn.Module):
    """Two residual blocks, and self-attention between them."""

    def __init__(self, channels: int, norm: Norms, *, attention: bool) -> None:
        super().__init__()
        self.block_1 = ResidualBlock(channels, channels, norm)
        self.attn_1 = SelfAttention(channels, norm) if attention else None
        self.block_2 = ResidualBlock(channels, channels, norm)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block_1(x)
        return self.block_2(x if self.attn_1 is None else self.attn_1(x))


class ResidualBlock(nn.Module):
    """Twice norm - SiLU - convolution, plus the input."""

    def __init__(self, in_dim: int, out_dim: int, norm: Norms) -> None:
        super().__init__()
        self.norm1 = norm(in_dim)
        self.conv1 = nn.Conv2d(in_dim, out_dim, 3, padding=1)
        self.norm2 = norm(out_dim)
        self.conv2 = nn.Conv2d(out_dim, out_dim, 3, padding=1)
        self.nin_shortcut = nn.Conv2d(in_dim, out_dim, 1) if in_dim != out_dim else None

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(F.silu(self.norm1(x)))
        out = self.conv2(F.silu(self.norm2(out)))
        return out + (x if self.nin_shortcut is None else self.nin_shortcut(x))


class SelfAttention(nn.Module):
    """All pixels attend to all, with one head, plus the input."""

    def __init__(self, channels: int, norm: Norms) -> None:
        super().__init__()
        self.norm = norm(channels)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm(x)
        q, k, v = (layer(normed).flatten(2).transpose(1, 2)[:, None] for layer in (self.q, self.k, self.v))
        seen = F.scaled_dot_product_attention(q, k, v)[:, 0]
        return x + self.proj_out(seen.transpose(1, 2).reshape(x.shape))


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of every pixel: (B, C, h, w) -> (B, C, h, w)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def _norms(sizes: Sizes) -> Norms:
    if sizes.norm == "pixel":
        return partial(ChannelNorm, eps=EPS)
    return partial(nn.GroupNorm, sizes.groups, eps=EPS)
