"""`srcli sweep-temperature`: the dial between faithful and detailed, measured, and a recommended value per scale."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from srcli.cli import evaluate_options as own
from srcli.cli import options
from srcli.cli.command import single
from srcli.cli.console import Console, table_width
from srcli.cli.evaluation_output import benchmarks, evaluation_progress, use_backbone
from srcli.errors import ModelError, UsageError
from srcli.files import write_atomically

if TYPE_CHECKING:
    from srcli.evaluate.models import Network
    from srcli.evaluate.sweep import Choice, Rule, Sweep
    from srcli.metrics import Metric


@dataclass(frozen=True)
class Request:
    """The options, in the order of their help."""

    bench: own.Bench = None
    data: own.Data = None
    model: str | None = own.what(
        "A preset with a temperature, or a weights file of one (default: the one that came with srcli).",
        "-m NAME|FILE",
    )
    scale: own.Scales = None
    limit: own.Limit = None
    temps: str = own.how(
        "Temperatures; more of them cost metrics, hardly any network.",
        "-T FIRST:LAST:STEP|T,..",
        default="0:1:0.05",
    )
    seeds: int = own.how("Results per picture and temperature.", min=1, default=3)
    metrics: own.Metrics = None
    lpips_backbone: own.LpipsBackbone = None
    protocol: own.ProtocolName = None
    select: str | None = own.how(
        "The best METRIC within limits; signed numbers count from temperature 0 (default: lpips@psnr>=-0.3dB).",
        "METRIC[@LIMIT]",
    )
    output: Path | None = own.show("Write sweep.csv, sweep.json, sweep.png and sweep.svg there.", "-o DIR")
    write_preset: Path | None = own.show(
        "Copy the preset there with the recommended temperatures, which 'upscale' then uses.", "FILE.toml"
    )
    json: options.Json = False
    cache: own.Cache = True
    device: options.Device = "auto"
    precision: options.Precision = "auto"
    tile: options.Tile = "auto"
    progress: options.Progress = "auto"
    quiet: options.Quiet = False


def sweep_temperature(request: Request) -> None:
    """Measure a model at many temperatures, and recommend one for each scale.

    srcli sweep-temperature --bench Set5 -s 4 -o sweep/

    An interrupted sweep continues where it stopped. Exit codes: 1 a picture failed, 2 wrong usage, 4 no data, weights
    or backbone, 5 no room.
    """
    from srcli.cli.evaluation_output import finish
    from srcli.config.temperature import parse_temperatures, warning
    from srcli.evaluate.rows import RowCache
    from srcli.evaluate.sweep import DEFAULT_RULE, parse_rule, sweep
    from srcli.processes import joined_ranks

    console, write_preset = Console(quiet=request.quiet, style=request.progress), request.write_preset
    values = parse_temperatures(request.temps)
    if (text := warning(values)) is not None:
        console.note(f"warning: {text}")
    if write_preset is not None and write_preset.suffix != ".toml":
        raise UsageError(f"--write-preset {write_preset} is no preset's file.", hint="Its name ends in .toml")
    use_backbone(request.lpips_backbone)
    rule = parse_rule(DEFAULT_RULE if request.select is None else request.select)
    wanted = _metrics(request, rule)
    scales = options.parse_scales(request.scale)
    sets = benchmarks(request.bench, request.data)
    network = _network(request)
    with joined_ranks() as ranks:
        if ranks.rank > 0:
            console.style = "none"
        with evaluation_progress(console, len(values) * request.seeds) as report:
            result = sweep(
                network,
                sets,
                scales,
                values,
                rule=rule,
                metrics=wanted,
                seeds=range(request.seeds),
                protocol=request.protocol,
                limit=request.limit,
                cache=RowCache() if request.cache else None,
                ranks=ranks,
                report=report,
            )
    if ranks.rank > 0:
        raise typer.Exit(1 if result.found.failures else 0)
    if result.found.cached:
        console.note(f"{result.found.cached} of {len(result.found.rows)} rows were measured before")
    if result.curves:
        _print(result, as_json=request.json)
        _write(result, request.output, console)
        if write_preset is not None:
            _write_preset(result, network, write_preset, console)
    if code := finish(result.found, {}):
        raise typer.Exit(code)


# --- words to values ----------------------------------------------------------------------------------------------


def _metrics(request: Request, rule: Rule) -> list[Metric]:
    """The metrics asked for, and those of the rule."""
    from srcli.metrics import DEFAULT, find_metrics

    text, named = request.metrics, rule.metrics
    names = [*DEFAULT, "niqe-srcli", "spectrum"] if text is None else options.words(text)
    needed = find_metrics([*names, *(m.name for m in named if request.select or request.write_preset)])
    for metric in needed:
        if missing := metric.missing(asked=True):
            raise ModelError(
                f"{metric.name} cannot be measured: {missing}", hint="Or choose by another: --select"
            )
    return find_metrics([*names, *(metric.name for metric in named)])


def _network(request: Request) -> Network:
    from srcli.config.temperature import check_generative
    from srcli.evaluate.models import Network
    from srcli.weights.files import resolve

    chosen = default_model() if request.model is None else request.model
    check_generative(resolve(chosen), "sweep-temperature")
    from srcli.engine.upscaler import Upscaler

    return Network(
        Upscaler.from_preset(chosen, device=request.device, precision=request.precision, tile=request.tile)
    )


def default_model() -> str:
    """The preset with a temperature whose weights came with the package.

    Raises UsageError (there is none; the hint lists presets with a temperature).
    """
    from srcli.config.presets import list_presets
    from srcli.config.temperature import is_generative
    from srcli.weights.files import is_bundled

    generative = [preset for preset in list_presets() if is_generative(preset)]
    for preset in generative:
        if is_bundled(preset):
            return preset.name
    names = ", ".join(preset.name for preset in generative)
    raise UsageError(
        "No model was named, and none with a temperature came with srcli.", hint=f"Give -m: {names}."
    )


# --- results ------------------------------------------------------------------------------------------------------


def _print(result: Sweep, *, as_json: bool) -> None:
    from srcli.evaluate.report import Options, tables
    from srcli.evaluate.rows import json_text
    from srcli.evaluate.sweep import document
    from srcli.evaluate.tables import table_text

    if as_json:
        print(json_text(document(result)), flush=True)
        return
    for table in tables(result.found, Options()):
        print(table_text(table, "table", table_width()))
    for choice in result.choices:
        print(recommendation(choice, result.rule), flush=True)


def recommendation(choice: Choice, rule: Rule) -> str:
    """A choice in one line: ``x4: temperature 0.45 by lpips@psnr>=-0.3dB (lpips 0.1423, 0.1802 at 0; ..)``."""
    if not choice.faithful:
        return f"x{choice.scale:g}: no temperature is recommended, since {rule.text} could not be measured"
    if choice.temperature is None:
        return f"x{choice.scale:g}: no temperature keeps to {rule.text}"
    shown = [
        f"{m.name} {choice.values[m.name]:.{m.decimals}f}, {choice.faithful[m.name]:.{m.decimals}f} at the lowest"
        for m in rule.metrics
    ]
    return f"x{choice.scale:g}: temperature {choice.temperature:g} by {rule.text} ({'; '.join(shown)})"


def _write(result: Sweep, output: Path | None, console: Console) -> None:
    if output is None:
        return
    from srcli.evaluate import rows as report
    from srcli.evaluate.plots import sweep_picture
    from srcli.evaluate.published import published
    from srcli.evaluate.sweep import csv_lines, document

    part = any(result.found.left_out(mean) for curve in result.curves for mean in curve.points)
    figures = [] if part else published()  # they are means over whole sets
    contents = {
        "sweep.csv": report.csv_text(csv_lines(result.found)).encode(),
        "sweep.json": (report.json_text(document(result)) + "\n").encode(),
        "sweep.png": sweep_picture(result, "png", figures=figures),
        "sweep.svg": sweep_picture(result, "svg", figures=figures),
    }
    for name, content in contents.items():
        write_atomically(output / name, content)
    console.note(f"wrote {', '.join(contents)} to {output}")


def _write_preset(result: Sweep, network: Network, path: Path, console: Console) -> None:
    from srcli.evaluate.sweep import with_temperatures

    missing = [choice for choice in result.choices if choice.temperature is None]
    if missing:
        raise UsageError(
            f"{path} is not written: {recommendation(missing[0], result.rule)}.", hint="Loosen --select."
        )
    preset = network.upscaler.preset
    write_atomically(path, with_temperatures(preset, path, result.recommended).encode())
    console.note(f"wrote {path}; use it: srcli upscale PHOTO -m {path}")


app = single(sweep_temperature, Request)
