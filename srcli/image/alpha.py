"""Colour under transparency."""

from __future__ import annotations

import numpy as np

from srcli.image.quantise import Samples


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


def constant_of(alpha: Samples) -> float | None:
    """The value of an alpha channel that is the same everywhere, in [0, 1]; None if it varies."""
    first = alpha.flat[0]
    if not bool((alpha == first).all()):
        return None
    return float(first) if alpha.dtype == np.float32 else float(first) / np.iinfo(alpha.dtype).max
