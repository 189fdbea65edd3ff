"""An evaluation as tables, one per protocol, and as a JSON document."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from srcli import __version__
from srcli.engine.branch_map import ABOUT, summary
from srcli.evaluate.published import PublishedRow, References
from srcli.evaluate.rows import GIVEN, Mean, Row, finite, group_key, means, set_key
from srcli.evaluate.statistics import compare, gain, interval_of, label
from srcli.evaluate.tables import Table, number
from srcli.metrics import METRICS, Metric

if TYPE_CHECKING:
    from srcli.evaluate.run import Evaluation
    from srcli.evaluate.statistics import Comparison

FAMILIES = ("regression", "diffusion")  # whose best `--group-by family` compares with


@dataclass(frozen=True)
class Options:
    """What a table shows besides means.

    `references`: published figures beside ours; None for none. `bootstrap`: intervals of the means. `wilcoxon`: a
    test for every pair of models. `families`: percent against the best of each family. `per_image`: a line for every
    picture.
    """

    references: References | None = None
    bootstrap: bool = False
    wilcoxon: bool = False
    families: bool = False
    per_image: bool = False


def tables(evaluation: Evaluation, options: Options, *, bold: bool = False) -> list[Table]:
    """One table per protocol, and one of the comparisons; `bold` marks the best of a set with asterisks."""
    found = []
    all_means = means(evaluation.rows)
    for protocol in dict.fromkeys(mean.row.protocol for mean in all_means):
        chosen = [mean for mean in all_means if mean.row.protocol == protocol]
        rows = [row for row in evaluation.rows if row.protocol == protocol]
        found.append(_table(evaluation, chosen, rows, options, bold=bold))
        if options.per_image:
            found.append(_image_table(evaluation, rows))
    if comparisons := _comparisons(evaluation, options):
        found.append(_comparison_table(comparisons))
    if evaluation.choices:
        found.append(_choices_table(evaluation))
    return found


def _table(
    evaluation: Evaluation, chosen: list[Mean], rows: list[Row], options: Options, *, bold: bool
) -> Table:
    metrics = [m for m in evaluation.metrics if any(m.name in mean.row.metrics for mean in chosen)]
    printed = _printed(chosen, metrics, options)
    columns: list[list[str]] = [
        ["model", *(label(mean.row) for mean in chosen), *(_printed_label(p) for _, p in printed)],
        ["benchmark", *(mean.row.benchmark for mean in chosen), *(row.benchmark for row, _ in printed)],
        ["scale", *(_scale(mean.row) for mean in chosen), *(f"x{row.scale:g}" for row, _ in printed)],
        ["images", *(_images(evaluation, mean) for mean in chosen)],
    ]
    for metric in metrics:
        values = [_value(mean, metric, chosen, bold=bold) for mean in chosen]
        values += [number(p.values.get(metric.name), f".{metric.decimals}f") for _, p in printed]
        columns.append([metric.title, *values])
        columns += _beside(metric, chosen, rows, evaluation, options)
    for name, reason in evaluation.absent.items():
        cell = "no backbone" if "backbone" in reason else "missing"
        columns.append([METRICS[name].title, *(cell for _ in chosen)])
    columns.append(["s/image", *(number(mean.row.seconds, ".3g") for mean in chosen)])
    columns.append(["params", *(number(mean.row.params, ",") for mean in chosen)])
    header, *lines = (list(line) for line in itertools.zip_longest(*columns, fillvalue="-"))
    protocol = evaluation.protocols[chosen[0].row.protocol]
    above = [f"protocol {protocol.describe()}", _made_by(rows), *_said(evaluation, metrics)]
    return Table(above, header, lines, _notes(chosen, evaluation, options))


def _printed_label(printed: PublishedRow) -> str:
    at = "" if printed.temperature is None else f" t={printed.temperature:g}"
    return f"published: {printed.label}{at} ({printed.source})"


def _said(evaluation: Evaluation, metrics: Iterable[Metric]) -> list[str]:
    """Lines above a table: notices of metrics, absent metrics, and the evaluation's own notes."""
    absent = [f"{name} cannot be measured: {reason}" for name, reason in evaluation.absent.items()]
    return [*(m.notice for m in metrics if m.notice), *absent, *evaluation.notes]


