"""All results for one input, planned and made: what a batch does again and again, here, in a process or on a cluster."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np

from srcli import __version__
from srcli.batch.degradation import NOTICE, is_surely_damaged, network_of
from srcli.batch.inputs import Source
from srcli.batch.job import Job, Record, Settings
from srcli.batch.naming import Destination
from srcli.batch.plan import OpenInput, open_input, output_path, plan
from srcli.batch.provenance import recorded_write
from srcli.batch.render import AnimatedRendering, Engine, Rendering
from srcli.engine.request import Report
from srcli.errors import ImageError, ResourceError, SrcliError
from srcli.files import made_folder, remove_leftovers, write_error
from srcli.image.read import Image
from srcli.image.write import OutputPlan, plan_output
from srcli.resources import nearest_folder

if TYPE_CHECKING:
    from srcli.image.animation import AnimationPlan

RESOLUTION_TAGS = (282, 283, 296)  # of EXIF
Item = tuple[int, Source]  # an input's number, from 1, and the input
Watch = Callable[[str, int], AbstractContextManager[Report | None]]


class Outcome(NamedTuple):
    """What became of one input: its records, and the error if it failed."""

    item: Item
    records: list[Record]
    error: Exception | None = None


class Fatal(Exception):  # noqa: N818 - it only carries the error past those of single pictures
    """What would fail for every picture; `cause` says what."""

    def __init__(self, cause: SrcliError) -> None:
        super().__init__(str(cause))
        self.cause = cause


@dataclass(frozen=True)
class Loaded:
    """A picture in memory and what its result will be."""

    job: Job
    images: tuple[Image, ...]  # the picture, or all of an animation
    output: OutputPlan | AnimationPlan
    seconds: float = 0.0  # spent so far
    notes: list[str] = field(default_factory=list)  # on the picture, but for those of `images`
    warned: list[str] = field(default_factory=list)  # of what, so far; the stages that follow add to it


@dataclass(frozen=True)
class PreparedInput:
    """One input, planned and read: a job for each sample, pictures by the place among those that are to be made."""

    item: Item
    jobs: tuple[Job, ...]
    loaded: dict[int, Loaded]


@dataclass(frozen=True)
class Worker:
    """Makes the results for one input after the other."""

    settings: Settings
    place: Destination  # where results go
    engine: Callable[[], Engine]  # gives the network; called only where one is needed
    # Called with a label and the output's pixels; inside, the work is done and its share reported.
    watch: Watch = lambda _label, _pixels: nullcontext()
    stdout: BinaryIO | None = None  # takes the bytes of a result that has no path
    noticed: list[str] = field(default_factory=list)  # the first damaged picture; after it none is measured

    def process(self, item: Item, data: bytes | None = None) -> Iterator[Record]:
        """What became of one input: a record for each of its samples.

        `item`: the input. `data`: the content of standard input, if that is the source. Raises SrcliError (it did not
        work; nothing is left behind).
        """
        if item[1].uri is not None or self.place.scheme is not None:
            yield from self._through_storage(item)
            return
        work = self.read(item, data)
        for number, job in enumerate(work.jobs):
            if number not in work.loaded:
                yield Record.of(job, "skipped")
                continue
            rendering = self.rendering(work, number)
            with self.watch(job.source.label, job.pixels) as report:
                yield self.write(work, number, rendering, rendering.rows(report))

    def _through_storage(self, item: Item) -> Iterator[Record]:
        """As `process`, by local copies; an output that is there already is fetched first, to be judged as any other."""
        from srcli.batch.storage import staged

        index, settings = item[0], self.settings
        with staged(item[1], self.place) as stage:
            for sample in range(1, settings.samples + 1 if settings.exists != "overwrite" else 1):
                path = output_path(stage.source, index, settings, stage.place, sample=sample)
                stage.fetch_output(path, whole=settings.exists != "skip")
            for record in replace(self, place=stage.place).process((index, stage.source)):
                record.output = stage.send(record.output, done=record.status == "done")
                record.input, record.notes = item[1].label, [stage.named(note) for note in record.notes]
                yield record

    def plan(self, item: Item, data: bytes | None = None) -> list[Record]:
        """What would become of one input."""
        with open_input(item[1], self.settings, data) as picture:
            jobs = self._jobs(picture, item[0])
        return [Record.of(job, "skipped" if job.is_finished else "planned") for job in jobs]

    def read(
        self, item: Item, data: bytes | None = None, *, take: Callable[[int], None] = lambda _nbytes: None
    ) -> PreparedInput:
        """Plan all results for one input, and read it once for those that are to be made.

        `item`: the input. `data`: the content of standard input, if that is the source. `take`: called with the bytes
        of the picture before it is read. Raises SrcliError (it cannot be done).
        """
        warned = list[str]()
        with capture_warnings(warned), open_input(item[1], self.settings, data) as picture:
            jobs = self._jobs(picture, item[0])
            for job in jobs:
                if job.path is not None:
                    remove_leftovers(job.path.parent)
            work = PreparedInput(item, jobs, {})
            left = [n for n, job in enumerate(jobs) if not job.is_finished]
            if left:
                take(picture.header.nbytes * picture.count)
                loaded = self._load(picture, [jobs[n] for n in left], warned)
                work.loaded.update(zip(left, loaded, strict=True))
        return work

    def _jobs(self, picture: OpenInput, index: int) -> tuple[Job, ...]:
        numbers = range(1, self.settings.samples + 1)
        return tuple(plan(picture, index, self.settings, self.place, sample=number) for number in numbers)

    def _load(self, picture: OpenInput, jobs: list[Job], warned: list[str]) -> list[Loaded]:
        started = time.monotonic()
        with memory_errors_of(jobs[0]):
            results = [self._loaded(job, picture) for job in jobs]
            notes = []
            if not self.noticed and is_surely_damaged(results[0].images[0], jobs[0], self.settings):
                self.noticed.append(picture.source.label)
                notes = [NOTICE]
        results = [replace(loaded, warned=[*warned]) for loaded in results]
        results[0] = replace(results[0], seconds=time.monotonic() - started, notes=notes)
        return results

    def _loaded(self, job: Job, picture: OpenInput) -> Loaded:
        images, timing = _images(job, picture, self.settings)
        output = plan_output(
            images[0],
            job.target.size,
            output_format=job.format,
            keep_alpha=self.settings.alpha != "drop",
            **self.settings.encoding | ({} if timing is None else {"bit_depth": "8"}),
        )
        if timing is None:
            return Loaded(job, images, output)
        from srcli.image.animation import AnimationPlan

        return Loaded(job, images, AnimationPlan(output, timing))

    def rendering(self, work: PreparedInput, number: int) -> Rendering:
        """A result, ready to be rendered; its network is loaded."""
        loaded = work.loaded[number]
        engine = network_of(loaded.job, self.settings, self.engine)
        output = loaded.output if isinstance(loaded.output, OutputPlan) else loaded.output.still
        pictures = [Rendering(loaded.job, image, output, self.settings, engine) for image in loaded.images]
        return AnimatedRendering(pictures) if len(pictures) > 1 else pictures[0]

    def write(
        self, work: PreparedInput, number: int, rendering: Rendering, rows: Iterable[np.ndarray]
    ) -> Record:
        """Write a result from its rows as they come, and say what became of it.

        Raises SrcliError (it did not work; nothing is left behind. What `rows` raises passes through).
        """
        loaded, started = work.loaded[number], time.monotonic()
        job, output = loaded.job, rendering.output
        facts = _provenance(job, self.settings, rendering.engine)
        provenance = facts if self.settings.provenance else None
        samples, content = rendering.samples(rows), None
        with capture_warnings(loaded.warned), memory_errors_of(job):
            if job.path is None:
                notes = self._write_to_stdout(loaded, samples, provenance)
            else:
                with made_folder(job.path.parent), recorded_write(job.path, facts) as stream:
                    notes = loaded.output.write(stream, samples, provenance=provenance)
                content = facts["content"]
        seconds = round(loaded.seconds + time.monotonic() - started, 3)
        before = [*loaded.images[0].notes, *output.notes, *loaded.notes, *rendering.notes]
        notes = [*before, *notes, *loaded.warned]
        return Record.of(
            job,
            "done",
            notes=notes,
            depth=output.depth,
            format=output.format.name,
            content=content,
            seconds=seconds,
            **rendering.found(),
        )

    def _write_to_stdout(
        self, loaded: Loaded, samples: Iterable[np.ndarray], provenance: dict[str, Any] | None
    ) -> list[str]:
        assert self.stdout is not None
        try:
            notes = loaded.output.write(self.stdout, samples, provenance=provenance)
            self.stdout.flush()
        except BrokenPipeError:  # nobody reads on
            raise
        except OSError as error:
            raise write_error("standard output", error) from error
        return notes


def _images(job: Job, picture: OpenInput, settings: Settings) -> tuple[tuple[Image, ...], Any]:
    """The picture, or all of an animation and their timing."""
    timing = None
    if job.frames is not None:
        from srcli.image.animation import read_animation

        animation = read_animation(picture.file, max_pixels=settings.max_input_pixels)
        images, timing = animation.frames, animation.timing
    else:
        images = (picture.image(None if job.path is None else nearest_folder(job.path.parent)),)
    if images[0].size != job.header.size:
        raise ImageError(f"{job.source.label} has changed while it was waiting.", hint="Run again.")
    return tuple(_at_density(image, job.target.dpi) for image in images), timing


def _at_density(image: Image, dpi: float | None) -> Image:
    if dpi is None:
        return image
    kept = image.metadata
    if kept.exif is not None:
        entries = {tag: entry for tag, entry in kept.exif.entries.items() if tag not in RESOLUTION_TAGS}
        kept = replace(kept, exif=replace(kept.exif, entries=entries))
    return replace(image, metadata=replace(kept, dpi=(dpi, dpi)))


def _provenance(job: Job, settings: Settings, engine: Engine | None) -> dict[str, Any]:
    """What the file will say about how it was made. Neither device nor tile: they do not change the picture."""
    planned = Record.of(job, "planned")
    facts = {
        "version": __version__,
        "model": job.model,
        "in_size": planned.in_size,
        "out_size": planned.out_size,
        "precision": None if engine is None else str(engine.precision),
        "seed": job.seed,
        "temperature": planned.temperature,
        "temperature_map": job.temperature_map,
        "consistency": settings.consistency or None,
        "sampling": planned.sampling,
        "branch": job.branch,
        "tta": settings.self_ensemble or None,
        "restore": job.restore,
        "degradation": job.degradation,
        "limit": job.limit,
        "fingerprint": job.fingerprint,
        "in_content": job.in_content,
    }
    return {key: value for key, value in facts.items() if value is not None}


@contextmanager
def memory_errors_of(job: Job) -> Iterator[None]:
    """Inside, memory that runs out is a ResourceError."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # the latter from torch's allocator
        if isinstance(error, RuntimeError) and "memory" not in str(error):
            raise
        raise ResourceError(
            f"{job.source.label}: memory ran out; the output has {job.pixels / 1e6:.3g} million pixels.",
            hint="Choose a smaller size, or close other programs.",
        ) from error


# --- warnings of a piece of work, for its record; several threads may work at once --------------------------------

_here = threading.local()
_lock = threading.Lock()
_users = 0
_undo = ExitStack()


@contextmanager
def capture_warnings(into: list[str]) -> Iterator[None]:
    """Inside, what this thread is warned of is added to `into` rather than shown.

    `warnings.catch_warnings` belongs to the whole process: two threads that enter and leave it in turns undo each
    other's. So it is entered once, by the first, and left by the last.
    """
    global _users
    with _lock:
        if _users == 0:
            _undo.enter_context(warnings.catch_warnings())
            warnings.simplefilter("always")
            warnings.showwarning = _dispatched(warnings.showwarning)
        _users += 1
    outer, _here.sink = getattr(_here, "sink", None), into
    try:
        yield
    finally:
        _here.sink = outer
        with _lock:
            _users -= 1
            if _users == 0:
                _undo.close()


def _dispatched(shown: Any) -> Any:
    def show(message: Warning | str, *rest: Any, **more: Any) -> None:
        sink: list[str] | None = getattr(_here, "sink", None)
        if sink is None:
            shown(message, *rest, **more)
        else:
            sink.append(str(message))

    return show
