"""What is done with a network's rows besides writing them: self-ensemble, back-projection, colours, diversity, branches.

Each wrapper here has the `upscale_rows` of an `srcli.Upscaler`, so that they stack.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from srcli.batch.job import Job, SelectionFiles, Settings
from srcli.batch.naming import check_links
from srcli.engine.branch_map import Selection, in_words
from srcli.engine.request import PLAIN, Rendered, RenderRequest, RenderStats, Source, part_of
from srcli.errors import UsageError
from srcli.files import atomic_write
from srcli.geometry import COPIES, Size, self_ensemble
from srcli.image.back_projection import Projection
from srcli.image.colour_transfer import ColourFix, fixed, shift
from srcli.image.formats import format_of
from srcli.image.metadata import PROVENANCE_KEY
from srcli.image.provenance import check_own, recorded_write
from srcli.image.write import write_image
from srcli.resources import made_folder

if TYPE_CHECKING:
    from srcli.batch.render import Engine

Rows = Iterator[np.ndarray]

STRIP_ROWS = 256
LEVELS = {"8": 255, "16": 65535, "32f": None}
MAP, OVER, SCORES = "_selection.png", "_selection_overlay.png", "_scores.npy"
GRAY_PER_LEVEL = 8  # in the picture of the diversity: a deviation of 32 levels is white


class Renderer(Protocol):
    """Something that enlarges a picture row by row, as `srcli.Upscaler` does."""

    def upscale_rows(self, source: Any, target: Size, request: RenderRequest = ...) -> Rendered:
        """Rows (n, W, 3) from top to bottom, and what happened meanwhile."""
        ...


class _Whole:
    """A renderer whose result is computed whole, and held in memory, from another's."""

    def __init__(self, renderer: Renderer) -> None:
        self.renderer = renderer

    def upscale_rows(self, source: Source, target: Size, request: RenderRequest = PLAIN) -> Rendered:
        """See `Renderer`; rows are floats."""
        stats = RenderStats()
        return Rendered(self._strips(source, target, replace(request, as_bytes=False), stats), stats)

    def _strips(self, source: Source, target: Size, request: RenderRequest, stats: RenderStats) -> Rows:
        sr = self._result(source, target, request, stats)
        for first in range(0, target.h, STRIP_ROWS):
            yield sr[first : first + STRIP_ROWS]

    def _result(self, source: Source, target: Size, request: RenderRequest, stats: RenderStats) -> np.ndarray:
        """The inner renderer's result (H, W, 3)."""
        rendered = self.renderer.upscale_rows(source, target, request)
        sr = np.empty((*target, 3), np.float32)
        top = 0
        for rows in rendered.rows:
            sr[top : top + len(rows)] = rows
            top += len(rows)
        stats.take(rendered.stats)
        return sr


class SelfEnsemble(_Whole):
    """The mean of a renderer's results for a picture and for its seven turned and mirrored copies.

    The geometric self-ensemble of Lim et al., "Enhanced Deep Residual Networks for Single Image Super-Resolution",
    CVPRW 2017.
    """

    def _result(self, source: Source, target: Size, request: RenderRequest, stats: RenderStats) -> np.ndarray:
        parts = iter(range(COPIES))

        def enlarged(copy: np.ndarray, size: Size) -> np.ndarray:
            n = next(parts)
            own = replace(request, report=part_of(request.report, n / COPIES, (n + 1) / COPIES))
            return super(SelfEnsemble, self)._result(_Array(copy), size, own, stats)

        return self_ensemble(enlarged, _whole(source), target)


@dataclass(frozen=True)
class _Array:
    pixels: np.ndarray

    @property
    def size(self) -> Size:
        return Size(*self.pixels.shape[:2])

    def strip(self, top: int, bottom: int) -> np.ndarray:
        return self.pixels[top:bottom]


def _whole(source: Source) -> np.ndarray:
    return np.asarray(source.strip(0, source.size[0]), np.float32)


class BackProjection(_Whole):
    """Results of another renderer, moved to the nearest picture that reduces to the input; gives `lr_psnr`."""

    def __init__(self, renderer: Renderer, depth: str) -> None:
        super().__init__(renderer)
        self.levels = LEVELS[depth]

    def _result(self, source: Source, target: Size, request: RenderRequest, stats: RenderStats) -> np.ndarray:
        sr = super()._result(source, target, request, stats)
        lr = np.clip(source.strip(0, source.size[0]), 0, 1)
        projection = Projection(Size(*source.size), target)
        sr = projection.consistent(sr, lr)
        value = projection.psnr(sr, lr, levels=self.levels)
        stats.lr_psnr = round(value, 2) if math.isfinite(value) else None
        return sr


class ColourTransfer(_Whole):
    """Results of another renderer with the colours of their input; a note says how far off they were."""

    def __init__(self, renderer: Renderer, fix: ColourFix) -> None:
        super().__init__(renderer)
        self.fix = fix

    def _result(self, source: Source, target: Size, request: RenderRequest, stats: RenderStats) -> np.ndarray:
        sr, lr = super()._result(source, target, request, stats), _whole(source)
        before = shift(sr.clip(0, 1), lr)
        sr = fixed(sr, lr, self.fix)
        note = (
            f"colour fix {self.fix.about()}: mean of red, green, blue off by {_levels(before)} of 255, "
            f"then by {_levels(shift(sr.clip(0, 1), lr))}"
        )
        stats.notes.insert(0, note)
        return sr


