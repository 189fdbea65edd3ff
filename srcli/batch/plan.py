"""Everything about one job that can be decided, and refused, before a pixel is read."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import Any

from srcli.batch.degradation import decided, in_words
from srcli.batch.inputs import Source, absolute
from srcli.batch.naming import Destination
from srcli.batch.sizes import Target
from srcli.batch.task import Record, Settings, Task, grows
from srcli.config.presets import SUCCESSORS, Preset, list_presets, preset_folders
from srcli.errors import ExistsError, ResourceError, UsageError
from srcli.geometry import Size
from srcli.image.decode import can_read_in_bands
from srcli.image.formats import FORMATS, Depth, check_format_limits, depth_wanted, depths_of
from srcli.image.probe import Header, check_pixels, probe
from srcli.image.provenance import check_unchanged, content_name, content_of, read_provenance
from srcli.image.samples import IN_MEMORY
from srcli.image.write import choose_format
from srcli.resources import LEAST_INPUT, check_disk, check_folder, check_memory, input_bytes

BYTES = {"8": 1, "16": 2, "32f": 4}
MEMORY_BASE, MEMORY_NETWORK = 100 << 20, 500 << 20  # the interpreter and its libraries; torch and one tile
BANDS_UNDER_WAY = 6  # in float32: being made, waiting for the writer, being stored
BAND_HR = 1 << 22  # pixels of one
BAND_BYTES = 100 << 20  # of an input that is read a few rows at a time
STREAMED = ("png", "tiff", "jpg")  # written as the rows come
LOSSLESS_SHARE, LOSSY_SHARE = 0.2, 0.02  # of the samples' bytes: the least that a photograph takes in a file


def plan(
    source: Source,
    index: int,
    settings: Settings,
    place: Destination,
    *,
    sample: int = 1,
    data: bytes | None = None,
) -> Task:
    """Decide everything about one input from its header, and check that it can be done.

    Args:
        source: the input.
        index: its number, from 1.
        settings: what to do.
        place: where results go.
        sample: its number among the results for this input, from 1; with the seed it decides the noise.
        data: the content of standard input, if that is the source.

    Raises:
        SrcliError: it cannot be done; the class says why.
    """
    header = _header(source, settings, data)
    target = settings.rule.target(Size(*header.size))
    form, notes = _format(header, settings)
    count = header.frames if _is_animation(header, settings) else 1
    check_format_limits(form, target.size)
    _check_pixels(target, count, settings)
    found = None
    if grows(header.size, target.size):
        settings, found = decided(settings, source, header, data)
    path = place.path(source, output_words(source, index, settings, header, target, sample=sample))
    size, new = Size(*header.size), target.size
    record = Record(
        source.label,
        "planned",
        output="-" if path is None else str(path),
        in_size=(size.w, size.h),
        out_size=(new.w, new.h),
        scale_x=new.w / size.w,
        scale_y=new.h / size.h,
        depth=_depth(header, form, settings),
        format=form,
        frames=count if count > 1 else None,
        seed=settings.seed + sample - 1,
        degradation=found,
        notes=notes if found is None else [*notes, in_words(found, settings.preset.name, settings.restored)],
    )
    task = Task(source, data, header, target, path, record, settings.preset)
    if task.needs_network:
        _choose_temperature(record, target, settings)
        _choose_sampling(record, settings)
    if path is not None:
        _check_name(path)
    if path is not None and _is_occupied(path) and _is_finished(task, settings):
        record.status = "skipped"
        return task
    weights = settings.weights_sha256() if task.needs_network else ""
    if record.fingerprint is None:
        _identify(task, settings, weights)
    record.memory = _memory(task, form, settings)
    check_memory(record.memory, gathered=form not in STREAMED)
    if task.needs_network and settings.memory_plan is not None:
        lines, peak = settings.memory_plan(target.size)
        record.notes += lines
        record.memory = max(record.memory, MEMORY_BASE + peak)
    if path is not None:
        _check_place(path, task, form, settings)
    return task


def _check_name(path: Path) -> None:
    """See that the file system can have such a name.

    Raises:
        ResourceError: it cannot.
    """
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


def _check_place(path: Path, task: Task, form: str, settings: Settings) -> None:
    """See that the result can be written there.

    Raises:
        ResourceError: the folder or its disk does not take it.
    """
    check_folder(path.parent)
    raw = task.pixels * _channels(task.header) * BYTES[task.record.depth or "8"]
    lossless = form in ("png", "tiff") or settings.encoding.get("lossless", False)
    kept = task.header.nbytes if _lies_on_disk(task, settings) else 0
    check_disk(path.parent, kept + int(raw * (LOSSLESS_SHARE if lossless else LOSSY_SHARE)))


def _choose_temperature(record: Record, target: Target, settings: Settings) -> None:
    chosen = settings.chosen_temperature(target)
    if chosen is None:
        return
    record.temperature, record.temperature_origin = chosen.value, chosen.origin
    if settings.temperature_map is not None:
        record.temperature_map = settings.temperature_map.name
    if chosen.value == 0 and settings.samples > 1:
        record.notes.append("at temperature 0 all samples are equal")


def _choose_sampling(record: Record, settings: Settings) -> None:
    sampling = settings.chosen_sampling()
    if sampling is None:
        return
    record.sampling = {**asdict(sampling), "calls": sampling.calls}
    record.branch = settings.branch
    record.notes.append(f"sampled by {sampling.about()}")


def _identify(task: Task, settings: Settings, weights: str) -> Callable[[str], str]:
    """Put into the record what the result is made from; gives its fingerprint by the hash of other weights."""
    record = task.record
    assert record.format is not None
    assert record.seed is not None
    length, digest = _content(task)
    record.in_content = content_name(length, digest)
    if task.needs_network:
        about, record.limit, record.restore = settings.preset, settings.limited, settings.restored
        record.model = {"name": about.name, "sha256": weights, "license": about.weights.license}
    by = partial(settings.fingerprint, digest, task.target, form=record.format, seed=record.seed)
    record.fingerprint = by(weights)
    return by


def target_of(source: Source, settings: Settings) -> Target:
    """Output size of one input, from its header.

    Raises:
        SrcliError: the input is no picture, or the size is beyond all limits.
    """
    return settings.rule.target(Size(*_header(source, settings, None).size))


def output_path(
    source: Source, index: int, settings: Settings, place: Destination, *, sample: int = 1
) -> Path | None:
    """Where one input's result goes, from its header; None is standard output.

    Raises:
        SrcliError: the input is no picture.
    """
    header = _header(source, settings, None)
    target = settings.rule.target(Size(*header.size))
    return place.path(source, output_words(source, index, settings, header, target, sample=sample))


def output_words(
    source: Source,
    index: int,
    settings: Settings,
    header: Header | None = None,
    target: Target | None = None,
    *,
    sample: int = 1,
) -> dict[str, Any]:
    """The fields of an output's name; those that only the header tells are left out without it.

    `index` counts the samples where several are asked for, else the inputs.
    """
    path = source.path or Path("stdin")
    fields: dict[str, Any] = {
        "stem": path.stem,
        "suffix": path.suffix[1:],
        "size": settings.rule.tag,
        "model": settings.preset.name,
        "index": index if settings.samples == 1 else sample,
        "parent": Path(absolute(path)).parent.name if source.path else "",
    }
    if header is not None and target is not None:
        form, _ = _format(header, settings)
        known = FORMATS[form].suffixes
        fields |= {
            "scale": target.scale,
            "width": target.size.w,
            "height": target.size.h,
            "ext": path.suffix if path.suffix.lower() in known else known[0],
        }
    return fields


def _header(source: Source, settings: Settings, data: bytes | None) -> Header:
    origin = data if source.path is None else source.path
    assert origin is not None  # the caller reads standard input
    header = probe(origin, frames=settings.frames, name=source.label)
    count = header.frames if _is_animation(header, settings) else 1
    check_pixels(header, settings.max_input_pixels, source.label, count=count)
    if count > 1 and settings.diversity:
        raise UsageError(f"{source.label}: --diversity measures single pictures.", hint="Use --frames first.")
    return header


def _is_animation(header: Header, settings: Settings) -> bool:
    return settings.frames == "all" and header.frames > 1


def _format(header: Header, settings: Settings) -> tuple[str, list[str]]:
    depth = settings.encoding.get("bit_depth", "keep")
    alpha = header.alpha and settings.alpha != "drop"
    chosen, notes = choose_format(
        header.format,
        settings.format,
        depth_wanted(header.depth, depth),
        depth,
        alpha=alpha,
        animated=_is_animation(header, settings),
    )
    return chosen.name, notes


def _depth(header: Header, form: str, settings: Settings) -> Depth:
    depth = settings.encoding.get("bit_depth", "keep")
    wanted = depth_wanted(header.depth, depth)
    if _is_animation(header, settings):
        wanted = "8"
    depths = depths_of(FORMATS[form], header.format, "8" if _is_animation(header, settings) else depth)
    return wanted if wanted in depths else depths[-1]


def _check_pixels(target: Target, count: int, settings: Settings) -> None:
    pixels = target.size.h * target.size.w * count
    if pixels > settings.max_output_pixels:
        raise ResourceError(
            f"{f'{count} times ' if count > 1 else ''}{target.size.w}x{target.size.h} are {pixels / 1e6:.0f} million pixels, more than the limit of "
            f"{settings.max_output_pixels / 1e6:g} million.",
            hint=f"Choose a smaller size, or raise the limit: --max-output-pixels {pixels}.",
        )


def _channels(header: Header) -> int:
    return {"gray": 1, "rgb": 3, "cmyk": 4}[header.kind] + header.alpha


def _memory(task: Task, form: str, settings: Settings) -> int:
    """Bytes that the job needs at least: the input, and of the output what is under way.

    PNG, TIFF and JPEG are written as the rows come; for other formats the whole output is there, and a copy of Pillow's.
    """
    header = task.header
    samples = 2 * header.nbytes * (task.record.frames or 1)
    read = BAND_BYTES if _lies_on_disk(task, settings) else samples
    out = task.pixels * (_channels(header) + 4) * BYTES[task.record.depth or "8"]
    if form in STREAMED and not task.is_animation:
        out = min(out, BANDS_UNDER_WAY * min(task.pixels, BAND_HR) * 3 * 4)
    alpha = min(task.pixels * 2, IN_MEMORY) if header.alpha and settings.alpha != "drop" else 0
    base = MEMORY_BASE + (MEMORY_NETWORK if task.needs_network else 0)
    whole = task.pixels * 3 * 4  # float32
    drawn = 3 * whole * settings.consistency + 2 * whole * settings.diversity + 3 * whole * settings.turned
    drawn += 4 * whole * (settings.colour_fix is not None)
    return base + read + out + alpha + drawn * task.needs_network


def _lies_on_disk(task: Task, settings: Settings) -> bool:
    """Whether the input is too large for the memory and kept on the disk while it is worked on."""
    origin = task.data if task.data is not None else task.source.path
    if task.header.nbytes <= LEAST_INPUT or task.is_animation or origin is None:
        return False  # as nearly always: without a look at the memory
    if task.header.nbytes <= input_bytes():
        return False
    return can_read_in_bands(origin, settings.frames)


def _content(task: Task) -> tuple[int, bytes]:
    """Number of the input's bytes, and a hash."""
    if task.data is not None:
        return len(task.data), hashlib.blake2b(task.data).digest()
    assert task.source.path is not None
    return content_of(task.source.path)


