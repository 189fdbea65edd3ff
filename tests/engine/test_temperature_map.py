"""The factor on the temperature: flat areas and clean edges against texture, and what it does not depend on."""

import numpy as np
import pytest
from PIL import Image

from srcli.engine.temperature_map import HIGHEST, LOWEST, temperature_map, texture_factor
from srcli.errors import ImageError, UsageError
from srcli.geometry import Size
from srcli.image.resize import resize
from tests.helpers.rendering import GrayPicture


def whole(picture):
    return texture_factor(picture, 0, picture.size.h)


def test_flat_areas_and_ramps_have_the_lowest_factor():
    y, x = np.mgrid[0:20, 0:24] / 24
    for luma in (np.full((20, 24), 0.6), 0.2 + 0.3 * x + 0.1 * y):
        assert whole(GrayPicture(luma)) == pytest.approx(LOWEST, abs=0.02)


@pytest.mark.parametrize("angle", [0, 30, 45, 90, 137])
def test_a_straight_edge_has_a_low_factor_where_texture_of_its_contrast_has_a_high_one(angle):
    y, x = np.mgrid[-20:20, -20:20]
    turn = np.deg2rad(angle)
    edge = 1 / (1 + np.exp(-2 * (x * np.cos(turn) + y * np.sin(turn))))
    texture = np.random.default_rng(0).uniform(0, 1, (40, 40))
    inside = np.s_[12:28, 12:28]
    assert whole(GrayPicture(edge))[inside].max() < 0.8
    assert whole(GrayPicture(texture))[inside].min() > 1


def test_the_factor_equals_eigenvalues_by_numpy_at_a_pixel():
    luma = np.random.default_rng(1).uniform(0, 1, (15, 15)).astype(np.float32)
    binomial = np.array([1, 6, 15, 20, 15, 6, 1]) / 64
    tensor = np.zeros((2, 2))
    for i in range(-3, 4):
        for j in range(-3, 4):
            y, x = 7 + i, 7 + j
            gradient = (
                np.array([luma[y + 1, x] - luma[y - 1, x], luma[y, x + 1] - luma[y, x - 1]], np.float64) / 2
            )
            tensor += binomial[i + 3] * binomial[j + 3] * np.outer(gradient, gradient)
    weaker = np.sqrt(np.linalg.eigvalsh(tensor)[0])
    expected = LOWEST + (HIGHEST - LOWEST) * weaker / (weaker + 0.02)
    assert whole(GrayPicture(luma))[7, 7] == pytest.approx(expected, abs=1e-5)


def test_rows_are_the_same_however_they_are_cut():
    picture = GrayPicture(np.random.default_rng(2).uniform(0, 1, (17, 11)))
    auto, target = temperature_map("auto"), Size(45, 31)
    at_once = auto.rows(picture, target, 0, 45)
    cut = [auto.rows(picture, target, top, min(top + 7, 45)) for top in range(0, 45, 7)]
    assert np.array_equal(np.concatenate(cut), at_once)
    assert at_once == pytest.approx(resize(whole(picture), target, kernel="bilinear"), abs=1e-6)


def test_a_gray_picture_is_stretched_over_the_output(tmp_path):
    gray = np.array([[0, 255], [128, 255]], np.uint8)
    Image.fromarray(gray).save(tmp_path / "map.png")
    found = temperature_map(str(tmp_path / "map.png"))
    factors = found.rows(GrayPicture(np.zeros((5, 5))), Size(8, 10), 0, 8)
    assert factors == pytest.approx(
        resize(gray.astype(np.float32) / 255, (8, 10), kernel="bilinear"), abs=1e-6
    )
    assert (factors.min(), factors.max()) == (0, 1)


def test_a_map_is_named_by_its_content(tmp_path):
    for name, value in (("a", 0), ("b", 255), ("c", 0)):
        Image.fromarray(np.full((2, 2), value, np.uint8)).save(tmp_path / f"{name}.png")
    digests = [temperature_map(str(tmp_path / f"{name}.png")).digest for name in "abc"]
    assert digests[0] == digests[2] != digests[1]


def test_a_missing_map_and_one_that_is_no_picture_are_refused(tmp_path):
    with pytest.raises(UsageError, match="is no file"):
        temperature_map(str(tmp_path / "none.png"))
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(ImageError):
        temperature_map(str(tmp_path / "text.png"))
