"""Files that are no pictures, or only parts of some: one clear line, never half a picture."""

import os
import struct
import zlib
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from srcli.errors import ImageError, ResourceError, decoding
from srcli.image.animation import read_animation
from srcli.image.probe import probe
from srcli.image.read import read_image
from tests.image.make import adam7, encoded, png16, png_chunk, raw_png, saved, smooth, texture, tiff

NOISE = texture(64, 64, 3, np.uint16)
PICTURE = Image.fromarray(smooth(64, 64))
WHOLE = {
    **{form.lower(): encoded(PICTURE, form) for form in ("PNG", "JPEG", "WEBP", "AVIF", "GIF", "BMP")},
    "png16": png16(NOISE),
    "progressive jpeg": encoded(PICTURE, "JPEG", progressive=True),
    "tiff": tiff(NOISE),
    "deflate tiff": tiff(NOISE, compression="zlib", rowsperstrip=8),
    "lzw tiff": cv2.imencode(".tif", NOISE, [cv2.IMWRITE_TIFF_COMPRESSION, 5])[1].tobytes(),
    "8-bit lzw tiff": encoded(PICTURE, "TIFF", compression="tiff_lzw"),
}


@pytest.mark.parametrize("kind", WHOLE)
@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
def test_a_file_cut_off_is_refused(kind, part, tmp_path):
    data = WHOLE[kind]
    assert read_image(data).size == (64, 64)
    path = saved(tmp_path / "photo.img", data[: int(len(data) * part)])
    with pytest.raises(ImageError) as refusal:
        read_image(path)
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert refusal.value.code == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"hello, I am no picture\n", "it is text"),
        ("grüße\n".encode(), "it is text"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (bytes(100), "nothing but zeros"),
        (b"\x89PNG\r\n\x1a\n", "damaged or cut off"),
        (b"\xff\xd8\xff\xe0", "damaged or cut off"),
        (b"II*\0\x08\0\0\0", "damaged or cut off"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100), "damaged or cut off"),
        (b"\x01\x02\x03\xfe\xff" * 9, "begins with the bytes 01 02 03"),
        (b"%PDF-1.4", "PDF document"),
        (b"8BPS\0\1", "Photoshop"),
        (b"v/1\x01" + bytes(20), "OpenEXR"),
        (b"\xff\x0a" + bytes(20), "JPEG XL.*djxl"),
        (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(20), "JPEG 2000"),
        (b"II*\0\x10\0\0\0CR\2\0" + bytes(20), "raw file"),
        (tiff(NOISE, extratags=[(50706, 1, 4, b"\1\4\0\0", True)]), "raw file"),  # a DNG
    ],
)
def test_what_is_no_picture_is_said_in_one_line(content, words, tmp_path):
    path = saved(tmp_path / "photo.png", content)
    for read in (read_image, probe):
        with pytest.raises(ImageError, match=words) as refusal:
            read(path)
        assert "photo.png" in str(refusal.value)
        assert "\n" not in str(refusal.value)


def test_raw_files_by_name_and_folders_are_refused(tmp_path):
    with pytest.raises(ImageError, match=r"raw file.*raw converter"):
        read_image(saved(tmp_path / "photo.NEF", WHOLE["tiff"]))
    with pytest.raises(ImageError, match="folder"):
        read_image(tmp_path)


def test_a_flipped_bit_in_a_sixteen_bit_png_is_found():
    data = bytearray(WHOLE["png16"])
    data[len(data) // 2] ^= 4
    with pytest.raises(ImageError, match="checksum of a IDAT chunk"):
        read_image(bytes(data))


@pytest.mark.parametrize(("interlace", "bits"), [(0, 8), (1, 8), (0, 16)])
def test_a_png_whose_rows_end_early_is_refused(interlace, bits):
    samples = np.zeros((64, 64, 3 * bits // 8), np.uint8)
    rows = adam7(samples) if interlace else bytes(64 * (1 + samples[0].size))

    def made(rows):
        return raw_png((64, 64), bits, 2, rows, interlace=interlace)

    assert read_image(made(rows)).size == (64, 64)
    for cut in (-1, -5000):
        with pytest.raises(ImageError, match="end early"):
            read_image(made(rows[:cut]))


def test_a_header_that_promises_more_than_the_file_can_hold_is_refused_at_once():
    with pytest.raises(ImageError, match="far too short"):
        read_image(raw_png((20000, 20000), 8, 2, bytes(5000)))
    gif = bytearray(WHOLE["gif"])
    gif[6:10] = struct.pack("<HH", 8742, 33224)
    with pytest.raises(ImageError, match="far too short for 8742x33224"):
        read_image(bytes(gif))
    webp = bytearray(encoded(PICTURE, "WEBP", save_all=True, append_images=[PICTURE.rotate(90)]))
    at = webp.index(b"VP8X") + 12
    webp[at : at + 3] = (10_879_215).to_bytes(3, "little")
    with pytest.raises(ImageError, match="more than the format holds"):
        read_image(bytes(webp), frames="first")


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(sorted(WHOLE)), st.data())
def test_no_damage_leads_to_anything_but_an_image_error(kind, data):
    damaged = bytearray(WHOLE[kind])
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, min(len(damaged), 600) - 1))] = data.draw(st.integers(0, 255))
    with suppress(ImageError):
        assert read_image(bytes(damaged), frames="first", max_pixels=100_000).pixels.ndim == 3


