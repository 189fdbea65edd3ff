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

from srcli.image.ifd import Directory, Entry, parse_exif, write_exif
from srcli.image.provenance import read_provenance
from srcli.image.read import read_image
from srcli.image.write import plan_output, write_image
from tests.image.make import encoded, png16, png_chunk, smooth, texture

SIZE = (48, 72)
IPTC = b"".join(
    b"\x1c\x02" + bytes([number]) + struct.pack(">H", len(text)) + text
    for number, text in ((25, b"meadow"), (90, b"Torino"), (116, b"(c) A. Photographer"))
)
XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6" '
    'xmlns:exif="http://ns.adobe.com/exif/1.0/" exif:GPSLatitude="45,4.2N" '
    'xmlns:aux="http://ns.adobe.com/exif/1.0/aux/" aux:SerialNumber="12345" '
    'xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Rating="4">'
    "<exif:PixelXDimension>36</exif:PixelXDimension><exif:PixelYDimension>24</exif:PixelYDimension>"
    "<dc:subject><rdf:Bag><rdf:li>größe</rdf:li></rdf:Bag></dc:subject>"
    "<xmp:Thumbnails><rdf:Alt><rdf:li>AAAA</rdf:li></rdf:Alt></xmp:Thumbnails>"
    "</rdf:Description></rdf:RDF></x:xmpmeta>"
)


def exif(orientation: int = 6, order: str = "<") -> bytes:
    """An EXIF block as a camera writes it, thumbnail and maker note included; the prefix of JPEG is left out."""
    block = Image.Exif()
    block.endian = order
    block[0x0112] = orientation
    block[0x010F] = "Maker"
    block[0x0132] = "2024:05:06 07:08:09"
    block[0x8298] = "A. Photographer"
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


def photo(form: str = "JPEG") -> bytes:
    options = {"exif": b"Exif\0\0" * (form == "JPEG") + exif(), "xmp": XMP.encode(), "dpi": (300, 300)}
    if form == "JPEG":
        body = (
            b"Photoshop 3.0\0"
            + b"8BIM\x04\x04\0\0"
            + struct.pack(">I", len(IPTC))
            + IPTC
            + bytes(len(IPTC) % 2)
        )
        options["extra"] = b"\xff\xed" + struct.pack(">H", len(body) + 2) + body
    return encoded(Image.fromarray(smooth(24, 36)), form, **options)


def enlarged(data: bytes, output_format: str, provenance=None, **options):
    """A gray picture of the new size with the source's metadata, and the notes."""
    image = read_image(data)
    plan = plan_output(image, SIZE, output_format=output_format, **options)
    stream = io.BytesIO()
    notes = plan.write(stream, plan.band(np.full((*SIZE, 3), 0.5, np.float32)), provenance=provenance)
    return stream.getvalue(), [*plan.notes, *notes]


def xmp_of(data: bytes) -> bytes:
    picture = Image.open(io.BytesIO(data))
    if picture.format == "TIFF":
        return picture.tag_v2[700]
    return picture.info["xmp"]


