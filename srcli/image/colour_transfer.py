"""Undoing the colour casts of a model: results take their tone from the enlarged input again.

    adain    mean and deviation of every channel become those of the enlarged input (StableSR)
    wavelet  the low frequencies, five levels of the à trous transform, become those of the enlarged input (StableSR)
    lowpass  the input less the reduced result is blurred, enlarged and added: one step of back-projection

Each works on the whole picture. adain fails where a cast is local; wavelet also brings back the input's blotches.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from srcli.geometry import Size
from srcli.image.resize import resize_rows

F32 = NDArray[np.float32]
TransferMethod = Literal["adain", "wavelet", "lowpass"]

LEVELS = 5  # of the transform; the last reaches 2 * 16 pixels
EPSILON = 1e-5  # added to variances


def transfer_colours(sr: F32, lr: F32, how: TransferMethod) -> F32:
    """The result (H, W, 3) with the colours of its input (h, w, 3), both around [0, 1]; not clamped."""
    return {"adain": _adain, "wavelet": _wavelet, "lowpass": _lowpass}[how](sr, lr)


def colour_shift(sr: F32, lr: F32) -> tuple[float, float, float]:
    """How far the mean of each channel is from the input's, in 8-bit levels."""
    levels = (sr.mean((0, 1), dtype=np.float64) - lr.mean((0, 1), dtype=np.float64)) * 255
    return float(levels[0]), float(levels[1]), float(levels[2])


def _adain(sr: F32, lr: F32) -> F32:
    like = _resized(lr, sr.shape[:2])
    mean, wanted = (x.mean((0, 1), dtype=np.float64) for x in (sr, like))
    spread, aim = (np.sqrt(x.var((0, 1), dtype=np.float64, ddof=1) + EPSILON) for x in (sr, like))
    return ((sr - mean) * (aim / spread) + wanted).astype(np.float32)


def _wavelet(sr: F32, lr: F32) -> F32:
    return sr - _low(sr) + _low(_resized(lr, sr.shape[:2]))


def _low(x: F32) -> F32:
    for level in range(LEVELS):
        x = _smooth(x, 1 << level)
    return x


def _lowpass(sr: F32, lr: F32) -> F32:
    missing = _smooth(lr - _resized(sr, lr.shape[:2]), 1)
    return sr + _resized(missing, sr.shape[:2])


def _smooth(x: F32, step: int) -> F32:
    """[1 2 1] / 4 on both axes, its taps `step` pixels apart, the border's pixel repeated."""
    for axis in (0, 1):
        n = x.shape[axis]
        before = np.maximum(np.arange(n) - step, 0)
        after = np.minimum(np.arange(n) + step, n - 1)
        x = (x.take(before, axis) + x.take(after, axis) + 2 * x) / np.float32(4)
    return x


def _resized(x: F32, size: tuple[int, ...]) -> F32:
    """Bicubic, antialiased where it is reduced."""
    old, new = Size(*x.shape[:2]), Size(*size)
    return resize_rows(lambda top, bottom: x[top:bottom], old, new, 0, new.h, kernel="bicubic")
