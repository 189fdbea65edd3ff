"""From an inspected file to samples: which decoder reads which kind without losing bits.

Pillow reads what has 8 bits or less; OpenCV 16-bit PNG and 10- and 12-bit AVIF; our own decoder plain TIFF of
any depth, OpenCV the compressed kinds of 16-bit and float TIFF it is known to read right, tifffile (an extra)
the rest.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from srcli.errors import ImageError
from srcli.image import png, tiff
from srcli.image.header import Inspection, Kind, avif_bits, has_gray_palette, ppm_maximum
from srcli.image.pillow import BROKEN, damaged, open_picture, own_rules
from srcli.image.quantise import Samples
from srcli.image.source import EXTRA_HINT, Source, kept_position

if TYPE_CHECKING:
    from PIL.Image import Image as Picture


# TIFF compressions: 1 none, 2 to 4 fax, 5 LZW, 6 and 7 JPEG, 8 and 32946 deflate, 32773 PackBits, 34925 LZMA,
# 50000 Zstandard, 50001 WebP.
PILLOW_COMPRESSIONS = frozenset({1, 2, 3, 4, 5, 6, 7, 8, 32773, 32946, 34925, 50000, 50001})
OPENCV_COMPRESSIONS = frozenset({1, 5, 8, 32773, 32946})


@dataclass
class Decoded:
    """Samples as the file stores them.

    Attributes:
        pixels: (h, w, c), uint8, uint16 or float32; 1, 3 or 4 (CMYK, 255 is full ink) channels.
        alpha: (h, w) of the same type, or None.
        kind: gray, rgb or cmyk.
        upright: whether the decoder has already applied the orientation.
        notes: what was lost.
    """

    pixels: Samples
    alpha: Samples | None
    kind: Kind
    upright: bool = False
    notes: list[str] = field(default_factory=list)


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
    if found.page is not None:
        return _decode_tiff(source, found.page)
    assert found.picture is not None
    if source.format == "png" and found.header.depth == "16":
        return _decode_png16(source, found.index)
    if source.format == "avif" and found.header.depth == "16":
        return _decode_deep_avif(source, found.picture, found.index)
    if source.format == "ppm" and found.header.depth == "16":
        return _decode_ppm16(source)
    if source.format == "png" and found.index == 0:
        check_png_length(source)
    decoded = _from_pillow(source, found.picture)
    if int(found.picture.info.get("bit_depth", 8)) > 8:  # said by pillow_heif
        decoded.notes.append("a HEIC picture of 10 bits or more is read at 8 bits")
    return decoded


def check_png_length(source: Source) -> None:
    """Refuse a PNG whose (first) picture has fewer rows than its header says.

    Raises:
        ImageError: it has.
    """
    try:
        with kept_position(source.stream):
            png.check_length(source.stream)
    except ValueError as error:
        raise damaged(source, error) from error


def decode_frame(source: Source, picture: Picture) -> Decoded:
    """8-bit samples of the picture of an animation that Pillow has gone to.

    Raises:
        ImageError: it is damaged.
    """
    return _from_pillow(source, picture)


def _from_pillow(source: Source, picture: Picture, *, upright: bool = False) -> Decoded:
    """8-bit samples, palettes expanded."""
    gray_palette = has_gray_palette(picture)
    try:
        with own_rules():
            picture.load()
            mode = _plain_mode(picture, source.name)
            if picture.mode != mode:
                picture = picture.convert(mode)
            samples = np.array(picture)
    except ImageError:
        raise
    except BROKEN as error:
        raise damaged(source, error) from error
    if samples.ndim == 2:
        samples = samples[..., None]
    alpha = None
    if mode in ("LA", "RGBA"):
        samples, alpha = _split(samples)
    if gray_palette:
        samples = np.ascontiguousarray(samples[..., :1])
    kind: Kind = "cmyk" if mode == "CMYK" else "gray" if samples.shape[2] == 1 else "rgb"
    return Decoded(samples, alpha, kind, upright)


def _plain_mode(picture: Picture, name: str) -> str:
    """The mode to expand to: L, LA, RGB, RGBA, CMYK, or F."""
    if picture.mode in ("CMYK", "F"):
        return picture.mode
    if picture.mode in ("1", "L", "LA", "La"):
        return "LA" if picture.has_transparency_data else "L"
    if picture.mode in ("P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "YCbCr"):
        return "RGBA" if picture.has_transparency_data else "RGB"
    raise ImageError(f"{name} is a {picture.mode} image, which is not supported.", hint="Convert it to RGB.")


def _split(samples: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Colours (h, w, c) and the last channel (h, w), each on its own."""
    return np.ascontiguousarray(samples[..., :-1]), np.ascontiguousarray(samples[..., -1])


