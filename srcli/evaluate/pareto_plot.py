"""The picture of Pareto panels, drawn by Matplotlib without a display.

Filled markers were measured, hollow ones were published; the line is the edge of what the front dominates.
"""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import Bbox

from srcli.evaluate.pareto import Panel, Point, curves

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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
OTHER = "#000000"
PANEL = 5.0, 4.2  # inches
KEY_LINE = 0.16  # inches
COLUMNS = 3
AREA, AREAS = 60.0, (25.0, 200.0)  # of markers, in square points
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


def picture(
    panels: Sequence[Panel],
    form: PictureFormat,
    *,
    front: bool = True,
    dpi: int = 160,
) -> bytes:
    """The panels side by side, as the bytes of a file.

    Args:
        panels: at least one.
        form: png, svg or pdf.
        front: draw the line of the front.
        dpi: dots per inch of PNG.
    """
    with mpl.rc_context(STYLE):
        figure = _figure(panels, front=front)
        buffer = io.BytesIO()
        metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(form)
        figure.savefig(buffer, format=form, dpi=dpi, metadata=metadata)
    return buffer.getvalue()


def _figure(panels: Sequence[Panel], *, front: bool) -> Figure:
    columns = min(len(panels), COLUMNS)
    rows = -(-len(panels) // columns)
    keys = [_key(panel) for panel in panels]
    extra = max((len(key[0].splitlines()) for key in keys if key), default=0) * KEY_LINE
    figure = Figure((columns * PANEL[0], rows * (PANEL[1] + extra) + 0.5), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    sizes = Sizes([p.cost for panel in panels for p in panel.points])
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    for axes, panel, key in zip(grid, panels, keys, strict=False):
        _draw(axes, panel, sizes, front=front)
        for x, text in zip((0, 0.5), key, strict=False):
            axes.text(x, -0.15, text, transform=axes.transAxes, va="top", fontsize=7, color="#555555")
    figure.legend(
        handles=_legend(panels, sizes, front=front),
        loc="outside lower center",
        ncols=8,
        frameon=False,
        fontsize=8,
    )
    figure.draw_without_rendering()  # fixes the layout, which labels are placed in
    for axes, panel in zip(grid, panels, strict=False):
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


def _draw(axes: Axes, panel: Panel, sizes: Sizes, *, front: bool) -> None:
    for line in curves([*panel.points, *panel.published]):
        colour = _colour(line[0])
        style = "-" if line[0].source is None else ":"
        axes.plot([p.x for p in line], [p.y for p in line], style, color=colour, lw=1, alpha=0.7, zorder=2)
    if front and panel.points:
        axes.plot(*_edge(panel), color="#222222", lw=1, alpha=0.6, zorder=1)
    for p in panel.published:
        axes.scatter([p.x], [p.y], s=28, facecolors="none", edgecolors=_colour(p), linewidths=1, zorder=3)
    best = {p.label for p in panel.front}
    for p in panel.points:
        _bars(axes, p)
        edge = "#222222" if front and p.label in best else "white"
        axes.scatter(
            [p.x],
            [p.y],
            s=sizes.area(p.cost),
            c=_colour(p),
            edgecolors=edge,
            linewidths=1,
            zorder=4,
            alpha=0.9,
        )
    axes.margins(0.12)
    axes.set_title(panel.title, fontsize=10, loc="left")
    axes.set_title(", ".join(panel.protocols), fontsize=7, loc="right", color="#555555")
    axes.set_xlabel(panel.x.title)
    axes.set_ylabel(panel.y.title)


def _edge(panel: Panel) -> tuple[list[float], list[float]]:
    """Corners of the region that the front dominates."""
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


def _colour(p: Point) -> str:
    return COLOURS.get(p.family, OTHER)


def _key(panel: Panel) -> list[str]:
    """What the numbers beside hollow markers mean, in two columns."""
    texts = [f"{n} {p.label} ({p.source})" for n, p in enumerate(panel.published, 1)]
    half = -(-len(texts) // 2)
    return ["published:\n" + "\n".join(texts[:half]), "\n" + "\n".join(texts[half:])] if texts else []


def _legend(panels: Sequence[Panel], sizes: Sizes, *, front: bool) -> list[Any]:
    families = dict.fromkeys(p.family for panel in panels for p in (*panel.points, *panel.published))
    handles: list[Any] = [
        Line2D([], [], marker="o", ls="", color=COLOURS.get(name, OTHER), label=name) for name in families
    ]
    if front and any(panel.points for panel in panels):
        handles.append(Line2D([], [], color="#222222", lw=1, alpha=0.6, label="front"))
    if any(panel.published for panel in panels):
        handles.append(Line2D([], [], marker="o", ls="", mfc="none", color="#555555", label="published"))
    cost = panels[0].cost
    if cost is not None and sizes.known:
        for value in dict.fromkeys((sizes.low, sizes.high)):
            side = math.sqrt(sizes.area(value))
            text = f"{_short(value)} {UNITS[cost]}"
            handles.append(Line2D([], [], marker="o", ls="", color="#aaaaaa", ms=side, label=text))
    return handles


def _short(value: float) -> str:
    for limit, suffix in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= limit:
            return f"{value / limit:.3g}{suffix}"
    return f"{value:.2g}"


# --- labels -------------------------------------------------------------------------------------------------------

PLACES = [  # directions from the marker, the nearest first
    (1, 0.6),
    (1, -0.6),
    (-1, 0.6),
    (-1, -0.6),
    (0, 1.4),
    (0, -1.4),
    (2, 2.5),
    (2, -2.5),
    (-2, 2.5),
    (-2, -2.5),
    (4, 5),
    (4, -5),
    (-4, 5),
    (-4, -5),
]


def _label(axes: Axes, panel: Panel, sizes: Sizes) -> None:
    """Names beside points, each where it covers least of what is there already."""
    radii = [math.sqrt(sizes.area(p.cost)) / 2 for p in panel.points]
    taken = [_around(axes, p, r) for p, r in zip(panel.points, radii, strict=True)]
    taken += [_around(axes, p, 3) for p in panel.published]
    line_of = {p.label: line for line in curves(panel.points) for p in line}
    for p, radius in zip(panel.points, radii, strict=True):
        _place(axes, p, _words(p, line_of.get(p.label)), 8, radius, taken)
    for n, p in enumerate(panel.published, 1):
        _place(axes, p, str(n), 6, 3, taken)


def _words(p: Point, line: list[Point] | None) -> str:
    """A curve's first point bears the model's name; at the others the setting is enough."""
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
    width = min(a.x1, b.x1) - max(a.x0, b.x0)
    height = min(a.y1, b.y1) - max(a.y0, b.y0)
    return float(width * height) if width > 0 and height > 0 else 0.0


def _outside(box: Any, frame: Any) -> float:
    return float(box.width * box.height) - _overlap(box, frame)
