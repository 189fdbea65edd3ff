"""How much fine detail there is, and what it looks like, wherever in the picture it lies; no network is needed."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from srcli.metrics.psnr import luma_of

F64 = NDArray[np.float64]

LEVELS = 3  # of the pyramid
SIDE = 7  # of a patch
DIRECTIONS = 128  # that patches are projected onto
PATCHES = 16384  # of a level at most, the same places in both pictures
KERNEL = np.array([1, 4, 6, 4, 1]) / 16


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
