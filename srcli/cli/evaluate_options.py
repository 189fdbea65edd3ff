"""Option types of `srcli eval`; what it shares with other commands is in `options`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from srcli.config.presets import DEFAULT_PRESET

WHAT, HOW, SHOW, RUN = "What", "How", "Output", "Running"

how = partial(typer.Option, show_default=False, rich_help_panel=HOW)
show = partial(typer.Option, show_default=False, rich_help_panel=SHOW)
what = partial(typer.Option, show_default=False, rich_help_panel=WHAT)

# --- what ---------------------------------------------------------------------------------------------------------

Bench = Annotated[
    list[str] | None,
    what("--bench", "-b", metavar="NAME[,..]|all", help="Benchmarks; see 'srcli bench list'."),
]
Data = Annotated[
    Path | None,
    what("--data", metavar="DIR", help="Where the benchmarks are; without --bench, a folder of HR pictures."),
]
LR = Annotated[
    Path | None,
    what("--lr", metavar="DIR", help="LR pictures for those in --data, of the same names."),
]
Pred = Annotated[
    Path | None,
    what("--pred", metavar="DIR", help="Score these pictures, whatever made them, against --ref."),
]
Ref = Annotated[
    Path | None,
    what("--ref", metavar="DIR", help="HR pictures for --pred."),
]
AllowMissing = Annotated[
    bool,
    typer.Option(
        "--allow-missing",
        help="With --pred: leave out pictures of --ref without a result, and say how many.",
        rich_help_panel=WHAT,
    ),
]
Models = Annotated[
    list[str] | None,
    what(
        "--model",
        "-m",
        metavar="NAME|FILE",
        help="A preset, a weights file, or nearest, bilinear, bicubic, lanczos; repeatable.  "
        f"[default: {DEFAULT_PRESET} and bicubic]",
    ),
]
Scales = Annotated[
    str | None,
    what("--scale", "-s", metavar="FACTOR[,..]", help="Scales.  [default: 4]"),
]
Limit = Annotated[
    int | None,
    what(min=1, help="Only so many pictures of each set."),
]

# --- how ----------------------------------------------------------------------------------------------------------

ProtocolName = Annotated[
    str | None,
    how(
        "--protocol",
        metavar="NAME",
        help="How to measure; NAME+8bit and NAME+float change the rounding.  [default: each benchmark's own]",
    ),
]
Metrics = Annotated[
    str | None,
    how("--metrics", metavar="NAME[,..]", help="What to measure.  [default: psnr,psnr-y,ssim,lr-psnr]"),
]
LpipsBackbone = Annotated[
    Path | None,
    how(
        "--lpips-backbone",
        metavar="FILE",
        help="The classifier that LPIPS looks through, where 'srcli models pull metrics' has not fetched it.",
    ),
]
ListMetrics = Annotated[
    bool, typer.Option("--list-metrics", help="Name metrics and protocols, and end.", rich_help_panel=HOW)
]
Temperatures = Annotated[
    str,
    how(
        "--temperature",
        "--temps",
        "-T",
        metavar="T[,..]|FIRST:LAST:STEP",
        help="For models that draw noise.  [default: auto, the model's own for the scale]",
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
    how("--steps", metavar="N[,..]", help="Sampling steps, for diffusion models."),
]
Sampler = Annotated[
    str | None,
    how(
        metavar="NAME",
        help="ddim, ddpm, dpm++, dpm++-sde, unipc or euler, for diffusion models.  [default: the model's own]",
    ),
]
Eta = Annotated[
    float | None,
    how(metavar="E", help="Fresh noise in the steps of ddim."),
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
    how(
        "--branch", metavar="f,p,pf,fp,selected", help="Measure branches of FPLIA's decoder, each as a model."
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
NoLimit = Annotated[
    bool,
    typer.Option(
        "--no-limit",
        help="Compare networks as they are: leave their own pictures beyond the limits of 'upscale'.",
        rich_help_panel=HOW,
    ),
]
Stats = Annotated[
    str,
    how("--stats", metavar="bootstrap,wilcoxon", help="Intervals of the means, and a test between models."),
]
Reference = Annotated[
    str | None,
    how("--reference", metavar="builtin|FILE", help="Published figures beside ours."),
]
ListReferences = Annotated[
    bool, typer.Option("--list-references", help="Name the published tables, and end.", rich_help_panel=HOW)
]
GroupBy = Annotated[
    Literal["family"] | None,
    how("--group-by", help="Gains in percent against the best of each family."),
]
FailUnder = Annotated[
    list[str] | None,
    how(
        "--fail-under",
        metavar="METRIC=VALUE",
        help="Exit with 7 if the mean of a model is worse; repeatable. Interpolations are exempt.",
    ),
]
Timing = Annotated[
    int | None,
    how(
        "--timing",
        min=1,
        metavar="N",
        help="Only measure time and memory: N runs after a warm-up, no benchmark.",
    ),
]
TimingSize = Annotated[
    str, typer.Option("--size", metavar="WxH", help="LR size for --timing.", rich_help_panel=HOW)
]

# --- output -------------------------------------------------------------------------------------------------------

OutputFile = Annotated[
    Path | None,
    show("--output", "-o", metavar="FILE", help="Write there instead of to stdout."),
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
    show("--save-images", metavar="DIR", help="Keep the results as PNG."),
]
Cache = Annotated[
    bool, typer.Option("--cache/--no-cache", help="Take rows that were measured before.", rich_help_panel=RUN)
]
