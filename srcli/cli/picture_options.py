"""Option types of `srcli upscale` on its pictures: which, how large, where to, and what is said of them."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from srcli.cli.options import REPORT, RUN, option

SIZE, OUTPUT, BATCH = "Size (one of)", "Output", "Batch"

batch = partial(option, rich_help_panel=BATCH)
size = partial(option, rich_help_panel=SIZE)
run = partial(option, rich_help_panel=RUN)
output = partial(option, rich_help_panel=OUTPUT)
report = partial(option, rich_help_panel=REPORT)

Inputs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="INPUT...",
        help="Files, folders, patterns such as 'shots/*.jpg', @LIST (a file that names files), or - for stdin.",
        show_default=False,
    ),
]
MoreInputs = Annotated[
    list[str] | None,
    option("--input", "-i", metavar="INPUT", hidden=True, allow_from_autoenv=False),
]
FromFile = Annotated[
    list[str] | None,
    batch(
        metavar="FILE|-",
        help="Names of further inputs, one per line or separated by NUL.",
        show_default=False,
    ),
]
Scale = Annotated[
    str | None,
    size("--scale", "-s", metavar="FACTOR", help="4.3, 4.3x or 430%. (default: 4)"),
]
Width = Annotated[
    int | None,
    size("--width", "-W", metavar="PX", help="Width of the output."),
]
Height = Annotated[
    int | None,
    size("--height", "-H", metavar="PX", help="Height of the output."),
]
MaxSide = Annotated[int | None, size(metavar="PX", help="Longer side.")]
ShortSide = Annotated[int | None, size(metavar="PX", help="Shorter side.")]
Megapixels = Annotated[float | None, size(metavar="MP", help="Millions of pixels.")]
Print = Annotated[
    str | None,
    size(
        "--print",
        metavar="30x40cm@300dpi",
        help="Size on paper, in mm, cm or in; turned to match the picture.",
    ),
]
Fit = Annotated[
    Literal["inside", "cover", "exact"] | None,
    size(help="How a box (width and height, or a print) is met. (default: inside)"),
]
OnlyEnlarge = Annotated[bool, size("--only-enlarge", help="Leave larger pictures at their size.")]
OnlyShrink = Annotated[bool, size("--only-shrink", help="Leave smaller pictures at their size.")]
Devices = Annotated[
    str,
    run(
        "--device",
        "-d",
        metavar="auto|all|cpu|cuda[:N][,..]|mps|xpu",
        help="Where to run; all, or several with commas: a process on each.",
        envvar="SRCLI_DEVICE",
    ),
]
Workers = Annotated[
    int,
    batch(
        min=1,
        max=256,
        help="Processes per device; 2 on a CPU share its cores, which pays for many small pictures.",
    ),
]
MaxInputPixels = Annotated[str, run(metavar="N", help="Refuse larger inputs.")]
MaxOutputPixels = Annotated[str, run(metavar="N", help="Refuse larger outputs.")]
Output = Annotated[
    str | None,
    output(
        "--output",
        "-o",
        metavar="FILE|FOLDER|-",
        help="Where to; a name without suffix is a folder, - is stdout. (default: beside the input)",
    ),
]
Name = Annotated[
    str | None,
    output(
        metavar="TEMPLATE",
        help="Name of an output from {stem} {suffix} {parent} (of the input), {size} {scale} {width} {height} {model} "
        "{ext}, and {index}, the place among files that are named or the number of a sample; {size} is x4.3, w3840, "
        "max8000, .. (default: {stem}_{size}{ext})",
    ),
]
Format = Annotated[
    str,
    output(
        "--format",
        "-f",
        metavar="auto|png|jpg|webp|tiff|avif|gif",
        help="auto is that of --output or of the input.",
    ),
]
Quality = Annotated[int, output(min=1, max=100, help="Of JPEG, WebP and AVIF.")]
Lossless = Annotated[bool, output("--lossless", help="WebP and AVIF without loss.")]
Chroma = Annotated[Literal["444", "420"], output(help="Resolution of colour in JPEG and AVIF.")]
CompressLevel = Annotated[int, output(min=0, max=9, help="Effort of PNG and TIFF compression.")]
BitDepth = Annotated[
    Literal["keep", "8", "10", "12", "16", "32f"], output(help="Bits per sample; 10 and 12 are AVIF's.")
]
MaxBytes = Annotated[
    str | None,
    output(
        "--max-bytes",
        metavar="SIZE",
        help="Reduce --quality until a JPEG, WebP or AVIF is no larger than that, such as 5MB or 800kB.",
    ),
]
Dither = Annotated[bool, output("--dither", help="Hide the steps of 8 bits under fine noise.")]
Icc = Annotated[Literal["keep", "srgb", "p3", "strip"], output(help="Colour profile.")]
Metadata = Annotated[
    Literal["keep", "safe", "strip"],
    output(help="EXIF and XMP; safe drops places, owners and serial numbers."),
]
NoProvenance = Annotated[
    bool,
    output(
        "--no-provenance",
        help="Do not record in the output how it was made; a later run cannot tell then that it is up to date.",
        envvar="SRCLI_NO_PROVENANCE",
    ),
]
Background = Annotated[
    str,
    output(metavar="COLOR", help="Under transparency, where the format has none."),
]
Alpha = Annotated[
    Literal["auto", "model", "lanczos", "drop"],
    output(
        help="How transparency is enlarged; auto is by the model, unless it is constant or the model is one for "
        "damaged pictures."
    ),
]
Frames = Annotated[
    str,
    output(
        metavar="error|all|first|N",
        help="Which picture of an animation or of pages, N from 1; all keeps an animation (PNG, WebP, GIF, AVIF).",
    ),
]
Recursive = Annotated[
    bool,
    batch("--recursive", "-r", help="Look into folders of folders; --output mirrors them."),
]
Include = Annotated[
    list[str] | None,
    batch(metavar="GLOB", help="Only these files.", show_default=False),
]
Exclude = Annotated[
    list[str] | None,
    batch(metavar="GLOB", help="Not these files.", show_default=False),
]
IncludeOutputs = Annotated[
    bool,
    batch("--include-outputs", help="Also what srcli made from others of these files."),
]
Exists = Annotated[
    Literal["auto", "skip", "overwrite", "fail"] | None,
    batch(
        help="What to do where the output exists: auto skips what is up to date, replaces what srcli made "
        "from another input or otherwise, and refuses the rest. (default: auto)"
    ),
]
Overwrite = Annotated[bool, batch("--overwrite", help="Same as --exists overwrite.")]
SkipExisting = Annotated[bool, batch("--skip-existing", help="Same as --exists skip.")]
Resume = Annotated[bool, batch("--resume", help="Same as --exists auto.")]
Upgrade = Annotated[
    bool,
    batch(
        "--upgrade",
        help="Make results again that other weights made; without it they stay, unless --model names the model.",
    ),
]
FailFast = Annotated[bool, batch("--fail-fast", help="Stop at the first file that fails.")]
BatchEngine = Annotated[
    Literal["local", "ray"],
    batch(
        "--engine",
        help="Where processes run: on this machine, or on a Ray cluster (extra 'ray'), which also reads and "
        "writes object storage: s3://bucket/shots.",
    ),
]
Shard = Annotated[
    str | None,
    batch(
        metavar="I/N|auto",
        help="Do only this share of the files, I from 0; auto asks SLURM, Kubernetes or torchrun.",
        show_default=False,
    ),
]
ManifestFile = Annotated[
    Path | None,
    batch(
        "--manifest",
        metavar="FILE.jsonl",
        help="Record there what is done, a file of its own for every share.",
        show_default=False,
    ),
]
BatchStatus = Annotated[
    bool,
    batch("--status", help="Only say what the manifests say is done and missing."),
]
DryRun = Annotated[bool, report("--dry-run", help="Say what would be done; do nothing.")]
Json = Annotated[bool, report("--json", help="Results as JSON: an object, or an array.")]
Jsonl = Annotated[bool, report("--jsonl", help="Results as JSON, one line per file.")]
Progress = Annotated[
    Literal["auto", "rich", "plain", "json", "none"],
    report(help="Progress on stderr."),
]
Verbose = Annotated[bool, report("--verbose", "-v", help="Say what was chosen and why.")]
