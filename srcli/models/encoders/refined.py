"""An encoder with more layers behind it: the larger two of Thera's three networks.

Becker et al., "Thera: Aliasing-Free Arbitrary-Scale Super-Resolution with Neural Heat Fields", TMLR 2025,
https://arxiv.org/abs/2311.17643; `plus` are blocks of ConvNeXt, `pro` is the body of a SwinIR.
"""

from typing import Literal

from torch import Tensor, nn

from srcli.config.presets import Part
from srcli.models.autoencoder import ChannelNorm
from srcli.models.encoders.swinir import MLPBlock, SwinIR, WindowAttention
from srcli.models.layers import mirrored_to_multiples
from srcli.models.sr import Encoder

WIDTHS = (64, 6), (96, 7), (128, 3)  # channels and blocks of "plus"


class ConvNeXtBlock(nn.Module):
    """A 3x3 convolution of each channel, norm, two 1x1 convolutions, plus the input."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        first = nn.Conv2d(dim, dim, 3, padding=1, groups=dim, bias=False)
        wide, narrow = nn.Conv2d(dim, 4 * dim, 1), nn.Conv2d(4 * dim, dim, 1)
        self.residual = nn.Sequential(first, ChannelNorm(dim, eps=1e-6), wide, nn.GELU("tanh"), narrow)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.residual(x)


class SwinTail(SwinIR):
    """A SwinIR on features (B, in_dim, h, w) -> (B, 64, h, w), mirrored at its own end to whole windows."""

    def __init__(self, in_dim: int) -> None:
        super().__init__(depths=(7, 6), crop=True, drop_path=0.0)
        self.conv_first = nn.Conv2d(in_dim, self.conv_after_body.in_channels, 3, padding=1)
        for module in self.modules():
            if isinstance(module, MLPBlock):
                module.approximate = "tanh"
            if isinstance(module, WindowAttention):  # no stored tables of what follows from sizes
                index = module.relative_position_index
                module.register_buffer("relative_position_index", index, persistent=False)
            module._buffers.pop("attn_mask", None)

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[-2:]
        return super().forward(mirrored_to_multiples(x, self.multiple_of))[:, :, :h, :w]


class Refined(Encoder):
    """Features of another encoder, refined at their own resolution.

    `body`: "edsr" or "rdn", and its arguments. `tail`: "plus", of 128 channels, whose tiles are exact where the body's are;
    "pro", of 64, whose tiles begin at multiples of 8 and have SwinIR's practical context.
    """

    def __init__(self, *, body: Part, tail: Literal["plus", "pro"]) -> None:
        super().__init__()
        from srcli.models import make
        from srcli.models.encoders import ENCODERS

        if body.name not in ("edsr", "rdn"):
            raise ValueError(f"body must be edsr or rdn, got '{body.name}'")
        self.body = make(ENCODERS, "encoder", body, "body")
        swin = SwinTail(self.body.out_dim) if tail == "pro" else None
        self.tail: nn.Module = swin or _plus(self.body.out_dim)
        self.out_dim, more, self.tile_multiple = (
            (swin.out_dim, swin.halo, 8) if swin else (WIDTHS[-1][0], 16, 1)
        )
        self.exact = swin is None
        self.halo = self.body.halo + more
        if self.body.practical_halo is not None:
            self.practical_halo = self.body.practical_halo + more
        self.live_channels = 1024

    def forward(self, lr: Tensor) -> Tensor:
        return self.tail(self.body(lr))


def _plus(in_dim: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for dim, blocks in WIDTHS:
        if dim != in_dim:
            layers.append(nn.Sequential(ChannelNorm(in_dim, eps=1e-6), nn.Conv2d(in_dim, dim, 1)))
        layers += [ConvNeXtBlock(dim) for _ in range(blocks)]
        in_dim = dim
    return nn.Sequential(*layers)
