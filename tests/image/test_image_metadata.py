"""EXIF, XMP, IPTC and dots per inch: kept, corrected, cleaned or stripped; read back by Pillow and tifffile."""

import io
import struct
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, IptcImagePlugin
from PIL.TiffImagePlugin import IFDRational

from srcli.batch.provenance import read_provenance
from srcli.image.ifd import Directory, Entry, parse_exif, write_exif
from srcli.image.read import read_image
from tests.image.make import encoded, opened, png16, png_chunk, saved, smooth, texture, through, tiff

IPTC = b"".join(
    b"\x1c\x02" + bytes([number]) + struct.pack(">H", len(text)) + text
    for number, text in ((25, b"meadow"), (90, b"Torino"), (116, b"(c) A. Photographer"))
)
HEAD = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
TAIL = "</rdf:Description></rdf:RDF></x:xmpmeta>"
XMP = (
    f'{HEAD}<rdf:Description rdf:about="" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6" '
    'xmlns:exif="http://ns.adobe.com/exif/1.0/" exif:GPSLatitude="45,4.2N" '
    'xmlns:aux="http://ns.adobe.com/exif/1.0/aux/" aux:SerialNumber="12345" '
    'xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Rating="4">'
    "<exif:PixelXDimension>36</exif:PixelXDimension><exif:PixelYDimension>24</exif:PixelYDimension>"
    "<dc:subject><rdf:Bag><rdf:li>größe</rdf:li></rdf:Bag></dc:subject>"
    f"<xmp:Thumbnails><rdf:Alt><rdf:li>AAAA</rdf:li></rdf:Alt></xmp:Thumbnails>{TAIL}"
)


def exif(orientation: int = 6, order: str = "<") -> bytes:
    """An EXIF block as a camera writes it, thumbnail and maker note included; the prefix of JPEG is left out."""
    block = Image.Exif()
    block.endian = order
    first = {0x0112: orientation, 0x010F: "Maker", 0x0132: "2024:05:06 07:08:09", 0x8298: "A. Photographer"}
    for tag, value in first.items():
        block[tag] = value
    block._ifds[0x8769] = {
        0xA002: 36,
        0xA003: 24,
        0x829A: IFDRational(1, 250),
        0x9003: "2024:05:06 07:08:09",
        0x927C: b"maker's own notes",
        0xA431: "SN-4711",
        0xA430: "The Owner",
    }
    block._ifds[0x8825] = {1: "N", 2: (45.0, 4.0, 12.0)}
    return block.tobytes().removeprefix(b"Exif\0\0")


def photo(form: str = "JPEG", block: bytes | None = None) -> bytes:
    block = exif() if block is None else block
    options = {"exif": b"Exif\0\0" * (form == "JPEG") + block, "xmp": XMP.encode(), "dpi": (300, 300)}
    if form == "JPEG":
        body = struct.pack(">I", len(IPTC)) + IPTC + bytes(len(IPTC) % 2)
        body = b"Photoshop 3.0\x008BIM\x04\x04\0\0" + body
        options["extra"] = b"\xff\xed" + struct.pack(">H", len(body) + 2) + body
    return encoded(smooth(24, 36), form, **options)


def enlarged(data: bytes, output_format: str, provenance=None, **options) -> tuple[bytes, list[str]]:
    return through(read_image(data), 2, provenance, output_format=output_format, **options)


def xmp_of(data: bytes) -> bytes:
    picture = opened(data)
    return picture.tag_v2[700] if picture.format == "TIFF" else picture.info["xmp"]


