"""Encoders: samples, profile and metadata into the bytes of a file."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, BinaryIO, Literal
from xml.parsers.expat import ExpatError

from srcli.errors import ResourceError
from srcli.image import metadata as about
from srcli.image import png, tiff
from srcli.image.gif import gif_options, with_palette
from srcli.image.ifd import write_exif
from srcli.image.metadata import Metadata
from srcli.image.pillow import BROKEN
from srcli.image.raster import Raster

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

PIL_NAMES = {"jpg": "JPEG", "webp": "WEBP", "avif": "AVIF", "gif": "GIF"}
SEGMENT_LIMIT = 65533  # bytes of a JPEG segment after its length
METADATA_OPTIONS = ("exif", "xmp", "extra")
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
    """

    quality: int = 95
    lossless: bool = False
    chroma: Literal["444", "420"] = "444"
    compress_level: int = 6
    metadata: Metadata = field(default_factory=Metadata)
    strip: bool = False
    alpha: bool = False


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
    return notes + _encode_with_pillow(stream, raster, name, encoding, kept, icc, cmyk)


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


def _encode_with_pillow(
    stream: BinaryIO,
    raster: Raster,
    name: str,
    encoding: Encoding,
    kept: Metadata,
    icc: bytes | None,
    cmyk: bool,
) -> list[str]:
    from PIL import Image

    options, notes = metadata_options(name, kept)
    if icc is not None:
        options["icc_profile"] = icc
    options["quality"] = encoding.quality
    if name == "jpg":
        options["subsampling"] = {"444": 0, "420": 2}[encoding.chroma]
    elif name == "webp":
        options |= {"lossless": encoding.lossless, "exact": True}
    elif name == "avif":
        chroma = "444" if encoding.lossless else encoding.chroma
        options["subsampling"] = ":".join("400" if raster.shape[2] == 1 else chroma)
        if encoding.lossless:
            options["quality"] = 100
    pixels = raster.whole()
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels, "CMYK" if cmyk else None)
    # Into memory first: a plugin that chokes on metadata must not leave half a file behind.
    try:
        data = _save(picture, name, options)
    except BROKEN as error:
        plain = {key: value for key, value in options.items() if key not in METADATA_OPTIONS}
        try:
            data = _save(picture, name, plain)
        except BROKEN as again:
            raise ResourceError(f"the {name} encoder failed: {again}.", hint="Try --format png.") from again
        notes.append(f"EXIF, XMP and IPTC are left out, the {name} encoder refused them ({error})")
    if kept.aspect is not None and kept.dpi is None:
        if name == "jpg":  # JFIF 1.02: units, then the densities
            data[13:18] = struct.pack(">BHH", 0, *(min(value, 65535) for value in kept.aspect))
        else:
            notes.append(
                f"{name} has no place for the shape of the pixels ({kept.aspect[0]}:{kept.aspect[1]})"
            )
    at = bytes(data[:4096]).find(b"colrnclx")
    if kept.cicp is not None and name == "avif" and at > 0:
        data[at + 8 : at + 12] = struct.pack(">HH", *kept.cicp)
    stream.write(data)
    return notes


def _save(picture: Picture, name: str, options: Mapping[str, Any]) -> memoryview:
    stream = io.BytesIO()
    picture.save(stream, PIL_NAMES[name], **options)
    return stream.getbuffer()


def metadata_options(name: str, kept: Metadata) -> tuple[dict[str, Any], list[str]]:
    """Pillow's save options for metadata, and notes on what does not fit."""
    options: dict[str, Any] = {}
    notes = []
    if kept.exif is not None:
        block = write_exif(kept.exif)
        if name == "jpg" and len(block) + 6 > SEGMENT_LIMIT:
            notes.append("the EXIF data is too long for JPEG and is left out")
        else:
            options["exif"] = b"Exif\0\0" + block if name == "jpg" else block
    if kept.xmp is not None:
        if name == "jpg" and len(kept.xmp) + 29 > SEGMENT_LIMIT:
            notes.append("the XMP data is too long for JPEG and is left out")
        else:
            options["xmp"] = kept.xmp
    if kept.iptc is not None:
        if name == "jpg" and len(kept.iptc) + 30 <= SEGMENT_LIMIT:
            options["extra"] = about.photoshop_segment(kept.iptc)
        else:
            notes.append(f"IPTC records do not fit into {name}; they are left out")
    if kept.dpi is not None and name == "jpg":
        options["dpi"] = tuple(min(round(value), 65535) for value in kept.dpi)
    return options, notes
