"""Everything about one result that can be decided, and refused, before a pixel is read."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

from srcli.batch.degradation import choose_model, describe
from srcli.batch.inputs import Source, absolute
from srcli.batch.job import Job, Settings, grows
from srcli.batch.loading import network_memory
from srcli.batch.naming import Destination
from srcli.batch.provenance import check_unchanged, content_id, content_of, not_ours, read_provenance
from srcli.batch.sizes import Target
from srcli.config.presets import SUCCESSORS, Preset, list_presets, preset_folders
from srcli.errors import ResourceError, UsageError
from srcli.geometry import Size
from srcli.image.decode import can_read_in_bands
from srcli.image.formats import FORMATS, Depth, check_format_limits, depth_wanted, depths_of
from srcli.image.probe import Header, check_pixels, probe
from srcli.image.read import Image, read_image
from srcli.image.samples import DTYPES, IN_MEMORY
from srcli.image.source import Source as File
from srcli.image.source import open_source
from srcli.image.write import choose_format
from srcli.resources import available_memory, check_disk, check_folder, check_memory, input_bytes, own_memory
from srcli.weights.files import FIXED_SCALE

MEMORY_BASE, MEMORY_TORCH = 100 << 20, 500 << 20  # the interpreter and its libraries; torch
BANDS_UNDER_WAY = 6  # in float32: being made, waiting for the writer, being stored
BAND_LR, BAND_HR = 1 << 15, 1 << 22  # pixels of one, at most
BAND_BYTES = 100 << 20  # of an input that is read a few rows at a time
STREAMED = ("png", "tiff", "jpg")  # written as the rows come
LOSSLESS_SHARE, LOSSY_SHARE = 0.2, 0.02  # of the samples' bytes: the least that a photograph takes in a file


class OpenInput:
    """An input while it is planned and read: opened once, hashed once; from `open_input`."""

    def __init__(self, source: Source, file: File, settings: Settings) -> None:
        self.source = source
        self.file = file
        self.header = probe(file, frames=settings.frames)
        self._settings = settings
        self._image: Image | None = None
        # Pictures that are wanted of it: more than one of an animation.
        self.count = self.header.frames if settings.frames == "all" else 1
        check_pixels(self.header, settings.max_input_pixels, source.label, count=self.count)

    @cached_property
    def _in_memory(self) -> int:
        return input_bytes() if self._settings.in_memory is None else self._settings.in_memory

    @cached_property
    def content(self) -> tuple[int, bytes]:
        """Number of its bytes, and a hash."""
        self.file.stream.seek(0)
        return content_of(self.file.stream)

    def image(self, folder: Path | None = None) -> Image:
        """The picture, the first of an animation; read once if it fits into memory, else into a file in `folder`."""
        if self._image is not None:
            return self._image
        settings = self._settings
        image = read_image(
            self.file,
            frames="first" if self.count > 1 else settings.frames,
            max_pixels=settings.max_input_pixels,
            in_memory=self._in_memory,
            folder=folder,
        )
        if isinstance(image.pixels, np.ndarray):
            self._image = image
        return image

    @cached_property
    def lies_on_disk(self) -> bool:
        """Whether it is too large for the memory and kept on the disk while it is worked on."""
        nbytes = self.header.nbytes
        if self.count > 1 or nbytes <= self._in_memory:
            return False
        return can_read_in_bands(self.file, self._settings.frames)


@contextmanager
def open_input(source: Source, settings: Settings, data: bytes | None = None) -> Iterator[OpenInput]:
    """An input, open inside; `data` is the content of standard input, if that is the source.

    Raises SrcliError (it is no picture, or larger than allowed).
    """
    origin = data if source.path is None else source.path
    assert origin is not None  # the caller reads standard input
    stack = ExitStack()
    try:
        yield OpenInput(source, stack.enter_context(open_source(origin, source.label)), settings)
    finally:
        stack.close()  # not by `with`: what goes wrong inside is not always the file's fault


def plan(picture: OpenInput, index: int, settings: Settings, place: Destination, *, sample: int = 1) -> Job:
    """Decide everything about one result from the header, and check that it can be done.

    `picture`: the input. `index`: its number, from 1. `settings`: what to do. `place`: where results go. `sample`:
    its number among the results for this input, from 1; with the seed it decides the noise. Raises SrcliError (it
    cannot be done; the class says why).
    """
    source, header, count = picture.source, picture.header, picture.count
    target = settings.rule.target(Size(*header.size))
    form, depth, notes = _form(header, settings)
    check_format_limits(form, target.size)
    _check_output_pixels(target, count, settings)
    found, is_enlarged = None, grows(header.size, target.size)
    if is_enlarged and settings.real_world is not None:
        settings, found = choose_model(settings, settings.real_world, source, header, picture.image)
        notes.append(describe(found, settings.model.preset.name, settings.restored))
    preset = settings.model.preset
    repairs = preset.before is not None or preset.encoder.name == FIXED_SCALE  # is named to repair
    job = Job(
        source,
        header,
        target,
        place.path(source, output_words(source, index, settings, target, form, sample=sample)),
        preset,
        needs_network=is_enlarged or (repairs and target.size == header.size),
        format=form,
        depth=depth,
        seed=settings.seed + sample - 1,
        frames=count if count > 1 else None,
        degradation=found,
        notes=tuple(notes),
    )
    if job.needs_network:
        job = _with_sampling(job, settings)
    if job.path is not None:
        _check_name(job.path)
        if job.path.is_file() or job.path.is_dir() or job.path.is_symlink():  # and no device or pipe
            job = _with_existing_output(job, job.path, picture, settings)
    if job.is_finished:
        return job
    if job.fingerprint is None:
        job = _with_fingerprint(job, picture, settings)
    free = available_memory()
    job = replace(job, memory=_memory(job, picture, settings, free))
    assert job.memory is not None
    room = None if free is None else free + own_memory()  # of earlier pictures, which the next takes again
    check_memory(job.memory, room, gathered=form not in STREAMED)
    if job.needs_network and settings.memory_plan is not None:
        lines, peak = settings.memory_plan(target.size)
        job = replace(job, notes=(*job.notes, *lines), memory=max(job.memory, MEMORY_BASE + peak))
    if job.path is not None:
        _check_target(job.path, job, picture, settings)
    return job


def _with_sampling(job: Job, settings: Settings) -> Job:
    """With temperature and sampling of the job, where its model has such."""
    notes, given = [*job.notes], settings.temperature_map
    noise, sampling = settings.chosen_temperature(job.target), settings.chosen_sampling()
    if noise is not None:
        job = replace(job, temperature=noise, temperature_map=None if given is None else given.name)
        if noise.value == 0 and settings.samples > 1:
            notes.append("at temperature 0 all samples are equal")
    if sampling is not None:
        job = replace(job, sampling=sampling, branch=settings.model.branch)
        notes.append(f"sampled by {sampling.about()}")
    return replace(job, notes=tuple(notes))


def _check_name(path: Path) -> None:
    """Check that the file system can have such a name."""
    try:
        path.lstat()
    except OSError as error:
        if error.errno not in (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL):
            return  # nearly always: there is no such file yet
        name = max(path.parts, key=len)
        raise ResourceError(
            f"the output's name, {name[:24]}...{name[-16:]} ({len(os.fsencode(name))} bytes), is not possible "
            f"there: {os.strerror(error.errno).lower()}.",
            hint="Give a shorter one with --name, such as --name '{index}_{size}{ext}'.",
        ) from error


def _with_fingerprint(job: Job, picture: OpenInput, settings: Settings) -> Job:
    """With the identity of all that the result is made from: input, weights, options."""
    preset, model, weights, limit, restore = job.preset, None, "", None, None
    length, digest = picture.content
    if job.needs_network:
        weights, limit, restore = settings.model.weights_sha256(), settings.limited, settings.restored
        model = {"name": preset.name, "sha256": weights, "license": preset.weights.license}
    fingerprint = _fingerprint(job, picture, settings, weights)
    return replace(
        job,
        model=model,
        limit=limit,
        restore=restore,
        in_content=content_id(length, digest),
        fingerprint=fingerprint,
    )


def _fingerprint(job: Job, picture: OpenInput, settings: Settings, weights: str) -> str:
    return settings.fingerprint(picture.content[1], job.target, weights, form=job.format, seed=job.seed)


def output_path(
    source: Source, index: int, settings: Settings, place: Destination, *, sample: int = 1
) -> Path | None:
    """Where one input's result goes, from its header; None is standard output."""
    with open_input(source, settings) as picture:
        header = picture.header
    target = settings.rule.target(Size(*header.size))
    form, _, _ = _form(header, settings)
    return place.path(source, output_words(source, index, settings, target, form, sample=sample))