FORMATS = ["png", "jpg", "webp", "tiff", "avif"]
PHOTO = photo()


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("source", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", ">"])
def test_exif_is_kept_and_corrected_in_both_byte_orders(source, name):
    picture = opened(enlarged(photo("JPEG", exif(order=">")) if source == ">" else photo(source), name)[0])
    found, detail = picture.getexif(), picture.getexif().get_ifd(ExifTags.IFD.Exif)
    assert (found[0x010F], found[0x0132], found.get(0x0112, 1)) == ("Maker", "2024:05:06 07:08:09", 1)
    assert picture.size == (detail[0xA002], detail[0xA003]) == (48, 72)  # 36x24, turned and doubled
    assert (detail[0x829A], detail[0x927C], detail[0xA431]) == (0.004, b"maker's own notes", "SN-4711")
    assert tuple(float(v) for v in found.get_ifd(ExifTags.IFD.GPSInfo)[2]) == (45, 4, 12)


@pytest.mark.parametrize("name", FORMATS)
def test_xmp_is_kept_and_corrected(name):
    text = xmp_of(enlarged(PHOTO, name)[0]).decode()
    for kept in (
        *('tiff:Orientation="1"', 'xmp:Rating="4"', "größe", 'aux:SerialNumber="12345"'),
        *("<exif:PixelXDimension>48<", "<exif:PixelYDimension>72<"),
    ):
        assert kept in text
    assert "Thumbnails" not in text
    ET.fromstring(text)


@pytest.mark.parametrize("name", FORMATS)
def test_safe_drops_place_serials_owner_and_maker_notes_and_strip_everything(name):
    out, _ = enlarged(PHOTO, name, metadata="safe")
    for secret in (b"SN-4711", b"The Owner", b"maker's own", b"12345", b"45,4.2N", b"Torino"):
        assert secret not in out
    found = opened(out).getexif()
    assert found[0x8298] == "A. Photographer"
    assert ExifTags.IFD.GPSInfo not in found
    assert "größe" in xmp_of(out).decode()
    out, _ = enlarged(PHOTO, name, {"version": "1"}, metadata="strip")
    for trace in (b"Maker", b"Photographer", b"Rating", b"meadow", b"srcli"):
        assert trace not in out
    assert read_provenance(out) is None


@pytest.mark.parametrize("name", ["png", "jpg", "tiff"])
def test_dots_per_inch_are_kept(name):
    dpi = opened(enlarged(PHOTO, name)[0]).info["dpi"]
    assert tuple(round(float(value)) for value in dpi) == (300, 300)


@pytest.mark.parametrize("source", ["png", "jpg", "tiff"])
@pytest.mark.parametrize("name", FORMATS)
def test_the_shape_of_pixels_is_kept_or_said_to_be_lost(source, name):
    shape = png_chunk(b"pHYs", struct.pack(">IIB", 2, 1, 0))
    if source == "tiff":
        data = tiff(smooth(24, 36), resolution=(2, 1), resolutionunit=1)
    else:
        data = bytearray(encoded(smooth(24, 36), {"jpg": "JPEG", "png": "PNG"}[source]))
        if source == "png":
            data[33:33] = shape
        else:
            data[13:18] = struct.pack(">BHH", 0, 2, 1)
    out, notes = enlarged(bytes(data), name)
    assert any("shape of the pixels (2:1)" in note for note in notes) == (name in ("webp", "avif"))
    if name == "png":
        assert shape in out
    elif name == "jpg":
        info = opened(out).info
        assert (info["jfif_unit"], info["jfif_density"]) == (0, (2, 1))
    elif name == "tiff":
        with tifffile.TiffFile(io.BytesIO(out)) as file:
            assert (file.pages[0].get_resolution(), file.pages[0].resolutionunit) == ((2, 1), 1)


def test_iptc_goes_where_there_is_a_place_for_it():
    out, notes = enlarged(PHOTO, "jpg")
    assert notes == []
    again, _ = enlarged(out, "tiff")
    assert IPTC in again
    safe, _ = enlarged(PHOTO, "jpg", metadata="safe")
    for data in (out, again, safe):
        kept = IptcImagePlugin.getiptcinfo(opened(data))
        assert (kept[(2, 25)], kept[(2, 116)]) == (b"meadow", b"(c) A. Photographer")
        assert ((2, 90) in kept) == (data is not safe)
    assert any("IPTC" in note for note in enlarged(again, "png")[1])


def test_the_thumbnail_is_dropped_and_a_maker_note_stays_where_it_lay():
    thumbnail, block = encoded(Image.new("RGB", (8, 8), "red"), "JPEG"), exif()
    at = len(block)  # a second directory: compression 6 (JPEG), where it lies and how long it is
    rows = ((0x0103, 6), (0x0201, at + 42), (0x0202, len(thumbnail)))
    table = struct.pack("<H", 3) + b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in rows)
    link = 10 + 12 * struct.unpack_from("<H", block, 8)[0]
    block = block[:link] + struct.pack("<I", at) + block[link + 4 :] + table + bytes(4) + thumbnail
    data = photo("JPEG", block)
    assert thumbnail in data
    for name in ("jpg", "png"):
        out, _ = enlarged(data, name)
        assert thumbnail not in out
        kept = opened(out).info["exif"].removeprefix(b"Exif\0\0")
        assert kept.index(b"maker's own notes") == block.index(b"maker's own notes")


