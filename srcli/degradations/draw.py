"""Drawing the parameters of one degradation. They decide everything: the same parameters give the same picture."""

import math
from dataclasses import dataclass

import numpy as np

from srcli.degradations.kernels import FULL, Blur
from srcli.degradations.noise import Noise
from srcli.degradations.presets import Range, Ranges, Stage

KINDS = ("gaussian", "gaussian", "generalised", "generalised", "plateau", "plateau")
KIND_SHARES = (0.45, 0.25, 0.12, 0.03, 0.12, 0.03)  # each kind: of one width, then of two
MODES = ("area", "bilinear", "bicubic")
GAUSSIAN, GRAY = 0.5, 0.4  # probabilities
FINAL_SINC = 0.8
SMALLEST = 7  # side of a kernel
SMALL = 13  # sincs below this side cut off no lower than a third


@dataclass(frozen=True)
class Round:
    """Blur, resize and noise; `factor` is relative to HR in the first round, to the final size in the second."""

    blur: Blur | None
    mode: str
    factor: float
    noise: Noise
    jpeg: float


@dataclass(frozen=True)
class Degradation:
    """All parameters of one picture's degradation."""

    preset: str  # what it was drawn from
    sharpen: bool  # HR is sharpened first
    untouched: bool  # nothing but the final resize is done
    first: Round  # on HR pixels
    second: Round  # its JPEG comes last, or before the final resize
    final_mode: str  # of the final resize
    sinc: Blur | None  # the last filter
    jpeg_last: bool  # whether JPEG follows the final resize and filter


def numbered(seed: int, index: int) -> np.random.Generator:
    """The random numbers of picture `index` of a set made with `seed`."""
    return np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, 0, index]))


def draw(ranges: Ranges, rng: np.random.Generator) -> Degradation:
    """One degradation."""
    return Degradation(
        preset=ranges.name,
        sharpen=ranges.sharpen,
        untouched=bool(rng.random() < ranges.untouched),
        first=_round(ranges.first, rng),
        second=_round(ranges.second, rng),
        final_mode=str(rng.choice(MODES)),
        sinc=_sinc(rng, low=math.pi / 3) if rng.random() < FINAL_SINC else None,
        jpeg_last=bool(rng.random() < 0.5),
    )


def _round(stage: Stage, rng: np.random.Generator) -> Round:
    blur = _blur(stage, rng) if rng.random() < stage.blur else None
    way = rng.choice(3, p=stage.up_down_keep)
    low, high = ((1.0, stage.resize[1]), (stage.resize[0], 1.0), (1.0, 1.0))[way]
    factor, mode = float(rng.uniform(low, high)), str(rng.choice(MODES))
    gaussian = bool(rng.random() < GAUSSIAN)
    noise = Noise(
        kind="gaussian" if gaussian else "poisson",
        strength=_within(stage.gaussian if gaussian else stage.poisson, rng),
        gray=bool(rng.random() < GRAY),
        key=int(rng.integers(1 << 62)),
    )
    return Round(blur, mode, factor, noise, _within(stage.jpeg, rng))


def _blur(stage: Stage, rng: np.random.Generator) -> Blur:
    if rng.random() < stage.sinc:
        return _sinc(rng)
    which = int(rng.choice(len(KINDS), p=KIND_SHARES))
    kind, round_ = KINDS[which], which % 2 == 0  # of each kind the round one comes first
    size, sigma = _size(rng), _within(stage.sigma, rng)
    other, angle = (sigma, 0.0) if round_ else (_within(stage.sigma, rng), _within((-math.pi, math.pi), rng))
    if kind == "gaussian":
        return Blur(kind, size, (sigma, other), angle)
    low, high = stage.beta_generalised if kind == "generalised" else stage.beta_plateau
    beta = _within((low, 1.0) if rng.random() < 0.5 else (1.0, high), rng)
    return Blur(kind, size, (sigma, other), angle, beta)


def _sinc(rng: np.random.Generator, low: float | None = None) -> Blur:
    size = _size(rng)
    if low is None:
        low = math.pi / 3 if size < SMALL else math.pi / 5
    return Blur("sinc", size, cutoff=_within((low, math.pi), rng))


def _size(rng: np.random.Generator) -> int:
    return int(rng.choice(range(SMALLEST, FULL + 1, 2)))


def _within(bounds: Range, rng: np.random.Generator) -> float:
    return float(rng.uniform(*bounds))
