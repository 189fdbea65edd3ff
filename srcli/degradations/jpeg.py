"""JPEG's losses, computed on any device and for fractional qualities.

Discrete cosine transform of 8x8 blocks, chroma at half the resolution, the tables of the standard's annex K scaled by
the quality as libjpeg scales them. Steps are not rounded to whole numbers, so that the quality can be any number.
"""

import math
from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from srcli.degradations import LUMA

BLOCK = 8
LUMA_TABLE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
CHROMA_TABLE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)
_TO_YCBCR = (LUMA, (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
_TO_RGB = ((1.0, 0.0, 1.402), (1.0, -0.344136, -0.714136), (1.0, 1.772, 0.0))


def jpeg(picture: Tensor, quality: float) -> Tensor:
    """A picture (1, 3, h, w), clipped to [0, 1], as it looks after JPEG with 4:2:0 chroma; 0 < quality <= 100."""
    h, w = picture.shape[-2:]
    padded = _padded(picture.clamp(0, 1) * 255)
    luma, chroma = _mixed(padded, _TO_YCBCR).split([1, 2], dim=1)
    steps = (200 - 2 * quality if quality >= 50 else 5000 / quality) / 100
    luma = _quantised(luma - 128, _table(LUMA_TABLE, steps, picture)) + 128
    chroma = _quantised(avg_pool2d(chroma, 2), _table(CHROMA_TABLE, steps, picture))
    whole = torch.cat([luma, interpolate(chroma, scale_factor=2.0, mode="nearest")], dim=1)
    return (_mixed(whole, _TO_RGB)[..., :h, :w] / 255).clamp(0, 1)


def _padded(picture: Tensor) -> Tensor:
    """The last row and column repeated until both sides are multiples of 16."""
    for dim in (-2, -1):
        side = picture.shape[dim]
        whole = math.ceil(side / (2 * BLOCK)) * 2 * BLOCK
        index = torch.arange(whole, device=picture.device).clamp(max=side - 1)
        picture = picture.index_select(dim, index)
    return picture


def _mixed(picture: Tensor, rows: tuple[tuple[float, ...], ...]) -> Tensor:
    return torch.einsum("kc,bchw->bkhw", picture.new_tensor(rows), picture)


def _table(table: tuple[tuple[int, ...], ...], steps: float, like: Tensor) -> Tensor:
    """Quantisation steps; none is finer than one level, as in files."""
    return (like.new_tensor(table) * steps).clamp(min=1)


def _quantised(planes: Tensor, table: Tensor) -> Tensor:
    """Planes (1, c, h, w) after transform, rounding to the steps of a table, and back."""
    b, c, h, w = planes.shape
    dct = _cosines().to(planes)
    blocks = planes.reshape(b, c, h // BLOCK, BLOCK, w // BLOCK, BLOCK).transpose(3, 4)
    rounded = (dct @ blocks @ dct.T / table).round() * table
    return (dct.T @ rounded @ dct).transpose(3, 4).reshape(b, c, h, w)


@cache
def _cosines() -> Tensor:
    """The orthonormal transform of 8 samples."""
    k, n = torch.arange(BLOCK, dtype=torch.float64)[:, None], torch.arange(BLOCK, dtype=torch.float64)
    rows = torch.cos(math.pi * (2 * n + 1) * k / (2 * BLOCK)) / 2
    rows[0] /= math.sqrt(2)
    return rows