@pytest.mark.parametrize("name", FORMATS)
def test_provenance_is_found_again(name, tmp_path):
    provenance = {"version": "0.1.0", "preset": 'a "b" <c> & ñ', "scale": 4.3, "seed": None}
    out, _ = enlarged(PHOTO, name, provenance)
    assert read_provenance(out) == provenance
    assert opened(out).getexif()[0x010F] == "Maker"
    again, _ = enlarged(out, name, {"version": "2"})
    assert read_provenance(again) == {"version": "2"}
    assert name == "png" or "größe" in xmp_of(again).decode()
    for foreign in (PHOTO, b"no picture"):
        assert read_provenance(saved(tmp_path / "foreign", foreign)) is None


def xmp_with(attributes: str, body: str = "") -> bytes:
    rating = 'xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Rating="4"'
    return f"{HEAD}<rdf:Description {attributes} {rating}>{body}{TAIL}".encode()


ULTRA_HDR = xmp_with(
    'xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1.0" '
    'xmlns:Container="http://ns.google.com/photos/1.0/container/" '
    'xmlns:Item="http://ns.google.com/photos/1.0/container/item/"',
    '<Container:Directory><rdf:Seq><rdf:li rdf:parseType="Resource"><Container:Item Item:Semantic="GainMap" '
    'Item:Length="1053"/></rdf:li></rdf:Seq></Container:Directory>',
)
CAMERA = 'xmlns:GCamera="http://ns.google.com/photos/1.0/camera/"'
MOTION = xmp_with(f'{CAMERA} GCamera:MotionPhoto="1" GCamera:MicroVideoOffset="9"')
DEPTH = xmp_with('xmlns:GDepth="http://ns.google.com/photos/1.0/depthmap/" GDepth:Format="RangeInverse"')


@pytest.mark.parametrize("packet", [ULTRA_HDR, MOTION, DEPTH])
@pytest.mark.parametrize("policy", ["keep", "safe"])
def test_xmp_promises_no_bytes_that_are_gone(packet, policy):
    text = xmp_of(enlarged(encoded(smooth(24, 36), "JPEG", xmp=packet), "png", metadata=policy)[0])
    for word in (b"hdr", b"GainMap", b"Item", b"Motion", b"MicroVideo", b"Depth"):
        assert word not in text.split(b"?xpacket end")[0].split(b"xmpmeta", 1)[1]
    assert b'xmp:Rating="4"' in text


@pytest.mark.parametrize(
    ("packet", "note"),
    [
        (ULTRA_HDR, "gain map is left out"),
        (MOTION, "video of this motion photo"),
        (XMP.encode(), "multi-picture"),
    ],
)
def test_what_else_a_photo_holds_is_said_to_be_left_out(packet, note):
    pictures = [Image.fromarray(smooth(24, 36)), Image.new("L", (18, 12))]
    data = encoded(pictures[0], "MPO", save_all=True, append_images=pictures[1:], xmp=packet)
    assert [note in line for line in read_image(data).notes] == [True]
    edited = encoded(pictures[0], "JPEG", xmp=ULTRA_HDR)  # the map has gone before
    assert read_image(edited).notes == ()


