"""How spread-out things compare: samples of one picture, spectra, and histograms of values."""

import numpy as np
from numpy.typing import NDArray

from srcli.metrics.psnr import luma_of

U8 = NDArray[np.uint8]

BINS = 64  # of radial frequency, from 0 to half a cycle per pixel
FLOOR = (1 / 255) ** 2 / 12  # power of 8-bit rounding noise: differences below it mean nothing


def diversity(samples: NDArray[np.integer]) -> float:
    """LINF's standard deviation over results (n, h, w, 3) for one input, mean over all values; ValueError for n < 2."""
    if len(samples) < 2:
        raise ValueError("diversity needs at least two samples")
    return float(np.std(samples.astype(np.float64), axis=0, ddof=1).mean())


def spectral_distance(sr: NDArray[np.floating], hr: NDArray[np.floating]) -> float:
    """Mean distance in dB of the radial power spectra of luma, of (h, w, 3) in [0, 1].

    The spectrum (Hann window, mean over each ring of equal frequency) says how much detail of each size there is,
    wherever it lies: blur and noise both raise the distance, a shift does not. Ours; there is no paper. Raises
    ValueError (shapes differ).
    """
    if sr.shape != hr.shape:
        raise ValueError(f"sizes differ: {sr.shape} and {hr.shape}")
    a, b = radial_spectrum(luma_of(sr)), radial_spectrum(luma_of(hr))
    return float(np.mean(np.abs(10 * np.log10((a + FLOOR) / (b + FLOOR)))))


def radial_spectrum(y: NDArray[np.floating]) -> NDArray[np.float64]:
    """Power (BINS,) of (h, w) per ring of frequency, scaled so that white noise gives its variance."""
    h, w = y.shape
    window = np.hanning(h + 2)[1:-1, None] * np.hanning(w + 2)[None, 1:-1]
    centred = (y - np.average(y, weights=window)) * window
    power = np.abs(np.fft.rfft2(centred)) ** 2 / np.sum(window**2)
    radius = np.hypot(np.fft.fftfreq(h)[:, None], np.fft.rfftfreq(w)[None, :])
    ring = np.minimum((radius * 2 * BINS).astype(np.int64), BINS)  # corners beyond 1/2: a last, unused ring
    total = np.bincount(ring.ravel(), power.ravel(), BINS + 1)[:BINS]
    count = np.bincount(ring.ravel(), minlength=BINS + 1)[:BINS]
    return total[count > 0] / count[count > 0]


def histogram_distance(a: U8, b: U8) -> float:
    """Wasserstein-1 distance in 8-bit levels between the values of (h, w, 3) and (h', w', 3), mean over channels."""
    return float(np.mean(channel_distances(a, b)))


def channel_distances(a: U8, b: U8) -> tuple[float, float, float]:
    """The same for red, green and blue."""
    differences = (_cumulative(a[..., c]) - _cumulative(b[..., c]) for c in range(3))
    red, green, blue = (float(np.abs(difference).sum()) for difference in differences)
    return red, green, blue


def _cumulative(values: U8) -> NDArray[np.float64]:
    return np.cumsum(np.bincount(values.ravel(), minlength=256)) / values.size
