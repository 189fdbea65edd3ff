"""`srcli eval`: how good models are, in numbers that name their protocol."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from srcli.cli.command import single
from srcli.cli.console import Console, table_width
from srcli.cli.evaluate_options import (
    BASIC,
    MOVED,
    Request,
    check_sampling,
    parse_steps,
    requested_branches,
    requested_sampling,
)
from srcli.cli.evaluation_output import (
    SUFFIXES,
    Chosen,
    benchmarks,
    evaluation_progress,
    finish,
    render,
    rows_text,
    use_backbone,
    write,
)
from srcli.cli.options import chosen_format, parse_scales, settings, words
from srcli.config.presets import DEFAULT_PRESET
from srcli.errors import ModelError, UsageError, suggest

if TYPE_CHECKING:
    from srcli.data.benchmarks import Benchmark
    from srcli.evaluate.models import Model
    from srcli.evaluate.published import References
    from srcli.evaluate.run import Evaluation
    from srcli.metrics import Metric
    from srcli.processes import Ranks

TESTS = ("bootstrap", "wilcoxon")


def evaluate(request: Request) -> None:
    """Measure models on benchmarks.

    An interrupted run continues where it stopped; under torchrun the pictures are shared among the processes.
    Exit code 1 if a picture failed, 7 if --fail-under does not hold.
    """
    if request.list_metrics or request.list_references:
        _print_references() if request.list_references else _print_metrics()
        return
    from srcli.evaluate.report import Options
    from srcli.processes import joined_ranks

    console = Console(quiet=request.quiet, style=request.progress)
    chosen: Chosen = "json" if request.json else chosen_format(request.format, request.output, SUFFIXES)
    if request.selection_stats and chosen in ("jsonl", "csv"):
        raise UsageError(
            f"--selection-stats: {chosen} has rows only.", hint="Use --format json, table, md or latex."
        )
    tests = _tests(request.stats)
    scales = parse_scales(request.scale)
    thresholds = _thresholds(request.fail_under or [])
    scored = request.pred is not None or request.ref is not None
    if scored and (request.bench or request.data or request.timing is not None or request.model):
        raise UsageError("--pred and --ref stand alone: no --bench, --data, --model or --timing.")
    if request.allow_missing and not scored:
        raise UsageError("--allow-missing goes with --pred and --ref.")
    use_backbone(request.lpips_backbone)
    wanted, absent, notes = _metrics(request.metrics, thresholds, scored=scored)
    opened: list[Model] = []
    with joined_ranks() as ranks:
        if ranks.rank > 0:
            console.style = "none"
        if scored:
            found = _score(request, scales, wanted, console)
        else:
            sets = [] if request.timing is not None else benchmarks(request.bench, request.data, request.lr)
            opened = _models(request)
            if request.timing is not None:
                _time(request, opened, scales, chosen, console)
                return
            found = _measured(request, opened, sets, scales, wanted, ranks, console)
        if ranks.rank > 0:
            raise typer.Exit(1 if found.failures else 0)
    found.notes += [*_limits(opened), *notes]
    found.absent = absent
    if found.rows or not found.failures:
        width = None if request.output else table_width()
        options = Options(
            None if request.reference is None else _references(request.reference, opened),
            "bootstrap" in tests,
            "wilcoxon" in tests,
            request.group_by == "family",
            request.per_image,
        )
        write(render(found, options, chosen, width), request.output, console)
    if code := finish(found, thresholds):
        raise typer.Exit(code)


# --- words to values ----------------------------------------------------------------------------------------------


def _temperatures(
    text: str, models: Sequence[Model], scales: Sequence[float], console: Console
) -> list[float]:
    """Those of --temperature; an empty list means each model's own."""
    from srcli.config.presets import list_presets
    from srcli.config.temperature import is_generative, parse_temperatures, warning

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
    for word in words(text):
        if word not in TESTS:
            raise UsageError(f"unknown test '{word}' in --stats.", hint=suggest(word, TESTS))
    return words(text)


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
) -> tuple[list[Metric], dict[str, str], list[str]]:
    """Metrics to measure, why some of those that were asked for cannot be, and notes on optional ones."""
    from srcli.metrics import DEFAULT, OPTIONAL, find_metrics

    notes: list[str] = []
    absent: dict[str, str] = {}
    if text is not None:
        chosen = find_metrics([*words(text), *thresholds])
        absent = {m.name: missing for m in chosen if (missing := m.missing(asked=True))}
        for name, missing in absent.items():
            if name in thresholds or len(absent) == len(chosen):
                raise ModelError(f"{name} cannot be measured: {missing}")
        chosen = [metric for metric in chosen if metric.name not in absent]
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
    return list(dict.fromkeys(chosen)), absent, notes


