"""Every kind of picture into every format: what can be kept is kept, what cannot is said."""

import io

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from srcli.errors import ResourceError, UsageError
from srcli.image.formats import FORMATS, check_format_limits
from srcli.image.probe import probe
from srcli.image.read import read_image
from srcli.image.write import plan_output, write_image
from tests.image.make import encoded, png16, png_chunk, smooth, texture

GRAY = smooth(24, 36, 1)[..., 0]
RGB = smooth(24, 36)
ALPHA = np.tile(np.linspace(0, 255, 36).astype(np.uint8), (24, 1))


def palette(*, transparent: bool) -> bytes:
    picture = Image.fromarray(RGB).quantize(16)
    return encoded(picture, "PNG", **({"transparency": bytes([0, 128, *[255] * 14])} if transparent else {}))


def float_tiff() -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, (GRAY / 255).astype(np.float32), photometric="minisblack")
    return stream.getvalue()


def with_alpha(samples: np.ndarray, dtype: type) -> np.ndarray:
    scale = np.iinfo(dtype).max // 255
    return np.dstack([samples, ALPHA]).astype(dtype) * dtype(scale)


KINDS = {  # name: file, (channels without alpha, alpha?, depth)
    "1": (encoded(Image.fromarray(GRAY > 128), "PNG"), 1, False, "8"),
    "L": (encoded(Image.fromarray(GRAY), "PNG"), 1, False, "8"),
    "LA": (encoded(Image.fromarray(with_alpha(GRAY, np.uint8), "LA"), "PNG"), 1, True, "8"),
    "P": (palette(transparent=False), 3, False, "8"),
    "P+t": (palette(transparent=True), 3, True, "8"),
    "RGB": (encoded(Image.fromarray(RGB), "PNG"), 3, False, "8"),
    "RGBA": (encoded(Image.fromarray(with_alpha(RGB, np.uint8)), "PNG"), 3, True, "8"),
    "CMYK": (encoded(Image.fromarray(RGB).convert("CMYK"), "TIFF"), 3, False, "8"),
    "I;16": (png16(GRAY[..., None].astype(np.uint16) * 257), 1, False, "16"),
    "LA16": (png16(with_alpha(GRAY, np.uint16)), 1, True, "16"),
    "RGB16": (png16(RGB.astype(np.uint16) * 257), 3, False, "16"),
    "RGBA16": (png16(with_alpha(RGB, np.uint16)), 3, True, "16"),
    "F": (float_tiff(), 1, False, "32f"),
}


def expected(kind: str) -> np.ndarray:
    """8-bit RGB on white, from Pillow or from the samples the file was made of."""
    if kind in ("1", "L", "P", "RGB", "CMYK", "LA", "P+t", "RGBA"):
        picture = (
            Image.open(io.BytesIO(KINDS[kind][0]))
            .convert("RGBA" if kind != "CMYK" else "RGB")
            .convert("RGBA")
        )
        samples = np.asarray(picture).astype(float)
    else:
        colour = RGB if "RGB" in kind else np.repeat(GRAY[..., None], 3, 2)
        cover = ALPHA if "A" in kind else np.full_like(ALPHA, 255)
        samples = np.dstack([colour, cover]).astype(float)
    cover = samples[..., 3:] / 255
    return samples[..., :3] * cover + 255 * (1 - cover)


def shown(data: bytes) -> np.ndarray:
    """8-bit RGB on white as an independent reader shows it."""
    if data[:4] in (b"II*\0", b"MM\0*"):
        samples = tifffile.imread(io.BytesIO(data))
    else:
        samples = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        if samples.ndim == 3:
            samples = samples[..., [2, 1, 0, 3][: samples.shape[2]]]
    if samples.dtype == np.uint16:
        samples = samples / 257
    if samples.dtype == np.float32:
        samples = samples * 255
    samples = samples if samples.ndim == 3 else samples[..., None]
    cover = samples[..., -1:] / 255 if samples.shape[2] in (2, 4) else 1.0
    return np.broadcast_to(
        samples[..., : 3 if samples.shape[2] > 2 else 1] * cover + 255 * (1 - cover), (24, 36, 3)
    )


