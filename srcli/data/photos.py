"""Training photos: folders or tar shards, decoded once and kept as uint8, in memory or in a memory-mapped file.

A crop of a mapped photo reads the pages it lies on, which the system caches while there is room: a run gives the same
bits as in memory, and needs no memory for photos.
"""

import hashlib
import io
import math
import mmap
import re
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from srcli.errors import ImageError, NothingToDoError
from srcli.files import write_error

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
    on_disk: int = 0  # bytes of their pixels that are in a file


def photograph_of(name: str) -> str:
    """The photograph a file belongs to: blocks named `<id>_<long side>_<rowcol>` share one, others are their stem."""
    stem = Path(name).stem
    block = _BLOCK.match(stem)
    return block.group(1) if block else stem


def is_held_out(photograph: str, always: Iterable[str] = ()) -> bool:
    """Whether a photograph is kept for validation: one in fifty by a hash of its name, and those named."""
    digest = hashlib.blake2b(photograph.encode()).hexdigest()[:8]
    return int(digest, 16) % HELD_OUT_ONE_IN == 0 or photograph in set(always)


def load_photos(
    sources: Sequence[Path],
    *,
    smallest: int,
    held_out: Iterable[str] = (),  # photographs to hold out besides those the hash chooses
    in_memory: int | None = None,
    folder: Path | None = None,  # an existing one, on whose disk the others lie; None for the system's place
) -> Photos:
    """Read every image of folders (recursively) and tar shards.

    Those with a side below `smallest` are listed as skipped. Up to `in_memory` bytes of pixels are held in memory, the
    rest in a file without a name; None is no limit. Raises NothingToDoError (no source, or no image that can be used),
    ImageError (a damaged tar file), ResourceError (the disk is full).
    """
    store = _Store(math.inf if in_memory is None else in_memory, folder)
    found: list[str] = []
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
            store.add(pixels)
            found.append(name)
    train: list[Photo] = []
    validation: list[Photo] = []
    for name, pixels in zip(found, store.all(), strict=True):
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
    return Photos(train, validation, skipped, store.filled)


class _Store:
    """Pictures in order: in memory up to `most` bytes, all later ones in one memory-mapped file."""

    def __init__(self, most: float, folder: Path | None) -> None:
        self.most, self.folder = most, folder
        self.held = self.filled = 0  # bytes in memory, and in the file
        self.file: BinaryIO | None = None
        self.pictures: list[U8 | tuple[int, tuple[int, ...]]] = []  # or where they begin, and their shape

    def add(self, pixels: U8) -> None:
        if self.held + pixels.nbytes <= self.most:
            self.held += pixels.nbytes
            self.pictures.append(pixels)
            return
        try:
            if self.file is None:
                self.file = tempfile.TemporaryFile(dir=self.folder, prefix=".srcli-")  # noqa: SIM115
            self.file.write(np.ascontiguousarray(pixels).data)
        except OSError as error:
            raise write_error(self.folder or tempfile.gettempdir(), error) from error
        self.pictures.append((self.filled, pixels.shape))
        self.filled += pixels.nbytes

    def all(self) -> Iterator[U8]:
        """All pictures; those in the file are read-only, and keep it open as long as one of them is used."""
        content = None
        if self.file is not None:
            with self.file as file:
                try:
                    file.flush()
                except OSError as error:
                    raise write_error(self.folder or tempfile.gettempdir(), error) from error
                content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        for picture in self.pictures:
            if isinstance(picture, tuple):
                assert content is not None
                first, shape = picture
                yield np.frombuffer(content, np.uint8, math.prod(shape), first).reshape(shape)
            else:
                yield picture


def image_files(source: Path) -> Iterator[tuple[str, bytes]]:
    """Image files of a folder and those below, a tar shard or a file: path inside the source, and content.

    Raises NothingToDoError (the source does not exist), ImageError (a damaged tar file).
    """
    if not source.exists():
        raise NothingToDoError(f"{source} does not exist.")
    if not (source.is_dir() or source.is_file()):
        raise ImageError(f"{source} is a pipe or a device, not a file.", hint="Copy it into a file first.")
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
    """The pixels (h, w, 3) of an image file's content. Raises ImageError (none, truncated, or below `smallest`)."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            pixels = np.asarray(image.convert("RGB"))
    except UnidentifiedImageError:
        raise ImageError("is no image that can be decoded") from None
    except Exception as error:  # whatever a decoder raises
        raise ImageError(f"cannot be decoded ({str(error).rstrip('.')})") from error
    if min(pixels.shape[:2]) < smallest:
        raise ImageError(f"{pixels.shape[1]}x{pixels.shape[0]} is smaller than {smallest} pixels")
    return pixels
