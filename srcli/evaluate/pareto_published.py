"""Published points for a panel: methods of which one table prints both of its metrics."""

from __future__ import annotations

from collections.abc import Iterable

from srcli.evaluate.pareto import Panel, Point
from srcli.evaluate.published import Figure, printed_rows
from srcli.evaluate.rows import Row


def row_like(panel: Panel) -> Row:
    """A row of a panel's set and scale, by its protocol."""
    return Row("", panel.benchmark, "", panel.scale, panel.protocols[0])


def published_points(panel: Panel, figures: Iterable[Figure]) -> list[Point]:
    """Points of other papers for a panel, compared only where its protocol measures what they print.

    A method that several tables print alike appears once.
    """
    x, y = panel.x.name, panel.y.name
    found: dict[tuple[object, ...], Point] = {}
    for row in printed_rows(figures, row_like(panel), (x, y)):
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
