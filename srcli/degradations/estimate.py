"""How damaged a picture is: blocks of JPEG, noise and blur, and whether it calls for a model trained on such pictures.

The figures are measured on luma, on pieces spread over the picture. A logistic function of their logarithms and the
products of these, fitted on training photographs that were reduced cleanly or degraded, gives the verdict;
`tests/benchmarks/damage.py` fits and tests it.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from srcli.degradations import LUMA

F32 = NDArray[np.float32]

TO_LEVELS = np.array(LUMA, np.float32) * 255
BLOCK = 8  # of JPEG
PIECE, PIECES = 256, 4  # pixels of a side, and how many pieces there are along a side
SMALLEST = 32  # pixels of a side: four blocks
STEP_LIMIT = 8.0  # levels: higher steps are edges of the picture
QUIET_SHARE = 0.1  # noise is measured where the picture is quietest
EDGE_SHARE, EDGE_LEAST = 0.02, 8.0  # edges: the steepest pixels, and levels per pixel that they have at least
REBLUR, REBLUR_REACH = 1.0, 4  # pixels
WIDEST = 4.0  # blur in pixels; wider ones cannot be distinguished
OPAQUE, REACH = 0.999, 4  # a pixel counts if everything within REACH pixels of it is opaque

# Of blocks, noise, coarse noise, detail and blur, in logarithms: about what is usual, and how far that varies.
USUAL = np.array([-1.5, -0.4, 0.5, 0.4, -0.3])
VARIES = np.array([1.1, 0.9, 0.9, 1.0, 0.45])
FARTHEST = 3.0  # in units of VARIES: figures farther from the usual ones are clipped, none were fitted there
SURE = 0.85  # 99 % of clean photographs and all pages of text stay below 0.82; a flat drawing in the tests does not
EXACT, SHARP = 0.005, 0.5  # levels and pixels: below both a picture was rendered, not photographed
PIXEL_SHARP = 0.35  # pixels: small text is below; hardly any photographs are, but for noisy ones
LOW_QUALITY = 72  # of JPEG files: programs save at 75 or more by default
# Of `signs`, fitted by tests/benchmarks/damage.py.
WEIGHTS = np.array(
    [
        0.63, 6.69, -0.83, 3.09, -2.59, 0.67,
        0.39, -5.09, 1.2, 5.11, -1.29,
        0.2, -2.9, 5.38, 0.12,
        3.07, -4.81, 0.03,
        -0.73, -2.4, -0.89,
    ]
)  # fmt: skip


@dataclass(frozen=True)
class Damage:
    """What was measured."""

    blocks: float  # steps at the best grid of 8 pixels over those elsewhere, less 1: 0 without blocks
    noise: float  # standard deviation in 8-bit levels where the picture is quietest
    # the same after averaging 2x2 pixels: noise that was enlarged or blurred along with the picture
    coarse_noise: float
    # the same as noise, but half way from the quietest part to the busiest: noise alone is equal everywhere
    detail: float
    blur: float  # width of edges in pixels; that of a step blurred by s reads as the root of s^2 + 0.6

    def __str__(self) -> str:
        noise = f"noise {self.noise:.1f} levels (detail {self.detail:.1f})"
        return f"blocks {self.blocks:.2f}, {noise}, blur {self.blur:.1f} px"


@dataclass(frozen=True)
class Verdict:
    """Whether a picture looks damaged, the probability of that (from 0.5 on), and which model it should go to."""

    looks: Literal["clean", "damaged"]
    confidence: float
    pick: Literal["clean", "real"]

    @property
    def odds(self) -> float:
        """Logarithm of the odds that it is damaged; limited, since probabilities near 1 have no more digits."""
        sure = min(self.confidence, 1 - 1e-12)
        return math.log(sure / (1 - sure)) * (1 if self.looks == "damaged" else -1)

    @property
    def share(self) -> float:
        """Weight of a restoring model's result: half where damage is just sure enough, all from 99.9 % on."""
        least, full = (math.log(sure / (1 - sure)) for sure in (SURE, 0.999))
        return 0.5 + 0.5 * min(1.0, max(0.0, (self.odds - least) / (full - least)))


