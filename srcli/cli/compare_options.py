"""Option types of `srcli compare`; what it shares with other commands is in `options`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

PAIR, GRID = "Two pictures", "One picture, several models"

pair = partial(typer.Option, show_default=False, rich_help_panel=PAIR)
grid = partial(typer.Option, show_default=False, rich_help_panel=GRID)

Files = Annotated[
    list[Path],
    typer.Argument(
        metavar="A B [REF] | PHOTO", help="Two pictures and the truth, or one picture with --model."
    ),
]
Metrics = Annotated[
    str | None,
    pair(
        "--metrics",
        metavar="NAME[,..]",
        help="What to measure.  [default: psnr,psnr-y,ssim,spectrum,hist-w1]",
    ),
]
FailOver = Annotated[
    list[str] | None,
    pair(
        "--fail-over",
        metavar="'METRIC<VALUE'",
        help="Exit with 7 if this is so, as in 'psnr<30' or 'hist-w1>2'; repeatable.",
    ),
]
Histogram = Annotated[
    bool,
    typer.Option(
        "--histogram", help="Histograms below the pictures, and how far apart they are.", rich_help_panel=PAIR
    ),
]
Html = Annotated[
    Path | None,
    pair("--html", metavar="FILE", help="A page with a slider between the two; also -o FILE.html."),
]
Models = Annotated[
    list[str] | None,
    grid(
        "--model",
        "-m",
        metavar="NAME|FILE",
        help="A preset, a weights file, or nearest, bilinear, bicubic, lanczos; repeatable, a row each.",
    ),
]
Scales = Annotated[
    str | None,
    grid("--scale", "-s", metavar="FACTOR[,..]", help="A column each.  [default: that of --downscale, or 4]"),
]
Downscale = Annotated[
    str | None,
    grid(
        "--downscale",
        metavar="FACTOR[,..]",
        help="Reduce the picture first, by bicubic interpolation, so that there is a truth.",
    ),
]
Temps = Annotated[
    str | None,
    grid("--temps", metavar="T[,..]", help="Temperatures of the noise, a column each: 0,0.5,1 or 0,.2,..,1."),
]
Crops = Annotated[
    list[str] | None,
    typer.Option(
        "--crop",
        metavar="X,Y,W,H",
        help="A part to show enlarged; repeatable for two pictures.",
        show_default=False,
    ),
]
Outputs = Annotated[
    list[Path] | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Where to write: a picture, or .html for two pictures; repeatable.",
        show_default=False,
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")]
Json = Annotated[bool, typer.Option("--json", help="Numbers as JSON.")]
