"""Which format a file has, by its first bytes, and the error for formats that are not read."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from srcli.errors import ImageError, NothingToDoError, decoding

Origin = Path | bytes

RAW_SUFFIXES = (
    *(".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".iiq", ".kdc", ".mef", ".mos", ".mrw"),
    *(".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f"),
)
RAW = "a camera's raw file"
RAW_HINT = "Develop it to a 16-bit TIFF with your raw converter first."
EXTRA_HINT = 'Install the extra: pip install "srcli[formats]"'
SIGNATURES = {
    b"\x89PNG\r\n\x1a\n": "png",
    b"\xff\xd8\xff": "jpg",
    b"GIF87a": "gif",
    b"GIF89a": "gif",
    **dict.fromkeys((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), "tiff"),
    b"BM": "bmp",
    b"\0\0\1\0": "ico",
}
BRANDS = {
    **dict.fromkeys((b"avif", b"avis"), "avif"),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "heic"),
}
TGA_KINDS, TGA_BITS = (1, 2, 3, 9, 10, 11), (8, 15, 16, 24, 32)
JXL_HINT = "Convert it first, for example: djxl photo.jxl photo.png"
REFUSED = (
    (b"\xff\x0a", "a JPEG XL image", JXL_HINT),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL image", JXL_HINT),
    (b"v/1\x01", "an OpenEXR image", "Convert it to a 32-bit float TIFF first."),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 image", "Convert it to TIFF or PNG first."),
    (b"8BPS", "a Photoshop document", "Save it as TIFF or PNG first."),
    (b"%PDF", "a PDF document", "Export its pages as PNG first."),
    *((mark, RAW, RAW_HINT) for mark in (b"FUJIFILMCCD-RAW", b"IIU\0", b"IIRO", b"\0\0\0\x18ftypcrx")),
    (b"#?RADIANCE", "a Radiance HDR image", "Convert it to a 32-bit float TIFF first."),
    (b"\x1aE\xdf\xa3", "a video", "Extract its frames first."),
)


@dataclass(frozen=True)
class Source:
    """An open file: its path or content, a seekable stream of it, a name for messages, and what it is."""

    origin: Origin
    stream: BinaryIO
    name: str
    length: int
    format: str

    @contextmanager
    def keeping_position(self) -> Iterator[None]:
        """Restore the stream's position at the end: a Pillow image may read on from there."""
        position = self.stream.tell()
        try:
            yield
        finally:
            self.stream.seek(position)

    def head(self, length: int = 1 << 16) -> bytes:
        """The first bytes."""
        with self.keeping_position():
            self.stream.seek(0)
            return self.stream.read(length)


@contextmanager
def open_source(origin: Origin | Source, name: str | None = None) -> Iterator[Source]:
    """Open a file or bytes and find their format; `name` is for messages, the path by default.

    A source that is open already is rewound, and stays open.

    Raises:
        NothingToDoError: the file does not exist.
        ImageError: it cannot be read or decoded, is empty, or is no image of a kind we read.
    """
    if isinstance(origin, Source):
        origin.stream.seek(0)
        with decoding(origin.name, origin.format):
            yield origin
        return
    label = name or ("the input" if isinstance(origin, bytes) else str(origin))
    try:
        stream = io.BytesIO(origin) if isinstance(origin, bytes) else _file(origin, label)
    except FileNotFoundError as error:
        link = ""
        if isinstance(origin, Path) and origin.is_symlink():
            link = f" is a link to {origin.readlink()}, which"
        raise NothingToDoError(f"{label}{link} does not exist.", hint="Check the path.") from error
    except IsADirectoryError as error:
        raise ImageError(f"{label} is a folder, not an image.") from error
    except OSError as error:
        raise ImageError(f"{label} cannot be read: {error.strerror or error}.") from error
    with stream:
        length = len(origin) if isinstance(origin, bytes) else os.fstat(stream.fileno()).st_size
        source = Source(origin, stream, label, length, _format(origin, stream, label, length))
        with decoding(label, source.format):
            yield source


def _file(path: Path, label: str) -> BinaryIO:
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise ImageError(f"{label} is a pipe or a device, not a file.", hint="Read standard input with -.")
    return path.open("rb")


def _format(origin: Origin, stream: BinaryIO, name: str, length: int) -> str:
    if length == 0:
        raise ImageError(f"{name} is empty (0 bytes).", hint="Copy or download it again.")
    head = stream.read(4096)
    stream.seek(-min(18, length), 2)
    tail = stream.read()
    stream.seek(0)
    for signature, what, hint in REFUSED:
        if head.startswith(signature):
            raise ImageError(f"{name} is {what}, which is not supported.", hint=hint)
    suffix = origin.suffix.lower() if isinstance(origin, Path) else ""
    if suffix in RAW_SUFFIXES or head[8:10] == b"CR":
        raise ImageError(f"{name} is {RAW}, which is not supported.", hint=RAW_HINT)
    if found := _identify(head):
        return found
    # TGA by its last bytes or, for the old kind that has no mark, by its name and a header that makes sense.
    kinds = head[1:3] + head[16:17] if suffix == ".tga" or tail == b"TRUEVISION-XFILE.\0" else b""
    if len(kinds) == 3 and kinds[0] < 2 and kinds[1] in TGA_KINDS and kinds[2] in TGA_BITS:
        return "tga"
    raise ImageError(f"{name} is not an image we can read: {_describe(head)}.")


def _identify(head: bytes) -> str | None:
    for signature, name in SIGNATURES.items():
        if head.startswith(signature):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head[4:8] == b"ftyp":
        # The major brand, then the compatible ones: some AVIF files say mif1 first.
        box = head[8 : max(int.from_bytes(head[:4], "big"), 16)]
        brands = [box[:4], *(box[i : i + 4] for i in range(8, len(box), 4))]
        names = [BRANDS[brand] for brand in brands if brand in BRANDS]
        return "avif" if "avif" in names else next(iter(names), None)
    if head[:1] == b"P" and head[1:2] in b"123456" and head[2:3] in b" \t\r\n#":
        return "ppm"
    return None


def _describe(head: bytes) -> str:
    if not any(head):
        return "it holds nothing but zeros"
    if head.lstrip()[:5].lower() in (b"<?xml", b"<svg ", b"<html", b"<!doc"):
        return "it is text (SVG, XML or HTML)"
    bytes_found = f"it begins with the bytes {head[:8].hex(' ')}"
    try:
        head[: len(head) - 4].decode("utf-8")
    except UnicodeDecodeError:
        return bytes_found
    return "it is text" if b"\0" not in head else bytes_found
