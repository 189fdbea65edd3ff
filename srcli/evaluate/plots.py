"""Pictures of panels, drawn by Matplotlib without a display: Pareto fronts, and curves along a temperature.

Filled markers were measured, hollow ones published; the line of a front bounds the region that it dominates, the
star on a curve is the temperature that the rule chose.
"""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import Bbox

from srcli.evaluate.pareto import Panel, Point, curves

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from srcli.evaluate.published import Figure as Published
    from srcli.evaluate.sweep import Sweep

PictureFormat = Literal["png", "svg", "pdf"]

# Okabe and Ito's colours, which people with any colour vision can tell apart.
COLOURS = {
    "regression": "#0072B2",
    "flow": "#E69F00",
    "diffusion": "#D55E00",
    "real-world": "#009E73",
    "interpolation": "#666666",
    "adversarial": "#CC79A7",
    "autoregressive": "#56B4E9",
}
BLACK, DARK, GRAY, STAR = "#000000", "#222222", "#555555", "#D55E00"
PANEL = 5.0, 4.2  # inches
COLUMNS = 3
AREA, AREAS = 60.0, (25.0, 200.0)  # of markers, in square points
TEMPERATURES = 6  # written along a curve
UNITS = {"seconds": "s per picture", "params": "parameters", "memory": "bytes", "flops": "FLOPs"}
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "srcli",  # the same picture is the same file
    "pdf.fonttype": 42,
}
PLACES = (  # directions of a label from its marker, the nearest first
    *((1, 0.6), (1, -0.6), (-1, 0.6), (-1, -0.6), (0, 1.4), (0, -1.4)),
    *((2, 2.5), (2, -2.5), (-2, 2.5), (-2, -2.5), (4, 5), (4, -5), (-4, 5), (-4, -5)),
)


def file_of(
    draw: Callable[[], Figure], form: PictureFormat = "png", *, dpi: int = 160, style: dict[Any, Any] = STYLE
) -> bytes:
    """A file, as bytes, of the figure that `draw` makes in `style`; equal figures give equal bytes."""
    with mpl.rc_context(style):
        buffer = io.BytesIO()
        metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(form)
        draw().savefig(buffer, format=form, dpi=dpi, metadata=metadata)
    return buffer.getvalue()


