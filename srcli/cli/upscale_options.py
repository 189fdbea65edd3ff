"""The options of `srcli upscale`, earlier ones, and values from words such as --encode chroma=420,dither."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Literal, NamedTuple

from srcli.cli import options
from srcli.cli.command import DIFFUSION, NOISE, argument, option
from srcli.cli.options import number, one_of, parse_bytes, parse_colour, settings
from srcli.config.presets import DEFAULT_PRESET, REAL_WORLD_PRESET
from srcli.errors import UsageError

MOST_WORKERS = 256
BARE = {"--preview": "auto"}  # what is meant where no value follows
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
    "--branch": "--sampling branch={}",
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

size = partial(option, panel="Size (one of)")
out = partial(option, panel=options.OUTPUT)
batch = partial(option, panel="Batch")
run = partial(option, panel=options.RUN)
report = partial(option, panel=options.REPORT)
BASIC = (
    "model", "degradation", "scale", "width", "height", "max_side", "megapixels", "print", "output", "format", "quality",
    "bit_depth", "metadata", "recursive", "overwrite", "device", "preview", "dry_run", "quiet",
)  # fmt: skip


class Finish(NamedTuple):
    """What else is done with a network's picture."""

    tta: bool
    consistency: bool
    limit: bool
    colour: str | None


