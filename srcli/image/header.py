"""What a file holds, read from its header alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from srcli.errors import ImageError, UsageError
from srcli.image import icc, png, tiff
from srcli.image.cicp import CodePoints, read_colour
from srcli.image.formats import Depth
from srcli.image.ifd import parse_exif
from srcli.image.metadata import exif_of
from srcli.image.pillow import BROKEN, damaged, open_picture, own_rules
from srcli.image.source import RAW_HINT, Origin, Source, kept_position, open_source

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

Kind = Literal["gray", "rgb", "cmyk"]
MAX_PIXELS = 500_000_000
GIF_RATIO = 2731  # pixels for a byte at most: 4096 for a code of 12 bits; GIF89a, appendix F
GIF_SPARE = 16_000_000  # of a canvas that its pictures do not fill
WEBP_SIDE = (
    16383  # an animation's canvas could claim more, and would be filled before its frames are looked at
)
TURNED = (5, 6, 7, 8)  # EXIF orientations that swap the sides

KINDS: dict[str, Kind] = {
    **dict.fromkeys(("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "F"), "gray"),
    **dict.fromkeys(("P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "YCbCr"), "rgb"),
    "CMYK": "cmyk",
}


@dataclass(frozen=True)
class Header:
    """A picture before its pixels are read.

    Attributes:
        size: (height, width) as it is shown, after the orientation.
        depth: 8, 16 or 32f, as it will be read.
        bits: of a sample in the file.
        kind: gray, rgb or cmyk.
        alpha: whether it has transparency.
        frames: how many pictures the file holds.
        format: png, jpg, webp, tiff, avif, gif, bmp, ppm, tga, ico or heic.
        profile: name of the colour profile, or of what else describes the colours; None without.
        orientation: EXIF's number, 1 to 8.
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

    @property
    def nbytes(self) -> int:
        """Memory of the samples."""
        channels = {"gray": 1, "rgb": 3, "cmyk": 4}[self.kind] + self.alpha
        return self.size[0] * self.size[1] * channels * {"8": 1, "16": 2, "32f": 4}[self.depth]


@dataclass(frozen=True)
class Inspection:
    """A header with what it was read from: the chosen TIFF page, or a Pillow image at the chosen frame.

    `colour` is what the file says about its colours: a profile, or numbers that no profile can say.
    """

    header: Header
    index: int
    colour: bytes | CodePoints | None = None
    page: tiff.TiffPage | None = None
    picture: Picture | None = None


def probe(origin: Origin, *, frames: str | int = "first", name: str | None = None) -> Header:
    """The header of a picture; nothing is decoded.

    Args:
        origin: a path, or the content itself.
        frames: as in `read_image`; the first picture by default, since looking does no harm.
        name: what to call it in messages.

    Raises:
        NothingToDoError: the file does not exist.
        ImageError: it is no image, empty, damaged, or of a kind we do not read.
    """
    with open_source(origin, name) as source:
        return inspect(source, frames).header


def inspect(source: Source, frames: str | int) -> Inspection:
    """Read the header of the frame asked for; see `read_image` for `frames`."""
    if source.format == "tiff":
        return _inspect_tiff(source, frames)
    picture = open_picture(source)
    try:
        with own_rules():
            # A multi-picture JPEG is a photo with a preview or a depth map, not an animation.
            count = 1 if source.format in ("jpg", "heic") else int(getattr(picture, "n_frames", 1))
            if count == 1 and frames != "first":
                _check_claim(source)
            index = choose_frame(frames, count, source.name)
            if index:
                picture.seek(index)
            alpha = picture.has_transparency_data
    except BROKEN as error:
        raise damaged(source, error) from error
    orientation = _orientation(source, picture)
    mode = picture.mode
    if mode not in KINDS:
        raise ImageError(
            f"{source.name} is a {mode} image, which is not supported.", hint="Convert it to RGB."
        )
    if _is_too_short(source, picture):
        raise damaged(source, f"it is far too short for {picture.width}x{picture.height} pixels")
    if source.format == "webp" and max(picture.size) > WEBP_SIDE:
        raise damaged(source, f"{picture.width}x{picture.height} pixels, more than the format holds")
    kind = _kind(source, picture)
    colour = read_colour(source, picture.info.get("icc_profile") or None, gray=kind == "gray")
    header = Header(
        size=_shown((picture.height, picture.width), orientation),
        depth=_depth(source, picture),
        kind=kind,
        alpha=alpha,
        frames=count,
        format=source.format,
        profile=_profile_name(colour),
        orientation=orientation,
        bits=_bits(source, picture),
    )
    return Inspection(header, index, colour, picture=picture)


