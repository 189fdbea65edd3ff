"""Doing what was planned: read, enlarge, write."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, BinaryIO, Literal, Protocol

import numpy as np

from srcli import __version__
from srcli.errors import ImageError, ResourceError
from srcli.geometry import Size
from srcli.image import Image, OutputPlan, plan_output, read_image, resize_rows
from srcli.job.draw import Consistent, Drawn, Renderer, Spread, renderer_for
from srcli.job.task import Record, Settings, Task, grows
from srcli.preflight import in_words, made_folder

Report = Callable[[float], None]
STRIP_SAMPLES = 1 << 22
RESOLUTION_TAGS = (282, 283, 296)  # of EXIF


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


def run(
    task: Task,
    settings: Settings,
    engine: Engine | None,
    *,
    report: Report | None = None,
    stdout: BinaryIO | None = None,
    spread: Spread | None = None,
) -> Record:
    """Do what was planned: read, enlarge, write.

    Args:
        task: from `plan`.
        settings: the same.
        engine: the network; None where `task.needs_network` is False.
        report: called with the finished share.
        stdout: takes the bytes of a result that has no path.
        spread: sees the result's colours, for the deviation between several.

    Raises:
        SrcliError: it did not work; nothing is left behind.
    """
    started = time.monotonic()
    record = replace(task.record, status="done", notes=list(task.record.notes))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            image = _read(task, settings)
            output = plan_output(
                image,
                task.target.size,
                output_format=record.format,
                keep_alpha=settings.alpha != "drop",
                **settings.encoding,
            )
            record.depth, record.format = output.depth, output.format.name
            record.notes += [*image.notes, *output.notes]
            pixels = _render(image, output, task, settings, engine, record, report, spread)
            record.notes += _write(task, output, pixels, _provenance(record, settings, engine), stdout)
        except MemoryError as error:
            raise _out_of_memory(task) from error
        except RuntimeError as error:  # torch's allocator
            if "memory" not in str(error):
                raise
            raise _out_of_memory(task) from error
    record.notes += dict.fromkeys(str(warning.message) for warning in caught)
    record.seconds = round(time.monotonic() - started, 3)
    return record


def _read(task: Task, settings: Settings) -> Image:
    origin = task.data if task.data is not None else task.source.path
    assert origin is not None
    image = read_image(
        origin, frames=settings.frames, max_pixels=settings.max_input_pixels, name=task.source.label
    )
    if image.size != task.header.size:
        raise ImageError(f"{task.source.label} has changed while it was waiting.", hint="Run again.")
    if task.target.dpi is None:
        return image
    kept, dpi = image.metadata, task.target.dpi
    if kept.exif is not None:
        entries = {tag: entry for tag, entry in kept.exif.entries.items() if tag not in RESOLUTION_TAGS}
        kept = replace(kept, exif=replace(kept.exif, entries=entries))
    return replace(image, metadata=replace(kept, dpi=(dpi, dpi)))


def _render(
    image: Image,
    output: OutputPlan,
    task: Task,
    settings: Settings,
    engine: Engine | None,
    record: Record,
    report: Report | None,
    spread: Spread | None,
) -> np.ndarray:
    """The output's samples (H, W, channels)."""
    target = task.target.size
    used = image.alpha is not None and settings.alpha != "drop"
    by_model = used and image.alpha_constant is None and settings.alpha != "lanczos" and engine is not None
    share = 0.5 if by_model else 0.0
    alpha = (
        _alpha(image, target, engine if by_model else None, record, _part(report, 0, share)) if used else None
    )
    if engine is None:
        kept = task.target.kept
        record.notes.append("size kept" if kept else "not enlarged: resized without the network")
    renderer = None if engine is None else _renderer(engine, settings, record)
    pixels = np.empty(output.shape, output.dtype)
    top = 0
    for rows in colours(image.strip, Size(*image.size), target, renderer, _part(report, share, 1)):
        bottom = top + len(rows)
        if spread is not None:
            spread.add(top, rows)
        cover = None if alpha is None else alpha(top, bottom)
        pixels[top:bottom] = output.band(rows, cover, top=top)
        top = bottom
    assert top == target.h
    if spread is not None:
        spread.count += 1
    if isinstance(renderer, Consistent):
        record.lr_psnr = renderer.lr_psnr
    if engine is not None:
        _count(record, engine)
        tile = engine.tile_used
        record.device, record.precision = str(engine.device), str(engine.precision)
        record.tile = None if tile is None else f"{tile.w}x{tile.h}"
        record.notes += engine.notes
    return pixels


