"""Doing what was planned: read, enlarge, write."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO

import numpy as np

from srcli import __version__
from srcli.batch.capture_warnings import heard
from srcli.batch.degradation import NOTICE, noticed
from srcli.batch.draw import SampleDeviation
from srcli.batch.frames import AnimatedRendering
from srcli.batch.render import Engine, Rendering
from srcli.batch.task import Record, Settings, Task
from srcli.engine.request import Report
from srcli.errors import ImageError, ResourceError
from srcli.files import write_error
from srcli.image.animation import AnimationPlan, Timing, read_animation
from srcli.image.provenance import recorded_write
from srcli.image.read import Image, read_image
from srcli.image.write import OutputPlan, plan_output
from srcli.resources import existing, input_bytes, made_folder

RESOLUTION_TAGS = (282, 283, 296)  # of EXIF


@dataclass
class Loaded:
    """A picture in memory and what its result will be.

    Attributes:
        task: what was planned.
        image: the picture; of an animation, the first.
        output: what the file will be.
        record: what is known so far; the stages that follow add to it.
        warned: of what, so far.
        seconds: spent so far.
        following: further pictures of an animation.
    """

    task: Task
    image: Image
    output: OutputPlan | AnimationPlan
    record: Record
    warned: list[str] = field(default_factory=list)
    seconds: float = 0.0
    following: tuple[Image, ...] = ()


def run(
    task: Task,
    settings: Settings,
    engine: Engine | None,
    *,
    report: Report | None = None,
    stdout: BinaryIO | None = None,
    spread: SampleDeviation | None = None,
) -> Record:
    """Do what was planned: read, enlarge, write, one after the other.

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
    (loaded,) = load([task], settings)
    rendering = rendering_of(loaded, settings, engine, spread)
    return write(loaded, settings, engine, rendering.samples(rendering.rows(report)), stdout)


def load(tasks: list[Task], settings: Settings) -> list[Loaded]:
    """Read a picture once for all results that are wanted of it.

    Raises:
        SrcliError: it cannot be read, or the options do not fit it.
    """
    started, warned = time.monotonic(), list[str]()
    with heard(warned), memory_errors_of(tasks[0]):
        images, timing = _read(tasks[0], settings)
        results = [_loaded(task, images, timing, settings) for task in tasks]
        if noticed(images[0], tasks[0], settings):
            results[0].record.notes.append(NOTICE)
    results[0].seconds = time.monotonic() - started
    for loaded in results:
        loaded.warned += warned
    return results


def _loaded(task: Task, images: tuple[Image, ...], timing: Timing | None, settings: Settings) -> Loaded:
    image, *following = images
    record = replace(task.record, status="done", notes=list(task.record.notes))
    output = plan_output(
        image,
        task.target.size,
        output_format=record.format,
        keep_alpha=settings.alpha != "drop",
        **settings.encoding | ({} if timing is None else {"bit_depth": "8"}),
    )
    record.depth, record.format = output.depth, output.format.name
    record.notes += [*image.notes, *output.notes]
    whole = output if timing is None else AnimationPlan(output, timing)
    return Loaded(task, image, whole, record, following=tuple(following))


def _read(task: Task, settings: Settings) -> tuple[tuple[Image, ...], Timing | None]:
    """The picture, or all of an animation and their timing."""
    origin = task.data if task.data is not None else task.source.path
    assert origin is not None
    limit, name = settings.max_input_pixels, task.source.label
    timing = None
    if task.is_animation:
        animation = read_animation(origin, max_pixels=limit, name=name)
        images, timing = animation.frames, animation.timing
    else:
        images = (
            read_image(
                origin,
                frames=settings.frames,
                max_pixels=limit,
                name=name,
                in_memory=input_bytes(),
                folder=None if task.path is None else existing(task.path.parent),
            ),
        )
    if images[0].size != task.header.size:
        raise ImageError(f"{name} has changed while it was waiting.", hint="Run again.")
    return tuple(_at_density(image, task.target.dpi) for image in images), timing


def _at_density(image: Image, dpi: float | None) -> Image:
    if dpi is None:
        return image
    kept = image.metadata
    if kept.exif is not None:
        entries = {tag: entry for tag, entry in kept.exif.entries.items() if tag not in RESOLUTION_TAGS}
        kept = replace(kept, exif=replace(kept.exif, entries=entries))
    return replace(image, metadata=replace(kept, dpi=(dpi, dpi)))


def rendering_of(
    loaded: Loaded, settings: Settings, engine: Engine | None, spread: SampleDeviation | None
) -> Rendering:
    """The result, ready to be rendered."""
    output = loaded.output if isinstance(loaded.output, OutputPlan) else loaded.output.still
    pictures = [
        Rendering(loaded.task, image, output, settings, engine, loaded.record, spread)
        for image in (loaded.image, *loaded.following)
    ]
    return AnimatedRendering(pictures) if loaded.following else pictures[0]


def write(
    loaded: Loaded,
    settings: Settings,
    engine: Engine | None,
    samples: Iterable[np.ndarray],
    stdout: BinaryIO | None,
) -> Record:
    """Write the result from its samples as they come, and say what became of it.

    Raises:
        SrcliError: it did not work; nothing is left behind. What `samples` raises passes through.
    """
    task, record, started = loaded.task, loaded.record, time.monotonic()
    facts = _provenance(record, settings, engine)
    provenance = facts if settings.provenance else None
    with heard(loaded.warned), memory_errors_of(task):
        if task.path is None:
            record.notes += _write_to(stdout, loaded, samples, provenance)
        else:
            with made_folder(task.path.parent), recorded_write(task.path, facts) as stream:
                record.notes += loaded.output.write(stream, samples, provenance=provenance)
            record.content = facts["content"]
    record.notes += dict.fromkeys(loaded.warned)
    record.seconds = round(loaded.seconds + time.monotonic() - started, 3)
    return record


def _write_to(
    stdout: BinaryIO | None,
    loaded: Loaded,
    samples: Iterable[np.ndarray],
    provenance: dict[str, Any] | None,
) -> list[str]:
    assert stdout is not None
    try:
        notes = loaded.output.write(stdout, samples, provenance=provenance)
        stdout.flush()
    except BrokenPipeError:  # nobody reads on
        raise
    except OSError as error:
        raise write_error("standard output", error) from error
    return notes


def _provenance(record: Record, settings: Settings, engine: Engine | None) -> dict[str, Any]:
    """What the file will say about how it was made. Neither device nor tile: they do not change the picture."""
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
        "sampling": record.sampling,
        "branch": record.branch,
        "tta": settings.turned or None,
        "restore": record.restore,
        "degradation": record.degradation,
        "limit": record.limit,
        "fingerprint": record.fingerprint,
        "in_content": record.in_content,
    }
    return {key: value for key, value in facts.items() if value is not None}


@contextmanager
def memory_errors_of(task: Task) -> Iterator[None]:
    """Say so where memory runs out inside.

    Raises:
        ResourceError: it did.
    """
    try:
        yield
    except MemoryError as error:
        raise _out_of_memory(task) from error
    except RuntimeError as error:  # torch's allocator
        if "memory" not in str(error):
            raise
        raise _out_of_memory(task) from error


def _out_of_memory(task: Task) -> ResourceError:
    return ResourceError(
        f"{task.source.label}: memory ran out; the output has {task.pixels / 1e6:.3g} million pixels.",
        hint="Choose a smaller size, or close other programs.",
    )