def judge(damage: Damage, quality: int | None = None) -> Verdict:
    """Whether a picture goes to a model that was trained on clean pictures, or to one trained on damaged ones.

    The latter removes detail of clean pictures, so it is picked only from a probability of SURE on. `quality`: of a JPEG
    file, from 1 to 100, where a low one is evidence by itself; None for other files.
    """
    odds = float(signs(damage) @ WEIGHTS)
    flat = max(damage.noise, damage.coarse_noise) < EXACT and (damage.blur < SHARP or damage.blocks < 0.05)
    # Small text leaves no quiet places, but means of 2x2 of its pixels are rougher than they are; those of noise are smoother.
    rough = max(0.1, damage.noise) if damage.blur < PIXEL_SHARP else max(1.0, 10 * damage.noise)
    if flat or (damage.coarse_noise > rough and damage.blur < SHARP + 0.1):
        # Rendered: no lens draws so sharply on so flat a ground.
        odds = min(odds, -math.log(SURE / (1 - SURE)))
    if quality is not None and quality <= LOW_QUALITY:
        odds = max(odds, math.log(SURE / (1 - SURE)) + (LOW_QUALITY - quality) / 8)
    return verdict_of(odds)


def verdict_of(odds: float) -> Verdict:
    """The verdict by the logarithm of the odds that a picture is damaged."""
    confidence = 1 / (1 + math.exp(-min(abs(odds), 50.0)))
    looks: Literal["clean", "damaged"] = "damaged" if odds > 0 else "clean"
    return Verdict(looks, confidence, "real" if looks == "damaged" and confidence >= SURE else "clean")


def signs(damage: Damage) -> NDArray[np.float64]:
    """Features (21,) that the odds are linear in: 1, the logarithms of the figures, and products of two of these."""
    found = (
        max(damage.blocks, 0) + 0.05,
        damage.noise + 0.1,
        damage.coarse_noise + 0.1,
        damage.detail + 0.1,
        damage.blur,
    )
    x = np.array([1.0, *np.clip((np.log(found) - USUAL) / VARIES, -FARTHEST, FARTHEST)])
    return np.asarray(np.outer(x, x)[np.triu_indices(len(x))])


def measure(
    strip: Callable[[int, int], F32], size: tuple[int, int], cover: Callable[[int, int], F32] | None = None
) -> Damage | None:
    """Measure a picture.

    `strip` gives rows [top, bottom) as float32 (n, w, 3), sRGB-encoded in [0, 1]; `size` is (height, width). `cover` gives
    alpha (n, w) in [0, 1]; only opaque pixels are measured. Returns None for a picture that is too small, or has too few
    of them.
    """
    if min(size) < SMALLEST:
        return None
    steps = np.zeros((2, 2, BLOCK))  # sum and count, down and across, by place in the grid
    fine: list[NDArray[np.floating]] = []
    coarse: list[NDArray[np.floating]] = []
    widths: list[NDArray[np.floating]] = []
    for luma, opaque in _pieces(strip, size, cover):
        for axis in (0, 1):
            steps[:, axis] += _steps(luma if axis == 0 else luma.T, opaque if axis == 0 else opaque.T)
        fine.append(_roughness(luma, opaque))
        coarse.append(_roughness(_halved(luma), _halved(opaque)))
        widths.append(_edge_widths(luma, opaque))
    rough, rough_coarse, edges = (np.concatenate(found) for found in (fine, coarse, widths))
    if not len(rough) or not len(rough_coarse):
        return None
    noise, detail = np.quantile(rough, (QUIET_SHARE, 0.5))
    return Damage(
        blocks=_blocks(steps),
        noise=float(noise),
        coarse_noise=float(np.quantile(rough_coarse, QUIET_SHARE)),
        detail=float(detail),
        blur=float(np.median(edges)) if len(edges) else WIDEST,
    )


def _pieces(
    strip: Callable[[int, int], F32], size: tuple[int, int], cover: Callable[[int, int], F32] | None
) -> Iterator[tuple[F32, F32]]:
    """Luma in levels of pieces whose corners lie on one grid of blocks, and 1 where all within reach is opaque."""
    height, width = size
    for top in _starts(height):
        bottom = min(top + PIECE, height)
        luma = np.clip(strip(top, bottom), 0, 1) @ TO_LEVELS
        opaque = np.ones_like(luma)
        if cover is not None:
            import cv2

            opaque = np.asarray(cover(top, bottom) > OPAQUE, np.float32)
            opaque = np.asarray(cv2.erode(opaque, np.ones((2 * REACH + 1, 2 * REACH + 1))))
        for left in _starts(width):
            part = slice(left, min(left + PIECE, width))
            yield luma[:, part], opaque[:, part]