def _images(evaluation: Evaluation, mean: Mean) -> str:
    left_out = evaluation.left_out(mean)
    return f"{mean.images} of {mean.images + left_out}" if left_out else str(mean.images)


def _printed(means: list[Mean], metrics: list[Metric], options: Options) -> list[tuple[Row, PublishedRow]]:
    if options.references is None:
        return []
    return options.references.beside([mean.row for mean in means], [metric.name for metric in metrics])


def _image_table(evaluation: Evaluation, rows: list[Row]) -> Table:
    header = ["model", "benchmark", "scale", "image", "seed", *(m.title for m in evaluation.metrics), "s"]
    lines = [
        [label(row), row.benchmark, _scale(row), row.image, number(row.seed, "d")]
        + [number(row.metrics.get(m.name), f".{m.decimals}f") for m in evaluation.metrics]
        + [number(row.seconds, ".3g")]
        for row in rows
    ]
    return Table([], header, lines)


def _beside(
    metric: Metric, chosen: list[Mean], rows: list[Row], evaluation: Evaluation, options: Options
) -> list[list[str]]:
    """The columns beside a metric that are not empty: its interval, published values, gains by family."""
    columns: list[list[str]] = []
    if options.bootstrap:
        columns.append(["95 %", *(_interval(mean, rows, metric) for mean in chosen)])
    if options.references is not None:
        pairs = [
            _published(mean, metric, options.references, whole=not evaluation.left_out(mean))
            for mean in chosen
        ]
        columns.append(["paper", *(shown for shown, _ in pairs)])
        columns.append(["diff", *(difference for _, difference in pairs)])
    for family in FAMILIES if options.families else ():
        gains = [gain(mean, chosen, family, metric.name) for mean in chosen]
        columns.append([f"% vs best {family}", *(number(g, "+.2f") for g in gains)])
    return [column for column in columns if any(cell != "-" for cell in column[1:])]


def _value(mean: Mean, metric: Metric, among: list[Mean], *, bold: bool) -> str:
    value = mean.row.metrics.get(metric.name)
    text = number(value, f".{metric.decimals}f")
    if metric.name in mean.deviation:
        text += f" ± {mean.deviation[metric.name]:.{metric.decimals}f}"
    same_set = (m.row.metrics for m in among if set_key(m.row) == set_key(mean.row))
    rivals = [values[metric.name] for values in same_set if metric.name in values]
    if not bold or value is None or len(rivals) < 2:
        return text
    return f"**{text}**" if value == metric.best(rivals) else text


def _interval(mean: Mean, rows: list[Row], metric: Metric) -> str:
    interval, digits = interval_of(_rows_of(mean, rows), metric.name), metric.decimals
    return "-" if interval is None else f"{interval.low:.{digits}f} to {interval.high:.{digits}f}"


def _rows_of(mean: Mean, rows: Iterable[Row]) -> list[Row]:
    return [row for row in rows if group_key(row) == group_key(mean.row)]


def _published(mean: Mean, metric: Metric, references: References, *, whole: bool) -> tuple[str, str]:
    figure = references.find(mean.row, metric.name)
    if figure is None or metric.name not in mean.row.metrics:
        return "-", "-"
    difference = mean.row.metrics[metric.name] - figure.value
    shown = f"{difference:+.{metric.decimals}f}" if whole else "-"
    return f"{figure.value:.{metric.decimals}f} ({figure.source})", shown


def _scale(row: Row) -> str:
    return f"x{row.scale:g}{'' if row.lr == GIVEN else '*'}"


def _made_by(rows: Iterable[Row]) -> str:
    seen: dict[str, str] = {}
    for row in rows:
        if row.device:
            weights = f" weights {row.weights}" if row.weights else ""
            where = " ".join(filter(None, (row.device, row.precision)))
            seen.setdefault(row.model, f"{row.model}{weights} on {where}")
    return "; ".join([f"srcli {__version__}", *seen.values()])


def _notes(chosen: list[Mean], evaluation: Evaluation, options: Options) -> list[str]:
    notes = []
    made = sorted({mean.row.lr for mean in chosen} - {GIVEN})
    if made:
        lr = "at x2, x3 and x4 published figures use the LR files that come with a set"
        notes.append(f"* LR {', '.join(made)}; {lr}")
    if options.references is not None:
        notes.append("paper: as published; 'srcli eval --list-references' names the tables")
        if any(map(evaluation.left_out, chosen)):
            notes.append("published figures are means over whole sets: no difference to a part of one")
    return notes


