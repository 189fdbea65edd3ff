"""Encoders: samples, profile and metadata into the bytes of a file.

PNG, TIFF and JPEG are written as the rows come; for the others the picture is gathered in memory.
"""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import numpy as np

from srcli.errors import ResourceError
from srcli.image import metadata as about
from srcli.image.colour import CodePoints
from srcli.image.ifd import write_exif
from srcli.image.metadata import PROVENANCE_KEY, Metadata
from srcli.image.png import encode_png
from srcli.image.probe import BROKEN, pillow_rules
from srcli.image.samples import Raster, Samples, Spool
from srcli.image.tiff import encode_tiff
from srcli.image.vips import encode_rows

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

SEGMENT_LIMIT = 65533  # bytes of a JPEG segment after its length
AVIF_EFFORT = 3  # as fast as Pillow's encoder, and as small
JFIF_END = 20  # of a JPEG's first two markers
SUBSAMPLING = {"444": "off", "420": "on"}
XMP_KEY = "XML:com.adobe.xmp"
VISIBLE, CLEAR = 128, 255  # of GIF: from that alpha on a pixel is shown; the colour that is transparent
BT601 = 6  # H.273's number of the matrix that AVIF's samples were multiplied by


@dataclass(frozen=True)
class Encoding:
    """How samples become bytes; the options are those of `plan_output`.

    Metadata is already corrected; `strip` leaves provenance out; `bits` are AVIF's; `alpha` and `cmyk` say what
    the channels are.
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
    icc: bytes | None = None
    profile_name: str = "sRGB"
    cmyk: bool = False

    @property
    def exif(self) -> bytes | None:
        """The EXIF block to be stored."""
        return None if self.metadata.exif is None else write_exif(self.metadata.exif)


def encode(
    stream: BinaryIO,
    raster: Raster,
    name: str,
    encoding: Encoding,
    provenance: Mapping[str, Any] | None = None,
) -> list[str]:
    """Write a picture as format `name`; returns notes on metadata the format could not take."""
    if encoding.max_bytes is not None:
        return _encode_within(stream, raster, name, encoding, provenance)
    if encoding.strip:
        provenance = None
    if name == "png":
        return _encode_png(stream, raster, encoding, provenance)
    if name == "gif":
        options, notes = gif_options(encoding, provenance)
        stream.write(save_picture(with_palette(picture_of(raster.whole())), "gif", options))
        return notes
    kept, notes = about.with_provenance(encoding.metadata, provenance)
    if kept.cicp is not None and name != "avif":
        notes.append(f"{name} has no place for {kept.cicp.name}: programs will take the colours for sRGB")
    encoding = replace(encoding, metadata=kept)
    if name == "tiff":
        tags, level = about.tiff_directory(kept, encoding.icc), encoding.compress_level
        encode_tiff(stream, raster, tags, cmyk=encoding.cmyk, alpha=encoding.alpha, level=level)
        return notes
    if name == "jpg":
        return notes + _encode_jpeg(stream, raster, encoding)
    if kept.aspect is not None and kept.dpi is None:
        notes.append(f"{name} has no place for the shape of the pixels ({kept.aspect[0]}:{kept.aspect[1]})")
    if kept.iptc is not None:
        notes.append(f"IPTC records do not fit into {name}; they are left out")
    if name == "webp":
        pieces = list[bytes]()
        options = {"Q": encoding.quality, "lossless": encoding.lossless, "exact": True}
        encode_rows(raster, "webp", pieces.append, **options)
        stream.write(_with_chunks(b"".join(pieces), raster, encoding))
        return notes
    if encoding.bits > 8 or encoding.lossless:
        stream.write(_deep_avif(raster, encoding))
    else:
        stream.write(_plain_avif(raster, encoding))
    return notes


def _encode_within(
    stream: BinaryIO, raster: Raster, name: str, encoding: Encoding, provenance: Mapping[str, Any] | None
) -> list[str]:
    """Encode with the highest quality that fits into `max_bytes`, by bisection."""
    limit = encoding.max_bytes or 0
    spool = Spool(raster.shape, raster.dtype, None)
    for band in raster.blocks(256):
        spool.append(band)
    best, least = None, 0
    low, high, quality = 1, encoding.quality, encoding.quality
    while low <= high:
        rows = (spool[top : top + 256] for top in range(0, raster.shape[0], 256))
        attempt, tried = io.BytesIO(), replace(encoding, quality=quality, max_bytes=None)
        notes = encode(attempt, replace(raster, bands=rows), name, tried, provenance)
        if len(attempt.getbuffer()) <= limit:
            best, low = (quality, attempt.getvalue(), notes), quality + 1
        else:
            high, least = quality - 1, len(attempt.getbuffer())
        quality = (low + high) // 2
    if best is None:
        what = f"the picture needs {least} bytes at quality 1, more than max-bytes={limit}."
        raise ResourceError(what, hint="Allow more, or choose a smaller size.")
    stream.write(best[1])
    lower = best[0] < encoding.quality
    return [*best[2], *([f"quality {best[0]} is the highest within {limit} bytes"] if lower else [])]


def _encode_png(
    stream: BinaryIO, raster: Raster, encoding: Encoding, provenance: Mapping[str, Any] | None
) -> list[str]:
    kept, chunks = encoding.metadata, list[tuple[bytes, bytes]]()
    if encoding.icc is not None:
        printable = "".join(c for c in encoding.profile_name if " " <= c <= "~")[:79].strip() or "ICC profile"
        chunks.append((b"iCCP", printable.encode("ascii") + b"\0\0" + zlib.compress(encoding.icc, 9)))
    if kept.cicp is not None:  # full range, no matrix
        chunks.append((b"cICP", bytes((*kept.cicp, 0, 1))))
    if kept.dpi is not None:  # per metre
        chunks.append((b"pHYs", struct.pack(">IIB", *(round(value / 0.0254) for value in kept.dpi), 1)))
    elif kept.aspect is not None:  # in a length that is not known
        chunks.append((b"pHYs", struct.pack(">IIB", *kept.aspect, 0)))
    if exif := encoding.exif:
        chunks.append((b"eXIf", exif))
    texts, notes = png_texts(kept, provenance)
    for keyword, text in texts.items():
        chunks.append((b"iTXt", keyword.encode() + b"\0\0\0\0\0" + text.encode()))
    encode_png(stream.write, raster, level=encoding.compress_level, chunks=chunks)
    return notes


def png_texts(kept: Metadata, provenance: Mapping[str, Any] | None) -> tuple[dict[str, str], list[str]]:
    """Keywords and texts of a PNG, and notes on what it cannot hold."""
    texts, notes = dict[str, str](), list[str]()
    if kept.xmp is not None:
        try:
            texts[XMP_KEY] = kept.xmp.decode("utf-8")
        except UnicodeDecodeError:
            notes.append("the XMP data is not UTF-8 and is left out")
    if kept.iptc is not None:
        notes.append("PNG has no place for IPTC records; they are left out")
    if provenance:
        texts[PROVENANCE_KEY] = json.dumps(dict(provenance), sort_keys=True)
    return texts, notes


def _encode_jpeg(stream: BinaryIO, raster: Raster, encoding: Encoding) -> list[str]:
    """By libvips, whose JFIF segment is replaced by ours and what libvips would write anew or not at all."""
    kept, notes, held = encoding.metadata, list[str](), bytearray()
    unit, density = (1, kept.dpi) if kept.dpi is not None else (0, kept.aspect or (1, 1))
    # JFIF 1.02: units, the densities, no thumbnail
    numbers = (unit, *(min(max(round(value), 1), 65535) for value in density), 0, 0)
    segments = [("", 0xE0, b"JFIF\0\1\1" + struct.pack(">BHHBB", *numbers))]
    if exif := encoding.exif:
        segments.append(("EXIF data is", 0xE1, b"Exif\0\0" + exif))
    if kept.xmp is not None:
        segments.append(("XMP data is", 0xE1, b"http://ns.adobe.com/xap/1.0/\0" + kept.xmp))
    if kept.iptc is not None:
        segments.append(("IPTC records are", 0xED, about.photoshop_block(kept.iptc)))
    head = b"\xff\xd8"
    for what, marker, body in segments:
        if len(body) > SEGMENT_LIMIT:
            notes.append(f"the {what} too long for JPEG and left out")
        else:
            head += struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body

    def write(data: bytes) -> None:
        if len(held) >= JFIF_END:
            stream.write(data)
            return
        held.extend(data)
        if len(held) >= JFIF_END:
            start = JFIF_END if held[2:4] == b"\xff\xe0" else 2  # there is no JFIF with inks
            stream.write(head + held[start:])

    options = {"Q": encoding.quality, "subsample_mode": SUBSAMPLING[encoding.chroma]}
    encode_rows(raster, "jpeg", write, about={"icc-profile": encoding.icc}, cmyk=encoding.cmyk, **options)
    return notes


def _with_chunks(data: bytes, raster: Raster, encoding: Encoding) -> bytes:
    """A WebP file with profile, EXIF and XMP (RFC 9649, section 2.7)."""
    flags, before, after = 0x10 * encoding.alpha, b"", b""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return kind + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)

    if encoding.icc is not None:
        flags, before = flags | 0x20, chunk(b"ICCP", encoding.icc)
    for flag, kind, content in ((8, b"EXIF", encoding.exif), (4, b"XMP ", encoding.metadata.xmp)):
        if content is not None:
            flags, after = flags | flag, after + chunk(kind, content)
    if not before and not after:
        return data
    body = data[30:] if data[12:16] == b"VP8X" else data[12:]
    height, width = raster.shape[0] - 1, raster.shape[1] - 1
    head = struct.pack("<I", flags) + width.to_bytes(3, "little") + height.to_bytes(3, "little")
    whole = b"WEBP" + chunk(b"VP8X", head) + before + body + after
    return b"RIFF" + struct.pack("<I", len(whole)) + whole


def _plain_avif(raster: Raster, encoding: Encoding) -> memoryview:
    """Of 8 bits, by Pillow."""
    chroma = "400" if raster.shape[2] == 1 else encoding.chroma
    options = about_options(encoding) | {"subsampling": ":".join(chroma), "quality": encoding.quality}
    data = save_picture(picture_of(raster.whole()), "avif", options)
    at = bytes(data[:4096]).find(b"colrnclx")
    if encoding.metadata.cicp is not None and at > 0:
        data[at + 8 : at + 12] = struct.pack(">HH", *encoding.metadata.cicp)
    return data


def _deep_avif(raster: Raster, encoding: Encoding) -> bytes:
    """Of more than 8 bits, or without loss, by libvips."""
    white, spare, bands = (1 << encoding.bits) - 1, 16 - encoding.bits, raster.bands
    if encoding.bits > 8:  # libheif would cut the lowest bits off
        wide = (rows.astype(np.uint32) for rows in bands)
        bands = ((((rows * white + 32767) // 65535) << spare).astype(np.uint16) for rows in wide)
    pieces, exif = list[bytes](), encoding.exif
    blocks = {"icc-profile": encoding.icc, "xmp": encoding.metadata.xmp}
    blocks["exif"] = exif and b"Exif\0\0" + exif
    options: dict[str, Any] = {"Q": encoding.quality, "lossless": encoding.lossless}
    options["subsample_mode"] = SUBSAMPLING["444" if encoding.lossless else encoding.chroma]
    options |= {"bitdepth": encoding.bits, "compression": "av1", "effort": AVIF_EFFORT}
    encode_rows(replace(raster, bands=bands), "heif", pieces.append, about=blocks, **options)
    return complete_avif(b"".join(pieces), exif, encoding.metadata.cicp)


def complete_avif(data: bytes, exif: bytes | None, points: CodePoints | None) -> bytes:
    """An AVIF file of libheif with this EXIF block instead of its own, and an nclx box for its first picture.

    ISO/IEC 14496-12, section 8.11 (items and their places) and ISO/IEC 23008-12 (properties).

    Raises:
        ValueError: it is laid out in another way.
    """
    out = bytearray(data)
    at = out.find(b"colrnclx") + 8
    if points is not None and at > 8:
        struct.pack_into(">HH", out, at, *points)
    elif points is not None:
        _add_colour(out, struct.pack(">I8sHHHB", 19, b"colrnclx", *points, BT601, 0x80))
    if exif is not None:
        item = out.find(b"\0\0Exif", out.find(b"iinf")) - 2
        if item < 0:
            raise ValueError("no EXIF item")
        for at in _places(out):
            if out[at : at + 2] == out[item : item + 2]:
                struct.pack_into(">I", out, at + 4, len(out) + 8)
                struct.pack_into(">I", out, at + 14, len(exif) + 4)
        out += struct.pack(">I4sI", len(exif) + 12, b"mdat", 0) + exif
    return bytes(out)


def _places(out: bytearray) -> range:
    """Where the entries of the table of places begin: item, source, base, one extent with offset and length."""
    at = out.find(b"iloc") + 4
    # 4 bytes each for offset, length and base
    if at < 4 or out[at] != 0 or out[at + 4 : at + 6] != b"\x44\x40":
        raise ValueError("an unknown table of places")
    (count,) = struct.unpack_from(">H", out, at + 6)
    return range(at + 8, at + 8 + 18 * count, 18)


def _add_colour(out: bytearray, box: bytes) -> None:
    """Put a colr box behind the properties and give it to the first item."""
    ipco, ipma, iprp, meta = (out.find(name) - 4 for name in (b"ipco", b"ipma", b"iprp", b"meta"))
    if min(ipco, ipma, iprp, meta) < 0 or out[ipma + 8] != 0 or out[ipma + 11] & 1:
        raise ValueError("an unknown table of properties")

    def size(start: int) -> int:
        return int.from_bytes(out[start : start + 4], "big")

    at, end, number = ipco + 8, ipco + size(ipco), 1
    while at < end:
        at, number = at + size(at), number + 1
    count = ipma + 18  # after the version, the number of entries, and the first item's number
    out[count] += 1
    out.insert(count + out[count], number)
    out[end:end] = box
    for start, more in ((ipco, len(box)), (ipma + len(box), 1), (iprp, len(box) + 1), (meta, len(box) + 1)):
        struct.pack_into(">I", out, start, size(start) + more)
    for place in _places(out):
        struct.pack_into(">I", out, place + 4, size(place + 4) + len(box) + 1)


def picture_of(samples: Samples) -> Picture:
    """Pillow's image of 8-bit samples (H, W, channels)."""
    from PIL import Image

    return Image.fromarray(samples[..., 0] if samples.shape[2] == 1 else samples)


