"""Option types of `srcli eval`; what it shares with other commands is in `options`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from srcli.presets import DEFAULT_PRESET

WHAT, HOW, SHOW, RUN = "What", "How", "Output", "Running"

# --- what ---------------------------------------------------------------------------------------------------------

Bench = Annotated[
    list[str] | None,
    typer.Option(
        "--bench",
        "-b",
        metavar="NAME[,..]|all",
        help="Benchmarks; see 'srcli bench list'.",
        show_default=False,
        rich_help_panel=WHAT,
    ),
]
Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        help="Where the benchmarks are; without --bench, a folder of HR pictures.",
        show_default=False,
        rich_help_panel=WHAT,
    ),
]
LR = Annotated[
    Path | None,
    typer.Option(
        "--lr",
        metavar="DIR",
        help="LR pictures for those in --data, of the same names.",
        show_default=False,
        rich_help_panel=WHAT,
    ),
]
Pred = Annotated[
    Path | None,
    typer.Option(
        "--pred",
        metavar="DIR",
        help="Score these pictures, whatever made them, against --ref.",
        show_default=False,
        rich_help_panel=WHAT,
    ),
]
Ref = Annotated[
    Path | None,
    typer.Option(
        "--ref", metavar="DIR", help="HR pictures for --pred.", show_default=False, rich_help_panel=WHAT
    ),
]
Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME|FILE",
        help="A preset, a weights file, or nearest, bilinear, bicubic, lanczos; repeatable.  "
        f"[default: {DEFAULT_PRESET} and bicubic]",
        show_default=False,
        rich_help_panel=WHAT,
    ),
]
Scales = Annotated[
    str | None,
    typer.Option(
        "--scale",
        "-s",
        metavar="FACTOR[,..]",
        help="Scales.  [default: 4]",
        show_default=False,
        rich_help_panel=WHAT,
    ),
]
Limit = Annotated[
    int | None,
    typer.Option(min=1, help="Only so many pictures of each set.", show_default=False, rich_help_panel=WHAT),
]

# --- how ----------------------------------------------------------------------------------------------------------

ProtocolName = Annotated[
    str | None,
    typer.Option(
        "--protocol",
        metavar="NAME",
        help="How to measure; NAME+8bit and NAME+float change the rounding.  [default: each benchmark's own]",
        show_default=False,
        rich_help_panel=HOW,
    ),
]
Metrics = Annotated[
    str | None,
    typer.Option(
        "--metrics",
        metavar="NAME[,..]",
        help="What to measure.  [default: psnr,psnr-y,ssim,lr-psnr]",
        show_default=False,
        rich_help_panel=HOW,
    ),
]
ListMetrics = Annotated[
    bool, typer.Option("--list-metrics", help="Name metrics and protocols, and end.", rich_help_panel=HOW)
]
Temperatures = Annotated[
    str,
    typer.Option(
        "--temperature",
        "--temps",
        "-T",
        metavar="T[,..]|FIRST:LAST:STEP",
        help="For models that draw noise.  [default: auto, the model's own for the scale]",
        show_default=False,
        rich_help_panel=HOW,
    ),
]
Seeds = Annotated[
    int,
    typer.Option(
        "--seeds", min=1, help="Results per picture, for models that draw noise.", rich_help_panel=HOW
    ),
]
Steps = Annotated[
    str,
    typer.Option(
        "--steps",
        metavar="N[,..]",
        help="Sampling steps, for diffusion models.",
        show_default=False,
        rich_help_panel=HOW,
    ),
]
Sampler = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="ddim, ddpm, dpm++, dpm++-sde, unipc or euler, for diffusion models.  [default: the model's own]",
        show_default=False,
        rich_help_panel=HOW,
    ),
]
Eta = Annotated[
    float | None,
    typer.Option(
        metavar="E", help="Fresh noise in the steps of ddim.", show_default=False, rich_help_panel=HOW
    ),
]
Average = Annotated[
    int, typer.Option(metavar="K", help="The mean of K samples of diffusion models.", rich_help_panel=HOW)
]
Official = Annotated[
    bool,
    typer.Option("--official", help="Sample diffusion models as their authors do.", rich_help_panel=HOW),
]
Branches = Annotated[
    str,
    typer.Option(
        "--branch",
        metavar="f,p,pf,fp,selected",
        help="Measure branches of FPLIA's decoder, each as a model.",
        show_default=False,
        rich_help_panel=HOW,
    ),
]
SelectionStats = Annotated[
    bool,
    typer.Option(
        "--selection-stats",
        help="Count which branch of FPLIA's decoder answers how many pixels, beside the paper.",
        rich_help_panel=HOW,
    ),
]
Tta = Annotated[
    bool, typer.Option("--tta", help="Average over the eight flips and rotations.", rich_help_panel=HOW)
]
Stats = Annotated[
    str,
    typer.Option(
        "--stats",
        metavar="bootstrap,wilcoxon",
        help="Intervals of the means, and a test between models.",
        show_default=False,
        rich_help_panel=HOW,
    ),
]
Reference = Annotated[
    str | None,
    typer.Option(
        "--reference",
        metavar="builtin|FILE",
        help="Published figures beside ours.",
        show_default=False,
        rich_help_panel=HOW,
    ),
]
ListReferences = Annotated[
    bool, typer.Option("--list-references", help="Name the published tables, and end.", rich_help_panel=HOW)
]
GroupBy = Annotated[
    Literal["family"] | None,
    typer.Option(
        "--group-by",
        help="Gains in percent against the best of each family.",
        show_default=False,
        rich_help_panel=HOW,
    ),
]
FailUnder = Annotated[
    list[str] | None,
    typer.Option(
        "--fail-under",
        metavar="METRIC=VALUE",
        help="Exit with 7 if the mean of a model is worse; repeatable. Interpolations are exempt.",
        show_default=False,
        rich_help_panel=HOW,
    ),
]
Timing = Annotated[
    int | None,
    typer.Option(
        "--timing",
        min=1,
        metavar="N",
        help="Only measure time and memory: N runs after a warm-up, no benchmark.",
        show_default=False,
        rich_help_panel=HOW,
    ),
]
TimingSize = Annotated[
    str, typer.Option("--size", metavar="WxH", help="LR size for --timing.", rich_help_panel=HOW)
]

# --- output -------------------------------------------------------------------------------------------------------

OutputFile = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Write there instead of to stdout.",
        show_default=False,
        rich_help_panel=SHOW,
    ),
]
Format = Annotated[
    Literal["auto", "table", "json", "jsonl", "csv", "md", "latex"],
    typer.Option(
        "--format",
        "-f",
        help="auto is that of --output, else table; jsonl and csv have one row per picture.",
        rich_help_panel=SHOW,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Same as --format json.", rich_help_panel=SHOW)]
PerImage = Annotated[
    bool, typer.Option("--per-image", help="A line for every picture, too.", rich_help_panel=SHOW)
]
SaveImages = Annotated[
    Path | None,
    typer.Option(
        "--save-images",
        metavar="DIR",
        help="Keep the results as PNG.",
        show_default=False,
        rich_help_panel=SHOW,
    ),
]
Cache = Annotated[
    bool, typer.Option("--cache/--no-cache", help="Take rows that were measured before.", rich_help_panel=RUN)
]
