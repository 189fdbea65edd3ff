"""Making LR pictures from HR ones: which part of the picture, which size, which bicubic."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from srcli.errors import ImageError, UsageError, suggest
from srcli.geometry import Size

U8 = NDArray[np.uint8]
F64 = NDArray[np.float64]


def cropped_to_scale(hr: U8, scale: float) -> tuple[U8, Size]:
    """The part of an HR picture that an LR picture of whole pixels covers, and the size of that LR picture.

    The LIIF family's rule: h = floor(H / scale), then the top left round(h * scale) rows; columns likewise.

    Raises:
        ImageError: the picture is smaller than one LR pixel.
    """
    size = Size(*(math.floor(side / scale + 1e-9) for side in hr.shape[:2]))
    if min(size) < 1:
        raise ImageError(f"{hr.shape[1]}x{hr.shape[0]} pixels are too few for a scale of {scale:g}.")
    return hr[: round(size.h * scale), : round(size.w * scale)], size


def pillow_bicubic(hr: U8, size: Size) -> U8:
    """Antialiased bicubic (a = -0.5) of Pillow, rounded to 8 bit after each axis; (H, W, 3) to (h, w, 3)."""
    image = Image.fromarray(np.ascontiguousarray(hr))
    # One axis at a time: from version 13 on, Pillow begins with the rows of pictures that lose more than twice as
    # many rows as columns, which changes some values by one. The field's files were all made columns first.
    across = image.resize((size.w, image.height), Image.Resampling.BICUBIC)
    return np.asarray(across.resize((size.w, size.h), Image.Resampling.BICUBIC))


def matlab_bicubic(hr: U8, size: Size) -> U8:
    """MATLAB's imresize, 'bicubic' with antialiasing, on 8-bit data; (H, W, 3) to (h, w, 3).

    Vertically first, rounded to 8 bit in between, the border pixel repeated: bit for bit the LR files that come
    with the usual copies of Set5, Set14 and BSD100.
    """
    rows = _along_rows(hr, size.h)
    return np.ascontiguousarray(_along_rows(rows.swapaxes(0, 1), size.w).swapaxes(0, 1))


def _along_rows(x: U8, count: int) -> U8:
    index, weight = _taps(x.shape[0], count)
    total = np.zeros((count, *x.shape[1:]))
    for tap in range(index.shape[1]):
        total += weight[:, tap].reshape(-1, 1, 1) * x[index[:, tap]]
    return np.clip(np.floor(total + 0.5), 0, 255).astype(np.uint8)  # MATLAB rounds halves up


def _taps(old: int, new: int) -> tuple[NDArray[np.int64], F64]:
    """Indices and weights (new, taps) of every output sample."""
    shrink = min(new / old, 1.0)
    centre = (np.arange(new) + 0.5) * old / new - 0.5
    first = np.floor(centre - 2 / shrink).astype(np.int64)
    index = first[:, None] + np.arange(math.ceil(4 / shrink) + 2)
    weight = _cubic(shrink * (centre[:, None] - index))
    return np.clip(index, 0, old - 1), weight / weight.sum(axis=1, keepdims=True)


def _cubic(x: F64) -> F64:
    """Keys' cubic convolution kernel with a = -0.5."""
    x = np.abs(x)
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


REDUCTIONS: Mapping[str, Callable[[U8, Size], U8]] = MappingProxyType(
    {"pillow-bicubic": pillow_bicubic, "matlab-bicubic": matlab_bicubic}
)


def reduce_by(name: str, hr: U8, size: Size) -> U8:
    """`hr` reduced to `size` in the way called `name`.

    Raises:
        UsageError: an unknown name.
    """
    if name not in REDUCTIONS:
        raise UsageError(f"unknown reduction '{name}'.", hint=suggest(name, REDUCTIONS))
    return REDUCTIONS[name](hr, size)