def save_picture(picture: Picture, name: str, options: Mapping[str, Any]) -> memoryview:
    """The file that Pillow writes with these options; ResourceError if it refuses."""
    stream = io.BytesIO()
    try:
        with pillow_rules():
            picture.save(stream, name.upper(), **options)
    except BROKEN as error:
        raise ResourceError(f"the {name} encoder failed: {error}.", hint="Try --format png.") from error
    return stream.getbuffer()


def about_options(encoding: Encoding) -> dict[str, Any]:
    """Pillow's options that store profile and metadata in WebP and AVIF."""
    found = {"icc_profile": encoding.icc, "exif": encoding.exif, "xmp": encoding.metadata.xmp}
    return {name: data for name, data in found.items() if data is not None}


def with_palette(picture: Picture) -> Picture:
    """A palette picture of at most 256 colours, one of them transparent if the picture has transparency."""
    if picture.mode in ("L", "RGB"):
        return picture if picture.mode == "L" else picture.quantize(256)
    coloured = picture.convert("RGB").quantize(CLEAR)
    hidden = np.asarray(picture)[..., -1] < VISIBLE
    result = picture_of(np.where(hidden, np.uint8(CLEAR), np.asarray(coloured))[..., None])
    palette = (coloured.getpalette() or [])[: 3 * CLEAR]
    result.putpalette(palette + [0] * (768 - len(palette)))
    return result


def gif_options(encoding: Encoding, provenance: Mapping[str, Any] | None) -> tuple[dict[str, Any], list[str]]:
    """Pillow's options for a GIF, and notes on what is lost."""
    options: dict[str, Any] = {"optimize": False}
    if encoding.alpha:
        options |= {"transparency": CLEAR, "disposal": 2}
    if provenance:
        options["comment"] = json.dumps({PROVENANCE_KEY: dict(provenance)}, sort_keys=True).encode("ascii")
    notes, kept = ["gif holds 256 colours a picture"], encoding.metadata
    if kept.exif is not None or kept.xmp is not None or kept.iptc is not None:
        notes.append("gif has no place for EXIF, XMP and IPTC; they are left out")
    return options, notes
