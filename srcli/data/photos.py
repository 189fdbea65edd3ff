"""Training photos: folders or tar shards, decoded once and kept as uint8."""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from srcli.errors import ImageError, NothingToDoError

U8 = NDArray[np.uint8]

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp"}
HELD_OUT_ONE_IN = 50
_BLOCK = re.compile(r"^(\w+?)_\d+_\d+$")  # <photograph>_<long side>_<row and column>: a block of a photograph


@dataclass(frozen=True)
class Photo:
    """One training image: file name, the photograph it shows, and its pixels (h, w, 3) uint8."""

    name: str
    photograph: str
    pixels: U8


@dataclass(frozen=True)
class Photos:
    """The photos of a run, split into those trained on and those held out for validation."""

    train: Sequence[Photo]
    held_out: Sequence[Photo]
    skipped: Sequence[str]  # one line per file that could not be used


def photograph_of(name: str) -> str:
    """The photograph a file belongs to: blocks named `<id>_<long side>_<rowcol>` share one, others are their stem."""
    stem = Path(name).stem
    block = _BLOCK.match(stem)
    return block.group(1) if block else stem


def is_held_out(photograph: str, always: Iterable[str] = ()) -> bool:
    """Whether a photograph is kept for validation: one in fifty by a hash of its name, and those named."""
    digest = hashlib.blake2b(photograph.encode()).hexdigest()[:8]
    return int(digest, 16) % HELD_OUT_ONE_IN == 0 or photograph in set(always)


def load_photos(sources: Sequence[Path], *, smallest: int, held_out: Iterable[str] = ()) -> Photos:
    """Read every image of folders (recursively) and tar shards.

    Args:
        sources: folders, image files or tar files.
        smallest: images with a side below this are skipped, and said so.
        held_out: photographs to hold out besides those the hash chooses.

    Raises:
        NothingToDoError: a source does not exist, or no image could be used.
        ImageError: a damaged tar file.
    """
    train: list[Photo] = []
    validation: list[Photo] = []
    skipped: list[str] = []
    always = set(held_out)
    for source in sources:
        for path, data in image_files(source):
            name = PurePath(path).name
            try:
                pixels = decoded(data, smallest=smallest)
            except ImageError as error:
                skipped.append(f"{name}: {error}")
                continue
            photo = Photo(name, photograph_of(name), pixels)
            (validation if is_held_out(photo.photograph, always) else train).append(photo)
    if not train and validation:  # a handful of photos: the hash may hold out all of them
        train, validation = validation, []
    if not train:
        where = ", ".join(map(str, sources))
        raise NothingToDoError(
            f"No usable training image in {where}.",
            hint=f"Images need sides of at least {smallest} pixels; skipped: {len(skipped)}.",
        )
    return Photos(train, validation, skipped)


def image_files(source: Path) -> Iterator[tuple[str, bytes]]:
    """The image files of a folder (with those below it), a tar shard or a file: path inside the source, and content.

    Raises:
        NothingToDoError: the source does not exist.
        ImageError: a damaged tar file.
    """
    if not source.exists():
        raise NothingToDoError(f"{source} does not exist.")
    if source.is_dir():
        for path in sorted(p for p in source.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file()):
            yield path.relative_to(source).as_posix(), path.read_bytes()
    elif tarfile.is_tarfile(source):
        try:
            with tarfile.open(source) as shard:
                for member in shard:
                    file = shard.extractfile(member) if member.isfile() else None
                    if file is not None and Path(member.name).suffix.lower() in SUFFIXES:
                        yield member.name, file.read()
        except tarfile.TarError as error:
            raise ImageError(f"{source} is a damaged tar file: {error}.", hint="Fetch it again.") from error
    else:
        yield source.name, source.read_bytes()


def decoded(data: bytes, *, smallest: int = 1) -> U8:
    """The pixels (h, w, 3) of an image file's content.

    Raises:
        ImageError: no image, truncated, or with a side below `smallest`.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            pixels = np.asarray(image.convert("RGB"))
    except UnidentifiedImageError:
        raise ImageError("is no image that can be decoded") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ImageError(f"cannot be decoded ({str(error).rstrip('.')})") from error
    if min(pixels.shape[:2]) < smallest:
        raise ImageError(f"{pixels.shape[1]}x{pixels.shape[0]} is smaller than {smallest} pixels")
    return pixels
