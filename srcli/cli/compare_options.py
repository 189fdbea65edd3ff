"""Option types of `srcli compare`; what it shares with other commands is in `options`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

PAIR, GRID = "Two pictures", "One picture, several models"

Files = Annotated[
    list[Path],
    typer.Argument(
        metavar="A B [REF] | PHOTO", help="Two pictures and the truth, or one picture with --model."
    ),
]
Metrics = Annotated[
    str | None,
    typer.Option(
        "--metrics",
        metavar="NAME[,..]",
        help="What to measure.  [default: psnr,psnr-y,ssim,spectrum,hist-w1]",
        show_default=False,
        rich_help_panel=PAIR,
    ),
]
FailOver = Annotated[
    list[str] | None,
    typer.Option(
        "--fail-over",
        metavar="'METRIC<VALUE'",
        help="Exit with 7 if this is so, as in 'psnr<30' or 'hist-w1>2'; repeatable.",
        show_default=False,
        rich_help_panel=PAIR,
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
    typer.Option(
        "--html",
        metavar="FILE",
        help="A page with a slider between the two; also -o FILE.html.",
        show_default=False,
        rich_help_panel=PAIR,
    ),
]
Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME|FILE",
        help="A preset, a weights file, or nearest, bilinear, bicubic, lanczos; repeatable, a row each.",
        show_default=False,
        rich_help_panel=GRID,
    ),
]
Scales = Annotated[
    str | None,
    typer.Option(
        "--scale",
        "-s",
        metavar="FACTOR[,..]",
        help="A column each.  [default: that of --downscale, or 4]",
        show_default=False,
        rich_help_panel=GRID,
    ),
]
Downscale = Annotated[
    str | None,
    typer.Option(
        "--downscale",
        metavar="FACTOR[,..]",
        help="Reduce the picture first, by bicubic interpolation, so that there is a truth.",
        show_default=False,
        rich_help_panel=GRID,
    ),
]
Temps = Annotated[
    str | None,
    typer.Option(
        "--temps",
        metavar="T[,..]",
        help="Temperatures of the noise, a column each: 0,0.5,1 or 0,.2,..,1.",
        show_default=False,
        rich_help_panel=GRID,
    ),
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
