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
from tests.image.make import (
    ADOBE_RGB,
    DISPLAY_P3,
    SRGB,
    SRGB_CURVE,
    by_littlecms,
    cmyk_profile,
    dot_gain_20,
    encoded,
    gamma,
    gray_profile,
    opened,
    parametric,
    png16,
    png_chunk,
    rgb_profile,
    smooth,
    srgb_profile,
    table,
    texture,
    tiff,
)
from tests.image.make import through as unchanged

GAMMA_TABLE = table(np.linspace(0, 1, 1024) ** 1.8)

RGB_PROFILES = {
    "sRGB of LittleCMS": srgb_profile(),
    "Display P3": rgb_profile("Display P3", DISPLAY_P3, SRGB_CURVE),
    "Adobe RGB": rgb_profile("Adobe RGB (1998)", ADOBE_RGB, gamma(563 / 256)),
    "table": rgb_profile("Gamma 1.8 by table", SRGB, GAMMA_TABLE),
    "linear": rgb_profile("Linear", SRGB, b"curv\0\0\0\0\0\0\0\0"),
    "parametric 0": rgb_profile("p0", ADOBE_RGB, parametric(0, 2.2)),
    "parametric 1": rgb_profile("p1", SRGB, parametric(1, 2.0, 1.1, -0.1)),
    "parametric 4": rgb_profile("p4", DISPLAY_P3, parametric(4, 2.4, 0.94, 0.06, 0.08, 0.04, 0.0, 0.0)),
}
GRAY_PROFILES = {
    "gamma 2.2": gray_profile("Gray Gamma 2.2", gamma(2.2)),
    "dot gain 20 %": gray_profile("Dot Gain 20%", dot_gain_20()),
}


def cube(n: int = 9) -> np.ndarray:
    """All combinations of n levels, as a picture (n * n, n, 3)."""
    axis = np.linspace(0, 255, n).round().astype(np.uint8)
    return np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(n * n, n, 3)


@pytest.mark.parametrize("name", RGB_PROFILES)
def test_rgb_profiles_agree_with_littlecms(name):
    samples = cube()
    image = read_image(encoded(samples, "PNG", icc_profile=RGB_PROFILES[name]))
    ours = np.clip(image.strip(0, 81), 0, 1) * 255
    # Ours is not rounded, LittleCMS rounds to 8 bits and takes 16-bit steps in between.
    assert np.abs(ours - by_littlecms(samples, RGB_PROFILES[name], "RGB")).max() < 1.5


@pytest.mark.parametrize("name", GRAY_PROFILES)
def test_gray_profiles_agree_with_littlecms(name):
    samples = np.arange(256, dtype=np.uint8).reshape(16, 16)
    image = read_image(encoded(samples, "PNG", icc_profile=GRAY_PROFILES[name]))
    assert image.kind == "gray"
    ours = image.strip(0, 16) * 255
    assert np.array_equal(ours[..., 0], ours[..., 2])
    reference = by_littlecms(samples, GRAY_PROFILES[name], "L")
    # Black point compensation, which the reference applies, has nothing to compensate here.
    assert np.abs(ours - reference).max() < 1.5


@pytest.mark.parametrize("name", [*RGB_PROFILES, *GRAY_PROFILES])
@pytest.mark.parametrize("form", ["PNG", "TIFF", "JPEG", "WEBP", "AVIF"])
def test_the_profile_comes_out_byte_for_byte(name, form):
    gray = name in GRAY_PROFILES
    icc = {**RGB_PROFILES, **GRAY_PROFILES}[name]
    picture = Image.fromarray(smooth(16, 16, 1)[..., 0] if gray else smooth(16, 16))
    options = {"lossless": True} if form == "WEBP" else {}
    if gray and form == "WEBP":
        return  # WebP has no gray
    data = encoded(picture, form, icc_profile=icc, **options)
    out, notes = unchanged(read_image(data), lossless=form == "WEBP", quality=100)
    assert opened(out).info["icc_profile"] == icc
    if form in ("PNG", "TIFF", "WEBP"):
        assert notes == []
        assert np.array_equal(np.asarray(opened(out)), np.asarray(picture))


