"""The picture of a sweep: fidelity against perception along the temperature, drawn by Matplotlib without a display.

Filled markers were measured, the star is the temperature that the rule chose, hollow markers were published.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from srcli.evaluate.pareto import PERCEPTION, Axis, Panel, Point, axis, panels
from srcli.evaluate.pareto_plot import COLOURS, COLUMNS, OTHER, PANEL, STYLE, PictureFormat
from srcli.evaluate.pareto_published import published_points
from srcli.evaluate.published import Figure as Published
from srcli.evaluate.sweep import Sweep
from srcli.metrics import PROTOCOLS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LABELS = 6  # temperatures written along a curve
KEY_LINE = 0.13  # inches
KEY_SIZE = 6.5


def sweep_panels(result: Sweep, figures: Sequence[Published] = ()) -> list[Panel]:
    """One panel per benchmark and scale, with the published points of tables that print both of its metrics."""
    names = [metric.name for metric in result.found.metrics]
    chosen = result.rule.metric.name  # where it could not be measured, the axis says what it is instead
    y = chosen if chosen in names else next((name for name in PERCEPTION if name in names), names[-1])
    found = []
    for curve in result.curves:
        rows = [r for r in result.found.rows if (r.benchmark, r.scale) == (curve.benchmark, curve.scale)]
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


def picture(
    result: Sweep, form: PictureFormat, *, figures: Sequence[Published] = (), dpi: int = 160
) -> bytes:
    """The curves side by side, as the bytes of a file.

    Args:
        result: of `srcli.evaluate.sweep.sweep`; with at least one curve.
        form: png, svg or pdf.
        figures: published ones, drawn hollow.
        dpi: dots per inch of PNG.
    """
    with mpl.rc_context(STYLE):
        figure = _figure(sweep_panels(result, figures), result)
        buffer = io.BytesIO()
        metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(form)
        figure.savefig(buffer, format=form, dpi=dpi, metadata=metadata)
    return buffer.getvalue()


def _figure(drawn: Sequence[Panel], result: Sweep) -> Figure:
    columns = min(len(drawn), COLUMNS)
    rows = -(-len(drawn) // columns)
    extra = max(-(-len(panel.published) // 2) for panel in drawn) * KEY_LINE
    figure = Figure((columns * PANEL[0], rows * (PANEL[1] + extra) + 0.5), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid[len(drawn) :]:
        axes.set_axis_off()
    for axes, panel in zip(grid, drawn, strict=False):
        _draw(axes, panel, result.recommended.get(panel.scale))
        _key(axes, panel)
    figure.suptitle(f"{drawn[0].points[0].model.partition('@')[0]}, {result.rule.text}", fontsize=9)
    figure.legend(
        handles=_legend(drawn, result), loc="outside lower center", ncols=4, frameon=False, fontsize=8
    )
    return figure


def _draw(axes: Axes, panel: Panel, chosen: float | None) -> None:
    points = sorted(panel.points, key=lambda p: p.temperature or 0.0)
    colour = COLOURS.get(points[0].family, OTHER)
    axes.plot([p.x for p in points], [p.y for p in points], "o-", color=colour, lw=1.2, ms=3, zorder=3)
    step = -(-len(points) // LABELS)
    for p in {p.label: p for p in [*points[::step], points[-1]]}.values():
        _note(axes, p, f"{p.temperature:g}", colour, 7)
    for p in points:
        if chosen is not None and p.temperature == chosen:
            axes.plot([p.x], [p.y], "*", color="#D55E00", mec="white", ms=13, zorder=5)
    for number, p in enumerate(panel.published, 1):
        edge = COLOURS.get(p.family, OTHER)
        axes.scatter([p.x], [p.y], s=26, facecolors="none", edgecolors=edge, linewidths=1, zorder=2)
        _note(axes, p, str(number), edge, 6)
    axes.margins(0.1)
    axes.set_title(panel.title, fontsize=10, loc="left")
    axes.set_title(", ".join(panel.protocols), fontsize=7, loc="right", color="#555555")
    axes.set_xlabel(panel.x.title)
    axes.set_ylabel(panel.y.title)


def _note(axes: Axes, p: Point, text: str, colour: str, size: int) -> None:
    axes.annotate(text, (p.x, p.y), (3, 3), textcoords="offset points", fontsize=size, color=colour, zorder=6)


def _key(axes: Axes, panel: Panel) -> None:
    """What the numbers beside hollow markers mean, in two columns below the panel."""
    texts = [f"{n} {p.label} ({p.source})" for n, p in enumerate(panel.published, 1)]
    half = -(-len(texts) // 2)
    for x, part in zip((-0.1, 0.48), (texts[:half], texts[half:]), strict=True):
        text = "\n".join(part)
        axes.text(x, -0.16, text, transform=axes.transAxes, va="top", fontsize=KEY_SIZE, color="#555555")


def _legend(drawn: Sequence[Panel], result: Sweep) -> list[Any]:
    colour = COLOURS.get(drawn[0].points[0].family, OTHER)
    handles = [Line2D([], [], marker="o", ms=3, color=colour, label="temperature")]
    if result.recommended:
        handles.append(Line2D([], [], marker="*", ls="", ms=11, color="#D55E00", label="chosen by the rule"))
    if any(panel.published for panel in drawn):
        handles.append(Line2D([], [], marker="o", ls="", mfc="none", color="#555555", label="published"))
    return handles
