"""What is done with a network's rows besides writing them: self-ensemble, back-projection, colours, branches.

Each wrapper here has the `upscale_rows` of an `srcli.Upscaler`, so that they stack.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from srcli.batch.job import Job
from srcli.batch.naming import check_links
from srcli.batch.provenance import check_own, recorded_write
from srcli.engine.branch_map import Selection, in_words
from srcli.engine.request import PLAIN, Rendered, RenderRequest, RenderStats, Source, part_of
from srcli.errors import UsageError
from srcli.files import made_folder
from srcli.geometry import COPIES, Size, self_ensemble
from srcli.image.back_projection import Projection
from srcli.image.colour_transfer import TransferMethod, colour_shift, transfer_colours
from srcli.image.metadata import PROVENANCE_KEY

if TYPE_CHECKING:
    from srcli.batch.render import Engine, Renderer

Rows = Iterator[np.ndarray]

STRIP_ROWS = 256
LEVELS = {"8": 255, "16": 65535, "32f": None}
MAP_SUFFIX = "_selection.png"


class _WholePicture:
    """A renderer whose result is computed whole, and held in memory, from another's."""

    def __init__(self, renderer: Renderer) -> None:
        self.renderer = renderer

    def upscale_rows(self, source: Source, target: Size, request: RenderRequest = PLAIN) -> Rendered:
        """As of `Renderer`; rows are floats."""
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


class SelfEnsemble(_WholePicture):
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

        return self_ensemble(enlarged, _all_rows(source), target)


@dataclass(frozen=True)
class _Array:
    pixels: np.ndarray

    @property
    def size(self) -> Size:
        return Size(*self.pixels.shape[:2])

    def strip(self, top: int, bottom: int) -> np.ndarray:
        return self.pixels[top:bottom]


def _all_rows(source: Source) -> np.ndarray:
    return np.asarray(source.strip(0, source.size[0]), np.float32)


class BackProjection(_WholePicture):
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


class ColourTransfer(_WholePicture):
    """Results of another renderer with the colours of their input; a note says how far off they were."""

    def __init__(self, renderer: Renderer, how: TransferMethod) -> None:
        super().__init__(renderer)
        self.how = how

    def _result(self, source: Source, target: Size, request: RenderRequest, stats: RenderStats) -> np.ndarray:
        sr, lr = super()._result(source, target, request, stats), _all_rows(source)
        before = colour_shift(sr.clip(0, 1), lr)
        sr = transfer_colours(sr, lr, self.how)
        note = (
            f"colour fix {self.how}: mean of red, green, blue off by {_in_levels(before)} of 255, "
            f"then by {_in_levels(colour_shift(sr.clip(0, 1), lr))}"
        )
        stats.notes.insert(0, note)
        return sr


def _in_levels(values: tuple[float, float, float]) -> str:
    return ", ".join(f"{value:+.2f}" for value in values)


class BranchMap:
    """Which branch was chosen at each pixel of one picture, gathered and then written as a map in colours.

    Raises UsageError (its decoder chooses none).
    """

    def __init__(self, path: Path, job: Job, engine: Engine) -> None:
        if not engine.selects:
            raise UsageError(f"'{job.preset.name}' chooses no branch for each pixel.")
        self.selection = Selection(job.target.size, engine.branches)
        self.path = path
        self.job = job

    def write(self, *, replace: bool) -> tuple[dict[str, float], list[str]]:
        """Write the map; gives the share of each branch in percent, and notes."""
        percent = self.selection.shares()
        shares = {name: round(value, 3) for name, value in percent.items()}
        job, path = self.job, self._target(replace=replace)
        about = {"selection": shares, "fingerprint": job.fingerprint, "in_content": job.in_content}
        picture = Image.fromarray(self.selection.index, mode="L")
        picture.putpalette(self.selection.palette().tobytes())
        text = PngInfo()
        text.add_itxt(PROVENANCE_KEY, json.dumps(about))
        with recorded_write(path, about) as file:
            picture.save(file, "PNG", pnginfo=text, optimize=True)
        return shares, [f"chosen: {in_words(percent)}", f"map in {path}: {self.selection.legend()}"]

    def _target(self, *, replace: bool) -> Path:
        """Where the map goes, its folder made."""
        path = self.path
        if not path.suffix:
            named = self.job.path or self.job.source.path
            path = path / f"{'stdin' if named is None else named.stem}{MAP_SUFFIX}"
            check_links(path, self.path)
        check_own(path, replace=replace)
        with made_folder(path.parent):
            return path
