"""Headers of picture files, read without decoding: by Pillow within our limits, TIFF by its tags."""

from __future__ import annotations

import struct
import threading
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Literal

from PIL import Image, UnidentifiedImageError

from srcli.errors import ImageError, UsageError
from srcli.image import icc, png, tiff
from srcli.image.colour import CodePoints, read_colour
from srcli.image.formats import Depth
from srcli.image.metadata import exif_of
from srcli.image.source import RAW, RAW_HINT, Origin, Source, open_source

Kind = Literal["gray", "rgb", "cmyk"]
CHANNELS: dict[Kind, int] = {"gray": 1, "rgb": 3, "cmyk": 4}
MAX_PIXELS = 500_000_000
GIF_RATIO = 2731  # pixels for a byte at most: 4096 for a code of 12 bits; GIF89a, appendix F
GIF_SPARE = 16_000_000  # of a canvas that its pictures do not fill
WEBP_SIDE = 16383  # an animation's canvas may claim more, and is filled before its frames are looked at
TURNED = (5, 6, 7, 8)  # EXIF orientations that swap the sides
KINDS: dict[str, Kind] = {
    **dict.fromkeys(("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "F"), "gray"),
    **dict.fromkeys(("P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "YCbCr"), "rgb"),
    "CMYK": "cmyk",
}
STANDARD = 3688  # sum of the standard's table for luma, ITU-T T.81, table K.1
PLUGINS = {"jpg": ("JPEG", "MPO"), "heic": ("HEIF",)}  # of Pillow; the others are called as the formats are
# Everything Pillow's plugins have been seen to raise on damaged files.
BROKEN = (
    *(OSError, SyntaxError, ValueError, TypeError, EOFError, LookupError, RuntimeError, AssertionError),
    *(struct.error, zlib.error, Image.DecompressionBombError),
)

_lock = threading.Lock()
_users = 0
_undo = ExitStack()


@contextmanager
def pillow_rules() -> Iterator[None]:
    """Switch off Pillow's pixel limit and its warnings while any thread is inside.

    Our own limit is checked on the header, and every refusal or loss is reported once, as an error or a note.
    """
    global _users
    with _lock:
        if _users == 0:
            _undo.callback(setattr, Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
            Image.MAX_IMAGE_PIXELS = None
            _undo.enter_context(warnings.catch_warnings())
            warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                _undo.close()


@contextmanager
def pillow(source: Source) -> Iterator[None]:
    """As `pillow_rules`; Pillow's exceptions become ImageError."""
    try:
        with pillow_rules():
            yield
    except UnidentifiedImageError as error:
        raise damaged(source, "its header cannot be read") from error
    except BROKEN as error:
        raise damaged(source, error) from error


def damaged(source: Source, reason: object) -> ImageError:
    """The error for a file that begins like an image and does not hold one."""
    what = f"{source.name} is damaged or cut off ({source.format}: {reason})."
    return ImageError(what, hint="Copy or download it again.")


def open_picture(source: Source) -> Image.Image:
    """A Pillow image with its header read, its pixels not yet."""
    if source.format == "heic":
        from pi_heif import register_heif_opener

        register_heif_opener()
    source.stream.seek(0)
    with pillow(source):
        return Image.open(source.stream, formats=PLUGINS.get(source.format, (source.format.upper(),)))


@dataclass(frozen=True)
class Header:
    """A picture before its pixels are read.

    Attributes:
        size: (height, width) as it is shown, after the orientation.
        depth: 8, 16 or 32f, as it will be read.
        kind: gray, rgb or cmyk.
        alpha: whether it has transparency.
        frames: how many pictures the file holds.
        format: png, jpg, webp, tiff, avif, gif, bmp, ppm, tga, ico or heic.
        profile: name of the colour profile, or of what else describes the colours; None without.
        orientation: EXIF's number, 1 to 8.
        bits: of a sample in the file.
        quality: of a JPEG, by its tables; None for other files.
    """

    size: tuple[int, int]
    depth: Depth
    kind: Kind
    alpha: bool
    frames: int
    format: str
    profile: str | None
    orientation: int
    bits: int = 8
    quality: int | None = None

    @property
    def channels(self) -> int:
        """Of colours, and one of transparency."""
        return CHANNELS[self.kind] + self.alpha

    @property
    def nbytes(self) -> int:
        """Memory of the samples."""
        return self.size[0] * self.size[1] * self.channels * int(self.depth.rstrip("f")) // 8


@dataclass(frozen=True)
class Inspection:
    """A header with what it was read from: the chosen TIFF page, or a Pillow image at the chosen frame.

    `colour` is what the file says about its colours: a profile, or numbers that no profile can say.
    """

    header: Header
    index: int
    colour: bytes | CodePoints | None = None
    page: tiff.TiffPage | None = None
    picture: Image.Image | None = None


def probe(origin: Origin | Source, *, frames: str | int = "first", name: str | None = None) -> Header:
    """The header of a picture; nothing is decoded.

    `frames`, `name` and errors are those of `read_image`; the first picture by default, since looking does no harm.
    """
    with open_source(origin, name) as source:
        return inspect(source, frames).header


def inspect(source: Source, frames: str | int) -> Inspection:
    """Read the header of the frame asked for; see `read_image` for `frames`."""
    if source.format == "tiff":
        return _inspect_tiff(source, frames)
    picture = open_picture(source)
    with pillow(source):
        # A multi-picture JPEG is a photo with a preview or a depth map, not an animation.
        count = 1 if source.format in ("jpg", "heic") else int(getattr(picture, "n_frames", 1))
        if count == 1 and frames != "first":
            _check_claim(source)
        index = choose_frame(frames, count, source.name)
        if index:
            picture.seek(index)
        alpha = picture.has_transparency_data
    if picture.mode not in KINDS:
        what = f"{source.name} is a {picture.mode} image, which is not supported."
        raise ImageError(what, hint="Convert it to RGB.")
    first = None
    if source.format == "png":
        with source.keeping_position():
            first = png.read_png_header(source.stream)
    _check_size(source, picture, first)
    # Pillow calls 16-bit gray with alpha RGBA.
    gray = has_gray_palette(picture) or (first is not None and first.colour_type == 4)
    kind = "gray" if gray else KINDS[picture.mode]
    bits = first.bits if first else _bits(source, picture.mode)
    colour = read_colour(source, picture.info.get("icc_profile") or None, gray=kind == "gray")
    depth: Depth = "32f" if picture.mode == "F" else "16" if bits > 8 else "8"
    turn, quality = _turn(source, picture), _quality(getattr(picture, "quantization", None))
    size, name = _shown((picture.height, picture.width), turn), _profile(colour)
    header = Header(size, depth, kind, alpha, count, source.format, name, turn, bits, quality)
    return Inspection(header, index, colour, picture=picture)


def _quality(tables: Mapping[int, Sequence[int]] | None) -> int | None:
    """The quality of 1 to 100 by which libjpeg scales the standard's tables, from that of luma; of others about the same."""
    if not tables or 0 not in tables:
        return None
    scale = 100 * sum(tables[0]) / STANDARD
    return max(1, min(100, round((200 - scale) / 2 if scale <= 100 else 5000 / scale)))


def _shown(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    return (size[1], size[0]) if orientation in TURNED else size


def _profile(colour: bytes | CodePoints | None) -> str | None:
    if not isinstance(colour, bytes):
        return colour.name if colour else None
    try:
        return icc.parse_profile(colour).name or "unnamed profile"
    except ValueError:
        return "damaged profile"


def _check_size(source: Source, picture: Image.Image, first: png.PngHeader | None) -> None:
    """Refuse sizes that no encoder can have packed into the file, before memory is allocated for them."""
    size = f"{picture.width}x{picture.height} pixels"
    short = first is not None and first.raw_bytes > png.DEFLATE_RATIO * source.length
    if source.format == "gif":
        short = picture.width * picture.height > GIF_SPARE + GIF_RATIO * source.length
    if short:
        raise damaged(source, f"it is far too short for {size}")
    if source.format == "webp" and max(picture.size) > WEBP_SIDE:
        raise damaged(source, f"{size}, more than the format holds")


def _check_claim(source: Source) -> None:
    """Refuse an animated PNG of which only the first picture would be seen: its count of pictures is wrong."""
    if source.format != "png":
        return
    with source.keeping_position():
        control = png.find_chunks(source.stream, b"acTL").get(b"acTL")
    if control is not None and control[:4] != b"\0\0\0\1":
        raise ImageError(
            f"{source.name} is an animated PNG that does not say how many pictures it holds; "
            "programs that write into a pipe leave that out.",
            hint="Write it into a file first, or take --frames first.",
        )


def choose_frame(frames: str | int, count: int, name: str) -> int:
    """Index of the frame that `frames` means ("error", "first", "all", or a number counted from 1)."""
    if frames == "error" and count > 1:
        raise ImageError(
            f"{name} holds {count} pictures (animation or pages).",
            hint=f"Take --frames all, or choose one with --frames first or --frames N (1 to {count}).",
        )
    if frames in ("error", "first", "all"):
        return 0
    try:
        number = int(frames)
    except ValueError as error:
        what = f"--frames is 'error', 'all', 'first' or a number from 1, not '{frames}'."
        raise UsageError(what) from error
    if number < 1:
        raise UsageError(f"--frames counts from 1, got {number}.")
    if number > count:
        raise ImageError(f"{name} has no picture {number}: it holds {count}.")
    return number - 1


def check_pixels(header: Header, limit: int, name: str, *, count: int = 1) -> None:
    """Refuse a picture, or an animation of `count` pictures, of more than `limit` pixels before memory is spent."""
    pixels = header.size[0] * header.size[1] * count
    if pixels > limit:
        size = f"{count} times " * (count > 1) + f"{header.size[1]}x{header.size[0]}"
        raise ImageError(
            f"{name} has {size} = {pixels / 1e6:.0f} million pixels, more than the limit of {limit / 1e6:g} million.",
            hint=f"If you trust the file: --max-pixels in={pixels}.",
        )


def has_gray_palette(picture: Image.Image) -> bool:
    """Whether this is a palette picture whose palette holds only grays."""
    if picture.mode != "P" or picture.palette is None or picture.info.get("icc_profile"):
        return False
    order, data = picture.palette.getdata()  # getpalette would decode the pixels
    step = len(order)  # RGB, BGR, BGRX, RGBA
    return step >= 3 and data[0::step] == data[1::step] == data[2::step]


def _turn(source: Source, picture: Image.Image) -> int:
    """EXIF's orientation of a picture that is not TIFF; 1 where it is missing or makes no sense."""
    try:
        if source.format in ("avif", "heic"):
            found = picture.getexif().get(274)  # turns of the formats' own, which Pillow reports here
        else:
            exif = exif_of(source, picture)
            found = exif.integer(274, 1) if exif else 1
    except BROKEN:
        return 1  # damaged EXIF; `read_metadata` says so
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def _bits(source: Source, mode: str) -> int:
    if source.format in ("avif", "heic"):
        return bits_of(source)
    if mode in ("1", "F"):
        return 1 if mode == "1" else 32
    return 16 if mode.startswith("I") else max(8, ppm_maximum(source).bit_length())


def ppm_maximum(source: Source) -> int:
    """The value of white of a PGM or PPM file (raw or plain); 0 for other files."""
    lines = source.head(2048).split(b"\n") if source.format == "ppm" else []
    words = b" ".join(line.split(b"#")[0] for line in lines).split()
    return int(words[3]) if len(words) > 3 and words[0] not in (b"P1", b"P4") and words[3].isdigit() else 0


def bits_of(source: Source) -> int:
    """Bits per sample of an AVIF or HEIC file, from the codec's configuration.

    AV1-ISOBMFF, section 2.3.3; ISO/IEC 14496-15, section 8.3.3.1 for HEVC.
    """
    head = source.head()
    if (at := head.find(b"av1C")) >= 0:
        flags = int.from_bytes(head[at + 6 : at + 7])
        return (12 if flags & 0x20 else 10) if flags & 0x40 else 8
    at = head.find(b"hvcC")
    return 8 + (int.from_bytes(head[at + 21 : at + 22]) & 7) if at >= 0 else 8


def _inspect_tiff(source: Source, frames: str | int) -> Inspection:
    try:
        pages = tiff.read_pages(source.stream)
        if any(tiff.is_raw(page) for page in pages):
            raise ImageError(f"{source.name} is {RAW}, which is not supported.", hint=RAW_HINT)
        if frames == "all" and len(pages) > 1:
            raise ImageError(
                f"{source.name} holds {len(pages)} pages, which are no animation.",
                hint=f"Choose one with --frames first or --frames N (1 to {len(pages)}).",
            )
        page = pages[choose_frame(frames, len(pages), source.name)]
        tiff.check_blocks(page, source.length)
    except ValueError as error:
        raise damaged(source, error) from error
    depth: Depth = "32f" if page.kind[0] == "f" or page.bits > 16 else "16" if page.bits > 8 else "8"
    kind: Kind = "gray" if page.colours == 1 and page.photometric != tiff.PALETTE else "rgb"
    if page.photometric == tiff.SEPARATED:
        kind = "cmyk"
    entry, alpha = page.tags.entries.get(tiff.ICC), page.alpha and kind != "cmyk"
    colour, turn = entry.data if entry else None, page.orientation
    size = _shown((page.height, page.width), turn)
    header = Header(size, depth, kind, alpha, len(pages), "tiff", _profile(colour), turn, page.bits)
    return Inspection(header, page.index, colour, page=page)
