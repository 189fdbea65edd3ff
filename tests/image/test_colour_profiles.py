"""Colours through profiles, against LittleCMS at 8 bits and against the formulas at 16."""

import io
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from srcli.image.icc import parse_profile
from srcli.image.probe import probe
from srcli.image.read import read_image
from srcli.image.write import plan_output
from tests.image import make
from tests.image.make import (
    ADOBE_RGB,
    DISPLAY_P3,
    SRGB,
    SRGB_CURVE,
    by_littlecms,
    encoded,
    gamma,
    gray_profile,
    opened,
    parametric,
    rgb_profile,
    smooth,
    srgb_profile,
    texture,
    through,
    tiff,
)

RGB_PROFILES = {
    "sRGB of LittleCMS": srgb_profile(),
    "Display P3": rgb_profile("Display P3", DISPLAY_P3, SRGB_CURVE),
    "Adobe RGB": rgb_profile("Adobe RGB (1998)", ADOBE_RGB, gamma(563 / 256)),
    "table": rgb_profile("Gamma 1.8 by table", SRGB, make.table(np.linspace(0, 1, 1024) ** 1.8)),
    "linear": rgb_profile("Linear", SRGB, b"curv\0\0\0\0\0\0\0\0"),
    "parametric 0": rgb_profile("p0", ADOBE_RGB, parametric(0, 2.2)),
    "parametric 1": rgb_profile("p1", SRGB, parametric(1, 2.0, 1.1, -0.1)),
    "parametric 4": rgb_profile("p4", DISPLAY_P3, parametric(4, 2.4, 0.94, 0.06, 0.08, 0.04, 0.0, 0.0)),
}
GRAY_PROFILES = {
    "gamma 2.2": gray_profile("Gray Gamma 2.2", gamma(2.2)),
    "dot gain 20 %": gray_profile("Dot Gain 20%", make.dot_gain_20()),
}
ADOBE, PRESS = RGB_PROFILES["Adobe RGB"], make.cmyk_profile()
LEVELS = np.arange(256, dtype=np.uint8).reshape(16, 16)
INKS = (smooth(32, 32, 4) * 0.6).astype(np.uint8)  # moderate ones


def difference(samples: np.ndarray, other: np.ndarray) -> float:
    return np.abs(np.asarray(samples).astype(float) - other).max()


def read_tiff(data: bytes) -> np.ndarray:
    return tifffile.imread(io.BytesIO(data))


@pytest.mark.parametrize("name", [*RGB_PROFILES, *GRAY_PROFILES])
def test_profiles_agree_with_littlecms(name):
    icc, samples, mode = (GRAY_PROFILES | RGB_PROFILES)[name], LEVELS, "L"
    if name in RGB_PROFILES:
        axis = np.linspace(0, 255, 9).round().astype(np.uint8)
        samples, mode = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(81, 9, 3), "RGB"
    image = read_image(encoded(samples, "PNG", icc_profile=icc))
    assert (image.kind == "gray") == (mode == "L")
    # Ours is not rounded, LittleCMS rounds to 8 bits and takes 16-bit steps in between.
    ours = np.clip(image.strip(0, len(samples)), 0, 1) * 255
    assert difference(ours, by_littlecms(samples, icc, mode)) < 1.5


@pytest.mark.parametrize("name", [*RGB_PROFILES, *GRAY_PROFILES])
@pytest.mark.parametrize("form", ["PNG", "TIFF", "JPEG", "WEBP", "AVIF"])
def test_the_profile_comes_out_byte_for_byte(name, form):
    gray, icc = name in GRAY_PROFILES, (RGB_PROFILES | GRAY_PROFILES)[name]
    samples, lossless = smooth(16, 16, 1)[..., 0] if gray else smooth(16, 16), form == "WEBP"
    if gray and lossless:
        return  # WebP has no gray
    data = encoded(samples, form, icc_profile=icc, **({"lossless": True} if lossless else {}))
    out, notes = through(read_image(data), lossless=lossless, quality=100)
    assert opened(out).info["icc_profile"] == icc
    if form in ("PNG", "TIFF", "WEBP"):
        assert notes == []
        assert np.array_equal(np.asarray(opened(out)), samples)


@pytest.mark.parametrize("name", ["sRGB of LittleCMS", "Display P3", "parametric 4"])
def test_sixteen_bits_go_through_and_back_exactly(name):
    samples = texture(64, 64, 3, np.uint16, seed=3)
    out, notes = through(read_image(tiff(samples, iccprofile=RGB_PROFILES[name])))
    assert notes == []
    assert np.array_equal(read_tiff(out), samples)


