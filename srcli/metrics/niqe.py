"""NIQE: how far a picture's local statistics are from those of sharp photographs, without a reference.

Mittal, Soundararajan and Bovik, "Making a 'Completely Blind' Image Quality Analyzer" (2013). `niqe` takes the published
statistics of sharp photographs from a file that the user brings, and halves pictures as they did, by MATLAB's imresize.
`niqe_srcli` has statistics of our own, fitted on openly licensed photographs (`fit`), and its second scale is a mean over
2x2 pixels: its values order pictures as the published ones do but are not equal to them.
"""

import math
import os
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from srcli.config.toml import user_path
from srcli.errors import ModelError, first_line
from srcli.metrics.psnr import luma_of
from srcli.metrics.ssim import halved

F64 = NDArray[np.float64]

BLOCK = 96  # pixels; half of it at the second scale
WINDOW, SIGMA = 7, 7 / 6
SHARP = 0.75  # of the sharpest block's sharpness: blurred background is left out of the statistics
NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))
VARIABLE, KEY = "SRCLI_NIQE_PARAMETERS", "niqe_parameters"  # where the published statistics are
PRISTINE = Path(__file__).with_name("niqe_pristine.npz")


class Statistics(NamedTuple):
    """Mean (36,) and covariance (36, 36) of the features of blocks."""

    mean: F64
    covariance: F64


def niqe_srcli(rgb: NDArray[np.floating]) -> float:
    """NIQE of (h, w, 3) in [0, 1] against our photographs; ValueError for a side below 96 pixels."""
    features, _ = block_features(rgb)
    return distance(_statistics(features), pristine())


def niqe(rgb: NDArray[np.floating]) -> float:
    """NIQE of (h, w, 3) in [0, 1], luma as BasicSR and pyiqa. Raises ValueError (sides < 96), ModelError (statistics)."""
    path = _parameters()
    if path is None:
        raise ModelError(f"niqe cannot be measured: {missing()}")
    features, _ = block_features(rgb, halved=halved_by_imresize)
    return distance(_statistics(features), read_statistics(path))


def missing(**_: bool) -> str | None:
    """Why `niqe` cannot be measured, and what helps; None if it can."""
    path = _parameters()
    if path is not None and path.is_file():
        return None
    return (
        f"{'its published parameters are' if path is None else f'{path}, its published parameters, is'} not here. If you "
        f'have them (modelparameters.mat or niqe_pris_params.npz): {VARIABLE}=FILE, or {KEY} = "FILE" in config.toml. '
        "Without them: niqe-srcli"
    )


def _parameters() -> Path | None:
    own = os.environ.get(VARIABLE)
    return Path(own) if own else user_path(KEY)


@lru_cache(maxsize=4)
def read_statistics(path: Path) -> Statistics:
    """The statistics in a file of the authors' release (.mat) or of BasicSR's (.npz); ModelError for any other."""
    try:
        if path.suffix == ".mat":
            from scipy.io import loadmat

            table = loadmat(path)
        else:
            with np.load(path) as file:
                table = dict(file)
        by_name = {key.replace("pris_param", "prisparam"): value for key, value in table.items()}
        mean, covariance = (np.asarray(by_name[f"{kind}_prisparam"], np.float64) for kind in ("mu", "cov"))
        return Statistics(mean.reshape(36), covariance.reshape(36, 36))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{path} holds no statistics of NIQE: {first_line(error)}.",
            hint="It should be modelparameters.mat or niqe_pris_params.npz.",
        ) from error


@lru_cache(maxsize=1)
def pristine() -> Statistics:
    """The statistics of sharp photographs that came with the package."""
    with np.load(PRISTINE) as file:
        return Statistics(file["mean"], file["covariance"])


def fit(photos: Iterable[NDArray[np.floating]]) -> Statistics:
    """The statistics of the sharp blocks of photographs (h, w, 3) in [0, 1]."""
    chosen = []
    for photo in photos:
        features, sharpness = block_features(photo)
        chosen.append(features[sharpness >= SHARP * sharpness.max()])
    return _statistics(np.concatenate(chosen))


def distance(a: Statistics, b: Statistics) -> float:
    """Distance of two Gaussians with the mean of their covariances."""
    difference = a.mean - b.mean
    spread = np.linalg.pinv((a.covariance + b.covariance) / 2)
    return math.sqrt(max(float(difference @ spread @ difference), 0.0))


def _statistics(features: F64) -> Statistics:
    count, size = features.shape
    covariance = np.cov(features, rowvar=False) if count > 1 else np.zeros((size, size))
    return Statistics(features.mean(axis=0), covariance)


