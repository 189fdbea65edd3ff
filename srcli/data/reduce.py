"""Making LR pictures from HR ones: which part of the picture, which size, which bicubic."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from srcli.errors import ImageError, UsageError, suggest
from srcli.geometry import Size, cubic

if TYPE_CHECKING:
    import torch
    from torch import Tensor

U8 = NDArray[np.uint8]
F64 = NDArray[np.float64]
PILLOW = -0.5  # parameter a of Keys' cubic kernel; also MATLAB's


def cropped_to_scale(hr: U8, scale: float) -> tuple[U8, Size]:
    """The part of an HR picture that an LR picture of whole pixels covers, and the size of that LR picture.

    The LIIF family's rule: h = floor(H / scale), then the top left round(h * scale) rows; columns likewise. ImageError
    for less than one LR pixel.
    """
    size = Size(*(math.floor(side / scale + 1e-9) for side in hr.shape[:2]))
    if min(size) < 1:
        raise ImageError(f"{hr.shape[1]}x{hr.shape[0]} pixels are too few for a scale of {scale:g}.")
    return hr[: round(size.h * scale), : round(size.w * scale)], size


def pillow_bicubic(hr: U8, size: tuple[int, int]) -> U8:
    """Antialiased bicubic (a = -0.5) of Pillow, rounded to 8 bit after each axis; (H, W, 3) to (h, w, 3)."""
    image = Image.fromarray(np.ascontiguousarray(hr))
    # One axis at a time: from version 13 on, Pillow begins with the rows of pictures that lose more than twice as
    # many rows as columns, which changes some values by one. The field's files were all made columns first.
    height, width = size
    across = image.resize((width, image.height), Image.Resampling.BICUBIC)
    return np.asarray(across.resize((width, height), Image.Resampling.BICUBIC))


def matlab_bicubic(hr: U8, size: tuple[int, int]) -> U8:
    """MATLAB's imresize, 'bicubic' with antialiasing, on 8-bit data; (H, W, 3) to (h, w, 3).

    Vertically first, rounded to 8 bit in between, the border pixel repeated: bit for bit the LR files that come
    with the usual copies of Set5, Set14 and BSD100.
    """
    height, width = size
    rows = _along_rows(hr, height)
    return np.ascontiguousarray(_along_rows(rows.swapaxes(0, 1), width).swapaxes(0, 1))


def _along_rows(x: U8, count: int) -> U8:
    index, weight = _taps(x.shape[0], count)
    total = np.zeros((count, *x.shape[1:]))
    for tap in range(index.shape[1]):
        total += weight[:, tap].reshape(-1, 1, 1) * x[index[:, tap]]
    return np.clip(np.floor(total + 0.5), 0, 255).astype(np.uint8)  # MATLAB rounds halves up


def _taps(old: int, new: int) -> tuple[NDArray[np.int64], F64]:
    """Indices and weights (new, taps) of every output sample."""
    shrink = min(new / old, 1.0)
    centre = (np.arange(new) + 0.5) * old / new - 0.5
    first = np.floor(centre - 2 / shrink).astype(np.int64)
    index = first[:, None] + np.arange(math.ceil(4 / shrink) + 2)
    weight = cubic(shrink * (centre[:, None] - index), PILLOW)
    return np.clip(index, 0, old - 1), weight / weight.sum(axis=1, keepdims=True)


REDUCTIONS: Mapping[str, Callable[[U8, tuple[int, int]], U8]] = MappingProxyType(
    {"pillow-bicubic": pillow_bicubic, "matlab-bicubic": matlab_bicubic}
)


def reduce_by(name: str, hr: U8, size: tuple[int, int]) -> U8:
    """`hr` reduced to `size` in the way called `name`. Raises UsageError (an unknown name)."""
    if name not in REDUCTIONS:
        raise UsageError(f"unknown reduction '{name}'.", hint=suggest(name, REDUCTIONS))
    return REDUCTIONS[name](hr, size)


BITS = 22  # 32 less 8 for the value and 2 for weights that add up to more than one
SUPPORT = 2.0  # of the cubic kernel, in samples
_KEPT = 4096  # axes whose weights are remembered


class Taps(NamedTuple):
    """For every sample of the new axis, the first source sample (n,) and the weights from there on (n, taps)."""

    first: NDArray[np.int32]
    weight: NDArray[np.int32]


class BatchTaps(NamedTuple):
    """The same for a batch of axes: first (B, n) int64, weight (B, n, taps) int32, tensors on one device."""

    first: Tensor
    weight: Tensor


@lru_cache(maxsize=_KEPT)
def taps(old: int, new: int) -> Taps:
    """Taps from an axis of `old` samples to one of `new`, as Pillow computes them in double precision."""
    step = old / new
    stretch = max(step, 1.0)
    support = SUPPORT * stretch
    centre = (np.arange(new) + 0.5) * step
    low = np.maximum((centre - support + 0.5).astype(np.int64), 0)
    high = np.minimum((centre + support + 0.5).astype(np.int64), old)
    offset = np.arange(math.ceil(support) * 2 + 1)
    inside = offset < (high - low)[:, None]
    weight = np.where(
        inside, cubic((low[:, None] + offset - centre[:, None] + 0.5) * (1 / stretch), PILLOW), 0.0
    )
    total = np.zeros(new)
    for column in weight.T:  # one after the other, as Pillow adds them
        total += column
    scaled = weight / total[:, None] * (1 << BITS)
    rounded = np.where(scaled < 0, scaled - 0.5, scaled + 0.5).astype(np.int32)
    return Taps(low.astype(np.int32), rounded)


def batch_taps(pairs: list[tuple[int, int]], device: torch.device | str = "cpu") -> BatchTaps:
    """Taps of several axes (old, new), padded with zero weights to the longest."""
    parts = [taps(old, new) for old, new in pairs]
    longest = max(new for _, new in pairs), max(part.weight.shape[1] for part in parts)
    first = np.zeros((len(pairs), longest[0]), np.int64)
    weight = np.zeros((len(pairs), *longest), np.int32)
    for place, part in enumerate(parts):
        first[place, : part.first.size] = part.first
        weight[place, : part.weight.shape[0], : part.weight.shape[1]] = part.weight
    import torch

    return BatchTaps(*(torch.from_numpy(x).to(device, non_blocking=True) for x in (first, weight)))


def resize(pictures: Tensor, rows: BatchTaps, cols: BatchTaps) -> Tensor:
    """Pictures (B, H, W, C) uint8 resized by the taps of their rows and columns, (B, h, w, C) uint8."""
    across = _along_columns(pictures, cols)
    return _along_columns(across.transpose(1, 2), rows).transpose(1, 2)


def bicubic(pictures: Tensor, size: Size) -> Tensor:
    """Pillow's bicubic of pictures (B, H, W, C) uint8, (B, h, w, C) uint8 on the same device."""
    rows, cols = (
        batch_taps([(old, new)], pictures.device) for old, new in zip(pictures.shape[1:3], size, strict=True)
    )
    return resize(
        pictures, *(BatchTaps(*(x.expand(len(pictures), *x.shape[1:]) for x in t)) for t in (rows, cols))
    )


def _along_columns(pictures: Tensor, by: BatchTaps) -> Tensor:
    import torch  # where a batch needs it: a comparison of two pictures does not

    b, height, width, channels = pictures.shape
    shape = b, height, by.first.shape[1], channels
    total = torch.full(shape, 1 << (BITS - 1), dtype=torch.int32, device=pictures.device)
    for tap in range(by.weight.shape[2]):
        # Beyond the last column every weight is zero: any pixel will do.
        index = (by.first + tap).clamp(max=width - 1).view(b, 1, -1, 1).expand(shape)
        total += pictures.gather(2, index).to(torch.int32) * by.weight[..., tap].view(b, 1, -1, 1)
    return (total >> BITS).clamp(0, 255).to(torch.uint8)
