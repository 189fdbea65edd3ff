"""Transparency: colour under it, and what its values are; and whether there is only one colour."""

from __future__ import annotations

import numpy as np

from srcli.image.quantise import F32, Samples


def bleed(pixels: Samples, alpha: Samples) -> Samples:
    """Pixels (h, w, c) in which every fully transparent pixel has the colour of the nearest visible one.

    What lies under transparency is often black or white; a network (or any filter) would draw it into the edge.
    Returned as they are if everything or nothing is visible. One pass of an exact distance transform.

    Args:
        pixels: any depth.
        alpha: (h, w), 0 is transparent.
    """
    hidden = alpha == 0
    if not hidden.any() or hidden.all():
        return pixels
    import cv2

    _, nearest = cv2.distanceTransformWithLabels(
        hidden.view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    visible = ~hidden
    colours = np.zeros((int(nearest.max()) + 1, pixels.shape[2]), pixels.dtype)
    colours[nearest[visible]] = pixels[visible]
    filled = pixels.copy()
    filled[hidden] = colours[nearest[hidden]]
    return filled


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


def constant_of(alpha: Samples) -> float | None:
    """The value of an alpha channel that is the same everywhere, in [0, 1]; None if it varies."""
    first = alpha.flat[0]
    if not bool((alpha == first).all()):
        return None
    return float(first) if alpha.dtype == np.float32 else float(first) / np.iinfo(alpha.dtype).max