def _imdecode(source: Source, index: int = 0) -> NDArray[Any]:
    """OpenCV's decoding, channels as RGB(A), (h, w, c)."""
    import cv2

    source.stream.seek(0)
    data = np.frombuffer(source.stream.read(), np.uint8)
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        if index:
            done, pictures = cv2.imdecodemulti(data, cv2.IMREAD_UNCHANGED, None, (index, index + 1))
            picture = pictures[0] if done else None
        else:
            picture = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise damaged(source, str(error).strip().splitlines()[-1]) from error
    finally:
        cv2.utils.logging.setLogLevel(level)
    if picture is None:
        raise damaged(source, "it cannot be decoded")
    if picture.ndim == 2:
        return picture[..., None]
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB if picture.shape[2] == 3 else cv2.COLOR_BGRA2RGBA)


def _decode_png16(source: Source, index: int) -> Decoded:
    if index:
        raise ImageError(
            f"{source.name} is an animated PNG of 16 bits, of which only the first picture can be read.",
            hint="Use --frames first.",
        )
    try:
        # OpenCV fills what is missing from a cut file with black; the checksums find that.
        chunks = png.check_png(source.stream)
    except ValueError as error:
        raise damaged(source, error) from error
    colour_type = png.read_png_header(source.stream).colour_type
    samples = _imdecode(source)
    if samples.dtype != np.uint16:
        raise damaged(source, "it cannot be decoded at 16 bits")
    if colour_type == 4:  # gray with alpha arrives as R = G = B
        return Decoded(np.ascontiguousarray(samples[..., :1]), np.ascontiguousarray(samples[..., -1]), "gray")
    if colour_type == 0:
        key = chunks.get(b"tRNS", b"")
        gray = np.ascontiguousarray(samples[..., :1])
        alpha = None
        if len(key) >= 2:
            alpha = np.where(gray[..., 0] == int.from_bytes(key[:2], "big"), 0, 65535).astype(np.uint16)
        return Decoded(gray, alpha, "gray")
    if samples.shape[2] == 4:
        return Decoded(*_split(samples), "rgb")
    return Decoded(samples, None, "rgb")