@pytest.mark.parametrize("name", ["sRGB of LittleCMS", "Display P3", "parametric 4"])
def test_sixteen_bits_go_through_and_back_exactly(name):
    samples = texture(64, 64, 3, np.uint16, seed=3)
    data = tiff(samples, iccprofile=RGB_PROFILES[name])
    out, notes = unchanged(read_image(data))
    assert notes == []
    assert np.array_equal(tifffile.imread(io.BytesIO(out)), samples)


@pytest.mark.parametrize(("name", "power"), [("Adobe RGB", 2.2), ("table", 1.8)])
def test_a_pure_gamma_loses_at_most_what_float32_cannot_hold(name, power):
    samples = texture(64, 64, 3, np.uint16, seed=4)
    data = tiff(samples, iccprofile=RGB_PROFILES[name])
    out, _ = unchanged(read_image(data))
    error = np.abs(tifffile.imread(io.BytesIO(out)).astype(int) - samples)
    # Near zero the curve is infinitely steep; in light the error is 1e-7 of white.
    assert error[samples > 655].max() <= 1
    light = np.abs((tifffile.imread(io.BytesIO(out)) / 65535) ** power - (samples / 65535) ** power)
    assert light.max() < 2e-5


def test_colours_outside_srgb_survive():
    samples = np.zeros((1, 3, 3), np.uint16)
    samples[0, 0, 0] = samples[0, 1, 1] = samples[0, 2, 2] = 65535
    icc = RGB_PROFILES["Display P3"]
    data = tiff(samples, iccprofile=icc)
    image = read_image(data)
    rows = image.strip(0, 1)
    # P3's red as CSS Color 4 gives it: color(srgb 1.0930 -0.2267 -0.1501)
    assert np.abs(rows[0, 0] - [1.0930, -0.2267, -0.1501]).max() < 2e-3
    out, _ = unchanged(image)
    assert np.array_equal(tifffile.imread(io.BytesIO(out)), samples)
    clipped, _ = unchanged(image, icc="srgb")
    assert tifffile.imread(io.BytesIO(clipped))[0, 0].tolist() == [65535, 0, 0]


def test_what_calls_itself_srgb_is_left_alone():
    samples = texture(16, 16, 3, np.uint8)
    image = read_image(encoded(samples, "PNG", icc_profile=srgb_profile()))
    assert np.array_equal(image.strip(0, 16), samples / np.float32(255))


@pytest.mark.parametrize("policy", ["srgb", "p3"])
def test_conversion_shows_the_same_colours(policy):
    samples = smooth(32, 32)
    data = encoded(samples, "PNG", icc_profile=RGB_PROFILES["Adobe RGB"])
    out, _ = unchanged(read_image(data), icc=policy)
    written = opened(out)
    assert probe(out).profile == {"srgb": "sRGB", "p3": "Display P3"}[policy]
    shown = by_littlecms(np.asarray(written), written.info["icc_profile"], "RGB").astype(int)
    expected = by_littlecms(samples, RGB_PROFILES["Adobe RGB"], "RGB")
    assert np.abs(shown - expected).max() <= 2  # two roundings to 8 bits


def test_strip_writes_srgb_without_a_profile():
    samples = smooth(32, 32)
    data = encoded(samples, "PNG", icc_profile=RGB_PROFILES["Adobe RGB"])
    out, _ = unchanged(read_image(data), icc="strip")
    assert "icc_profile" not in opened(out).info
    expected = by_littlecms(samples, RGB_PROFILES["Adobe RGB"], "RGB").astype(int)
    assert np.abs(np.asarray(opened(out)) - expected).max() <= 1