FORMATS = ["png", "jpg", "webp", "tiff", "avif"]


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("source", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_exif_is_kept_and_corrected(source, name):
    out, _ = enlarged(photo(source), name)
    picture = Image.open(io.BytesIO(out))
    found = picture.getexif()
    assert picture.size == (72, 48)
    assert found[0x010F] == "Maker"
    assert found[0x0132] == "2024:05:06 07:08:09"
    assert found.get(0x0112, 1) == 1
    detail = found.get_ifd(ExifTags.IFD.Exif)
    assert (detail[0xA002], detail[0xA003]) == (72, 48)
    assert detail[0x829A] == 0.004
    assert detail[0x927C] == b"maker's own notes"
    assert detail[0xA431] == "SN-4711"
    assert tuple(float(v) for v in found.get_ifd(ExifTags.IFD.GPSInfo)[2]) == (45, 4, 12)


@pytest.mark.parametrize("name", FORMATS)
def test_xmp_is_kept_and_corrected(name):
    out, _ = enlarged(photo(), name)
    text = xmp_of(out).decode()
    assert 'tiff:Orientation="1"' in text
    assert "<exif:PixelXDimension>72</exif:PixelXDimension>" in text
    assert "<exif:PixelYDimension>48</exif:PixelYDimension>" in text
    assert 'xmp:Rating="4"' in text
    assert "größe" in text
    assert 'aux:SerialNumber="12345"' in text
    assert "Thumbnails" not in text
    ET.fromstring(text)


@pytest.mark.parametrize("name", FORMATS)
def test_safe_drops_place_serials_owner_and_maker_notes(name):
    out, _ = enlarged(photo(), name, metadata="safe")
    for secret in (b"SN-4711", b"The Owner", b"maker's own", b"12345", b"45,4.2N", b"Torino"):
        assert secret not in out
    found = Image.open(io.BytesIO(out)).getexif()
    assert found[0x8298] == "A. Photographer"
    assert ExifTags.IFD.GPSInfo not in found
    assert "größe" in xmp_of(out).decode()


@pytest.mark.parametrize("name", FORMATS)
def test_strip_drops_everything(name):
    out, _ = enlarged(photo(), name, metadata="strip", provenance={"version": "1"})
    for trace in (b"Maker", b"Photographer", b"Rating", b"meadow", b"srcli"):
        assert trace not in out
    assert read_provenance(out) is None


@pytest.mark.parametrize("name", ["png", "jpg", "tiff"])
def test_dots_per_inch_are_kept(name):
    out, _ = enlarged(photo(), name)
    assert tuple(round(float(v)) for v in Image.open(io.BytesIO(out)).info["dpi"]) == (300, 300)


@pytest.mark.parametrize("source", ["png", "jpg", "tiff"])
@pytest.mark.parametrize("name", FORMATS)
def test_the_shape_of_pixels_is_kept_or_said_to_be_lost(source, name):
    data = bytearray(encoded(Image.fromarray(smooth(24, 36)), {"jpg": "JPEG"}.get(source, source.upper())))
    if source == "png":
        data[33:33] = png_chunk(b"pHYs", struct.pack(">IIB", 2, 1, 0))
    elif source == "jpg":
        data[13:18] = struct.pack(">BHH", 0, 2, 1)
    else:
        stream = io.BytesIO()
        tifffile.imwrite(stream, smooth(24, 36), photometric="rgb", resolution=(2, 1), resolutionunit=1)
        data = stream.getvalue()
    out, notes = enlarged(bytes(data), name)
    assert any("shape of the pixels (2:1)" in note for note in notes) == (name in ("webp", "avif"))
    if name == "png":
        assert png_chunk(b"pHYs", struct.pack(">IIB", 2, 1, 0)) in out
    elif name == "jpg":
        picture = Image.open(io.BytesIO(out))
        assert (picture.info["jfif_unit"], picture.info["jfif_density"]) == (0, (2, 1))
    elif name == "tiff":
        with tifffile.TiffFile(io.BytesIO(out)) as file:
            assert file.pages[0].get_resolution() == (2, 1)
            assert file.pages[0].resolutionunit == 1


def test_iptc_goes_where_there_is_a_place_for_it():
    out, notes = enlarged(photo(), "jpg")
    assert notes == []
    assert IptcImagePlugin.getiptcinfo(Image.open(io.BytesIO(out)))[(2, 25)] == b"meadow"
    again, _ = enlarged(out, "tiff")
    assert IPTC in again
    assert IptcImagePlugin.getiptcinfo(Image.open(io.BytesIO(again)))[(2, 25)] == b"meadow"
    _, notes = enlarged(again, "png")
    assert any("IPTC" in note for note in notes)
    safe, _ = enlarged(photo(), "jpg", metadata="safe")
    kept = IptcImagePlugin.getiptcinfo(Image.open(io.BytesIO(safe)))
    assert kept[(2, 25)] == b"meadow"
    assert kept[(2, 116)] == b"(c) A. Photographer"
    assert (2, 90) not in kept


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("name", FORMATS)
def test_both_byte_orders_are_understood(order, name):
    data = encoded(Image.fromarray(smooth(24, 36)), "JPEG", exif=b"Exif\0\0" + exif(order=order))
    out, _ = enlarged(data, name)
    assert Image.open(io.BytesIO(out)).getexif().get_ifd(ExifTags.IFD.Exif)[0xA002] == 72


def test_the_thumbnail_is_dropped():
    thumbnail = encoded(Image.new("RGB", (8, 8), "red"), "JPEG")
    block = exif()
    # A second directory: compression 6 (JPEG), where it lies and how long it is.
    at = len(block)
    table = struct.pack("<H", 3) + b"".join(
        struct.pack("<HHII", tag, 4, 1, value)
        for tag, value in ((0x0103, 6), (0x0201, at + 42), (0x0202, len(thumbnail)))
    )
    count = struct.unpack_from("<H", block, 8)[0]
    link = 10 + 12 * count
    block = block[:link] + struct.pack("<I", at) + block[link + 4 :] + table + bytes(4) + thumbnail
    data = encoded(Image.fromarray(smooth(24, 36)), "JPEG", exif=b"Exif\0\0" + block)
    assert thumbnail in data
    out, _ = enlarged(data, "jpg")
    assert thumbnail not in out
    assert Image.open(io.BytesIO(out)).getexif()[0x010F] == "Maker"


def test_a_maker_note_stays_where_it_lay():
    before = exif()
    at = before.index(b"maker's own notes")
    out, _ = enlarged(encoded(Image.fromarray(smooth(24, 36)), "JPEG", exif=b"Exif\0\0" + before), "png")
    block = Image.open(io.BytesIO(out)).info["exif"].removeprefix(b"Exif\0\0")
    assert block.index(b"maker's own notes") == at


@pytest.mark.parametrize("name", FORMATS)
def test_provenance_is_found_again(name, tmp_path):
    provenance = {"version": "0.1.0", "preset": 'a "b" <c> & ñ', "scale": 4.3, "seed": None}
    out, _ = enlarged(photo(), name, provenance=provenance)
    assert read_provenance(out) == provenance
    assert Image.open(io.BytesIO(out)).getexif()[0x010F] == "Maker"
    again, _ = enlarged(out, name, provenance={"version": "2"})
    assert read_provenance(again) == {"version": "2"}
    if name != "png":
        assert "größe" in xmp_of(again).decode()
    for foreign in (photo(), b"no picture"):
        path = tmp_path / "foreign"
        path.write_bytes(foreign)
        assert read_provenance(path) is None


def xmp_with(attributes: str, body: str = "") -> bytes:
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description {attributes} xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Rating="4">{body}'
        "</rdf:Description></rdf:RDF></x:xmpmeta>"
    ).encode()


