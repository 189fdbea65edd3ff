"""RRDB, the network of ESRGAN and Real-ESRGAN: residual-in-residual dense blocks, and an upsampler behind them.

Wang et al., "ESRGAN: Enhanced Super-Resolution Generative Adversarial Networks", ECCVW 2018,
https://arxiv.org/abs/1809.00219; Wang et al., "Real-ESRGAN", ICCVW 2021, https://arxiv.org/abs/2107.10833. Written from
the papers; keys of LINF's release, which are ESRGAN's.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srcli.models.layers import conv, fused_conv, no_autocast
from srcli.models.sr import Gives, NativeEncoder

RESIDUAL = 0.2  # the factor on every residual branch
SLOPE = 0.2  # of leaky ReLU
UPSAMPLED = 4  # by the layers behind the trunk
REACH = 2  # pixels of features around those that a strip is made from: 1.25
STRIP = 1 << 14  # pixels of features that are upsampled at once


class DenseBlock(nn.Module):
    """Four densely connected convolutions with LeakyReLU 0.2, a fifth without; a fifth of it plus the input."""

    def __init__(self, n_feats: int, growth: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(n_feats, growth, 3, padding=1)
        self.conv2 = nn.Conv2d(n_feats + growth, growth, 3, padding=1)
        self.conv3 = nn.Conv2d(n_feats + 2 * growth, growth, 3, padding=1)
        self.conv4 = nn.Conv2d(n_feats + 3 * growth, growth, 3, padding=1)
        self.conv5 = nn.Conv2d(n_feats + 4 * growth, n_feats, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        dense = x
        for layer in (self.conv1, self.conv2, self.conv3, self.conv4):
            dense = torch.cat([dense, fused_conv(layer, dense, SLOPE)], dim=1)
        return torch.add(x, self.conv5(dense), alpha=RESIDUAL)


class ResidualInResidual(nn.Module):
    """Three dense blocks in a row; a fifth of it plus the input."""

    def __init__(self, n_feats: int, growth: int) -> None:
        super().__init__()
        self.RDB1 = DenseBlock(n_feats, growth)
        self.RDB2 = DenseBlock(n_feats, growth)
        self.RDB3 = DenseBlock(n_feats, growth)

    def forward(self, x: Tensor) -> Tensor:
        return torch.add(x, self.RDB3(self.RDB2(self.RDB1(x))), alpha=RESIDUAL)


class RRDB(NativeEncoder):
    """RRDB with 23 blocks of 64 channels by default: 16,697,987 parameters with the upsampler.

    Tiles are exact with 347 pixels of context, one per convolution on the longest path, 349 for the picture. Of LINF's
    features nothing is left 16 pixels away; 48 leave room for trained ones. Real-ESRGAN looks far on damaged
    photographs: with 64 pixels up to 0.3 % of the samples differ by more than a level, with 80 none of 18,432 in
    float32 did. `factor`: of the native picture, 4 or 2; for 2 the trunk works at half the resolution, and gives the
    picture alone. `upsampler`: hold the layers behind the trunk; features alone do not run them, but the releases'
    files have them.
    """

    UPSTREAM_KEYS = (
        (r"^body\.(\d+)\.rdb(\d)\.", r"encoder.RRDB_trunk.\1.RDB\2."),
        (r"^conv_body\.", "encoder.trunk_conv."),
        (r"^conv_up(\d)\.", r"encoder.upconv\1."),
        (r"^conv_hr\.", "encoder.HRconv."),
        (r"^(conv_first|conv_last|RRDB_trunk|trunk_conv|upconv1|upconv2|HRconv)\.", r"encoder.\1."),
    )
    repeat_edge = False  # as Real-ESRGAN completes odd sides
    title = "RRDB"

    def __init__(
        self,
        *,
        factor: int = 4,
        n_feats: int = 64,
        n_blocks: int = 23,
        growth: int = 32,
        upsampler: bool = True,
        gives: Gives = "features",
    ) -> None:
        if factor not in (2, 4):
            raise ValueError(f"factor is 2 or 4, not {factor}")
        if gives != "features" and not upsampler:
            raise ValueError("a native picture needs the upsampler")
        if gives != "picture" and factor != UPSAMPLED:
            raise ValueError("features at half the resolution have no decoder but 'native'")
        super().__init__(factor, n_feats, gives)
        self.multiple_of = step = UPSAMPLED // factor
        self.practical_halo = 48 if gives == "features" else 80 * step
        self.halo = (15 * n_blocks + 2 + 2 * (gives != "features")) * step
        self.live_channels = 5 * n_feats + 8 * growth
        if gives != "features":
            self.cpu_tile_bytes = 2 << 30
        self.conv_first = nn.Conv2d(3 * step**2, n_feats, 3, padding=1)
        self.RRDB_trunk = nn.Sequential(*(ResidualInResidual(n_feats, growth) for _ in range(n_blocks)))
        self.trunk_conv = nn.Conv2d(n_feats, n_feats, 3, padding=1)
        if upsampler:
            self.upconv1 = nn.Conv2d(n_feats, n_feats, 3, padding=1)
            self.upconv2 = nn.Conv2d(n_feats, n_feats, 3, padding=1)
            self.HRconv = nn.Conv2d(n_feats, n_feats, 3, padding=1)
            self.conv_last = nn.Conv2d(n_feats, 3, 3, padding=1)
            if gives == "features":
                for layer in (self.upconv1, self.upconv2, self.HRconv, self.conv_last):
                    layer.requires_grad_(requires_grad=False)

    def features(self, lr: Tensor) -> Tensor:
        """(B, 3, h, w) normalised -> (B, n_feats, h, w), or half of h and w."""
        shallow = self.conv_first(F.pixel_unshuffle(lr, UPSAMPLED // self.factor))
        return shallow + self.trunk_conv(self.RRDB_trunk(shallow))

    def picture(self, feat: Tensor, lr: Tensor) -> Tensor:
        """In strips, since the layers before the last take 16 times the features' memory."""
        if torch.compiler.is_compiling():
            return F.pixel_unshuffle(self._upsampled(feat), self.factor)
        rows = max(1, STRIP // feat.shape[3])
        strips = []
        for top in range(0, feat.shape[2], rows):
            first = max(0, top - REACH)
            picture = self._upsampled(feat[:, :, first : top + rows + REACH])
            strips.append(picture[:, :, UPSAMPLED * (top - first) :][:, :, : UPSAMPLED * rows])
        return F.pixel_unshuffle(torch.cat(strips, dim=2), self.factor)

    def _upsampled(self, feat: Tensor) -> Tensor:
        for layer in (self.upconv1, self.upconv2):
            feat = fused_conv(layer, F.interpolate(feat, scale_factor=2, mode="nearest"), SLOPE)
        feat = fused_conv(self.HRconv, feat, SLOPE)
        with no_autocast(feat):
            return conv(self.conv_last, feat.float())
