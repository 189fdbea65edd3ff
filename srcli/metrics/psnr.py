"""Peak signal-to-noise ratio, and the field's luma and border."""

import math

import numpy as np
from numpy.typing import NDArray

# BT.601 studio swing, as the LIIF family weighs a difference.
LUMA = np.array([65.738, 129.057, 25.064]) / 256


def psnr(sr: NDArray[np.floating], hr: NDArray[np.floating], *, shave: int = 0) -> float:
    """PSNR in dB of (h, w) or (h, w, 3) in [0, 1], without `shave` pixels on every side. Raises ValueError (shapes)."""
    if sr.shape != hr.shape:
        raise ValueError(f"sizes differ: {sr.shape} and {hr.shape}")
    difference = shaved(sr.astype(np.float64) - hr, shave)
    mse = float(np.mean(np.square(difference)))
    return math.inf if mse == 0 else -10 * math.log10(mse)


def shaved(x: NDArray[np.floating], border: int) -> NDArray[np.floating]:
    """`x` without `border` pixels on every side; ValueError if nothing is left."""
    inside = x[border:-border, border:-border] if border else x
    if inside.size == 0:
        raise ValueError(f"a border of {border} leaves nothing of {x.shape[1]}x{x.shape[0]}")
    return inside


def luma_of(rgb: NDArray[np.floating], *, rounded: bool = False) -> NDArray[np.float64]:
    """Luma (h, w) of (h, w, 3) in [0, 1], in studio swing: 16/255 for black, 235/255 for white.

    `rounded` to whole 8-bit levels is what scripts have that convert to an 8-bit YCbCr picture first.
    """
    y = rgb.astype(np.float64) @ LUMA + 16 / 255
    return np.rint(y * 255) / 255 if rounded else y
