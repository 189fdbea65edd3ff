"""From an inspected file to samples: which decoder reads which kind without losing bits.

libvips reads PNG, JPEG, WebP, deep AVIF and TIFF; tifffile the kinds of TIFF that libvips does not; OpenCV deep PPM;
pi-heif HEIC of 10 bits; Pillow the rest: animations, AVIF of 8 bits, and old formats. "Deep" is more than 8 bits.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from srcli.errors import ImageError
from srcli.image import png, tiff
from srcli.image.probe import (
    Inspection,
    Kind,
    bits_of,
    damaged,
    has_gray_palette,
    inspect,
    open_picture,
    pillow,
    ppm_maximum,
)
from srcli.image.samples import Samples, stretched
from srcli.image.source import EXTRA_HINT, Origin, Source, open_source
from srcli.image.vips import LOADERS, decode_rows, decode_whole

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

# TIFF compressions: 1 none, 2 to 4 fax, 5 LZW, 6 and 7 JPEG, 8 and 32946 deflate, 32773 PackBits, 34925 LZMA,
# 50000 Zstandard, 50001 WebP.
USUAL_COMPRESSIONS = frozenset({1, 2, 3, 4, 5, 7, 8, 32773, 32946, 50001})
PILLOW_COMPRESSIONS = frozenset({6, 34925, 50000})
YCBCR = 6
PHOTOMETRICS = (*tiff.COLOURS, YCBCR)
DEEP_ANIMATION = "is an animation of 16 bits, of which only the first picture can be read."


@dataclass
class Decoded:
    """Samples as the file stores them.

    Attributes:
        pixels: (h, w, c), uint8, uint16 or float32; 1, 3 or 4 (CMYK, 255 is full ink) channels.
        alpha: (h, w) of the same type, or None.
        upright: whether the decoder has already applied the orientation.
        notes: what was lost.
    """

    pixels: Samples
    alpha: Samples | None
    upright: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def kind(self) -> Kind:
        """Gray, rgb or cmyk."""
        channels = self.pixels.shape[2]
        return "gray" if channels == 1 else "cmyk" if channels == 4 else "rgb"


def comes_in_bands(source: Source, found: Inspection) -> bool:
    """Whether `decode_bands` reads this picture; those that are turned or transparent need their whole."""
    return _is_for_vips(source, found) and not found.header.alpha and found.header.orientation == 1


def can_read_in_bands(origin: Origin | Source, frames: str | int) -> bool:
    """Whether a picture can be read with little memory; see `read_image`."""
    with open_source(origin) as source:
        return comes_in_bands(source, inspect(source, frames))


def decode_bands(source: Source, found: Inspection, most: int) -> Iterator[Decoded]:
    """The samples of a picture that `comes_in_bands`, from top to bottom in bands of at most `most` bytes or one row."""
    first = True
    try:
        for rows in decode_rows(source, found.index, most):
            yield _finished(rows, source, found)
            first = False
    except ValueError as error:
        if not first:
            raise damaged(source, error) from error
        yield _read_otherwise(source, found, error)


def decode(source: Source, found: Inspection) -> Decoded:
    """The samples of an inspected picture.

    Raises:
        ImageError: the file is cut off, damaged, or of a kind no decoder here reads.
    """
    decoded = _decode(source, found)
    h, w, _ = decoded.pixels.shape
    if found.header.size not in ((h, w), (w, h)):
        raise damaged(source, "its size is not what the header says")
    return decoded


def _decode(source: Source, found: Inspection) -> Decoded:
    if _is_for_vips(source, found):
        try:
            return _finished(decode_whole(source, found.index), source, found)
        except ValueError as error:
            return _read_otherwise(source, found, error)
    if found.page is not None:
        return _decode_tiff(source, found.page, ValueError("it cannot be decoded"))
    assert found.picture is not None
    if found.header.depth != "16":
        return decode_frame(source, found.picture)
    if source.format == "heic":
        return _finished(_decode_deep_heic(source), source, found)
    if source.format == "ppm":  # Pillow would cut the colour ones
        return _finished(_decode_deep_ppm(source), source, found)
    if source.format == "png":
        raise ImageError(f"{source.name} {DEEP_ANIMATION}", hint="Use --frames first.")
    decoded = decode_frame(source, found.picture)
    decoded.notes.append(f"this {source.format} of more than 8 bits is read at 8 bits")
    return decoded


def _read_otherwise(source: Source, found: Inspection, error: ValueError) -> Decoded:
    """A picture that libvips refuses: a TIFF is read by others, anything else is damaged."""
    if found.page is not None:
        return _decode_tiff(source, found.page, error)
    if source.format == "png":
        check_png(source)  # its error gives a better reason
    raise damaged(source, error) from error


def _is_for_vips(source: Source, found: Inspection) -> bool:
    """Formats in `LOADERS`, but for those that others read better and pictures that depend on earlier ones."""
    if found.page is not None:  # libvips sets colours to 0 where alpha is small
        return not (found.page.premultiplied and found.page.kind[0] == "f")
    if source.format == "avif" and found.header.depth == "8":
        return False  # libavif is twice as fast as libheif, and 0.1 to 1.5 dB nearer
    alone = found.header.frames == 1 or (source.format == "png" and not found.index)
    return source.format in LOADERS and alone


def check_png(source: Source) -> None:
    """Refuse a PNG with a damaged chunk, or whose (first) picture has fewer rows than its header says."""
    try:
        with source.keeping_position():
            png.check_png(source.stream)
    except ValueError as error:
        raise damaged(source, error) from error


def _finished(samples: NDArray[Any], source: Source, found: Inspection) -> Decoded:
    """Rows of a decoder that gives them as the file stores them."""
    if found.page is not None:
        return _finish_tiff(samples, found.page)
    if source.format in ("avif", "heic") and samples.dtype == np.uint16:
        bits = bits_of(source)
        samples = stretched(samples >> (16 - bits), (1 << bits) - 1)
    kind = found.header.kind  # gray: perhaps by a palette of grays
    alpha, upright = samples.shape[2] in (2, 4) and kind != "cmyk", source.format == "avif"  # by libheif
    return _split_alpha(samples, alpha=alpha, gray=kind == "gray", upright=upright)


def _split_alpha(samples: Samples, *, alpha: bool, gray: bool, upright: bool) -> Decoded:
    """Colours (one channel of them if they are `gray`) and, if the last channel is that, alpha."""
    colours = 1 if gray else samples.shape[2] - alpha
    cover = np.ascontiguousarray(samples[..., -1]) if alpha else None
    return Decoded(np.ascontiguousarray(samples[..., :colours]), cover, upright)


def decode_frame(source: Source, picture: Picture, *, upright: bool = False) -> Decoded:
    """8-bit samples of the picture that Pillow has gone to, palettes expanded."""
    gray_palette = has_gray_palette(picture)
    with pillow(source):
        picture.load()
        mode = picture.mode
        if mode in ("1", "L", "LA", "La"):
            mode = "LA" if picture.has_transparency_data else "L"
        elif mode in ("P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "YCbCr"):
            mode = "RGBA" if picture.has_transparency_data else "RGB"
        elif mode not in ("CMYK", "F"):
            what = f"{source.name} is a {mode} image, which is not supported."
            raise ImageError(what, hint="Convert it to RGB.")
        samples = np.array(picture if picture.mode == mode else picture.convert(mode))
    samples = samples if samples.ndim == 3 else samples[..., None]
    return _split_alpha(samples, alpha=mode in ("LA", "RGBA"), gray=gray_palette, upright=upright)


def _decode_deep_ppm(source: Source) -> NDArray[Any]:
    import cv2

    white, level = ppm_maximum(source), cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        picture = cv2.imdecode(np.frombuffer(source.head(-1), np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise damaged(source, str(error).strip().splitlines()[-1]) from error
    finally:
        cv2.utils.logging.setLogLevel(level)
    if picture is None or picture.dtype != np.uint16 or not 255 < white < 65536:
        raise damaged(source, "it cannot be decoded at 16 bits")
    return stretched(np.atleast_3d(picture)[..., ::-1], white)


def _decode_deep_heic(source: Source) -> NDArray[Any]:
    """HEIC of 10 or 12 bits, turned by libheif like the others."""
    from pi_heif import open_heif

    source.stream.seek(0)
    with pillow(source):
        file = open_heif(source.stream, convert_hdr_to_8bit=False)
        samples = np.array(file)  # a copy: the file's memory goes with it
    return samples if samples.ndim == 3 else samples[..., None]


def _decode_tiff(source: Source, page: tiff.TiffPage, error: ValueError) -> Decoded:
    """By tifffile, or, where a codec is missing, by Pillow."""
    import tifffile

    logging.getLogger("tifffile").addHandler(logging.NullHandler())  # its remarks are for programmers
    source.stream.seek(0)
    try:
        with tifffile.TiffFile(source.stream) as file:
            samples = np.asarray(file.pages[page.index].asarray())
    except Exception as again:  # it raises what its codecs raise
        if page.compression in PILLOW_COMPRESSIONS and page.bits <= 8:
            picture = open_picture(source)
            with pillow(source):
                picture.seek(page.index)
            return decode_frame(source, picture, upright=True)  # Pillow turns TIFF, and only TIFF, by itself
        if page.compression in USUAL_COMPRESSIONS:
            raise damaged(source, error) from again
        what = f"{page.kind} samples, compression {page.compression}"
        what = f"{source.name} is a TIFF of a rare kind ({what}) that cannot be read."
        raise ImageError(what, hint=EXTRA_HINT) from again
    samples = samples[..., None] if samples.ndim == 2 else samples
    if page.planar:
        samples = np.moveaxis(samples, 0, -1)
    if samples.shape != (page.height, page.width, page.samples):
        raise damaged(source, "its size is not what the header says")
    if page.photometric == tiff.PALETTE:
        table = page.tags.integers(tiff.COLOUR_MAP)
        if (page.kind[0], page.samples, len(table)) != ("u", 1, 3 << page.bits):
            raise damaged(source, "its palette does not fit")
        samples = (np.reshape(table, (3, -1)).T >> 8).astype(np.uint8)[samples[..., 0]]
    return _finish_tiff(samples, page, raw=True)


def _finish_tiff(samples: NDArray[Any], page: tiff.TiffPage, *, raw: bool = False) -> Decoded:
    """Rows (n, w, samples) in common sample types, white at the top, alpha apart and not multiplied in.

    `raw` are as stored; libvips has inverted integers, divided by alpha and looked up palettes.
    """
    notes = []
    if samples.dtype.kind == "f" and samples.dtype != np.float32:
        if samples.dtype.itemsize > 4:
            notes.append("64-bit float samples are read as 32-bit float")
        samples = samples.astype(np.float32)
    elif samples.dtype == np.uint32:
        notes.append("32-bit integer samples are read as 32-bit float")
        samples = (samples / np.float64(2**32 - 1)).astype(np.float32)
    elif raw and 8 < page.bits < 16:
        samples = stretched(samples, (1 << page.bits) - 1)
    if samples.dtype not in (np.uint8, np.uint16, np.float32) or page.photometric not in PHOTOMETRICS:
        what = f"samples of type {page.kind}, photometric {page.photometric}"
        raise ImageError(f"TIFF {what} are not supported.", hint="Convert it first.")
    colours = page.colours if page.photometric != tiff.PALETTE else samples.shape[2]
    if page.samples > colours + page.alpha:
        notes.append(f"{page.samples - colours - page.alpha} extra channels are left out")
    alpha = np.ascontiguousarray(samples[..., colours]) if page.alpha else None
    pixels = np.ascontiguousarray(samples[..., :colours])
    if page.photometric == tiff.WHITE_IS_ZERO and (raw or pixels.dtype == np.float32):
        pixels = (1 if pixels.dtype == np.float32 else np.iinfo(pixels.dtype).max) - pixels
    if raw and alpha is not None and page.premultiplied:
        pixels = _divide(pixels, alpha)
    if alpha is not None and page.photometric == tiff.SEPARATED:
        notes.append("the alpha channel of a CMYK picture is left out")
        alpha = None
    return Decoded(pixels, alpha, notes=notes)


def _divide(pixels: Samples, alpha: Samples) -> Samples:
    """Colours from colours times alpha."""
    if pixels.dtype == np.float32:
        return (pixels / np.where(alpha > 0, alpha, 1)[..., None]).astype(np.float32)
    top = np.iinfo(pixels.dtype).max
    visible = np.maximum(alpha, 1).astype(np.uint64)[..., None]
    return np.minimum((pixels.astype(np.uint64) * top + visible // 2) // visible, top).astype(pixels.dtype)