def copy(image, output_format: str, **options):
    """The picture unchanged through the writer, in bands of uneven height."""
    plan = plan_output(image, image.size, output_format=output_format, **options)
    pixels = np.empty(plan.shape, plan.dtype)
    for top, bottom in ((0, 7), (7, 8), (8, image.size[0])):
        alpha = image.alpha_strip(top, bottom) if image.alpha is not None else None
        pixels[top:bottom] = plan.band(image.strip(top, bottom), alpha, top=top)
    stream = io.BytesIO()
    notes = [*plan.notes, *plan.write(stream, pixels)]
    return stream.getvalue(), notes


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FORMATS)
def test_every_kind_survives_every_format(kind, name):
    data, colours, alpha, depth = KINDS[kind]
    image = read_image(data)
    assert (image.pixels.shape[2], image.alpha is not None, image.depth) == (colours, alpha, depth)
    out, notes = copy(image, name, quality=100, lossless=name == "webp")
    found = probe(out)
    kept = FORMATS[name]
    assert found.size == (24, 36)
    assert found.format == name
    assert found.alpha == (alpha and kept.alpha)
    assert any("transparency" in note for note in notes) == (alpha and not kept.alpha)
    assert found.depth == (depth if depth in kept.depths else kept.depths[-1])
    assert any("cannot hold" in note and "bits" in note for note in notes) == (depth not in kept.depths)
    if kept.gray and not (name == "avif" and alpha):
        assert (found.kind == "gray") == (colours == 1)
    if name == "gif":  # 256 colours, and pixels are there or not: see test_animation.py
        return
    # The plain formula of CMYK differs from Pillow's by rounding; lossy formats by little at full quality.
    tolerance = {"png": 1.01, "tiff": 1.01, "webp": 1.01, "jpg": 5, "avif": 5}[name]
    assert np.abs(shown(out) - expected(kind)).max() <= tolerance