def _comparisons(evaluation: Evaluation, options: Options) -> list[Comparison]:
    metrics = evaluation.metrics if options.wilcoxon else []
    return [found for metric in metrics for found in compare(evaluation.rows, metric.name)]


def _comparison_table(comparisons: Sequence[Comparison]) -> Table:
    header = ["difference of", "to", "benchmark", "scale", "metric", "images", "mean", "95 %", "Wilcoxon p"]
    lines = []
    for c in comparisons:
        digits = METRICS[c.metric].decimals + 1
        d = c.difference
        interval = "-" if math.isnan(d.low) else f"{d.low:+.{digits}f} to {d.high:+.{digits}f}"
        where = [c.a, c.b, c.benchmark, f"x{c.scale:g}", c.metric, str(c.images)]
        lines.append([*where, f"{d.mean:+.{digits}f}", interval, number(c.p, ".2g")])
    tests = "bootstrap interval of the mean difference, two-sided Wilcoxon signed-rank test"
    return Table([f"paired by picture: {tests}"], header, lines)


def _choices_table(evaluation: Evaluation) -> Table:
    """Shares of the branches, and the paper's on DIV2K's validation set beside them."""
    lines = summary(evaluation.choices)
    names = [name for name in ABOUT if any(name in line for line in lines)]
    header = ["model", "benchmark", "scale", "of", "% of all", *(f"{name} %" for name in names)]
    cells = []
    for line in lines:
        part = line.get("part")
        shown = [format(line[name], ".2f") if name in line else "-" for name in names]
        where = [str(line["model"]), str(line["benchmark"]), f"x{line['scale']:g}", str(line["of"])]
        cells.append([*where, "-" if part is None else f"{part:.1f}", *shown])
    above = ["branches chosen, by pixels, as the mean over pictures, and by what the LR picture shows there"]
    below = ["published: FPLIA, Table 2, on DIV2K's validation set; by pixels or pictures it does not say"]
    return Table(above, header, cells, below)


def document(evaluation: Evaluation, options: Options) -> dict[str, object]:
    """Everything, as plain values for JSON."""
    all_means = means(evaluation.rows)
    return {
        "srcli": __version__,
        "protocols": {name: p.describe() for name, p in evaluation.protocols.items()},
        "metrics": {
            m.name: {"unit": m.unit, "higher_is_better": m.higher_is_better} for m in evaluation.metrics
        },
        "notes": _said(evaluation, evaluation.metrics),
        "mean": [_mean_document(mean, all_means, evaluation, options) for mean in all_means],
        "published": [
            {"benchmark": mean.benchmark, "scale": mean.scale, **asdict(row)}
            for mean, row in _printed(all_means, evaluation.metrics, options)
        ],
        "comparisons": [finite(asdict(c)) for c in _comparisons(evaluation, options)],
        "selection": summary(evaluation.choices),
        "rows": [row.to_dict() for row in evaluation.rows],
        "failed": [asdict(failure) for failure in evaluation.failures],
    }


def _mean_document(
    mean: Mean, all_means: list[Mean], evaluation: Evaluation, options: Options
) -> dict[str, object]:
    left_out, values = evaluation.left_out(mean), mean.row.metrics
    found: dict[str, object] = {**mean.to_dict(), "of": mean.images + left_out}
    names = [m.name for m in evaluation.metrics if m.name in values]
    if options.bootstrap:
        rows = _rows_of(mean, evaluation.rows)
        intervals = {name: interval_of(rows, name) for name in names}
        found["interval"] = {name: [i.low, i.high] for name, i in intervals.items() if i is not None}
    if options.references is not None:
        figures = {name: options.references.find(mean.row, name) for name in names}
        found["published"] = {
            name: {
                "value": figure.value,
                "difference": None if left_out else values[name] - figure.value,
                "source": figure.source,
            }
            for name, figure in figures.items()
            if figure is not None
        }
    if options.families:
        found["percent"] = {
            family: {name: g for name in names if (g := gain(mean, all_means, family, name)) is not None}
            for family in FAMILIES
        }
    return finite(found)
