"""What is read equals what other programs wrote: orientation, TIFF's many kinds, frames, transparency."""

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from srcli.errors import ImageError, NothingToDoError, UsageError
from srcli.image.probe import probe
from srcli.image.read import read_image
from tests.image.make import adam7, encoded, opened, png16, png_chunk, raw_png, saved, smooth, texture, tiff

PICTURE = smooth(24, 36)


def with_orientation(number: int) -> bytes:
    exif = Image.Exif()
    exif[274] = number
    return exif.tobytes()


def upright(number: int) -> np.ndarray:
    return np.asarray(ImageOps.exif_transpose(opened(encoded(PICTURE, "PNG", exif=with_orientation(number)))))


@pytest.mark.parametrize("number", range(1, 9))
@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "TIFF", "TIFF-LZW", "AVIF"])
def test_orientation_is_applied_as_pillow_does(form, number):
    options = {"compression": "tiff_lzw"} if form == "TIFF-LZW" else {}
    data = encoded(PICTURE, form.split("-")[0], exif=with_orientation(number), **options)
    image, found = read_image(data), probe(data)
    assert np.array_equal(image.pixels, np.asarray(ImageOps.exif_transpose(opened(data))))
    assert found.size == image.size == ((36, 24) if number > 4 else (24, 36))
    assert found.orientation == number


@pytest.mark.parametrize("number", range(1, 9))
def test_orientation_is_applied_once_to_sixteen_bits(number):
    samples, expected = PICTURE.astype(np.uint16) * 257, upright(number).astype(np.uint16) * 257
    chunk = png_chunk(b"eXIf", with_orientation(number).removeprefix(b"Exif\0\0"))
    # LZW by OpenCV: the one here that both writes it and keeps 16 bits
    lzw = cv2.imencode(".tif", samples[..., ::-1], [cv2.IMWRITE_TIFF_COMPRESSION, 5])[1].tobytes()
    for data in (
        *(png16(samples, before=chunk), png16(samples, after=chunk), set_orientation(lzw, number)),
        tiff(samples, extratags=[(274, 3, 1, number, True)]),
    ):
        assert np.array_equal(read_image(data).pixels, expected)


def set_orientation(data: bytes, number: int) -> bytes:
    """A little-endian TIFF with an Orientation tag: its directory copied to the end with one entry more."""
    at = int.from_bytes(data[4:8], "little")
    count = int.from_bytes(data[at : at + 2], "little")
    entries = [data[at + 2 + 12 * i : at + 14 + 12 * i] for i in range(count)]
    entries.append(struct.pack("<HHIHH", 274, 3, 1, number, 0))
    entries.sort(key=lambda entry: int.from_bytes(entry[:2], "little"))
    data += bytes(len(data) % 2)
    table = struct.pack("<H", count + 1) + b"".join(entries) + bytes(4)
    return data[:4] + len(data).to_bytes(4, "little") + data[8:] + table


TIFF_KINDS = {
    "gray": ((20, 30), {"photometric": "minisblack"}),
    "white is zero": ((20, 30), {"photometric": "miniswhite"}),
    "gray and alpha": ((20, 30, 2), {"photometric": "minisblack", "extrasamples": ["unassalpha"]}),
    "rgb": ((20, 30, 3), {}),
    "planes": ((3, 20, 30), {"planarconfig": "separate"}),
    "rgba": ((20, 30, 4), {"extrasamples": ["unassalpha"]}),
    "tiles": ((40, 30, 3), {"tile": (16, 16)}),
    "strips": ((40, 30, 3), {"rowsperstrip": 7}),
    "big-endian": ((20, 30, 3), {"byteorder": ">"}),
    "BigTIFF": ((20, 30, 3), {"bigtiff": True}),
    "deflate": ((20, 30, 3), {"compression": "zlib", "rowsperstrip": 7}),
    "rgb and two more": ((20, 30, 5), {"extrasamples": ["unassalpha", "unspecified"]}),
}


