"""From a picture that was read to the rows of its result, and from those to the samples of the file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from srcli.batch.job import Job, Settings, grows
from srcli.engine.request import PLAIN, Rendered, RenderRequest, RenderStats, Report, Source, part_of
from srcli.geometry import Size
from srcli.image.read import Image
from srcli.image.resize import extremes, is_flat, is_hard, resize_rows, steepened, taps
from srcli.image.samples import Spool, to_float
from srcli.image.write import OutputPlan
from srcli.resources import nearest_folder

if TYPE_CHECKING:
    from srcli.batch.postprocess import BranchMap

AlphaRows = Callable[[int, int], np.ndarray]  # rows [top, bottom) of the enlarged transparency
STRIP_SAMPLES = 1 << 22


class Renderer(Protocol):
    """Something that enlarges a picture row by row, as `srcli.Upscaler` does."""

    def upscale_rows(self, source: Any, target: Size, request: RenderRequest = ...) -> Rendered: ...


class Engine(Renderer, Protocol):
    """What a batch needs of an `srcli.Upscaler`; see there."""

    device: Any
    precision: Any
    selects: bool
    branches: tuple[str, ...]
    samples_pixels: bool


@dataclass
class Rendering:
    """One result on its way: `rows` come from the network, `samples` are what is stored.

    The two may run in different threads, a few bands apart. What is found out is complete after the last row.
    """

    job: Job
    image: Image
    output: OutputPlan
    settings: Settings
    engine: Engine | None  # None where the job needs none
    stats: RenderStats = field(default_factory=RenderStats, init=False)  # of the network
    notes: list[str] = field(default_factory=list, init=False)  # what was lost or decided
    selection: dict[str, float] | None = field(
        default=None, init=False
    )  # percent of pixels by branch, if asked for
    _alpha: AlphaRows | None = field(default=None, init=False)
    _branch_map: BranchMap | None = field(default=None, init=False)

    def rows(self, report: Report | None = None) -> Iterator[np.ndarray]:
        """Colours (n, W, 3) from top to bottom: floats, or bytes where the device has rounded them already."""
        image, target, engine = self.image, self.job.target.size, self.engine
        share = self._prepare_alpha(report)
        if engine is None:
            kept = self.job.target.kept
            self.notes.append("size kept" if kept else "not enlarged: resized without the network")
        if engine is not None and self.settings.selection is not None:
            from srcli.batch.postprocess import BranchMap

            self._branch_map = BranchMap(self.settings.selection, self.job, engine)
        renderer = engine and self._renderer(engine)
        if renderer is not None and self._branch_map is None and is_flat(image.pixels):
            renderer = FlatColour()  # a network would shift its colour
        request = self._request(part_of(report, share, 1))
        rendered = colour_rows(image.strip, Size(*image.size), target, renderer, request)
        top = 0
        for rows in rendered.rows:
            top += len(rows)
            yield rows
        assert top == target.h
        self.stats.take(rendered.stats)
        if self._branch_map is not None:
            self.selection, notes = self._branch_map.write(replace=self.settings.exists == "overwrite")
            self.notes += notes
        self.notes += self.stats.notes

    def samples(self, rows: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Samples (n, W, channels) of `rows`, in the colours and the depth of the file."""
        top = 0
        for band in rows:
            bottom = top + len(band)
            alpha = None if self._alpha is None else self._alpha(top, bottom)
            yield self.output.band(band, alpha, top=top)
            top = bottom

    def found(self) -> dict[str, Any]:
        """What a `Record` says of it; after the last row."""
        if self.engine is None:
            return {}
        tile = self.stats.tile
        return {
            "device": str(self.engine.device),
            "precision": str(self.engine.precision),
            "tile": None if tile is None else f"{tile.w}x{tile.h}",
            "tile_retries": self.stats.tile_retries,
            "fp32_fallback": self.stats.fp32_fallbacks,
            "lr_psnr": self.stats.lr_psnr,
            "selection": self.selection,
        }

    def _renderer(self, engine: Renderer) -> Renderer:
        """The network, with what else was asked for around it."""
        settings = self.settings
        if settings.self_ensemble or settings.colour_transfer or settings.consistency:
            from srcli.batch.postprocess import BackProjection, ColourTransfer, SelfEnsemble

            if settings.self_ensemble:
                engine = SelfEnsemble(engine)
            if settings.colour_transfer is not None:
                engine = ColourTransfer(engine, settings.colour_transfer)
            if settings.consistency:
                engine = BackProjection(engine, self.output.depth)
        return engine

    def _request(self, report: Report | None) -> RenderRequest:
        stored = self.output.takes_bytes and (self._alpha is None or self.output.alpha)
        noise = self.job.temperature
        return RenderRequest(
            temperature=None if noise is None else noise.value,
            temperature_map=self.settings.temperature_map,
            seed=self.job.seed,
            scores=None if self._branch_map is None else self._branch_map.selection.add,
            report=report,
            as_bytes=stored,
        )

    def _prepare_alpha(self, report: Report | None) -> float:
        """Get ready to enlarge the transparency, if there is one; gives the share of the work that this has been."""
        image, how, engine = self.image, self.settings.alpha, self.engine
        if image.alpha is None or how == "drop":
            return 0.0
        by_model = (
            how != "lanczos" and image.alpha_constant is None and grows(image.size, self.job.target.size)
        )
        if by_model and engine is not None and engine.samples_pixels:  # nothing should be invented in it
            by_model = False
            self.notes.append("transparency enlarged by lanczos: this model samples")
        elif by_model and how == "auto" and self.job.preset.training.degradation is not None:
            by_model = False  # nothing is wrong with it
            self.notes.append("transparency enlarged by lanczos: this model repairs colours")
        hard = how == "auto" and is_hard(image.alpha)
        network = engine if by_model and not hard else None
        share = 0.0 if network is None else 0.5
        path, target = self.job.path, self.job.target.size
        folder = None if path is None else nearest_folder(path.parent)
        part = part_of(report, 0, share)
        self._alpha = _alpha_rows(image, target, network, self.stats, folder, part, hard=hard)
        return share