def output_words(
    source: Source,
    index: int,
    settings: Settings,
    target: Target | None = None,
    form: str | None = None,
    *,
    sample: int = 1,
) -> dict[str, Any]:
    """The fields of an output's name; without `target` and `form` those that the input's header decides are left out.

    `index` counts the samples where several are asked for, else the inputs.
    """
    path = source.path or Path("stdin")
    fields: dict[str, Any] = {
        "stem": path.stem,
        "suffix": path.suffix[1:],
        "size": settings.rule.tag,
        "model": settings.model.preset.name,
        "index": index if settings.samples == 1 else sample,
        "parent": Path(absolute(path)).parent.name if source.path else "",
    }
    if target is not None and form is not None:
        known = FORMATS[form].suffixes
        fields |= {
            "scale": target.scale,
            "width": target.size.w,
            "height": target.size.h,
            "ext": path.suffix if path.suffix.lower() in known else known[0],
        }
    return fields


def _form(header: Header, settings: Settings) -> tuple[str, Depth, list[str]]:
    """Format and depth of an output, and notes on them."""
    depth, is_animation = (
        settings.encoding.get("bit_depth", "keep"),
        settings.frames == "all" and header.frames > 1,
    )
    wanted = depth_wanted(header.depth, depth)
    alpha = header.alpha and settings.alpha != "drop"
    form, notes = choose_format(
        header.format, settings.format, wanted, depth, alpha=alpha, animated=is_animation
    )
    if is_animation:
        wanted = depth = "8"
    depths = depths_of(form, header.format, depth)
    return form.name, wanted if wanted in depths else depths[-1], notes


