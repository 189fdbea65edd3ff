"""`srcli upscale`: pictures of any kind to any size. What was typed becomes settings, and the batch follows them."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import typer

from srcli.batch.inputs import STDIN, find_inputs, is_uri, stand_in, without_file_scheme
from srcli.batch.loading import Model, check_engine, first_device, memory_plan, pool_of, seconds_needed
from srcli.batch.naming import Destination, destination, for_samples, output_format
from srcli.cli.command import single
from srcli.cli.console import Console
from srcli.cli.options import current, go_offline, licensed, parse_sampling, sampling_branch, settings
from srcli.cli.upscale_options import BARE, BASIC, GONE, MOVED, Request
from srcli.config.presets import DEFAULT_PRESET, REAL_WORLD_PRESET, Preset, successor
from srcli.config.sampling import is_sampled, usual_colour_fix
from srcli.config.temperature import Asked, check_generative, is_generative, parse_temperature, warning
from srcli.errors import NothingToDoError, UsageError
from srcli.image.formats import FORMATS
from srcli.resources import duration

if TYPE_CHECKING:
    from srcli.batch.degradation import RealWorld
    from srcli.batch.inputs import Found, Source
    from srcli.batch.job import Settings
    from srcli.batch.manifest import Manifest, Shard
    from srcli.batch.render import Engine
    from srcli.batch.sizes import SizeRule
    from srcli.engine.temperature_map import TemperatureMap
    from srcli.image.colour_transfer import TransferMethod

SEEDS = 1 << 64
MEASURED = ("auto", "auto:each")
FASTER = "real-fast"  # for damaged pictures, too


def upscale(request: Request) -> None:
    """Enlarge pictures by any factor, or to any size.

    srcli upscale photo.png --scale 4.3

    srcli upscale shots/ -r -o big/ --max-side 8000 --format tiff

    An option can also be a variable, such as SRCLI_UPSCALE_SCALE=4.3. Exit codes: 0 done, 1 a picture failed, 2 wrong
    usage, 3 no input, 4 no weights, 5 no room, 6 the output exists.
    """
    from srcli.batch.session import Batch, Results

    if request.offline:
        go_offline()
    console = Console(quiet=request.quiet is True, verbose=request.quiet is False, style=request.progress)
    rule = _rule(request, console)
    model = _model(request, console)
    temperature, noise_map = _temperature(request, model.preset, console)
    if request.preview is not None:
        from srcli.cli.preview import show_part

        return show_part(request, rule, console)
    engine, workers = request.worker_count
    found = _found(request, console)
    place = _place(request, found, engine)
    if request.selection_map is not None:
        _check_selection(request.selection_map, model, len(found.sources) * request.samples)
    share, record = _record(request)
    real_world = _real_world(request, model, found, console)
    faithful = _faithful(request, model)
    settings = replace(
        _settings(request, rule, model, place, record),
        temperature=temperature,
        temperature_map=noise_map,
        real_world=real_world,
        faithful=faithful,
        notice=request.degradation is None and faithful is None,
    )
    results = Results(
        console,
        "lines" if request.json is None else "json" if request.json else "jsonl",
        many=found.many or request.samples > 1,
        to_stderr=place.stdout,
    )
    batch = Batch(
        settings,
        place,
        console,
        results,
        load=lambda: loaded(model, first_device(request.device), console, found.sources),
        dry_run=request.dry_run,
        fail_fast=request.fail_fast,
        shard=share,
        pool=pool_of(engine, request.device, workers),
        include_outputs="none" in (request.exclude or ()),
    )
    if request.status:
        raise typer.Exit(batch.status(found))
    _say_beforehand(request, settings, found, console)
    raise typer.Exit(batch.run(found))


def loaded(model: Model, device: str, console: Console, sources: Sequence[Source]) -> Engine:
    """The network for this process; notes how long a slow one takes for `sources`, and with --verbose where it runs."""
    upscaler = model.load(device)
    where = f"{upscaler.device} ({upscaler.device_reason}) in {upscaler.precision}"
    console.detail(f"{upscaler.preset.title} on {where}")
    name = upscaler.preset.name
    if name == REAL_WORLD_PRESET and (seconds := seconds_needed(upscaler, sources)) is not None:
        console.note(f"{name}: about {duration(seconds)} here; faster, and plainer: -m {FASTER}")
    return upscaler


def _rule(request: Request, console: Console) -> SizeRule:
    from srcli.batch.sizes import size_rule

    scale = request.scale
    if scale is not None and re.fullmatch(r"\d+,\d+[x×%]?", scale):
        scale = scale.replace(",", ".")
        console.note(f"--scale {request.scale} is taken as {scale}")
    return size_rule(
        scale=scale,
        width=request.width,
        height=request.height,
        max_side=request.max_side,
        short_side=request.short_side,
        megapixels=request.megapixels,
        paper=request.print_,
        fit=request.fit,
        only_enlarge=request.only_enlarge is True,
        only_shrink=request.only_enlarge is False,
    )


def _model(request: Request, console: Console) -> Model:
    if request.upgrade and request.overwrite is not None:
        raise UsageError("--upgrade contradicts --overwrite and --skip-existing.", hint="Give one of them.")
    preset = licensed(current(request.model or DEFAULT_PRESET, console.note), request.license)
    if request.degradation == "real" and preset.training.degradation is None:
        preset = licensed(REAL_WORLD_PRESET, request.license)
    sampling, branch = parse_sampling(preset, request.sampling), sampling_branch(request.sampling)
    if branch is not None:
        from srcli.engine.branch_map import parse_branch

        branch = parse_branch(preset, branch)
    return Model(
        preset,
        request.precision,
        request.tile,
        sampling,
        branch,
        limit=None if request.finishing.limit else False,
        needs_weights=not (request.dry_run and preset.kind == "restoration"),
    )


def _temperature(request: Request, preset: Preset, console: Console) -> tuple[Asked, TemperatureMap | None]:
    samples, given = request.samples, request.temperature or []
    texts = [text for text in given if not text.startswith("map=")]
    maps = [text.removeprefix("map=") for text in given if text.startswith("map=")]
    if samples < 1:
        raise UsageError(f"--samples takes a whole number from 1 on, got {samples}.")
    if given or (samples > 1 and not is_sampled(preset)):
        check_generative(preset, "--temperature" if given else "--samples")
    if not 0 <= request.seed <= SEEDS - samples:
        raise UsageError(f"--seed takes a whole number from 0 to 2^64 - 1, got {request.seed}.")
    asked: Asked = parse_temperature(texts[-1]) if texts else None
    if isinstance(asked, float) and (warned := warning([asked])) is not None:
        console.note(f"warning: {warned}")
    if not maps:
        return asked, None
    from srcli.engine.temperature_map import temperature_map

    return asked, temperature_map(maps[-1])


def _check_selection(path: Path, model: Model, pictures: int) -> None:
    from srcli.engine.branch_map import check_selects

    option, sampling = "--selection-map", model.sampling
    check_selects(model.preset, option)
    if model.branch is not None:
        raise UsageError(
            f"{option}: with --branch {model.branch} nothing is chosen.", hint="Drop one of them."
        )
    if sampling is not None and sampling.average > 1:
        raise UsageError(
            f"{option}: a mean of {sampling.average} samples has no one choice.",
            hint=f"Drop average, or {option}.",
        )
    if path.suffix not in ("", ".png"):
        raise UsageError(f"{option} writes .png files, not '{path.suffix}'.")
    if path.suffix and pictures > 1:
        raise UsageError(
            f"{option} {path} is one file for {pictures} pictures.",
            hint="Give a folder: a name without a dot.",
        )


def _faithful(request: Request, model: Model) -> Model | None:
    """The model whose picture may be mixed into a restoring one's; None where nothing is restored."""
    if model.preset.training.degradation is None and request.degradation not in MEASURED:
        if request.restore is None:
            return None
        what = f"--restore: '{model.preset.name}' restores nothing."
        raise UsageError(what, hint="Add --degradation real, or auto.")
    preset = licensed(request.model or DEFAULT_PRESET, request.license)
    if preset.training.degradation is not None:
        preset = licensed(DEFAULT_PRESET, request.license)
    return model.other(preset)


