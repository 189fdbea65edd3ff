"""Looking through training photos: what cannot be used, what is there twice, what belongs to a benchmark, and totals."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from srcli.data.photos import decoded, image_files, is_held_out, photograph_of
from srcli.data.similar import SAME, Bits, benchmark_matches, near_duplicates, perceptual_hash
from srcli.errors import ImageError, NothingToDoError

SHARES = (0, 0.25, 0.5, 0.75, 1)  # of the photos, for the sides that `totals` gives


class Finding(NamedTuple):
    """Something wrong with one file; `kind` is broken, small, duplicate or benchmark."""

    name: str
    kind: str
    problem: str


@dataclass(frozen=True)
class Inspected:
    """One file, decoded once.

    Attributes:
        name: source and path inside it.
        bytes: of the file.
        format: as Pillow calls it; empty if it is broken.
        width: in pixels.
        height: in pixels.
        gray: all three channels are equal.
        signs: its perceptual hash.
        problem: why it cannot be decoded.
    """

    name: str
    bytes: int
    format: str = ""
    width: int = 0
    height: int = 0
    gray: bool = False
    signs: Bits | None = None
    problem: str | None = None


def inspect(sources: Iterable[Path]) -> Iterator[Inspected]:
    """Every image file of folders, tar shards and files, in order.

    Raises:
        NothingToDoError: a source does not exist.
        ImageError: a damaged tar file.
    """
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
    """What is wrong: broken and small files, near duplicates, pictures of benchmarks.

    Args:
        files: from `inspect`.
        smallest: side in pixels that a training photo needs.
        within: signs of 255 in which pictures that show the same may differ.

    Raises:
        NothingToDoError: there is no file at all.
    """
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
    """Numbers, sizes and kinds of the files that can be decoded.

    Raises:
        NothingToDoError: there is none.
    """
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
