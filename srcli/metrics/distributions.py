"""How detail and values compare, wherever in the picture they lie: gradients, patches, spectra, histograms, samples."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from srcli.metrics.psnr import luma_of

U8 = NDArray[np.uint8]
F64 = NDArray[np.float64]

BINS = 64  # of radial frequency, from 0 to half a cycle per pixel
FLOOR = (1 / 255) ** 2 / 12  # power of 8-bit rounding noise: differences below it mean nothing

LEVELS = 3  # of the pyramid
SIDE = 7  # of a patch
DIRECTIONS = 128  # that patches are projected onto
PATCHES = 16384  # of a level at most, the same places in both pictures
KERNEL = np.array([1, 4, 6, 4, 1]) / 16


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


def radial_spectrum(y: NDArray[np.floating]) -> F64:
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


def _cumulative(values: U8) -> F64:
    return np.cumsum(np.bincount(values.ravel(), minlength=256)) / values.size


def gradient_ratio(sr: NDArray[np.floating], hr: NDArray[np.floating]) -> float:
    """Mean squared step of luma between neighbours in (h, w, 3), over the truth's; ValueError where that is flat."""
    energies = [sum(float(np.square(np.diff(luma_of(x), axis=a)).mean()) for a in (0, 1)) for x in (sr, hr)]
    if not energies[1]:
        raise ValueError("the truth is flat")
    return energies[0] / energies[1]


def patch_distance(
    sr: NDArray[np.floating], hr: NDArray[np.floating], *, levels: int = LEVELS, count: int = DIRECTIONS
) -> float:
    """Sliced Wasserstein distance of small patches of luma, of (h, w, 3) in [0, 1], in 8-bit levels.

    Patches of 7x7 pixels of each of the `levels` of a Laplacian pyramid (without its rest) are projected onto `count`
    random directions, the same for all pictures; the distance between the sorted projections is averaged over
    directions and levels. As in Karras et al. (ICLR 2018), for pairs of pictures. Raises ValueError (shapes differ, or
    the picture is too small).
    """
    if sr.shape != hr.shape:
        raise ValueError(f"sizes differ: {sr.shape} and {hr.shape}")
    if min(sr.shape[:2]) < (least := SIDE * 2 ** (levels - 1)):
        raise ValueError(f"the picture's sides must have {least} pixels at least")
    draw = np.random.Generator(np.random.Philox(0))
    found = []
    for a, b in zip(*(_bands(luma_of(x), levels) for x in (sr, hr)), strict=True):
        directions = draw.standard_normal((SIDE * SIDE, count))
        directions /= np.linalg.norm(directions, axis=0)
        room = (a.shape[0] - SIDE + 1, a.shape[1] - SIDE + 1)
        places = draw.permutation(room[0] * room[1])[:PATCHES]
        one, other = (np.sort(_patches(x, places, room[1]) @ directions, axis=0) for x in (a, b))
        found.append(np.abs(one - other).mean())
    return 255 * float(np.mean(found))


def _bands(y: F64, levels: int) -> Iterator[F64]:
    """Differences between a picture and its blur, each level of half the size."""
    for _ in range(levels):
        blurred = _blur(y)
        yield y - blurred
        y = blurred[::2, ::2]


def _blur(y: F64) -> F64:
    for axis in (0, 1):
        padded = np.pad(y, [(2, 2) if a == axis else (0, 0) for a in (0, 1)], mode="reflect")
        length = y.shape[axis]
        parts = [padded.take(range(k, k + length), axis=axis) * weight for k, weight in enumerate(KERNEL)]
        y = np.sum(parts, axis=0)
    return y


def _patches(y: F64, places: NDArray[np.int64], width: int) -> F64:
    """Patches (n, 49) with their corners at flat `places`."""
    windows = np.lib.stride_tricks.sliding_window_view(y, (SIDE, SIDE))
    return windows[places // width, places % width].reshape(len(places), -1)