ULTRA_HDR = xmp_with(
    'xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1.0" '
    'xmlns:Container="http://ns.google.com/photos/1.0/container/" '
    'xmlns:Item="http://ns.google.com/photos/1.0/container/item/"',
    '<Container:Directory><rdf:Seq><rdf:li rdf:parseType="Resource"><Container:Item Item:Semantic="GainMap" '
    'Item:Length="1053"/></rdf:li></rdf:Seq></Container:Directory>',
)
MOTION = xmp_with(
    'xmlns:GCamera="http://ns.google.com/photos/1.0/camera/" GCamera:MotionPhoto="1" GCamera:MicroVideoOffset="9"'
)
DEPTH = xmp_with('xmlns:GDepth="http://ns.google.com/photos/1.0/depthmap/" GDepth:Format="RangeInverse"')


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("packet", [ULTRA_HDR, MOTION, DEPTH])
@pytest.mark.parametrize("policy", ["keep", "safe"])
def test_xmp_promises_no_bytes_that_are_gone(name, packet, policy):
    data = encoded(Image.fromarray(smooth(24, 36)), "JPEG", xmp=packet)
    out, _ = enlarged(data, name, metadata=policy)
    text = xmp_of(out)
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
    single = encoded(pictures[0], "JPEG", xmp=ULTRA_HDR)  # edited: the map has gone before
    assert read_image(single).notes == ()


def test_exif_after_the_pixels_of_a_png_is_found():
    data = png16(texture(24, 36, 3, np.uint16), after=png_chunk(b"eXIf", exif()))
    out, _ = enlarged(data, "png")
    assert Image.open(io.BytesIO(out)).getexif()[0x010F] == "Maker"


def test_exif_as_imagemagick_hid_it_in_png_text_is_found():
    block = b"Exif\0\0" + exif()
    text = f"\nexif\n{len(block):8}\n{block.hex()}\n"
    chunk = png_chunk(b"tEXt", b"Raw profile type exif\0" + text.encode())
    image = read_image(png16(texture(24, 36, 3, np.uint16), before=chunk))
    assert image.size == (36, 24)
    assert image.metadata.exif.entries[0x010F].data == b"Maker\0"