def _is_too_short(source: Source, picture: Picture) -> bool:
    """Whether no encoder could have packed so many pixels into the file: memory is not spent on them."""
    if source.format == "gif":
        return picture.width * picture.height > GIF_SPARE + GIF_RATIO * source.length
    if source.format != "png":
        return False
    with kept_position(source.stream):
        return png.raw_bytes(png.read_png_header(source.stream)) > png.DEFLATE_RATIO * source.length


def _check_claim(source: Source) -> None:
    """Refuse an animated PNG of which only the first picture would be seen: its count of pictures is wrong.

    Raises:
        ImageError: it is.
    """
    if source.format != "png":
        return
    with kept_position(source.stream):
        control = png.find_chunk(source.stream, b"acTL", before=b"IDAT")
    if control is not None and control[:4] != b"\0\0\0\1":
        raise ImageError(
            f"{source.name} is an animated PNG that does not say how many pictures it holds; "
            "programs that write into a pipe leave that out.",
            hint="Write it into a file first, or take --frames first.",
        )


def choose_frame(frames: str | int, count: int, name: str) -> int:
    """Index of the frame that `frames` means ("error", "first", "all", or a number counted from 1).

    Raises:
        UsageError: another word.
        ImageError: several frames and no choice, or a number beyond the last.
    """
    if frames == "error":
        if count > 1:
            raise ImageError(
                f"{name} holds {count} pictures (animation or pages).",
                hint=f"Take --frames all, or choose one with --frames first or --frames N (1 to {count}).",
            )
        return 0
    if frames in ("first", "all"):
        return 0
    try:
        number = int(frames)
    except ValueError as error:
        raise UsageError(
            f"--frames is 'error', 'all', 'first' or a number from 1, not '{frames}'."
        ) from error
    if number < 1:
        raise UsageError(f"--frames counts from 1, got {number}.")
    if number > count:
        raise ImageError(f"{name} has no picture {number}: it holds {count}.")
    return number - 1


def check_pixels(header: Header, limit: int, name: str, *, count: int = 1) -> None:
    """Refuse a picture, or an animation of `count` pictures, of more than `limit` pixels before memory is spent.

    Raises:
        ImageError: it is larger.
    """
    pixels = header.size[0] * header.size[1] * count
    if pixels > limit:
        times = f"{count} times " if count > 1 else ""
        raise ImageError(
            f"{name} has {times}{header.size[1]}x{header.size[0]} = {pixels / 1e6:.0f} million pixels, "
            f"more than the limit of {limit / 1e6:g} million.",
            hint=f"If you trust the file: --max-input-pixels {pixels}.",
        )


def has_gray_palette(picture: Picture) -> bool:
    """Whether this is a palette picture whose palette holds only grays."""
    if picture.mode != "P" or picture.palette is None or picture.info.get("icc_profile"):
        return False
    order, data = picture.palette.getdata()  # getpalette would decode the pixels
    step = len(order)  # RGB, BGR, BGRX, RGBA
    return step >= 3 and data[0::step] == data[1::step] == data[2::step]


