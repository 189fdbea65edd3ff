"""Option types of `srcli eval`; what it shares with other commands is in `options`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from srcli.cli import options
from srcli.cli.command import DIFFUSION, NOISE, option
from srcli.config.presets import DEFAULT_PRESET, Preset
from srcli.config.sampling import Sampling, checked_steps, choose_sampling, is_sampled
from srcli.errors import UsageError

if TYPE_CHECKING:
    from srcli.evaluate.models import Model

MOVED = {  # earlier options, and what to write now
    "--sampler": "--sampling sampler={}",
    "--eta": "--sampling eta={}",
    "--average": "--sampling average={}",
    "--tta": "--finish tta",
    "--no-limit": "--finish no-limit",
}

BASIC = (
    "bench", "data", "model", "scale", "limit", "metrics", "protocol", "stats", "reference", "fail_under", "output",
    "format", "json", "per_image", "save_images", "device", "progress", "quiet",
)  # fmt: skip

what = partial(option, panel="What")
how = partial(option, panel="How")
show = partial(option, panel=options.OUTPUT)
run = partial(option, panel=options.RUN)

Bench = Annotated[list[str] | None, what("Benchmarks; see 'srcli bench list'.", "-b NAME[,..]|all")]
Data = Annotated[
    Path | None, what("Where the benchmarks are; without --bench, a folder of HR pictures.", "DIR")
]
Models = Annotated[
    list[str] | None,
    what(
        "A preset, a weights file, or nearest, bilinear, bicubic, lanczos; repeatable. "
        f"(default: {DEFAULT_PRESET} and bicubic)",
        "-m NAME|FILE",
    ),
]
Scales = Annotated[str | None, what("Scales (default: 4).", "-s FACTOR[,..]")]
Limit = Annotated[int | None, what("Only so many pictures of each set.", min=1)]
ProtocolName = Annotated[
    str | None,
    how(
        "How to measure (default: each benchmark's own). NAME+8bit and NAME+float change the rounding.",
        "NAME",
    ),
]
Metrics = Annotated[
    str | None, how("What to measure. (default: psnr,psnr-y,ssim,lr-psnr)", "--metrics NAME[,..]")
]
LpipsBackbone = Annotated[
    Path | None,
    how("The classifier that LPIPS looks through, where 'srcli models pull metrics' has not fetched it."),
]
Cache = Annotated[bool, run("Take rows that were measured before.", "--cache/--no-cache")]


@dataclass(frozen=True)
class Request:
    """The options, in the order of their help."""

    bench: Bench = None
    data: Data = None
    lr: Path | None = what("LR pictures for those in --data, of the same names.", "DIR")
    pred: Path | None = what("Score these pictures, whatever made them, against --ref.", "DIR")
    ref: Path | None = what("HR pictures for --pred.", "DIR")
    allow_missing: bool = what("With --pred: leave out pictures of --ref without a result, and say how many.")
    model: Models = None
    scale: Scales = None
    limit: Limit = None
    protocol: ProtocolName = None
    metrics: Metrics = None
    lpips_backbone: LpipsBackbone = None
    list_metrics: bool = how("Name metrics and protocols, and end.")
    temperature: str = option(
        "The model's own for the scale where it is not given, or auto.",
        "--temperature --temps -T T[,..]|FIRST:LAST:STEP",
        panel=NOISE,
        default="",
    )
    seeds: int = option("Results per picture.", min=1, panel=NOISE, default=1)
    steps: str = option("Sampling steps.", "N[,..]", panel=DIFFUSION, default="")
    sampling: options.SamplingWords = None
    official: bool = option("Sample as the authors do.", panel=DIFFUSION)
    branch: str = option(
        "Measure branches of FPLIA's decoder, each as a model.",
        "f,p,pf,fp,selected",
        panel=DIFFUSION,
        default="",
    )
    selection_stats: bool = option(
        "Count which branch of FPLIA's decoder answers how many pixels, beside the paper.", panel=DIFFUSION
    )
    finish: list[str] | None = how(
        "tta: average over the eight flips and rotations, tta=rotations:4 over those without a flip; no-limit: compare "
        "networks as they are, beyond the limits of 'upscale', too.",
        "tta[=rotations:4]|no-limit",
    )
    stats: str = how("Intervals of the means, and a test between models.", "bootstrap,wilcoxon", default="")
    reference: str | None = how("Published figures beside ours.", "builtin|FILE")
    list_references: bool = how("Name the published tables, and end.")
    group_by: Literal["family"] | None = how("Gains in percent against the best of each family.")
    fail_under: list[str] | None = how(
        "Exit with 7 if the mean of a model is worse; repeatable. Interpolations are exempt.", "METRIC=VALUE"
    )
    timing: int | None = how("Only measure time and memory: N runs after a warm-up, no benchmark.", min=1)
    size: str = how("LR size for --timing.", "WxH", default="128x128")
    output: Path | None = show("Write there instead of to stdout.", "-o")
    format: Literal["auto", "table", "json", "jsonl", "csv", "md", "latex"] = show(
        "auto is that of --output, else table; jsonl and csv have one row per picture.", "-f", default="auto"
    )
    json: options.Json = False
    per_image: bool = show("A line for every picture, too.")
    save_images: Path | None = show("Keep the results as PNG.", "DIR")
    cache: Cache = True
    device: options.Device = "auto"
    precision: options.Precision = "auto"
    tile: options.Tile = "auto"
    progress: options.Progress = "auto"
    quiet: options.Quiet = False


def parse_steps(request: Request) -> list[int]:
    """The numbers of steps."""
    try:
        return [int(word) for word in options.words(request.steps)]
    except ValueError:
        raise UsageError(f"--steps takes whole numbers, got '{request.steps}'.") from None


def requested_sampling(request: Request, preset: Preset) -> Sampling | None:
    """How a preset is sampled; None for one that samples nothing."""
    if not is_sampled(preset) or preset.diffusion is None:
        return None
    steps = parse_steps(request)
    if request.official and steps:
        raise UsageError("--official settles the steps.", hint="Leave out --steps.")
    for count in steps:
        checked_steps(count, preset.diffusion)
    asked = options.parse_sampling(preset, request.sampling, steps=False, official=request.official)
    return asked or choose_sampling(preset)


def requested_branches(request: Request, name: str) -> list[str | None]:
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
    if request.selection_stats and any("tta" in text for text in request.finish or ()):
        hint = "Drop --finish tta."
        raise UsageError("--selection-stats: a mean of eight results has no one choice.", hint=hint)
    if request.selection_stats and not any(getattr(model, "selection", False) for model in models):
        raise UsageError("--selection-stats: none of these models chooses a branch for each pixel.")
    samplings = (getattr(model, "sampling", None) for model in models)
    if request.selection_stats and any(each is not None and each.average > 1 for each in samplings):
        raise UsageError("--selection-stats: a mean of samples has no one choice.", hint="Drop average.")
