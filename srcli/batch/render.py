"""From a picture that was read to the rows of its result, and from those to the samples of the file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from srcli.batch.choices import ChoiceOutputs, choices_of
from srcli.batch.draw import Consistent, Drawn, Renderer, Sampled, Spread, renderer_for
from srcli.batch.recolour import Recoloured
from srcli.batch.task import Record, Settings, Task, grows
from srcli.geometry import Size
from srcli.image.read import Image
from srcli.image.resize import extremes, is_flat, is_hard, resize_rows, steepened, taps
from srcli.image.samples import Spool, to_float
from srcli.image.write import OutputPlan
from srcli.resources import existing

Report = Callable[[float], None]
Cover = Callable[[int, int], np.ndarray]
STRIP_SAMPLES = 1 << 22


class Engine(Protocol):
    """What `run` needs of an `srcli.Upscaler`."""

    device: Any
    precision: Any
    tile_used: Size | None
    fp32_fallbacks: int
    tile_retries: int

    @property
    def notes(self) -> Sequence[str]:
        """What a user should know of the last picture."""
        ...

    def rows(self, source: Any, target: Size, *, report: Report | None = None) -> Iterator[np.ndarray]:
        """Finished rows (n, W, 3) from top to bottom; a generative one takes temperature and seed besides."""
        ...


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
        spread: Spread | None = None,
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
            if asked and getattr(engine, "samples_pixels", False):  # nothing should be invented in it
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
            self.cover = _cover(image, target, by_model, record, folder, _part(report, 0, share), hard=hard)
        if engine is None:
            kept = self.task.target.kept
            record.notes.append("size kept" if kept else "not enlarged: resized without the network")
        self.choices = choices_of(self.task, self.settings, engine)
        renderer = None if engine is None else _renderer(engine, self.settings, record, self.choices)
        if renderer is not None and self.choices is None and is_flat(image.pixels):
            renderer = Flat()  # a network would shift its colour
        as_bytes = self._rounds_early(renderer)
        top = 0
        for rows in colours(
            image.strip, Size(*image.size), target, renderer, _part(report, share, 1), as_bytes=as_bytes
        ):
            if self.spread is not None:
                self.spread.add(top, rows)
            if self.choices is not None:
                self.choices.see(top, rows)
            top += len(rows)
            yield rows
        assert top == target.h
        self._conclude(renderer)

    def samples(self, rows: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Samples (n, W, channels) of `rows`, in the colours and the depth of the file."""
        top = 0
        for band in rows:
            bottom = top + len(band)
            alpha = None if self.cover is None else self.cover(top, bottom)
            yield self.output.band(band, alpha, top=top)
            top = bottom

    def _rounds_early(self, renderer: Renderer | None) -> bool:
        """Whether the device rounds to bytes: a quarter of what would else be fetched from it."""
        drawn = isinstance(renderer, Drawn) and renderer.where is None
        plain = renderer is self.engine or drawn or isinstance(renderer, Sampled)
        stored = self.output.takes_bytes and (self.cover is None or self.output.alpha)
        return bool(getattr(self.engine, "gives_bytes", False) and plain and self.spread is None and stored)

    def _conclude(self, renderer: Renderer | None) -> None:
        engine, record = self.engine, self.record
        if self.spread is not None:
            self.spread.count += 1
        if isinstance(renderer, Consistent):
            record.lr_psnr = renderer.lr_psnr
            renderer = renderer.renderer
        if isinstance(renderer, Recoloured) and renderer.note is not None:
            record.notes.append(renderer.note)
        if self.choices is not None:
            self.choices.conclude(record, replace=self.settings.exists == "overwrite")
        if engine is None:
            return
        _count(record, engine)
        tile = engine.tile_used
        record.device, record.precision = str(engine.device), str(engine.precision)
        record.tile = None if tile is None else f"{tile.w}x{tile.h}"
        record.notes += engine.notes


def _renderer(engine: Engine, settings: Settings, record: Record, choices: ChoiceOutputs | None) -> Renderer:
    assert record.seed is not None  # planned
    return renderer_for(
        engine,
        temperature=record.temperature,
        seed=record.seed,
        where=settings.temperature_map,
        consistent_at=record.depth if settings.consistency else None,
        turned=settings.turned,
        chosen=None if choices is None else choices.selection.add,
        colour_fix=settings.colour_fix,
    )


def colours(
    strip: Callable[[int, int], np.ndarray],
    size: Size,
    target: Size,
    engine: Renderer | None,
    report: Report | None = None,
    *,
    as_bytes: bool = False,
) -> Iterator[np.ndarray]:
    """Rows (n, W, 3) of a picture at `target`, from top to bottom.

    Sides that shrink are reduced first, antialiased; sides that grow are the network's.

    Args:
        strip: gives rows [top, bottom) of the picture as float32 (n, w, 3).
        size: of the picture.
        target: of the result.
        engine: the network, or what wraps it; needed where a side grows.
        report: called with the finished share.
        as_bytes: ask the network for rounded bytes.
    """
    reduced = Size(min(size.h, target.h), min(size.w, target.w))
    source = Reduced(strip, size, reduced)
    if reduced != target:
        assert engine is not None
        rounded = {"as_bytes": True} if as_bytes else {}
        yield from engine.rows(source, target, report=report, **rounded)
        return
    step = max(1, STRIP_SAMPLES // (3 * target.w))
    for top in range(0, target.h, step):
        bottom = min(top + step, target.h)
        yield source.strip(top, bottom)
        if report is not None:
            report(bottom / target.h)


class Flat:
    """Enlarges a picture of one colour."""

    def rows(
        self, source: Any, target: Size, *, report: Report | None = None, **_: Any
    ) -> Iterator[np.ndarray]:
        """See `Engine`."""
        colour = source.strip(0, 1)[:, :1]
        step = max(1, STRIP_SAMPLES // (3 * target.w))
        for top in range(0, target.h, step):
            yield np.broadcast_to(colour, (min(step, target.h - top), target.w, 3))


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
    faithful: Renderer = engine if record.temperature is None else Drawn(engine, 0.0, 0)  # no noise in it
    top = 0
    for rows in colours(as_gray, size, target, faithful, report):
        whole.append(np.rint(bounded(rows.mean(axis=2), top) * 65535).astype(np.uint16))
        top += len(rows)
    _count(record, engine)
    return lambda top, bottom: whole[top:bottom].astype(np.float32) / np.float32(65535)


def _count(record: Record, engine: Engine) -> None:
    record.tile_retries += engine.tile_retries
    record.fp32_fallback += engine.fp32_fallbacks


def _part(report: Report | None, start: float, stop: float) -> Report | None:
    return None if report is None else lambda share: report(start + share * (stop - start))
