"""sweep: one generative model at many temperatures, and the temperature that a rule recommends for each scale.

A flow that is affine in its noise gives colours mean + temperature * direction, so that the whole curve costs about
one render; see `srcli.evaluate.models.Network`. Every temperature sees the same seeds, which keeps curves smooth.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from srcli.config.presets import Preset
from srcli.data.benchmarks import Benchmark
from srcli.errors import UsageError
from srcli.evaluate import report as reports
from srcli.evaluate.models import Model
from srcli.evaluate.panels import panels, published_points
from srcli.evaluate.pareto import PERCEPTION, Axis, Panel, axis
from srcli.evaluate.published import Figure
from srcli.evaluate.rows import Mean, Row, RowCache, finite, grouped, means
from srcli.evaluate.run import Evaluation, Report, evaluate
from srcli.metrics import PROTOCOLS, Metric, Protocol, find_metrics
from srcli.processes import Ranks
from srcli.weights.files import bundled_folder, locate, models_folder

DEFAULT_RULE = "lpips@psnr>=-0.3dB"

_LIMIT = re.compile(r"([a-z][\w-]*)(>=|<=)([+-]?)(\d+\.?\d*|\.\d+)(?:db|levels)?")


@dataclass(frozen=True)
class Limit:
    """A bound on a metric: absolute, or relative to its value at temperature 0."""

    metric: Metric
    lowest: bool
    value: float
    relative: bool

    def holds(self, values: Mapping[str, float], faithful: Mapping[str, float]) -> bool:
        """Whether means by metric keep to the bound, given those at temperature 0."""
        name = self.metric.name
        bound = self.value + (faithful[name] if self.relative else 0.0)
        return values[name] >= bound if self.lowest else values[name] <= bound


@dataclass(frozen=True)
class Rule:
    """Which temperature is best: that with the best mean of `metric` among those within all limits."""

    text: str
    metric: Metric
    limits: tuple[Limit, ...]

    @property
    def metrics(self) -> list[Metric]:
        """The metrics it needs, each once."""
        return list(dict.fromkeys([self.metric, *(limit.metric for limit in self.limits)]))

    @property
    def is_relative(self) -> bool:
        """Whether it needs the mean at temperature 0."""
        return any(limit.relative for limit in self.limits)


def parse_rule(text: str) -> Rule:
    """A rule as typed: METRIC, or METRIC@LIMIT@.., such as ``lpips@psnr>=-0.3dB`` or ``niqe@psnr>=27@lr-psnr>=40``.

    A signed number counts from the value at temperature 0, one without a sign is the value itself. Raises UsageError
    (an unknown metric, or no rule).
    """
    first, *rest = "".join(text.lower().split()).split("@")
    limits = []
    for part in rest:
        match = _LIMIT.fullmatch(part)
        if match is None:
            raise UsageError(
                f"--select '{text}': '{part}' is no limit.", hint="Write lpips@psnr>=-0.3dB, say."
            )
        name, sign, way, number = match[1], match[2], match[3], float(match[4])
        value = -number if way == "-" else number
        limits.append(Limit(_metric(name), sign == ">=", value, relative=bool(way)))
    return Rule(text.strip(), _metric(first), tuple(limits))


def _metric(name: str) -> Metric:
    metric = find_metrics([name])[0]
    if "set" in metric.needs:
        raise UsageError(f"{metric.name} cannot choose a temperature: it has no value for single pictures.")
    return metric


@dataclass(frozen=True)
class Curve:
    """Means over the pictures of one benchmark at one scale, by rising temperature."""

    benchmark: str
    scale: float
    points: list[Mean]


@dataclass(frozen=True)
class Choice:
    """What a rule recommends at one scale, None where no temperature keeps to the limits.

    `values` are the rule's metrics there, mean over the benchmarks' means; `faithful` the same at the lowest
    temperature, empty where a metric of the rule was not measured.
    """

    scale: float
    temperature: float | None
    values: dict[str, float]
    faithful: dict[str, float]


@dataclass
class Sweep:
    """The result of a sweep: an evaluation with all rows, the curves, and a choice per scale."""

    found: Evaluation
    rule: Rule
    curves: list[Curve]
    choices: list[Choice]

    @property
    def recommended(self) -> dict[float, float]:
        """Temperature by scale, where there is one."""
        return {c.scale: c.temperature for c in self.choices if c.temperature is not None}

    def panels(self, figures: Iterable[Figure] = ()) -> list[Panel]:
        """One panel per benchmark and scale, with the published points of tables that print both of its metrics."""
        names = [metric.name for metric in self.found.metrics]
        chosen = self.rule.metric.name  # if it could not be measured, another metric takes the axis
        y = chosen if chosen in names else next((name for name in PERCEPTION if name in names), names[-1])
        found = []
        for curve in self.curves:
            rows = [r for r in self.found.rows if (r.benchmark, r.scale) == (curve.benchmark, curve.scale)]
            for panel in panels(rows, _fidelity(names, y, rows[0].protocol), axis(y)):
                panel.published.extend(published_points(panel, figures))
                found.append(panel)
        return found


def _fidelity(names: Sequence[str], y: str, protocol: str) -> Axis:
    """The metric that the protocol's tables print where it was measured, else another PSNR, else any other."""
    plain = protocol.partition("/")[0].partition("+")[0]
    headline = PROTOCOLS[plain].headline if plain in PROTOCOLS else "psnr"
    wanted = [headline, "psnr", "psnr-y", "ssim", "lr-psnr", *names]
    return axis(next((name for name in wanted if name in names and name != y), y))


