"""NIQE against slow definitions, known distributions, and what it must do to pictures."""

import math

import numpy as np
import pytest
import scipy.io

from srcli.data.reduce import matlab_bicubic
from srcli.errors import ModelError, UsageError
from srcli.geometry import Size
from srcli.metrics import METRICS, find_metrics
from srcli.metrics.niqe import (
    Statistics,
    _asymmetric_gaussian,
    _features,
    _normalised,
    block_features,
    distance,
    fit,
    halved_by_imresize,
    niqe,
    niqe_srcli,
    pristine,
)


def photo(h=200, w=300, seed=0):
    """Something with edges and texture at all sizes, as photographs have: sums of random rectangles."""
    rng = np.random.default_rng(seed)
    image = np.full((h, w, 3), 0.5)
    for _ in range(400):
        side = int(60 * rng.random() ** 3) + 3
        top, left = rng.integers(-side, h), rng.integers(-side, w)
        image[max(top, 0) : top + side, max(left, 0) : left + side] = rng.random(3)
    return np.clip(image + rng.normal(0, 0.01, image.shape), 0, 1)


def sample(shape, left, right, count, rng):
    """Draws from an asymmetric generalised Gaussian with the given shape and scales."""
    size = rng.gamma(1 / shape, 1, count) ** (1 / shape)
    negative = rng.random(count) < left / (left + right)
    return np.where(negative, -left * size, right * size)


@pytest.mark.parametrize(("shape", "left", "right"), [(2, 1, 1), (1, 0.5, 0.8), (0.7, 2, 1), (4, 1, 3)])
def test_shape_and_scales_of_a_known_distribution_are_found(shape, left, right):
    x = sample(shape, left, right, 400_000, np.random.default_rng(1))[None]
    found_shape, found_left, found_right, mean = (v[0] for v in _asymmetric_gaussian(x))
    assert found_shape == pytest.approx(shape, rel=0.05)
    assert found_left == pytest.approx(left, rel=0.05)
    assert found_right == pytest.approx(right, rel=0.05)
    expected = (right - left) * math.gamma(2 / shape) / math.gamma(1 / shape)
    assert mean == pytest.approx(expected, abs=0.05)


def test_normalised_luma_equals_its_definition_at_a_pixel():
    y = np.random.default_rng(0).random((40, 30)) * 255
    normalised, deviation = _normalised(y)
    weights = np.exp(-((np.arange(7) - 3) ** 2) / (2 * (7 / 6) ** 2))
    window = np.outer(weights, weights) / weights.sum() ** 2
    part = y[10 - 3 : 10 + 4, 20 - 3 : 20 + 4]
    mean = (window * part).sum()
    spread = math.sqrt((window * (part - mean) ** 2).sum())
    assert deviation[10, 20] == pytest.approx(spread)
    assert normalised[10, 20] == pytest.approx((y[10, 20] - mean) / (spread + 1))


def test_features_of_a_block_do_not_depend_on_its_neighbours():
    blocks = np.random.default_rng(0).normal(0, 1, (3, 24, 24))
    np.testing.assert_allclose(_features(blocks)[1], _features(blocks[1:2])[0])


def test_distance_is_mahalanobis_with_the_mean_covariance():
    a = Statistics(np.array([1.0, 2.0]), np.diag([1.0, 3.0]))
    b = Statistics(np.array([3.0, 2.0]), np.diag([3.0, 1.0]))
    assert distance(a, b) == pytest.approx(math.sqrt(2.0))
    assert distance(a, a) == 0


def test_pristine_statistics_describe_36_features():
    mean, covariance = pristine()
    assert mean.shape == (36,)
    np.testing.assert_allclose(covariance, covariance.T)
    assert np.linalg.eigvalsh(covariance).min() > 0


