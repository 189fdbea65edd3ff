"""Two pictures in numbers, sheets and grids, against slow or obvious versions of the same."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from srcli.errors import ImageError, UsageError
from srcli.evaluate.compare import (
    Column,
    Crop,
    Picture,
    check_crop,
    check_sizes,
    cut,
    difference,
    distinct_labels,
    enlarge_all,
    histograms,
    load_picture,
    measured,
    parse_crop,
    same_size,
)
from srcli.evaluate.contact_sheet import Cell, draw_grid, histogram_plot, marked, page, sheet, side_by_side
from srcli.evaluate.models import Draw, Interpolation, Result
from srcli.metrics import find_metrics, find_protocol
from srcli.metrics.psnr import psnr


def noise(h=40, w=60, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (h, w, 3), np.uint8)


def smooth(h=40, w=60):
    y, x = np.mgrid[0:h, 0:w]
    return np.stack([255 * x / w, 255 * y / h, 255 * (x + y) / (w + h)], -1).astype(np.uint8)


# --- reading and making alike -------------------------------------------------------------------------------------


def test_transparency_lies_on_white_and_is_said(tmp_path):
    rgba = np.dstack([smooth(), np.full((40, 60), 128, np.uint8)])
    Image.fromarray(rgba).save(tmp_path / "a.png")
    picture = load_picture(tmp_path / "a.png")
    a = 128 / 255
    assert np.abs(picture.pixels - (smooth() * a + 255 * (1 - a))).max() <= 0.51
    assert "transparency is shown on white" in picture.notes


def test_gray_16_bit_is_read_as_rgb_at_8_bits(tmp_path):
    gray = np.arange(40 * 60, dtype=np.uint16).reshape(40, 60) * 27
    Image.fromarray(gray).save(tmp_path / "a.png")
    picture = load_picture(tmp_path / "a.png")
    assert np.array_equal(picture.pixels, np.repeat(np.rint(gray / 257)[..., None], 3, -1))
    assert picture.notes == ("16-bit values are compared at 8 bits",)


def test_the_smaller_picture_is_enlarged_and_says_so():
    small, large = Picture("small", noise(20, 30)), Picture("large", noise(40, 60))
    a, b = same_size(small, large)
    assert b is large
    expected = Image.fromarray(small.pixels).resize((60, 40), Image.Resampling.BICUBIC)
    assert np.array_equal(a.pixels, expected)
    assert a.label == "small (bicubic)"
    assert "small (30x20) is enlarged to 60x40" in a.notes[0]
    assert same_size(large, small)[1].size == (40, 60)


def test_pictures_of_different_shape_are_refused():
    with pytest.raises(UsageError, match=r"a \(60x40\) and b \(40x60\) have different shapes"):
        same_size(Picture("a", noise(40, 60)), Picture("b", noise(60, 40)))


def test_metrics_need_the_size_of_the_reference():
    with pytest.raises(UsageError, match=r"a \(30x20\) and the reference r \(60x40\) have different sizes"):
        check_sizes([Picture("a", noise(20, 30))], Picture("r", noise()))


def test_pictures_of_one_name_get_labels_that_differ(tmp_path):
    paths = [tmp_path / "x" / "a.png", tmp_path / "y" / "a.png", tmp_path / "b.png"]
    pictures = distinct_labels([Picture(path.name, noise()) for path in paths], paths)
    assert [p.label for p in pictures] == [str(paths[0]), str(paths[1]), "b.png"]
    twice = distinct_labels([Picture("a.png", noise())] * 2, paths[:1] * 2)
    assert [p.label for p in twice] == [f"{paths[0]} (A)", f"{paths[0]} (B)"]


# --- numbers ------------------------------------------------------------------------------------------------------


def test_numbers_are_those_of_the_protocol_on_8_bit_values():
    a, b = Picture("a", noise()), Picture("b", smooth())
    found = measured(a, b, find_metrics(["psnr", "hist-w1"]), find_protocol("rgb"))
    apart = a.pixels.astype(float) - b.pixels
    assert found.values["psnr"] == pytest.approx(10 * np.log10(255**2 / np.mean(apart**2)), abs=1e-9)
    assert (found.of, found.to) == ("a", "b")


def test_a_metric_that_is_not_defined_for_a_picture_is_named():
    tiny = Picture("tiny", noise(5, 5))
    with pytest.raises(ImageError, match=r"ssim of tiny and tiny"):
        measured(tiny, tiny, find_metrics(["ssim"]), find_protocol("rgb"))
    with pytest.raises(UsageError, match=r"lr-psnr cannot be measured between two pictures"):
        measured(tiny, tiny, find_metrics(["lr-psnr"]), find_protocol("rgb"))


@given(st.integers(0, 255), st.integers(0, 255))
def test_a_difference_is_enlarged_by_the_largest_power_of_two_that_fits(a, b):
    shown, gain = difference(np.full((4, 4, 3), a, np.uint8), np.full((4, 4, 3), b, np.uint8))
    apart = abs(a - b)
    fitting = [g for g in (1, 2, 4, 8, 16, 32, 64, 128) if apart * g <= 255]
    assert gain == max(fitting)
    assert (shown == apart * gain).all()


def test_histograms_count_every_pixel_once():
    pixels = noise()
    found = histograms(pixels)
    assert found.sum(axis=1) == pytest.approx([1, 1, 1])
    assert found[1, 5] == np.count_nonzero(pixels[..., 1] // 4 == 5) / (40 * 60)


# --- crops --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["1,2,3", "a,b,c,d", "1,2,0,4", "-1,2,3,4", "1.5,2,3,4", ""])
def test_a_crop_that_is_none_is_refused(text):
    with pytest.raises(UsageError, match="--crop"):
        parse_crop(text)


def test_a_crop_may_not_leave_the_picture():
    check_crop(Crop(0, 0, 60, 40), (40, 60))
    with pytest.raises(UsageError, match=r"leaves the picture of 60x40"):
        check_crop(Crop(1, 0, 60, 40), (40, 60))


def test_a_crop_is_the_same_part_at_every_size():
    pixels = noise(40, 60)
    big = pixels.repeat(3, axis=0).repeat(3, axis=1)
    crop = parse_crop("5, 6, 7, 8")
    assert np.array_equal(cut(pixels, crop), pixels[6:14, 5:12])
    assert np.array_equal(cut(big, crop, (40, 60)), pixels[6:14, 5:12].repeat(3, axis=0).repeat(3, axis=1))
    assert cut(pixels, Crop(10, 10, 1, 1), (4000, 6000)).shape == (1, 1, 3)


# --- sheets and grids ---------------------------------------------------------------------------------------------


def contains(whole, part):
    """Whether `part` lies somewhere in `whole`, pixel by pixel."""
    h, w = part.shape[:2]
    windows = np.lib.stride_tricks.sliding_window_view(whole[..., 0], (h, w))
    hits = np.argwhere((windows[..., :2, :] == part[:2, :, 0]).all(axis=(2, 3)))
    return any(np.array_equal(whole[y : y + h, x : x + w], part) for y, x in hits)


def test_every_cell_of_a_sheet_is_on_it_unchanged():
    cells = [[Cell(noise(seed=1), "one"), Cell(noise(30, 20, seed=2))], [None, Cell(noise(seed=3), "three")]]
    whole = sheet(
        cells, heads=["left", "right"], sides=["up", "down"], above=Cell(noise(seed=4)), footer=["end"]
    )
    for seed, shape in ((1, (40, 60)), (2, (30, 20)), (3, (40, 60)), (4, (40, 60))):
        assert contains(whole, noise(*shape, seed=seed))


def test_texts_wider_than_pictures_are_not_cut_off():
    narrow, wide = (sheet([[Cell(noise())]], footer=["m" * n]) for n in (1, 100))
    assert wide.shape[1] > 800 > narrow.shape[1]
    assert (wide[:, -10:] == 255).all()


def test_the_crop_is_framed_on_the_whole_picture():
    shown = marked(np.zeros((40, 60, 3), np.uint8), [Crop(10, 5, 20, 15)], 480)
    red = np.argwhere(shown[..., 0] > 200)
    assert red.min(axis=0).tolist() == [5, 10]
    assert red.max(axis=0).tolist() == [20, 30]
    assert marked(noise(), [Crop(0, 0, 9, 9)], 30).shape == (20, 30, 3)


def test_a_grid_shows_what_each_model_makes_and_its_psnr():
    photo, crop = smooth(), Crop(12, 8, 20, 12)
    columns = [Column(2.0, 2.0), Column(4.0, 4.0)]
    grid = enlarge_all(photo, [Interpolation("bicubic"), Interpolation("nearest")], columns, crop)
    lr = Image.fromarray(photo).resize((30, 20), Image.Resampling.BICUBIC)
    sr = np.asarray(lr.resize((60, 40), Image.Resampling.NEAREST))
    shown = grid.results["nearest"][0]
    assert shown.psnr == pytest.approx(psnr(sr / 255, photo / 255))
    assert np.array_equal(shown.pixels, sr[8:20, 12:32])
    assert np.array_equal(grid.original, photo[8:20, 12:32])
    assert np.array_equal(grid.inputs[0], np.asarray(lr)[4:10, 6:16])
    assert grid.results["bicubic"][0].psnr > grid.results["bicubic"][1].psnr
    assert draw_grid(grid, photo, crop, "photo.png").shape[1] > 2 * 200


def test_without_an_original_there_is_no_psnr_and_sizes_follow_the_scales():
    grid = enlarge_all(smooth(), [Interpolation("bicubic")], [Column(1.6), Column(2.5)], Crop(0, 0, 60, 40))
    assert [s.size for s in grid.results["bicubic"]] == [(64, 96), (100, 150)]
    assert [s.psnr for s in grid.results["bicubic"]] == [None, None]
    assert grid.original is None


class Noisy(Interpolation):
    """Draws noise: the picture's red is its temperature."""

    def draws(self, scale, temperatures, seeds, steps):
        return [Draw(t, s) for t in temperatures or [0.5] for s in seeds]

    def enlarge(self, lr, size, draw):
        return Result(np.full((*size, 3), draw.temperature, np.float32))


