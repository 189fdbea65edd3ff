"""`srcli pareto`: which models nothing else beats in both of two metrics."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from srcli.cli import options
from srcli.cli.command import argument, option, single
from srcli.cli.console import Console, table_width
from srcli.cli.options import chosen_format, parse_scales, words
from srcli.errors import ModelError, NothingToDoError, UsageError
from srcli.files import write_atomically

if TYPE_CHECKING:
    from srcli.evaluate.pareto import Axis, Panel
    from srcli.evaluate.published import Figure
    from srcli.evaluate.rows import Row

Form = Literal["auto", "png", "svg", "pdf", "html", "csv", "tex", "json", "table"]
SUFFIXES = {
    ".png": "png", ".svg": "svg", ".pdf": "pdf", ".html": "html", ".csv": "csv", ".tex": "tex",
    ".json": "json", ".txt": "table",
}  # fmt: skip
point = partial(option, panel="Points")
run = partial(option, panel="Measuring models first")
show = partial(option, panel=options.OUTPUT)


@dataclass(frozen=True)
class Request:
    """The options, in the order of their help."""

    files: list[Path] | None = argument("What 'srcli eval' wrote: JSON, JSON lines or CSV.", "FILE...")
    x: str | None = point("Along the bottom (default: psnr, or another that the rows have).", "METRIC")
    y: str | None = point("Along the side (default: lpips, or another that the rows have).", "METRIC")
    cost: Literal["seconds", "params", "memory", "flops"] | None = point("What the size of a marker says.")
    reference: str | None = point("Published points too, drawn hollow.", "builtin|FILE")
    bench: list[str] | None = point("Only these benchmarks.", "-b NAME[,..]")
    scale: str | None = point("Only these scales.", "-s FACTOR[,..]")
    protocol: str | None = point("Only rows measured by this protocol.", "NAME")
    mix_protocols: bool = point("Allow unlike protocols in one panel.")
    model: list[str] | None = run("Measure this model on --bench and add it; repeatable.", "-m NAME|FILE")
    data: Path | None = run("Where the benchmarks are.", "DIR", envvar="SRCLI_DATA_DIR")
    lpips_backbone: Path | None = run("The classifier that LPIPS looks through.")
    limit: int | None = run("Only so many pictures of each set.", min=1)
    device: options.Device = "auto"
    output: list[Path] | None = show(
        "Where to write: .png, .svg, .pdf, .html, .csv, .tex, .json or .txt; repeatable.", "-o"
    )
    format: Form = show("The format, where no suffix says it.", "-f", default="auto")
    front: bool = show("Draw the edge of the front.", "--front/--no-front", default=True)
    hypervolume: bool = show("Print the area that the front dominates.")
    hypervolume_from: str | None = show("Where that area begins (default: the worst values).", "X,Y")
    ci: bool = show("95 % bootstrap intervals of the means.")
    facet: bool = show(
        "All panels in one picture, or a picture for each.", "--facet/--no-facet", default=True
    )
    json: options.Json = False
    progress: options.Progress = "auto"
    quiet: options.Quiet = False


def pareto(request: Request) -> None:
    """Draw fidelity against perception, and name the models that nothing beats in both.

    Panels hold one benchmark at one scale. Without -o the table is printed.

    srcli eval --bench Set5 --metrics psnr-y,ssim -o rows.json

    srcli pareto rows.json --x psnr-y --y ssim -o pareto.png
    """
    from srcli.evaluate.panels import panels

    console = Console(quiet=request.quiet, style=request.progress)
    targets = [(path, chosen_format(request.format, path, SUFFIXES)) for path in request.output or ()]
    figures = _figures(request.reference)
    rows = _chosen(_read(request.files or []), request)
    axes = _axes(request, rows, figures)
    if axes[0].name == axes[1].name:
        raise UsageError(f"--x and --y are both {axes[0].name}.", hint="Choose two metrics.")
    rows += _measured(request, [a.name for a in axes], console)
    cost = request.cost
    if "flops" in (cost, axes[0].name, axes[1].name):
        rows = _counted(rows)
    if rows:
        found = panels(rows, *axes, cost=cost, mix_protocols=request.mix_protocols, intervals=request.ci)
        if cost is not None and all(p.cost is None for panel in found for p in panel.points):
            raise UsageError(f"no row says its {cost}.", hint="Choose another --cost.")
    elif figures is None or not request.bench:
        raise UsageError(
            "No rows to draw.",
            hint="Name files of 'srcli eval', models with --model and --bench, "
            "or published points alone: --reference builtin -b Set5 -s 4",
        )
    else:
        found = _empty(request, *axes)
    if figures is not None:
        found = [_with_published(panel, figures, request) for panel in found]
    if not rows:
        if not any(panel.published for panel in found):
            raise UsageError(f"{'; '.join(note for panel in found for note in panel.notes)}.")
        found = [panel for panel in found if panel.published]
    _show(found, targets, request, console)


def _show(panels: list[Panel], targets: list[tuple[Path, Form]], request: Request, console: Console) -> None:
    if not targets:
        form: Form = "json" if request.json else "table" if request.format == "auto" else request.format
        if form in ("png", "svg", "pdf"):
            raise UsageError(f"--format {form} needs a file.", hint=f"Give -o pareto.{form}.")
        text = _render(panels, form, request, table_width()).decode()
        console.result(text.rstrip("\n"), asked=True)
    for path, form in targets:
        together = request.facet or form in ("csv", "json", "tex", "table")
        for part in [panels] if together else [[panel] for panel in panels]:
            target = path if together or len(panels) == 1 else _beside(path, part[0])
            write_atomically(target, _render(part, form, request))
            console.note(f"wrote {target}")


def _origin(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        x, y = (float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--hypervolume-from takes two numbers, such as 20,0.5, got '{text}'.") from None
    return x, y


# --- rows ---------------------------------------------------------------------------------------------------------


def _read(files: list[Path]) -> list[Row]:
    from srcli.evaluate.rows import read_rows

    for path in files:
        if not path.is_file():
            raise NothingToDoError(f"{path} is no file.", hint="'srcli eval -o rows.json' writes one.")
    return [row for path in files for row in read_rows(path)]


def _axes(request: Request, rows: list[Row], figures: list[Figure] | None) -> tuple[Axis, Axis]:
    """The axes asked for, else the usual ones where every row has them, else others that rows have."""
    from srcli.evaluate.panels import published_on
    from srcli.evaluate.pareto import FIDELITY, PERCEPTION, axis

    named = [axis(word).name for word in (request.x, request.y) if word is not None]
    sets: list[set[str]] = [set(row.metrics) for row in rows]
    if not rows and not request.model and figures is not None:
        empty = _empty(request, axis("psnr"), axis("lpips"))
        sets = [{name for panel in empty for row in published_on(panel, figures) for name in row.values}]
    found = []
    for word, usual in ((request.x, FIDELITY), (request.y, PERCEPTION)):
        if word is None:
            free = [name for name in usual if name not in named]
            there = [name for name in free if all(name in known for known in sets)]
            there += [name for name in free if any(name in known for known in sets)]
            word = next(iter(there), free[0])
            named.append(word)
        found.append(axis(word))
    return found[0], found[1]


def _empty(request: Request, x: Axis, y: Axis) -> list[Panel]:
    from srcli.data.benchmarks import find_spec
    from srcli.evaluate.pareto import Panel

    specs = [find_spec(name) for name in words(*(request.bench or ()))]
    return [
        Panel(spec.title, scale, "given", x, y, [], usual=request.protocol or f"{spec.protocol}/1")
        for spec in specs
        for scale in parse_scales(request.scale)
    ]


def _chosen(rows: list[Row], request: Request) -> list[Row]:
    names = {_title(word).lower() for word in words(*(request.bench or ()))}
    factors, protocol = parse_scales(request.scale) if request.scale else [], request.protocol
    kept = [
        row
        for row in rows
        if (not names or row.benchmark.lower() in names)
        and (not factors or row.scale in factors)
        and (protocol is None or protocol in (row.protocol, row.protocol.partition("/")[0]))
    ]
    if rows and not kept:
        there = dict.fromkeys(f"{r.benchmark} x{r.scale:g} by {r.protocol}" for r in rows)
        raise UsageError(
            "no row is of that benchmark, scale and protocol.", hint=f"There are: {'; '.join(there)}."
        )
    return kept


def _title(name: str) -> str:
    from srcli.data.benchmarks import find_spec

    try:
        return find_spec(name).title
    except UsageError:
        return name


def _measured(request: Request, metrics: list[str], console: Console) -> list[Row]:
    if not request.model:
        return []
    from srcli.cli.evaluation_output import benchmarks, evaluation_progress, finish, use_backbone
    from srcli.evaluate.models import distinct_names, open_model
    from srcli.evaluate.rows import RowCache
    from srcli.evaluate.run import evaluate
    from srcli.metrics import METRICS, find_metrics

    if not request.bench:
        raise UsageError("--model needs benchmarks to measure it on.", hint="Add --bench Set5, for example.")
    use_backbone(request.lpips_backbone)
    wanted = find_metrics([name for name in metrics if name in METRICS])
    for metric in wanted:
        if missing := metric.missing(asked=True):
            raise ModelError(
                f"{metric.name} cannot be measured: {missing}", hint="Or choose others: --x, --y."
            )
    opened = [open_model(name, device=request.device) for name in dict.fromkeys(request.model)]
    distinct_names(opened)
    with evaluation_progress(console) as report:
        found = evaluate(
            opened,
            benchmarks(request.bench, request.data),
            parse_scales(request.scale),
            protocol=request.protocol,
            metrics=wanted,
            limit=request.limit,
            cache=RowCache(),
            report=report,
        )
    finish(found, {})
    return found.rows


def _counted(rows: list[Row]) -> list[Row]:
    """Rows with their operations, where the model is a preset and the file does not say them."""
    from srcli.evaluate.cost import flops

    found = []
    for row in rows:
        count = None if "flops" in row.metrics else flops(row)
        found.append(row if count is None else replace(row, metrics=row.metrics | {"flops": count}))
    return found


def _figures(reference: str | None) -> list[Figure] | None:
    """The published figures of --reference, if that is given."""
    from srcli.evaluate.published import published, read_figures

    if reference is None:
        return None
    return published() if reference == "builtin" else read_figures(Path(reference))


def _with_published(panel: Panel, figures: list[Figure], request: Request) -> Panel:
    from srcli.evaluate.panels import published_points

    points = published_points(panel, figures)
    if points:
        part = ["published points are means over the whole set, the others over --limit pictures of it"]
        return replace(panel, published=points, notes=[*panel.notes, *(part if request.limit else [])])
    missing = f"no table prints {panel.x.name} and {panel.y.name} of {panel.benchmark} x{panel.scale:g} alike"
    return replace(panel, notes=[*panel.notes, missing])


# --- writing ------------------------------------------------------------------------------------------------------


def _beside(path: Path, panel: Panel) -> Path:
    lr = "" if panel.lr == "given" else "_made"
    return path.with_stem(f"{path.stem}_{panel.benchmark}_x{panel.scale:g}{lr}")


def _render(panels: list[Panel], form: Form, request: Request, width: int | None = None) -> bytes:
    from srcli.evaluate import rows as report
    from srcli.evaluate.pareto import document, page, panel_table, point_tables
    from srcli.evaluate.tables import table_text

    origin = _origin(request.hypervolume_from)
    if form == "json":
        return (report.json_text(document(panels, origin=origin)) + "\n").encode()
    if form == "csv":
        return report.csv_text(point_tables(panels)).encode()
    tables = [
        panel_table(panel, hypervolume=request.hypervolume or origin is not None, origin=origin)
        for panel in panels
    ]
    if form in ("tex", "table"):
        chosen: Literal["latex", "table"] = "latex" if form == "tex" else "table"
        return "\n".join(table_text(table, chosen, width) for table in tables).encode()
    from srcli.evaluate.plots import pareto_picture

    if form == "html":
        svg = pareto_picture(panels, "svg", front=request.front)
        return page(svg.decode(), tables).encode()
    assert form in ("png", "svg", "pdf")
    return pareto_picture(panels, form, front=request.front)


app = single(pareto, Request)
