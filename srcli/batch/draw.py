"""What is done with a network's rows besides writing them: a temperature, consistency with the input, diversity.

Each wrapper here has the `rows` of an engine, so that they stack.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from srcli.batch.naming import check_links
from srcli.batch.recolour import Recoloured
from srcli.engine.temperature_map import TemperatureMap
from srcli.geometry import COPIES, Size, dihedral, dihedral_back, dihedral_size
from srcli.image.back_projection import Projection
from srcli.image.colour_transfer import ColourFix
from srcli.image.provenance import check_own, recorded_write
from srcli.image.write import write_image
from srcli.resources import made_folder

Report = Callable[[float], None]
Rows = Iterator[np.ndarray]

STRIP_ROWS = 256
LEVELS = {"8": 255, "16": 65535, "32f": None}
GRAY_PER_LEVEL = 8  # in the picture of the diversity: a deviation of 32 levels is white


class Renderer(Protocol):
    """Something that enlarges a picture row by row."""

    def rows(self, source: Any, target: Size, *, report: Report | None = None) -> Rows:
        """Finished rows (n, W, 3) from top to bottom."""
        ...


class Drawn:
    """A generative engine at a temperature and a seed.

    Args:
        engine: an `srcli.Upscaler` that is generative.
        temperature: factor on the noise.
        seed: of the noise.
        where: a further factor for every pixel.
    """

    def __init__(
        self, engine: Any, temperature: float, seed: int, where: TemperatureMap | None = None
    ) -> None:
        self.engine = engine
        self.temperature = temperature
        self.seed = seed
        self.where = where

    def rows(self, source: Any, target: Size, *, report: Report | None = None, **options: Any) -> Rows:
        """See `Renderer`; further options are the engine's."""
        if self.where is None or self.temperature == 0:
            yield from self.engine.rows(
                source, target, temperature=self.temperature, seed=self.seed, report=report, **options
            )
            return
        top = 0
        for mean, direction in self.engine.affine(source, target, seed=self.seed, report=report):
            bottom = top + len(mean)
            factor = self.where.rows(source, target, top, bottom) * np.float32(self.temperature)
            yield mean + factor[..., None] * direction
            top = bottom


class Turned:
    """The mean of a renderer's results for a picture and for its seven turned and mirrored copies.

    The geometric self-ensemble of Lim et al., "Enhanced Deep Residual Networks for Single Image Super-Resolution",
    CVPRW 2017.
    """

    def __init__(self, renderer: Renderer) -> None:
        self.renderer = renderer

    def rows(self, source: Any, target: Size, *, report: Report | None = None) -> Rows:
        """See `Renderer`; the picture and the whole result are held in memory."""
        picture = np.asarray(source.strip(0, source.size[0]), np.float32)
        total = np.zeros((*target, 3), np.float32)
        for number in range(COPIES):
            copy, goal = _Array(dihedral(picture, number)), dihedral_size(target, number)
            sr = np.concatenate(list(self.renderer.rows(copy, goal, report=_share(report, number))))
            total += dihedral_back(sr, number)
        total /= COPIES
        for first in range(0, target.h, STRIP_ROWS):
            yield total[first : first + STRIP_ROWS]


@dataclass(frozen=True)
class _Array:
    pixels: np.ndarray

    @property
    def size(self) -> Size:
        return Size(*self.pixels.shape[:2])

    def strip(self, top: int, bottom: int) -> np.ndarray:
        return self.pixels[top:bottom]


def _share(report: Report | None, number: int) -> Report | None:
    return None if report is None else lambda share: report((number + share) / COPIES)


class Sampled:
    """A diffusion engine at a seed.

    Args:
        engine: one that samples.
        seed: of the noise.
        chosen: told about the branches' scores, see `srcli.engine.latent_diffusion_upscaler`; None where they do not matter.
    """

    def __init__(self, engine: Any, seed: int, chosen: Callable[[int, np.ndarray], None] | None) -> None:
        self.engine = engine
        self.seed = seed
        self.chosen = {} if chosen is None else {"chosen": chosen}

    def rows(self, source: Any, target: Size, *, report: Report | None = None, **options: Any) -> Rows:
        """See `Renderer`; further options are the engine's."""
        return iter(self.engine.rows(source, target, seed=self.seed, report=report, **self.chosen, **options))


