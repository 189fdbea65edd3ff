"""Encoders: samples, profile and metadata into the bytes of a file."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO, Literal
from xml.parsers.expat import ExpatError

import numpy as np

from srcli.errors import ResourceError
from srcli.image import metadata as about
from srcli.image import png, tiff
from srcli.image.boxes import completed
from srcli.image.gif import gif_options, with_palette
from srcli.image.ifd import write_exif
from srcli.image.metadata import Metadata
from srcli.image.pillow import BROKEN
from srcli.image.quantise import Samples
from srcli.image.raster import Raster
from srcli.image.spool import Spool
from srcli.image.vips import encode_rows

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

PIL_NAMES = {"avif": "AVIF", "gif": "GIF"}
SEGMENT_LIMIT = 65533  # bytes of a JPEG segment after its length
AVIF_EFFORT = 3  # as fast as Pillow's encoder, and as small
JFIF_END = 20  # of a JPEG's first two markers
METADATA_OPTIONS = ("exif", "xmp")
PROVENANCE_KEY = "srcli"
XMP_KEY = "XML:com.adobe.xmp"


@dataclass(frozen=True)
class Encoding:
    """How samples become bytes.

    Attributes:
        quality: 1 to 100, of JPEG, WebP and AVIF.
        lossless: for WebP and AVIF.
        chroma: subsampling of JPEG and AVIF.
        compress_level: 0 to 9, of PNG and TIFF.
        metadata: to be stored, already corrected.
        strip: whether provenance is left out as well.
        alpha: whether the last channel is alpha.
        bits: of a sample of AVIF.
        max_bytes: of the file; `quality` is reduced until it fits.
    """

    quality: int = 95
    lossless: bool = False
    chroma: Literal["444", "420"] = "444"
    compress_level: int = 6
    metadata: Metadata = field(default_factory=Metadata)
    strip: bool = False
    alpha: bool = False
    bits: int = 8
    max_bytes: int | None = None


def encode(
    stream: BinaryIO,
    raster: Raster,
    name: str,
    encoding: Encoding,
    *,
    icc: bytes | None = None,
    profile_name: str = "",
    cmyk: bool = False,
    provenance: Mapping[str, Any] | None = None,
) -> list[str]:
    """Write a picture as format `name`; returns notes on metadata the format could not take.

    PNG and TIFF are written as the rows come; for the others the picture is gathered in memory.
    """
    if encoding.max_bytes is not None:
        return _encode_within(
            stream,
            raster,
            encoding,
            partial(encode, name=name, icc=icc, profile_name=profile_name, cmyk=cmyk, provenance=provenance),
        )
    if encoding.strip:
        provenance = None
    if name == "png":
        return _encode_png(stream, raster, encoding, icc, profile_name, provenance)
    if name == "gif":
        return _encode_gif(stream, raster, encoding, provenance)
    kept, notes = with_provenance(encoding.metadata, provenance)
    if kept.cicp is not None and name != "avif":
        notes.append(f"{name} has no place for {kept.cicp.name}: programs will take the colours for sRGB")
    if name == "tiff":
        tiff.encode_tiff(
            stream,
            raster,
            cmyk=cmyk,
            alpha=encoding.alpha,
            level=encoding.compress_level,
            icc=icc,
            dpi=kept.dpi,
            aspect=kept.aspect,
            extra=about.tiff_directory(kept),
        )
        return notes
    if name == "jpg":
        return notes + _encode_jpeg(stream, raster, encoding, kept, icc, cmyk)
    if kept.aspect is not None and kept.dpi is None:
        notes.append(f"{name} has no place for the shape of the pixels ({kept.aspect[0]}:{kept.aspect[1]})")
    if name == "webp":
        return notes + _encode_webp(stream, raster, encoding, kept, icc)
    return notes + _encode_avif(stream, raster, encoding, kept, icc)


def _encode_within(
    stream: BinaryIO, raster: Raster, encoding: Encoding, encoded: Callable[..., list[str]]
) -> list[str]:
    """Encode with the highest quality that fits, by bisection."""
    spool = Spool(raster.shape, raster.dtype, None)
    for band in raster.blocks(256):
        spool.append(band)
    limit = encoding.max_bytes or 0
    best: tuple[int, bytes, list[str]] | None = None
    low, high, quality = 1, encoding.quality, encoding.quality
    while low <= high:
        rows = (spool[top : top + 256] for top in range(0, raster.shape[0], 256))
        attempt = io.BytesIO()
        again = Raster(raster.shape, raster.dtype, rows)
        notes = encoded(attempt, again, encoding=replace(encoding, quality=quality, max_bytes=None))
        if len(attempt.getbuffer()) <= limit:
            best, low = (quality, attempt.getvalue(), notes), quality + 1
        else:
            high, least = quality - 1, len(attempt.getbuffer())
        quality = (low + high) // 2
    if best is None:
        raise ResourceError(
            f"the picture needs {least} bytes at quality 1, more than --max-bytes {limit}.",
            hint="Allow more, or choose a smaller size.",
        )
    stream.write(best[1])
    return (
        [*best[2], f"quality {best[0]} is the highest within {limit} bytes"]
        if best[0] < encoding.quality
        else best[2]
    )


def with_provenance(kept: Metadata, provenance: Mapping[str, Any] | None) -> tuple[Metadata, list[str]]:
    """Metadata whose XMP packet carries the provenance, and a note if it cannot."""
    if not provenance:
        return kept, []
    try:
        return replace(kept, xmp=about.provenance_xmp(kept.xmp, provenance)), []
    except (ExpatError, ValueError) as error:
        return kept, [f"the provenance could not be added to the XMP data ({error})"]


def _encode_png(
    stream: BinaryIO,
    raster: Raster,
    encoding: Encoding,
    icc: bytes | None,
    profile_name: str,
    provenance: Mapping[str, Any] | None,
) -> list[str]:
    kept = encoding.metadata
    chunks = []
    if icc is not None:
        chunks.append(png.profile_chunk(profile_name, icc))
    if kept.cicp is not None:  # full range, no matrix
        chunks.append((b"cICP", bytes((*kept.cicp, 0, 1))))
    if kept.dpi is not None:
        chunks.append(png.density_chunk(kept.dpi))
    elif kept.aspect is not None:
        chunks.append(png.aspect_chunk(kept.aspect))
    if kept.exif is not None:
        chunks.append((b"eXIf", write_exif(kept.exif)))
    notes = []
    if kept.xmp is not None:
        try:
            chunks.append(png.text_chunk(XMP_KEY, kept.xmp.decode("utf-8")))
        except UnicodeDecodeError:
            notes.append("the XMP data is not UTF-8 and is left out")
    if kept.iptc is not None:
        notes.append("PNG has no place for IPTC records; they are left out")
    if provenance:
        chunks.append(png.text_chunk(PROVENANCE_KEY, json.dumps(dict(provenance), sort_keys=True)))
    png.encode_png(stream, raster, level=encoding.compress_level, chunks=chunks)
    return notes


def _encode_gif(
    stream: BinaryIO, raster: Raster, encoding: Encoding, provenance: Mapping[str, Any] | None
) -> list[str]:
    from PIL import Image

    options, notes = gif_options(encoding.metadata, provenance, PROVENANCE_KEY, alpha=encoding.alpha)
    pixels = raster.whole()
    picture = with_palette(Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels))
    stream.write(_save(picture, "gif", options))
    return notes


def _encode_jpeg(
    stream: BinaryIO, raster: Raster, encoding: Encoding, kept: Metadata, icc: bytes | None, cmyk: bool
) -> list[str]:
    about_it, notes = _jpeg_segments(kept)
    unit, density = (1, kept.dpi) if kept.dpi is not None else (0, kept.aspect or (1, 1))
    # JFIF 1.02: units, the densities, no thumbnail
    numbers = (unit, *(min(max(round(value), 1), 65535) for value in density), 0, 0)
    head = b"\xff\xd8" + _segment(0xE0, b"JFIF\0\1\1" + struct.pack(">BHHBB", *numbers)) + about_it
    held = bytearray()

    def write(data: bytes) -> None:
        if len(held) < JFIF_END:
            held.extend(data)
            if len(held) >= JFIF_END:
                start = JFIF_END if held[2:4] == b"\xff\xe0" else 2  # there is no JFIF with inks
                stream.write(head + held[start:])
            return
        stream.write(data)

    encode_rows(
        raster,
        "jpeg",
        write,
        icc=icc,
        cmyk=cmyk,
        Q=encoding.quality,
        subsample_mode={"444": "off", "420": "on"}[encoding.chroma],
    )
    return notes


def _jpeg_segments(kept: Metadata) -> tuple[bytes, list[str]]:
    """EXIF, XMP and IPTC, and notes on what does not fit."""
    found, notes = [], []
    if kept.exif is not None:
        found.append(("EXIF data is", 0xE1, b"Exif\0\0" + write_exif(kept.exif)))
    if kept.xmp is not None:
        found.append(("XMP data is", 0xE1, b"http://ns.adobe.com/xap/1.0/\0" + kept.xmp))
    if kept.iptc is not None:
        found.append(("IPTC records are", 0xED, about.photoshop_block(kept.iptc)))
    for what, _, body in found:
        if len(body) > SEGMENT_LIMIT:
            notes.append(f"the {what} too long for JPEG and left out")
    return b"".join(_segment(marker, body) for _, marker, body in found if len(body) <= SEGMENT_LIMIT), notes


def _segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def _encode_webp(
    stream: BinaryIO, raster: Raster, encoding: Encoding, kept: Metadata, icc: bytes | None
) -> list[str]:
    pieces: list[bytes] = []
    encode_rows(raster, "webp", pieces.append, Q=encoding.quality, lossless=encoding.lossless, exact=True)
    exif = write_exif(kept.exif) if kept.exif is not None else None
    stream.write(_webp_with(b"".join(pieces), raster, encoding.alpha, icc, exif, kept.xmp))
    return [] if kept.iptc is None else ["IPTC records do not fit into webp; they are left out"]


def _webp_with(
    data: bytes, raster: Raster, alpha: bool, icc: bytes | None, exif: bytes | None, xmp: bytes | None
) -> bytes:
    """A WebP file with more chunks (RFC 9649, section 2.7)."""
    if icc is None and exif is None and xmp is None:
        return data
    body = data[12:]
    if body[:4] == b"VP8X":
        body = body[18:]
    flags = 0x20 * (icc is not None) | 0x10 * alpha | 0x08 * (exif is not None) | 0x04 * (xmp is not None)
    height, width = raster.shape[0] - 1, raster.shape[1] - 1
    head = struct.pack("<I", flags) + width.to_bytes(3, "little") + height.to_bytes(3, "little")

    def chunk(kind: bytes, content: bytes | None) -> bytes:
        return (
            b""
            if content is None
            else kind + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)
        )

    whole = (
        b"WEBP"
        + chunk(b"VP8X", head)
        + chunk(b"ICCP", icc)
        + body
        + chunk(b"EXIF", exif)
        + chunk(b"XMP ", xmp)
    )
    return b"RIFF" + struct.pack("<I", len(whole)) + whole


def _encode_avif(
    stream: BinaryIO, raster: Raster, encoding: Encoding, kept: Metadata, icc: bytes | None
) -> list[str]:
    from PIL import Image

    options, notes = metadata_options("avif", kept)
    if encoding.bits > 8 or encoding.lossless:
        _encode_deep_avif(stream, raster, encoding, kept, icc)
        return notes
    if icc is not None:
        options["icc_profile"] = icc
    options["subsampling"] = ":".join("400" if raster.shape[2] == 1 else encoding.chroma)
    options["quality"] = encoding.quality
    pixels = raster.whole()
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    # Into memory first: a plugin that chokes on metadata must not leave half a file behind.
    try:
        data = _save(picture, "avif", options)
    except BROKEN as error:
        plain = {key: value for key, value in options.items() if key not in METADATA_OPTIONS}
        try:
            data = _save(picture, "avif", plain)
        except BROKEN as again:
            raise ResourceError(f"the avif encoder failed: {again}.", hint="Try --format png.") from again
        notes.append(f"EXIF, XMP and IPTC are left out, the avif encoder refused them ({error})")
    at = bytes(data[:4096]).find(b"colrnclx")
    if kept.cicp is not None and at > 0:
        data[at + 8 : at + 12] = struct.pack(">HH", *kept.cicp)
    stream.write(data)
    return notes


def _encode_deep_avif(
    stream: BinaryIO, raster: Raster, encoding: Encoding, kept: Metadata, icc: bytes | None
) -> None:
    white, spare, bands = (1 << encoding.bits) - 1, 16 - encoding.bits, raster.bands

    def rounded() -> Iterator[Samples]:  # libheif would cut the lowest bits off
        for rows in bands:
            yield (((rows.astype(np.uint32) * white + 32767) // 65535) << spare).astype(np.uint16)

    if encoding.bits > 8:
        raster = replace(raster, bands=rounded())
    exif = write_exif(kept.exif) if kept.exif is not None else None
    pieces: list[bytes] = []
    encode_rows(
        raster,
        "heif",
        pieces.append,
        icc=icc,
        exif=exif,
        xmp=kept.xmp,
        compression="av1",
        bitdepth=encoding.bits,
        Q=encoding.quality,
        lossless=encoding.lossless,
        subsample_mode={"444": "off", "420": "on"}["444" if encoding.lossless else encoding.chroma],
        effort=AVIF_EFFORT,
    )
    stream.write(completed(b"".join(pieces), exif, kept.cicp))


def _save(picture: Picture, name: str, options: Mapping[str, Any]) -> memoryview:
    stream = io.BytesIO()
    picture.save(stream, PIL_NAMES[name], **options)
    return stream.getbuffer()


def metadata_options(name: str, kept: Metadata) -> tuple[dict[str, Any], list[str]]:
    """Pillow's save options for metadata in WebP and AVIF, and notes on what does not fit."""
    options: dict[str, Any] = {}
    if kept.exif is not None:
        options["exif"] = write_exif(kept.exif)
    if kept.xmp is not None:
        options["xmp"] = kept.xmp
    return options, [] if kept.iptc is None else [f"IPTC records do not fit into {name}; they are left out"]
