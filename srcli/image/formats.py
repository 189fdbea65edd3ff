"""The formats that are written: what each can hold, and how large it can be."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from srcli.errors import ResourceError, UsageError, suggest

Depth = Literal["8", "16", "32f"]


@dataclass(frozen=True)
class Format:
    """What a file format can hold.

    `max_side` is the largest width and height in pixels of the encoders (and for AVIF the decoders) in use.
    """

    name: str
    suffixes: tuple[str, ...]
    depths: tuple[Depth, ...]
    max_side: int
    alpha: bool = True
    gray: bool = True
    cmyk: bool = False
    animated: bool = False
    icc: bool = True


FORMATS = {
    "png": Format("png", (".png",), ("8", "16"), 2**31 - 1, animated=True),
    # The file format allows 65535; libjpeg refuses to write more than 65500.
    "jpg": Format("jpg", (".jpg", ".jpeg", ".jpe", ".jfif"), ("8",), 65500, alpha=False, cmyk=True),
    "webp": Format("webp", (".webp",), ("8",), 16383, gray=False, animated=True),
    "tiff": Format("tiff", (".tif", ".tiff"), ("8", "16", "32f"), 2**31 - 1, cmyk=True),
    # The file format allows 65536; libavif's decoder, and so nearly every viewer, refuses more than 32768.
    "avif": Format("avif", (".avif",), ("8",), 32768, animated=True),
    "gif": Format("gif", (".gif",), ("8",), 65535, gray=False, animated=True, icc=False),
}
AVIF_BITS = {"10": 10, "12": 12}  # what AVIF stores for 16 bits, if chosen or as in the source
ALIASES = {"jpeg": "jpg", "tif": "tiff"}

# Options of encoders that not every format has: their defaults, and the formats that have them.
OPTIONS: dict[str, tuple[object, frozenset[str]]] = {
    "quality": (95, frozenset({"jpg", "webp", "avif"})),
    "lossless": (False, frozenset({"webp", "avif"})),
    "chroma": ("444", frozenset({"jpg", "avif"})),
    "compress_level": (6, frozenset({"png", "tiff"})),
    "max_bytes": (None, frozenset({"jpg", "webp", "avif"})),
    "bit_depth": ("keep", frozenset(name for name, form in FORMATS.items() if len(form.depths) > 1)),
    "icc": ("keep", frozenset(name for name, form in FORMATS.items() if form.icc)),
    "background": ((1.0, 1.0, 1.0), frozenset(name for name, form in FORMATS.items() if not form.alpha)),
}


def find_format(name: str) -> Format:
    """The format called `name`; jpeg and tif are understood. A UsageError names what is near to a wrong one."""
    lower = name.lower().lstrip(".")
    lower = ALIASES.get(lower, lower)
    if lower not in FORMATS:
        raise UsageError(f"unknown output format '{name}'.", hint=suggest(lower, FORMATS))
    return FORMATS[lower]


def format_of(path: Path) -> Format | None:
    """The format that the ending of a file name means, or None."""
    return next((form for form in FORMATS.values() if path.suffix.lower() in form.suffixes), None)


def depth_wanted(own: Depth, bit_depth: str) -> Depth:
    """The depth that `--bit-depth` means for a source of depth `own`."""
    return own if bit_depth == "keep" else "16" if bit_depth in AVIF_BITS else cast(Depth, bit_depth)


def depths_of(form: Format, own: str, bit_depth: str) -> tuple[Depth, ...]:
    """The depths that an output can have, of a source of format `own`."""
    deep = bit_depth in AVIF_BITS or (own == "avif" and bit_depth == "keep")
    return ("8", "16") if form.name == "avif" and deep else form.depths


def check_format_limits(name: str, size: tuple[int, int]) -> None:
    """Refuse (ResourceError) a size (height, width) that format `name` cannot hold, before any work is done."""
    form, longest = find_format(name), max(size)
    if longest <= form.max_side:
        return
    roomier = [other.name for other in FORMATS.values() if other.max_side >= longest]
    hint = f"Use --format {' or '.join(roomier)}, or a smaller scale." if roomier else "Use a smaller scale."
    what = f"{size[1]}x{size[0]} pixels do not fit into {form.name}"
    raise ResourceError(f"{what}: at most {form.max_side} a side.", hint=hint)