def test_damaged_metadata_is_a_note_and_not_the_end():
    picture = Image.fromarray(smooth(24, 36))
    for options, word in (
        ({"exif": b"Exif\0\0II*\0\xff\xff\xff\x7f"}, "EXIF"),
        ({"exif": b"Exif\0\0nonsense"}, "EXIF"),
        ({"xmp": b"<x:xmpmeta><unclosed>"}, "XMP"),
        (
            {
                "xmp": b'<x:xmpmeta xmlns:x="adobe:ns:meta/">'
                + b"<a>" * 8000
                + b"</a>" * 8000
                + b"</x:xmpmeta>"
            },
            "elements within elements",
        ),
        (
            {"xmp": b'<!DOCTYPE a [<!ENTITY b "c">]><x:xmpmeta xmlns:x="adobe:ns:meta/">&b;</x:xmpmeta>'},
            "XMP",
        ),
    ):
        data = encoded(picture, "JPEG", **options)
        notes = list(read_image(data).notes)
        out, more = enlarged(data, "jpg")
        assert any(word in note and "damaged" in note for note in notes + more)
        assert Image.open(io.BytesIO(out)).size == (72, 48)


def test_metadata_too_long_for_jpeg_is_a_note():
    directory = Directory()
    directory.entries[0x010E] = Entry(2, 70_001, b"x" * 70_000 + b"\0")
    data = encoded(Image.fromarray(smooth(24, 36)), "PNG", exif=write_exif(directory))
    _, notes = enlarged(data, "jpg")
    assert any("EXIF data is too long for JPEG" in note for note in notes)
    out, notes = enlarged(data, "png")
    assert notes == []
    assert len(Image.open(io.BytesIO(out)).getexif()[0x010E]) == 70_000


def test_metadata_an_encoder_refuses_is_left_out_with_a_note(monkeypatch):
    real = Image.Image.save

    def refuse(self, stream, form, **options):
        if "exif" in options:
            raise ValueError("I do not like it")
        real(self, stream, form, **options)

    monkeypatch.setattr(Image.Image, "save", refuse)
    stream = io.BytesIO()
    image = read_image(PHOTO)
    notes = write_image(stream, smooth(24, 36), like=image, output_format="avif")
    assert any("refused them (I do not like it)" in note for note in notes)
    assert read_image(stream.getvalue()).size == (24, 36)


PHOTO = photo()


def test_tiff_tags_of_the_file_itself_do_not_travel():
    stream = io.BytesIO()
    tifffile.imwrite(
        stream,
        smooth(24, 36),
        photometric="rgb",
        software="a scanner",
        metadata=None,
        resolution=(300, 300),
        tile=(16, 16),
    )
    out, _ = enlarged(stream.getvalue(), "tiff")
    with tifffile.TiffFile(io.BytesIO(out)) as file:
        tags = file.pages[0].tags
        assert tags["Software"].value == "a scanner"
        assert "TileWidth" not in tags
        assert tags["ImageWidth"].value == 72
    out, _ = enlarged(stream.getvalue(), "jpg")
    assert set(Image.open(io.BytesIO(out)).getexif()) == {0x0131}


values = st.one_of(
    st.binary(min_size=1, max_size=40).map(lambda data: Entry(7, len(data), data)),
    st.lists(st.integers(0, 65535), min_size=1, max_size=9).map(
        lambda v: Entry(3, len(v), struct.pack(f"<{len(v)}H", *v))
    ),
    st.tuples(st.integers(0, 99), st.integers(1, 99)).map(lambda v: Entry(5, 1, struct.pack("<II", *v))),
)
tags = st.dictionaries(st.integers(1, 0x8000), values, max_size=6)


@settings(max_examples=60, deadline=None)
@given(tags, tags, tags, st.sampled_from("<>"), st.integers(8, 400))
def test_directories_survive_writing_and_reading(first, second, third, order, note_at):
    note = Entry(7, 33, bytes(range(33)), note_at)
    tree = Directory(dict(first))
    tree.children[0x8769] = Directory({**second, 0x927C: note})
    tree.children[0x8825] = Directory(dict(third))
    tree = tree.in_order(order)
    block = write_exif(tree)
    assert block[note_at : note_at + 33] == note.data
    assert plain(parse_exif(block)) == plain(tree)
    assert plain(tree.in_order("<").in_order(order)) == plain(tree)


def plain(directory: Directory):
    entries = {tag: (entry.type, entry.count, entry.data) for tag, entry in directory.entries.items()}
    return entries, {tag: plain(child) for tag, child in directory.children.items()}