def test_a_tiff_of_a_rare_kind_names_the_extra():
    data = bytearray(WHOLE["tiff"])
    with tifffile.TiffFile(BytesIO(data)) as file:
        at = file.pages[0].tags["Compression"].valueoffset
    data[at : at + 2] = (50002).to_bytes(2, "little")  # JPEG XL
    with pytest.raises(ImageError, match=r'u16 samples, compression 50002.*pip install "srcli\[formats\]"'):
        read_image(bytes(data))


def big_tiff(tag, kind, count, value):
    """A BigTIFF of 8x8 gray pixels with one entry changed or added; `tag` 0 is the place of the directory."""
    entries = {256: (3, 1, 8), 257: (3, 1, 8), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1)}
    entries |= {273: (16, 1, 300), 277: (3, 1, 1), 278: (3, 1, 8), 279: (16, 1, 64)}
    place = value if tag == 0 else 16
    if tag:
        entries[tag] = (kind, count, value)
    table = b"".join(struct.pack("<HHQQ", name, *entries[name]) for name in sorted(entries))
    whole = struct.pack("<2sHHHQQ", b"II", 43, 8, 0, place, len(entries)) + table + bytes(8)
    return whole.ljust(300, b"\0") + bytes(range(64))


@pytest.mark.parametrize("value", [2**62, 2**63 - 8, 2**63 - 1, 2**63, 2**64 - 1])
@pytest.mark.parametrize("tag", [0, 256, 270, 273, 279, 34665])
def test_numbers_of_a_big_tiff_beyond_every_file_are_refused(tag, value, tmp_path):
    assert read_image(big_tiff(259, 3, 1, 1)).pixels[..., 0].ravel().tolist() == list(range(64))
    data = big_tiff(tag, *((2, 100) if tag == 270 else (16, 1)), value)
    path = saved(tmp_path / "photo.tif", data)
    for read in (read_image, probe) if tag != 256 else (read_image,):  # a header may claim any size
        with pytest.raises(ImageError, match=r"photo\.tif"):
            read(path)


@pytest.mark.parametrize("first", [b"tEXt", b"gAMA", b"iCCP", b"tRNS", b"fcTL", b"PLTE", b"acTL"])
def test_a_png_that_does_not_begin_with_its_header_is_refused(first, tmp_path):
    body = {b"iCCP": b"a\0\0" + zlib.compress(bytes(200)), b"tEXt": b"a\0b"}.get(first, bytes(26))
    path = saved(tmp_path / "photo.png", WHOLE["png"][:8] + png_chunk(first, body) + WHOLE["png"][8:])
    for read in (read_image, probe):
        with pytest.raises(ImageError, match=r"photo\.png"):
            read(path)


@pytest.mark.parametrize("kind", ["fifo", "device"])
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="files that never end, or never begin")
def test_what_is_no_file_is_refused_without_a_look(kind, tmp_path):
    path = Path("/dev/zero")
    if kind == "fifo":
        path = tmp_path / "photo.png"
        os.mkfifo(path)
    with pytest.raises(ImageError, match=r"is a pipe or a device.*standard input with -"):
        probe(path)


@pytest.mark.parametrize(
    ("error", "refusal", "words"),
    [
        (AttributeError("too odd."), ImageError, r"^x cannot be decoded \(png, AttributeError: too odd\)\. "),
        (MemoryError(), ResourceError, "memory ran out"),
        (RuntimeError("OpenCV: Insufficient memory"), ResourceError, "memory ran out"),
        (OSError(12, "Cannot allocate memory"), ResourceError, "memory ran out"),
    ],
)
def test_whatever_a_decoder_raises_is_an_error_for_people_that_keeps_its_cause(error, refusal, words):
    with pytest.raises(refusal, match=words) as found, decoding("x", "png"):
        raise error
    assert found.value.__cause__ is error


def test_a_gif_whose_second_picture_is_larger_than_all_that_is_allowed_is_refused_before_memory_is_spent():
    data = bytearray(encoded(PICTURE, "GIF", save_all=True, append_images=[PICTURE.rotate(90)]))
    assert len(read_animation(bytes(data), max_pixels=1 << 14).frames) == 2
    at = data.rindex(b"\x21\xf9\x04") + 8  # the last graphic control, then the picture's descriptor
    assert data[at : at + 1] == b"\x2c"
    data[at + 5 : at + 9] = struct.pack("<HH", 50_000, 50_000)
    with pytest.raises(ImageError, match="50000x50000 = 5000 million pixels"):
        read_animation(bytes(data), max_pixels=1 << 14)
