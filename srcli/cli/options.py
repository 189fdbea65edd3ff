"""Option types: a flag means and reads the same wherever it appears.

Every option can also be given by the environment, as SRCLI_<COMMAND>_<OPTION>; the shell's command line wins.
"""

from __future__ import annotations

from typing import Annotated, Literal

import typer

SIZE, OUTPUT, BATCH, RUN, REPORT = "Size (one of)", "Output", "Batch", "Running", "Reporting"


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
    typer.Option("--input", "-i", metavar="INPUT", help="The same, as an option.", hidden=True),
]
FromFile = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FILE|-",
        help="Names of further inputs, one per line or separated by NUL.",
        rich_help_panel=BATCH,
        show_default=False,
    ),
]

# --- size -----------------------------------------------------------------------------------------------------

Scale = Annotated[
    str | None,
    typer.Option(
        "--scale", "-s", metavar="FACTOR", help="4.3, 4.3x or 430%.  [default: 4]", rich_help_panel=SIZE
    ),
]
Width = Annotated[
    int | None,
    typer.Option("--width", "-W", metavar="PX", help="Width of the output.", rich_help_panel=SIZE),
]
Height = Annotated[
    int | None,
    typer.Option("--height", "-H", metavar="PX", help="Height of the output.", rich_help_panel=SIZE),
]
MaxSide = Annotated[int | None, typer.Option(metavar="PX", help="Longer side.", rich_help_panel=SIZE)]
ShortSide = Annotated[int | None, typer.Option(metavar="PX", help="Shorter side.", rich_help_panel=SIZE)]
Megapixels = Annotated[
    float | None, typer.Option(metavar="MP", help="Millions of pixels.", rich_help_panel=SIZE)
]
Print = Annotated[
    str | None,
    typer.Option(
        "--print",
        metavar="30x40cm@300dpi",
        help="Size on paper, in mm, cm or in; turned to match the picture.",
        envvar="SRCLI_UPSCALE_PRINT",
        rich_help_panel=SIZE,
    ),
]
Fit = Annotated[
    Literal["inside", "cover", "exact"] | None,
    typer.Option(
        help="How a box (width and height, or a print) is met.  [default: inside]", rich_help_panel=SIZE
    ),
]
OnlyEnlarge = Annotated[
    bool, typer.Option("--only-enlarge", help="Leave larger pictures at their size.", rich_help_panel=SIZE)
]
OnlyShrink = Annotated[
    bool, typer.Option("--only-shrink", help="Leave smaller pictures at their size.", rich_help_panel=SIZE)
]

# --- model and running ----------------------------------------------------------------------------------------

Model = Annotated[
    str,
    typer.Option(
        "--model", "-m", metavar="NAME|FILE", help="A preset, its TOML file, or a safetensors file."
    ),
]
License = Annotated[
    Literal["any", "commercial"],
    typer.Option(help="With 'commercial', refuse weights whose licence does not allow commercial use."),
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        "-d",
        metavar="auto|cpu|cuda[:N]|mps|xpu",
        help="Where to run.",
        envvar=["SRCLI_UPSCALE_DEVICE", "SRCLI_DEVICE"],
        rich_help_panel=RUN,
    ),
]
Precision = Annotated[
    Literal["auto", "fp32", "bf16", "fp16"],
    typer.Option(help="Arithmetic; auto is bf16 on a GPU that has it, else fp32.", rich_help_panel=RUN),
]
Tile = Annotated[
    str,
    typer.Option(
        "--tile",
        "-t",
        metavar="auto|none|PX",
        help="Side of the pieces the encoder looks at; changes memory and time, not the picture.",
        rich_help_panel=RUN,
    ),
]
Seed = Annotated[
    int,
    typer.Option(help="For models that draw random numbers; recorded in the output.", rich_help_panel=RUN),
]
Offline = Annotated[
    bool,
    typer.Option(
        "--offline",
        help="Never use the network.",
        envvar=["SRCLI_UPSCALE_OFFLINE", "SRCLI_OFFLINE"],
        rich_help_panel=RUN,
    ),
]
MaxInputPixels = Annotated[str, typer.Option(metavar="N", help="Refuse larger inputs.", rich_help_panel=RUN)]
MaxOutputPixels = Annotated[
    str, typer.Option(metavar="N", help="Refuse larger outputs.", rich_help_panel=RUN)
]

# --- output ---------------------------------------------------------------------------------------------------

