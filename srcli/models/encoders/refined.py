"""An encoder with more layers behind it: the larger two of Thera's three networks.

Becker et al., "Thera: Aliasing-Free Arbitrary-Scale Super-Resolution with Neural Heat Fields", TMLR 2025,
https://arxiv.org/abs/2311.17643; in the order of the authors' code. `plus` are blocks of ConvNeXt, `pro` is the body of
a SwinIR that looks at features instead of colours.
"""

from typing import Literal

from torch import Tensor, nn

from srcli.config.presets import Part
from srcli.geometry import mirrored
from srcli.models.encoders.swinir import MLPBlock, SwinIR, WindowAttention
from srcli.models.layers import tensor
from srcli.models.sr import Encoder

WIDTHS = (64, 6), (96, 7), (128, 3)  # channels and blocks of "plus"


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of every pixel: (B, C, h, w) -> (B, C, h, w)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNeXtBlock(nn.Module):
    """A 3x3 convolution of each channel, norm, two 1x1 convolutions, plus the input."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(dim, dim, 3, padding=1, groups=dim, bias=False),
            ChannelNorm(dim, eps=1e-6),
            nn.Conv2d(dim, 4 * dim, 1),
            nn.GELU("tanh"),
            nn.Conv2d(4 * dim, dim, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        return x + self.residual(x)


class SwinTail(SwinIR):
    """A SwinIR on features (B, in_dim, h, w) -> (B, 64, h, w), which completes windows at their border itself."""

    def __init__(self, in_dim: int) -> None:
        super().__init__(depths=(7, 6), crop=True, drop_path=0.0)
        self.conv_first = nn.Conv2d(in_dim, self.conv_after_body.in_channels, 3, padding=1)
        for module in self.modules():
            if isinstance(module, MLPBlock):
                module.approximate = "tanh"
            if isinstance(module, WindowAttention):  # releases carry no tables that follow from sizes
                index = module.relative_position_index
                module.register_buffer("relative_position_index", index, persistent=False)
            if "attn_mask" in module._buffers:
                del module.attn_mask

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[-2:]
        for dim, length in ((2, h), (3, w)):
            if (
                more := -length % self.multiple_of
            ):  # mirrored by itself, also where there are fewer pixels than that
                x = x.index_select(dim, tensor(mirrored(0, length + more, length, repeat_edge=False), x))
        return super().forward(x)[:, :, :h, :w]


class Refined(Encoder):
    """Features of another encoder, refined at their own resolution.

    Tiles of `plus` are exact where the body's are. `pro` has SwinIR's windows, which begin at multiples of 8 of the
    picture; its 32 pixels of context are as practical as there. `body`: the other encoder, "edsr" or "rdn", and its
    arguments. `tail`: what is behind it, "plus" with 128 or "pro" with 64 channels. Raises ValueError (a body whose
    features are not at the picture's resolution, or that needs a latent).
    """

    def __init__(self, *, body: Part, tail: Literal["plus", "pro"]) -> None:
        super().__init__()
        from srcli.models import make
        from srcli.models.encoders import ENCODERS

        self.body = make(ENCODERS, "encoder", body, "body")
        if self.body.multiple_of != 1 or self.body.latent_channels:
            raise ValueError(f"'{body.name}' cannot be the body")
        self.tail: nn.Sequential | SwinTail
        if tail == "pro":
            self.tail = SwinTail(self.body.out_dim)
            self.out_dim, more, self.tile_multiple = self.tail.out_dim, self.tail.halo, self.tail.multiple_of
        else:
            self.tail = plus(self.body.out_dim)
            self.out_dim, more = WIDTHS[-1][0], len(self.tail)
        self.halo, self.exact = self.body.halo + more, self.body.exact and tail == "plus"
        if self.body.practical_halo is not None:
            self.practical_halo = self.body.practical_halo + more
        self.live_channels = max(1024, self.body.live_channels or 0)

    def forward(self, lr: Tensor) -> Tensor:
        """(B, 3, h, w) normalised -> (B, out_dim, h, w)."""
        return self.tail(self.body(lr))


def plus(in_dim: int) -> nn.Sequential:
    """The tail "plus", (B, in_dim, h, w) -> (B, 128, h, w)."""
    layers: list[nn.Module] = []
    for dim, blocks in WIDTHS:
        if dim != in_dim:
            layers.append(nn.Sequential(ChannelNorm(in_dim, eps=1e-6), nn.Conv2d(in_dim, dim, 1)))
        layers += [ConvNeXtBlock(dim) for _ in range(blocks)]
        in_dim = dim
    return nn.Sequential(*layers)
