"""Cross-scale attention: every pixel is rebuilt from patches of the same image at twice its size.

Mei et al., "Image Super-Resolution with Cross-Scale Non-Local Attention and Exhaustive Self-Exemplars Mining",
CVPR 2020, https://arxiv.org/abs/2006.01424, as the releases of CiaoSR and LM-CiaoSR use it; their keys.

A pixel's 3x3 surroundings are compared with every 3x3 patch of the halved image; the 6x6 patches at those places are
pasted, weighted, into an image of twice the size, which a 3x3 convolution of stride 2 brings back. Pasting and
convolution are linear, so the convolution is done first, on what is pasted: a patch contributes to 4x4 pixels of the
result instead of 6x6 of the enlarged image. Where a patch reaches, the convolution sees all of its three rows, only
the last two, or only the first (`TAPS`), and the products with the weights run over a few rows of pixels at a time.
"""

from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srcli.geometry import spans, starts
from srcli.models.layers import AtOnce, no_autocast

SHARPNESS = 10.0  # factor on the correlations before the softmax
MOST_PATCHES = 6.0  # how many pasted patches overlap, as the releases count them
CHUNK = AtOnce(1 << 22, 1 << 28)  # weights (pixels times patches): 16 MiB, 1 GiB

Rows = tuple[int, int]
# The rows (or columns) of the 3x3 kernel that fall on a pasted patch.
ALL, LAST, FIRST = (0, 3), (1, 3), (0, 1)
# A patch pasted at pixel p counts for the pixels p - 1, p, p + 1, p + 2.
TAPS = (LAST, ALL, ALL, FIRST)
# One pasted at the first pixel: what would lie before the first row of the enlarged image is cut off.
TAPS_AT_EDGE = (LAST, LAST, ALL, FIRST)


class CrossScaleAttention(nn.Module):
    """Non-local features of an image: (B, C, h, w) -> (B, C, h, w); time grows with (h w)^2, memory with h w."""

    escape_NaN: Tensor  # noqa: N815 - the key in the releases

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("escape_NaN", torch.tensor([1e-4]))  # smallest norm of a patch
        self.conv_match_1 = nn.Sequential(nn.Conv2d(dim, dim // 2, 1), nn.PReLU())
        self.conv_match_2 = nn.Sequential(nn.Conv2d(dim, dim // 2, 1), nn.PReLU())
        self.conv_assembly = nn.Sequential(nn.Conv2d(dim, dim, 1), nn.PReLU())
        self.down = nn.Conv2d(dim, dim, 3, stride=2, padding=1)

    def forward(self, feat: Tensor) -> Tensor:
        """Attention of each image over itself, in float32 whatever the features come in."""
        with no_autocast(feat):
            even = _even(feat.float())
            match, assembly = self.conv_match_1(even), self.conv_assembly(even)
            reference = self.conv_match_2(F.avg_pool2d(even, 2))
            images = [self._attend(*each) for each in zip(match, reference, assembly, strict=True)]
            assert self.down.bias is not None
            out = torch.stack(images) + self.down.bias.view(-1, 1, 1)
        return (out / MOST_PATCHES)[:, :, : feat.shape[2], : feat.shape[3]]

    def _attend(self, match: Tensor, reference: Tensor, assembly: Tensor) -> Tensor:
        """One image (C/2, h, w), (C/2, h/2, w/2), (C, h, w) -> (C, h, w), without the last bias."""
        c, h, w = assembly.shape
        patches = F.unfold(reference[None], 3, padding=1)[0]  # (9C/2, L)
        patches = patches * (SHARPNESS / torch.maximum(patches.norm(dim=0), self.escape_NaN))
        around = F.pad(match, (1, 1, 1, 1))[None]
        brought = self._brought_back(assembly[None])
        out = assembly.new_zeros(c, h + 3, w + 3)
        step = max(1, CHUNK.on(out.device) // (patches.shape[1] * w))
        for down, right in product((TAPS_AT_EDGE, TAPS), repeat=2):
            pasted = _pasted(brought, down, right)
            columns = (0, 1) if right is TAPS_AT_EDGE else (1, w)
            for top, bottom in [(0, 1)] if down is TAPS_AT_EDGE else spans(h, step, first=1):
                left, end = columns
                seen = F.unfold(around[:, :, top : bottom + 2, left : end + 2], 3)[0]
                weights = (seen.t() @ patches).softmax(-1)
                size = (bottom - top + 3, end - left + 3)
                out[:, top : bottom + 3, left : end + 3] += F.fold(pasted @ weights.t(), size, 4)
        return out[:, 1 : h + 1, 1 : w + 1]

    def _brought_back(self, assembly: Tensor) -> dict[tuple[Rows, Rows], Tensor]:
        """The last convolution of the image at stride 2 by each part of its kernel: (1, C, h/2 + 3, w/2 + 3).

        Element [i, j] belongs to half-size pixel (i - 1, j - 1); there is one more before the image, two behind.
        """
        padded = F.pad(assembly, (3, 4, 3, 4))
        maps = {}
        for rows, cols in product((ALL, LAST, FIRST), repeat=2):
            kernel = self.down.weight[:, :, slice(*rows), slice(*cols)]
            maps[rows, cols] = F.conv2d(padded[:, :, rows[0] :, cols[0] :], kernel, stride=2)
        return maps


def in_windows(attention: CrossScaleAttention, feat: Tensor, side: int, overlap: int) -> Tensor:
    """Attention within square windows of `side` pixels that share `overlap`, averaged: (B, C, h, w)."""
    total, count = torch.zeros_like(feat, dtype=torch.float32), feat.new_zeros(feat.shape[-2:])
    for top, left in product(*(starts(size, side, overlap) for size in feat.shape[-2:])):
        at = (..., slice(top, top + side), slice(left, left + side))
        total[at] += attention(feat[at])
        count[at] += 1
    return total / count


def _even(feat: Tensor) -> Tensor:
    """Features (B, C, h, w) with one row or column reflected where a side is odd."""
    for dim in (-2, -1):
        size = feat.shape[dim]
        if size % 2:
            feat = torch.cat([feat, feat.narrow(dim, max(size - 2, 0), 1)], dim)
    return feat


def _pasted(
    brought: dict[tuple[Rows, Rows], Tensor], down: tuple[Rows, ...], right: tuple[Rows, ...]
) -> Tensor:
    """What every patch contributes to the 4x4 pixels about the one it is pasted at: (16C, L), as fold wants it."""
    some = brought[ALL, ALL]
    h, w = some.shape[2] - 3, some.shape[3] - 3
    parts = [
        brought[rows, cols][0, :, y : y + h, x : x + w]
        for (y, rows), (x, cols) in product(enumerate(down), enumerate(right))
    ]
    return torch.stack(parts, dim=1).reshape(-1, h * w)