def _starts(side: int) -> list[int]:
    count = min(PIECES, max(1, side // PIECE))
    room = side - min(side, PIECE)
    return [round(room * k / max(1, count - 1)) // BLOCK * BLOCK for k in range(count)]


# --- blocks -------------------------------------------------------------------------------------------------------


def _steps(luma: F32, opaque: F32) -> NDArray[np.float64]:
    """Sum and count (2, 8) of what slopes do not explain of the steps between rows, by the lower one's place."""
    apart = np.diff(luma, axis=0)
    step = np.abs(apart[1:-1] - (apart[:-2] + apart[2:]) / 2)
    used = (step < STEP_LIMIT) & (opaque[2:-1] == 1)
    place = (np.arange(len(step)) + 2) % BLOCK
    sums = np.bincount(place, (step * used).sum(axis=1), BLOCK)
    return np.stack([sums, np.bincount(place, used.sum(axis=1), BLOCK)])


def _blocks(steps: NDArray[np.float64]) -> float:
    """The excess of steps at the best place of the grid, mean of both directions."""
    mean = (steps[0] + 0.05) / (steps[1] + 1)  # the addend: what rounding may leave on a flat picture
    return float(np.mean(mean.max(axis=1) / np.median(mean, axis=1)) - 1)


# --- noise --------------------------------------------------------------------------------------------------------


def _roughness(luma: F32, opaque: F32) -> NDArray[np.floating]:
    """Standard deviation in levels that noise would have, for every opaque, unclipped block (Immerkaer, 1996)."""
    # A second difference along both axes, which cancels edges and slopes and keeps noise.
    bend = luma[:-2] - 2 * luma[1:-1] + luma[2:]
    bend = (bend[:, :-2] - 2 * bend[:, 1:-1] + bend[:, 2:]) / 6
    inside = luma[1:-1, 1:-1]
    clipped = (inside < 1) | (inside > 254) | (opaque[1:-1, 1:-1] < 1)
    rough = np.sqrt(math.pi / 2) * _block_means(np.abs(bend))
    return rough[_block_means(clipped.astype(np.float32)) == 0]


def _block_means(x: F32) -> F32:
    h, w = (side // BLOCK * BLOCK for side in x.shape)
    return x[:h, :w].reshape(h // BLOCK, BLOCK, w // BLOCK, BLOCK).mean(axis=(1, 3))


def _halved(x: F32) -> F32:
    h, w = (side // 2 * 2 for side in x.shape)
    return x[:h, :w].reshape(h // 2, 2, w // 2, 2).mean(axis=(1, 3))


# --- blur ---------------------------------------------------------------------------------------------------------


def _edge_widths(luma: F32, opaque: F32) -> NDArray[np.floating]:
    """Widths in pixels at the steepest pixels.

    Blurring an edge of width s by r leaves s / sqrt(s^2 + r^2) of its slope (Zhuo and Sim, 2011).
    """
    slope, softer = _slope(luma), _slope(_blurred(luma))
    seen = np.where(opaque[1:-1, 1:-1] == 1, slope, 0)
    least = max(EDGE_LEAST, float(np.quantile(seen, 1 - EDGE_SHARE)))
    edge = seen >= least
    kept = np.clip(softer[edge] / slope[edge], 1e-3, WIDEST / math.hypot(WIDEST, REBLUR))
    return np.asarray(REBLUR * kept / np.sqrt(1 - kept**2))


def _slope(x: F32) -> F32:
    return np.hypot(x[2:, 1:-1] - x[:-2, 1:-1], x[1:-1, 2:] - x[1:-1, :-2]) / 2


def _blurred(x: F32) -> F32:
    away = np.arange(-REBLUR_REACH, REBLUR_REACH + 1)
    weights = np.exp(-((away / REBLUR) ** 2) / 2)
    weights = np.asarray(weights / weights.sum(), np.float32)
    for axis in (0, 1):  # libraries that do it take longer to import
        around = np.pad(x, [(REBLUR_REACH * (i == axis),) * 2 for i in (0, 1)], mode="reflect")
        windows = np.lib.stride_tricks.sliding_window_view(around, len(weights), axis)
        x = windows @ weights
    return x
