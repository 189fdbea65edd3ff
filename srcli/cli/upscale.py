"""`srcli upscale`: pictures of any kind to any size. Words become settings, and the batch follows them."""

from __future__ import annotations

import importlib.util
import os
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from srcli.cli import options
from srcli.cli.console import Console
from srcli.cli.degradation import chosen_model, second_model
from srcli.cli.drawing import drawing, for_samples
from srcli.cli.restoring import colour_fix as recolouring
from srcli.cli.restoring import faithful, forecast_lines, is_restorer
from srcli.cli.sampling import sampled, selected
from srcli.errors import ModelError, NothingToDoError, UsageError
from srcli.image.formats import FORMATS, find_format, format_of
from srcli.inputs import STDIN, find_inputs
from srcli.outputs import Destination, destination
from srcli.presets import DEFAULT_PRESET, Preset
from srcli.remote import EXTRA_HINT, is_uri, plain, stand_in
from srcli.sampling import Sampling
from srcli.temperature import is_generative
from srcli.weights.licenses import LICENSES
from srcli.weights.store import find, locate, resolve, sha256

if TYPE_CHECKING:
    from collections.abc import Callable

    from srcli.engine import Upscaler
    from srcli.inputs import Found, Source
    from srcli.job import Cluster, Crew, Engine
    from srcli.job.degradation import RealWorld
    from srcli.job.task import Exists
    from srcli.manifest import Manifest
    from srcli.shards import Shard