class AnimatedRendering(Rendering):
    """The renderings of an animation's pictures: rows and samples of one follow those of the one before.

    Every picture is drawn with the same seed: noise that is placed by the pixel of the output stands still.
    """

    def __init__(self, pictures: Sequence[Rendering]) -> None:
        first = pictures[0]
        super().__init__(first.job, first.image, first.output, first.settings, first.engine)
        self.pictures = pictures

    def rows(self, report: Report | None = None) -> Iterator[np.ndarray]:
        """Colours of one picture after the other."""
        count = len(self.pictures)
        for index, picture in enumerate(self.pictures):
            yield from picture.rows(part_of(report, index / count, (index + 1) / count))
            self.stats.take(picture.stats)
            self.notes += picture.notes
            self.selection = picture.selection

    def samples(self, rows: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Samples of one picture after the other."""
        bands = iter(rows)
        for picture in self.pictures:
            yield from picture.samples(_bands_of_one(bands, self.job.target.size.h))


def _bands_of_one(bands: Iterator[np.ndarray], height: int) -> Iterator[np.ndarray]:
    """Bands of one picture; they never reach into the next."""
    while height > 0 and (band := next(bands, None)) is not None:
        height -= len(band)
        yield band


def colour_rows(
    strip: Callable[[int, int], np.ndarray],
    size: Size,
    target: Size,
    engine: Renderer | None,
    request: RenderRequest,
) -> Rendered:
    """A picture at `target`: sides that shrink are reduced first, antialiased; sides that grow are the network's."""
    reduced = Size(min(size.h, target.h), min(size.w, target.w))
    source = Reduced(strip, size, reduced)
    if reduced != target or (engine is not None and size == target):
        assert engine is not None
        return engine.upscale_rows(source, target, request)
    return Rendered(_strips(source.strip, target, request.report), RenderStats())


def _strips(
    strip: Callable[[int, int], np.ndarray], size: Size, report: Report | None
) -> Iterator[np.ndarray]:
    step = max(1, STRIP_SAMPLES // (3 * size.w))
    for top in range(0, size.h, step):
        bottom = min(top + step, size.h)
        yield strip(top, bottom)
        if report is not None:
            report(bottom / size.h)


class FlatColour:
    """Enlarges a picture of one colour."""

    def upscale_rows(self, source: Source, target: Size, request: RenderRequest = PLAIN) -> Rendered:
        """As of `Renderer`."""
        colour = source.strip(0, 1)[:, :1]

        def strip(top: int, bottom: int) -> np.ndarray:
            return np.broadcast_to(colour, (bottom - top, target.w, 3))

        return Rendered(_strips(strip, target, request.report), RenderStats())


class Reduced:
    """A picture reduced to `size`, computed strip by strip when asked."""

    def __init__(self, strip: Callable[[int, int], np.ndarray], original: Size, size: Size) -> None:
        self.original = original
        self.size = size
        self._strip = strip

    def strip(self, top: int, bottom: int) -> np.ndarray:
        """Rows [top, bottom), float32 (n, w, 3)."""
        if self.size == self.original:
            return self._strip(top, bottom)
        return resize_rows(self._strip, self.original, self.size, top, bottom, kernel="bicubic")


def _alpha_rows(
    image: Image,
    target: Size,
    engine: Engine | None,
    stats: RenderStats,
    folder: Path | None,
    report: Report | None,
    *,
    hard: bool,
) -> AlphaRows:
    """A function that gives rows [top, bottom) of the enlarged transparency as float32 (n, W)."""
    constant, size = image.alpha_constant, Size(*image.size)
    if constant is not None:
        return lambda top, bottom: np.full((bottom - top, target.w), constant, np.float32)
    assert image.alpha is not None
    if hard:  # a kernel that is negative somewhere, or a network, would leave specks and holes
        ends = to_float(np.stack([image.alpha.min(), image.alpha.max()]))
        scale = min(target.h / size.h, target.w / size.w)
        return lambda top, bottom: steepened(
            resize_rows(image.alpha_strip, size, target, top, bottom, kernel="bilinear"),
            (float(ends[0]), float(ends[1])),
            scale,
        )
    low, high = (to_float(values) for values in extremes(image.alpha))
    down, across = (taps(size[i], target[i], "nearest").index[:, 0] for i in (0, 1))

    def bounded(rows: np.ndarray, top: int) -> np.ndarray:
        """No specks where there is nothing, no holes where there is something."""
        if target.h < size.h or target.w < size.w:
            return np.clip(rows, 0, 1)
        near = np.ix_(down[top : top + len(rows)], across)
        return np.clip(np.clip(rows, low[near], high[near]), 0, 1)

    if engine is None:
        kernel: Literal["lanczos", "bicubic"] = "lanczos" if grows(size, target) else "bicubic"
        return lambda top, bottom: bounded(
            resize_rows(image.alpha_strip, size, target, top, bottom, kernel=kernel), top
        )

    def as_gray(top: int, bottom: int) -> np.ndarray:
        return np.repeat(image.alpha_strip(top, bottom)[..., None], 3, axis=2)

    # Kept until the colours are there; 16 bits are finer than any file's transparency but a float one's.
    whole = Spool(target, np.dtype(np.uint16), folder)
    rendered = colour_rows(as_gray, size, target, engine, RenderRequest(report=report))  # no noise in it
    top = 0
    for rows in rendered.rows:
        whole.append(np.rint(bounded(rows.mean(axis=2), top) * 65535).astype(np.uint16))
        top += len(rows)
    stats.take(rendered.stats)
    return lambda top, bottom: whole[top:bottom].astype(np.float32) / np.float32(65535)
