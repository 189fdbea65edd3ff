"""Everything that can be asked of `srcli upscale`: its options, and what became of earlier ones."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import typer

from srcli.cli import options
from srcli.cli.options import (
    DRAW,
    REPORT,
    RUN,
    SAMPLE,
    number,
    one_of,
    option,
    parse_bytes,
    parse_colour,
    settings,
)
from srcli.config.presets import DEFAULT_PRESET, REAL_WORLD_PRESET
from srcli.errors import UsageError

MOST_WORKERS = 256
SIZE, OUTPUT, BATCH = "Size (one of)", "Output", "Batch"
MOVED = {  # earlier options, and what to write now
    "--input": "{}",
    "-i": "{}",
    "--from-file": "@{}",
    "--max-bytes": "--encode max-bytes={}",
    "--lossless": "--encode lossless",
    "--chroma": "--encode chroma={}",
    "--compress-level": "--encode compress-level={}",
    "--dither": "--encode dither",
    "--background": "--encode background={}",
    "--icc": "--metadata icc={}",
    "--no-provenance": "--metadata unmarked",
    "--include-outputs": "--exclude none",
    "--engine": "--workers {}",
    "--consistency": "--finish consistency",
    "--no-consistency": "",
    "--tta": "--finish tta",
    "--no-limit": "--finish no-limit",
    "--colour-fix": "--finish colour={}",
    "--temperature-map": "--temperature map={}",
    "--sampler": "--sampling sampler={}",
    "--steps": "--sampling steps={}",
    "--eta": "--sampling eta={}",
    "--average": "--sampling average={}",
    "--fidelity": "--sampling fidelity={}",
    "--max-input-pixels": "--max-pixels in={}",
    "--max-output-pixels": "--max-pixels out={}",
}
GONE = {
    "--exists": "Give --overwrite, --skip-existing, or neither: what is up to date is skipped.",
    "--resume": "It is what happens without it: what is up to date is skipped.",
    "--diversity": "It is measured by srcli eval --metrics diversity --seeds 5.",
    "--official": "It belongs to srcli eval; here write the numbers: --sampling sampler=ddim,steps=200,eta=1.",
    "--colour-strength": "Colours are fixed whole, or not at all: --finish colour=none.",
    "--selection-stats": "It belongs to srcli eval; here: --selection-map FILE.png.",
    "--selection-overlay": "It belongs to srcli explain; here: --selection-map FILE.png.",
    "--selection-scores": "It belongs to srcli explain; here: --selection-map FILE.png.",
}

size = partial(option, rich_help_panel=SIZE)
draw = partial(option, rich_help_panel=DRAW)
sample = partial(option, rich_help_panel=SAMPLE)
output = partial(option, rich_help_panel=OUTPUT)
batch = partial(option, rich_help_panel=BATCH)
run = partial(option, rich_help_panel=RUN)
report = partial(option, rich_help_panel=REPORT)


@dataclass(frozen=True)
class Request:
    """The options, in the order of their help."""

    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="INPUT...",
            help="Files, folders, patterns such as 'shots/*.jpg', @LIST (a file that names files, one per line or "
            "separated by NUL; @- reads them from stdin), or - for stdin.",
            show_default=False,
        ),
    ] = None
    scale: Annotated[
        str | None, size("--scale", "-s", metavar="FACTOR", help="4.3, 4.3x or 430%. (default: 4)")
    ] = None
    width: Annotated[int | None, size("--width", "-W", metavar="PX", help="Width of the output.")] = None
    height: Annotated[int | None, size("--height", "-H", metavar="PX", help="Height of the output.")] = None
    max_side: Annotated[int | None, size(metavar="PX", help="Longer side.")] = None
    short_side: Annotated[int | None, size(metavar="PX", help="Shorter side.")] = None
    megapixels: Annotated[float | None, size(metavar="MP", help="Millions of pixels.")] = None
    print_: Annotated[
        str | None,
        size(
            "--print",
            metavar="30x40cm@300dpi",
            help="Size on paper, in mm, cm or in; turned to match the picture.",
        ),
    ] = None
    fit: Annotated[
        Literal["inside", "cover", "exact"] | None,
        size(help="How a box (width and height, or a print) is met. (default: inside)"),
    ] = None
    only_enlarge: Annotated[
        bool | None,
        size("--only-enlarge/--only-shrink", help="Leave larger, or smaller, pictures at their size."),
    ] = None
    model: Annotated[
        str | None,
        option(
            "--model",
            "-m",
            metavar="NAME|FILE[@HASH]",
            help="A preset, its TOML file, or a safetensors file; with @ and the first digits of their SHA-256 only "
            f"these weights. (default: {DEFAULT_PRESET})",
        ),
    ] = None
    degradation: Annotated[
        Literal["auto", "auto:each", "clean", "real"] | None,
        option(
            help="What the pictures went through: clean leaves them to the model; real takes the one for damaged "
            f"pictures ({REAL_WORLD_PRESET}); auto measures JPEG blocks, noise and blur and takes the one that suits each "
            "folder, or with auto:each each picture. (default: clean, and damage is told of)",
        ),
    ] = None
    restore: Annotated[
        float | None,
        option(
            metavar="S",
            min=0,
            max=1,
            help="How much of the restored picture is taken, from 0 (the faithful one) to 1. (default: 1, with auto less "
            "where damage is slight)",
        ),
    ] = None
    license: Annotated[
        Literal["any", "commercial"],
        option(help="With 'commercial', refuse weights whose licence does not allow commercial use."),
    ] = "any"
    output: Annotated[
        str | None,
        output(
            "--output",
            "-o",
            metavar="FILE|FOLDER|-",
            help="Where to; a name without suffix is a folder, - is stdout. (default: beside the input)",
        ),
    ] = None
    name: Annotated[
        str | None,
        output(
            metavar="TEMPLATE",
            help="Name of an output from {stem} {suffix} {parent} (of the input), {size} {scale} {width} {height} "
            "{model} {ext}, and {index}, the place among files that are named or the number of a sample; {size} is "
            "x4.3, w3840, max8000, .. (default: {stem}_{size}{ext})",
        ),
    ] = None
    format: Annotated[
        str,
        output(
            "--format",
            "-f",
            metavar="auto|png|jpg|webp|tiff|avif|gif",
            help="auto is that of --output or of the input.",
        ),
    ] = "auto"
    quality: Annotated[int, output(min=1, max=100, help="Of JPEG, WebP and AVIF.")] = 95
    bit_depth: Annotated[
        Literal["keep", "8", "10", "12", "16", "32f"],
        output(help="Bits per sample; 10 and 12 are AVIF's."),
    ] = "keep"
    encode: Annotated[
        list[str] | None,
        output(
            metavar="KEY[=VALUE],..",
            help="chroma=444|420: resolution of colour in JPEG and AVIF; lossless: WebP and AVIF; compress-level=0..9: "
            "effort of PNG and TIFF; dither: hide the steps of 8 bits under fine noise; max-bytes=5MB: reduce --quality "
            "until a JPEG, WebP or AVIF is no larger; background=COLOR: under transparency, where the format has none.",
            show_default=False,
        ),
    ] = None
    metadata: Annotated[
        list[str] | None,
        output(
            metavar="keep|safe|strip|icc=..|unmarked",
            help="EXIF and XMP; safe drops places, owners and serial numbers. icc=keep|srgb|p3|strip: colour profile. "
            "unmarked: do not record in the output how it was made; a later run cannot tell then that it is up to date.",
            show_default=False,
        ),
    ] = None
    alpha: Annotated[
        Literal["auto", "model", "lanczos", "drop"],
        output(
            help="How transparency is enlarged; auto is by the model, unless it is constant or the model is one for "
            "damaged pictures."
        ),
    ] = "auto"
    frames: Annotated[
        str,
        output(
            metavar="error|all|first|N",
            help="Which picture of an animation or of pages, N from 1; all keeps an animation (PNG, WebP, GIF, AVIF).",
        ),
    ] = "error"
    recursive: Annotated[
        bool, batch("--recursive", "-r", help="Look into folders of folders; --output mirrors them.")
    ] = False
    include: Annotated[
        list[str] | None, batch(metavar="GLOB", help="Only these files.", show_default=False)
    ] = None
    exclude: Annotated[
        list[str] | None,
        batch(
            metavar="GLOB|none",
            help="Not these files. What srcli made from others of them is left out as well, but for none.",
            show_default=False,
        ),
    ] = None
    overwrite: Annotated[
        bool | None,
        batch(
            "--overwrite/--skip-existing",
            help="Where the output exists: make it again, or leave it. (default: skip what is up to date, replace what "
            "srcli made from another input or otherwise, and refuse the rest)",
        ),
    ] = None
    upgrade: Annotated[
        bool,
        batch(
            "--upgrade",
            help="Make results again that other weights made; without it they stay, unless --model names the model.",
        ),
    ] = False
    fail_fast: Annotated[bool, batch("--fail-fast", help="Stop at the first file that fails.")] = False
    shard: Annotated[
        str | None,
        batch(
            metavar="I/N|auto",
            help="Do only this share of the files, I from 0; auto asks SLURM, Kubernetes or torchrun.",
            show_default=False,
        ),
    ] = None
    manifest: Annotated[
        Path | None,
        batch(
            "--manifest",
            metavar="FILE.jsonl",
            help="Record there what is done, a file of its own for every share.",
            show_default=False,
        ),
    ] = None
    status: Annotated[
        bool, batch("--status", help="Only say what the manifests say is done and missing.")
    ] = False
    workers: Annotated[
        list[str] | None,
        batch(
            metavar="N|ray",
            help="Processes per device; 2 on a CPU share its cores, which pays for many small pictures. ray: on a Ray "
            "cluster (extra 'ray'), which also reads and writes object storage: s3://bucket/shots. (default: 1)",
            show_default=False,
        ),
    ] = None
    device: Annotated[
        str,
        run(
            "--device",
            "-d",
            metavar="auto|all|cpu|cuda[:N][,..]|mps|xpu",
            help="Where to run; all, or several with commas: a process on each.",
            envvar="SRCLI_DEVICE",
        ),
    ] = "auto"
    precision: options.Precision = "auto"
    tile: options.Tile = "auto"
    temperature: Annotated[
        list[str] | None,
        draw(
            "--temperature",
            "-T",
            metavar="T|auto|map=..",
            help="For models with a temperature: 0 is faithful, up to 1 adds detail. (default: auto, the preset's own "
            "for the scale) map=auto: less noise on flat areas and clean edges and more in texture; map=FILE: as a gray "
            "picture says, white is the whole temperature.",
            show_default=False,
        ),
    ] = None
    seed: options.Seed = 0
    samples: Annotated[
        int,
        draw(
            metavar="N",
            help="Results per input, with seeds counting up; {index} in --name is then their number.",
        ),
    ] = 1
    finish: Annotated[
        list[str] | None,
        draw(
            metavar="KEY[=VALUE],..",
            help="tta: the mean of the results for eight turned and mirrored copies, a little closer, eight times the time; "
            "consistency: make the result reduce to the input exactly, for inputs that are bicubic reductions; "
            "colour=adain|wavelet|lowpass|none: give it the colours of the input again, means and deviations (adain, "
            "which models that restore do by themselves), low frequencies, or what it lacks when reduced; no-limit: for "
            "studies, leave a network's own picture as it is, beyond what the input bears out, too.",
            show_default=False,
        ),
    ] = None
    sampling: options.SamplingWords = None
    branch: Annotated[
        str | None,
        sample(
            metavar="f|p|pf|fp|selected",
            help="The answer of one branch of FPLIA's decoder: f is faithful, p invents most.",
        ),
    ] = None
    selection_map: Annotated[
        Path | None,
        sample(metavar="FILE.png|FOLDER", help="The branch of every pixel, in colours.", show_default=False),
    ] = None
    offline: options.Offline = False
    max_pixels: Annotated[
        list[str] | None,
        run(
            metavar="in=N,out=N",
            help="Refuse larger inputs and outputs. (default: in=500M,out=4G)",
            show_default=False,
        ),
    ] = None
    dry_run: Annotated[bool, report("--dry-run", help="Say what would be done; do nothing.")] = False
    json: Annotated[
        bool | None,
        report("--json/--jsonl", help="Results as JSON: an object or an array, or one line per file."),
    ] = None
    progress: Annotated[
        Literal["auto", "rich", "plain", "json", "none"], report(help="Progress on stderr.")
    ] = "auto"
    quiet: Annotated[
        bool | None,
        report("--quiet/--verbose", "-q/-v", help="Only errors on stderr, or also what was chosen and why."),
    ] = None


def encoding(request: Request) -> tuple[dict[str, object], bool]:
    """Options of `srcli.image.plan_output`, and whether the output says how it was made."""
    keys = ("chroma", "compress-level", "max-bytes", "background")
    given = settings("--encode", request.encode, keys, ("lossless", "dither"))
    words = settings("--metadata", request.metadata, ("icc",), ("keep", "safe", "strip", "unmarked"))
    level = number("--encode", given, "compress-level", int)
    if level is not None and not 0 <= level <= 9:
        raise UsageError(f"--encode compress-level takes a number from 0 to 9, got {level}.")
    return {
        "quality": request.quality,
        "max_bytes": parse_bytes("--encode max-bytes", given["max-bytes"]) if "max-bytes" in given else None,
        "lossless": "lossless" in given,
        "chroma": one_of("--encode chroma", given.get("chroma", "444"), ("444", "420")),
        "compress_level": 6 if level is None else level,
        "bit_depth": request.bit_depth,
        "dither": "dither" in given,
        "icc": one_of("--metadata icc", words.pop("icc", "keep"), ("keep", "srgb", "p3", "strip")),
        "metadata": next((word for word in reversed(words) if word != "unmarked"), "keep"),
        "background": parse_colour("--encode background", given.get("background", "white")),
    }, "unmarked" not in words


def worker_count(request: Request) -> tuple[str, int]:
    """Where processes run, local or ray, and how many on each device."""
    engine, count = "local", 1
    for word in request.workers or ():
        if word in ("local", "ray"):
            engine = word
        elif word.isdecimal() and 1 <= int(word) <= MOST_WORKERS:
            count = int(word)
        else:
            raise UsageError(f"--workers takes a number from 1 to {MOST_WORKERS}, or ray, got '{word}'.")
    return engine, count


class Finish(NamedTuple):
    """What else is done with a network's picture."""

    tta: bool
    consistency: bool
    limit: bool
    colour: str | None


def finishing(request: Request) -> Finish:
    """The words of --finish."""
    given = settings("--finish", request.finish, ("colour",), ("tta", "consistency", "no-limit"))
    colour = given.get("colour")
    if colour is not None:
        one_of("--finish colour", colour, ("none", "adain", "wavelet", "lowpass"))
    return Finish("tta" in given, "consistency" in given, "no-limit" not in given, colour)
