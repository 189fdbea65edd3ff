"""What is read equals what other programs wrote: orientation, TIFF's many kinds, frames, transparency."""

import io
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
from tests.image.make import encoded, png16, png_chunk, saved, smooth, texture


def with_orientation(number: int) -> bytes:
    exif = Image.Exif()
    exif[274] = number
    return exif.tobytes()


@pytest.mark.parametrize("number", range(1, 9))
@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "TIFF", "TIFF-LZW", "AVIF"])
def test_orientation_is_applied_as_pillow_does(form, number):
    options = {"exif": with_orientation(number)}
    if form == "TIFF-LZW":
        options["compression"] = "tiff_lzw"
    data = encoded(Image.fromarray(smooth(24, 36)), form.split("-")[0], **options)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    image = read_image(data)
    assert np.array_equal(image.pixels, expected)
    assert probe(data).size == image.size == ((36, 24) if number > 4 else (24, 36))
    assert probe(data).orientation == number


@pytest.mark.parametrize("number", range(1, 9))
@pytest.mark.parametrize("compression", [None, "lzw"])
def test_orientation_is_applied_once_to_sixteen_bits(number, compression):
    samples = smooth(24, 36).astype(np.uint16) * 257
    plain = Image.fromarray(smooth(24, 36))
    expected = np.asarray(
        ImageOps.exif_transpose(Image.open(io.BytesIO(encoded(plain, "PNG", exif=with_orientation(number)))))
    )
    block = with_orientation(number).removeprefix(b"Exif\0\0")
    for chunks in ({"before": png_chunk(b"eXIf", block)}, {"after": png_chunk(b"eXIf", block)}):
        assert np.array_equal(read_image(png16(samples, **chunks)).pixels, expected.astype(np.uint16) * 257)
    if compression == "lzw":  # LZW by OpenCV: the one here that both writes it and keeps 16 bits
        _, data = cv2.imencode(".tif", samples[..., ::-1], [cv2.IMWRITE_TIFF_COMPRESSION, 5])
        data = set_orientation(data.tobytes(), number)
    else:
        stream = io.BytesIO()
        tifffile.imwrite(stream, samples, photometric="rgb", extratags=[(274, 3, 1, number, True)])
        data = stream.getvalue()
    assert np.array_equal(read_image(data).pixels, expected.astype(np.uint16) * 257)


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
    "rgb": ((20, 30, 3), {"photometric": "rgb"}),
    "planes": ((3, 20, 30), {"photometric": "rgb", "planarconfig": "separate"}),
    "rgba": ((20, 30, 4), {"photometric": "rgb", "extrasamples": ["unassalpha"]}),
    "tiles": ((40, 30, 3), {"photometric": "rgb", "tile": (16, 16)}),
    "strips": ((40, 30, 3), {"photometric": "rgb", "rowsperstrip": 7}),
    "big-endian": ((20, 30, 3), {"photometric": "rgb", "byteorder": ">"}),
    "BigTIFF": ((20, 30, 3), {"photometric": "rgb", "bigtiff": True}),
    "deflate": ((20, 30, 3), {"photometric": "rgb", "compression": "zlib", "rowsperstrip": 7}),
    "rgb and two more": ((20, 30, 5), {"photometric": "rgb", "extrasamples": ["unassalpha", "unspecified"]}),
}