def test_temperatures_reach_models_that_draw_and_leave_others_one_cell():
    columns = [Column(2.0, None, t) for t in (0.0, 0.5, 1.0)]
    models = [Noisy("noisy"), Interpolation("bicubic")]
    grid = enlarge_all(smooth(), models, columns, Crop(0, 0, 10, 10))
    assert [s.pixels[0, 0, 0] for s in grid.results["noisy"]] == [0, 128, 255]
    assert [s is None for s in grid.results["bicubic"]] == [False, True, True]
    with pytest.raises(UsageError, match=r"none of these models draws noise"):
        enlarge_all(smooth(), models[1:], columns, Crop(0, 0, 10, 10))


def test_side_by_side_has_the_pictures_and_their_crops():
    a, b = noise(200, 300, seed=1), noise(200, 300, seed=2)
    crop = Crop(20, 30, 50, 40)
    plots = [histogram_plot([histograms(a), histograms(b)], channel) for channel in range(3)]
    whole = side_by_side([("a", a), ("b", b)], [crop], plots=plots)
    for pixels in (a, b):
        assert contains(whole, cut(pixels, crop).repeat(6, axis=0).repeat(6, axis=1))
    assert contains(whole, plots[1])
    assert contains(side_by_side([("a", a), ("b", b)], []), b)


# --- the page -----------------------------------------------------------------------------------------------------


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def test_the_page_loads_nothing_and_takes_names_as_text():
    bad = "<script>alert(1)</script>\"'&.png"
    a, b = Picture(bad, smooth(), ("a note <b>",)), Picture("b.png", noise())
    numbers = [measured(a, b, find_metrics(["psnr", "spectrum"]), find_protocol("rgb"))]
    text = page([a, b, Picture("truth", noise())], numbers)
    tags = Tags()
    tags.feed(text)
    names = [tag for tag, _ in tags.found]
    assert names.count("script") == 1
    assert "b" not in names
    links = [v for _, attrs in tags.found for k, v in attrs.items() if k in ("src", "href")]
    assert len(links) == 4
    assert all(link.startswith("data:image/png;base64,") for link in links)
    assert "http" not in re.sub(r"base64,[^\"]*|http-equiv", "", text)
    (slide,) = [attrs for tag, attrs in tags.found if attrs.get("id") == "slide"]
    assert slide["data-names"].split("\n") == [bad, "b.png", "truth"]
    assert f"{numbers[0].values['psnr']:.2f}" in text