def _renderer(engine: Engine, settings: Settings, record: Record) -> Renderer:
    assert record.seed is not None  # planned
    return renderer_for(
        engine,
        temperature=record.temperature,
        seed=record.seed,
        where=settings.temperature_map,
        consistent_at=record.depth if settings.consistency else None,
        turned=settings.turned,
    )


def colours(
    strip: Callable[[int, int], np.ndarray],
    size: Size,
    target: Size,
    engine: Renderer | None,
    report: Report | None = None,
) -> Iterator[np.ndarray]:
    """Rows (n, W, 3) of a picture at `target`, from top to bottom.

    Sides that shrink are reduced first, antialiased; sides that grow are the network's.

    Args:
        strip: gives rows [top, bottom) of the picture as float32 (n, w, 3).
        size: of the picture.
        target: of the result.
        engine: the network, or what wraps it; needed where a side grows.
        report: called with the finished share.
    """
    reduced = Size(min(size.h, target.h), min(size.w, target.w))
    source = Reduced(strip, size, reduced)
    if reduced != target:
        assert engine is not None
        yield from engine.rows(source, target, report=report)
        return
    step = max(1, STRIP_SAMPLES // (3 * target.w))
    for top in range(0, target.h, step):
        bottom = min(top + step, target.h)
        yield source.strip(top, bottom)
        if report is not None:
            report(bottom / target.h)


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


def _alpha(
    image: Image, target: Size, engine: Engine | None, record: Record, report: Report | None
) -> Callable[[int, int], np.ndarray]:
    """A function that gives rows [top, bottom) of the enlarged transparency as float32 (n, W)."""
    constant, size = image.alpha_constant, Size(*image.size)
    if constant is not None:
        return lambda top, bottom: np.full((bottom - top, target.w), constant, np.float32)
    if engine is None:
        kernel: Literal["lanczos", "bicubic"] = "lanczos" if grows(size, target) else "bicubic"
        return lambda top, bottom: resize_rows(image.alpha_strip, size, target, top, bottom, kernel=kernel)

    def as_gray(top: int, bottom: int) -> np.ndarray:
        return np.repeat(image.alpha_strip(top, bottom)[..., None], 3, axis=2)

    # Kept until the colours are there; 16 bits are finer than any file's transparency but a float one's.
    whole = np.empty(target, np.uint16)
    top = 0
    faithful: Renderer = engine if record.temperature is None else Drawn(engine, 0.0, 0)  # no noise in it
    for rows in colours(as_gray, size, target, faithful, report):
        whole[top : top + len(rows)] = np.rint(np.clip(rows.mean(axis=2), 0, 1) * 65535)
        top += len(rows)
    _count(record, engine)
    return lambda top, bottom: whole[top:bottom].astype(np.float32) / np.float32(65535)


def _count(record: Record, engine: Engine) -> None:
    record.tile_retries += engine.tile_retries
    record.fp32_fallback += engine.fp32_fallbacks


def _part(report: Report | None, start: float, stop: float) -> Report | None:
    return None if report is None else lambda share: report(start + share * (stop - start))


def _provenance(record: Record, settings: Settings, engine: Engine | None) -> dict[str, Any] | None:
    """What the file will say about how it was made. Neither device nor tile: they do not change the picture."""
    if not settings.provenance:
        return None
    facts = {
        "version": __version__,
        "model": record.model,
        "in_size": record.in_size,
        "out_size": record.out_size,
        "precision": None if engine is None else str(engine.precision),
        "seed": record.seed,
        "temperature": record.temperature,
        "temperature_map": record.temperature_map,
        "consistency": settings.consistency or None,
        "tta": settings.turned or None,
        "fingerprint": record.fingerprint,
    }
    return {key: value for key, value in facts.items() if value is not None}


def _write(
    task: Task,
    output: OutputPlan,
    pixels: np.ndarray,
    provenance: dict[str, Any] | None,
    stdout: BinaryIO | None,
) -> list[str]:
    if task.path is None:
        assert stdout is not None
        notes = output.write(stdout, pixels, provenance=provenance)
        stdout.flush()
        return notes
    with made_folder(task.path.parent):
        return output.write(task.path, pixels, provenance=provenance)


def _out_of_memory(task: Task) -> ResourceError:
    return ResourceError(
        f"{task.source.label}: memory ran out; the output alone takes {in_words(task.pixels * 3)} or more.",
        hint="Choose a smaller size, or close other programs.",
    )