def _models(request: Request) -> list[Model]:
    from srcli.evaluate.models import distinct_names, open_model
    from srcli.geometry import COPIES, ROTATIONS

    finish = settings("--finish", request.finish, ("tta",), ("tta", "no-limit"))
    views = finish.get("tta")
    if views not in (None, "", "rotations:4"):
        raise UsageError(f"--finish tta is over all eight copies, or tta=rotations:4, not '{views}'.")
    opened = [
        open_model(
            name,
            device=request.device,
            precision=request.precision,
            tile=request.tile,
            tta=() if views is None else ROTATIONS if views else range(COPIES),
            sampling=partial(requested_sampling, request),
            branch=branch,
            selection=request.selection_stats,
            limit=False if "no-limit" in finish else None,
        )
        for name in dict.fromkeys(words(*(request.model or (DEFAULT_PRESET, "bicubic"))))
        for branch in requested_branches(request, name)
    ]
    check_sampling(request, opened)
    distinct_names(opened)
    return opened


def _limits(models: Sequence[Model]) -> list[str]:
    """Which models' results were kept within limits, in a line; none where no model has limits."""
    states = {"on": True, "off": False}
    names = {word: [m.name for m in models if m.limit is state] for word, state in states.items()}
    told = [f"{word} for {', '.join(which)}" for word, which in names.items() if which]
    return [f"limit {'; '.join(told)}"] if told else []


# --- tasks --------------------------------------------------------------------------------------------------------


def _measured(
    request: Request,
    models: list[Model],
    sets: list[Benchmark],
    scales: list[float],
    metrics: list[Metric],
    ranks: Ranks,
    console: Console,
) -> Evaluation:
    from srcli.evaluate.rows import RowCache
    from srcli.evaluate.run import evaluate as run

    temperatures = _temperatures(request.temperature, models, scales, console)
    with evaluation_progress(console) as report:
        return run(
            models,
            sets,
            scales,
            protocol=request.protocol,
            metrics=metrics,
            temperatures=temperatures,
            seeds=range(request.seeds),
            steps=parse_steps(request),
            limit=request.limit,
            cache=RowCache() if request.cache else None,
            save_images=request.save_images,
            ranks=ranks,
            report=report,
        )


def _score(request: Request, scales: list[float], metrics: list[Metric], console: Console) -> Evaluation:
    from srcli.evaluate.scoring import score_pictures
    from srcli.metrics import find_protocol

    if request.pred is None or request.ref is None:
        raise UsageError("--pred and --ref go together.")
    how = find_protocol(request.protocol or "rgb")
    if not request.scale and how.rgb_border is not None:
        raise UsageError(f"{how.name} leaves out a border that depends on the scale.", hint="Say it: -s 4")
    if request.scale and len(scales) > 1:
        raise UsageError("--pred has pictures of one scale; give a single -s.")
    with evaluation_progress(console) as report:
        return score_pictures(
            request.pred,
            request.ref,
            scales[0] if request.scale else None,
            protocol=how,
            metrics=metrics,
            limit=request.limit,
            allow_missing=request.allow_missing,
            report=report,
        )


def _time(
    request: Request, models: list[Model], scales: list[float], chosen: Chosen, console: Console
) -> None:
    from srcli.evaluate.cost import time_model, timing_table
    from srcli.geometry import Size

    sides = re.fullmatch(r"(\d+)[x×](\d+)", request.size.strip())
    if sides is None or not (int(sides[1]) and int(sides[2])):
        raise UsageError(f"--size takes WxH, such as 128x128, got '{request.size}'.")
    lr = Size(int(sides[2]), int(sides[1]))
    assert request.timing is not None
    timings = [time_model(model, lr, scale, request.timing) for model in models for scale in scales]
    width = None if request.output else table_width()
    text = rows_text([asdict(timing) for timing in timings], [timing_table(timings)], chosen, width)
    write(text, request.output, console)


def _references(reference: str, models: list[Model]) -> References:
    from srcli.evaluate.published import References, published, read_figures

    figures = published() if reference == "builtin" else read_figures(Path(reference))
    names = {model.name: model.published_as for model in models if model.published_as is not None}
    kinds = {model.name: model.published_kind for model in models if model.published_kind is not None}
    return References(figures, names, kinds)


def _print_metrics() -> None:
    from srcli.metrics import METRICS, PROTOCOLS

    lines = []
    for m in METRICS.with_plugins().values():
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

    from srcli.evaluate.published import published
    from srcli.evaluate.tables import columns_text

    counts = Counter(figure.source for figure in published())
    print(columns_text(["table", "figures"], [[name, str(n)] for name, n in counts.items()]), end="")


app = single(evaluate, Request, basic=BASIC, moved=MOVED)