def _is_occupied(path: Path) -> bool:
    """Whether something is there that could be lost: not a device or a pipe."""
    return path.is_file() or path.is_dir() or path.is_symlink()


def _is_finished(task: Task, settings: Settings) -> bool:
    """Whether the existing output stays as it is; the record says why.

    Raises:
        ExistsError: it must not be replaced.
        UsageError: it is the input.
    """
    path, record = task.path, task.record
    assert path is not None
    if task.source.path is not None and path.exists() and path.samefile(task.source.path):
        raise UsageError(f"the output {path} is the input.", hint="Choose another with -o or --name.")
    if path.is_dir():
        raise ResourceError(f"the output {path} is a folder.", hint="Choose another with -o or --name.")
    if settings.exists == "skip":
        record.notes.append("exists, skipped")
        return True
    if settings.exists == "fail":
        raise ExistsError(f"the output {path} exists.", hint="Choose another with -o or --name.")
    if settings.exists == "overwrite":
        return False
    made = (read_provenance(path) if path.exists() else None) or {}
    entry = settings.made(task.source, path)
    fingerprint = made.get("fingerprint") or (entry and entry.fingerprint)
    if fingerprint is None:
        raise ExistsError(
            f"the output {path} exists and was not made by srcli.", hint="Replace it with --overwrite."
        )
    by = _identify(task, settings, settings.weights_sha256() if task.needs_network else "")
    is_current, why = fingerprint == record.fingerprint, "up to date"
    if not is_current and settings.any_weights and task.needs_network:
        for model in _makers(made.get("model") or (entry and entry.model), settings.preset):
            if by(model["sha256"]) == fingerprint:
                is_current, record.fingerprint, record.model = True, fingerprint, model
                record.limit = None  # not told of what was made before
                why = f"up to date, made by {model['name']}; --upgrade makes it again"
    content = made.get("content") or (None if entry is None else entry.content)
    if content is not None or not (is_current or entry):
        check_unchanged(path, content, quick=is_current)
    if is_current:
        record.content = content
        record.notes.append(why)
    return is_current


def _makers(recorded: object, preset: Preset) -> list[dict[str, Any]]:
    """Models that may have made an output in place of `preset`: what is recorded, or else all whose hash is known.

    One for damaged pictures does not stand for one for clean ones.
    """
    known = _presets(*preset_folders())
    if isinstance(recorded, dict) and isinstance(recorded.get("sha256"), str):
        found = [
            {
                "name": str(recorded.get("name")),
                "sha256": recorded["sha256"],
                "license": recorded.get("license"),
            }
        ]
    else:
        hashed = [(p, p.weights.sha256) for p in known if p.weights.sha256]
        found = [{"name": p.name, "sha256": sha, "license": p.weights.license} for p, sha in hashed]
    repairs = {p.name for p in known if p.training.degradation is not None}
    wanted = preset.training.degradation is not None
    return [m for m in found if (SUCCESSORS.get(m["name"], m["name"]) in repairs) == wanted]


@cache
def _presets(*_folders: Path) -> list[Preset]:
    return list_presets()  # once, however many pictures there are
