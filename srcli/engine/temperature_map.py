"""Where a picture can bear more of the noise: a factor on the temperature for every output pixel.

`auto` looks at the LR picture. Of the local structure tensor (Foerstner and Guelch, 1987) the smaller eigenvalue is
near 0 on flat areas and along clean edges, where invented detail shows as dirt, and large in texture, which varies in
both directions. The windows are local, so that tiles and bands do not change the factor.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from srcli.engine.request import Source
from srcli.errors import UsageError
from srcli.geometry import Size
from srcli.image.resize import resize_rows

F32 = NDArray[np.float32]

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
WINDOW = np.array([1, 6, 15, 20, 15, 6, 1], np.float32) / 64  # binomial: a Gaussian of 1.2 pixels
REACH = len(WINDOW) // 2 + 1  # of the window and of the derivative
LOWEST, HIGHEST = 0.25, 1.25  # factors on flat areas and in strong texture
KNEE = 0.02  # contrast per LR pixel, in the weaker direction, that is half way between them


@dataclass(frozen=True)
class TemperatureMap:
    """A factor on the temperature per pixel, from the picture itself or from a gray picture."""

    name: str  # "auto" or the file
    digest: str  # names its content, for fingerprints
    # (h, w) in [0, 1], stretched over the output: white is the whole temperature, black none; None for auto
    gray: F32 | None = None

    def rows(self, source: Source, target: Size, top: int, bottom: int) -> F32:
        """Factors (bottom - top, W) of output rows."""
        size = Size(*(source.size if self.gray is None else self.gray.shape))

        def read(first: int, last: int) -> F32:
            return texture_factor(source, first, last) if self.gray is None else self.gray[first:last]

        return resize_rows(read, size, target, top, bottom, kernel="bilinear")


def temperature_map(asked: str) -> TemperatureMap:
    """The map that "auto" or a picture's path means. Raises UsageError (no such file), ImageError (no picture)."""
    if asked == "auto":
        return TemperatureMap("auto", f"auto {LOWEST} {HIGHEST} {KNEE}")
    from srcli.image.read import read_image

    path = Path(asked)
    if not path.is_file():
        raise UsageError(f"--temperature-map {asked} is no file.", hint="Give auto, or a gray picture.")
    picture = read_image(path)
    gray = np.clip(picture.strip(0, picture.size[0]).mean(axis=2), 0, 1)
    return TemperatureMap(asked, hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest(), gray)


def texture_factor(source: Source, top: int, bottom: int) -> F32:
    """Factors (bottom - top, w) at LR rows, from LOWEST on flat areas and clean edges to HIGHEST in texture."""
    _, weaker = contrasts(source, top, bottom)
    share = weaker / (weaker + np.float32(KNEE))
    return np.asarray(LOWEST + (HIGHEST - LOWEST) * share, np.float32)


def contrasts(source: Source, top: int, bottom: int) -> tuple[F32, F32]:
    """Contrast per LR pixel of rows (bottom - top, w), in the direction of the most and of the least of it."""
    high, low = max(0, top - REACH), min(source.size[0], bottom + REACH)
    luma = source.strip(high, low) @ LUMA
    missing = REACH - (top - high), REACH - (low - bottom)
    # Odd, so that a ramp goes on: a border is no edge.
    luma = np.pad(luma, (missing, (REACH, REACH)), mode="reflect", reflect_type="odd")
    larger, smaller = _eigenvalues(luma)
    return np.sqrt(larger), np.sqrt(smaller)


def _eigenvalues(luma: F32) -> tuple[F32, F32]:
    """The larger and the smaller of the structure tensor of (h + 2 REACH, w + 2 REACH) at (h, w)."""
    down = (luma[2:, 1:-1] - luma[:-2, 1:-1]) * np.float32(0.5)
    across = (luma[1:-1, 2:] - luma[1:-1, :-2]) * np.float32(0.5)
    yy, xx, xy = (_averaged(product) for product in (down * down, across * across, down * across))
    root = np.sqrt(np.square(yy - xx) / 4 + np.square(xy))
    return (yy + xx) / 2 + root, np.maximum((yy + xx) / 2 - root, 0)


def _averaged(x: F32) -> F32:
    for axis in (0, 1):
        count = x.shape[axis] - len(WINDOW) + 1
        parts = [np.take(x, range(k, k + count), axis=axis) * weight for k, weight in enumerate(WINDOW)]
        x = np.sum(parts, axis=0, dtype=np.float32)
    return x