def test_exif_after_the_pixels_of_a_png_or_in_imagemagicks_text_is_found():
    block = b"Exif\0\0" + exif()
    text = png_chunk(b"tEXt", f"Raw profile type exif\0\nexif\n{len(block):8}\n{block.hex()}\n".encode())
    for chunks in ({"after": png_chunk(b"eXIf", exif())}, {"before": text}):
        image = read_image(png16(texture(24, 36, 3, np.uint16), **chunks))
        assert image.size == (36, 24)
        assert image.metadata.exif.entries[0x010F].data == b"Maker\0"


NESTED = b'<x:xmpmeta xmlns:x="adobe:ns:meta/">' + b"<a>" * 8000 + b"</a>" * 8000 + b"</x:xmpmeta>"
ENTITY = b'<!DOCTYPE a [<!ENTITY b "c">]><x:xmpmeta xmlns:x="adobe:ns:meta/">&b;</x:xmpmeta>'


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"exif": b"Exif\0\0II*\0\xff\xff\xff\x7f"}, "EXIF"),
        ({"exif": b"Exif\0\0nonsense"}, "EXIF"),
        ({"xmp": b"<x:xmpmeta><unclosed>"}, "XMP"),
        ({"xmp": NESTED}, "elements within elements"),
        ({"xmp": ENTITY}, "XMP"),
    ],
)
def test_damaged_metadata_is_a_note_and_not_the_end(options, word):
    data = encoded(smooth(24, 36), "JPEG", **options)
    out, notes = enlarged(data, "jpg")
    assert any(word in note and "damaged" in note for note in (*read_image(data).notes, *notes))
    assert opened(out).size == (72, 48)


def test_metadata_too_long_for_jpeg_is_a_note():
    block = write_exif(Directory({0x010E: Entry(2, 70_001, b"x" * 70_000 + b"\0")}))
    data = encoded(smooth(24, 36), "PNG", exif=block)
    assert any("EXIF data is too long for JPEG" in note for note in enlarged(data, "jpg")[1])
    out, notes = enlarged(data, "png")
    assert notes == []
    assert len(opened(out).getexif()[0x010E]) == 70_000


def test_tiff_tags_of_the_file_itself_do_not_travel():
    data = tiff(smooth(24, 36), software="a scanner", metadata=None, resolution=(300, 300), tile=(16, 16))
    with tifffile.TiffFile(io.BytesIO(enlarged(data, "tiff")[0])) as file:
        tags = file.pages[0].tags
        assert (tags["Software"].value, tags["ImageWidth"].value) == ("a scanner", 72)
        assert "TileWidth" not in tags
    assert set(opened(enlarged(data, "jpg")[0]).getexif()) == {0x0131}


values = st.one_of(
    st.binary(min_size=1, max_size=40).map(lambda data: Entry(7, len(data), data)),
    st.lists(st.integers(0, 65535), min_size=1, max_size=9).map(
        lambda v: Entry(3, len(v), struct.pack(f"<{len(v)}H", *v))
    ),
    st.tuples(st.integers(0, 99), st.integers(1, 99)).map(lambda v: Entry(5, 1, struct.pack("<II", *v))),
)
tags = st.dictionaries(st.integers(1, 0x8000), values, max_size=6)


def plain(directory: Directory):
    entries = {tag: (entry.type, entry.count, entry.data) for tag, entry in directory.entries.items()}
    return entries, {tag: plain(child) for tag, child in directory.children.items()}


@settings(max_examples=60, deadline=None)
@given(tags, tags, tags, st.sampled_from("<>"), st.integers(8, 400))
def test_directories_survive_writing_and_reading(first, second, third, order, note_at):
    note = Entry(7, 33, bytes(range(33)), note_at)
    children = {0x8769: Directory({**second, 0x927C: note}), 0x8825: Directory(dict(third))}
    tree = Directory(dict(first), children).in_order(order)
    block = write_exif(tree)
    assert block[note_at : note_at + 33] == note.data
    assert plain(parse_exif(block)) == plain(tree)
    assert plain(tree.in_order("<").in_order(order)) == plain(tree)
