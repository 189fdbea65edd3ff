"""Antialiased resizing by separable kernels: for transparency, for scales below 1, and as a baseline.

The kernels and their handling of edges are Pillow's (Resample.c): a kernel is widened by the reduction, its taps
are cut at the border and scaled to sum to one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from srcli.geometry import cubic
from srcli.image.samples import F32, Samples, to_float

Kernel = Literal["nearest", "box", "bilinear", "bicubic", "lanczos"]
SUPPORT: dict[str, float] = {"nearest": 0.0, "box": 0.5, "bilinear": 1.0, "bicubic": 2.0, "lanczos": 3.0}
F64 = NDArray[np.float64]
BAND_BYTES = 64 << 20


def _box(x: F64) -> F64:
    return ((x > -0.5) & (x <= 0.5)).astype(np.float64)


def _bilinear(x: F64) -> F64:
    return np.maximum(1 - np.abs(x), 0)


def _lanczos(x: F64) -> F64:
    return np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0)


KERNELS: dict[str, Callable[[F64], F64]] = {
    "box": _box,
    "bilinear": _bilinear,
    "bicubic": partial(cubic, a=-0.5),
    "lanczos": _lanczos,
}


@dataclass(frozen=True)
class Taps:
    """For each of n outputs on an axis: the k inputs it reads and their weights, both (n, k)."""

    index: NDArray[np.int64]
    weight: F32


@lru_cache(maxsize=16)
def taps(source: int, target: int, kernel: Kernel) -> Taps:
    """The taps that turn an axis of `source` pixels into one of `target`."""
    if kernel == "nearest":
        index = (2 * np.arange(target) + 1) * source // (2 * target)  # in integers: ties go up, everywhere
        return Taps(index[:, None], np.ones((target, 1), np.float32))
    step = source / target
    centre = (np.arange(target) + 0.5) * step
    stretch = max(step, 1.0)
    reach = SUPPORT[kernel] * stretch
    first = np.maximum(np.floor(centre - reach + 0.5).astype(np.int64), 0)
    last = np.minimum(np.floor(centre + reach + 0.5).astype(np.int64), source)
    index = first[:, None] + np.arange(int((last - first).max()))
    weight = KERNELS[kernel]((index + 0.5 - centre[:, None]) / stretch)
    weight = np.where(index < last[:, None], weight, 0)
    weight /= weight.sum(axis=1, keepdims=True)
    return Taps(np.minimum(index, source - 1), weight.astype(np.float32))


def resize_rows(
    read: Callable[[int, int], F32],
    source: tuple[int, int],
    target: tuple[int, int],
    top: int,
    bottom: int,
    *,
    kernel: Kernel = "bicubic",
) -> F32:
    """Rows [top, bottom) of a picture resized to `target`; the same numbers however the rows are cut.

    Args:
        read: gives source rows [first, last) as float32 (n, w) or (n, w, c), such as `Image.strip`.
        source: (h, w).
        target: (H, W).
        top: first row.
        bottom: one past the last.
        kernel: nearest, box, bilinear, bicubic (a = -0.5) or lanczos (3 lobes).
    """
    down, across = taps(source[0], target[0], kernel), taps(source[1], target[1], kernel)
    index, weight = down.index[top:bottom], down.weight[top:bottom]
    first = int(index.min())
    rows = read(first, int(index.max()) + 1)
    tail = (1,) * (rows.ndim - 1)
    tall = np.zeros((bottom - top, *rows.shape[1:]), np.float32)
    for k in range(index.shape[1]):
        tall += weight[:, k].reshape(-1, *tail) * rows[index[:, k] - first]
    out = np.zeros((bottom - top, target[1], *rows.shape[2:]), np.float32)
    for k in range(across.index.shape[1]):
        out += across.weight[:, k].reshape(1, -1, *tail[1:]) * np.take(tall, across.index[:, k], axis=1)
    return out


def resize(picture: Samples, size: tuple[int, int], *, kernel: Kernel = "bicubic") -> F32:
    """A picture (h, w) or (h, w, c) resized to `size` (H, W), float32; integers are scaled to [0, 1] first."""
    h, w = picture.shape[:2]
    out = np.empty((*size, *picture.shape[2:]), np.float32)
    step = max(1, BAND_BYTES // max(1, out[:1].nbytes))
    for top in range(0, size[0], step):
        bottom = min(top + step, size[0])
        out[top:bottom] = resize_rows(
            lambda first, last: to_float(picture[first:last]), (h, w), size, top, bottom, kernel=kernel
        )
    return out


def is_flat(pixels: Samples) -> bool:
    """Whether a picture (h, w, c) has one colour."""
    first = pixels[0:1][:, :1]  # slices alone: it may be a spool
    return all(bool((pixels[top : top + 64] == first).all()) for top in range(0, pixels.shape[0], 64))


def is_hard(alpha: Samples) -> bool:
    """Whether there are no more than two values, as in palettes and keyed colours."""
    return bool(((alpha == alpha.min()) | (alpha == alpha.max())).all())


def steepened(rows: F32, levels: tuple[float, float], scale: float) -> F32:
    """Rows of hard alpha that were enlarged linearly: a ramp of one source pixel becomes one of two pixels.

    Args:
        rows: (n, W) between the two levels.
        levels: the lower and the higher one.
        scale: by which they were enlarged.
    """
    low, high = levels
    share = (rows - np.float32(low)) / np.float32(max(high - low, 1e-9))
    share = np.clip((share - np.float32(0.5)) * np.float32(max(1.0, scale / 2)) + np.float32(0.5), 0, 1)
    return np.float32(low) + share * np.float32(high - low)


def extremes(alpha: Samples) -> tuple[Samples, Samples]:
    """The least and the greatest alpha among each pixel (h, w) and its four neighbours."""
    import cv2

    around = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    return cv2.erode(alpha, around), cv2.dilate(alpha, around)