def sweep(
    model: Model,
    benchmarks: Sequence[Benchmark],
    scales: Sequence[float],
    temperatures: Sequence[float],
    *,
    rule: Rule,
    metrics: Sequence[Metric | str] = (),
    seeds: Sequence[int] = (0, 1, 2),
    protocol: Protocol | str | None = None,
    limit: int | None = None,
    cache: RowCache | None = None,
    ranks: Ranks = Ranks(),  # noqa: B008 - an immutable value
    report: Report | None = None,
) -> Sweep:
    """Measure a model that draws noise at every temperature, and find the one that the rule recommends for each scale.

    It takes two `temperatures` or more, 0 among them if the rule has signed limits; each sees the same `seeds`. `metrics`
    are measured besides those of the rule, whose choice weighs all benchmarks equally. The other arguments are those of
    `evaluate`: with a `cache` an interrupted sweep continues. Raises UsageError (a model without a
    temperature, or too few temperatures), SrcliError (see `evaluate`).
    """
    values = sorted(set(temperatures))
    if len(values) < 2:
        raise UsageError("A sweep needs at least two temperatures.", hint="Give a range: --temps 0:1:0.05")
    if rule.is_relative and values[0] != 0:
        raise UsageError(
            f"the rule {rule.text} counts from temperature 0, which is not among those to measure.",
            hint="Begin with 0: --temps 0:1:0.05",
        )
    if model.draws(scales[0], values, seeds, ())[0].temperature is None:
        raise UsageError(f"{model.name} has no temperature, its results are always the same.")
    wanted = find_metrics(
        [*(m if isinstance(m, str) else m.name for m in metrics), *(m.name for m in rule.metrics)]
    )
    absent = {m.name: missing for m in wanted if (missing := m.missing(asked=True))}
    wanted = [metric for metric in wanted if metric.name not in absent]
    found = evaluate(
        [model],
        benchmarks,
        scales,
        protocol=protocol,
        metrics=wanted,
        temperatures=values,
        seeds=seeds,
        limit=limit,
        cache=cache,
        ranks=ranks,
        report=report,
    )
    found.absent = absent
    failed = {(f.benchmark, f.image, f.scale) for f in found.failures}
    # A picture that failed half-way would be missing at some temperatures only.
    found.rows = [row for row in found.rows if (row.benchmark, row.image, row.scale) not in failed]
    measured = curves(found.rows)
    at = dict.fromkeys(curve.scale for curve in measured)
    return Sweep(found, rule, measured, [choice(rule, measured, scale) for scale in at])


