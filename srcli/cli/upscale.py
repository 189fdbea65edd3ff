"""`srcli upscale`: pictures of any kind to any size. A request becomes settings, and the batch follows them."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from srcli.batch.loading import Loading, WeightsHash, first_device, pool_of
from srcli.cli.console import Console
from srcli.cli.degradation import faithful_model, say_time, second_model
from srcli.cli.restoring import colour_fix, forecast_lines, is_restorer
from srcli.cli.sampling import selected
from srcli.cli.upscale_files import format_for, found_inputs, place_of, policy
from srcli.cli.upscale_model import Model, chosen, find_preset
from srcli.cli.upscale_request import Request
from srcli.config.presets import REAL_WORLD_PRESET
from srcli.config.temperature import is_generative
from srcli.errors import UsageError

if TYPE_CHECKING:
    from srcli.batch.degradation import RealWorld, SecondModel
    from srcli.batch.inputs import Found, Source
    from srcli.batch.job import SelectionFiles, Settings
    from srcli.batch.manifest import Entry, Manifest, Shard
    from srcli.batch.naming import Destination
    from srcli.batch.render import Engine
    from srcli.batch.sizes import SizeRule


def upscale(request: Request) -> None:
    """Enlarge pictures by any factor, or to any size.

    srcli upscale photo.png --scale 4.3

    srcli upscale shots/ -r -o big/ --max-side 8000 --format tiff

    Every option can also be set by a variable of the environment, such as SRCLI_UPSCALE_SCALE=4.3.

    Exit codes: 0 done, 1 a picture failed, 2 wrong usage, 3 no input, 4 no weights, 5 no room, 6 the output exists.
    """
    from srcli.batch.manifest import parse_shard

    if request.offline:
        os.environ["SRCLI_OFFLINE"] = os.environ["HF_HUB_OFFLINE"] = "1"
    console = Console(quiet=request.quiet, verbose=request.verbose, style=request.progress)
    rule = _rule(request)
    model = chosen(request, console)
    found = found_inputs(request, console)
    place = place_of(request, found)
    selection = selected(model.preset, request, model.branch, len(found.sources) * request.samples)
    share = None if request.shard is None else parse_shard(request.shard, os.environ)
    record = _manifest(request, share)
    real_world = _real_world(request, model, found, selection, console)
    faithful = _faithful(request, model)
    limit = False if request.no_limit else None
    loading = Loading(model.word, request.precision, request.tile, model.sampling, model.branch, limit)
    many = found.many or request.samples > 1
    from srcli.batch.session import Batch, Results

    batch = Batch(
        replace(
            _settings(request, rule, model, place, selection, record),
            real_world=real_world,
            faithful=faithful,
            restore=request.restore,
            notice=request.degradation is None and faithful is None,
        ),
        place,
        console,
        Results(
            console,
            "json" if request.json else "jsonl" if request.jsonl else "lines",
            many=many,
            apart=place.stdout,
        ),
        load=lambda: loaded(loading, first_device(request.device), console, found.sources),
        dry_run=request.dry_run,
        fail_fast=request.fail_fast,
        shard=share,
        manifest=record,
        pool=pool_of(request.engine, loading, request.device, request.workers),
        include_outputs=request.include_outputs,
    )
    if request.status:
        raise typer.Exit(batch.status(found))
    _say_beforehand(request, model, found, console)
    if code := batch.run(found):
        raise typer.Exit(code)


def loaded(loading: Loading, device: str, console: Console, sources: Sequence[Source]) -> Engine:
    """The network for this process, which is told with --verbose; how long a slow one takes is said for `sources`."""
    upscaler = loading(device)
    where = f"{upscaler.device} ({upscaler.device_reason}) in {upscaler.precision}"
    console.detail(f"{upscaler.preset.title} on {where}")
    if upscaler.preset.name == REAL_WORLD_PRESET:
        say_time(upscaler, sources, console)
    return upscaler


def _rule(request: Request) -> SizeRule:
    from srcli.batch.sizes import size_rule

    return size_rule(
        scale=request.scale,
        width=request.width,
        height=request.height,
        max_side=request.max_side,
        short_side=request.short_side,
        megapixels=request.megapixels,
        paper=request.print_,
        fit=request.fit,
        only_enlarge=request.only_enlarge,
        only_shrink=request.only_shrink,
    )


def _settings(
    request: Request,
    rule: SizeRule,
    model: Model,
    place: Destination,
    selection: SelectionFiles | None,
    record: Manifest | None,
) -> Settings:
    from srcli.batch.job import Settings
    from srcli.batch.sizes import parse_pixels

    preset, device = model.preset, first_device(request.device)
    return Settings(
        rule=rule,
        preset=preset,
        weights_sha256=WeightsHash(preset, needed=not (request.dry_run and is_restorer(preset))),
        format=format_for(request.format, place),
        encoding=_encoding(request),
        alpha=request.alpha,
        frames=request.frames,
        precision=request.precision,
        seed=request.seed,
        temperature=model.drawing.temperature,
        temperature_map=model.drawing.where,
        samples=request.samples,
        diversity=request.diversity,
        consistency=request.consistency,
        sampling=model.sampling,
        branch=model.branch,
        canvas_tile=request.tile,
        selection=selection,
        turned=request.tta,
        limit=not request.no_limit,
        colour_fix=colour_fix(preset, request.colour_fix, request.colour_strength),
        memory_plan=forecast_lines(preset, model.sampling, request.tile, device) if request.dry_run else None,
        provenance=not request.no_provenance,
        exists=policy(request),
        any_weights=not (model.named or request.upgrade),
        made=partial(_made_of, record),
        max_input_pixels=parse_pixels(request.max_input_pixels, "--max-input-pixels"),
        max_output_pixels=parse_pixels(request.max_output_pixels, "--max-output-pixels"),
    )


def _encoding(request: Request) -> dict[str, object]:
    """See `srcli.image.plan_output`."""
    return {
        "quality": request.quality,
        "max_bytes": None if request.max_bytes is None else _bytes(request.max_bytes),
        "lossless": request.lossless,
        "chroma": request.chroma,
        "compress_level": request.compress_level,
        "bit_depth": request.bit_depth,
        "dither": request.dither,
        "icc": request.icc,
        "metadata": request.metadata,
        "background": _colour(request.background),
    }


def _bytes(text: str) -> int:
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(kB|k|MB|M|KiB|MiB|B|)\s*", text)
    units = {"k": 1000, "kB": 1000, "M": 10**6, "MB": 10**6, "KiB": 1 << 10, "MiB": 1 << 20}
    size = 0 if found is None else int(float(found[1]) * units.get(found[2], 1))
    if size < 1:
        raise UsageError(f"--max-bytes '{text}' is no size.", hint="Write it such as 5MB, 800kB or 2MiB.")
    return size


def _colour(name: str) -> tuple[float, float, float]:
    from PIL import ImageColor

    try:
        red, green, blue = ImageColor.getrgb(name)[:3]
    except ValueError:
        raise UsageError(
            f"--background '{name}' is no colour.", hint="Write a name or #rrggbb, such as white or #1e90ff."
        ) from None
    return red / 255, green / 255, blue / 255


def _faithful(request: Request, model: Model) -> SecondModel | None:
    """The model that restores nothing, beside one that may."""
    preset = faithful_model(model.preset, request, find_preset(request))
    if preset is None:
        return None
    from srcli.batch.degradation import SecondModel

    limit = False if request.no_limit else None
    word = model.word if preset == model.preset else preset.name
    loading = Loading(word, request.precision, request.tile, limit=limit)
    return SecondModel(preset, WeightsHash(preset), loading)


def _real_world(
    request: Request, model: Model, found: Found, selection: SelectionFiles | None, console: Console
) -> RealWorld | None:
    """The model for damaged pictures, where pictures are measured."""
    given = (request.temperature, request.temperature_map, selection)
    drawn = request.samples > 1 or any(option is not None for option in given)
    preset = second_model(model.preset, request, find_preset(request), console, drawn=drawn)
    if preset is None:
        return None
    from srcli.batch.degradation import RealWorld

    limit = False if request.no_limit else None
    loading = Loading(preset.name, request.precision, request.tile, limit=limit)
    folders: dict[Path, list[Path]] = {}
    for source in found.sources if request.degradation == "auto" else ():
        if source.path is not None:
            folders.setdefault(source.path.parent, []).append(source.path)
    several = {folder: tuple(paths) for folder, paths in folders.items() if len(paths) > 1}
    return RealWorld(preset, WeightsHash(preset), loading, folders=several)


def _manifest(request: Request, share: Shard | None) -> Manifest | None:
    from srcli.batch.manifest import Manifest, manifest_paths

    if request.manifest is None:
        if request.status:
            raise UsageError(
                "--status needs to know where the manifests are.", hint="Give --manifest FILE.jsonl."
            )
        return None
    return Manifest(*manifest_paths(request.manifest, share))


def _made_of(manifest: Manifest | None, source: Source, output: Path) -> Entry | None:
    from srcli.batch.manifest import key_of

    return None if manifest is None else manifest.entry(key_of(source), output)


def _say_beforehand(request: Request, model: Model, found: Found, console: Console) -> None:
    """What people should know of the model and the inputs.

    Raises:
        UsageError: --tta with a model that draws noise.
    """
    preset, noise = model.preset, model.drawing
    if request.tta and (preset.generator is not None or (is_generative(preset) and noise.temperature != 0)):
        raise UsageError(
            "--tta takes the mean of eight results, which removes what noise adds.",
            hint="Use --temperature 0, or a model that draws none.",
        )
    if preset.training.experimental:
        console.note(f"'{preset.name}' is experimental: see its card, srcli models info {model.word}")
    if noise.warning is not None:
        console.note(f"warning: {noise.warning}")
    for suffix, count in sorted(found.passed_over.items()):
        console.note(f"{count} {suffix} {'file is' if count == 1 else 'files are'} passed over")