@pytest.mark.parametrize("kind", TIFF_KINDS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_tiff_kinds_are_read_as_tifffile_wrote_them(kind, dtype):
    shape, options = TIFF_KINDS[kind]
    samples = texture(shape[0], shape[1], shape[2] if len(shape) > 2 else 1, dtype).reshape(shape)
    image = read_image(tiff(samples, **options))
    if kind == "planes":
        samples = np.moveaxis(samples, 0, -1)
    samples = samples if samples.ndim == 3 else samples[..., None]
    colours = 3 if samples.shape[2] > 2 else 1
    expected = samples[..., :colours]
    if kind == "white is zero":
        expected = (1 if dtype == np.float32 else np.iinfo(dtype).max) - expected
    assert np.array_equal(image.pixels, expected)
    assert (image.alpha is None) == (samples.shape[2] in (1, 3))
    assert image.alpha is None or np.array_equal(image.alpha, samples[..., colours])
    assert ("1 extra channels are left out" in image.notes) == (kind == "rgb and two more")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_colours_multiplied_by_alpha_are_divided_again(dtype):
    top = 1 if dtype == np.float32 else np.iinfo(dtype).max
    alpha, straight = np.array([[top, top / 2, top / 5]]).astype(dtype), np.full((1, 3, 3), 0.8) * top
    multiplied = np.dstack([straight * (alpha[..., None] / top), alpha])
    multiplied = multiplied.round(4 if top == 1 else 0).astype(dtype)
    image = read_image(tiff(multiplied, extrasamples=["assocalpha"]))
    # Half a level of rounding is multiplied by at most 5.
    assert np.abs(image.pixels.astype(float) - straight).max() <= (0.001 if top == 1 else 3)
    assert np.array_equal(image.alpha, alpha)


@pytest.mark.parametrize("bits", [10, 12])
def test_deep_avif_keeps_its_bits(bits):
    white = (1 << bits) - 1
    ramp = np.tile(np.arange(0, white, (1 << bits) // 64, dtype=np.uint16)[None, :, None], (32, 1, 3))
    _, data = cv2.imencode(".avif", ramp, [cv2.IMWRITE_AVIF_DEPTH, bits, cv2.IMWRITE_AVIF_QUALITY, 100])
    image = read_image(data.tobytes())
    assert image.depth == probe(data.tobytes()).depth == "16"
    level = 65535 / white
    assert np.abs(image.pixels - np.rint(ramp * level)).max() <= level


def test_heic_is_read_upright_and_at_its_depth():
    """The files were written by another program: `PICTURE` turned by EXIF 6, and a ramp of 10 bits."""
    turned, deep = (Path(__file__).with_name(name).read_bytes() for name in ("turned.heic", "ten_bits.heic"))
    image = read_image(turned)
    assert image.format == probe(turned).format == "heic"
    assert probe(turned).size == image.size == (36, 24)
    assert np.abs(image.pixels - np.rot90(PICTURE, -1).astype(int)).max() <= 8  # lossy
    assert (probe(deep).depth, probe(turned).depth) == ("16", "8")
    ramp = np.rint(np.arange(0, 1024, 16) / 1023 * 65535)
    assert all(np.array_equal(row, ramp) for row in read_image(deep).pixels[..., 1])  # nor is it freed memory


@pytest.mark.parametrize("compression", ["webp", "zstd", "lzma", "lzw"])
def test_a_decoder_that_does_not_know_a_compression_is_not_the_last(compression):
    pytest.importorskip("imagecodecs")
    assert np.array_equal(read_image(tiff(PICTURE, compression=compression)).pixels, PICTURE)


def test_zstandard_without_its_codec_is_read_at_eight_bits_and_named_beyond(monkeypatch, capfd):
    pytest.importorskip("imagecodecs")
    files = [tiff(PICTURE.astype(dtype), compression="zstd") for dtype in (np.uint8, np.uint16)]
    monkeypatch.setattr(tifffile.TiffPage, "asarray", lambda page: 1 / 0)
    assert np.array_equal(read_image(files[0]).pixels, PICTURE)
    with pytest.raises(ImageError, match=r"rare kind \(u16 samples, compression 50000\).*srcli\[formats\]"):
        read_image(files[1])
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("bits", [9, 12, 14])
def test_packed_samples_reach_white(bits):
    pytest.importorskip("imagecodecs")
    samples = (texture(6, 7, 1, np.uint16) >> (16 - bits)).astype(np.uint16)
    expected = np.rint(samples / ((1 << bits) - 1) * 65535)
    assert np.array_equal(
        read_image(tiff(samples[..., 0], "minisblack", bitspersample=bits)).pixels, expected
    )


def test_a_deep_avif_with_exif_is_no_damaged_one():
    pyvips = pytest.importorskip("pyvips")
    samples = (PICTURE.astype(np.uint16) * 257) & 0xFFC0
    picture = pyvips.Image.new_from_array(samples).copy(interpretation="rgb16")
    picture.set_type(pyvips.GValue.gint_type, "orientation", 1)
    data = picture.heifsave_buffer(compression="av1", lossless=True, bitdepth=10)
    assert b"Exif" in data
    assert np.array_equal(read_image(data).pixels, np.rint((samples >> 6) / 1023 * 65535))


@pytest.mark.parametrize(("form", "name"), [("TGA", "tga"), ("ICO", "ico"), ("BMP", "bmp"), ("PPM", "ppm")])
def test_old_formats_are_read(form, name):
    data = encoded(smooth(16, 16), form, **({"sizes": [(16, 16)]} if form == "ICO" else {}))
    assert probe(data).format == name
    assert np.array_equal(read_image(data).pixels, smooth(16, 16))


@pytest.mark.parametrize("white", [65535, 1023])
@pytest.mark.parametrize("form", [b"P6", b"P5"])
def test_deep_portable_pixmaps_are_scaled_to_white(white, form):
    samples = (texture(6, 5, 3 if form == b"P6" else 1, np.uint16) % np.uint32(white + 1)).astype(np.uint16)
    image = read_image(form + b"\n# made here\n5 6\n%d\n" % white + samples.astype(">u2").tobytes())
    assert image.pixels.dtype == np.uint16
    assert np.array_equal(image.pixels, np.rint(samples / white * 65535))


GRAY = Image.fromarray(smooth(24, 36, 1)[..., 0])
RARE = {
    "fax": encoded(GRAY.point(lambda v: 255 * (v > 128), "1"), "TIFF", compression="group4"),
    "palette": encoded(Image.fromarray(PICTURE).quantize(13), "TIFF"),
    "Zstandard palette": encoded(Image.fromarray(PICTURE).quantize(13), "TIFF", compression="zstd"),
    "PackBits": encoded(PICTURE, "TIFF", compression="packbits"),
    "JPEG": encoded(PICTURE, "TIFF", compression="jpeg", quality=95),
    "Adam7": raw_png((24, 36), 8, 2, adam7(PICTURE), interlace=1),
    "keyed gray": encoded(GRAY, "PNG", transparency=GRAY.getpixel((4, 3))),
    "keyed colour": encoded(PICTURE, "PNG", transparency=tuple(map(int, PICTURE[3, 4]))),
}


@pytest.mark.parametrize("kind", RARE)
def test_rare_kinds_are_read_as_pillow_does(kind):
    image, expected = read_image(RARE[kind]), np.asarray(opened(RARE[kind]).convert("RGBA"))
    shown = expected[..., 3] > 0
    assert shown.all() == (image.alpha is None)
    assert image.alpha is None or np.array_equal(image.alpha > 0, shown)
    assert np.array_equal((image.pixels + np.zeros((1, 1, 3), np.uint8))[shown], expected[..., :3][shown])


def frames(form: str, count: int = 3) -> bytes:
    pictures = [Image.new("RGB", (8, 6), (80 * i, 0, 0)) for i in range(count)]
    return encoded(pictures[0], form, save_all=True, append_images=pictures[1:])


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "AVIF", "TIFF"])
def test_several_pictures_need_a_choice_and_one_does_not(form):
    data = frames(form)
    assert probe(data).frames == 3
    assert read_image(frames(form, 1)).size == (6, 8)
    for choice in ("error", "all"):
        with pytest.raises(ImageError, match=r"3 pictures.*--frames first or --frames N \(1 to 3\)"):
            read_image(data, frames=choice)
    for choice, red in (("first", 0), (1, 0), (2, 80), ("3", 160)):
        assert abs(int(read_image(data, frames=choice).pixels[0, 0, 0]) - red) <= 2
    with pytest.raises(ImageError, match="holds 3"):
        read_image(data, frames=4)
    for wrong in ("last", 0, "1.5"):
        with pytest.raises(UsageError, match="--frames"):
            read_image(data, frames=wrong)


def test_the_main_picture_of_a_multi_picture_jpeg_is_read():
    image = read_image(frames("MPO"))
    assert (probe(frames("MPO")).frames, image.format) == (1, "jpg")
    assert any("multi-picture" in note for note in image.notes)


def test_pages_of_a_tiff_are_chosen_by_number_and_thumbnails_are_none(tmp_path):
    first, second = texture(20, 30, 3, np.uint8), texture(9, 7, 3, np.uint16)
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(texture(5, 7, 3, np.uint8), photometric="rgb", subfiletype=1)
        writer.write(first, photometric="rgb")
        writer.write(second, photometric="rgb")
    assert probe(tmp_path / "a.tif").frames == 2
    assert np.array_equal(read_image(tmp_path / "a.tif", frames=1).pixels, first)
    assert np.array_equal(read_image(tmp_path / "a.tif", frames=2).pixels, second)
    assert probe(tmp_path / "a.tif", frames=2).size == (9, 7)


def test_gray_palettes_stay_gray():
    gray = smooth(8, 8, 1)[..., 0]
    image = read_image(encoded(gray, "GIF"))
    assert image.kind == "gray"
    assert np.array_equal(image.pixels[..., 0], gray)


def test_colour_under_transparency_is_the_nearest_visible_one():
    rng = np.random.default_rng(1)
    samples = rng.integers(1, 256, (20, 25, 4), dtype=np.uint8)
    samples[..., 3] = np.where(rng.random((20, 25)) < 0.1, 255, 0)
    samples[3, 4, 3] = 1  # barely visible is visible
    image = read_image(encoded(samples, "PNG"))
    visible = np.argwhere(samples[..., 3] > 0)
    assert np.array_equal(image.alpha, samples[..., 3])
    for y, x in np.ndindex(20, 25):
        distance = np.hypot(*(visible - [y, x]).T)
        # OpenCV's 5x5 distance transform is within 2 % of the true distance.
        near = visible[distance <= distance.min() * 1.03]
        assert tuple(image.pixels[y, x]) in {tuple(samples[j, i, :3]) for j, i in near}


def test_constant_alpha_is_noticed():
    samples = np.full((4, 4, 4), 200, np.uint8)
    assert read_image(encoded(samples, "PNG")).alpha_constant == 200 / 255
    samples[0, 0, 3] = 7
    for picture in (samples, samples[..., :3]):
        assert read_image(encoded(np.ascontiguousarray(picture), "PNG")).alpha_constant is None


def test_strips_are_floats_with_three_channels():
    gray = texture(6, 5, 1, np.uint16)
    image = read_image(png16(gray))
    assert image.strip(2, 5).dtype == np.float32
    assert np.array_equal(image.strip(2, 5), np.repeat(gray[2:5] / np.float32(65535), 3, axis=2))
    assert np.array_equal(image.alpha_strip(2, 5), np.ones((3, 5)))


def test_float_values_beyond_white_are_kept_and_mentioned():
    samples = np.linspace(-0.5, 2, 60, dtype=np.float32).reshape(4, 5, 3)
    image = read_image(tiff(samples))
    assert np.array_equal(image.strip(0, 4), samples)
    assert any("-0.5 to 2" in note for note in image.notes)
    samples[0, 0, 0] = np.nan
    with pytest.raises(ImageError, match="NaN"):
        read_image(tiff(samples))


@pytest.mark.parametrize("name", ["ñandú.png", "漢字.png", "a b.png", "-dash.png", "x" * 200 + ".png"])
def test_any_file_name_will_do(tmp_path, name):
    samples = texture(5, 6, 3, np.uint16)
    path = saved(tmp_path / name, png16(samples))
    assert np.array_equal(read_image(path).pixels, samples)
    assert probe(path).size == (5, 6)


def test_large_pictures_are_refused_on_their_header():
    data = encoded(Image.new("L", (2000, 1000)), "PNG")
    with pytest.raises(ImageError, match=r"2000x1000 = 2 million.*--max-pixels in=2000000"):
        read_image(data, max_pixels=1_999_999)
    assert read_image(data, max_pixels=2_000_000).size == (1000, 2000)


def test_pillow_keeps_its_own_limit_and_does_not_apply_it_to_ours(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    for form in ("PNG", "TIFF", "JPEG", "GIF", "WEBP"):
        data = encoded(Image.new("L", (60, 50)), form)  # three times the limit: Pillow would refuse it
        assert probe(data).size == read_image(data).size == (50, 60)
    assert Image.MAX_IMAGE_PIXELS == 1000


def test_a_missing_file_is_nothing_to_do(tmp_path):
    with pytest.raises(NothingToDoError, match="does not exist") as refusal:
        read_image(tmp_path / "none.png")
    assert refusal.value.code == 3
