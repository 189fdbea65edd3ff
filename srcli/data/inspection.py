"""Checks of training photos: unusable files, near duplicates, pictures of benchmarks; and totals."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from srcli.config.presets import preset_folders
from srcli.data.photos import U8, Photo, decoded, image_files, is_held_out, photograph_of
from srcli.errors import ImageError, ModelError, NothingToDoError

SHARES = (0, 0.25, 0.5, 0.75, 1)  # of the photos, for the sides that `totals` gives

SAME = 60  # differing signs of 255, at most; resizing and JPEG change up to 30, unrelated pictures differ in 85 and more


class Finding(NamedTuple):
    """Something wrong with one file; `kind` is broken, small, duplicate or benchmark."""

    name: str
    kind: str
    problem: str


@dataclass(frozen=True)
class Inspected:
    """One file, decoded once."""

    name: str  # source and path inside it
    bytes: int  # of the file
    format: str = ""  # as Pillow calls it; empty if it is broken
    width: int = 0  # in pixels
    height: int = 0  # in pixels
    gray: bool = False  # all three channels are equal
    signs: Bits | None = None  # its perceptual hash
    problem: str | None = None  # why it cannot be decoded


def inspect(sources: Iterable[Path]) -> Iterator[Inspected]:
    """Every image file of folders, tar shards and files, in order; raises as `image_files`."""
    for source in sources:
        for path, data in image_files(source):
            name = str(source) if source.name == path else f"{source}/{path}"
            try:
                pixels = decoded(data)
            except ImageError as error:
                yield Inspected(name, len(data), problem=str(error))
                continue
            height, width = pixels.shape[:2]
            with Image.open(io.BytesIO(data)) as image:
                kind = image.format or "?"
            gray = bool((pixels == pixels[..., :1]).all())
            yield Inspected(name, len(data), kind, width, height, gray, perceptual_hash(pixels))


def findings(files: Sequence[Inspected], *, smallest: int, within: int = SAME) -> list[Finding]:
    """Broken files, sides below `smallest`, near duplicates (at most `within` of 255 signs), pictures of benchmarks."""
    if not files:
        raise NothingToDoError("there is no image to look at.")
    good = [f for f in files if f.signs is not None]
    names, hashes = [f.name for f in good], [f.signs for f in good if f.signs is not None]
    return [
        *(Finding(f.name, "broken", f.problem) for f in files if f.problem),
        *(
            Finding(f.name, "small", f"{f.width}x{f.height} is smaller than {smallest} pixels")
            for f in good
            if min(f.width, f.height) < smallest
        ),
        *(
            Finding(match.name, "duplicate", f"shows what {match.other} shows")
            for match in near_duplicates(names, hashes, within)
        ),
        *(
            Finding(match.name, "benchmark", f"shows the picture {match.other}")
            for match in benchmark_matches(names, hashes, within)
        ),
    ]


def totals(files: Sequence[Inspected]) -> dict[str, Any]:
    """Numbers, sizes and kinds of the files that can be decoded. Raises NothingToDoError (there is none)."""
    good = [f for f in files if not f.problem]
    if not good:
        raise NothingToDoError("there is no image that can be decoded.")
    photographs = {photograph_of(PurePath(f.name).name) for f in good}
    sides = {
        side: [int(v) for v in np.quantile([getattr(f, side) for f in good], SHARES, method="nearest")]
        for side in ("width", "height")
    }
    return {
        "images": len(good),
        "broken": len(files) - len(good),
        "photographs": len(photographs),
        "held_out": sum(is_held_out(photograph) for photograph in photographs),
        "megapixels": round(sum(f.width * f.height for f in good) / 1e6, 3),
        "megabytes": round(sum(f.bytes for f in good) / 1e6, 3),
        "megabytes_decoded": round(sum(f.width * f.height * 3 for f in good) / 1e6, 3),
        **sides,
        "formats": dict(sorted(Counter(f.format for f in good).items())),
        "gray": sum(f.gray for f in good),
    }


# --- perceptual hashes ---------------------------------------------------------------------------------------------

SIDE, WAVES = 64, 16
SHOWN = 5  # names in a message
AT_ONCE = 1024  # hashes in a block that is compared with another block
Bits = NDArray[np.bool_]


class Match(NamedTuple):
    """A photo that shows what another picture shows."""

    name: str
    other: str
    distance: int


def perceptual_hash(pixels: U8) -> Bits:
    """The signs (256,) of a picture (h, w, 3) or (h, w); the first, of the mean, is always 0."""
    luma = Image.fromarray(pixels).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    waves = _waves() @ np.asarray(luma, np.float64) @ _waves().T
    signs = waves > 0
    signs[0, 0] = False  # of the mean, which is always positive
    return signs.ravel()


@cache
def _waves() -> NDArray[np.float64]:
    """The slowest cosine waves (16, 64)."""
    k, n = np.arange(WAVES)[:, None], np.arange(SIDE)
    return np.cos(np.pi * (2 * n + 1) * k / (2 * SIDE))


def turned(signs: Bits) -> list[Bits]:
    """The hashes of the eight flips and rotations of a picture, itself first."""
    square = signs.reshape(WAVES, WAVES)
    odd = np.arange(WAVES) % 2 == 1  # a mirrored odd wave changes its sign
    found = []
    for plane in (square, square.T):
        for rows in (False, True):
            for cols in (False, True):
                flipped = plane ^ (odd[:, None] & rows) ^ (odd[None, :] & cols)
                flipped[0, 0] = False
                found.append(flipped.ravel())
    return found


def distances(a: Sequence[Bits], b: Sequence[Bits]) -> NDArray[np.int64]:
    """How many signs differ, (len(a), len(b))."""
    left, right = (np.where(np.asarray(x), 1.0, -1.0).astype(np.float32) for x in (a, b))
    return ((left.shape[1] - left @ right.T) / 2).round().astype(np.int64)


def near_duplicates(
    names: Sequence[str], hashes: Sequence[Bits], within: int = SAME, at_once: int = AT_ONCE
) -> list[Match]:
    """Pictures that resemble an earlier one, each with the first that it resembles."""
    found: dict[int, Match] = {}
    for top in range(0, len(hashes), at_once):
        for left in range(0, top + 1, at_once):
            table = distances(hashes[top : top + at_once], hashes[left : left + at_once])
            for i, j in np.argwhere(table <= within):
                later, earlier = int(top + i), int(left + j)
                if earlier < later and later not in found:
                    found[later] = Match(names[later], names[earlier], int(table[i, j]))
    return [found[place] for place in sorted(found)]


# --- benchmarks ---------------------------------------------------------------------------------------------------


@cache
def known_pictures() -> tuple[tuple[str, ...], tuple[Bits, ...]]:
    """Names and hashes of the benchmark pictures that are known: Set5, Set14 and B100, each of them turned too."""
    path = preset_folders()[-1] / "benchmarks" / "hashes" / "perceptual.txt"
    names, hashes = [], []
    for line in path.read_text("utf-8").splitlines():
        if not line.startswith("#"):
            digits, name = line.split(maxsplit=1)
            for signs in turned(from_hex(digits)):
                names.append(name)
                hashes.append(signs)
    return tuple(names), tuple(hashes)


def to_hex(signs: Bits) -> str:
    """A hash as 64 hexadecimal digits."""
    return np.packbits(signs).tobytes().hex()


def from_hex(digits: str) -> Bits:
    """The hash of 64 hexadecimal digits."""
    return np.unpackbits(np.frombuffer(bytes.fromhex(digits), np.uint8)).astype(bool)


def benchmark_matches(names: Sequence[str], hashes: Sequence[Bits], within: int = SAME) -> list[Match]:
    """The pictures that resemble a benchmark picture as it is, mirrored or turned."""
    if not names:
        return []
    known, table = known_pictures()
    away = distances(hashes, table)
    nearest = away.argmin(axis=1)
    return [
        Match(name, known[at], int(row[at]))
        for name, at, row in zip(names, nearest, away, strict=True)
        if row[at] <= within
    ]


def refuse_benchmarks(photos: Iterable[Photo], *, force: bool) -> list[str]:
    """Raise ModelError if a photo shows a picture of Set5, Set14 or B100 as a whole; with `force`, a line for each."""
    photos = list(photos)
    matches = benchmark_matches([p.name for p in photos], [perceptual_hash(p.pixels) for p in photos])
    lines = [f"{match.name} shows the picture {match.other}" for match in matches]
    if lines and not force:
        more = f", and {len(lines) - SHOWN} more" if len(lines) > SHOWN else ""
        raise ModelError(
            f"photos to train on are pictures of benchmarks: {', '.join(lines[:SHOWN])}{more}.",
            hint="Remove them, or give --force; results on these benchmarks then mean nothing.",
        )
    return lines