@dataclass(frozen=True)
class Request:
    """The options, in the order of their help."""

    inputs: list[str] | None = argument(
        "Files, folders, patterns such as 'shots/*.jpg', @LIST (a file that names files; @- reads names from stdin), "
        "or - for a picture on stdin.",
        "INPUT...",
    )
    model: str | None = option(
        f"See srcli models list (default: {DEFAULT_PRESET}). A preset, its TOML file, or a safetensors file; with @ "
        "and the first digits of their SHA-256 only these weights.",
        "-m NAME|FILE[@HASH]",
    )
    degradation: Literal["auto", "auto:each", "clean", "real"] | None = option(
        "real repairs damaged pictures, auto decides (default: clean). clean leaves pictures to the model, and tells "
        f"of damage; real takes {REAL_WORLD_PRESET}; auto measures JPEG blocks, noise and blur and takes what suits "
        "each folder, or with auto:each each picture."
    )
    restore: float | None = option(
        "How much of the restored picture is taken, from 0 (the faithful one) to 1. (default: 1, with auto less "
        "where damage is slight)",
        "S",
        min=0,
        max=1,
    )
    license: Literal["any", "commercial"] = option(
        "With commercial, refuse weights whose licence does not allow commercial use.", default="any"
    )
    scale: str | None = size("4.3, 4.3x or 430% (default: 4).", "-s FACTOR")
    width: str | None = size("Width of the output, such as 3840 or 4k.", "-W PX")
    height: str | None = size("Height of the output.", "-H PX")
    max_side: str | None = size("Longer side.", "PX")
    short_side: str | None = size("Shorter side.", "PX")
    megapixels: float | None = size("Millions of pixels.", "MP")
    print_: str | None = size(
        "Size on paper: 30x40cm@300dpi, 8x10in or A4; turned to match the picture.", "--print SIZE"
    )
    fit: Literal["inside", "cover", "exact"] | None = size(
        "How a box (width and height, or a print) is met. (default: inside)"
    )
    only_enlarge: bool | None = size(
        "Leave larger, or smaller, pictures at their size.", "--only-enlarge/--only-shrink"
    )
    output: str | None = out(
        "Where to (default: beside the input). A name without suffix is a folder, - is stdout.",
        "-o FILE|FOLDER|-",
    )
    name: str | None = out(
        "Name of an output (default: {stem}_{size}{ext}), from {stem} {suffix} {parent} (of the input), {size} {scale} "
        "{width} {height} {model} {ext}, and {index}, the place among files that are named or the number of a "
        "sample; {size} is x4.3, w3840, max8000, ..",
        "TEMPLATE",
    )
    format: str = out(
        "auto is that of --output, or of the input.", "-f auto|png|jpg|webp|tiff|avif|gif", default="auto"
    )
    quality: int = out("Of JPEG, WebP and AVIF, 1 to 100.", min=1, max=100, default=95)
    bit_depth: Literal["keep", "8", "10", "12", "16", "32f"] = out(
        "Bits per sample; 10 and 12 are AVIF's.", default="keep"
    )
    encode: list[str] | None = out(
        "chroma=444|420: resolution of colour in JPEG and AVIF; lossless: WebP and AVIF; compress-level=0..9: effort "
        "of PNG and TIFF; dither: hide the steps of 8 bits under fine noise; max-bytes=5MB: reduce --quality until a "
        "JPEG, WebP or AVIF is no larger; background=COLOR: under transparency, where the format has none.",
        "KEY[=VALUE],..",
    )
    metadata: list[str] | None = out(
        "EXIF and XMP; safe drops places, owners and serial numbers. icc=keep|srgb|p3|strip: colour profile. "
        "unmarked: do not record in the output how it was made; a later run cannot tell then that it is up to date.",
        "keep|safe|strip|icc=..|unmarked",
    )
    alpha: Literal["auto", "model", "lanczos", "drop"] = out(
        "How transparency is enlarged; auto is by the model, unless it is constant or the model is one for damaged "
        "pictures.",
        default="auto",
    )
    frames: str = out(
        "Which picture of an animation or of pages, N from 1; all keeps an animation (PNG, WebP, GIF, AVIF).",
        "error|all|first|N",
        default="error",
    )
    recursive: bool = batch("Folders of folders, too. --output mirrors them.", "-r")
    include: list[str] | None = batch("Only these files.", "GLOB")
    exclude: list[str] | None = batch(
        "Not these files. What srcli made from others of them is left out as well, but for none.", "GLOB|none"
    )
    overwrite: bool | None = batch(
        "Where the output exists: make it again, or leave it. (default: skip what is up to date, replace what srcli "
        "made from another input or otherwise, and refuse the rest)",
        "--overwrite/--skip-existing",
    )
    upgrade: bool = batch(
        "Make results again that other weights made; without it they stay, unless --model names the model."
    )
    fail_fast: bool = batch("Stop at the first file that fails.")
    shard: str | None = batch(
        "Do only this share of the files, I from 0; auto asks SLURM, Kubernetes or torchrun.", "I/N|auto"
    )
    manifest: Path | None = batch(
        "Record there what is done, a file of its own for every share.", "FILE.jsonl"
    )
    status: bool = batch("Only say what the manifests say is done and missing.")
    workers: list[str] | None = batch(
        "Processes per device (default: 1); 2 on a CPU share its cores, which pays for many small pictures. ray: on a "
        "Ray cluster (extra 'ray'), which also reads and writes object storage: s3://bucket/shots.",
        "N|ray",
    )
    device: str = run(
        "Where to run; all, or several with commas: a process on each.",
        "-d auto|all|cpu|cuda[:N][,..]|mps|xpu",
        envvar="SRCLI_DEVICE",
        default="auto",
    )
    precision: options.Precision = "auto"
    tile: options.Tile = "auto"
    temperature: list[str] | None = option(
        "0 is faithful, up to 1 adds detail (default: auto, the preset's own for the scale). map=auto: less noise on "
        "flat areas and clean edges and more in texture; map=FILE: as a gray picture says, white is the whole "
        "temperature.",
        "-T T|auto|map=..",
        panel=NOISE,
    )
    seed: options.Seed = 0
    samples: int = option(
        "Results per input, with seeds counting up; {index} in --name is then their number.",
        "N",
        panel=NOISE,
        default=1,
    )
    finish: list[str] | None = out(
        "tta: the mean of the results for eight turned and mirrored copies, a little closer, eight times the time; "
        "consistency: make the result reduce to the input exactly, for inputs that are bicubic reductions; "
        "colour=adain|wavelet|lowpass|none: give it the colours of the input again, means and deviations (adain, "
        "which models that restore do by themselves), low frequencies, or what it lacks when reduced; no-limit: for "
        "studies, leave a network's own picture as it is, beyond what the input bears out, too.",
        "KEY[=VALUE],..",
    )
    sampling: options.SamplingWords = None
    selection_map: Path | None = option(
        "The branch of every pixel, in colours.", "FILE.png|FOLDER", panel=DIFFUSION
    )
    offline: options.Offline = False
    max_pixels: list[str] | None = run(
        "Refuse larger inputs and outputs. (default: in=500M,out=4G)", "in=N,out=N"
    )
    preview: str | None = report(
        "A part of 256 pixels as a PNG with bicubic beside it, in seconds; by all models that are here, less "
        "experimental ones, where -m names none; around X,Y, else where most detail is.",
        "--preview --preview-at [X,Y]",
    )
    dry_run: bool = report("Say what would be done; do nothing.")
    json: bool | None = report(
        "Results as JSON: an object or an array, or one line per file.", "--json/--jsonl"
    )
    progress: options.Progress = "auto"
    quiet: bool | None = report(
        "Only errors on stderr, or also what was chosen and why.", "--quiet/--verbose -q/-v"
    )

    @property
    def encoding(self) -> tuple[dict[str, object], bool]:
        """Options of `srcli.image.plan_output`, and whether the output says how it was made."""
        keys = ("chroma", "compress-level", "max-bytes", "background")
        given = settings("--encode", self.encode, keys, ("lossless", "dither"))
        words = settings("--metadata", self.metadata, ("icc",), ("keep", "safe", "strip", "unmarked"))
        level = number("--encode", given, "compress-level", int)
        if level is not None and not 0 <= level <= 9:
            raise UsageError(f"--encode compress-level takes a number from 0 to 9, got {level}.")
        most = given.get("max-bytes")
        return {
            "quality": self.quality,
            "max_bytes": None if most is None else parse_bytes("--encode max-bytes", most),
            "lossless": "lossless" in given,
            "chroma": one_of("--encode chroma", given.get("chroma", "444"), ("444", "420")),
            "compress_level": 6 if level is None else level,
            "bit_depth": self.bit_depth,
            "dither": "dither" in given,
            "icc": one_of("--metadata icc", words.pop("icc", "keep"), ("keep", "srgb", "p3", "strip")),
            "metadata": next((word for word in reversed(words) if word != "unmarked"), "keep"),
            "background": parse_colour("--encode background", given.get("background", "white")),
        }, "unmarked" not in words

    @property
    def worker_count(self) -> tuple[str, int]:
        """Where processes run, local or ray, and how many on each device."""
        engine, count = "local", 1
        for word in self.workers or ():
            if word in ("local", "ray"):
                engine = word
            elif word.isdecimal() and 1 <= int(word) <= MOST_WORKERS:
                count = int(word)
            else:
                raise UsageError(f"--workers takes a number from 1 to {MOST_WORKERS}, or ray, got '{word}'.")
        return engine, count

    @cached_property
    def finishing(self) -> Finish:
        """The words of --finish."""
        given = settings("--finish", self.finish, ("colour",), ("tta", "consistency", "no-limit"))
        colour = given.get("colour")
        if colour is not None:
            one_of("--finish colour", colour, ("none", "adain", "wavelet", "lowpass"))
        return Finish("tta" in given, "consistency" in given, "no-limit" not in given, colour)