@pytest.mark.parametrize(("name", "power"), [("Adobe RGB", 2.2), ("table", 1.8)])
def test_a_pure_gamma_loses_at_most_what_float32_cannot_hold(name, power):
    samples = texture(64, 64, 3, np.uint16, seed=4)
    out = read_tiff(through(read_image(tiff(samples, iccprofile=RGB_PROFILES[name])))[0])
    # Near zero the curve is infinitely steep; in light the error is 1e-7 of white.
    assert np.abs(out.astype(int) - samples)[samples > 655].max() <= 1
    assert np.abs((out / 65535) ** power - (samples / 65535) ** power).max() < 2e-5


def test_colours_outside_srgb_survive():
    samples = np.eye(3, dtype=np.uint16)[None] * 65535
    image = read_image(tiff(samples, iccprofile=RGB_PROFILES["Display P3"]))
    # P3's red as CSS Color 4 gives it: color(srgb 1.0930 -0.2267 -0.1501)
    assert difference(image.strip(0, 1)[0, 0], [1.0930, -0.2267, -0.1501]) < 2e-3
    assert np.array_equal(read_tiff(through(image)[0]).reshape(samples.shape), samples)
    clipped = read_tiff(through(image, icc="srgb")[0])
    assert clipped.reshape(samples.shape)[0, 0].tolist() == [65535, 0, 0]


def test_what_calls_itself_srgb_is_left_alone():
    samples = texture(16, 16, 3, np.uint8)
    image = read_image(encoded(samples, "PNG", icc_profile=srgb_profile()))
    assert np.array_equal(image.strip(0, 16), samples / np.float32(255))
    gray = read_image(encoded(LEVELS, "PNG", icc_profile=srgb_profile()))
    assert (gray.kind, gray.notes) == ("gray", ())


@pytest.mark.parametrize("policy", ["srgb", "p3", "strip"])
def test_conversion_shows_the_same_colours(policy):
    samples = smooth(32, 32)
    out, _ = through(read_image(encoded(samples, "PNG", icc_profile=ADOBE)), icc=policy)
    written = opened(out)
    assert probe(out).profile == {"srgb": "sRGB", "p3": "Display P3", "strip": None}[policy]
    shown = np.asarray(written)
    if policy != "strip":
        shown = by_littlecms(shown, written.info["icc_profile"], "RGB")
    # One or two roundings to 8 bits.
    assert difference(shown, by_littlecms(samples, ADOBE, "RGB")) <= (1 if policy == "strip" else 2)


def test_gray_with_a_profile_becomes_srgb_where_there_is_no_gray():
    icc = GRAY_PROFILES["dot gain 20 %"]
    image = read_image(encoded(LEVELS, "PNG", icc_profile=icc))
    out, notes = through(image, output_format="webp", lossless=True)
    assert any("no gray" in note for note in notes)
    assert "icc_profile" not in opened(out).info
    assert difference(opened(out), by_littlecms(LEVELS, icc, "L")) <= 1


def cmyk_file(form: str, icc: bytes | None) -> bytes:
    options = {"icc_profile": icc} if icc else {}
    options |= {"quality": 100, "subsampling": 0} if form == "JPEG" else {}
    return encoded(Image.frombytes("CMYK", (32, 32), INKS.tobytes()), form, **options)


@pytest.mark.parametrize("form", ["TIFF", "JPEG"])
def test_cmyk_is_seen_through_its_profile_and_stays_cmyk_where_the_format_allows(form):
    data = cmyk_file(form, PRESS)
    image, before = read_image(data), by_littlecms(np.asarray(opened(data)), PRESS, "CMYK")
    assert image.kind == "rgb"
    assert any("8 bits through 'Test press'" in note for note in image.notes)
    assert difference(image.pixels, before) <= (0 if form == "TIFF" else 2)
    out, notes = through(image)
    written = opened(out)
    assert (notes, written.mode, written.info["icc_profile"]) == ([], "CMYK", PRESS)
    after = by_littlecms(np.asarray(written), PRESS, "CMYK")
    assert difference(after, before) <= 6
    assert np.abs(after.astype(int) - before).mean() < 1  # the inks may differ, the colours may not


@pytest.mark.parametrize("name", ["png", "webp", "avif"])
def test_cmyk_becomes_srgb_elsewhere_and_says_so(name):
    out, notes = through(read_image(cmyk_file("TIFF", PRESS)), output_format=name, quality=100)
    assert any(f"{name} cannot hold CMYK: written as sRGB" in note for note in notes)
    assert (opened(out).mode, probe(out).profile) == ("RGB", "sRGB")


