"""sweep: one generative model at many temperatures, and the temperature that a rule recommends for each scale.

A flow that is affine in its noise gives colours mean + temperature * direction, so that the whole curve costs about
one render; see `srcli.evaluate.models.Network`. Every temperature sees the same seeds, which keeps curves smooth.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from srcli.data.benchmarks import Benchmark
from srcli.errors import UsageError
from srcli.evaluate.cache import RowCache
from srcli.evaluate.models import Model
from srcli.evaluate.rows import Mean, Row, average, means
from srcli.evaluate.run import Evaluation, Report, evaluate
from srcli.metrics import Metric, Protocol, find_metrics
from srcli.processes import Ranks

TEMPERATURES = "0:1:0.05"
DEFAULT_RULE = "lpips@psnr>=-0.3dB"

_LIMIT = re.compile(r"([a-z][\w-]*)(>=|<=)([+-]?)(\d+\.?\d*|\.\d+)(?:db|levels)?")


@dataclass(frozen=True)
class Limit:
    """A bound on a metric: absolute, or relative to its value at temperature 0 where it was written with a sign."""

    metric: Metric
    lowest: bool
    value: float
    relative: bool

    def holds(self, value: float, faithful: float) -> bool:
        """Whether a mean keeps to it, given the mean at temperature 0."""
        bound = self.value + (faithful if self.relative else 0.0)
        return value >= bound if self.lowest else value <= bound


@dataclass(frozen=True)
class Rule:
    """Which temperature is best: that with the best mean of `metric` among those within all limits."""

    text: str
    metric: Metric
    limits: tuple[Limit, ...]

    @property
    def metrics(self) -> list[Metric]:
        """All that it looks at, each once."""
        return list(dict.fromkeys([self.metric, *(limit.metric for limit in self.limits)]))

    @property
    def is_relative(self) -> bool:
        """Whether it needs the mean at temperature 0."""
        return any(limit.relative for limit in self.limits)


def parse_rule(text: str) -> Rule:
    """A rule as typed: METRIC, or METRIC@LIMIT@.., such as ``lpips@psnr>=-0.3dB`` or ``niqe@psnr>=27@lr-psnr>=40``.

    A signed number counts from the value at temperature 0, one without a sign is the value itself.

    Raises:
        UsageError: an unknown metric, or no rule.
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
    """What a rule recommends at one scale.

    Attributes:
        scale: the scale.
        temperature: None where none keeps to the limits.
        values: the rule's metrics there, mean over the benchmarks' means.
        faithful: the same at the lowest temperature; empty where a metric of the rule was not measured.
    """

    scale: float
    temperature: float | None
    values: dict[str, float]
    faithful: dict[str, float]


@dataclass
class Sweep:
    """What came out: the rows with all that an evaluation says, the curves, and a choice per scale."""

    found: Evaluation
    rule: Rule
    curves: list[Curve]
    choices: list[Choice]

    @property
    def recommended(self) -> dict[float, float]:
        """Temperature by scale, where there is one."""
        return {c.scale: c.temperature for c in self.choices if c.temperature is not None}


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
    """Measure a model at every temperature, and find the one that the rule recommends for each scale.

    Args:
        model: one that draws noise.
        benchmarks: on what; each counts alike in the choice.
        scales: at which scales.
        temperatures: at least two; with 0 where the rule has signed limits.
        rule: chooses.
        metrics: measured besides those of the rule.
        seeds: the same at every temperature.
        protocol: how; by default each benchmark's own.
        limit: only so many pictures of each benchmark.
        cache: where rows are kept, so that an interrupted sweep continues.
        ranks: the processes that share the work.
        report: told about every row and failure.

    Raises:
        UsageError: a model without a temperature, or too few temperatures.
        SrcliError: see `evaluate`.
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
    drawn = curves(found.rows)
    return Sweep(found, rule, drawn, [choice(rule, drawn, scale) for scale in _scales(drawn)])


def curves(rows: Sequence[Row]) -> list[Curve]:
    """One curve per benchmark and scale, in order of first appearance."""
    groups: dict[tuple[str, float], list[Mean]] = {}
    for mean in means(rows):
        groups.setdefault((mean.row.benchmark, mean.row.scale), []).append(mean)
    return [Curve(*key, sorted(group, key=temperature_of)) for key, group in groups.items()]


def temperature_of(mean: Mean) -> float:
    """The temperature of a mean; 0 for a model that draws nothing."""
    return mean.row.temperature or 0.0


def _scales(drawn: Sequence[Curve]) -> list[float]:
    return list(dict.fromkeys(curve.scale for curve in drawn))


def choice(rule: Rule, drawn: Sequence[Curve], scale: float) -> Choice:
    """What the rule recommends at a scale; the lower of two temperatures that are equally good.

    Nothing where a metric of the rule was not measured.
    """
    at_scale = [curve for curve in drawn if curve.scale == scale]
    if any(m.name not in at_scale[0].points[0].row.metrics for m in rule.metrics):
        return Choice(scale, None, {}, {})
    table: dict[float, dict[str, float]] = {}
    for temperature in map(temperature_of, at_scale[0].points):
        same = [p.row.metrics for c in at_scale for p in c.points if temperature_of(p) == temperature]
        table[temperature] = {m.name: average(values[m.name] for values in same) for m in rule.metrics}
    faithful = table[min(table)]
    allowed = [
        t for t, values in table.items() if all(_holds(limit, values, faithful) for limit in rule.limits)
    ]
    if not allowed:
        return Choice(scale, None, {}, faithful)
    sign = -1 if rule.metric.higher_is_better else 1
    best = min(allowed, key=lambda t: (sign * table[t][rule.metric.name], t))
    return Choice(scale, best, table[best], faithful)


def _holds(limit: Limit, values: Mapping[str, float], faithful: Mapping[str, float]) -> bool:
    return limit.holds(values[limit.metric.name], faithful[limit.metric.name])


# --- files --------------------------------------------------------------------------------------------------------


def csv_lines(found: Evaluation) -> list[dict[str, Any]]:
    """Lines of sweep.csv: preset, benchmark, image, scale, temperature, seed, then a column per metric."""
    head = ("benchmark", "image", "scale", "temperature", "seed")
    names = [metric.name for metric in found.metrics]
    plain = [row.to_dict() for row in found.rows]
    return [{"preset": row["model"], **{key: row.get(key) for key in (*head, *names)}} for row in plain]


def document(result: Sweep) -> dict[str, Any]:
    """What sweep.json holds: an evaluation's document, the rule and its choices."""
    from srcli.evaluate.tables import Options
    from srcli.evaluate.tables import document as evaluation

    choices = [
        {
            "scale": c.scale,
            "temperature": c.temperature,
            "values": _plain(c.values),
            "at_lowest": _plain(c.faithful),
        }
        for c in result.choices
    ]
    return {"select": result.rule.text, "recommended": choices, **evaluation(result.found, Options())}


def _plain(values: Mapping[str, float]) -> dict[str, float | str]:
    """Without infinity, which JSON does not know."""
    return {name: value if math.isfinite(value) else str(value) for name, value in values.items()}


__all__ = [
    "DEFAULT_RULE",
    "TEMPERATURES",
    "Choice",
    "Curve",
    "Limit",
    "Rule",
    "Sweep",
    "choice",
    "csv_lines",
    "curves",
    "document",
    "parse_rule",
    "sweep",
    "temperature_of",
]
