"""How large the output shall be: every size option becomes one exact pair of sides.

A rule says it in the person's words (a factor, a width, a box, a print); `SizeRule.target` answers for one
picture. Sides that were asked for in pixels are met exactly; the other side follows the aspect ratio, rounded
half to even in exact arithmetic. A factor goes through `geometry.output_size`, like everywhere else.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from srcli.errors import ResourceError, UsageError
from srcli.geometry import Size, output_size

Fit = Literal["inside", "cover", "exact"]

DEFAULT_SCALE = 4.0
DEFAULT_DPI = 300.0
INCHES = {"mm": 1 / 25.4, "cm": 1 / 2.54, "in": 1.0}
PREFIXES = {"": 1, "k": 1e3, "m": 1e6, "g": 1e9}

SIDES = {"4k": 3840, "5k": 5120, "8k": 7680}  # of screens that are called so
PAPERS = {"letter": "8.5x11in", "legal": "8.5x14in", "a0": "841x1189mm", "a1": "594x841mm", "a2": "420x594mm",
          "a3": "297x420mm", "a4": "210x297mm", "a5": "148x210mm", "a6": "105x148mm"}  # fmt: skip

_NUMBER = r"\d+(?:\.\d+)?"
_PAPER = re.compile(
    rf"({_NUMBER})\s*[x×]\s*({_NUMBER})\s*(mm|cm|in)(?:\s*@\s*({_NUMBER})\s*(?:dpi)?)?", re.IGNORECASE
)
_BOX = re.compile(r"(\d+)\s*[x×]\s*(\d+)(?:\s*(?:px|pixels))?", re.IGNORECASE)
_PIXELS = re.compile(rf"({_NUMBER})\s*([kmg]?)(?:p|px|pixels)?", re.IGNORECASE)


@dataclass(frozen=True)
class Paper:
    """A print: width and height as written, the unit, and dots per inch."""

    width: float
    height: float
    unit: str
    dpi: float

    @property
    def size(self) -> Size:
        """Height and width in dots."""
        dots = INCHES[self.unit] * self.dpi
        return Size(max(1, round(self.height * dots)), max(1, round(self.width * dots)))

    def __str__(self) -> str:
        return f"{self.width:g}x{self.height:g}{self.unit}"


@dataclass(frozen=True)
class Target:
    """The output size of one picture."""

    size: Size
    scale: float  # for names and messages: as asked for, or the width's
    dpi: float | None = None  # is recorded, where a print was asked for
    kept: bool = False  # `SizeRule.only` left the picture at its own size


@dataclass(frozen=True)
class SizeRule:
    """One way to say how large; exactly one of the first seven fields (width and height count as one) is set."""

    scale: float | None = None  # factor for both sides
    width: int | None = None  # pixels
    height: int | None = None
    max_side: int | None = None  # pixels of the longer side
    short_side: int | None = None
    megapixels: float | None = None  # millions of output pixels
    paper: Paper | None = None  # a print; turned by a quarter where that matches the picture better
    fit: Fit = "inside"  # how a box of width and height is met; exact changes the aspect
    only: Literal["enlarge", "shrink"] | None = None  # pictures that would need the opposite keep their size

    def target(self, size: Size) -> Target:
        """Output size of a picture of `size`.

        Raises ResourceError (the size is beyond any number of pixels).
        """
        try:
            wanted = self._wanted(size)
        except OverflowError:
            raise ResourceError(f"a picture of {size.w}x{size.h} cannot be enlarged that far.") from None
        shrinks = wanted.h < size.h or wanted.w < size.w
        grows = wanted.h > size.h or wanted.w > size.w
        dpi = self.paper.dpi if self.paper else None
        if (self.only == "enlarge" and shrinks) or (self.only == "shrink" and grows):
            return Target(size, 1.0, dpi, kept=True)
        return Target(wanted, self.scale or float(Fraction(wanted.w, size.w)), dpi)

    def _wanted(self, size: Size) -> Size:
        if self.scale is not None:
            return output_size(size, self.scale)
        if self.max_side is not None:
            return _proportional(size, Fraction(self.max_side, max(size)))
        if self.short_side is not None:
            return _proportional(size, Fraction(self.short_side, min(size)))
        if self.megapixels is not None:
            return output_size(size, math.sqrt(self.megapixels * 1e6 / (size.h * size.w)))
        if self.paper is not None:
            paper = self.paper.size
            turned = (size.w > size.h) != (paper.w > paper.h) and paper.w != paper.h and size.w != size.h
            return _box(size, Size(paper.w, paper.h) if turned else paper, self.fit)
        if self.width is not None and self.height is not None:
            return _box(size, Size(self.height, self.width), self.fit)
        if self.width is not None:
            return _proportional(size, Fraction(self.width, size.w))
        assert self.height is not None  # size_rule() sets one of them
        return _proportional(size, Fraction(self.height, size.h))

    @property
    def tag(self) -> str:
        """The rule in a few characters for file names: x4.3, w3840, h2160, 3840x2160, max8000, 12mp, 30x40cm."""
        if self.scale is not None:
            return f"x{self.scale:g}"
        if self.max_side is not None:
            return f"max{self.max_side}"
        if self.short_side is not None:
            return f"short{self.short_side}"
        if self.megapixels is not None:
            return f"{self.megapixels:g}mp"
        if self.paper is not None:
            return str(self.paper)
        if self.width is not None and self.height is not None:
            return f"{self.width}x{self.height}"
        return f"w{self.width}" if self.width is not None else f"h{self.height}"


def _proportional(size: Size, factor: Fraction) -> Size:
    return Size(max(1, round(size.h * factor)), max(1, round(size.w * factor)))


def _box(size: Size, box: Size, fit: Fit) -> Size:
    if fit == "exact":
        return box
    factors = Fraction(box.h, size.h), Fraction(box.w, size.w)
    return _proportional(size, min(factors) if fit == "inside" else max(factors))


def size_rule(
    *,
    scale: str | None = None,
    width: str | int | None = None,
    height: str | int | None = None,
    max_side: str | int | None = None,
    short_side: str | int | None = None,
    megapixels: float | None = None,
    paper: str | None = None,
    fit: Fit | None = None,
    only_enlarge: bool = False,
    only_shrink: bool = False,
) -> SizeRule:
    """The rule that the size options state; with none of them, four times as large.

    Raises UsageError (two options that contradict each other, or a value that is no size).
    """
    given = {
        "--scale": scale is not None,
        "--width/--height": width is not None or height is not None,
        "--max-side": max_side is not None,
        "--short-side": short_side is not None,
        "--megapixels": megapixels is not None,
        "--print": paper is not None,
    }
    named = [name for name, present in given.items() if present]
    if len(named) > 1:
        raise UsageError(f"{' and '.join(named)} both state the output size.", hint="Give one of them.")
    if only_enlarge and only_shrink:
        raise UsageError("--only-enlarge and --only-shrink exclude each other.", hint="Give one of them.")
    boxed = paper is not None or (width is not None and height is not None)
    if fit is not None and not boxed:
        raise UsageError("--fit needs a box.", hint="Give both --width and --height, or --print.")
    if megapixels is not None and not (math.isfinite(megapixels) and megapixels > 0):
        raise UsageError(f"--megapixels must be a positive number, got {megapixels}.")
    return SizeRule(
        scale=parse_scale(scale) if scale is not None else (None if named else DEFAULT_SCALE),
        width=_parse_side("--width", width),
        height=_parse_side("--height", height),
        max_side=_parse_side("--max-side", max_side),
        short_side=_parse_side("--short-side", short_side),
        megapixels=megapixels,
        paper=parse_paper(paper) if paper is not None else None,
        fit=fit or "inside",
        only="enlarge" if only_enlarge else "shrink" if only_shrink else None,
    )


def parse_scale(text: str) -> float:
    """A factor from ``4.3``, ``4.3x`` or ``430%``.

    Raises UsageError (not a positive finite number).
    """
    word = text.strip().lower()
    percent = word.endswith("%")
    word = word[:-1] if percent else word.removesuffix("x").removesuffix("×")
    hint = "Write a factor such as 4.3, 4.3x or 430%."
    if box := _BOX.fullmatch(word):
        size = f"--width {box[1]} --height {box[2]}"
        raise UsageError(
            f"--scale {text} may be a size, or two factors.",
            hint=f"For a size write {size}; for a factor of each side, the size in pixels and --fit exact.",
        )
    if side := re.fullmatch(r"(\d+)\s*(px|pixels)", text.strip().lower()):
        hint = f"For pixels write --width {side[1]} or --max-side {side[1]}."
    try:
        factor = float(word) / (100 if percent else 1)
    except ValueError:
        raise UsageError(f"--scale {text!r} is not a number.", hint=hint) from None
    if not (math.isfinite(factor) and factor > 0):
        raise UsageError(f"--scale must be a positive finite number, got {text}.", hint=hint)
    return factor


def _parse_side(option: str, text: str | int | None) -> int | None:
    """Pixels from ``3000``, ``3000px`` or ``4k``."""
    if text is None:
        return None
    word = str(text).strip().lower()
    if box := _BOX.fullmatch(word):
        hint = f"Did you mean --width {box[1]} --height {box[2]}?"
        raise UsageError(f"{option} takes one side, got '{text}'.", hint=hint)
    if re.fullmatch(r"[\d.]+[x%]", word):
        raise UsageError(f"{option} takes pixels, got '{text}'.", hint=f"Did you mean --scale {word}?")
    side = SIDES.get(word)
    if side is None:
        found = re.fullmatch(r"(-?\d+)\s*(?:p|px|pixels)?", word)
        if found is None:
            raise UsageError(
                f"{option} takes pixels, got '{text}'.", hint="Write a number such as 3000, or 4k."
            )
        side = int(found[1])
    if side < 1:
        raise UsageError(f"{option} must be a positive number, got {text}.")
    return side


def parse_paper(text: str) -> Paper:
    """A print from ``30x40cm@300dpi`` or ``A4``; units mm, cm and in; 300 dpi where none is given.

    Raises UsageError (not of this form, or zero).
    """
    name, at, dpi_text = text.strip().partition("@")
    match = _PAPER.fullmatch(PAPERS.get(name.strip().lower(), name) + at + dpi_text)
    if match is None:
        raise UsageError(f"--print {text!r} is not understood.", hint="Write it like 30x40cm@300dpi, or A4.")
    width, height = float(match[1]), float(match[2])
    dpi = float(match[4]) if match[4] else DEFAULT_DPI
    if not all(math.isfinite(x) and x > 0 for x in (width, height, dpi)):
        raise UsageError(f"--print {text!r} has no extent.", hint="Write it like 30x40cm@300dpi.")
    return Paper(width, height, match[3].lower(), dpi)


def parse_pixels(text: str, name: str) -> int:
    """A number of pixels from ``500M``, ``4G``, ``250k`` or ``1000000``; `name` is the option, for the message.

    Raises UsageError (not of this form, or less than one).
    """
    match = _PIXELS.fullmatch(text.strip())
    count = int(float(match[1]) * PREFIXES[match[2].lower()]) if match and len(match[1]) < 300 else 0
    if count < 1:
        raise UsageError(f"{name} {text!r} is not a number of pixels.", hint="Write it like 500M or 4G.")
    return count