def test_gray_with_a_profile_becomes_srgb_where_there_is_no_gray():
    samples = np.arange(256, dtype=np.uint8).reshape(16, 16)
    icc = GRAY_PROFILES["dot gain 20 %"]
    out, notes = unchanged(
        read_image(encoded(samples, "PNG", icc_profile=icc)),
        output_format="webp",
        lossless=True,
    )
    assert any("no gray" in note for note in notes)
    written = opened(out)
    assert "icc_profile" not in written.info
    assert np.abs(np.asarray(written).astype(int) - by_littlecms(samples, icc, "L")).max() <= 1


def inks(seed: int = 0) -> np.ndarray:
    """CMYK (32, 32, 4) with moderate ink."""
    return (smooth(32, 32, 4) * 0.6).astype(np.uint8)


def cmyk_file(form: str, icc: bytes | None) -> bytes:
    picture = Image.frombytes("CMYK", (32, 32), inks().tobytes())
    return encoded(
        picture,
        form,
        **({"icc_profile": icc} if icc else {}),
        **({"quality": 100, "subsampling": 0} if form == "JPEG" else {}),
    )


@pytest.mark.parametrize("form", ["TIFF", "JPEG"])
def test_cmyk_is_seen_through_its_profile(form):
    image = read_image(cmyk_file(form, cmyk_profile()))
    assert image.kind == "rgb"
    assert any("8 bits through 'Test press'" in note for note in image.notes)
    expected = by_littlecms(np.asarray(Image.open(io.BytesIO(cmyk_file(form, None)))), cmyk_profile(), "CMYK")
    assert np.abs(image.pixels.astype(int) - expected).max() <= (0 if form == "TIFF" else 2)


@pytest.mark.parametrize("form", ["TIFF", "JPEG"])
def test_cmyk_stays_cmyk_where_the_format_allows(form):
    icc = cmyk_profile()
    data = cmyk_file(form, icc)
    out, notes = unchanged(read_image(data))
    assert notes == []
    written = opened(out)
    assert written.mode == "CMYK"
    assert written.info["icc_profile"] == icc
    before = by_littlecms(np.asarray(Image.open(io.BytesIO(data))), icc, "CMYK").astype(int)
    after = by_littlecms(np.asarray(written), icc, "CMYK").astype(int)
    assert np.abs(after - before).mean() < 1  # the inks may differ, the colours may not
    assert np.abs(after - before).max() <= 6


@pytest.mark.parametrize("name", ["png", "webp", "avif"])
def test_cmyk_becomes_srgb_elsewhere_and_says_so(name):
    image = read_image(cmyk_file("TIFF", cmyk_profile()))
    out, notes = unchanged(image, output_format=name, quality=100)
    assert any(f"{name} cannot hold CMYK: written as sRGB" in note for note in notes)
    written = opened(out)
    assert written.mode == "RGB"
    assert probe(out).profile == "sRGB"


def test_cmyk_without_a_profile_is_converted_with_a_warning():
    image = read_image(cmyk_file("TIFF", None))
    assert any("without a profile" in note for note in image.notes)
    ink = inks().astype(float) / 255
    expected = 255 * (1 - ink[..., :3]) * (1 - ink[..., 3:])
    assert np.abs(image.pixels - expected).max() <= 0.51
    assert plan_output(image, image.size).kind == "rgb"


@pytest.mark.parametrize("icc", [cmyk_profile(), None])
def test_sixteen_bit_cmyk_is_read_at_sixteen_bits(icc):
    samples = inks().astype(np.uint16) * 257
    data = tiff(samples, "separated", iccprofile=icc)
    image = read_image(data)
    assert image.pixels.dtype == np.uint16
    assert np.abs(image.pixels / 257 - read_image(cmyk_file("TIFF", icc)).pixels).max() <= 0.6


