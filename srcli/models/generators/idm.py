"""IDM: a denoising UNet on the output's pixels whose way up is implicit, so that any size can be denoised.

Gao et al., "Implicit Diffusion Models for Continuous Super-Resolution" (CVPR 2023), https://arxiv.org/abs/2303.16491.
Written from the paper. Features of the LR image are repeated to the size of the output and reduced to three channels:
the condition, which enters beside the noisy picture and, in a pyramid of its own, at each level of the way up. There
generated and given features are weighed against each other by the scale (scale-adaptive conditioning) before they are
asked at the places of the next level's pixels. The network is told the level of the noise, not the step.

Sides need not be multiples of anything: halving rounds up, and the way up asks for the size that it needs.
"""

import math
from dataclasses import replace
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srcli.geometry import Axis, Grid, nearest
from srcli.models.layers import tensor
from srcli.models.sr import Encoder, OutputGenerator

SLOPE = 0.2  # of the leaky ReLU
GAIN = 2**0.5  # behind it


class IDM(OutputGenerator):
    """The generator of IDM; its encoder is any that gives features of the LR image.

    `attention`: for each level, whether its blocks have self-attention; the middle always has it.
    """

    title = "IDM"
    by_level = True

    def __init__(
        self,
        *,
        condition_dim: int = 64,
        widths: tuple[int, ...] = (64, 128, 256, 512, 512),
        layers: int = 2,
        attention: tuple[bool, ...] = (False, False, False, True, False),
        hidden: int = 256,  # channels between the two layers of the implicit upsampling
        largest: float = 4.0,  # the largest scale seen in training, whose place on the axis of scales is 1; 1 is at 0
        dropout: float = 0.2,
        groups: int = 32,
        relative: float = 0.0,  # see `OutputGenerator`; 0 is the published form
    ) -> None:
        super().__init__()
        if len(widths) != len(attention) or len(widths) < 2:
            raise ValueError(f"{len(widths)} levels, but attention for {len(attention)}; two levels at least")
        if any(width % groups for width in widths):
            raise ValueError(f"widths {widths} are no multiples of the {groups} groups")
        if largest <= 1:
            raise ValueError(f"largest must be above 1, got {largest}")
        if relative < 0:
            raise ValueError(f"relative is at least 0, got {relative}")
        self.relative = relative
        self.largest, self.live_channels = largest, 8 * widths[0]
        self.multiple_of, self.context = 1, 2 ** (len(widths) + 1)
        base, last = widths[0], widths[-1]
        self.to_colours = nn.Conv2d(condition_dim, 3, 3, padding=1)
        self.level = NoiseLevel(base)
        self.conv_in = nn.Conv2d(6, base, 3, padding=1)
        self.pyramid = Pyramid(widths)
        self.down, self.halve = nn.ModuleList(), nn.ModuleList()
        width, skips = base, [base]
        for number, (out, attends) in enumerate(zip(widths, attention, strict=True)):
            blocks = nn.ModuleList()
            for _ in range(layers):
                blocks.append(Block(width, out, base, groups, dropout, attends=attends))
                width = out
                skips.append(out)
            self.down.append(blocks)
            if number < len(widths) - 1:
                self.halve.append(nn.Conv2d(out, out, 3, stride=2, padding=1))
                skips.append(out)
        self.middle = nn.ModuleList(
            Block(last, last, base, groups, dropout, attends=attends) for attends in (True, False)
        )
        self.up, self.enlarge = nn.ModuleList(), nn.ModuleList()
        for number, (out, attends) in reversed([*enumerate(zip(widths, attention, strict=True))]):
            blocks = nn.ModuleList()
            for _ in range(layers + 1):
                blocks.append(Block(width + skips.pop(), out, base, groups, dropout, attends=attends))
                width = out
            self.up.append(blocks)
            if number:
                self.enlarge.append(ImplicitUp(out, hidden))
        self.norm_out = nn.GroupNorm(groups, width)
        self.conv_out = nn.Conv2d(width, 3, 3, padding=1)
        nn.init.zeros_(self.conv_out.weight)

    def check(self, encoder: Encoder) -> None:
        if encoder.latent_channels:
            raise ValueError("the encoder expects a latent, but the generator samples the output")
        if encoder.out_dim != self.to_colours.in_channels:
            raise ValueError(
                f"condition_dim is {self.to_colours.in_channels}, but the encoder gives {encoder.out_dim} channels"
            )

    def condition(self, encoder: Encoder, lr: Tensor) -> Tensor:
        features: Tensor = encoder(lr)
        return features

    def spread(self, feat: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
        """The condition (B, 3, H, W) of a rectangle of output pixels, and the place of the scale (B,) in [0, 1]."""
        wide = Grid(*(_widened(axis) for axis in grid))
        out = feat
        for dim, axis in ((2, wide.rows), (3, wide.cols)):
            index = axis.nearest().index.clip(0, feat.shape[dim] - 1)
            out = out.index_select(dim, tensor(index, feat))
        out = self.to_colours(out)
        top, left = (axis.start - wider.start for axis, wider in zip(grid, wide, strict=True))
        out = out[:, :, top : top + grid.size.h, left : left + grid.size.w]
        scale = math.sqrt(grid.rows.scale * grid.cols.scale)
        place = min(max((scale - 1) / (self.largest - 1), 0.0), 1.0)
        return out, out.new_full((len(out),), place)

    def forward(self, noisy: Tensor, t: Tensor, condition: tuple[Tensor, Tensor]) -> Tensor:
        """The noise in `noisy` (B, 3, H, W), in which the share of the signal is t (B,), given what `spread` gives."""
        given, place = condition
        given = given.to(noisy.dtype)
        level, pyramid = self.level(t), self.pyramid(given)
        x = self.conv_in(torch.cat([given, noisy], dim=1))
        kept = [x]
        for number, blocks in enumerate(self.down):
            for block in _list(blocks):
                x = block(x, level)
                kept.append(x)
            if number < len(self.halve):
                x = self.halve[number](x)
                kept.append(x)
        for block in self.middle:
            x = block(x, level)
        for number, blocks in enumerate(self.up):
            for block in _list(blocks):
                x = block(torch.cat([x, kept.pop()], dim=1), level)
            if number < len(self.enlarge):
                size = kept[-1].shape[-2:]
                x = self.enlarge[number](x, pyramid[-1 - number], place.to(x.dtype), size)
        return self.conv_out(F.silu(self.norm_out(x)))


class NoiseLevel(nn.Module):
    """An embedding (B, n) of a level in [0, 1], by sines and cosines of it."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(n, 4 * n), nn.SiLU(), nn.Linear(4 * n, n))
        self.frequencies = n // 2

    def forward(self, level: Tensor) -> Tensor:
        steps = torch.arange(self.frequencies, device=level.device) / self.frequencies
        angle = level.float()[:, None] * torch.exp(-math.log(1e4) * steps)
        return self.mlp(torch.cat([angle.sin(), angle.cos()], dim=1))


class Block(nn.Module):
    """Twice norm - SiLU - convolution with the level added between, plus the input; then perhaps self-attention."""

    def __init__(
        self, in_dim: int, out_dim: int, level_dim: int, groups: int, dropout: float, *, attends: bool
    ) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(math.gcd(groups, in_dim), in_dim)
        self.conv1 = nn.Conv2d(in_dim, out_dim, 3, padding=1)
        self.level = nn.Linear(level_dim, out_dim)
        self.norm2 = nn.GroupNorm(groups, out_dim)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(out_dim, out_dim, 3, padding=1)
        self.shortcut = nn.Conv2d(in_dim, out_dim, 1) if in_dim != out_dim else nn.Identity()
        self.attention = Attention(out_dim, groups) if attends else nn.Identity()

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        out = self.conv1(F.silu(self.norm1(x))) + self.level(level)[:, :, None, None]
        out = self.conv2(self.dropout(F.silu(self.norm2(out))))
        return self.attention(out + self.shortcut(x))


class Attention(nn.Module):
    """All pixels attend to all, with one head, plus the input."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).flatten(2).transpose(1, 2).unsqueeze(1).chunk(3, dim=-1)
        seen = F.scaled_dot_product_attention(q, k, v)[:, 0]
        return x + self.out(seen.transpose(1, 2).reshape(x.shape))


class Pyramid(nn.Module):
    """The condition at the size of every level: blurred and halved on its way down."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.first = EqualConv(3, widths[0], 3)
        self.levels = nn.ModuleList(EqualConv(into, out, 3, stride=2) for into, out in pairwise(widths))
        kernel = torch.tensor([1.0, 3.0, 1.0]) / 5
        self.kernel: Tensor
        self.register_buffer("kernel", kernel[:, None] * kernel, persistent=False)

    def forward(self, given: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> one map (B, C, h, w) per level, from fine to coarse."""
        maps = [_leaky(self.first(given))]
        for level in self.levels:
            x = maps[-1]
            kernel = self.kernel.to(x.dtype).expand(x.shape[1], 1, 3, 3)
            maps.append(_leaky(level(F.conv2d(x, kernel, padding=1, groups=x.shape[1]))))
        return maps


class EqualConv(nn.Module):
    """A convolution whose stored weights are standard normal and are scaled when used (StyleGAN2)."""

    def __init__(self, in_dim: int, out_dim: int, side: int, stride: int = 1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_dim, in_dim, side, side))
        self.bias = nn.Parameter(torch.zeros(out_dim))
        self.scale, self.stride, self.padding = (in_dim * side * side) ** -0.5, stride, side // 2

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_dim, h, w) -> (B, out_dim, h / stride, w / stride), rounded up."""
        return F.conv2d(x, self.weight * self.scale, self.bias, stride=self.stride, padding=self.padding)


class ImplicitUp(nn.Module):
    """Scale-adaptive conditioning of a level, and the implicit function that gives the next one.

    Two numbers per channel follow from the scale and weigh what is generated against what is given. Then each pixel of
    the next level takes the nearest feature and its offset through two linear layers, between which there is nothing.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.shift = EqualConv(channels, channels, 3)
        self.generated = nn.Linear(1, channels)
        self.given = nn.Linear(1, channels)
        for layer in (self.generated, self.given):
            nn.init.normal_(layer.weight)
            nn.init.ones_(layer.bias)
        self.bias = nn.Parameter(torch.zeros(channels))
        self.first = nn.Linear(channels + 2, hidden)
        self.last = nn.Linear(hidden, channels)

    def forward(self, x: Tensor, given: Tensor, place: Tensor, size: tuple[int, int]) -> Tensor:
        """(B, C, h, w), the pyramid's map of the level and the place of the scale (B,) -> (B, C, *size)."""
        weights = torch.stack([self.generated(place[:, None]), self.given(place[:, None])])
        of_x, of_given = (weights * torch.rsqrt(weights.square().sum(0) + 1e-8))[..., None, None]
        x = F.leaky_relu(x * of_x + self.shift(given) * of_given + self.bias[:, None, None], SLOPE)
        # The two layers are one, and a feature passes it once for all pixels that take it.
        weight = self.last.weight @ self.first.weight
        bias = F.linear(self.first.bias, self.last.weight, self.last.bias)
        out = F.conv2d(x, weight[:, :-2, None, None].to(x.dtype), bias.to(x.dtype))
        for dim, (n, m) in enumerate(zip(x.shape[-2:], size, strict=True)):
            near = nearest(n, m)
            shape = (-1, 1) if dim == 0 else (1, -1)
            offset = tensor(near.distance, x).reshape(shape) * weight[:, -2 + dim, None, None]
            out = out.index_select(2 + dim, tensor(near.index, x)) + offset.to(x.dtype)
        return out


def _leaky(x: Tensor) -> Tensor:
    return F.leaky_relu(x, SLOPE) * GAIN


def _widened(axis: Axis) -> Axis:
    """One pixel more on each side, as far as the output goes: what a 3x3 convolution sees."""
    return replace(axis, start=max(axis.start - 1, 0), stop=min(axis.stop + 1, axis.hr))


def _list(blocks: nn.Module) -> nn.ModuleList:
    assert isinstance(blocks, nn.ModuleList)
    return blocks