def _levels(values: tuple[float, float, float]) -> str:
    return ", ".join(f"{value:+.2f}" for value in values)


class SampleDeviation:
    """The deviation between several results of one size, in 8-bit levels, as LINF's authors measure it."""

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
        """The deviation as a gray PNG, GRAY_PER_LEVEL for each level; `origin` names the bytes that it is made from."""
        check_links(path, path.parent)
        check_own(path, replace=replace)
        gray = np.rint(np.minimum(self.deviation().mean(axis=2) * GRAY_PER_LEVEL, 255)).astype(np.uint8)
        about = {"diversity": round(self.value(), 4), "samples": self.count, "in_content": origin}
        with made_folder(path.parent), recorded_write(path, about) as stream:
            write_image(stream, gray, output_format="png", provenance=about)


def uncertainty_path(samples: Sequence[Path], fallback: str) -> Path:
    """Where the picture of the diversity goes: beside the samples, called like what their names share, or `fallback`."""
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
    engine: Renderer,
    *,
    turned: bool = False,
    colour_fix: ColourFix | None = None,
    consistent_at: str | None = None,
) -> Renderer:
    """An engine with all that was asked for; `consistent_at` is the output's depth, for results that reduce to the input."""
    if turned:
        engine = SelfEnsemble(engine)
    if colour_fix is not None:
        engine = ColourTransfer(engine, colour_fix)
    return engine if consistent_at is None else BackProjection(engine, consistent_at)


# --- files about the choice of branches: a map in colours, the map over the result, and the scores ------------------


class ChoiceOutputs:
    """What was chosen for one picture, gathered and then written."""

    def __init__(self, selection: Selection, files: SelectionFiles, job: Job) -> None:
        self.selection = selection
        self.files = files
        self.job = job
        self.result = None if files.overlay is None else np.empty((*selection.size, 3), np.uint8)

    def add(self, top: int, rows: np.ndarray) -> None:
        """Rows of the result, floats around [0, 1] or bytes, for the overlay."""
        if self.result is None:
            return
        if rows.dtype != np.uint8:
            rows = np.rint(np.clip(rows, 0, 1) * 255).astype(np.uint8)
        self.result[top : top + len(rows)] = rows

    def write(self, *, replace: bool) -> tuple[dict[str, float], list[str]]:
        """Write what is wanted; gives the share of each branch in percent, and notes."""
        percent = self.selection.shares()
        shares = {name: round(value, 3) for name, value in percent.items()}
        notes = [f"chosen: {in_words(percent)}"]
        job = self.job
        about = {"selection": shares, "fingerprint": job.fingerprint, "in_content": job.in_content}
        files = self.files
        if files.map is not None:
            path = self._free(files.map, MAP, replace=replace)
            self._write_map(path, about)
            notes.append(f"map in {path}: {self.selection.legend()}")
        if files.overlay is not None:
            assert self.result is not None
            path = self._free(files.overlay, OVER, replace=replace)
            found = format_of(path)
            with recorded_write(path, about) as stream:
                write_image(
                    stream,
                    self.selection.over(self.result),
                    output_format=found and found.name,
                    provenance=about,
                )
        if files.scores is not None:
            path = self._free(files.scores, SCORES, replace=True)
            with atomic_write(path) as file:
                np.save(file, self.selection.scores)  # type: ignore[arg-type]  # kept: it was asked for
        return shares, notes

    def _free(self, asked: Path, suffix: str, *, replace: bool) -> Path:
        """Where a file goes, its folder made."""
        path = asked
        if not asked.suffix:
            named = self.job.path or self.job.source.path
            path = asked / f"{'stdin' if named is None else named.stem}{suffix}"
            check_links(path, asked)
        check_own(path, replace=replace)
        with made_folder(path.parent):
            return path

    def _write_map(self, path: Path, about: dict[str, Any]) -> None:
        """The branches as a PNG with a palette."""
        picture = Image.fromarray(self.selection.index, mode="L")
        picture.putpalette(self.selection.palette().tobytes())
        text = PngInfo()
        with recorded_write(path, about) as file:
            text.add_itxt(PROVENANCE_KEY, json.dumps(about))
            picture.save(file, "PNG", pnginfo=text, optimize=True)


def choices_of(job: Job, settings: Settings, engine: Engine | None) -> ChoiceOutputs | None:
    """What gathers the choices of a picture; None where nobody asked or no network runs."""
    if settings.selection is None or engine is None:
        return None
    if not engine.selects:
        raise UsageError(f"'{job.preset.name}' chooses no branch for each pixel.")
    selection = Selection(job.target.size, engine.branches, keep_scores=settings.selection.scores is not None)
    return ChoiceOutputs(selection, settings.selection, job)
