"""Structural similarity, in the three forms that published tables use, and its multi-scale form.

Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity" (2004), with their 11x11
Gaussian window of sigma 1.5 and constants 0.01 and 0.03. The forms differ in what happens at the border and in the
arithmetic; see `srcli.metrics.protocol` for who uses which.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

F64 = NDArray[np.float64]

WINDOW, SIGMA = 11, 1.5
C1, C2 = 0.01**2, 0.03**2
CACHED = 90_000  # values of a strip
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang et al., MS-SSIM (2003)


def ssim(sr: NDArray[np.floating], hr: NDArray[np.floating]) -> float:
    """SSIM of (h, w[, c]) in [0, 1] in float64, over windows inside the picture. Raises ValueError (sides < 11)."""
    similarity, _ = _means(sr.astype(np.float64, copy=False), hr.astype(np.float64, copy=False))
    return float(similarity.mean())


def ssim_padded(sr: NDArray[np.floating], hr: NDArray[np.floating]) -> float:
    """SSIM of (h, w, 3) in [0, 1] over a window around every pixel, zeros beyond the border, in float32.

    This is the form of the CLIT and FPLIA tables. Its code computes variances in single precision as a mean of squares
    less a squared mean, which lowers the result by up to 1e-5; so do we, to give their figures. Raises ValueError
    (shapes differ).
    """
    import torch

    if sr.shape != hr.shape:
        raise ValueError(f"sizes differ: {sr.shape} and {hr.shape}")
    with torch.inference_mode():
        a, b = (torch.tensor(x, dtype=torch.float32).permute(2, 0, 1).contiguous() for x in (sr, hr))
        mean_a, mean_b = _blurred_single(a), _blurred_single(b)
        variance_a = _blurred_single(a * a) - mean_a**2
        variance_b = _blurred_single(b * b) - mean_b**2
        covariance = _blurred_single(a * b) - mean_a * mean_b
        numerator = (2 * mean_a * mean_b + C1) * (2 * covariance + C2)
        return float((numerator / ((mean_a**2 + mean_b**2 + C1) * (variance_a + variance_b + C2))).mean())


def _blurred_single(x: Tensor) -> Tensor:
    """Gaussian mean of (c, h, w) around every pixel, zeros beyond the border.

    One fused multiply-add per tap, in reading order, as the usual convolution kernels do: another order of
    summation shows in the sixth digit. It is nine times as fast as a convolution with one channel.
    """
    import torch

    kernel = torch.tensor(_bell(), dtype=torch.float32)
    kernel = kernel / kernel.sum()
    window = torch.outer(kernel, kernel).tolist()
    h, w = x.shape[-2:]
    padded = torch.nn.functional.pad(x, (WINDOW // 2,) * 4)
    total = torch.zeros_like(x)
    for top, row in enumerate(window):
        for left, weight in enumerate(row):
            total.add_(padded[:, top : top + h, left : left + w], alpha=weight)
    return total


def ms_ssim(sr: NDArray[np.floating], hr: NDArray[np.floating]) -> float:
    """MS-SSIM of (h, w, 3) in [0, 1] over five scales, mean over channels. Raises ValueError (a side < 161)."""
    a, b = sr.astype(np.float64, copy=False), hr.astype(np.float64, copy=False)
    smallest = (WINDOW - 1) * 2 ** (len(SCALE_WEIGHTS) - 1)
    if min(a.shape[:2]) <= smallest:
        raise ValueError(
            f"MS-SSIM needs more than {smallest} pixels on each side, got {a.shape[1]}x{a.shape[0]}"
        )
    product = np.ones(a.shape[2])
    for index, weight in enumerate(SCALE_WEIGHTS):
        similarity, contrast = _means(a, b)
        values = similarity if index == len(SCALE_WEIGHTS) - 1 else contrast
        product *= np.maximum(values, 0) ** weight  # a negative mean has no real power
        a, b = halved(a), halved(b)
    return float(product.mean())


def _means(a: F64, b: F64) -> tuple[F64, F64]:
    """Mean over the windows inside the picture, per channel, of the similarity and of its contrast term."""
    if a.shape != b.shape:
        raise ValueError(f"sizes differ: {a.shape} and {b.shape}")
    h, w = (side - WINDOW + 1 for side in a.shape[:2])
    if min(h, w) < 1:
        raise ValueError(f"SSIM needs at least {WINDOW} pixels on each side, got {a.shape[1]}x{a.shape[0]}")
    # Strips that fit the processor's cache, and no more temporaries than needed: three times as fast.
    rows = max(WINDOW, CACHED * a.shape[0] // a.size)
    sums = [
        _sums(a[top : min(top + rows, h) + WINDOW - 1], b[top : min(top + rows, h) + WINDOW - 1])
        for top in range(0, h, rows)
    ]
    similarity, contrast = (np.sum(part, axis=0) / (h * w) for part in zip(*sums, strict=True))
    return similarity, contrast


def _sums(a: F64, b: F64) -> tuple[F64, F64]:
    """Sums of similarity and contrast over the windows inside a strip, per channel."""
    mean_a, mean_b = _blurred(a), _blurred(b)
    product, squares = mean_a * mean_b, mean_a * mean_a + mean_b * mean_b
    covariance, variances = _blurred(a * b), _blurred(a * a + b * b)  # only the variances' sum is needed
    covariance -= product
    variances -= squares
    contrast = _ratio(covariance, variances, C2)
    similarity = _ratio(product, squares, C1)
    similarity *= contrast
    return similarity.sum(axis=(0, 1)), contrast.sum(axis=(0, 1))


def _ratio(above: F64, below: F64, constant: float) -> F64:
    """(2 above + constant) / (below + constant), in the place of `above`."""
    above *= 2
    above += constant
    below += constant
    above /= below
    return above


def _blurred(x: F64) -> F64:
    import cv2

    kernel = np.array(_bell()) / sum(_bell())
    half = WINDOW // 2
    blurred = cv2.sepFilter2D(np.ascontiguousarray(x), cv2.CV_64F, kernel, kernel)
    return np.asarray(blurred, np.float64)[half:-half, half:-half]


@lru_cache(maxsize=1)
def _bell() -> tuple[float, ...]:
    return tuple(math.exp(-((i - WINDOW // 2) ** 2) / (2 * SIGMA**2)) for i in range(WINDOW))


def halved(x: F64) -> F64:
    """The mean over 2x2 pixels of (h, w, ..); a row or column that is left over counts for nothing."""
    h, w = x.shape[0] // 2 * 2, x.shape[1] // 2 * 2
    return (x[:h:2, :w:2] + x[1:h:2, :w:2] + x[:h:2, 1:w:2] + x[1:h:2, 1:w:2]) / 4