class Consistent:
    """Results of another renderer, moved to the nearest picture that reduces to the input.

    Attributes:
        lr_psnr: dB between the last result, in the output's depth and reduced, and its input; None for equals.
    """

    def __init__(self, renderer: Renderer, depth: str) -> None:
        self.renderer = renderer
        self.levels = LEVELS[depth]
        self.lr_psnr: float | None = None

    def rows(self, source: Any, target: Size, *, report: Report | None = None) -> Rows:
        """See `Renderer`; the whole result is held in memory."""
        sr = np.empty((*target, 3), np.float32)
        top = 0
        for rows in self.renderer.rows(source, target, report=report):
            sr[top : top + len(rows)] = rows
            top += len(rows)
        size = Size(*source.size)
        lr = np.clip(source.strip(0, size.h), 0, 1)
        projection = Projection(size, target)
        sr = projection.consistent(sr, lr)
        value = projection.psnr(sr, lr, levels=self.levels)
        self.lr_psnr = round(value, 2) if math.isfinite(value) else None
        for first in range(0, target.h, STRIP_ROWS):
            yield sr[first : first + STRIP_ROWS]


class Spread:
    """The deviation between several results for one picture, in 8-bit levels, as LINF's authors measure it.

    Args:
        target: size of the results.
    """

    def __init__(self, target: Size) -> None:
        self.count = 0
        self.total = np.zeros((*target, 3), np.uint32)
        self.squares = np.zeros((*target, 3), np.uint32)

    def add(self, top: int, rows: np.ndarray) -> None:
        """Rows of one more result, from row `top` on, around [0, 1]."""
        levels = np.rint(np.clip(rows, 0, 1) * 255).astype(np.uint32)
        self.total[top : top + len(rows)] += levels
        self.squares[top : top + len(rows)] += levels * levels

    def deviation(self) -> np.ndarray:
        """Unbiased standard deviation (H, W, 3) over the results."""
        centred = self.squares - self.total.astype(np.float64) ** 2 / self.count
        return np.sqrt(np.maximum(centred, 0) / (self.count - 1))

    def value(self) -> float:
        """The mean deviation: diversity."""
        return float(np.mean(self.deviation()))

    def write(self, path: Path, origin: str | None = None, *, replace: bool) -> None:
        """The deviation as a gray PNG, GRAY_PER_LEVEL for each level.

        Args:
            path: where to.
            origin: names the bytes that it is made from.
            replace: whether a file that srcli did not write may be replaced.

        Raises:
            ExistsError: there is such a file, or one that has been changed since.
            ResourceError: it cannot be written.
        """
        check_links(path, path.parent)
        check_own(path, replace=replace)
        gray = np.rint(np.minimum(self.deviation().mean(axis=2) * GRAY_PER_LEVEL, 255)).astype(np.uint8)
        about = {"diversity": round(self.value(), 4), "samples": self.count, "in_content": origin}
        with made_folder(path.parent), recorded_write(path, about) as stream:
            write_image(stream, gray, output_format="png", provenance=about)


def uncertainty_path(samples: Sequence[Path], fallback: str) -> Path:
    """Where the picture of the diversity goes: beside the samples, called like what their names share.

    Args:
        samples: at least one output.
        fallback: a name in case they share none.
    """
    first = samples[0]
    shared = ""
    for letters in zip(*(path.stem for path in samples), strict=False):
        if len(set(letters)) > 1:
            break
        shared += letters[0]
    # photo_x4_01 and photo_x4_02 share photo_x4_0
    name = shared.rstrip("0").rstrip("_-. ") if shared != first.stem else shared
    return first.with_name(f"{name or fallback}_uncertainty.png")


def renderer_for(
    engine: Any,
    *,
    temperature: float | None,
    seed: int,
    where: TemperatureMap | None,
    consistent_at: str | None,
    turned: bool = False,
    chosen: Callable[[int, np.ndarray], None] | None = None,
    colour_fix: ColourFix | None = None,
) -> Renderer:
    """An engine with all that was asked for.

    Args:
        engine: an `srcli.Upscaler`.
        temperature: None for an engine that draws no noise.
        seed: of the noise.
        where: a factor on the temperature for every pixel.
        consistent_at: the output's depth, where the result shall be consistent with the input; else None.
        turned: average over turned and mirrored copies.
        chosen: told about the scores of a decoder's branches.
        colour_fix: how the result takes its colours from the input again; None: not at all.
    """
    renderer: Renderer = engine if temperature is None else Drawn(engine, temperature, seed, where)
    if getattr(engine, "samples_pixels", False):
        renderer = Sampled(engine, seed, chosen)
    if turned:
        renderer = Turned(renderer)
    if colour_fix is not None:
        renderer = Recoloured(renderer, colour_fix)
    return renderer if consistent_at is None else Consistent(renderer, consistent_at)