def upscale(
    inputs: options.Inputs = None,
    input_: options.MoreInputs = None,
    scale: options.Scale = None,
    width: options.Width = None,
    height: options.Height = None,
    max_side: options.MaxSide = None,
    short_side: options.ShortSide = None,
    megapixels: options.Megapixels = None,
    print_: options.Print = None,
    fit: options.Fit = None,
    only_enlarge: options.OnlyEnlarge = False,
    only_shrink: options.OnlyShrink = False,
    model: options.Model = DEFAULT_PRESET,
    degradation: options.Degradation = "clean",
    license: options.License = "any",  # noqa: A002 - the option's name
    output: options.Output = None,
    name: options.Name = None,
    format: options.Format = "auto",  # noqa: A002 - the option's name
    quality: options.Quality = 95,
    lossless: options.Lossless = False,
    chroma: options.Chroma = "444",
    compress_level: options.CompressLevel = 6,
    bit_depth: options.BitDepth = "keep",
    dither: options.Dither = False,
    icc: options.Icc = "keep",
    metadata: options.Metadata = "keep",
    no_provenance: options.NoProvenance = False,
    background: options.Background = "white",
    alpha: options.Alpha = "auto",
    frames: options.Frames = "error",
    from_file: options.FromFile = None,
    recursive: options.Recursive = False,
    include: options.Include = None,
    exclude: options.Exclude = None,
    exists: options.Exists = None,
    overwrite: options.Overwrite = False,
    skip_existing: options.SkipExisting = False,
    resume: options.Resume = False,
    fail_fast: options.FailFast = False,
    shard: options.Shard = None,
    manifest: options.ManifestFile = None,
    status: options.BatchStatus = False,
    workers: options.Workers = 1,
    engine: options.BatchEngine = "local",
    device: options.Devices = "auto",
    precision: options.Precision = "auto",
    tile: options.Tile = "auto",
    temperature: options.Temperature = None,
    temperature_map: options.TemperatureMap = None,
    seed: options.Seed = 0,
    samples: options.Samples = 1,
    diversity: options.Diversity = False,
    consistency: options.Consistency = False,
    tta: options.SelfEnsemble = False,
    sampler: options.Sampler = None,
    steps: options.Steps = None,
    eta: options.Eta = None,
    average: options.Average = 1,
    official: options.Official = False,
    branch: options.Branch = None,
    fidelity: options.Fidelity = None,
    colour_fix: options.ColourFix = None,
    colour_strength: options.ColourStrength = 1.0,
    selection_stats: options.SelectionStats = False,
    selection_map: options.SelectionMap = None,
    selection_overlay: options.SelectionOverlay = None,
    selection_scores: options.SelectionScores = None,
    offline: options.Offline = False,
    max_input_pixels: options.MaxInputPixels = "500M",
    max_output_pixels: options.MaxOutputPixels = "4G",
    dry_run: options.DryRun = False,
    json: options.Json = False,
    jsonl: options.Jsonl = False,
    progress: options.Progress = "auto",
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Enlarge pictures by any factor, or to any size.

    srcli upscale photo.png --scale 4.3

    srcli upscale shots/ -r -o big/ --max-side 8000 --format tiff

    Every option can also be set by a variable of the environment, such as SRCLI_UPSCALE_SCALE=4.3.

    Exit codes: 0 done, 1 a picture failed, 2 wrong usage, 3 no input, 4 no weights, 5 no room, 6 the output exists.
    """
    from srcli.cli.batch import Batch, Results, Style, as_json
    from srcli.cli.signals import ends_soon
    from srcli.job import Record, Settings
    from srcli.shards import parse_shard
    from srcli.sizes import parse_pixels, size_rule

    if offline:
        os.environ["SRCLI_OFFLINE"] = os.environ["HF_HUB_OFFLINE"] = "1"
    console = Console(quiet=quiet, verbose=verbose, style=progress)
    rule = size_rule(
        scale=scale,
        width=width,
        height=height,
        max_side=max_side,
        short_side=short_side,
        megapixels=megapixels,
        paper=print_,
        fit=fit,
        only_enlarge=only_enlarge,
        only_shrink=only_shrink,
    )
    find_preset = partial(_preset, license_=license)
    model, preset = chosen_model(degradation, model, find_preset(model), find_preset)
    noise = drawing(preset, temperature, temperature_map, seed, samples, diversity=diversity)
    sampling, chosen_branch = sampled(
        preset, sampler=sampler, steps=steps, eta=eta, average=average, official=official, branch=branch
    )
    sampling = faithful(preset, sampling, fidelity)
    words = [*(inputs or ()), *(input_ or ())]
    try:
        found = find_inputs(
            words,
            lists=from_file or (),
            recursive=recursive,
            include=include or (),
            exclude=exclude or (),
            leave_out=None if output is None else stand_in(output) if is_uri(output) else Path(plain(output)),
            stdin=sys.stdin.buffer,
        )
    except NothingToDoError as error:
        if json or jsonl:
            console.result(as_json(Record.failure(" ".join(words), error)), asked=True)
        raise
    place = destination(
        output,
        template=name,
        single=len(found.sources) == 1,
        from_stdin=STDIN in words,
        suffixes=[suffix for form in FORMATS.values() for suffix in form.suffixes],
    )
    _check_engine(engine, found, place, dry_run=dry_run)
    _check_streams(place, json=json, jsonl=jsonl, dry_run=dry_run)
    place = for_samples(place, samples, named=name is not None)
    selection = selected(
        preset,
        stats=selection_stats,
        map_=selection_map,
        overlay=selection_overlay,
        scores=selection_scores,
        branch=chosen_branch,
        average=average,
        pictures=len(found.sources) * samples,
    )
    share = None if shard is None else parse_shard(shard, os.environ)
    record = _manifest(manifest, share, status=status)
    other = second_model(
        degradation,
        preset,
        find_preset,
        console,
        drawn=samples > 1 or temperature is not None or temperature_map is not None or selection is not None,
        consistency=consistency,
    )
    settings = Settings(
        rule=rule,
        preset=preset,
        weights_sha256=WeightsHash(preset, needed=not (dry_run and is_restorer(preset))),
        format=_format(format, place),
        encoding={
            "quality": quality,
            "lossless": lossless,
            "chroma": chroma,
            "compress_level": compress_level,
            "bit_depth": bit_depth,
            "dither": dither,
            "icc": icc,
            "metadata": metadata,
            "background": _colour(background),
        },
        alpha=alpha,
        frames=frames,
        precision=precision,
        seed=seed,
        temperature=noise.temperature,
        temperature_map=noise.where,
        samples=samples,
        diversity=diversity,
        consistency=consistency,
        sampling=sampling,
        branch=chosen_branch,
        canvas_tile=tile,
        selection=selection,
        turned=tta,
        colour_fix=recolouring(preset, colour_fix, colour_strength),
        forecast=forecast_lines(preset, sampling, tile, _first(device)) if dry_run else None,
        provenance=not no_provenance,
        real_world=None if other is None else _real_world(other, precision, tile),
        exists=_policy(exists, overwrite=overwrite, skip=skip_existing, resume=resume),
        made=_made(record),
        max_input_pixels=parse_pixels(max_input_pixels, "--max-input-pixels"),
        max_output_pixels=parse_pixels(max_output_pixels, "--max-output-pixels"),
    )
    loading = Loading(model, precision, tile, sampling, chosen_branch)
    style: Style = "json" if json else "jsonl" if jsonl else "lines"
    batch = Batch(
        settings,
        place,
        console,
        Results(console, style, many=found.many or samples > 1, apart=place.stdout),
        load=lambda: _load(loading, _first(device), console),
        dry_run=dry_run,
        fail_fast=fail_fast,
        shard=share,
        manifest=record,
        crew=_cluster(loading, device, workers) if engine == "ray" else _crew(loading, device, workers),
    )
    if status:
        raise typer.Exit(batch.status(found))
    if tta and (preset.generator is not None or (is_generative(preset) and settings.temperature != 0)):
        raise UsageError(
            "--tta takes the mean of eight results, which removes what noise adds.",
            hint="Use --temperature 0, or a model that draws none.",
        )
    if preset.training.experimental:
        console.note(f"'{preset.name}' is experimental: see its card, srcli models info {preset.name}")
    if noise.warning is not None:
        console.note(f"warning: {noise.warning}")
    for suffix, count in sorted(found.passed_over.items()):
        console.note(f"{count} {suffix} {'file is' if count == 1 else 'files are'} passed over")
    with ends_soon():
        code = batch.run(found)
    if code:
        raise typer.Exit(code)


def _manifest(place: Path | None, shard: Shard | None, *, status: bool) -> Manifest | None:
    from srcli.manifest import Manifest, manifest_paths

    if place is None:
        if status:
            raise UsageError(
                "--status needs to know where the manifests are.", hint="Give --manifest FILE.jsonl."
            )
        return None
    return Manifest(*manifest_paths(place, shard))


def _made(manifest: Manifest | None) -> Callable[[Source, Path], str | None]:
    return partial(_made_of, manifest)


def _made_of(manifest: Manifest | None, source: Source, output: Path) -> str | None:
    from srcli.shards import key_of

    return None if manifest is None else manifest.fingerprint(key_of(source), output)


@dataclass
class WeightsHash:
    """The hash of a preset's weights, found when it is asked for; can be sent to another process."""

    preset: Preset
    found: str | None = None
    needed: bool = True

    def __call__(self) -> str:
        """The SHA-256 in hexadecimal digits; "" for weights that are neither here nor needed."""
        if not self.needed and locate(self.preset) is None:
            return ""
        self.found = self.found or sha256(find(self.preset))
        return self.found


def _real_world(preset: Preset, precision: str, tile: str) -> RealWorld:
    from srcli.job.degradation import RealWorld

    return RealWorld(preset, WeightsHash(preset), Loading(preset.name, precision, tile))


def _crew(loading: Loading, device: str, workers: int) -> Crew | None:
    """The processes that `--device` and `--workers` ask for; None for this one alone."""
    from srcli.job import Crew

    devices = [word for word in device.split(",") if word]
    if device == "all":
        from srcli.engine.device import all_devices

        devices = all_devices()
    devices = devices * workers
    if len(devices) < 2:
        return None
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = max(1, cores // len(devices))
    return Crew(tuple(devices), loading, threads)


def _cluster(loading: Loading, device: str, workers: int) -> Cluster:
    from srcli.job import Cluster

    return Cluster(device, workers, loading)


def _first(device: str) -> str:
    """The device for a lone picture, of those that were named."""
    return "auto" if device == "all" else device.split(",")[0]


@dataclass(frozen=True)
class Loading:
    """How a model is loaded; can be sent to another process."""

    model: str
    precision: str
    tile: str
    sampling: Sampling | None = None
    branch: str | None = None

    def __call__(self, device: str) -> Upscaler:
        """The network on a device."""
        from srcli.engine import open_engine

        return open_engine(
            self.model,
            device=device,
            precision=self.precision,
            tile=self.tile,
            sampling=self.sampling,
            branch=self.branch,
        )


def _load(loading: Loading, device: str, console: Console) -> Engine:
    upscaler = loading(device)
    where = f"{upscaler.device} ({upscaler.device_reason}) in {upscaler.precision}"
    console.detail(f"{upscaler.preset.title} on {where}")
    return upscaler


def _preset(model: str, license_: str) -> Preset:
    preset = resolve(model)
    if license_ == "commercial" and not LICENSES.get(preset.weights.license, False):
        raise ModelError(
            f"the weights of '{preset.name}' have the licence '{preset.weights.license}', "
            "which is not known to allow commercial use.",
            hint="See: srcli models list --license commercial",
        )
    return preset


def _format(asked: str, place: Destination) -> str | None:
    """The format to write; None is the input's.

    Raises:
        UsageError: the option and the output's suffix contradict each other.
    """
    chosen = None if asked == "auto" else find_format(asked).name
    path = place.file or Path("name" + (place.template.suffix or ""))
    named = format_of(path)
    if chosen is not None and named is not None and named.name != chosen:
        raise UsageError(
            f"--format {asked} and the output's suffix {path.suffix} disagree.", hint="Drop one."
        )
    return chosen or (None if named is None else named.name)


def _colour(name: str) -> tuple[float, float, float]:
    from PIL import ImageColor

    try:
        red, green, blue = ImageColor.getrgb(name)[:3]
    except ValueError:
        raise UsageError(
            f"--background '{name}' is no colour.", hint="Write a name or #rrggbb, such as white or #1e90ff."
        ) from None
    return red / 255, green / 255, blue / 255


def _policy(asked: Exists | None, *, overwrite: bool, skip: bool, resume: bool) -> Exists:
    short: dict[Exists, bool] = {"overwrite": overwrite, "skip": skip, "auto": resume}
    chosen = {policy for policy, given in short.items() if given} | ({asked} if asked else set())
    if len(chosen) > 1:
        raise UsageError(
            "--exists, --overwrite, --skip-existing and --resume contradict each other.", hint="Give one."
        )
    return chosen.pop() if chosen else "auto"


def _check_engine(engine: str, found: Found, place: Destination, *, dry_run: bool) -> None:
    """Object storage is for Ray, standard streams are for this process.

    Raises:
        UsageError: it is the other way round, or Ray is not installed.
    """
    stored = [source.label for source in found.sources if source.uri]
    stored += [f"{place.scheme}://"] if place.scheme else []
    if engine == "local":
        if stored:
            raise UsageError(f"{stored[0]} is in object storage.", hint="Give --engine ray.")
        return
    if importlib.util.find_spec("ray") is None:
        raise UsageError("--engine ray needs Ray.", hint=EXTRA_HINT)
    if place.stdout or any(source.path is None for source in found.sources):
        raise UsageError("--engine ray takes no picture from standard input or to standard output.")
    if stored and dry_run:
        raise UsageError("--dry-run does not look into object storage.")


def _check_streams(place: Destination, *, json: bool, jsonl: bool, dry_run: bool) -> None:
    """Standard output carries one thing: a picture, JSON, or lines.

    Raises:
        UsageError: two of them, or a picture for a terminal.
    """
    if json and jsonl:
        raise UsageError("--json and --jsonl exclude each other.", hint="Give one of them.")
    if not place.stdout or dry_run:
        return
    if json or jsonl:
        raise UsageError("standard output cannot carry the picture and JSON.", hint="Give -o FILE.")
    if sys.stdout.isatty():
        raise UsageError("a terminal shows no picture.", hint="Redirect the output, or give -o FILE.")
