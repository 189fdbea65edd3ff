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
from srcli.image.write import plan_output
from tests.image.make import encoded, opened, png16, png_chunk, smooth, texture, through, tiff

GRAY = smooth(24, 36, 1)[..., 0]
RGB = smooth(24, 36)
ALPHA = np.tile(np.linspace(0, 255, 36).astype(np.uint8), (24, 1))


FLOAT = tiff((GRAY / 255).astype(np.float32), "minisblack")


def with_alpha(samples: np.ndarray, dtype: type) -> np.ndarray:
    return np.dstack([samples, ALPHA]).astype(dtype) * dtype(np.iinfo(dtype).max // 255)


KINDS = {  # name: file, (channels without alpha, alpha?, depth)
    "1": (encoded(GRAY > 128, "PNG"), 1, False, "8"),
    "L": (encoded(GRAY, "PNG"), 1, False, "8"),
    "LA": (encoded(Image.fromarray(with_alpha(GRAY, np.uint8), "LA"), "PNG"), 1, True, "8"),
    "P": (encoded(Image.fromarray(RGB).quantize(16), "PNG"), 3, False, "8"),
    "P+t": (
        encoded(Image.fromarray(RGB).quantize(16), "PNG", transparency=bytes([0, 128, *[255] * 14])),
        *(3, True, "8"),
    ),
    "RGB": (encoded(RGB, "PNG"), 3, False, "8"),
    "RGBA": (encoded(with_alpha(RGB, np.uint8), "PNG"), 3, True, "8"),
    "CMYK": (encoded(Image.fromarray(RGB).convert("CMYK"), "TIFF"), 3, False, "8"),
    "I;16": (png16(GRAY[..., None].astype(np.uint16) * 257), 1, False, "16"),
    "LA16": (png16(with_alpha(GRAY, np.uint16)), 1, True, "16"),
    "RGB16": (png16(RGB.astype(np.uint16) * 257), 3, False, "16"),
    "RGBA16": (png16(with_alpha(RGB, np.uint16)), 3, True, "16"),
    "F": (FLOAT, 1, False, "32f"),
}


def expected(kind: str) -> np.ndarray:
    """8-bit RGB on white, from Pillow or from the samples the file was made of."""
    if kind in ("1", "L", "P", "RGB", "CMYK", "LA", "P+t", "RGBA"):
        picture = opened(KINDS[kind][0])
        picture = (picture.convert("RGB") if kind == "CMYK" else picture).convert("RGBA")
        samples = np.asarray(picture).astype(float)
    else:
        colour = RGB if "RGB" in kind else np.repeat(GRAY[..., None], 3, 2)
        samples = np.dstack([colour, ALPHA if "A" in kind else np.full_like(ALPHA, 255)]).astype(float)
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
    colours = samples[..., : 3 if samples.shape[2] > 2 else 1]
    return np.broadcast_to(colours * cover + 255 * (1 - cover), (24, 36, 3))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FORMATS)
def test_every_kind_survives_every_format(kind, name):
    data, colours, alpha, depth = KINDS[kind]
    image = read_image(data)
    assert (image.pixels.shape[2], image.alpha is not None, image.depth) == (colours, alpha, depth)
    out, notes = through(image, output_format=name, quality=100, lossless=name == "webp")
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


@pytest.mark.parametrize(
    ("source", "options", "name", "note"),
    [
        (encoded(RGB, "JPEG"), {}, "jpg", None),
        (encoded(RGB, "JPEG"), {"bit_depth": "16"}, "png", "jpg cannot hold 16 bits"),
        (encoded(RGB, "JPEG"), {"bit_depth": "32f"}, "tiff", "jpg cannot hold 32f bits"),
        (encoded(RGB, "WEBP"), {}, "webp", None),
        (encoded(RGB, "GIF"), {}, "png", None),
        (encoded(RGB, "BMP"), {}, "png", None),
        (FLOAT, {}, "tiff", None),
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
    data, _ = through(read_image(encoded(samples, "PNG")), output_format="jpg", background=(0.0, 0.0, 1.0))
    out = np.asarray(opened(data)).astype(int)
    assert np.abs(out[8, 2] - [0, 0, 255]).max() <= 3
    assert np.abs(out[8, 13] - [200, 0, 0]).max() <= 3


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
    for options, words in (
        ({"output_format": "tiif"}, "Did you mean 'tiff'"),
        ({"quality": 0}, "quality"),
        ({"compress_level": 10}, "compress"),
        ({"background": (0.0, 0.0, 2.0)}, "background"),
    ):
        with pytest.raises(UsageError, match=words):
            plan_output(image, (10, 10), **options)


def test_quality_and_chroma_reach_the_encoder():
    image = read_image(KINDS["RGB"][0])

    def copy(name, **options):
        return through(image, output_format=name, **options)[0]

    assert len(copy("jpg", quality=30)) < len(copy("jpg", quality=95))
    full, half = opened(copy("jpg", quality=95)), opened(copy("jpg", chroma="420"))
    assert full.layer[0][1:3] == full.layer[1][1:3]
    assert (half.layer[0][1:3], half.layer[1][1:3]) == ((2, 2), (1, 1))
    assert len(copy("png", compress_level=0)) > len(copy("png", compress_level=9))


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
