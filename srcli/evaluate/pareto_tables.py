"""What a Pareto picture says, in words and numbers: tables, plain values for JSON and CSV, and a page."""

from __future__ import annotations

import html
from collections.abc import Sequence

from srcli import __version__
from srcli.evaluate.pareto import Axis, Panel, Point
from srcli.evaluate.tables import Table
from srcli.metrics import METRICS

Origin = tuple[float, float] | None


def panel_table(panel: Panel, *, hypervolume: bool = False, origin: Origin = None) -> Table:
    """One line per point: the front first, then what is dominated and by whom, then published points."""
    on_front, dominated = panel.front, panel.dominated
    measured = [*on_front, *(p for p in panel.points if p.label in dominated)]
    lines = [_cells(p, panel, "on the front" if p in on_front else _by(dominated[p.label])) for p in measured]
    lines += [_cells(p, panel, f"published ({p.source})") for p in panel.published]
    header = ["model", "family", panel.x.title, panel.y.title, panel.cost or "cost", "images", "standing"]
    if all(line[4] == "-" for line in lines):
        header, lines = _without(header, 4), [_without(line, 4) for line in lines]
    above = [f"{panel.title}, protocol {', '.join(panel.protocols)}, srcli {__version__}", *panel.notes]
    return Table(above, header, lines, _below(panel, hypervolume=hypervolume, origin=origin))


def _below(panel: Panel, *, hypervolume: bool, origin: Origin) -> list[str]:
    found = []
    if hypervolume and panel.points:
        x, y = panel.worst if origin is None else origin
        found.append(
            f"hypervolume {panel.hypervolume(origin):.4g}, from {panel.x.name} {x:.4g} and {panel.y.name} {y:.4g}"
            + (" (the worst values here)" if origin is None else "")
        )
    if panel.published:
        found.append("published figures are as printed; they take no part in the front")
    return found


def _cells(point: Point, panel: Panel, standing: str) -> list[str]:
    return [
        point.label,
        point.family,
        _number(point.x, panel.x) + _interval(point.x_interval, panel.x),
        _number(point.y, panel.y) + _interval(point.y_interval, panel.y),
        "-" if point.cost is None else f"{point.cost:.4g}",
        str(point.images) if point.images else "-",
        standing,
    ]


def _number(value: float, axis: Axis) -> str:
    return f"{value:.{METRICS[axis.name].decimals}f}" if axis.name in METRICS else f"{value:.4g}"


def _interval(interval: tuple[float, float] | None, axis: Axis) -> str:
    return "" if interval is None else f" [{_number(interval[0], axis)}, {_number(interval[1], axis)}]"


def _by(labels: Sequence[str]) -> str:
    shown = ", ".join(labels[:3])
    return f"dominated by {shown}" + (f" and {len(labels) - 3} more" if len(labels) > 3 else "")


def _without(cells: list[str], at: int) -> list[str]:
    return [*cells[:at], *cells[at + 1 :]]


def point_tables(panels: Sequence[Panel]) -> list[dict[str, object]]:
    """Every point as flat values, for CSV."""
    found: list[dict[str, object]] = []
    for panel in panels:
        on_front, dominated = {p.label for p in panel.front}, panel.dominated
        for point in (*panel.points, *panel.published):
            measured = point.source is None
            found.append(
                {
                    "benchmark": panel.benchmark,
                    "scale": panel.scale,
                    "lr": panel.lr,
                    "protocol": point.protocol,
                    "label": point.label,
                    "family": point.family,
                    panel.x.name: point.x,
                    panel.y.name: point.y,
                    "cost": point.cost,
                    "temperature": point.temperature,
                    "steps": point.steps,
                    "images": point.images,
                    "front": measured and point.label in on_front,
                    "dominated by": "; ".join(dominated.get(point.label, [])) if measured else "",
                    "published in": point.source or "",
                }
            )
    return found


def document(panels: Sequence[Panel], *, origin: Origin = None) -> dict[str, object]:
    """Everything, as plain values for JSON."""
    return {
        "srcli": __version__,
        "panels": [
            {
                "benchmark": panel.benchmark,
                "scale": panel.scale,
                "lr": panel.lr,
                "protocols": panel.protocols,
                "x": panel.x.name,
                "y": panel.y.name,
                "front": [p.label for p in panel.front],
                "dominated": panel.dominated,
                "hypervolume": panel.hypervolume(origin) if panel.points else None,
                "hypervolume from": list(panel.worst if origin is None else origin) if panel.points else None,
                "notes": panel.notes,
            }
            for panel in panels
        ],
        "points": point_tables(panels),
    }


STYLE = """
:root { color-scheme: light }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #222;
  background: #fff }
svg { max-width: 100%; height: auto }
table { border-collapse: collapse; margin: .5rem 0 1.5rem }
caption { text-align: left; font-weight: 600; padding: .4rem 0 }
th, td { padding: .25rem .7rem; border-bottom: 1px solid #ddd; text-align: left }
td.number { text-align: right; font-variant-numeric: tabular-nums }
p { color: #555; margin: .2rem 0 }
"""


def page(svg: str, tables: Sequence[Table]) -> str:
    """A page that needs nothing else: the picture and its tables.

    Args:
        svg: the picture, with or without XML declaration.
        tables: from `panel_table`.
    """
    picture = svg[svg.index("<svg") :]
    body = "\n".join(_html_table(table) for table in tables)
    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>Pareto fronts</title>\n'
        f"<style>{STYLE}</style>\n<h1>Pareto fronts</h1>\n{picture}\n{body}\n</html>\n"
    )


def _html_table(table: Table) -> str:
    head = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in table.header)
    rows = "\n".join(f"<tr>{''.join(_td(cell) for cell in line)}</tr>" for line in table.lines)
    caption, *notes = table.above
    after = "".join(f"<p>{html.escape(note)}</p>\n" for note in (*notes, *table.below))
    return (
        f"<table><caption>{html.escape(caption)}</caption>\n<thead><tr>{head}</tr></thead>\n"
        f"<tbody>\n{rows}\n</tbody></table>\n{after}"
    )


def _td(cell: str) -> str:
    number = cell[:1].isdigit() or cell[:1] == "-"
    return f'<td class="number">{html.escape(cell)}</td>' if number else f"<td>{html.escape(cell)}</td>"