@pytest.mark.parametrize("kind", TIFF_KINDS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_tiff_kinds_are_read_as_tifffile_wrote_them(kind, dtype):
    shape, options = TIFF_KINDS[kind]
    samples = texture(shape[0], shape[1], shape[2] if len(shape) > 2 else 1, dtype).reshape(shape)
    stream = io.BytesIO()
    tifffile.imwrite(stream, samples, **options)
    image = read_image(stream.getvalue())
    if kind == "planes":
        samples = np.moveaxis(samples, 0, -1)
    samples = samples if samples.ndim == 3 else samples[..., None]
    colours = 3 if samples.shape[2] > 2 else 1
    expected = samples[..., :colours]
    if kind == "white is zero":
        expected = (1 if dtype == np.float32 else np.iinfo(dtype).max) - expected
    assert np.array_equal(image.pixels, expected)
    if samples.shape[2] in (2, 4, 5):
        assert np.array_equal(image.alpha, samples[..., colours])
    else:
        assert image.alpha is None
    assert [note for note in image.notes if "extra" in note] == (
        ["1 extra channels are left out"] if kind == "rgb and two more" else []
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_colours_multiplied_by_alpha_are_divided_again(dtype):
    top = 1 if dtype == np.float32 else np.iinfo(dtype).max
    alpha = np.array([[top, top / 2, top / 5]]).astype(dtype)
    straight = np.full((1, 3, 3), 0.8) * top
    multiplied = (
        np.dstack([straight * (alpha[..., None] / top), alpha]).round(4 if top == 1 else 0).astype(dtype)
    )
    stream = io.BytesIO()
    tifffile.imwrite(stream, multiplied, photometric="rgb", extrasamples=["assocalpha"])
    image = read_image(stream.getvalue())
    # Half a level of rounding is multiplied by at most 5.
    assert np.abs(image.pixels.astype(float) - straight).max() <= (0.001 if top == 1 else 3)
    assert np.array_equal(image.alpha, alpha)


@pytest.mark.parametrize("bits", [10, 12])
def test_deep_avif_keeps_its_bits(bits):
    ramp = np.tile(np.arange(0, 1 << bits, (1 << bits) // 64, dtype=np.uint16)[None, :, None], (32, 1, 3))
    _, data = cv2.imencode(".avif", ramp, [cv2.IMWRITE_AVIF_DEPTH, bits, cv2.IMWRITE_AVIF_QUALITY, 100])
    image = read_image(data.tobytes())
    assert image.depth == probe(data.tobytes()).depth == "16"
    expected = np.rint(ramp / ((1 << bits) - 1) * 65535)
    assert np.abs(image.pixels - expected).max() <= 65535 / ((1 << bits) - 1)  # one level of the file


def test_heic_is_read_upright_and_at_its_depth():
    """The files were written by another program: `smooth(24, 36)` turned by EXIF 6, and a ramp of 10 bits."""
    turned, deep = (Path(__file__).with_name(name).read_bytes() for name in ("turned.heic", "ten_bits.heic"))
    image = read_image(turned)
    assert image.format == probe(turned).format == "heic"
    assert probe(turned).size == image.size == (36, 24)
    assert np.abs(image.pixels - np.rot90(smooth(24, 36), -1).astype(int)).max() <= 8  # lossy
    assert (probe(deep).depth, probe(turned).depth) == ("16", "8")
    ramp = np.rint(np.arange(0, 1024, 16) / 1023 * 65535)
    assert all(np.array_equal(row, ramp) for row in read_image(deep).pixels[..., 1])  # nor is it freed memory


@pytest.mark.parametrize("compression", ["webp", "zstd", "lzma", "lzw"])
def test_a_decoder_that_does_not_know_a_compression_is_not_the_last(compression):
    pytest.importorskip("imagecodecs")
    stream, samples = io.BytesIO(), smooth(24, 36)
    tifffile.imwrite(stream, samples, photometric="rgb", compression=compression)
    assert np.array_equal(read_image(stream.getvalue()).pixels, samples)


def test_zstandard_without_its_codec_is_read_at_eight_bits_and_named_beyond(monkeypatch, capfd):
    pytest.importorskip("imagecodecs")
    files = []
    for dtype in (np.uint8, np.uint16):
        stream = io.BytesIO()
        tifffile.imwrite(stream, smooth(24, 36).astype(dtype), photometric="rgb", compression="zstd")
        files.append(stream.getvalue())
    monkeypatch.setattr(tifffile.TiffPage, "asarray", lambda page: 1 / 0)
    assert np.array_equal(read_image(files[0]).pixels, smooth(24, 36))
    with pytest.raises(ImageError, match=r"rare kind \(u16 samples, compression 50000\).*srcli\[formats\]"):
        read_image(files[1])
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("bits", [9, 12, 14])
def test_packed_samples_reach_white(bits):
    pytest.importorskip("imagecodecs")
    samples = (texture(6, 7, 1, np.uint16) >> (16 - bits)).astype(np.uint16)
    stream = io.BytesIO()
    tifffile.imwrite(stream, samples, photometric="minisblack", bitspersample=bits)
    expected = np.rint(samples / ((1 << bits) - 1) * 65535)
    assert np.array_equal(read_image(stream.getvalue()).pixels, expected)


@pytest.mark.parametrize("loader", ["png", "jpg", "webp", "avif", "gif"])
def test_damage_is_what_two_decoders_find(loader, monkeypatch):
    """Where the first decoder fails, the second one reads; a picture that is cut is refused all the same."""
    picture = Image.fromarray(smooth(24, 36)).quantize(64).convert("RGB")
    data = encoded(picture, {"jpg": "JPEG"}.get(loader, loader.upper()))
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)

    def fail(*_):
        raise ValueError("I do not know this")

    if loader in ("avif", "gif"):
        monkeypatch.setattr(
            "srcli.image.decode.decode_frame", lambda *_: (_ for _ in ()).throw(ImageError("no"))
        )
    else:
        monkeypatch.setattr("srcli.image.decode.decode_whole", fail)
    assert np.abs(read_image(data).pixels - expected).max() <= (16 if loader == "avif" else 0)
    with pytest.raises(ImageError):
        read_image(data[: len(data) * 2 // 3])


def test_a_deep_avif_with_exif_is_no_damaged_one():
    pyvips = pytest.importorskip("pyvips")
    samples = (smooth(24, 36).astype(np.uint16) * 257) & 0xFFC0
    picture = pyvips.Image.new_from_array(samples).copy(interpretation="rgb16")
    picture.set_type(pyvips.GValue.gint_type, "orientation", 1)
    data = picture.heifsave_buffer(compression="av1", lossless=True, bitdepth=10)
    assert b"Exif" in data
    assert np.array_equal(read_image(data).pixels, np.rint((samples >> 6) / 1023 * 65535))


@pytest.mark.parametrize(("form", "name"), [("TGA", "tga"), ("ICO", "ico"), ("BMP", "bmp"), ("PPM", "ppm")])
def test_old_formats_are_read(form, name):
    picture = Image.fromarray(smooth(16, 16))
    data = encoded(picture, form, **({"sizes": [(16, 16)]} if form == "ICO" else {}))
    assert probe(data).format == name
    assert np.array_equal(read_image(data).pixels, smooth(16, 16))


@pytest.mark.parametrize(("white", "form"), [(65535, b"P6"), (1023, b"P6"), (65535, b"P5"), (1023, b"P5")])
def test_deep_portable_pixmaps_are_scaled_to_white(white, form):
    channels = 3 if form == b"P6" else 1
    samples = (texture(6, 5, channels, np.uint16) % np.uint32(white + 1)).astype(np.uint16)
    data = form + b"\n# made here\n5 6\n%d\n" % white + samples.astype(">u2").tobytes()
    image = read_image(data)
    assert image.pixels.dtype == np.uint16
    assert np.array_equal(image.pixels, np.rint(samples / white * 65535))


def frames(form: str, count: int = 3) -> bytes:
    pictures = [Image.new("RGB", (8, 6), (80 * i, 0, 0)) for i in range(count)]
    return encoded(pictures[0], form, save_all=True, append_images=pictures[1:])


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "AVIF", "TIFF"])
def test_several_pictures_need_a_choice(form):
    data = frames(form)
    assert probe(data).frames == 3
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


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "AVIF", "TIFF"])
def test_an_animation_of_one_picture_is_a_picture(form):
    assert read_image(frames(form, 1)).size == (6, 8)


def test_the_main_picture_of_a_multi_picture_jpeg_is_read():
    data = frames("MPO")
    assert probe(data).frames == 1
    image = read_image(data)
    assert image.format == "jpg"
    assert any("multi-picture" in note for note in image.notes)


def test_thumbnails_in_a_tiff_are_not_frames():
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as writer:
        writer.write(texture(20, 30, 3, np.uint8), photometric="rgb")
        writer.write(texture(5, 7, 3, np.uint8), photometric="rgb", subfiletype=1)
    assert probe(stream.getvalue()).frames == 1
    assert read_image(stream.getvalue()).size == (20, 30)


def test_pages_of_different_depth_are_chosen_by_number():
    stream = io.BytesIO()
    first, second = texture(20, 30, 3, np.uint8), texture(9, 7, 3, np.uint16)
    with tifffile.TiffWriter(stream) as writer:
        writer.write(first, photometric="rgb")
        writer.write(second, photometric="rgb")
    assert np.array_equal(read_image(stream.getvalue(), frames=1).pixels, first)
    assert np.array_equal(read_image(stream.getvalue(), frames=2).pixels, second)
    assert probe(stream.getvalue(), frames=2).size == (9, 7)


def test_gray_palettes_stay_gray():
    gray = Image.fromarray(smooth(8, 8, 1)[..., 0])
    image = read_image(encoded(gray, "GIF"))
    assert image.kind == "gray"
    assert np.array_equal(image.pixels[..., 0], np.asarray(gray))


def test_colour_under_transparency_is_the_nearest_visible_one():
    rng = np.random.default_rng(1)
    samples = rng.integers(1, 256, (20, 25, 4), dtype=np.uint8)
    samples[..., 3] = np.where(rng.random((20, 25)) < 0.1, 255, 0)
    samples[3, 4, 3] = 1  # barely visible is visible
    image = read_image(encoded(Image.fromarray(samples), "PNG"))
    visible = np.argwhere(samples[..., 3] > 0)
    assert np.array_equal(image.alpha, samples[..., 3])
    for y in range(20):
        for x in range(25):
            distance = np.hypot(*(visible - [y, x]).T)
            # OpenCV's 5x5 distance transform is within 2 % of the true distance.
            near = visible[distance <= distance.min() * 1.03]
            colours = {tuple(samples[j, i, :3]) for j, i in near}
            assert tuple(image.pixels[y, x]) in colours


def test_constant_alpha_is_noticed():
    samples = np.full((4, 4, 4), 200, np.uint8)
    assert read_image(encoded(Image.fromarray(samples), "PNG")).alpha_constant == 200 / 255
    samples[0, 0, 3] = 7
    assert read_image(encoded(Image.fromarray(samples), "PNG")).alpha_constant is None
    assert read_image(encoded(Image.fromarray(samples[..., :3]), "PNG")).alpha_constant is None


def test_strips_are_floats_with_three_channels():
    gray = texture(6, 5, 1, np.uint16)
    image = read_image(png16(gray))
    rows = image.strip(2, 5)
    assert rows.dtype == np.float32
    assert np.array_equal(rows, np.repeat(gray[2:5] / np.float32(65535), 3, axis=2))
    assert np.array_equal(image.alpha_strip(2, 5), np.ones((3, 5)))


def test_float_values_beyond_white_are_kept_and_mentioned():
    stream = io.BytesIO()
    samples = np.linspace(-0.5, 2, 60, dtype=np.float32).reshape(4, 5, 3)
    tifffile.imwrite(stream, samples, photometric="rgb")
    image = read_image(stream.getvalue())
    assert np.array_equal(image.strip(0, 4), samples)
    assert any("-0.5 to 2" in note for note in image.notes)
    samples[0, 0, 0] = np.nan
    stream = io.BytesIO()
    tifffile.imwrite(stream, samples, photometric="rgb")
    with pytest.raises(ImageError, match="NaN"):
        read_image(stream.getvalue())


@pytest.mark.parametrize("name", ["ñandú.png", "漢字.png", "a b.png", "-dash.png", "x" * 200 + ".png"])
def test_any_file_name_will_do(tmp_path, name):
    samples = texture(5, 6, 3, np.uint16)
    path = saved(tmp_path / name, png16(samples))
    assert np.array_equal(read_image(path).pixels, samples)
    assert probe(path).size == (5, 6)


def test_large_pictures_are_refused_on_their_header(tmp_path):
    data = encoded(Image.new("L", (2000, 1000)), "PNG")
    with pytest.raises(ImageError, match=r"2000x1000 = 2 million.*--max-input-pixels 2000000"):
        read_image(data, max_pixels=1_999_999)
    assert read_image(data, max_pixels=2_000_000).size == (1000, 2000)


def test_pillow_keeps_its_own_limit_and_does_not_apply_it_to_ours(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    for form in ("PNG", "TIFF", "JPEG", "GIF", "WEBP"):
        data = encoded(Image.new("L", (60, 50)), form)  # three times the limit: Pillow would refuse it
        assert probe(data).size == (50, 60)
        assert read_image(data).size == (50, 60)
    assert Image.MAX_IMAGE_PIXELS == 1000


def test_a_missing_file_is_nothing_to_do(tmp_path):
    with pytest.raises(NothingToDoError, match="does not exist") as refusal:
        read_image(tmp_path / "none.png")
    assert refusal.value.code == 3