def halved_by_imresize(y: F64) -> F64:
    """MATLAB's imresize to half of even sides: an antialiased cubic (a = -0.5) of 8 pixels; borders are mirrored, as BasicSR does."""
    x = np.abs(np.arange(-3.5, 4)) / 2
    cubic = np.where(x <= 1, 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2)
    for _ in range(2):
        padded = np.pad(y, ((3, 3), (0, 0)), mode="symmetric")
        y = sum(w * padded[k : len(padded) - 7 + k : 2] for k, w in enumerate(cubic / cubic.sum())).T
    return y


def block_features(rgb: NDArray[np.floating], halved: Callable[[F64], F64] = halved) -> tuple[F64, F64]:
    """Features (blocks, 36) of both scales, and each block's sharpness; ValueError for a side below 96 pixels."""
    rows, cols = rgb.shape[0] // BLOCK, rgb.shape[1] // BLOCK
    if min(rows, cols) == 0:
        size = f"{rgb.shape[1]}x{rgb.shape[0]}"
        raise ValueError(f"NIQE needs at least {BLOCK} pixels on each side, got {size}")
    y = luma_of(rgb[: rows * BLOCK, : cols * BLOCK]) * 255
    parts = []
    for side in (BLOCK, BLOCK // 2):
        normalised, deviation = _normalised(y)
        blocks = _blocks(normalised, side)
        if side == BLOCK:
            sharpness = _blocks(deviation, side).mean(axis=(1, 2))
        parts.append(_features(blocks))
        y = halved(y)
    return np.concatenate(parts, axis=1), sharpness


def _normalised(y: F64) -> tuple[F64, F64]:
    """Luma less its local mean over its local deviation plus one, and that deviation."""
    import cv2

    def blurred(x: F64) -> F64:
        mean = cv2.GaussianBlur(x, (WINDOW, WINDOW), SIGMA, borderType=cv2.BORDER_REPLICATE)
        return np.asarray(mean, np.float64)

    mean = blurred(y)
    deviation = np.sqrt(np.abs(blurred(y * y) - mean**2))
    return (y - mean) / (deviation + 1), deviation


def _blocks(x: F64, side: int) -> F64:
    """(blocks, side, side) from (rows * side, cols * side)."""
    rows, cols = x.shape[0] // side, x.shape[1] // side
    return x.reshape(rows, side, cols, side).swapaxes(1, 2).reshape(rows * cols, side, side)


def _features(blocks: F64) -> F64:
    """Shapes and scales (blocks, 18) of the values and of the products of four kinds of neighbours."""
    flat = blocks.reshape(len(blocks), -1)
    shape, left, right, _ = _asymmetric_gaussian(flat)
    found = [shape, (left + right) / 2]
    for shift in NEIGHBOURS:
        products = (blocks * np.roll(blocks, shift, axis=(1, 2))).reshape(len(blocks), -1)
        shape, left, right, mean = _asymmetric_gaussian(products)
        found += [shape, mean, left, right]
    return np.stack(found, axis=1)


def _asymmetric_gaussian(x: F64) -> tuple[F64, F64, F64, F64]:
    """Shape, left and right scale and mean of an asymmetric generalised Gaussian, by moments, for each row of x."""
    shapes, ratios, spreads, centres = _table()
    tiny = np.finfo(np.float64).tiny  # a block of one colour has no variance

    def deviation(side: NDArray[np.bool_]) -> F64:
        count = np.maximum(side.sum(axis=1), 1)
        return np.sqrt((np.where(side, x, 0) ** 2).sum(axis=1) / count)

    left, right = deviation(x < 0), deviation(x > 0)
    skew = np.minimum(left / np.maximum(right, 1e-9), 1e9)  # the correction below tends to 1 on both ends
    ratio = np.abs(x).mean(axis=1) ** 2 / np.maximum((x * x).mean(axis=1), tiny)
    ratio = ratio * (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2
    at = np.clip(np.searchsorted(ratios, ratio), 0, len(shapes) - 1)
    left, right = left * spreads[at], right * spreads[at]
    return shapes[at], left, right, (right - left) * centres[at]


@lru_cache(maxsize=1)
def _table() -> tuple[F64, F64, F64, F64]:
    """For shapes from 0.2 to 10: the ratio of moments (rising), scale over deviation, and the factor of the mean."""
    shapes = np.arange(0.2, 10, 0.001)
    gamma = np.array([[math.gamma(k / a) for k in (1, 2, 3)] for a in shapes])
    one, two, three = gamma.T
    return shapes, two**2 / (one * three), np.sqrt(one / three), two / one
