"""Metadata (EXIF, XMP, IPTC, dots per inch), and what `--metadata` does to it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal
from xml.dom import minidom
from xml.parsers.expat import ExpatError, ParserCreate

from srcli.image import tiff
from srcli.image.colour import CodePoints
from srcli.image.ifd import (
    BYTE,
    EXIF_IFD,
    GPS_IFD,
    LONG,
    MAKER_NOTE,
    SHORT,
    UNDEFINED,
    Directory,
    Entry,
    parse_exif,
)
from srcli.image.png import find_chunks
from srcli.image.source import Source

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

MetadataPolicy = Literal["keep", "safe", "strip"]

# Tags of a TIFF file's first directory that describe the photo rather than the file; EXIF 2.32, table 1.
PHOTO_TAGS = frozenset(
    {270, 271, 272, 305, 306, 315, 316, 18246, 18249, 33432, *range(0x9C9B, 0x9CA0), EXIF_IFD, GPS_IFD}
)
WIDTH_TAGS = {tiff.WIDTH: 1, tiff.HEIGHT: 0, 0xA002: 1, 0xA003: 0}  # tag to index in (height, width)
# Maker note, owner, serial numbers of body and lens, unique image ID, host computer, camera serial of DNG, GPS.
PRIVATE_TAGS = frozenset({MAKER_NOTE, 0xA430, 0xA431, 0xA435, 0xA420, 0x013C, 0xC62F, GPS_IFD})
# IIM datasets of record 2: city, sublocation, state, country code and name, location code and name.
PRIVATE_IPTC = frozenset({90, 92, 95, 100, 101, 26, 27})
RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
XMP_EMPTY = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{RDF}"></rdf:RDF></x:xmpmeta>'.encode()
XMP_START = b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
XMP_END = b'\n<?xpacket end="w"?>'
MAX_XMP_DEPTH = 100  # elements within elements; a DOM is walked by recursion
PROVENANCE_KEY, PROVENANCE_SPACE = "srcli", "urn:srcli:1.0:"
SIZE_NAMES = {"ImageWidth": 1, "PixelXDimension": 1, "ImageLength": 0, "PixelYDimension": 0}
# They describe parts that a result does not have: gain maps, further pictures, depth, sound.
GOOGLE = "http://ns.google.com/photos/"
GONE_SPACES = (
    *("http://ns.adobe.com/hdr-gain-map/1.0/", "http://ns.apple.com/HDRGainMap/1.0/", f"{GOOGLE}dd/1.0/"),
    *(f"{GOOGLE}1.0/{name}/" for name in ("container", "depthmap", "image", "audio")),
)
GONE_NAMES = re.compile(r"Thumbnails|HasExtendedXMP|MotionPhoto\w*|MicroVideo\w*")
GAIN_MAP_MARKS = (b"urn:iso:std:iso:ts:21496:-1", b"hdr-gain-map/1.0/", b"aux:hdrgainmap")
PRIVATE_NAMES = re.compile(
    r"GPS.*|.*SerialNumber|OwnerName|CameraOwnerName|MakerNote|ImageUniqueID|HostComputer"
    r"|Location|LocationShown|LocationCreated|City|State|Country|CountryCode"
)


@dataclass(frozen=True)
class Metadata:
    """What a file says about its picture.

    Attributes:
        exif: the first directory, with its Exif and GPS children.
        xmp: the XMP packet.
        iptc: IPTC-IIM records.
        dpi: horizontal and vertical dots per inch.
        aspect: without `dpi`, pixels in a length across and down: 2 and 1 for pixels half as wide as high.
        cicp: how to show the samples where no ICC profile can say it; never stripped.
    """

    exif: Directory | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    dpi: tuple[float, float] | None = None
    aspect: tuple[int, int] | None = None
    cicp: CodePoints | None = None


def exif_of(source: Source, picture: Picture) -> Directory | None:
    """The EXIF data of a Pillow image, without decoding its pixels.

    Raises:
        ValueError: there is some, and it is damaged.
    """
    block = picture.info.get("exif")
    if block is None and source.format == "png":
        legacy = picture.info.get("Raw profile type exif")  # as ImageMagick wrote it before PNG had eXIf
        if isinstance(legacy, str):
            block = bytes.fromhex("".join(legacy.split("\n")[3:]))
        else:
            with source.keeping_position():
                # It may follow the pixels.
                block = find_chunks(source.stream, b"eXIf", end=b"IEND").get(b"eXIf")
    block = block.removeprefix(b"Exif\0\0") if isinstance(block, bytes) else None
    return parse_exif(block) if block else None


def read_metadata(source: Source, picture: Picture) -> tuple[Metadata, list[str]]:
    """Metadata of a Pillow image, and notes on what could not be read."""
    notes, info, exif = [], picture.info, None
    try:
        exif = exif_of(source, picture)
    except ValueError as error:
        notes.append(f"the EXIF data is damaged and left out ({error})")
    xmp, dpi, photoshop = info.get("xmp"), info.get("dpi"), info.get("photoshop")
    xmp = xmp if isinstance(xmp, bytes) and xmp else None
    notes += _left_behind(source, picture, xmp or b"")
    iptc = photoshop.get(0x0404) if isinstance(photoshop, dict) else None
    aspect = info.get("aspect") or (info.get("jfif_density") if info.get("jfif_unit") == 0 else None)
    dpi = (float(dpi[0]), float(dpi[1])) if dpi else (0.0, 0.0)
    iptc = iptc if isinstance(iptc, bytes) and iptc else None
    return Metadata(exif, xmp, iptc, dpi if min(dpi) > 0 else None, _aspect(aspect)), notes


def _aspect(pair: Any) -> tuple[int, int] | None:
    """A pair of numbers that are not the same."""
    x, y = (round(value) for value in pair) if pair else (0, 0)
    return (x, y) if 0 < x != y > 0 else None


def _left_behind(source: Source, picture: Picture, xmp: bytes) -> list[str]:
    """Notes on parts of a photo that its result will not have."""
    boxes = source.format in ("avif", "heic")
    # An edited JPEG may still mention the gain map in its XMP without having it.
    if boxes or "mp" in picture.info:
        head = source.head()
        if any(mark in head for mark in GAIN_MAP_MARKS) or (boxes and b"tmap" in head):
            return ["the gain map is left out: the HDR photo becomes one of standard range"]
    if re.search(rb"(MotionPhoto|MicroVideo)(=[\"']|>)1", xmp):
        return ["the video of this motion photo is left out"]
    if source.format == "jpg" and int(getattr(picture, "n_frames", 1)) > 1:
        return ["only the main picture of this multi-picture JPEG is read"]
    return []


def read_tiff_metadata(tags: Directory) -> Metadata:
    """Metadata of a TIFF page."""
    exif = tags.only(PHOTO_TAGS)
    xmp, iptc = tags.entries.get(tiff.XMP), tags.entries.get(tiff.IPTC)
    aspect = [*tags.numbers(tiff.X_RESOLUTION)[:1], *tags.numbers(tiff.Y_RESOLUTION)[:1]]
    return Metadata(
        exif if exif.entries or exif.children else None,
        xmp.data if xmp else None,
        iptc.data if iptc and iptc.type != LONG else None,
        tiff.density_of(tags),
        _aspect(aspect) if tags.integer(tiff.RESOLUTION_UNIT, 2) == 1 else None,
    )


def prepare(found: Metadata, policy: MetadataPolicy, size: tuple[int, int]) -> tuple[Metadata, list[str]]:
    """Metadata for an upright output of `size` (height, width): sizes and orientation corrected, thumbnail gone.

    Args:
        found: from the source.
        policy: keep; safe (without place, serial numbers, owner and maker notes); strip.
        size: of the output.
    """
    if policy == "strip":
        return Metadata(cicp=found.cicp), []
    notes, safe, xmp = list[str](), policy == "safe", None
    exif = _corrected_exif(found.exif, size, safe=safe) if found.exif is not None else None
    if found.xmp is not None:
        try:
            xmp = _corrected_xmp(found.xmp, size, safe=safe)
        except (ExpatError, ValueError) as error:
            notes.append(f"the XMP data is damaged and left out ({error})")
    iptc = _public_iptc(found.iptc) if safe and found.iptc is not None else found.iptc
    return replace(found, exif=exif, xmp=xmp, iptc=iptc), notes


def _corrected_exif(exif: Directory, size: tuple[int, int], *, safe: bool) -> Directory:
    exif = exif.without(PRIVATE_TAGS if safe else frozenset())
    if tiff.ORIENTATION in exif.entries:
        exif.set_integers(tiff.ORIENTATION, SHORT, (1,))
    for directory in (exif, exif.children.get(EXIF_IFD, Directory())):
        for tag in WIDTH_TAGS.keys() & directory.entries:
            directory.set_integers(tag, LONG, (size[WIDTH_TAGS[tag]],))
    return exif


def _public_iptc(iptc: bytes) -> bytes | None:
    """IPTC-IIM without the datasets that name a place (IIM 4.2, chapter 3: marker, record, dataset, length)."""
    kept, at = b"", 0
    while at + 5 <= len(iptc) and iptc[at] == 0x1C:
        length = int.from_bytes(iptc[at + 3 : at + 5], "big")
        if length & 0x8000:  # an extended length, which photos do not have; the rest cannot be parsed
            break
        end = at + 5 + length
        if iptc[at + 1] != 2 or iptc[at + 2] not in PRIVATE_IPTC:
            kept += iptc[at:end]
        at = end
    return kept or None


def _parse_xmp(packet: bytes) -> minidom.Document:
    if b"<!DOCTYPE" in packet or b"<!ENTITY" in packet:
        raise ValueError("it defines entities")
    body = packet.strip(b"\0 \r\n\t")
    start, end = body.find(b"<x:xmpmeta"), body.rfind(b"</x:xmpmeta>")
    if 0 <= start < end:
        body = body[start : end + len(b"</x:xmpmeta>")]
    open_elements: list[str] = []

    def begin(name: str, _attributes: dict[str, str]) -> None:
        open_elements.append(name)
        if len(open_elements) > MAX_XMP_DEPTH:
            raise ValueError(f"more than {MAX_XMP_DEPTH} elements within elements")

    parser = ParserCreate()
    parser.StartElementHandler = begin
    parser.EndElementHandler = lambda _name: open_elements.pop()
    parser.Parse(body, True)
    return minidom.parseString(body)


def _corrected_xmp(packet: bytes, size: tuple[int, int], *, safe: bool) -> bytes:
    document = _parse_xmp(packet)
    for element in list(document.getElementsByTagName("*")):
        for attribute in list(element.attributes.values()):
            space = attribute.value if attribute.prefix == "xmlns" else attribute.namespaceURI
            value = _xmp_value(attribute.localName, attribute.value, size, safe=safe)
            made = attribute.namespaceURI == PROVENANCE_SPACE  # how the source itself was made
            if value is None or made or (space or "").startswith(GONE_SPACES):
                element.removeAttribute(attribute.name)
            else:
                attribute.value = value
        if element.parentNode is None or element.namespaceURI == RDF:
            continue
        text = element.firstChild if len(element.childNodes) == 1 else None
        data = text.data if isinstance(text, minidom.Text) else ""
        value = _xmp_value(element.localName, data, size, safe=safe)
        if value is None or (element.namespaceURI or "").startswith(GONE_SPACES):
            element.parentNode.removeChild(element)
        elif isinstance(text, minidom.Text):
            text.data = value
    return _packet(document)


def _xmp_value(name: str | None, value: str, size: tuple[int, int], *, safe: bool) -> str | None:
    """What a property should say now; None if it must go."""
    if name and (GONE_NAMES.fullmatch(name) or (safe and PRIVATE_NAMES.fullmatch(name))):
        return None
    if name == "Orientation" and value.strip().isdigit():
        return "1"
    if name in SIZE_NAMES and value.strip().isdigit():
        return str(size[SIZE_NAMES[name]])
    return value


def _packet(document: minidom.Document) -> bytes:
    assert document.documentElement is not None
    return XMP_START + document.documentElement.toxml().encode("utf-8") + XMP_END


def with_provenance(kept: Metadata, provenance: Mapping[str, Any] | None) -> tuple[Metadata, list[str]]:
    """Metadata whose XMP packet (a new one, or its own) carries the provenance as JSON in one property; notes."""
    if not provenance:
        return kept, []
    try:
        document = _parse_xmp(kept.xmp or XMP_EMPTY)
        if not document.getElementsByTagNameNS(RDF, "RDF"):
            document = _parse_xmp(XMP_EMPTY)
    except (ExpatError, ValueError) as error:
        return kept, [f"the provenance could not be added to the XMP data ({error})"]
    root = document.getElementsByTagNameNS(RDF, "RDF")[0]
    prefix = root.prefix or "rdf"
    element = document.createElementNS(RDF, f"{prefix}:Description")
    element.setAttributeNS(RDF, f"{prefix}:about", "")
    element.setAttribute("xmlns:srcli", PROVENANCE_SPACE)
    element.setAttributeNS(PROVENANCE_SPACE, "srcli:provenance", json.dumps(dict(provenance), sort_keys=True))
    root.appendChild(element)
    return replace(kept, xmp=_packet(document)), []


def read_provenance_xmp(packet: bytes) -> dict[str, Any] | None:
    """The provenance an XMP packet carries, if any."""
    try:
        elements = _parse_xmp(packet).getElementsByTagNameNS(RDF, "Description")
    except (ExpatError, ValueError):
        return None
    texts = (element.getAttributeNS(PROVENANCE_SPACE, "provenance") for element in elements)
    return next((parse_provenance(text) for text in texts if text), None)


def parse_provenance(text: str) -> dict[str, Any] | None:
    """The provenance written as JSON, or None if this is not it."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def photoshop_block(iptc: bytes) -> bytes:
    """The content of a JPEG APP13 segment with IPTC records, as Photoshop writes it."""
    resource = b"8BIM\x04\x04\0\0" + len(iptc).to_bytes(4, "big") + iptc + bytes(len(iptc) % 2)
    return b"Photoshop 3.0\0" + resource


def tiff_directory(kept: Metadata, icc: bytes | None) -> Directory:
    """Metadata and a profile as tags of a TIFF file (little-endian)."""
    tags = (kept.exif or Directory()).in_order("<").only(PHOTO_TAGS)
    for tag, data in {tiff.XMP: kept.xmp, tiff.IPTC: kept.iptc, tiff.ICC: icc}.items():
        if data is not None:
            tags.entries[tag] = Entry(BYTE if tag == tiff.XMP else UNDEFINED, len(data), data)
    if kept.dpi or kept.aspect:
        tiff.set_density(tags, kept.dpi or kept.aspect or (1, 1), unit=2 if kept.dpi else 1)
    return tags