def _real_world(request: Request, model: Model, found: Found, console: Console) -> RealWorld | None:
    asked = f"--degradation {request.degradation}"
    if request.finishing.consistency and request.degradation not in (None, "clean"):
        raise UsageError(
            f"--finish consistency brings back the damage that {asked} is to remove.",
            hint="Drop one of them.",
        )
    if request.degradation not in MEASURED:
        return None
    if model.preset.training.degradation is not None:
        console.note(f"{asked}: {model.preset.name} was trained on damaged pictures, and takes all of them")
        return None
    if request.samples > 1 or request.temperature or request.selection_map is not None:
        raise UsageError(
            f"{asked} may choose {REAL_WORLD_PRESET}, which has no temperature and no samples.",
            hint="Drop --temperature and --samples, or --degradation.",
        )
    from srcli.batch.degradation import RealWorld, shared_folders

    preset = licensed(REAL_WORLD_PRESET, request.license)
    return RealWorld(
        model.other(preset), shared_folders(found.sources) if request.degradation == "auto" else {}
    )


def _settings(
    request: Request, rule: SizeRule, model: Model, place: Destination, record: Manifest | None
) -> Settings:
    from srcli.batch.job import Settings
    from srcli.batch.sizes import parse_pixels

    limits: dict[str, Any] = {
        f"max_{key}put_pixels": parse_pixels(text, f"--max-pixels {key}")
        for key, text in settings("--max-pixels", request.max_pixels, ("in", "out")).items()
    }
    encoded, marked = request.encoding
    finish = request.finishing
    colours = finish.colour or usual_colour_fix(model.preset)
    is_planned = request.dry_run and model.preset.kind == "restoration"
    is_named = request.model is not None and successor(request.model) is None
    return Settings(
        rule,
        model,
        format=output_format(request.format, place),
        encoding=encoded,
        alpha=request.alpha,
        frames=request.frames,
        seed=request.seed,
        samples=request.samples,
        consistency=finish.consistency,
        selection=request.selection_map,
        self_ensemble=finish.tta,
        colour_transfer=None if colours == "none" else cast("TransferMethod", colours),
        restore=request.restore,
        memory_plan=partial(memory_plan, model, first_device(request.device)) if is_planned else None,
        provenance=marked,
        exists="auto" if request.overwrite is None else "overwrite" if request.overwrite else "skip",
        any_weights=not (is_named or request.upgrade),
        manifest=record,
        **limits,
    )