def _orientation(source: Source, picture: Picture) -> int:
    """EXIF's orientation of a picture that is not TIFF; 1 where it is missing or makes no sense."""
    try:
        if source.format in ("avif", "heic"):
            found = picture.getexif().get(
                274
            )  # these formats have turns of their own, which Pillow reports here
        else:
            block = exif_of(source, picture)
            found = parse_exif(block).integer(274, 1) if block else 1
    except BROKEN:
        return 1  # damaged EXIF; `read_metadata` says so
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def _shown(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    return (size[1], size[0]) if orientation in TURNED else size


def _profile_name(data: bytes | CodePoints | None) -> str | None:
    if not data:
        return None
    if isinstance(data, CodePoints):
        return data.name
    try:
        return icc.parse_profile(data).name or "unnamed profile"
    except ValueError:
        return "damaged profile"


def _kind(source: Source, picture: Picture) -> Kind:
    if has_gray_palette(picture):
        return "gray"
    if source.format == "png":
        with kept_position(source.stream):
            if png.read_png_header(source.stream).colour_type == 4:
                return "gray"  # Pillow calls 16-bit gray with alpha RGBA
    return KINDS[picture.mode]


def _depth(source: Source, picture: Picture) -> Depth:
    if picture.mode == "F":
        return "32f"
    return "16" if _bits(source, picture) > 8 else "8"


def _bits(source: Source, picture: Picture) -> int:
    if source.format == "png":
        with kept_position(source.stream):
            return png.read_png_header(source.stream).bits
    if source.format in ("avif", "heic"):
        return bits_of(source)
    if picture.mode in ("1", "F"):
        return 1 if picture.mode == "1" else 32
    return 16 if picture.mode.startswith("I") else max(8, ppm_maximum(source).bit_length())


def ppm_maximum(source: Source) -> int:
    """The value of white of a PGM or PPM file (raw or plain); 0 for other files."""
    if source.format != "ppm":
        return 0
    with kept_position(source.stream):
        source.stream.seek(0)
        lines = source.stream.read(2048).split(b"\n")
    words = b" ".join(line.split(b"#")[0] for line in lines).split()
    return int(words[3]) if len(words) > 3 and words[0] not in (b"P1", b"P4") and words[3].isdigit() else 0


def bits_of(source: Source) -> int:
    """Bits per sample of an AVIF or HEIC file, from the codec's configuration.

    AV1-ISOBMFF, section 2.3.3; ISO/IEC 14496-15, section 8.3.3.1 for HEVC.
    """
    with kept_position(source.stream):
        source.stream.seek(0)
        head = source.stream.read(1 << 16)
    if (at := head.find(b"av1C")) >= 0:
        flags = int.from_bytes(head[at + 6 : at + 7])
        return (12 if flags & 0x20 else 10) if flags & 0x40 else 8
    at = head.find(b"hvcC")
    return 8 + (int.from_bytes(head[at + 21 : at + 22]) & 7) if at >= 0 else 8


def _inspect_tiff(source: Source, frames: str | int) -> Inspection:
    try:
        pages = tiff.read_pages(source.stream)
    except ValueError as error:
        raise damaged(source, error) from error
    if any(tiff.is_raw(page) for page in pages):
        raise ImageError(f"{source.name} is a camera's raw file, which is not supported.", hint=RAW_HINT)
    if frames == "all" and len(pages) > 1:
        raise ImageError(
            f"{source.name} holds {len(pages)} pages, which are no animation.",
            hint=f"Choose one with --frames first or --frames N (1 to {len(pages)}).",
        )
    page = pages[choose_frame(frames, len(pages), source.name)]
    try:
        tiff.check_blocks(page, source.length)
    except ValueError as error:
        raise damaged(source, error) from error
    bits = int(page.kind[1:])
    depth: Depth = "32f" if page.kind[0] == "f" or bits > 16 else "16" if bits > 8 else "8"
    kind: Kind = "cmyk" if page.photometric == tiff.SEPARATED else "gray" if page.colours == 1 else "rgb"
    if page.photometric == tiff.PALETTE:
        kind = "rgb"
    entry = page.tags.entries.get(tiff.ICC)
    colour = entry.data if entry else None
    orientation = page.orientation if 1 <= page.orientation <= 8 else 1
    header = Header(
        size=_shown((page.height, page.width), orientation),
        depth=depth,
        kind=kind,
        alpha=page.alpha and kind != "cmyk",
        frames=len(pages),
        format="tiff",
        profile=_profile_name(colour),
        orientation=orientation,
        bits=bits,
    )
    return Inspection(header, page.index, colour, page=page)
