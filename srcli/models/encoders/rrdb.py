"""RRDB, the trunk of ESRGAN without its upsampler: residual-in-residual dense blocks.

Wang et al., "ESRGAN: Enhanced Super-Resolution Generative Adversarial Networks", ECCVW 2018,
https://arxiv.org/abs/1809.00219. Written from the paper; keys of LINF's release.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srcli.models.sr import Encoder

RESIDUAL = 0.2  # the factor on every residual branch


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
        """(B, C, h, w) -> (B, C, h, w)."""
        dense = x
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            dense = torch.cat([dense, F.leaky_relu(conv(dense), 0.2)], dim=1)
        return x + RESIDUAL * self.conv5(dense)


class ResidualInResidual(nn.Module):
    """Three dense blocks in a row; a fifth of it plus the input."""

    def __init__(self, n_feats: int, growth: int) -> None:
        super().__init__()
        self.RDB1 = DenseBlock(n_feats, growth)
        self.RDB2 = DenseBlock(n_feats, growth)
        self.RDB3 = DenseBlock(n_feats, growth)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        return x + RESIDUAL * self.RDB3(self.RDB2(self.RDB1(x)))


class RRDB(Encoder):
    """RRDB with 23 blocks of 64 channels by default: 16,697,987 parameters with the unused upsampler.

    Tiles are exact with 347 pixels of context, one per convolution on the longest path. The influence of far
    pixels dies out long before: with random weights features equal the image's to rounding (2e-6 of their standard
    deviation) from 16 pixels on; 48, the practical halo, leave room for trained ones.

    Args:
        n_feats: channels between blocks and of the output.
        n_blocks: residual-in-residual blocks.
        growth: channels each dense convolution adds.
        upsampler: hold the releases' layers behind the trunk, which are never run, so that their files load
            strictly.
    """

    practical_halo = 48

    def __init__(
        self, *, n_feats: int = 64, n_blocks: int = 23, growth: int = 32, upsampler: bool = True
    ) -> None:
        super().__init__()
        self.out_dim = n_feats
        self.halo = 15 * n_blocks + 2
        self.conv_first = nn.Conv2d(3, n_feats, 3, padding=1)
        self.RRDB_trunk = nn.Sequential(*(ResidualInResidual(n_feats, growth) for _ in range(n_blocks)))
        self.trunk_conv = nn.Conv2d(n_feats, n_feats, 3, padding=1)
        if upsampler:
            self.upconv1 = nn.Conv2d(n_feats, n_feats, 3, padding=1).requires_grad_(requires_grad=False)
            self.upconv2 = nn.Conv2d(n_feats, n_feats, 3, padding=1).requires_grad_(requires_grad=False)
            self.HRconv = nn.Conv2d(n_feats, n_feats, 3, padding=1).requires_grad_(requires_grad=False)
            self.conv_last = nn.Conv2d(n_feats, 3, 3, padding=1).requires_grad_(requires_grad=False)

    def forward(self, lr: Tensor) -> Tensor:
        """(B, 3, h, w) normalised -> (B, n_feats, h, w)."""
        shallow = self.conv_first(lr)
        return shallow + self.trunk_conv(self.RRDB_trunk(shallow))
