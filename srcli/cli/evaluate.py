"""`srcli eval`: how good models are, in numbers that name their protocol."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import asdict
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from srcli.cli import evaluate_options as own
from srcli.cli import options
from srcli.cli.console import Console, print_error
from srcli.cli.evaluate_sampling import SamplingWords
from srcli.cli.evaluation_output import (
    Chosen,
    Progress,
    chosen_format,
    finish,
    render,
    render_table,
    write,
)
from srcli.errors import ModelError, SrcliError, UsageError, suggest
from srcli.presets import DEFAULT_PRESET

if TYPE_CHECKING:
    from srcli.data.benchmarks import Benchmark
    from srcli.evaluate import Evaluation, Model
    from srcli.evaluate.reference import References
    from srcli.evaluate.tables import Options
    from srcli.metrics import Metric

TESTS = ("bootstrap", "wilcoxon")


def evaluate(
    bench: own.Bench = None,
    data: own.Data = None,
    lr: own.LR = None,
    pred: own.Pred = None,
    ref: own.Ref = None,
    model: own.Models = None,
    scale: own.Scales = None,
    limit: own.Limit = None,
    protocol: own.ProtocolName = None,
    metrics: own.Metrics = None,
    list_metrics: own.ListMetrics = False,
    temperature: own.Temperatures = "",
    seeds: own.Seeds = 1,
    steps: own.Steps = "",
    sampler: own.Sampler = None,
    eta: own.Eta = None,
    average: own.Average = 1,
    official: own.Official = False,
    branch: own.Branches = "",
    selection_stats: own.SelectionStats = False,
    tta: own.Tta = False,
    stats: own.Stats = "",
    reference: own.Reference = None,
    list_references: own.ListReferences = False,
    group_by: own.GroupBy = None,
    fail_under: own.FailUnder = None,
    timing: own.Timing = None,
    size: own.TimingSize = "128x128",
    output: own.OutputFile = None,
    format: own.Format = "auto",  # noqa: A002 - the option's name
    json: own.Json = False,
    per_image: own.PerImage = False,
    save_images: own.SaveImages = None,
    cache: own.Cache = True,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    tile: options.Tile = "auto",
    quiet: options.Quiet = False,
) -> None:
    """Measure models on benchmarks.

    An interrupted run continues where it stopped; under torchrun the pictures are shared among the processes.
    Exit code 1 if a picture failed, 7 if --fail-under does not hold.
    """
    if list_metrics or list_references:
        _print_references() if list_references else _print_metrics()
        return
    from srcli.cli.signals import ends_soon
    from srcli.evaluate import joined_ranks
    from srcli.sizes import DEFAULT_SCALE, parse_scale

    console = Console(quiet=quiet)
    chosen: Chosen = "json" if json else chosen_format(format, output)
    tests = _tests(stats)
    scales = [parse_scale(word) for word in _words(scale or f"{DEFAULT_SCALE:g}")]
    thresholds = _thresholds(fail_under or [])
    scored = pred is not None or ref is not None
    if scored and (bench or data or timing is not None or model):
        raise UsageError("--pred and --ref stand alone: no --bench, --data, --model or --timing.")
    wanted, notes = _metrics(metrics, thresholds, scored=scored)
    opened: list[Model] = []
    with ends_soon(), joined_ranks() as ranks:
        progress = Progress(quiet=quiet or ranks.rank > 0)
        if scored:
            found = _score(pred, ref, scales if scale else None, protocol, wanted, limit, progress)
        else:
            sets = [] if timing is not None else _benchmarks(bench, data, lr)
            words = SamplingWords(sampler, eta, average, official, steps, branch, selection_stats)
            opened = _models(model, words, device=device, precision=precision, tile=tile, tta=tta)
            if timing is not None:
                _time(opened, size, scales, timing, chosen, output, console)
                return
            from srcli.evaluate import RowCache
            from srcli.evaluate import evaluate as run

            found = run(
                opened,
                sets,
                scales,
                protocol=protocol,
                metrics=wanted,
                temperatures=_temperatures(temperature, opened, scales, console),
                seeds=range(seeds),
                steps=words.steps,
                limit=limit,
                cache=RowCache() if cache else None,
                save_images=save_images,
                ranks=ranks,
                report=progress,
            )
        if ranks.rank > 0:
            raise typer.Exit(1 if found.failures else 0)
    found.notes += notes
    shown = _shown(reference, opened, tests, families=group_by == "family", per_image=per_image)
    if found.rows or not found.failures:
        write(render(found, shown, chosen), output, console)
    if code := finish(found, thresholds):
        raise typer.Exit(code)


# --- words to values ----------------------------------------------------------------------------------------------


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _numbers(text: str, option: str) -> list[float]:
    try:
        return [float(word) for word in _words(text)]
    except ValueError:
        raise UsageError(f"{option} takes numbers, got '{text}'.") from None


def _temperatures(
    text: str, models: Sequence[Model], scales: Sequence[float], console: Console
) -> list[float]:
    """Those asked for; none means each model's own.

    Raises:
        UsageError: no list of temperatures, or no model that has one.
    """
    from srcli.presets import list_presets
    from srcli.temperature import is_generative, parse_temperatures, warning

    if not text:
        return []
    values = [] if text.strip().lower() == "auto" else parse_temperatures(text, "--temperature")
    if all(model.draws(scales[0], values, (0,), ())[0].temperature is None for model in models):
        names = ", ".join(preset.name for preset in list_presets() if is_generative(preset))
        raise UsageError(
            "--temperature: none of these models draws noise.", hint=f"Presets that do: {names}."
        )
    if (warned := warning(values)) is not None:
        console.note(f"warning: {warned}")
    return values


def _tests(text: str) -> list[str]:
    for word in _words(text):
        if word not in TESTS:
            raise UsageError(f"unknown test '{word}' in --stats.", hint=suggest(word, TESTS))
    return _words(text)


def _thresholds(pairs: Sequence[str]) -> dict[str, float]:
    from srcli.metrics import find_metrics

    found = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        try:
            limit = float(value)
        except ValueError:
            equals = ""
        if not equals:
            raise UsageError(f"--fail-under takes METRIC=VALUE, got '{pair}'.")
        found[find_metrics([name])[0].name] = limit
    return found


def _metrics(
    text: str | None, thresholds: dict[str, float], *, scored: bool
) -> tuple[list[Metric], list[str]]:
    """The metrics asked for or the default ones, and what there is to say about those left out."""
    from srcli.metrics import DEFAULT, OPTIONAL, find_metrics

    notes = []
    if text is not None:
        chosen = find_metrics([*_words(text), *thresholds])
        for metric in chosen:
            if missing := metric.missing(asked=True):
                raise ModelError(f"{metric.name} cannot be measured: {missing}")
    else:
        chosen = [m for m in find_metrics([*DEFAULT, *thresholds]) if not (scored and "lr" in m.needs)]
        for metric in find_metrics(OPTIONAL):
            missing = metric.missing()
            chosen += [] if missing else [metric]
            notes += [f"{metric.name} is left out: {missing}"] if missing else []
    for metric in chosen:
        if scored and metric.needs - {"hr", "set"}:
            raise UsageError(
                f"{metric.name} cannot be measured with --pred: there is only one result and no LR."
            )
    return list(dict.fromkeys(chosen)), notes


def _benchmarks(bench: Sequence[str] | None, data: Path | None, lr: Path | None) -> list[Benchmark]:
    from srcli.data.benchmarks import MissingBenchmarkError, open_benchmarks, open_folder

    names = [name for words in bench or () for name in _words(words)]
    if names and lr is not None:
        raise UsageError("--lr goes with --data and without --bench.")
    if not names:
        if data is None:
            raise UsageError(
                "Nothing to evaluate on.", hint="Name benchmarks (--bench Set5) or a folder (--data DIR)."
            )
        return [open_folder(data, lr)]
    try:
        return open_benchmarks(names, data)
    except MissingBenchmarkError as error:  # where it was looked for, and where to get it, in a line each
        print_error(SrcliError(error.message))
        if error.hint:
            print(error.hint, file=sys.stderr)
        raise typer.Exit(error.code) from error


def _models(
    names: Sequence[str] | None,
    sampling: SamplingWords,
    *,
    device: str,
    precision: str,
    tile: str,
    tta: bool,
) -> list[Model]:
    from srcli.evaluate import distinct_names, open_model

    chosen = [name for words in names or (DEFAULT_PRESET, "bicubic") for name in _words(words)]
    opened = [
        open_model(
            name,
            device=device,
            precision=precision,
            tile=tile,
            tta=tta,
            sampling=sampling.of,
            branch=branch,
            selection=sampling.selection,
        )
        for name in dict.fromkeys(chosen)
        for branch in sampling.branches_of(name)
    ]
    sampling.check(opened, tta=tta)
    distinct_names(opened)
    return opened


# --- tasks --------------------------------------------------------------------------------------------------------


def _score(
    pred: Path | None,
    ref: Path | None,
    scales: list[float] | None,
    protocol: str | None,
    metrics: list[Metric],
    limit: int | None,
    progress: Progress,
) -> Evaluation:
    from srcli.evaluate import score_pictures
    from srcli.metrics import find_protocol

    if pred is None or ref is None:
        raise UsageError("--pred and --ref go together.")
    how = find_protocol(protocol or "rgb")
    if scales is None and how.rgb_border is not None:
        raise UsageError(f"{how.name} leaves out a border that depends on the scale.", hint="Say it: -s 4")
    if scales is not None and len(scales) > 1:
        raise UsageError("--pred has pictures of one scale; give a single -s.")
    return score_pictures(
        pred, ref, scales[0] if scales else None, protocol=how, metrics=metrics, limit=limit, report=progress
    )


def _time(
    models: list[Model],
    size: str,
    scales: list[float],
    repeats: int,
    chosen: Chosen,
    output: Path | None,
    console: Console,
) -> None:
    from srcli import report
    from srcli.evaluate.timing import time_model, timing_table
    from srcli.geometry import Size

    sides = re.fullmatch(r"(\d+)[x×](\d+)", size.strip())
    if sides is None or not (int(sides[1]) and int(sides[2])):
        raise UsageError(f"--size takes WxH, such as 128x128, got '{size}'.")
    lr = Size(int(sides[2]), int(sides[1]))
    timings = [time_model(model, lr, scale, repeats) for model in models for scale in scales]
    plain = [asdict(timing) for timing in timings]
    if chosen == "json":
        text = report.json_text(plain) + "\n"
    elif chosen == "jsonl":
        text = "".join(f"{dumps(line)}\n" for line in plain)
    elif chosen == "csv":
        text = report.csv_text(plain)
    else:
        text = render_table(timing_table(timings), chosen)
    write(text, output, console)


def _shown(
    reference: str | None, models: list[Model], tests: list[str], *, families: bool, per_image: bool
) -> Options:
    from srcli.evaluate.tables import Options

    return Options(
        None if reference is None else _references(reference, models),
        "bootstrap" in tests,
        "wilcoxon" in tests,
        families,
        per_image,
    )


def _references(reference: str, models: list[Model]) -> References:
    from srcli.evaluate.reference import References, published, read_figures

    figures = published() if reference == "builtin" else read_figures(Path(reference))
    names = {model.name: model.printed for model in models if model.printed is not None}
    return References(figures, names)


def _print_metrics() -> None:
    from srcli.metrics import METRICS, PROTOCOLS

    lines = []
    for m in METRICS.values():
        better = "higher" if m.higher_is_better else "lower"
        lines.append((m.name, m.unit or "-", better, m.about, m.missing() or ""))
    width = max(len(line[0]) for line in lines)
    for name, unit, better, about, missing in lines:
        print(f"{name:{width}}  {unit:6}  {better:6} is better  {about}{f' ({missing})' if missing else ''}")
    print()
    for protocol in PROTOCOLS.values():
        print(protocol.describe())


def _print_references() -> None:
    from collections import Counter

    from srcli.evaluate.reference import published
    from srcli.report import columns_text

    counts = Counter(figure.source for figure in published())
    print(columns_text(["table", "figures"], [[name, str(n)] for name, n in counts.items()]), end="")