def test_cmyk_without_a_profile_is_converted_with_a_warning():
    image = read_image(cmyk_file("TIFF", None))
    assert any("without a profile" in note for note in image.notes)
    light = 1 - INKS.astype(float) / 255
    assert difference(image.pixels, 255 * light[..., :3] * light[..., 3:]) <= 0.51
    assert plan_output(image, image.size).kind == "rgb"


@pytest.mark.parametrize("icc", [PRESS, None])
def test_sixteen_bit_cmyk_is_read_at_sixteen_bits(icc):
    image = read_image(tiff(INKS.astype(np.uint16) * 257, "separated", iccprofile=icc))
    assert image.pixels.dtype == np.uint16
    assert difference(image.pixels / 257, read_image(cmyk_file("TIFF", icc)).pixels) <= 0.6


def test_sixteen_bit_cmyk_is_written_at_sixteen_bits():
    y, x = np.mgrid[:32, :32]
    samples = np.stack([x * 1000, y * 1000, (x + y) * 500, x * 7], -1).astype(np.uint16)  # steps below 8 bits
    image = read_image(tiff(samples, "separated", iccprofile=PRESS))
    out, notes = through(image)
    assert not any("8 bits" in note for note in notes)
    with tifffile.TiffFile(io.BytesIO(out)) as file:
        page, written = file.pages[0], file.pages[0].asarray()
        assert (page.photometric.name, page.iccprofile) == ("SEPARATED", PRESS)
    assert (written.dtype, written.shape) == (np.uint16, (32, 32, 4))
    assert len(np.unique(written[..., 0])) > 256
    again = read_image(out).pixels.astype(int)
    assert difference(again, image.pixels) < 257 * 6  # the profile's tables back are coarse
    assert np.abs(again - image.pixels).mean() < 257 / 2


@pytest.mark.parametrize(
    ("gray", "icc", "words"),
    [
        (False, gray_profile("Gray", gamma(2.2)), "gray profile 'Gray' does not fit rgb pixels"),
        (False, PRESS, "cmyk profile 'Test press' does not fit rgb pixels"),
        (False, b"no profile at all", "left out: not an ICC profile"),
        (False, ADOBE[:200], "left out"),
        (False, rgb_profile("Flat", np.full((3, 3), 0.3), gamma(1.0)), "left out"),
        (True, ADOBE, "treated as RGB"),
    ],
)
def test_profiles_that_do_not_fit_are_mentioned(gray, icc, words):
    image = read_image(encoded(LEVELS if gray else smooth(8, 8), "TIFF", icc_profile=icc))
    assert any(words in note for note in image.notes), image.notes
    assert (image.profile is None) == (not gray)


def test_rgb_profiles_made_of_tables_pass_through_srgb():
    # The press profile seen as RGB: three inks, no black.
    axis = np.linspace(0, 1, 17)
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    tags = make.described("Scanner") | {b"A2B0": make._lut16(3, 3, 17, make._lab(grid**2))}
    back = make._lut16(3, 3, 17, np.sqrt(make._rgb_of_lab(grid)))
    one_way = make.profile(b"RGB ", tags, kind=b"scnr", pcs=b"Lab ")
    both_ways = make.profile(b"RGB ", tags | {b"B2A0": back}, kind=b"prtr", pcs=b"Lab ")
    samples = smooth(16, 16)
    for icc, name in ((one_way, "sRGB"), (both_ways, "Scanner")):
        image = read_image(encoded(samples, "PNG", icc_profile=icc))
        assert any("works by tables" in note for note in image.notes)
        # LittleCMS through Pillow rounds at 8 bits in between.
        assert difference(image.pixels, by_littlecms(samples, icc, "RGB")) <= 1
        assert probe(through(image)[0]).profile == name


def test_the_profile_of_a_sixteen_bit_png_is_found():
    icc, samples = RGB_PROFILES["Display P3"], texture(8, 8, 3, np.uint16)
    chunk = make.png_chunk(b"iCCP", b"P3\0\0" + zlib.compress(icc))
    out, _ = through(read_image(make.png16(samples, before=chunk)))
    assert opened(out).info["icc_profile"] == icc
    assert np.array_equal(read_image(out).pixels, samples)


@pytest.mark.parametrize("curve", [parametric(0, 0.0), parametric(3, 0.0, 1.0, 0.0, 1.0, 0.5)])
def test_a_curve_that_has_no_inverse_is_a_damaged_profile(curve):
    with pytest.raises(ValueError, match="degenerate"):
        parse_profile(rgb_profile("flat", ADOBE_RGB, curve))