def test_blur_noise_and_blocks_are_worse_than_a_sharp_picture():
    import cv2

    sharp = photo(400, 400)
    reduced = cv2.resize(sharp, (100, 100), interpolation=cv2.INTER_AREA)
    worse = {
        "blur": cv2.GaussianBlur(sharp, (0, 0), 2),
        "noise": np.clip(sharp + np.random.default_rng(0).normal(0, 0.1, sharp.shape), 0, 1),
        "nearest": cv2.resize(reduced, (400, 400), interpolation=cv2.INTER_NEAREST),
    }
    own = fit([sharp])
    near = distance(own, fit([photo(400, 400, seed=3)]))
    for name, picture in worse.items():
        assert distance(own, fit([picture])) > 2 * near, name


def test_only_sharp_blocks_describe_a_photograph():
    flat_half = photo(192, 384)
    flat_half[:, 192:] = 0.4
    features, sharpness = block_features(flat_half)
    assert features.shape == (8, 36)
    assert sharpness.reshape(2, 4)[:, 2:].max() < 1
    shapes = [fit([part]).mean[0] for part in (flat_half, flat_half[:, :192])]
    assert shapes[0] == pytest.approx(shapes[1], rel=0.1)


def test_any_picture_of_96_pixels_has_a_value_and_smaller_ones_none():
    assert math.isfinite(niqe_srcli(photo(96, 100)))
    assert math.isfinite(niqe_srcli(np.full((200, 200, 3), 0.5)))
    with pytest.raises(ValueError, match="at least 96"):
        niqe_srcli(photo(95, 300))


def test_the_second_scale_of_the_published_form_is_matlabs_imresize():
    y = np.random.default_rng(0).integers(64, 192, (96, 48)).astype(np.float64)  # nothing is clipped
    slow = matlab_bicubic(np.repeat(y.astype(np.uint8)[..., None], 3, axis=2), Size(48, 24))[..., 0]
    difference = np.abs(halved_by_imresize(y) - slow)[1:-1, 1:-1]  # that one repeats the border
    assert difference.max() <= 1.1  # it is rounded to 8 bit after each axis
    assert halved_by_imresize(np.full((10, 10), 7.0)) == pytest.approx(np.full((5, 5), 7.0))


@pytest.fixture
def statistics():
    rng = np.random.default_rng(0)
    factor = rng.normal(0, 1, (36, 36))
    return Statistics(rng.normal(0, 1, 36), factor @ factor.T)


@pytest.mark.parametrize("kind", ["mat", "npz"])
def test_published_statistics_are_taken_from_the_file_that_is_brought(
    tmp_path, monkeypatch, statistics, kind
):
    picture = photo(192, 200)
    path = tmp_path / f"parameters.{kind}"
    if kind == "mat":
        table = {"mu_prisparam": statistics.mean[None], "cov_prisparam": statistics.covariance}
        scipy.io.savemat(path, table)
    else:
        window = np.ones((7, 7))
        np.savez(
            path,
            mu_pris_param=statistics.mean[None],
            cov_pris_param=statistics.covariance,
            gaussian_window=window,
        )
    monkeypatch.delenv("SRCLI_NIQE_PARAMETERS", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert "niqe_parameters" in METRICS["niqe"].missing()
    with pytest.raises(ModelError, match="niqe-srcli"):
        niqe(picture)
    features, _ = block_features(picture, halved=halved_by_imresize)
    own = Statistics(features.mean(axis=0), np.cov(features, rowvar=False))
    (tmp_path / "srcli").mkdir()
    (tmp_path / "srcli/config.toml").write_text(f'niqe_parameters = "{path}"\n')
    assert METRICS["niqe"].missing() is None
    assert niqe(picture) == pytest.approx(distance(own, statistics))
    monkeypatch.setenv("SRCLI_NIQE_PARAMETERS", str(tmp_path / "srcli/config.toml"))
    with pytest.raises(ModelError, match="holds no statistics of NIQE"):
        niqe(picture)


def test_both_kinds_never_stand_in_one_table():
    assert [m.name for m in find_metrics(["niqe-srcli"])] == ["niqe-srcli"]
    with pytest.raises(UsageError, match="never stand in one table"):
        find_metrics(["psnr", "niqe", "niqe_srcli"])