Output = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE|FOLDER|-",
        help="Where to; a name without suffix is a folder, - is stdout.  [default: beside the input]",
        rich_help_panel=OUTPUT,
    ),
]
Name = Annotated[
    str | None,
    typer.Option(
        metavar="TEMPLATE",
        help="Name of an output from {stem} {size} {scale} {width} {height} {model} {index} {parent} {ext}; "
        "{size} is x4.3, w3840, max8000, ..  [default: {stem}_{size}{ext}]",
        rich_help_panel=OUTPUT,
    ),
]
Format = Annotated[
    str,
    typer.Option(
        "--format",
        "-f",
        metavar="auto|png|jpg|webp|tiff|avif",
        help="auto is that of --output or of the input.",
        rich_help_panel=OUTPUT,
    ),
]
Quality = Annotated[int, typer.Option(min=1, max=100, help="Of JPEG, WebP and AVIF.", rich_help_panel=OUTPUT)]
Lossless = Annotated[
    bool, typer.Option("--lossless", help="WebP and AVIF without loss.", rich_help_panel=OUTPUT)
]
Chroma = Annotated[
    Literal["444", "420"], typer.Option(help="Resolution of colour in JPEG and AVIF.", rich_help_panel=OUTPUT)
]
CompressLevel = Annotated[
    int, typer.Option(min=0, max=9, help="Effort of PNG and TIFF compression.", rich_help_panel=OUTPUT)
]
BitDepth = Annotated[
    Literal["keep", "8", "16", "32f"], typer.Option(help="Bits per sample.", rich_help_panel=OUTPUT)
]
Dither = Annotated[
    bool, typer.Option("--dither", help="Hide the steps of 8 bits under fine noise.", rich_help_panel=OUTPUT)
]
Icc = Annotated[
    Literal["keep", "srgb", "p3", "strip"], typer.Option(help="Colour profile.", rich_help_panel=OUTPUT)
]
Metadata = Annotated[
    Literal["keep", "safe", "strip"],
    typer.Option(help="EXIF and XMP; safe drops places, owners and serial numbers.", rich_help_panel=OUTPUT),
]
NoProvenance = Annotated[
    bool,
    typer.Option(
        "--no-provenance",
        help="Do not record in the output how it was made.",
        envvar=["SRCLI_UPSCALE_NO_PROVENANCE", "SRCLI_NO_PROVENANCE"],
        rich_help_panel=OUTPUT,
    ),
]
Background = Annotated[
    str,
    typer.Option(
        metavar="COLOR", help="Under transparency, where the format has none.", rich_help_panel=OUTPUT
    ),
]
Alpha = Annotated[
    Literal["auto", "model", "lanczos", "drop"],
    typer.Option(
        help="How transparency is enlarged; auto is by the model, unless it is constant.",
        rich_help_panel=OUTPUT,
    ),
]
Frames = Annotated[
    str,
    typer.Option(
        metavar="error|first|N", help="Which frame of an animation, N from 0.", rich_help_panel=OUTPUT
    ),
]

# --- batch ----------------------------------------------------------------------------------------------------

Recursive = Annotated[
    bool,
    typer.Option(
        "--recursive",
        "-r",
        help="Look into folders of folders; --output mirrors them.",
        rich_help_panel=BATCH,
    ),
]
Include = Annotated[
    list[str] | None,
    typer.Option(metavar="GLOB", help="Only these files.", rich_help_panel=BATCH, show_default=False),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(metavar="GLOB", help="Not these files.", rich_help_panel=BATCH, show_default=False),
]
Exists = Annotated[
    Literal["auto", "skip", "overwrite", "fail"] | None,
    typer.Option(
        help="What to do where the output exists: auto skips what is up to date, replaces what srcli made "
        "from another input or recipe, and refuses the rest.  [default: auto]",
        rich_help_panel=BATCH,
    ),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Same as --exists overwrite.", rich_help_panel=BATCH)
]
SkipExisting = Annotated[
    bool, typer.Option("--skip-existing", help="Same as --exists skip.", rich_help_panel=BATCH)
]
Resume = Annotated[bool, typer.Option("--resume", help="Same as --exists auto.", rich_help_panel=BATCH)]
FailFast = Annotated[
    bool, typer.Option("--fail-fast", help="Stop at the first file that fails.", rich_help_panel=BATCH)
]

# --- report ---------------------------------------------------------------------------------------------------

DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say what would be done; do nothing.", rich_help_panel=REPORT)
]
Json = Annotated[
    bool, typer.Option("--json", help="Results as JSON: an object, or an array.", rich_help_panel=REPORT)
]
Jsonl = Annotated[
    bool, typer.Option("--jsonl", help="Results as JSON, one line per file.", rich_help_panel=REPORT)
]
Progress = Annotated[
    Literal["auto", "rich", "plain", "json", "none"],
    typer.Option(help="Progress on stderr.", rich_help_panel=REPORT),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only errors on stderr.", rich_help_panel=REPORT)]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Say what was chosen and why.", rich_help_panel=REPORT)
]