def _check_output_pixels(target: Target, count: int, settings: Settings) -> None:
    size, pixels = target.size, target.size.h * target.size.w * count
    if pixels > settings.max_output_pixels:
        times = f"{count} times " if count > 1 else ""
        raise ResourceError(
            f"{times}{size.w}x{size.h} are {pixels / 1e6:.0f} million pixels, more than the limit of "
            f"{settings.max_output_pixels / 1e6:g} million.",
            hint=f"Choose a smaller size, or raise the limit: --max-pixels out={pixels}.",
        )


def _memory(job: Job, picture: OpenInput, settings: Settings, free: int | None) -> int:
    """Bytes that the job needs with `free` bytes of memory: the network, the input, and of the output what is under way.

    PNG, TIFF and JPEG are written as the rows come; for other formats the whole output is there, and a copy of Pillow's.
    """
    header, pixels, old, new = job.header, job.pixels, Size(*job.header.size), job.target.size
    size = Size(min(old.h, new.h), min(old.w, new.w))  # that the network gets
    other = None if job.restore in (None, 1) else settings.faithful
    models = [settings.model] if other is None else [settings.model, other]
    read = BAND_BYTES if picture.lies_on_disk else 2 * header.nbytes * picture.count
    out = pixels * (header.channels + 4) * DTYPES[job.depth].itemsize
    if job.format in STREAMED and picture.count == 1:
        band = max(BAND_LR, 8 * size.w) * pixels // (size.h * size.w) if job.needs_network else BAND_HR
        out = min(out, BANDS_UNDER_WAY * min(pixels, BAND_HR, band) * 3 * 4)
    alpha = min(pixels * 2, IN_MEMORY) if header.alpha and settings.alpha != "drop" else 0
    whole = pixels * 3 * 4  # float32
    drawn = 3 * whole * settings.consistency + 3 * whole * settings.self_ensemble
    drawn += 4 * whole * (settings.colour_transfer is not None)
    network = MEMORY_TORCH + sum(network_memory(model, size, free) for model in models)
    return MEMORY_BASE + read + out + alpha + (network + drawn) * job.needs_network