def curves(rows: Sequence[Row]) -> list[Curve]:
    """One curve per benchmark and scale, in order of first appearance."""
    groups = grouped(means(rows), lambda mean: (mean.row.benchmark, mean.row.scale))
    return [Curve(g[0].row.benchmark, g[0].row.scale, sorted(g, key=temperature_of)) for g in groups]


def temperature_of(mean: Mean) -> float:
    """The temperature of a mean; 0 for a deterministic model."""
    return mean.row.temperature or 0.0


def choice(rule: Rule, measured: Sequence[Curve], scale: float) -> Choice:
    """What the rule recommends at a scale; the lower of two temperatures that are equally good.

    Nothing where a metric of the rule was not measured.
    """
    at_scale = [curve for curve in measured if curve.scale == scale]
    if any(m.name not in at_scale[0].points[0].row.metrics for m in rule.metrics):
        return Choice(scale, None, {}, {})
    table: dict[float, dict[str, float]] = {}
    for temperature in map(temperature_of, at_scale[0].points):
        same = [p.row.metrics for c in at_scale for p in c.points if temperature_of(p) == temperature]
        table[temperature] = {m.name: fmean(values[m.name] for values in same) for m in rule.metrics}
    faithful = table[min(table)]
    allowed = [t for t, values in table.items() if all(li.holds(values, faithful) for li in rule.limits)]
    if not allowed:
        return Choice(scale, None, {}, faithful)
    sign = -1 if rule.metric.higher_is_better else 1
    best = min(allowed, key=lambda t: (sign * table[t][rule.metric.name], t))
    return Choice(scale, best, table[best], faithful)


# --- files --------------------------------------------------------------------------------------------------------


def csv_lines(found: Evaluation) -> list[dict[str, Any]]:
    """Lines of sweep.csv: preset, benchmark, image, scale, temperature, seed, then a column per metric."""
    names = ("benchmark", "image", "scale", "temperature", "seed", *(metric.name for metric in found.metrics))
    plain = [row.to_dict() for row in found.rows]
    return [{"preset": row["model"], **{key: row.get(key) for key in names}} for row in plain]


def document(result: Sweep) -> dict[str, Any]:
    """What sweep.json holds: an evaluation's document, the rule and its choices."""
    choices = [
        {
            "scale": c.scale,
            "temperature": c.temperature,
            "values": finite(c.values),
            "at_lowest": finite(c.faithful),
        }
        for c in result.choices
    ]
    evaluation = reports.document(result.found, reports.Options())
    return {"select": result.rule.text, "recommended": choices, **evaluation}


def with_temperatures(preset: Preset, target: Path, temperatures: Mapping[float, float]) -> str:
    """The text of a copy of the preset's file at `target`, comments included, with its temperatures by scale set.

    Scales that are not in `temperatures` keep what is recorded for them. The copy finds the same weights.
    """
    import tomlkit

    original = None if preset.folder is None else preset.folder / f"{preset.name}.toml"
    if original is None:
        plain = {key: value for key, value in preset.to_dict().items() if key != "name"}
        text = tomlkit.dumps(plain)
    else:
        text = original.read_text("utf-8")
    file: Any = tomlkit.parse(text)
    known = {float(k): float(v) for k, v in file.get("temperature", {}).get("scales", {}).items()}
    scales = tomlkit.inline_table()
    scales.update({f"{scale:g}": value for scale, value in sorted((known | dict(temperatures)).items())})
    file.setdefault("temperature", tomlkit.table())["scales"] = scales
    if original is None or original.absolute() != target.absolute():
        file.setdefault("weights", tomlkit.table())["file"] = _weights(preset, target)
    return tomlkit.dumps(file)


def _weights(preset: Preset, target: Path) -> str:
    """How `target` names the preset's weights: by name where every preset finds them, else by a relative path."""
    found = locate(preset)
    if found is None or found.parent in (bundled_folder(), models_folder()):
        return preset.weights_file
    return os.path.relpath(found.absolute(), target.absolute().parent)