def _record(request: Request) -> tuple[Shard | None, Manifest | None]:
    """The share of the files that is done here, and what is known of all."""
    if request.manifest is None and request.status:
        raise UsageError(
            "--status needs to know where the manifests are.", hint="Give --manifest FILE.jsonl."
        )
    if request.manifest is None and not request.shard:
        return None, None
    from srcli.batch.manifest import Manifest, manifest_paths, parse_shard

    share = parse_shard(request.shard, os.environ) if request.shard else None
    return share, None if request.manifest is None else Manifest(*manifest_paths(request.manifest, share))


def _found(request: Request, console: Console) -> Found:
    """The pictures that are named; with --json the error for none is JSON, too."""
    words, output = request.inputs or [], request.output
    try:
        return find_inputs(
            words,
            recursive=request.recursive,
            include=request.include or (),
            exclude=[pattern for pattern in request.exclude or () if pattern != "none"],
            leave_out=None
            if output is None
            else stand_in(output)
            if is_uri(output)
            else Path(without_file_scheme(output)),
            stdin=sys.stdin.buffer,
        )
    except NothingToDoError as error:
        if request.json is not None:
            from srcli.batch.job import Record
            from srcli.batch.session import as_json

            console.result(as_json(Record.failure(" ".join(words), error)), asked=True)
        raise


def _place(request: Request, found: Found, engine: str) -> Destination:
    place = destination(
        request.output,
        template=request.name,
        single=len(found.sources) == 1,
        from_stdin=STDIN in (request.inputs or ()),
        suffixes=[suffix for form in FORMATS.values() for suffix in form.suffixes],
    )
    if (
        request.samples == 1
        and place.template.has_index
        and not all(source.named for source in found.sources)
    ):
        raise UsageError(
            "--name with {index} gives other names when a file is added to a folder.",
            hint="Use {stem}, or give the files themselves, on the command line or in a list.",
        )
    check_engine(engine, found.sources, place, dry_run=request.dry_run)
    if place.stdout and not request.dry_run:  # it carries one thing: a picture, JSON, or lines
        if request.json is not None:
            raise UsageError("standard output cannot carry the picture and JSON.", hint="Give -o FILE.")
        if sys.stdout.isatty():
            raise UsageError("a terminal shows no picture.", hint="Redirect the output, or give -o FILE.")
    return for_samples(place, request.samples, named=request.name is not None)


def _say_beforehand(request: Request, settings: Settings, found: Found, console: Console) -> None:
    preset = settings.model.preset
    draws = preset.generator is not None or (is_generative(preset) and settings.temperature != 0)
    if settings.self_ensemble and draws:
        raise UsageError(
            "--finish tta takes the mean of eight results, which removes what noise adds.",
            hint="Use --temperature 0, or a model that draws none.",
        )
    if preset.training.experimental:
        console.note(
            f"'{preset.name}' is experimental: see its card, srcli models info {request.model or preset.name}"
        )
    for suffix, count in sorted(found.passed_over.items()):
        console.note(f"{count} {suffix} {'file is' if count == 1 else 'files are'} passed over")


app = single(upscale, Request, basic=BASIC, bare=BARE, moved=MOVED, gone=GONE)