def _check_target(path: Path, job: Job, picture: OpenInput, settings: Settings) -> None:
    """Check that the result can be written there."""
    check_folder(path.parent)
    raw = job.pixels * job.header.channels * DTYPES[job.depth].itemsize
    lossless = job.format in ("png", "tiff") or settings.encoding.get("lossless", False)
    kept = job.header.nbytes if picture.lies_on_disk else 0
    check_disk(path.parent, kept + int(raw * (LOSSLESS_SHARE if lossless else LOSSY_SHARE)))


# --- an output that exists ----------------------------------------------------------------------------------------


def _with_existing_output(job: Job, path: Path, picture: OpenInput, settings: Settings) -> Job:
    """A job whose output exists: finished if that stays as it is, which its last note explains."""
    source, finished = job.source.path, replace(job, is_finished=True)
    if source is not None and path.exists() and path.samefile(source):
        raise UsageError(f"the output {path} is the input.", hint="Choose another with -o or --name.")
    if path.is_dir():
        raise ResourceError(f"the output {path} is a folder.", hint="Choose another with -o or --name.")
    if settings.exists == "skip":
        return replace(finished, notes=(*job.notes, "exists, skipped"))
    if settings.exists == "overwrite":
        return job
    made = (read_provenance(path) if path.exists() else None) or {}
    entry = None if settings.manifest is None else settings.manifest.entry(job.source.key, path)
    fingerprint = made.get("fingerprint") or (entry and entry.fingerprint)
    if fingerprint is None:
        raise not_ours(f"the output {path}")
    job = _with_fingerprint(job, picture, settings)
    is_current, why = fingerprint == job.fingerprint, "up to date"
    if not is_current and settings.any_weights and job.needs_network:
        for model in _possible_models(made.get("model") or (entry and entry.model), settings.model.preset):
            if _fingerprint(job, picture, settings, model["sha256"]) == fingerprint:
                is_current = True
                # An old output does not record whether there was a limit.
                job = replace(job, fingerprint=fingerprint, model=model, limit=None)
                why = f"up to date, made by {model['name']}; --upgrade makes it again"
    content = made.get("content") or (None if entry is None else entry.content)
    if content is not None or not (is_current or entry):
        check_unchanged(path, content, quick=is_current)
    if not is_current:
        return job
    return replace(job, is_finished=True, content=content, notes=(*job.notes, why))


def _possible_models(recorded: object, preset: Preset) -> list[dict[str, Any]]:
    """Models that may have made an output in place of `preset`: what is recorded, or else all whose hash is known.

    One for damaged pictures does not stand for one for clean ones.
    """
    known = _presets(*preset_folders())
    if isinstance(recorded, dict) and isinstance(recorded.get("sha256"), str):
        name, digest = str(recorded.get("name")), recorded["sha256"]
        found = [{"name": name, "sha256": digest, "license": recorded.get("license")}]
    else:
        hashed = [(p, p.weights.sha256) for p in known if p.weights.sha256]
        found = [{"name": p.name, "sha256": sha, "license": p.weights.license} for p, sha in hashed]
    repairs = {p.name for p in known if p.training.degradation is not None}
    wanted = preset.training.degradation is not None
    return [m for m in found if (SUCCESSORS.get(m["name"], m["name"]) in repairs) == wanted]


@cache
def _presets(*_folders: Path) -> list[Preset]:
    return list_presets()  # once, however many pictures there are
