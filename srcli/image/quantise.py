"""Between floats in [0, 1] and the samples of a file, rounding once."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from srcli.image.formats import Depth

F32 = NDArray[np.float32]
Samples = NDArray[Any]  # uint8, uint16 or float32

DTYPES: dict[Depth, np.dtype[Any]] = {
    "8": np.dtype(np.uint8),
    "16": np.dtype(np.uint16),
    "32f": np.dtype(np.float32),
}


def depth_of(samples: Samples) -> Depth:
    """The depth a sample type stands for."""
    return next(depth for depth, dtype in DTYPES.items() if dtype == samples.dtype)


def to_float(samples: Samples) -> F32:
    """Samples as float32 with 1 for white; a copy. Float samples are taken as they are."""
    if samples.dtype == np.float32:
        return samples.copy()
    return samples.astype(np.float32) / np.float32(np.iinfo(samples.dtype).max)


def quantise(values: F32, depth: Depth, *, noise: F32 | None = None) -> Samples:
    """Samples of `depth` from floats: clamped to [0, 1], rounded half to even. 32f is returned unclamped.

    Args:
        values: any shape.
        depth: 8, 16 or 32f.
        noise: added before rounding, in units of one level, same shape; see `dither_noise`.
    """
    if depth == "32f":
        return values.astype(np.float32)
    dtype = DTYPES[depth]
    levels = np.clip(values, np.float32(0), np.float32(1))
    levels *= np.float32(np.iinfo(dtype).max)
    if noise is not None:
        levels += noise
        np.clip(levels, np.float32(0), np.float32(np.iinfo(dtype).max), out=levels)
    np.rint(levels, out=levels)
    return levels.astype(dtype)


def dither_noise(shape: tuple[int, int, int], *, top: int = 0) -> F32:
    """Uniform noise in [-0.5, 0.5) for rows `top`, `top` + 1, ... of an image; shape is (rows, width, channels).

    Each row has its own counter-based stream, so a picture does not depend on how it was cut into bands.
    """
    rows = [
        np.random.Generator(np.random.Philox(key=top + i)).random(shape[1:], dtype=np.float32)
        for i in range(shape[0])
    ]
    return np.stack(rows) - np.float32(0.5)
