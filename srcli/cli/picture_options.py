"""Option types of `srcli upscale` on its pictures: which, how large, where to, and what is said of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from srcli.cli.options import REPORT, RUN, option

SIZE, OUTPUT, BATCH = "Size (one of)", "Output", "Batch"

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
    option(
        metavar="FILE|-",
        help="Names of further inputs, one per line or separated by NUL.",
        rich_help_panel=BATCH,
        show_default=False,
    ),
]
Scale = Annotated[
    str | None,
    option("--scale", "-s", metavar="FACTOR", help="4.3, 4.3x or 430%. (default: 4)", rich_help_panel=SIZE),
]
Width = Annotated[
    int | None,
    option("--width", "-W", metavar="PX", help="Width of the output.", rich_help_panel=SIZE),
]
Height = Annotated[
    int | None,
    option("--height", "-H", metavar="PX", help="Height of the output.", rich_help_panel=SIZE),
]
MaxSide = Annotated[int | None, option(metavar="PX", help="Longer side.", rich_help_panel=SIZE)]
ShortSide = Annotated[int | None, option(metavar="PX", help="Shorter side.", rich_help_panel=SIZE)]
Megapixels = Annotated[float | None, option(metavar="MP", help="Millions of pixels.", rich_help_panel=SIZE)]
Print = Annotated[
    str | None,
    option(
        "--print",
        metavar="30x40cm@300dpi",
        help="Size on paper, in mm, cm or in; turned to match the picture.",
        envvar="SRCLI_UPSCALE_PRINT",
        rich_help_panel=SIZE,
    ),
]
Fit = Annotated[
    Literal["inside", "cover", "exact"] | None,
    option(help="How a box (width and height, or a print) is met. (default: inside)", rich_help_panel=SIZE),
]
OnlyEnlarge = Annotated[
    bool, option("--only-enlarge", help="Leave larger pictures at their size.", rich_help_panel=SIZE)
]
OnlyShrink = Annotated[
    bool, option("--only-shrink", help="Leave smaller pictures at their size.", rich_help_panel=SIZE)
]
Devices = Annotated[
    str,
    option(
        "--device",
        "-d",
        metavar="auto|all|cpu|cuda[:N][,..]|mps|xpu",
        help="Where to run; all, or several with commas: a process on each.",
        envvar=["SRCLI_UPSCALE_DEVICE", "SRCLI_DEVICE"],
        rich_help_panel=RUN,
    ),
]
Workers = Annotated[
    int,
    option(
        min=1,
        max=256,
        help="Processes per device; 2 on a CPU share its cores, which pays for many small pictures.",
        rich_help_panel=BATCH,
    ),
]
MaxInputPixels = Annotated[str, option(metavar="N", help="Refuse larger inputs.", rich_help_panel=RUN)]
MaxOutputPixels = Annotated[str, option(metavar="N", help="Refuse larger outputs.", rich_help_panel=RUN)]
Output = Annotated[
    str | None,
    option(
        "--output",
        "-o",
        metavar="FILE|FOLDER|-",
        help="Where to; a name without suffix is a folder, - is stdout. (default: beside the input)",
        rich_help_panel=OUTPUT,
    ),
]
Name = Annotated[
    str | None,
    option(
        metavar="TEMPLATE",
        help="Name of an output from {stem} {size} {scale} {width} {height} {model} {index} {parent} {ext}; "
        "{size} is x4.3, w3840, max8000, .. (default: {stem}_{size}{ext})",
        rich_help_panel=OUTPUT,
    ),
]
Format = Annotated[
    str,
    option(
        "--format",
        "-f",
        metavar="auto|png|jpg|webp|tiff|avif|gif",
        help="auto is that of --output or of the input.",
        rich_help_panel=OUTPUT,
    ),
]
Quality = Annotated[int, option(min=1, max=100, help="Of JPEG, WebP and AVIF.", rich_help_panel=OUTPUT)]
Lossless = Annotated[bool, option("--lossless", help="WebP and AVIF without loss.", rich_help_panel=OUTPUT)]
Chroma = Annotated[
    Literal["444", "420"], option(help="Resolution of colour in JPEG and AVIF.", rich_help_panel=OUTPUT)
]
CompressLevel = Annotated[
    int, option(min=0, max=9, help="Effort of PNG and TIFF compression.", rich_help_panel=OUTPUT)
]
BitDepth = Annotated[
    Literal["keep", "8", "16", "32f"], option(help="Bits per sample.", rich_help_panel=OUTPUT)
]
Dither = Annotated[
    bool, option("--dither", help="Hide the steps of 8 bits under fine noise.", rich_help_panel=OUTPUT)
]
Icc = Annotated[
    Literal["keep", "srgb", "p3", "strip"], option(help="Colour profile.", rich_help_panel=OUTPUT)
]
Metadata = Annotated[
    Literal["keep", "safe", "strip"],
    option(help="EXIF and XMP; safe drops places, owners and serial numbers.", rich_help_panel=OUTPUT),
]
NoProvenance = Annotated[
    bool,
    option(
        "--no-provenance",
        help="Do not record in the output how it was made; a later run cannot tell then that it is up to date.",
        envvar=["SRCLI_UPSCALE_NO_PROVENANCE", "SRCLI_NO_PROVENANCE"],
        rich_help_panel=OUTPUT,
    ),
]
Background = Annotated[
    str,
    option(metavar="COLOR", help="Under transparency, where the format has none.", rich_help_panel=OUTPUT),
]
Alpha = Annotated[
    Literal["auto", "model", "lanczos", "drop"],
    option(
        help="How transparency is enlarged; auto is by the model, unless it is constant or the model is one for "
        "damaged pictures.",
        rich_help_panel=OUTPUT,
    ),
]
Frames = Annotated[
    str,
    option(
        metavar="error|all|first|N",
        help="Which picture of an animation or of pages, N from 1; all keeps an animation (PNG, WebP, GIF, AVIF).",
        rich_help_panel=OUTPUT,
    ),
]
Recursive = Annotated[
    bool,
    option(
        "--recursive",
        "-r",
        help="Look into folders of folders; --output mirrors them.",
        rich_help_panel=BATCH,
    ),
]
Include = Annotated[
    list[str] | None,
    option(metavar="GLOB", help="Only these files.", rich_help_panel=BATCH, show_default=False),
]
Exclude = Annotated[
    list[str] | None,
    option(metavar="GLOB", help="Not these files.", rich_help_panel=BATCH, show_default=False),
]
Exists = Annotated[
    Literal["auto", "skip", "overwrite", "fail"] | None,
    option(
        help="What to do where the output exists: auto skips what is up to date, replaces what srcli made "
        "from another input or otherwise, and refuses the rest. (default: auto)",
        rich_help_panel=BATCH,
    ),
]
Overwrite = Annotated[bool, option("--overwrite", help="Same as --exists overwrite.", rich_help_panel=BATCH)]
SkipExisting = Annotated[
    bool, option("--skip-existing", help="Same as --exists skip.", rich_help_panel=BATCH)
]
Resume = Annotated[bool, option("--resume", help="Same as --exists auto.", rich_help_panel=BATCH)]
FailFast = Annotated[
    bool, option("--fail-fast", help="Stop at the first file that fails.", rich_help_panel=BATCH)
]
BatchEngine = Annotated[
    Literal["local", "ray"],
    option(
        "--engine",
        help="Where processes run: on this machine, or on a Ray cluster (extra 'ray'), which also reads and "
        "writes object storage: s3://bucket/shots.",
        rich_help_panel=BATCH,
    ),
]
Shard = Annotated[
    str | None,
    option(
        metavar="I/N|auto",
        help="Do only this share of the files, I from 0; auto asks SLURM, Kubernetes or torchrun.",
        rich_help_panel=BATCH,
        show_default=False,
    ),
]
ManifestFile = Annotated[
    Path | None,
    option(
        "--manifest",
        metavar="FILE.jsonl",
        help="Record there what is done, a file of its own for every share.",
        rich_help_panel=BATCH,
        show_default=False,
    ),
]
BatchStatus = Annotated[
    bool,
    option("--status", help="Only say what the manifests say is done and missing.", rich_help_panel=BATCH),
]
DryRun = Annotated[
    bool, option("--dry-run", help="Say what would be done; do nothing.", rich_help_panel=REPORT)
]
Json = Annotated[
    bool, option("--json", help="Results as JSON: an object, or an array.", rich_help_panel=REPORT)
]
Jsonl = Annotated[bool, option("--jsonl", help="Results as JSON, one line per file.", rich_help_panel=REPORT)]
Progress = Annotated[
    Literal["auto", "rich", "plain", "json", "none"],
    option(help="Progress on stderr.", rich_help_panel=REPORT),
]
Verbose = Annotated[
    bool, option("--verbose", "-v", help="Say what was chosen and why.", rich_help_panel=REPORT)
]
