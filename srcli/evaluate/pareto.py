"""Fidelity against perception: the models that no other beats in both.

A panel holds the points of one benchmark at one scale with one kind of LR; fronts never reach across panels.
`panels` makes them of rows, `plots` draws them, and this module says in tables what they show.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from srcli import __version__
from srcli.errors import UsageError, suggest
from srcli.evaluate.rows import GIVEN
from srcli.evaluate.tables import Table, html_table
from srcli.metrics import METRICS

Cost = Literal["seconds", "params", "memory", "flops"]
Origin = tuple[float, float] | None
LOWER = frozenset({"seconds", "params", "memory", "flops"})  # is better, of columns that are no metrics
# What the axes are by default, the usual one first.
FIDELITY = ("psnr", "psnr-y", "ssim", "lr-psnr")
PERCEPTION = (
    "lpips", "lpips-vgg", "dists", "niqe", "niqe-srcli", "spectrum", "ssim", "lr-psnr", "psnr-y", "psnr",
)  # fmt: skip


@dataclass(frozen=True)
class Axis:
    """A metric or a cost along one side, with its direction and its unit ("" for none)."""

    name: str
    higher_is_better: bool
    unit: str = ""

    def gain(self, value: float) -> float:
        """The value, turned so that higher is better."""
        return value if self.higher_is_better else -value

    @property
    def title(self) -> str:
        """Name, unit and direction."""
        unit = f" ({self.unit})" if self.unit else ""
        return f"{self.name}{unit} {'↑' if self.higher_is_better else '↓'}"

    def number(self, value: float) -> str:
        """The value with the decimals of its metric."""
        return f"{value:.{METRICS[self.name].decimals}f}" if self.name in METRICS else f"{value:.4g}"


@dataclass(frozen=True)
class Point:
    """One model at one setting: means over the pictures of a set.

    Attributes:
        label: unique within its panel.
        model: without its setting (temperature, steps); points of one model may form a curve.
        family: regression, flow, diffusion, real-world, interpolation, or another word.
        protocol: that x and y were measured by; "" for published figures.
        cost: size of the marker, None where unknown.
        images: number of pictures.
        x_interval: 95 % bootstrap interval of x, None for too few pictures.
        y_interval: the same of y.
        source: the table it was published in; None for one that was measured.
    """

    label: str
    model: str
    family: str
    x: float
    y: float
    protocol: str = ""
    cost: float | None = None
    temperature: float | None = None
    steps: int | None = None
    images: int = 0
    x_interval: tuple[float, float] | None = None
    y_interval: tuple[float, float] | None = None
    source: str | None = None


@dataclass(frozen=True)
class Panel:
    """The points of one benchmark at one scale.

    `lr`: "given" or how it was made. `points`: those that were measured; only they form the front. `published`: those
    from papers. `notes`: lines for the reader. `cost`: what the size of a marker shows. `usual`: the protocol of a
    panel without measured points.
    """

    benchmark: str
    scale: float
    lr: str
    x: Axis
    y: Axis
    points: list[Point]
    published: list[Point] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    cost: Cost | None = None
    usual: str = ""

    @property
    def title(self) -> str:
        """Benchmark and scale, and how LR was made if it was."""
        return f"{self.benchmark} x{self.scale:g}" + ("" if self.lr == GIVEN else f", LR {self.lr}")

    @property
    def protocols(self) -> list[str]:
        """Those of the measured points, in order of appearance."""
        return list(dict.fromkeys(point.protocol for point in self.points)) or [self.usual]

    def gains(self) -> list[tuple[float, float]]:
        """Both values of each point, turned so that higher is better."""
        return [(self.x.gain(p.x), self.y.gain(p.y)) for p in self.points]

    @property
    def front(self) -> list[Point]:
        """Points that no other dominates, along the first axis."""
        return sorted((self.points[i] for i in front(self.gains())), key=lambda p: (p.x, p.y))

    @property
    def dominated(self) -> dict[str, list[str]]:
        """Labels of dominated points, each with the labels of those that dominate it, points of the front first."""
        gains = self.gains()
        best = front(gains)
        order = sorted(range(len(gains)), key=lambda i: i not in best)
        found = {}
        for point, own in zip(self.points, gains, strict=True):
            by = [self.points[i].label for i in order if dominates(gains[i], own)]
            if by:
                found[point.label] = by
        return found

    @property
    def worst(self) -> tuple[float, float]:
        """The worst value on each axis among the points: where the hypervolume is measured from by default."""
        xs, ys = zip(*self.gains(), strict=True)
        return self.x.gain(min(xs)), self.y.gain(min(ys))

    def hypervolume(self, origin: Origin = None) -> float:
        """The area between the front and `origin`, by default the worst values."""
        x, y = origin or self.worst
        return hypervolume(self.gains(), (self.x.gain(x), self.y.gain(y)))


def axis(word: str) -> Axis:
    """The axis of this name; ``name:higher`` or ``name:lower`` says which way is better for an unknown column.

    Raises UsageError (a name whose direction is unknown).
    """
    name, colon, way = word.strip().lower().partition(":")
    name = name.replace("_", "-")
    if colon:
        if way not in ("higher", "lower"):
            raise UsageError(f"'{word}': after the colon stands higher or lower, whichever is better.")
        return Axis(name, way == "higher", METRICS[name].unit if name in METRICS else "")
    if name in METRICS:
        return Axis(name, METRICS[name].higher_is_better, METRICS[name].unit)
    if name in LOWER:
        return Axis(name, higher_is_better=False, unit="s" if name == "seconds" else "")
    raise UsageError(
        f"unknown metric '{word}'.",
        hint=f"{suggest(name, {*METRICS, *LOWER})} For any other, say which way is better: {name}:lower",
    )


# --- the front ----------------------------------------------------------------------------------------------------


def dominates(a: tuple[float, float], b: tuple[float, float]) -> bool:
    """Whether `a` is nowhere worse than `b` and somewhere better; higher is better in both."""
    return a[0] >= b[0] and a[1] >= b[1] and a != b


def front(gains: Sequence[tuple[float, float]]) -> set[int]:
    """Indices of the points that no other dominates; higher is better in both values. Equal points stay together."""
    kept: set[int] = set()
    last: tuple[float, float] | None = None
    best = -math.inf
    # From the best x downwards, a point is on the front if its y is better than all before it.
    for i in sorted(range(len(gains)), key=lambda i: gains[i], reverse=True):
        if gains[i][1] > best or gains[i] == last:
            kept.add(i)
            best, last = gains[i][1], gains[i]
    return kept


def hypervolume(gains: Sequence[tuple[float, float]], origin: tuple[float, float]) -> float:
    """Area that the points dominate and that dominates `origin` (Zitzler and Thiele, 1998); higher is better."""
    area, height = 0.0, origin[1]
    for x, y in sorted((gains[i] for i in front(gains)), reverse=True):
        if x > origin[0] and y > height:
            area += (x - origin[0]) * (y - height)
            height = y
    return area


def curves(points: Iterable[Point]) -> list[list[Point]]:
    """Points of one model that differ in a single setting, in its order: a trade-off the user can choose from.

    With several temperatures and several steps there is a curve over temperature for each number of steps, and vice
    versa.
    """
    found: dict[tuple[object, ...], list[Point]] = {}
    for p in points:
        same = (p.model, p.protocol, p.source)
        if p.temperature is not None:
            found.setdefault((*same, "temperature", p.steps), []).append(p)
        if p.steps is not None:
            found.setdefault((*same, "steps", p.temperature), []).append(p)
    lines = ((str(key[3]), group) for key, group in found.items() if len(group) > 1)
    return [sorted(group, key=operator.attrgetter(setting)) for setting, group in lines]


# --- panels as tables and JSON ----------------------------------------------------------------------------------------------


def panel_table(panel: Panel, *, hypervolume: bool = False, origin: Origin = None) -> Table:
    """One line per point: the front first, then what is dominated and by whom, then published points."""
    on_front, dominated = panel.front, panel.dominated
    lines = [_cells(p, panel, "on the front") for p in on_front]
    lines += [_cells(p, panel, _by(dominated[p.label])) for p in panel.points if p.label in dominated]
    lines += [_cells(p, panel, f"published ({p.source})") for p in panel.published]
    header = ["model", "family", panel.x.title, panel.y.title, panel.cost or "cost", "images", "standing"]
    if all(line[4] == "-" for line in lines):
        for line in (header, *lines):
            del line[4]
    above = [f"{panel.title}, protocol {', '.join(panel.protocols)}, srcli {__version__}", *panel.notes]
    below = []
    if hypervolume and panel.points:
        (x, y), area = origin or panel.worst, panel.hypervolume(origin)
        text = f"hypervolume {area:.4g}, from {panel.x.name} {x:.4g} and {panel.y.name} {y:.4g}"
        below.append(text + ("" if origin else " (the worst values here)"))
    if panel.published:
        below.append("published figures are as printed; they take no part in the front")
    return Table(above, header, lines, below)


def _cells(point: Point, panel: Panel, standing: str) -> list[str]:
    def cell(axis: Axis, value: float, interval: tuple[float, float] | None) -> str:
        ends = "" if interval is None else f" [{', '.join(map(axis.number, interval))}]"
        return axis.number(value) + ends

    return [
        point.label,
        point.family,
        cell(panel.x, point.x, point.x_interval),
        cell(panel.y, point.y, point.y_interval),
        "-" if point.cost is None else f"{point.cost:.4g}",
        str(point.images or "-"),
        standing,
    ]


def _by(labels: Sequence[str]) -> str:
    more = f" and {len(labels) - 3} more" if len(labels) > 3 else ""
    return f"dominated by {', '.join(labels[:3])}{more}"


def point_tables(panels: Sequence[Panel]) -> list[dict[str, object]]:
    """Every point as flat values, for CSV."""
    found: list[dict[str, object]] = []
    for panel in panels:
        on_front, dominated = {p.label for p in panel.front}, panel.dominated
        where = {"benchmark": panel.benchmark, "scale": panel.scale, "lr": panel.lr}
        for point in (*panel.points, *panel.published):
            measured = point.source is None
            found.append(
                where
                | {"protocol": point.protocol, "label": point.label, "family": point.family}
                | {panel.x.name: point.x, panel.y.name: point.y}
                | {name: getattr(point, name) for name in ("cost", "temperature", "steps", "images")}
                | {
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
                "hypervolume from": list(origin or panel.worst) if panel.points else None,
                "notes": panel.notes,
            }
            for panel in panels
        ],
        "points": point_tables(panels),
    }


PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Pareto fronts</title>
<style>
:root { color-scheme: light }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #222;
  background: #fff }
svg { max-width: 100%; height: auto }
table { border-collapse: collapse; margin: .5rem 0 1.5rem }
caption { text-align: left; font-weight: 600; padding: .4rem 0 }
th, td { padding: .25rem .7rem; border-bottom: 1px solid #ddd; text-align: left }
td.number { text-align: right; font-variant-numeric: tabular-nums }
p { color: #555; margin: .2rem 0 }
</style>
<h1>Pareto fronts</h1>
"""


def page(svg: str, tables: Sequence[Table]) -> str:
    """A self-contained HTML page: the picture (SVG, with or without XML declaration) and its tables."""
    body = "\n".join(html_table(table) for table in tables)
    return f"{PAGE}{svg[svg.index('<svg') :]}\n{body}\n</html>\n"