def test_sixteen_bit_cmyk_is_written_at_sixteen_bits():
    y, x = np.mgrid[:32, :32]
    samples = np.stack([x * 1000, y * 1000, (x + y) * 500, x * 7], -1).astype(np.uint16)  # steps below 8 bits
    data = tiff(samples, "separated", iccprofile=cmyk_profile())
    image = read_image(data)
    out, notes = unchanged(image)
    assert not any("8 bits" in note for note in notes)
    with tifffile.TiffFile(io.BytesIO(out)) as file:
        written = file.pages[0].asarray()
        assert (written.dtype, written.shape, file.pages[0].photometric.name) == (
            np.uint16,
            (32, 32, 4),
            "SEPARATED",
        )
        assert file.pages[0].iccprofile == cmyk_profile()
    assert len(np.unique(written[..., 0])) > 256
    again = read_image(out).pixels.astype(int)
    assert np.abs(again - image.pixels).max() < 257 * 6  # the profile's tables back are coarse
    assert np.abs(again - image.pixels).mean() < 257 / 2


@pytest.mark.parametrize(
    ("picture", "icc", "words"),
    [
        (smooth(8, 8), gray_profile("Gray", gamma(2.2)), "gray profile 'Gray' does not fit rgb pixels"),
        (smooth(8, 8), cmyk_profile(), "cmyk profile 'Test press' does not fit rgb pixels"),
        (smooth(8, 8), b"no profile at all", "left out: not an ICC profile"),
        (smooth(8, 8), RGB_PROFILES["Adobe RGB"][:200], "left out"),
        (smooth(8, 8), rgb_profile("Flat", np.full((3, 3), 0.3), gamma(1.0)), "left out"),
        (smooth(8, 8, 1)[..., 0], RGB_PROFILES["Adobe RGB"], "treated as RGB"),
    ],
)
def test_profiles_that_do_not_fit_are_mentioned(picture, icc, words):
    image = read_image(encoded(Image.fromarray(picture), "TIFF", icc_profile=icc))
    assert any(words in note for note in image.notes), image.notes
    if "left out" in words or "fit" in words:
        assert image.profile is None


def test_gray_with_an_srgb_profile_stays_gray():
    data = encoded(Image.fromarray(smooth(8, 8, 1)[..., 0]), "JPEG", icc_profile=srgb_profile())
    image = read_image(data)
    assert (image.kind, image.notes) == ("gray", ())


def test_rgb_profiles_made_of_tables_pass_through_srgb():
    # The press profile seen as RGB: three inks, no black.
    from tests.image.make import _lab, _lut16, _rgb_of_lab, described, profile

    axis = np.linspace(0, 1, 17)
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    tags = described("Scanner") | {b"A2B0": _lut16(3, 3, 17, _lab(grid**2))}
    one_way = profile(b"RGB ", tags, kind=b"scnr", pcs=b"Lab ")
    back = _lut16(3, 3, 17, np.sqrt(_rgb_of_lab(grid)))
    both_ways = profile(b"RGB ", tags | {b"B2A0": back}, kind=b"prtr", pcs=b"Lab ")
    samples = smooth(16, 16)
    for icc, name in ((one_way, "sRGB"), (both_ways, "Scanner")):
        image = read_image(encoded(samples, "PNG", icc_profile=icc))
        assert any("works by tables" in note for note in image.notes)
        expected = by_littlecms(samples, icc, "RGB").astype(int)
        assert np.abs(image.pixels - expected).max() <= 1  # which rounds at 8 bits in between
        out, _ = unchanged(image)
        assert probe(out).profile == name


def test_the_profile_of_a_sixteen_bit_png_is_found():

    icc = RGB_PROFILES["Display P3"]
    chunk = png_chunk(b"iCCP", b"P3\0\0" + zlib.compress(icc))
    samples = texture(8, 8, 3, np.uint16)
    image = read_image(png16(samples, before=chunk))
    out, _ = unchanged(image)
    assert opened(out).info["icc_profile"] == icc
    assert np.array_equal(read_image(out).pixels, samples)


@pytest.mark.parametrize("curve", [parametric(0, 0.0), parametric(3, 0.0, 1.0, 0.0, 1.0, 0.5)])
def test_a_curve_that_has_no_inverse_is_a_damaged_profile(curve):
    with pytest.raises(ValueError, match="degenerate"):
        parse_profile(rgb_profile("flat", ADOBE_RGB, curve))