def _grid(panels: Sequence[Panel], extra: float) -> tuple[Figure, Sequence[Axes]]:
    """A figure with axes for every panel, each `extra` inches higher than its drawing, for the key below it."""
    columns = min(len(panels), COLUMNS)
    rows = -(-len(panels) // columns)
    figure = Figure((columns * PANEL[0], rows * (PANEL[1] + extra) + 0.5), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    return figure, list(grid[: len(panels)])


def _name(axes: Axes, panel: Panel, margin: float) -> None:
    axes.margins(margin)
    axes.set_title(panel.title, fontsize=10, loc="left")
    axes.set_title(", ".join(panel.protocols), fontsize=7, loc="right", color=GRAY)
    axes.set_xlabel(panel.x.title)
    axes.set_ylabel(panel.y.title)


def _key(panel: Panel) -> tuple[str, str]:
    """The legend for the numbers beside hollow markers, in two columns."""
    texts = [f"{n} {p.label} ({p.source})" for n, p in enumerate(panel.published, 1)]
    half = -(-len(texts) // 2)
    return "\n".join(texts[:half]), "\n".join(texts[half:])


def _hollow(axes: Axes, p: Point, area: float, order: int) -> None:
    edge = _colour(p)
    axes.scatter([p.x], [p.y], s=area, facecolors="none", edgecolors=edge, linewidths=1, zorder=order)


def _marker(label: str, marker: str = "o", **style: Any) -> Line2D:
    """An entry of a legend."""
    return Line2D([], [], marker=marker, label=label, **style)


def _colour(p: Point) -> str:
    return COLOURS.get(p.family, BLACK)


# --- Pareto fronts ------------------------------------------------------------------------------------------------


def pareto_picture(
    panels: Sequence[Panel], form: PictureFormat, *, front: bool = True, dpi: int = 160
) -> bytes:
    """Panels (at least one) side by side, as the bytes of a file; `front` draws the line of the front."""
    return file_of(lambda: _pareto_figure(panels, front=front), form, dpi=dpi)


def _pareto_figure(panels: Sequence[Panel], *, front: bool) -> Figure:
    keys = [("published:\n" + a, "\n" + b) if a else () for a, b in map(_key, panels)]
    figure, grid = _grid(panels, max((len(key[0].splitlines()) for key in keys if key), default=0) * 0.16)
    sizes = Sizes([p.cost for panel in panels for p in panel.points])
    for axes, panel, key in zip(grid, panels, keys, strict=True):
        _draw_front(axes, panel, sizes, front=front)
        for x, text in zip((0, 0.5), key, strict=False):
            axes.text(x, -0.15, text, transform=axes.transAxes, va="top", fontsize=7, color=GRAY)
    legend = _pareto_legend(panels, sizes, front=front)
    figure.legend(handles=legend, loc="outside lower center", ncols=8, frameon=False, fontsize=8)
    figure.draw_without_rendering()  # fixes the layout, which labels are placed in
    for axes, panel in zip(grid, panels, strict=True):
        _label(axes, panel, sizes)
    return figure


class Sizes:
    """Areas of markers by the logarithm of a cost."""

    def __init__(self, costs: Sequence[float | None]) -> None:
        known = [c for c in costs if c is not None and c > 0]
        self.low, self.high = (min(known), max(known)) if known else (1.0, 1.0)
        self.known = bool(known)

    def area(self, cost: float | None) -> float:
        """In square points; the smallest for an unknown cost."""
        if not self.known:
            return AREA
        if cost is None or cost <= self.low:
            return AREAS[0]
        share = math.log(cost / self.low) / math.log(self.high / self.low)
        return AREAS[0] + share * (AREAS[1] - AREAS[0])


def _draw_front(axes: Axes, panel: Panel, sizes: Sizes, *, front: bool) -> None:
    for line in curves([*panel.points, *panel.published]):
        style, colour = "-" if line[0].source is None else ":", _colour(line[0])
        axes.plot([p.x for p in line], [p.y for p in line], style, color=colour, lw=1, alpha=0.7, zorder=2)
    if front and panel.points:
        axes.plot(*front_line(panel), color=DARK, lw=1, alpha=0.6, zorder=1)
    for p in panel.published:
        _hollow(axes, p, 28, 3)
    best = {p.label for p in panel.front} if front else set()
    for p in panel.points:
        _bars(axes, p)
        colours: Any = {"c": _colour(p), "edgecolors": DARK if p.label in best else "white"}
        axes.scatter([p.x], [p.y], s=sizes.area(p.cost), linewidths=1, zorder=4, alpha=0.9, **colours)
    _name(axes, panel, 0.12)


def front_line(panel: Panel) -> tuple[list[float], list[float]]:
    """Corners of the region that the front dominates, x and y."""
    along = sorted(panel.front, key=lambda p: panel.x.gain(p.x))
    xs, ys = [along[0].x], [along[0].y]
    for before, after in itertools.pairwise(along):
        xs += [before.x, after.x]
        ys += [after.y, after.y]
    return xs, ys


def _bars(axes: Axes, p: Point) -> None:
    def arms(value: float, interval: tuple[float, float] | None) -> list[list[float]] | None:
        return None if interval is None else [[max(value - interval[0], 0)], [max(interval[1] - value, 0)]]

    x, y = arms(p.x, p.x_interval), arms(p.y, p.y_interval)
    if x or y:
        axes.errorbar([p.x], [p.y], xerr=x, yerr=y, color=_colour(p), alpha=0.35, lw=1, fmt="none", zorder=1)


def _pareto_legend(panels: Sequence[Panel], sizes: Sizes, *, front: bool) -> list[Line2D]:
    families = dict.fromkeys(p.family for panel in panels for p in (*panel.points, *panel.published))
    handles = [_marker(name, ls="", color=COLOURS.get(name, BLACK)) for name in families]
    if front and any(panel.points for panel in panels):
        handles.append(Line2D([], [], color=DARK, lw=1, alpha=0.6, label="front"))
    if any(panel.published for panel in panels):
        handles.append(_marker("published", ls="", mfc="none", color=GRAY))
    cost = panels[0].cost
    if cost is not None and sizes.known:
        for value in dict.fromkeys((sizes.low, sizes.high)):
            text, side = f"{_short(value)} {UNITS[cost]}", math.sqrt(sizes.area(value))
            handles.append(_marker(text, ls="", color="#aaaaaa", ms=side))
    return handles


def _short(value: float) -> str:
    for limit, suffix in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= limit:
            return f"{value / limit:.3g}{suffix}"
    return f"{value:.2g}"


def _label(axes: Axes, panel: Panel, sizes: Sizes) -> None:
    """Labels beside points, each where it overlaps least with what is drawn already."""
    radii = [math.sqrt(sizes.area(p.cost)) / 2 for p in panel.points]
    taken = [_around(axes, p, r) for p, r in zip(panel.points, radii, strict=True)]
    taken += [_around(axes, p, 3) for p in panel.published]
    line_of = {p.label: line for line in curves(panel.points) for p in line}
    for p, radius in zip(panel.points, radii, strict=True):
        _place(axes, p, _words(p, line_of.get(p.label)), 8, radius, taken)
    for n, p in enumerate(panel.published, 1):
        _place(axes, p, str(n), 6, 3, taken)


def _words(p: Point, line: list[Point] | None) -> str:
    """The model's name at a curve's first point, only the setting at the others."""
    if line is None or p is line[0]:
        return p.label
    return f"{p.temperature:g}" if line[0].temperature != line[-1].temperature else f"{p.steps}"


def _place(axes: Axes, p: Point, text: str, size: int, radius: float, taken: list[Bbox]) -> None:
    best: tuple[float, Any, Bbox] | None = None
    for right, up in PLACES:
        note = axes.annotate(
            text,
            (p.x, p.y),
            (right * (radius + 2), up * (radius + 1)),
            textcoords="offset points",
            ha="left" if right > 0 else "right" if right < 0 else "center",
            va="bottom" if up > 0 else "top",
            fontsize=size,
            color=_colour(p),
            zorder=6,
        )
        note.set_in_layout(False)
        box = note.get_window_extent()
        covered = sum(_overlap(box, other) for other in taken) + 2 * _outside(box, axes.bbox)
        if best is None or covered < best[0]:
            if best is not None:
                best[1].remove()
            best = covered, note, box
        else:
            note.remove()
        if covered == 0:
            break
    assert best is not None
    taken.append(best[2])


def _around(axes: Axes, p: Point, points: float) -> Bbox:
    x, y = axes.transData.transform((p.x, p.y))
    radius = points / 72 * axes.get_figure(root=True).dpi  # type: ignore[union-attr]  # it is in one
    return Bbox([[x - radius, y - radius], [x + radius, y + radius]])


def _overlap(a: Any, b: Any) -> float:
    width, height = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
    return float(width * height) if width > 0 and height > 0 else 0.0


def _outside(box: Any, frame: Any) -> float:
    return float(box.width * box.height) - _overlap(box, frame)


# --- curves along the temperature ---------------------------------------------------------------------------------


def sweep_picture(
    result: Sweep, form: PictureFormat, *, figures: Sequence[Published] = (), dpi: int = 160
) -> bytes:
    """The curves (at least one) of a sweep side by side, as the bytes of a file, and published figures."""
    return file_of(lambda: _sweep_figure(result, result.panels(figures)), form, dpi=dpi)


def _sweep_figure(result: Sweep, panels: Sequence[Panel]) -> Figure:
    figure, grid = _grid(panels, max(-(-len(panel.published) // 2) for panel in panels) * 0.13)
    for axes, panel in zip(grid, panels, strict=True):
        _draw_curve(axes, panel, result.recommended.get(panel.scale))
        for x, text in zip((-0.1, 0.48), _key(panel), strict=True):
            axes.text(x, -0.16, text, transform=axes.transAxes, va="top", fontsize=6.5, color=GRAY)
    figure.suptitle(f"{panels[0].points[0].model.partition('@')[0]}, {result.rule.text}", fontsize=9)
    handles = [_marker("temperature", ms=3, color=_colour(panels[0].points[0]))]
    if result.recommended:
        handles.append(_marker("chosen by the rule", "*", ls="", ms=11, color=STAR))
    if any(panel.published for panel in panels):
        handles.append(_marker("published", ls="", mfc="none", color=GRAY))
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    return figure


def _draw_curve(axes: Axes, panel: Panel, chosen: float | None) -> None:
    points = sorted(panel.points, key=lambda p: p.temperature or 0.0)
    colour = _colour(points[0])
    axes.plot([p.x for p in points], [p.y for p in points], "o-", color=colour, lw=1.2, ms=3, zorder=3)
    step = -(-len(points) // TEMPERATURES)
    for p in {p.label: p for p in [*points[::step], points[-1]]}.values():
        _note(axes, p, f"{p.temperature:g}", 7)
    for p in points:
        if chosen is not None and p.temperature == chosen:
            axes.plot([p.x], [p.y], "*", color=STAR, mec="white", ms=13, zorder=5)
    for number, p in enumerate(panel.published, 1):
        _hollow(axes, p, 26, 2)
        _note(axes, p, str(number), 6)
    _name(axes, panel, 0.1)


def _note(axes: Axes, p: Point, text: str, size: int) -> None:
    style: Any = {"textcoords": "offset points", "fontsize": size, "color": _colour(p), "zorder": 6}
    axes.annotate(text, (p.x, p.y), (3, 3), **style)