def _decode_deep_avif(source: Source, picture: Picture, index: int) -> Decoded:
    bits = avif_bits(source)
    if index:
        decoded = _from_pillow(source, picture)
        decoded.notes.append(f"a later picture of a {bits}-bit AVIF is read at 8 bits")
        return decoded
    samples = _imdecode(source)
    levels = np.uint32((1 << bits) - 1)
    samples = ((samples.astype(np.uint32) * 65535 + levels // 2) // levels).astype(np.uint16)
    if samples.shape[2] == 4:
        return Decoded(*_split(samples), "rgb")
    return Decoded(samples, None, "gray" if samples.shape[2] == 1 else "rgb")


def _decode_ppm16(source: Source) -> Decoded:
    """PGM and PPM beyond 8 bits: Pillow would cut the colour ones."""
    white = ppm_maximum(source)
    samples = _imdecode(source)
    if samples.dtype != np.uint16 or not 255 < white < 65536:
        raise damaged(source, "it cannot be decoded at 16 bits")
    samples = ((samples.astype(np.uint32) * 65535 + white // 2) // white).clip(0, 65535).astype(np.uint16)
    return Decoded(samples, None, "gray" if samples.shape[2] == 1 else "rgb")


def _decode_tiff(source: Source, page: tiff.TiffPage) -> Decoded:
    plain = page.photometric in (tiff.WHITE_IS_ZERO, tiff.BLACK_IS_ZERO, tiff.RGB, tiff.SEPARATED)
    if plain and tiff.can_decode(page):
        try:
            return finish_tiff(tiff.decode_page(source.stream, page), page)
        except (ValueError, OSError) as error:
            raise damaged(source, error) from error
    if int(page.kind[1:]) <= 8 and page.compression in PILLOW_COMPRESSIONS:
        picture = open_picture(source)
        try:
            picture.seek(page.index)
        except BROKEN as error:
            raise damaged(source, error) from error
        return _from_pillow(source, picture, upright=True)  # Pillow turns TIFF, and only TIFF, by itself
    if plain and page.kind in ("u16", "f32") and not page.planar and _opencv_reads(page):
        decoded = finish_tiff(_imdecode(source, page.index), page)
        decoded.upright = True
        return decoded
    return finish_tiff(_tifffile_page(source, page), page)


def _opencv_reads(page: tiff.TiffPage) -> bool:
    """Gray, RGB and RGBA; gray with alpha and CMYK come out wrong or not at all."""
    if page.compression not in OPENCV_COMPRESSIONS:
        return False
    return (page.photometric, page.samples) in (
        (tiff.BLACK_IS_ZERO, 1),
        (tiff.WHITE_IS_ZERO, 1),
        (tiff.RGB, 3),
        (tiff.RGB, 4),
    )


def _tifffile_page(source: Source, page: tiff.TiffPage) -> NDArray[Any]:
    what = f"{page.kind} samples, compression {page.compression}"
    try:
        import tifffile
    except ImportError as error:
        raise ImageError(f"{source.name} is a TIFF of a rare kind ({what}).", hint=EXTRA_HINT) from error
    source.stream.seek(0)
    try:
        with tifffile.TiffFile(source.stream) as file:
            samples = np.asarray(file.pages[page.index].asarray())
    except (tifffile.TiffFileError, *BROKEN) as error:
        raise ImageError(
            f"{source.name} is a TIFF of a rare kind ({what}) that cannot be read ({error}).", hint=EXTRA_HINT
        ) from error
    if samples.ndim == 2:
        samples = samples[..., None]
    if page.planar:
        samples = np.moveaxis(samples, 0, -1)
    if samples.shape != (page.height, page.width, page.samples):
        raise damaged(source, "its size is not what the header says")
    return samples


def finish_tiff(samples: NDArray[Any], page: tiff.TiffPage) -> Decoded:
    """Rows of a TIFF in common sample types, white at the top, alpha apart and not multiplied in."""
    notes = []
    if samples.dtype.kind == "f" and samples.dtype != np.float32:
        if samples.dtype.itemsize > 4:
            notes.append("64-bit float samples are read as 32-bit float")
        samples = samples.astype(np.float32)
    if samples.dtype == np.uint32:
        notes.append("32-bit integer samples are read as 32-bit float")
        samples = (samples / np.float64(2**32 - 1)).astype(np.float32)
    if samples.dtype not in (np.uint8, np.uint16, np.float32):
        raise ImageError(f"TIFF samples of type {page.kind} are not supported.", hint="Convert it first.")
    colours = page.colours
    if page.samples > colours + page.alpha:
        notes.append(f"{page.samples - colours - page.alpha} extra channels are left out")
    alpha = np.ascontiguousarray(samples[..., colours]) if page.alpha else None
    pixels = np.ascontiguousarray(samples[..., :colours])
    if page.photometric == tiff.WHITE_IS_ZERO:
        top = np.float32(1) if pixels.dtype == np.float32 else np.iinfo(pixels.dtype).max
        pixels = top - pixels
    if alpha is not None and page.premultiplied:
        pixels = _divide(pixels, alpha)
    kind: Kind = "cmyk" if page.photometric == tiff.SEPARATED else "gray" if colours == 1 else "rgb"
    if kind == "cmyk" and alpha is not None:
        notes.append("the alpha channel of a CMYK picture is left out")
        alpha = None
    return Decoded(pixels, alpha, kind, notes=notes)


def _divide(pixels: Samples, alpha: Samples) -> Samples:
    """Colours from colours times alpha."""
    if pixels.dtype == np.float32:
        visible = np.where(alpha > 0, alpha, 1)[..., None]
        return (pixels / visible).astype(np.float32)
    top = np.iinfo(pixels.dtype).max
    wide = pixels.astype(np.uint64) * top
    visible = np.maximum(alpha, 1).astype(np.uint64)[..., None]
    return np.minimum((wide + visible // 2) // visible, top).astype(pixels.dtype)
