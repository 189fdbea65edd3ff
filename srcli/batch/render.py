"""From a picture that was read to the rows of its result, and from those to the samples of the file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from srcli.batch.choices import ChoiceOutputs, choices_of
from srcli.batch.draw import Renderer, SampleDeviation, renderer_for
from srcli.batch.task import Record, Settings, Task, grows
from srcli.engine.request import PLAIN, Rendered, RenderRequest, RenderStats, Report, Source, part_of
from srcli.geometry import Size
from srcli.image.read import Image
from srcli.image.resize import extremes, is_flat, is_hard, resize_rows, steepened, taps
from srcli.image.samples import Spool, to_float
from srcli.image.write import OutputPlan
from srcli.resources import existing

Cover = Callable[[int, int], np.ndarray]
STRIP_SAMPLES = 1 << 22


class Engine(Renderer, Protocol):
    """What `run` needs of an `srcli.Upscaler`; see there."""

    device: Any
    precision: Any
    selects: bool
    branches: tuple[str, ...]
    samples_pixels: bool


class Rendering:
    """One result on its way: `rows` come from the network, `samples` are what is stored.

    The two may run in different threads, a few bands apart.

    Args:
        task: what was planned.
        image: the picture.
        output: what the file will be.
        settings: the same as for the plan.
        engine: the network; None where the task needs none.
        record: takes what is found out.
        spread: sees the result's colours, for the deviation between several.
    """

    def __init__(
        self,
        task: Task,
        image: Image,
        output: OutputPlan,
        settings: Settings,
        engine: Engine | None,
        record: Record,
        spread: SampleDeviation | None = None,
    ) -> None:
        self.task = task
        self.image = image
        self.output = output
        self.settings = settings
        self.engine = engine
        self.record = record
        self.spread = spread
        self.cover: Cover | None = None
        self.choices: ChoiceOutputs | None = None

    def rows(self, report: Report | None = None) -> Iterator[np.ndarray]:
        """Colours (n, W, 3) from top to bottom: floats, or bytes where the device has rounded them already."""
        image, target, engine, record = self.image, self.task.target.size, self.engine, self.record
        share = 0.0
        if image.alpha is not None and self.settings.alpha != "drop":
            asked = self.settings.alpha != "lanczos" and image.alpha_constant is None
            if asked and engine is not None and engine.samples_pixels:  # nothing should be invented in it
                asked = False
                record.notes.append("transparency enlarged by lanczos: this model samples")
            elif (
                asked and self.settings.alpha == "auto" and self.task.preset.training.degradation is not None
            ):
                asked = False  # nothing is wrong with it
                record.notes.append("transparency enlarged by lanczos: this model repairs colours")
            hard = self.settings.alpha == "auto" and is_hard(image.alpha)
            by_model = engine if asked and not hard else None
            share = 0.0 if by_model is None else 0.5
            folder = None if self.task.path is None else existing(self.task.path.parent)
            self.cover = _cover(image, target, by_model, record, folder, part_of(report, 0, share), hard=hard)
        if engine is None:
            kept = self.task.target.kept
            record.notes.append("size kept" if kept else "not enlarged: resized without the network")
        self.choices = choices_of(self.task, self.settings, engine)
        renderer = engine and self._renderer(engine)
        if renderer is not None and self.choices is None and is_flat(image.pixels):
            renderer = Flat()  # a network would shift its colour
        rendered = colours(
            image.strip, Size(*image.size), target, renderer, self._request(part_of(report, share, 1))
        )
        top = 0
        for rows in rendered.rows:
            if self.spread is not None:
                self.spread.add(top, rows)
            if self.choices is not None:
                self.choices.see(top, rows)
            top += len(rows)
            yield rows
        assert top == target.h
        self._conclude(rendered.stats)

    def samples(self, rows: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Samples (n, W, channels) of `rows`, in the colours and the depth of the file."""
        top = 0
        for band in rows:
            bottom = top + len(band)
            alpha = None if self.cover is None else self.cover(top, bottom)
            yield self.output.band(band, alpha, top=top)
            top = bottom

    def _renderer(self, engine: Engine) -> Renderer:
        settings = self.settings
        return renderer_for(
            engine,
            turned=settings.turned,
            colour_fix=settings.colour_fix,
            consistent_at=self.record.depth if settings.consistency else None,
        )

    def _request(self, report: Report | None) -> RenderRequest:
        stored = self.output.takes_bytes and (self.cover is None or self.output.alpha)
        assert self.record.seed is not None or self.engine is None  # planned
        return RenderRequest(
            temperature=self.record.temperature,
            temperature_map=self.settings.temperature_map,
            seed=self.record.seed or 0,
            scores=None if self.choices is None else self.choices.selection.add,
            report=report,
            as_bytes=stored and self.spread is None,
        )

    def _conclude(self, stats: RenderStats) -> None:
        engine, record = self.engine, self.record
        if self.spread is not None:
            self.spread.count += 1
        if self.choices is not None:
            self.choices.conclude(record, replace=self.settings.exists == "overwrite")
        if engine is None:
            return
        _count(record, stats)
        record.device, record.precision = str(engine.device), str(engine.precision)
        record.tile = None if stats.tile is None else f"{stats.tile.w}x{stats.tile.h}"
        record.lr_psnr = stats.lr_psnr
        record.notes += stats.notes


def colours(
    strip: Callable[[int, int], np.ndarray],
    size: Size,
    target: Size,
    engine: Renderer | None,
    request: RenderRequest,
) -> Rendered:
    """A picture at `target`. Sides that shrink are reduced first, antialiased; sides that grow are the network's.

    Args:
        strip: gives rows [top, bottom) of the picture as float32 (n, w, 3).
        size: of the picture.
        target: of the result.
        engine: the network, or what wraps it; needed where a side grows.
        request: how.
    """
    reduced = Size(min(size.h, target.h), min(size.w, target.w))
    source = Reduced(strip, size, reduced)
    if reduced != target:
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


class Flat:
    """Enlarges a picture of one colour."""

    def upscale_rows(self, source: Source, target: Size, request: RenderRequest = PLAIN) -> Rendered:
        """See `Renderer`."""
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


def _cover(
    image: Image,
    target: Size,
    engine: Engine | None,
    record: Record,
    folder: Path | None,
    report: Report | None,
    *,
    hard: bool,
) -> Cover:
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
    rendered = colours(as_gray, size, target, engine, RenderRequest(report=report))  # no noise in it
    top = 0
    for rows in rendered.rows:
        whole.append(np.rint(bounded(rows.mean(axis=2), top) * 65535).astype(np.uint16))
        top += len(rows)
    _count(record, rendered.stats)
    return lambda top, bottom: whole[top:bottom].astype(np.float32) / np.float32(65535)


def _count(record: Record, stats: RenderStats) -> None:
    record.tile_retries += stats.tile_retries
    record.fp32_fallback += stats.fp32_fallbacks
