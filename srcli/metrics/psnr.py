"""Peak signal-to-noise ratio, with the field's luma and border rules as arguments."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

LUMA = (
    np.array([65.738, 129.057, 25.064]) / 256
)  # BT.601 studio swing, as the LIIF family weighs a difference


def psnr(sr: NDArray[np.floating], hr: NDArray[np.floating], *, shave: int = 0, luma: bool = False) -> float:
    """PSNR in dB of sr against hr, both (h, w, 3) in [0, 1].

    Args:
        sr: the result.
        hr: the ground truth.
        shave: border pixels left out on every side.
        luma: weigh the difference to luma instead of pooling the three channels; the offset cancels.

    Raises:
        ValueError: shapes differ, or the border leaves nothing.
    """
    if sr.shape != hr.shape:
        raise ValueError(f"sizes differ: {sr.shape} and {hr.shape}")
    difference = sr.astype(np.float64) - hr
    if luma:
        difference = difference @ LUMA
    if shave:
        difference = difference[shave:-shave, shave:-shave]
    if difference.size == 0:
        raise ValueError(f"a border of {shave} leaves nothing of {sr.shape[1]}x{sr.shape[0]}")
    mse = float(np.mean(difference**2))
    return math.inf if mse == 0 else -10 * math.log10(mse)
