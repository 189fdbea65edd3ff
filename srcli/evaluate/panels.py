"""Panels of `pareto` from the rows that `eval` writes and from published figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from srcli.errors import UsageError
from srcli.evaluate.pareto import FIDELITY, PERCEPTION, Axis, Cost, Panel, Point
from srcli.evaluate.published import Figure, PublishedRow, published_rows
from srcli.evaluate.rows import Row, group_key, grouped, means
from srcli.evaluate.statistics import interval_of, label
from srcli.metrics import check_niqe

OF_A_ROW = frozenset({"seconds", "params", "memory"})  # costs, which are fields of a row, not metrics
SAME = 1e-6  # two measurements of one picture that differ by less are equal


def panels(
    rows: Sequence[Row],
    x: Axis,
    y: Axis,
    *,
    cost: Cost | None = None,
    mix_protocols: bool = False,
    intervals: bool = False,
) -> list[Panel]:
    """One panel per benchmark, scale and kind of LR, in order of first appearance.

    The rows are measurements of single pictures, from any number of files. `cost` sets the size of markers,
    `mix_protocols` allows points of different protocols in one panel, `intervals` adds bootstrap intervals of the
    means. Raises UsageError (no row has both values, one is NaN, protocols are mixed, or points share no picture).
    """
    check_niqe((x.name, y.name))
    found = []
    for group in grouped(rows, lambda row: (row.benchmark, row.scale, row.lr)):
        panel = Panel(group[0].benchmark, group[0].scale, group[0].lr, x, y, [], cost=cost)
        panel.points.extend(_points(group, panel, intervals=intervals, mix=mix_protocols))
        if panel.points:
            found.append(panel)
    if not found:
        there = ", ".join(dict.fromkeys(name for row in rows for name in row.metrics))
        choose = "choose two with --x and --y, or measure with 'srcli eval --metrics'."
        raise UsageError(f"no row has both {x.name} and {y.name}.", hint=f"They have {there}: {choose}")
    return found


def value_of(row: Row, name: str) -> float | None:
    """A metric or cost of a row, None if it has none."""
    value = getattr(row, name) if name in OF_A_ROW else row.metrics.get(name)
    return None if value is None else float(value)


def _points(rows: Sequence[Row], panel: Panel, *, intervals: bool, mix: bool) -> list[Point]:
    groups = grouped(_joined(rows, panel.notes), _key)
    names = (panel.x.name, panel.y.name)
    chosen = [group for group in groups if _is_complete(group, names, panel.notes)]
    if not chosen:
        return []
    if not mix:
        _check_protocols(chosen, panel.title)
    chosen = _common_pictures(chosen, panel)
    labels = _labels([group[0] for group in chosen])
    points = [_point(text, g, panel, intervals=intervals) for text, g in zip(labels, chosen, strict=True)]
    drawn = [p for p in points if math.isfinite(p.x) and math.isfinite(p.y)]
    panel.notes.extend(
        f"{p.label} is left out: it is infinite ({p.x:g}, {p.y:g})" for p in points if p not in drawn
    )
    return drawn


def _key(row: Row) -> tuple[object, ...]:
    """What the rows of one point share; one name may stand for different weights in two files."""
    return (*group_key(row), row.weights, row.device, row.precision)


def _joined(rows: Iterable[Row], notes: list[str]) -> list[Row]:
    """Each measurement once: files may repeat each other, or hold different metrics of the same results."""
    found: dict[tuple[object, ...], Row] = {}
    disagree: set[str] = set()
    for row in rows:
        for name, value in row.metrics.items():
            if math.isnan(value):
                where = f"{row.model} on {row.benchmark} {row.image} at x{row.scale:g}"
                raise UsageError(f"{name} of {where} is not a number (NaN).", hint="Measure it again.")
        key = (*_key(row), row.image, row.seed)
        earlier = found[key].metrics if key in found else {}
        for name in earlier.keys() & row.metrics.keys():
            a, b = earlier[name], row.metrics[name]
            if a != b and not abs(a - b) <= SAME:
                disagree.add(f"{row.model} {name}")
        found[key] = replace(row, metrics=earlier | row.metrics)
    notes += [f"{name} has two values for one picture; the later file counts" for name in sorted(disagree)]
    return list(found.values())


def _is_complete(group: list[Row], names: Sequence[str], notes: list[str]) -> bool:
    missing = [n for n in names if any(value_of(row, n) is None for row in group)]
    if missing:
        notes.append(f"{label(group[0])} is left out: it has no {' and no '.join(missing)}")
    return not missing


def _check_protocols(groups: Iterable[list[Row]], title: str) -> None:
    by_protocol: dict[str, list[str]] = {}
    for group in groups:
        by_protocol.setdefault(group[0].protocol, []).append(label(group[0]))
    if len(by_protocol) > 1:
        shown = "; ".join(f"{name}: {', '.join(models)}" for name, models in by_protocol.items())
        raise UsageError(
            f"{title} was measured by unlike protocols ({shown}).",
            hint="Choose one with --protocol, measure alike, or give --mix-protocols.",
        )


def _common_pictures(groups: list[list[Row]], panel: Panel) -> list[list[Row]]:
    """Keep the pictures that all points have: means over different pictures cannot be compared."""
    sets = [{row.image for row in group} for group in groups]
    common = set.intersection(*sets)
    if not common:
        counts = ", ".join(f"{label(g[0])}: {len(s)}" for g, s in zip(groups, sets, strict=True))
        raise UsageError(
            f"{panel.title}: no picture was measured with every model ({counts}).",
            hint="Measure them on the same pictures.",
        )
    if any(s != common for s in sets):
        panel.notes.append(f"means over the {len(common)} pictures that every model was measured on")
    return [[row for row in group if row.image in common] for group in groups]


def _labels(rows: Sequence[Row]) -> list[str]:
    """Distinct names: where plain ones are equal, with the weights, then the device, then the protocol."""
    names = [label(row) for row in rows]
    # One after the other, each only for labels that are still equal.
    extras: tuple[Callable[[Row], str], ...] = (
        lambda r: f"@{r.weights[:8]}" if r.weights else "",
        lambda r: f" {r.device} {r.precision or ''}".rstrip() if r.device else "",
        lambda r: f" ({r.protocol})",
    )
    for extra in extras:
        double = {n for n in names if names.count(n) > 1}
        names = [f"{n}{extra(r)}" if n in double else n for n, r in zip(names, rows, strict=True)]
    return names


def _point(text: str, group: list[Row], panel: Panel, *, intervals: bool) -> Point:
    mean = means(group)[0]
    row, names = mean.row, (panel.x.name, panel.y.name)
    x, y = (value_of(row, name) for name in names)
    assert x is not None  # groups are complete
    assert y is not None
    ends = [_interval(group, name) if intervals else None for name in names]
    return Point(
        label=text,
        model=row.model if row.weights is None else f"{row.model}@{row.weights}",
        family=row.family,
        x=x,
        y=y,
        protocol=row.protocol,
        cost=None if panel.cost is None else value_of(row, panel.cost),
        temperature=row.temperature,
        steps=row.steps,
        images=mean.images,
        x_interval=ends[0],
        y_interval=ends[1],
    )


def _interval(group: list[Row], name: str) -> tuple[float, float] | None:
    interval = None if name in OF_A_ROW else interval_of(group, name)
    return None if interval is None else (interval.low, interval.high)


# --- published figures --------------------------------------------------------------------------------------------


def published_points(panel: Panel, figures: Iterable[Figure]) -> list[Point]:
    """Points of other papers for a panel: methods of which one table prints both metrics as its protocol measures.

    A method that several tables print alike appears once.
    """
    x, y = panel.x.name, panel.y.name
    found: dict[tuple[object, ...], Point] = {}
    for row in published_on(panel, figures, (x, y)):
        if len(row.values) == 2:
            point = Point(
                label=row.label if row.temperature is None else f"{row.label} t={row.temperature:g}",
                model=row.label,
                family=row.family,
                x=row.values[x],
                y=row.values[y],
                temperature=row.temperature,
                source=row.source,
            )
            found.setdefault((row.method, point.temperature, point.x, point.y), point)
    return list(found.values())


def published_on(
    panel: Panel, figures: Iterable[Figure], metrics: Sequence[str] = (*FIDELITY, *PERCEPTION)
) -> list[PublishedRow]:
    """What tables print on a panel's set and scale, by its protocol."""
    like = Row("", panel.benchmark, "", panel.scale, panel.protocols[0])
    return published_rows(figures, like, metrics)
