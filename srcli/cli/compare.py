"""`srcli compare`: two pictures beside each other, or one picture by several models."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srcli.cli import options
from srcli.cli.command import argument, option, single
from srcli.cli.console import Console
from srcli.errors import CheckError, UsageError, suggest
from srcli.files import write_atomically

if TYPE_CHECKING:
    from srcli.evaluate.compare import U8, Column, Crop, Measured, Picture
    from srcli.metrics import Metric

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".avif")
PAGES = (".html", ".htm")
MOST_COLUMNS = 50
Check = tuple[str, str, float]

pair = partial(option, panel="Two pictures")
grid = partial(option, panel="One picture, several models")
BASIC = (
    "metrics", "fail_over", "html", "model", "scale", "downscale", "crop", "output", "overwrite", "device", "json", "quiet"
)  # fmt: skip


@dataclass(frozen=True)
class Request:
    """The options, in the order of their help."""

    files: list[Path] = argument(
        "Two pictures and the truth, or one picture with --model.", "A B [REF] | PHOTO"
    )
    metrics: str | None = pair("What to measure (default: psnr,psnr-y,ssim,spectrum,hist-w1).", "NAME[,..]")
    fail_over: list[str] | None = pair(
        "Exit with 7 if this is so, as in 'psnr<30' or 'hist-w1>2'; repeatable.", "METRIC<VALUE"
    )
    histogram: bool = pair("Histograms below the pictures, and how far apart they are.")
    html: Path | None = pair("A page with a slider between any two of the pictures; also -o FILE.html.")
    model: list[str] | None = grid(
        "A preset, a weights file, or nearest, bilinear, bicubic, lanczos; repeatable, a row each.",
        "-m NAME|FILE",
    )
    scale: str | None = grid("A column each (default: that of --downscale, or 4).", "-s FACTOR[,..]")
    downscale: str | None = grid(
        "Reduce the picture first, by bicubic interpolation, so that there is a truth.", "FACTOR[,..]"
    )
    temps: str | None = grid("Temperatures of the noise, a column each: 0,0.5,1 or 0,.2,..,1.", "T[,..]")
    seed: options.Seed = 0
    crop: list[str] | None = option("A part to show enlarged; repeatable for two pictures.", "X,Y,W,H")
    output: list[Path] | None = option("Where to write: a picture, or a page (.html); repeatable.", "-o")
    overwrite: options.Overwrite = False
    device: options.Device = "auto"
    precision: options.Precision = "auto"
    tile: options.Tile = "auto"
    json: options.Json = False
    quiet: options.Quiet = False


def compare(request: Request) -> None:
    """Compare two pictures, or one picture enlarged by several models.

    srcli compare before.png after.png -o look.html

    srcli compare ours.png theirs.png truth.png --crop 40,60,32,32 -o side.png

    srcli compare photo.png -m rlfn-native -m bicubic --downscale 2,3 -o grid.png
    """
    from srcli.evaluate.compare import parse_crop

    console = Console(quiet=request.quiet)
    targets = [*(request.output or ()), *([request.html] if request.html else ())]
    _check_targets(targets, overwrite=request.overwrite)
    crops = [parse_crop(text) for text in request.crop or ()]
    if request.model:
        if len(request.files) != 1:
            raise UsageError(f"--model takes one picture, got {len(request.files)}.")
        if request.metrics or request.fail_over or request.histogram or len(crops) > 1:
            raise UsageError("--metrics, --fail-over, --histogram and a second --crop go with two pictures.")
        _grid(request, crops, targets, console)
        return
    if request.scale or request.downscale or request.temps:
        raise UsageError("--scale, --downscale and --temps go with --model.", hint="Name one: -m bicubic")
    if len(request.files) not in (2, 3):
        raise UsageError(
            f"Give two pictures, or two and the truth; got {len(request.files)}.", hint="Or add --model."
        )
    _pair(request, crops, targets, console)


# --- two pictures -------------------------------------------------------------------------------------------------


def _pair(request: Request, crops: list[Crop], targets: list[Path], console: Console) -> None:
    from srcli.evaluate.compare import (
        check_crop,
        check_sizes,
        cut,
        distinct_labels,
        load_picture,
        measured,
        numbers_text,
        same_size,
    )
    from srcli.evaluate.contact_sheet import page
    from srcli.metrics import find_protocol

    checks = [_check(text) for text in request.fail_over or ()]
    metrics = _metrics(request.metrics, checks)
    histogram = request.histogram
    a, b, *rest = distinct_labels([load_picture(path) for path in request.files], request.files)
    if rest:
        check_sizes((a, b), rest[0])
    else:
        a, b = same_size(a, b)
    pictures = [a, b, *rest]
    for one in crops:
        check_crop(one, a.size)
    protocol = find_protocol("rgb")
    pairs = [(a, rest[0]), (b, rest[0]), (a, b)] if rest else [(a, b)]
    numbers = [measured(x, y, metrics, protocol) for x, y in pairs]
    for note in (f"{p.label}: {note}" for p in pictures for note in p.notes):
        console.note(note)
    console.result(numbers_text(numbers, protocol.label, a.size, json=request.json).rstrip("\n"), asked=True)
    for m in numbers if histogram and not request.json else ():
        console.result(_histogram_line(m), asked=True)
    shown = pictures
    if len(crops) == 1:
        shown = [replace(p, pixels=cut(p.pixels, crops[0])) for p in pictures]
    _write(
        targets,
        lambda: _side_by_side(pictures, crops, numbers, histogram=histogram),
        lambda: page(shown, numbers),
        console,
    )
    _hold(checks, numbers[:2] if rest else numbers)


def _side_by_side(
    pictures: list[Picture], crops: list[Crop], numbers: list[Measured], *, histogram: bool
) -> U8:
    from srcli.evaluate.compare import difference, histograms
    from srcli.evaluate.contact_sheet import histogram_plot, side_by_side

    shown, gain = difference(pictures[0].pixels, pictures[1].pixels)
    panels = [(p.label, p.pixels) for p in pictures]
    panels.append((f"difference, {gain} times", shown))
    captions = [
        f"{m.of} to {m.to}: " + ", ".join(f"{name} {value:.4g}" for name, value in m.values.items())
        for m in numbers
    ]
    plots = []
    if histogram:
        shares = [histograms(p.pixels) for p in pictures]
        plots = [histogram_plot(shares, channel) for channel in range(3)]
        colours = ("blue", "orange", "black")
        captions += [_histogram_line(m) for m in numbers]
        captions.append(
            "histograms: " + ", ".join(f"{c} {p.label}" for c, p in zip(colours, pictures, strict=False))
        )
    return side_by_side(panels, crops, plots=plots, captions=captions)


def _histogram_line(m: Measured) -> str:
    red, green, blue = m.histograms
    return f"histograms of {m.of} to {m.to}: red {red:.2f}, green {green:.2f}, blue {blue:.2f} levels apart"


def _metrics(text: str | None, checks: list[Check]) -> list[Metric]:
    from srcli.errors import ModelError
    from srcli.evaluate.compare import DEFAULT_METRICS
    from srcli.metrics import find_metrics

    names = DEFAULT_METRICS if text is None else tuple(word for word in text.split(",") if word.strip())
    chosen = find_metrics([*names, *(check[0] for check in checks)])
    for metric in chosen:
        if metric.needs - {"hr"}:
            raise UsageError(f"{metric.name} cannot be measured between two pictures.")
        if missing := metric.missing():
            raise ModelError(missing)
    return chosen


def _check(text: str) -> Check:
    from srcli.metrics import find_metrics

    found = re.fullmatch(r"\s*([\w-]+)\s*([<>])\s*([-+.\w]+)\s*", text)
    try:
        if found:
            return find_metrics([found[1]])[0].name, found[2], float(found[3])
    except ValueError:
        pass
    raise UsageError(
        f"--fail-over takes METRIC<VALUE or METRIC>VALUE, got '{text}'.", hint="Quote it: 'psnr<30'"
    )


def _hold(checks: list[Check], numbers: list[Measured]) -> None:
    problems = [
        f"{name} of {m.of} to {m.to} is {m.values[name]:.4g}, {sign} {limit:g}"
        for name, sign, limit in checks
        for m in numbers
        if (m.values[name] < limit if sign == "<" else m.values[name] > limit)
    ]
    if problems:
        raise CheckError(f"--fail-over: {'; '.join(problems)}.")


# --- one picture --------------------------------------------------------------------------------------------------


def _grid(request: Request, crops: list[Crop], targets: list[Path], console: Console) -> None:
    from srcli.evaluate.compare import Crop, check_crop, enlarge_all, load_picture, results_text
    from srcli.evaluate.contact_sheet import draw_grid, enlarged_pictures, page
    from srcli.evaluate.models import distinct_names, open_model

    columns = _columns(request.scale, request.downscale, request.temps)
    if len({column.scale for column in columns}) > 1 and any(t.suffix.lower() in PAGES for t in targets):
        raise UsageError("a page shows pictures of one size.", hint="Give one --scale.")
    photo = load_picture(request.files[0])
    crop = crops[0] if crops else Crop(0, 0, photo.size[1], photo.size[0])
    check_crop(crop, photo.size)
    running: dict[str, Any] = {"device": request.device, "precision": request.precision, "tile": request.tile}
    models = [open_model(name, **running) for name in dict.fromkeys(request.model or ())]
    distinct_names(models)
    for note in photo.notes:
        console.note(f"{photo.label}: {note}")
    found = enlarge_all(
        photo.pixels,
        models,
        columns,
        crop,
        seed=request.seed,
        report=lambda name, column: console.note(f"{name} {column.head}"),
    )
    console.result(results_text(found, json=request.json).rstrip("\n"), asked=True)
    _write(
        targets,
        lambda: draw_grid(found, photo.pixels, crop, photo.label),
        lambda: page(enlarged_pictures(found), ()),
        console,
    )


def _columns(scale: str | None, downscale: str | None, temps: str | None) -> list[Column]:
    """What the columns are: scales, reductions or temperatures; only one of them may be a list."""
    from srcli.evaluate.compare import Column

    scales = options.parse_scales(scale) if scale else []
    reductions = options.parse_scales(downscale) if downscale else []
    temperatures = parse_series(temps)
    if min([*reductions, 2]) <= 1:
        raise UsageError(f"--downscale {downscale}: reducing needs a factor above 1.")
    if sum(len(values) > 1 for values in (scales, reductions, temperatures)) > 1:
        raise UsageError("Only one of --scale, --downscale and --temps can be a list: it makes the columns.")
    pairs: list[tuple[float, float | None]]
    if reductions and not scales:
        pairs = [(factor, factor) for factor in reductions]
    else:
        pairs = [(s, d) for s in scales or options.parse_scales(None) for d in (reductions or (None,))]
    return [Column(s, d, t) for s, d in pairs for t in (temperatures or (None,))]


def parse_series(text: str | None) -> list[float]:
    """Numbers; ``..`` continues with the step of the two before it up to the one after it."""
    words = options.words(text)
    try:
        if ".." not in words:
            return [float(word) for word in words]
        at = words.index("..")
        first, second, last = float(words[at - 2]), float(words[at - 1]), float(words[at + 1])
        count = round((last - second) / (second - first))
        if at < 2 or not 0 < count <= MOST_COLUMNS:
            raise ValueError
        middle = [round(second + (second - first) * i, 9) for i in range(1, count)]
        return [*map(float, words[:at]), *middle, *map(float, words[at + 1 :])]
    except (ValueError, IndexError, ZeroDivisionError):
        raise UsageError(f"--temps takes numbers such as 0,0.5,1 or 0,.2,..,1, got '{text}'.") from None


# --- writing ------------------------------------------------------------------------------------------------------


def _check_targets(targets: list[Path], *, overwrite: bool) -> None:
    known = (*PICTURES, *PAGES)
    for target in targets:
        if target.suffix.lower() not in known:
            raise UsageError(
                f"cannot write {target}: its suffix is not known here.", hint=suggest(target.suffix, known)
            )
        options.check_free(target, overwrite=overwrite)


def _write(targets: list[Path], picture: Callable[[], U8], page: Callable[[], str], console: Console) -> None:
    from PIL import Image

    from srcli.image.formats import find_format

    for target in targets:
        content = BytesIO()
        if target.suffix.lower() in PAGES:
            content.write(page().encode())
        else:
            form = find_format(target.suffix.lstrip(".")).name
            Image.fromarray(picture()).save(content, {"jpg": "jpeg"}.get(form, form), quality=95)
        write_atomically(target, content.getvalue())
        console.note(f"wrote {target}")


app = single(compare, Request, basic=BASIC)
