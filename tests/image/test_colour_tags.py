"""Colours described without a profile: gAMA, cHRM, cICP, nclx. They are converted, shown and kept, or said to be lost."""

import io
import struct

import numpy as np
import pytest

from srcli.image.probe import probe
from srcli.image.read import read_image
from srcli.image.write import plan_output, write_image
from tests.image.make import (
    ADOBE_RGB,
    DISPLAY_P3,
    SRGB,
    SRGB_CURVE,
    encoded,
    png_chunk,
    rgb_profile,
    smooth,
    through,
)

P3 = png_chunk(b"cICP", bytes((12, 13, 0, 1)))
PICTURE = smooth(24, 36)


def gama(value: float) -> bytes:
    return png_chunk(b"gAMA", struct.pack(">I", round(value * 1e5)))


def chrm(*places: float) -> bytes:
    return png_chunk(b"cHRM", struct.pack(">8I", *(round(place * 1e5) for place in places)))


def png(samples: np.ndarray, *chunks: bytes, **options) -> bytes:
    data = encoded(samples, "PNG", **options)
    return data[:33] + b"".join(chunks) + data[33:]


def nclx(primaries: int, transfer: int, samples=PICTURE) -> bytes:
    data = bytearray(encoded(samples, "AVIF", quality=100, subsampling="4:4:4"))
    at = data.index(b"colrnclx") + 8
    data[at : at + 4] = struct.pack(">HH", primaries, transfer)
    return bytes(data)


def srgb_decoded(x):
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)


def srgb_encoded(y):
    return np.where(y <= 0.0031308, y * 12.92, 1.055 * np.maximum(y, 0) ** (1 / 2.4) - 0.055)


def shown(samples, matrix, decode):
    """sRGB in [0, 255] of samples with these primaries (columns to XYZ under D50) and this curve."""
    linear = decode(samples / 255) @ (np.linalg.inv(SRGB) @ matrix).T
    return np.clip(srgb_encoded(linear), 0, 1) * 255


ADOBE = chrm(0.3127, 0.3290, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
CASES = {
    "cICP P3": (png(PICTURE, P3), DISPLAY_P3, srgb_decoded, "Display P3"),
    "cICP before iCCP": (
        png(PICTURE, P3, icc_profile=rgb_profile("x", ADOBE_RGB, SRGB_CURVE)),
        DISPLAY_P3,
        srgb_decoded,
        "Display P3",
    ),
    "cICP linear": (png(PICTURE, png_chunk(b"cICP", bytes((1, 8, 0, 1)))), SRGB, lambda x: x, "BT.709"),
    "gAMA": (png(PICTURE, gama(0.55)), SRGB, lambda x: x ** (1 / 0.55), "gamma 0.55"),
    "gAMA 1": (png(PICTURE, gama(1.0)), SRGB, lambda x: x, "gamma 1"),
    "cHRM": (png(PICTURE, ADOBE), ADOBE_RGB, srgb_decoded, "primaries"),
    "cHRM and gAMA": (
        png(PICTURE, ADOBE, gama(0.6)),
        ADOBE_RGB,
        lambda x: x ** (1 / 0.6),
        "primaries and gamma 0.6",
    ),
    "sRGB before gAMA": (png(PICTURE, png_chunk(b"sRGB", b"\0"), gama(0.6)), SRGB, srgb_decoded, None),
    "usual gAMA": (png(PICTURE, gama(0.45455)), SRGB, srgb_decoded, None),
    "unknown cICP": (png(PICTURE, png_chunk(b"cICP", bytes((2, 2, 0, 1)))), SRGB, srgb_decoded, None),
    "no primaries": (png(PICTURE, chrm(0.3, 0.3, 0.5, 0, 0.5, 0, 0.5, 0)), SRGB, srgb_decoded, None),
}


@pytest.mark.parametrize("case", CASES)
def test_what_a_png_says_about_its_colours_counts(case):
    data, matrix, decode, name = CASES[case]
    found = probe(data).profile
    assert found is None if name is None else name in found
    image = read_image(data)
    written = plan_output(image, image.size, output_format="png", icc="srgb").band(image.strip(0, 24))
    # Rounding, and tables of 4096 values.
    assert np.abs(written - shown(PICTURE, matrix, decode)).max() <= 1.5


@pytest.mark.parametrize("case", ["cICP P3", "gAMA", "cHRM and gAMA"])
@pytest.mark.parametrize("form", ["png", "tiff", "jpg", "webp"])
def test_an_equivalent_profile_is_written_and_the_samples_stay(case, form):
    image = read_image(CASES[case][0])
    again = read_image(through(image, output_format=form, lossless=form == "webp", quality=100)[0])
    assert np.abs(again.pixels.astype(int) - PICTURE).max() <= (5 if form == "jpg" else 1)
    assert np.abs(again.strip(0, 24) * 255 - image.strip(0, 24) * 255).max() <= (12 if form == "jpg" else 3)


def test_gray_has_its_gamma_too():
    gray = PICTURE[..., 0]
    image = read_image(png(gray, gama(0.7)))
    assert image.kind == "gray"
    expected = srgb_encoded((gray / 255) ** (1 / 0.7))
    assert np.abs(image.strip(0, 24)[..., 0] - expected).max() < 0.005


@pytest.mark.parametrize(
    ("numbers", "name"), [((12, 13), "Display P3"), ((9, 13), "BT.2020"), ((1, 13), None), ((2, 2), None)]
)
def test_nclx_of_avif_counts(numbers, name):
    data = nclx(*numbers)
    assert probe(data).profile == name
    image = read_image(data)
    assert (image.profile is None) == (name is None)
    if numbers == (12, 13):
        expected = shown(image.pixels, DISPLAY_P3, srgb_decoded)
        assert np.abs(np.clip(image.strip(0, 24), 0, 1) * 255 - expected).max() < 1


@pytest.mark.parametrize(("transfer", "word"), [(16, "PQ"), (18, "HLG")])
@pytest.mark.parametrize("source", ["png", "avif"])
def test_hdr_passes_through_with_its_tag_or_a_note(transfer, word, source):
    tag = png_chunk(b"cICP", bytes((9, transfer, 0, 1)))
    data = png(PICTURE, tag) if source == "png" else nclx(9, transfer)
    image = read_image(data)
    assert probe(data).profile == f"BT.2020 {word}"
    assert any("HDR" in note and word in note for note in image.notes)
    for policy in ("keep", "strip"):
        samples, notes = image.pixels.astype(np.float32) / 255, []
        options = {"like": image, "metadata": policy, "icc": policy, "bit_depth": "8"}

        def written(name, samples=samples, options=options, notes=notes):
            stream = io.BytesIO()
            notes += write_image(stream, samples, output_format=name, **options)
            return stream.getvalue()

        out = written("png")
        assert tag in out
        assert b"iCCP" not in out
        assert np.array_equal(read_image(out).pixels, image.pixels)
        assert probe(written("avif")).profile == f"BT.2020 {word}"
        written("jpg")
        assert any(f"no place for BT.2020 {word}" in note for note in notes)