@pytest.mark.parametrize("name", ["png", "tiff"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_lossless_formats_keep_every_sample(name, channels, dtype):
    if dtype == np.float32 and name == "png":
        return
    samples = texture(19, 31, channels, dtype)
    stream = io.BytesIO()
    write_image(stream, samples, output_format=name)
    image = read_image(stream.getvalue())
    read = image.pixels if image.alpha is None else np.dstack([image.pixels, image.alpha])
    assert read.dtype == dtype
    assert np.array_equal(read, samples)
    out, notes = copy(image, name)
    assert notes == []
    again = read_image(out)
    assert np.array_equal(again.pixels, image.pixels)
    assert (again.alpha is None) == (channels in (1, 3))


def test_sixteen_bit_rgb_written_by_us_is_read_by_opencv_and_tifffile():
    samples = texture(19, 31, 3, np.uint16)
    png, tiff = io.BytesIO(), io.BytesIO()
    write_image(png, samples, output_format="png")
    write_image(tiff, samples, output_format="tiff")
    read = cv2.imdecode(np.frombuffer(png.getvalue(), np.uint8), cv2.IMREAD_UNCHANGED)[..., ::-1]
    assert np.array_equal(read, samples)
    assert np.array_equal(tifffile.imread(io.BytesIO(tiff.getvalue())), samples)


@pytest.mark.parametrize(
    ("source", "options", "name", "note"),
    [
        (encoded(Image.fromarray(RGB), "JPEG"), {}, "jpg", None),
        (encoded(Image.fromarray(RGB), "JPEG"), {"bit_depth": "16"}, "png", "jpg cannot hold 16 bits"),
        (encoded(Image.fromarray(RGB), "JPEG"), {"bit_depth": "32f"}, "tiff", "jpg cannot hold 32f bits"),
        (encoded(Image.fromarray(RGB), "WEBP"), {}, "webp", None),
        (encoded(Image.fromarray(RGB), "GIF"), {}, "png", None),
        (encoded(Image.fromarray(RGB), "BMP"), {}, "png", None),
        (float_tiff(), {}, "tiff", None),
        (KINDS["RGBA16"][0], {}, "png", None),
    ],
)
def test_without_a_format_the_source_decides(source, options, name, note):
    plan = plan_output(read_image(source), (48, 72), **options)
    assert plan.format.name == name
    assert [n for n in plan.notes if "cannot hold" in n] == ([f"{note}: written as {name}"] if note else [])


def test_transparent_pixels_lie_on_the_background_where_the_format_is_opaque():
    samples = np.zeros((16, 16, 4), np.uint8)
    samples[..., 0] = 200
    samples[:, 8:, 3] = 255
    image = read_image(encoded(Image.fromarray(samples), "PNG"))
    out, _ = copy_square(image, background=(0.0, 0.0, 1.0))
    assert np.abs(out[8, 2].astype(int) - [0, 0, 255]).max() <= 3
    assert np.abs(out[8, 13].astype(int) - [200, 0, 0]).max() <= 3


def copy_square(image, **options):
    plan = plan_output(image, image.size, output_format="jpg", **options)
    stream = io.BytesIO()
    plan.write(stream, plan.band(image.strip(0, 16), image.alpha_strip(0, 16)))
    return np.asarray(Image.open(stream)), plan.notes


def test_transparency_can_be_left_out():
    image = read_image(KINDS["RGBA"][0])
    plan = plan_output(image, image.size, keep_alpha=False)
    assert (plan.channels, plan.alpha, plan.notes) == (3, False, ())
    assert np.array_equal(plan.band(image.strip(0, 24)), image.pixels)
    assert plan_output(image, image.size, output_format="jpg", keep_alpha=False).notes == ()


@pytest.mark.parametrize(("name", "limit"), [("jpg", 65500), ("webp", 16383)])
def test_the_limits_are_those_of_the_encoders(name, limit):
    pillow = {"jpg": "JPEG", "webp": "WEBP"}[name]
    encoded(Image.new("L", (limit, 1)), pillow)
    check_format_limits(name, (1, limit))
    with pytest.raises((OSError, ValueError)):
        encoded(Image.new("L", (limit + 1, 1)), pillow)
    with pytest.raises(ResourceError, match=str(limit)) as refusal:
        check_format_limits(name, (limit + 1, 1))
    assert "--format" in str(refusal.value)


def test_wrong_options_are_named():
    image = read_image(KINDS["RGB"][0])
    with pytest.raises(UsageError, match="Did you mean 'tiff'"):
        plan_output(image, (10, 10), output_format="tiif")
    with pytest.raises(UsageError, match="quality"):
        plan_output(image, (10, 10), quality=0)
    with pytest.raises(UsageError, match="compress"):
        plan_output(image, (10, 10), compress_level=10)
    with pytest.raises(UsageError, match="background"):
        plan_output(image, (10, 10), background=(0.0, 0.0, 2.0))


def test_quality_and_chroma_reach_the_encoder():
    image = read_image(KINDS["RGB"][0])
    small, _ = copy(image, "jpg", quality=30)
    large, _ = copy(image, "jpg", quality=95)
    assert len(small) < len(large)
    full, half = Image.open(io.BytesIO(large)), Image.open(io.BytesIO(copy(image, "jpg", chroma="420")[0]))
    assert full.layer[0][1:3] == full.layer[1][1:3]
    assert half.layer[0][1:3] == (2, 2)
    assert half.layer[1][1:3] == (1, 1)
    assert len(copy(image, "png", compress_level=0)[0]) > len(copy(image, "png", compress_level=9)[0])


def test_transparency_keyed_by_colour_is_found_at_sixteen_bits():
    gray = texture(5, 7, 1, np.uint16)
    key = int(gray[2, 3, 0])
    image = read_image(png16(gray, before=png_chunk(b"tRNS", key.to_bytes(2, "big"))))
    assert np.array_equal(image.alpha == 0, gray[..., 0] == key)
    rgb = texture(5, 7, 3, np.uint16)
    image = read_image(png16(rgb, before=png_chunk(b"tRNS", rgb[1, 1].astype(">u2").tobytes())))
    assert np.argwhere(image.alpha == 0).tolist() == [[1, 1]]


def test_dither_keeps_the_mean_and_does_not_depend_on_the_bands():
    image = read_image(KINDS["RGB"][0])
    plan = plan_output(image, (64, 64), dither=True)
    flat = np.full((64, 64, 3), (100 + 0.3) / 255, np.float32)
    whole = plan.band(flat)
    assert set(np.unique(whole)) == {100, 101}
    assert abs(float(whole.mean()) - 100.3) < 0.02  # 12288 samples: the mean of uniform noise within 5 sigma
    cut = np.concatenate([plan.band(flat[:9], top=0), plan.band(flat[9:], top=9)])
    assert np.array_equal(whole, cut)


def test_rounding_is_half_to_even_and_clamped():
    plan = plan_output(read_image(KINDS["L"][0]), (1, 5))
    values = np.array([-0.5, 0.5 / 255, 1.5 / 255, 2.5 / 255, 7], np.float32)
    assert plan.band(values.reshape(1, 5, 1)).ravel().tolist() == [0, 0, 2, 2, 255]
