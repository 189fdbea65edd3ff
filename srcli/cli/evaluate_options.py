"""Option types of `srcli eval`; what it shares with other commands is in `options`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from srcli.cli import options
from srcli.config.presets import DEFAULT_PRESET, Preset
from srcli.config.sampling import Sampling, checked_steps, choose_sampling, is_sampled
from srcli.errors import UsageError

if TYPE_CHECKING:
    from srcli.evaluate.models import Model

MOVED = {  # earlier options, and what to write now
    "--sampler": "--sampling sampler={}",
    "--eta": "--sampling eta={}",
    "--average": "--sampling average={}",
}

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


@dataclass(frozen=True)
class Request:
    """The options, in the order of their help."""

    bench: Bench = None
    data: Data = None
    lr: LR = None
    pred: Pred = None
    ref: Ref = None
    allow_missing: AllowMissing = False
    model: Models = None
    scale: Scales = None
    limit: Limit = None
    protocol: ProtocolName = None
    metrics: Metrics = None
    lpips_backbone: LpipsBackbone = None
    list_metrics: ListMetrics = False
    temperature: Temperatures = ""
    seeds: Seeds = 1
    steps: Steps = ""
    sampling: options.SamplingWords = None
    official: Official = False
    branch: Branches = ""
    selection_stats: SelectionStats = False
    tta: Tta = False
    no_limit: NoLimit = False
    stats: Stats = ""
    reference: Reference = None
    list_references: ListReferences = False
    group_by: GroupBy = None
    fail_under: FailUnder = None
    timing: Timing = None
    size: TimingSize = "128x128"
    output: OutputFile = None
    format: Format = "auto"
    json: Json = False
    per_image: PerImage = False
    save_images: SaveImages = None
    cache: Cache = True
    device: options.Device = "auto"
    precision: options.Precision = "auto"
    tile: options.Tile = "auto"
    quiet: options.Quiet = False


def asked_steps(request: Request) -> list[int]:
    """The numbers of steps."""
    try:
        return [int(word) for word in options.words(request.steps)]
    except ValueError:
        raise UsageError(f"--steps takes whole numbers, got '{request.steps}'.") from None


def asked_sampling(request: Request, preset: Preset) -> Sampling | None:
    """How a preset is sampled; None for one that samples nothing."""
    if not is_sampled(preset) or preset.diffusion is None:
        return None
    steps = asked_steps(request)
    if request.official and steps:
        raise UsageError("--official settles the steps.", hint="Leave out --steps.")
    for count in steps:
        checked_steps(count, preset.diffusion)
    asked = options.parse_sampling(preset, request.sampling, steps=False, official=request.official)
    return asked or choose_sampling(preset)


def asked_branches(request: Request, name: str) -> list[str | None]:
    """The branches of a model that are measured, None for the one that it chooses; other models have one."""
    from srcli.engine.branch_map import parse_branch
    from srcli.evaluate.models import INTERPOLATIONS
    from srcli.weights.build import branches_of
    from srcli.weights.files import resolve

    if not request.branch or name in INTERPOLATIONS:
        return [None]
    preset = resolve(name)
    if not branches_of(preset):
        return [None]
    return [parse_branch(preset, word) for word in options.words(request.branch)]


def check_sampling(request: Request, models: Sequence[Model]) -> None:
    """Refuse options that none of the models has a use for."""
    given = {
        "--sampling": bool(request.sampling),
        "--official": request.official,
        "--steps": bool(request.steps),
    }
    asked = [option for option, present in given.items() if present]
    if asked and all(model.family != "diffusion" for model in models):
        raise UsageError(f"{asked[0]}: none of these models is a diffusion model.")
    if request.branch and all("/" not in model.name for model in models):
        words = {word.strip() for word in request.branch.split(",")}
        if words != {"selected"}:
            raise UsageError("--branch: none of these models has branches.")
    if request.selection_stats and request.tta:
        raise UsageError("--selection-stats: a mean of eight results has no one choice.", hint="Drop --tta.")
    if request.selection_stats and not any(getattr(model, "selection", False) for model in models):
        raise UsageError("--selection-stats: none of these models chooses a branch for each pixel.")
    samplings = (getattr(model, "sampling", None) for model in models)
    if request.selection_stats and any(each is not None and each.average > 1 for each in samplings):
        raise UsageError("--selection-stats: a mean of samples has no one choice.", hint="Drop average.")
