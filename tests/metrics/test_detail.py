"""Detail: pictures that are too smooth, too sharp, or have other detail than the truth."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.stats import wasserstein_distance

from srcli.metrics.distributions import gradient_ratio, patch_distance


def picture(seed=0, side=64):
    noise = np.random.default_rng(seed).random((side, side, 3))
    return gaussian_filter(noise, (1, 1, 0)) * 3 - 1


def test_equals_have_the_same_detail():
    x = picture()
    assert gradient_ratio(x, x) == 1
    assert patch_distance(x, x) == 0


def test_contrast_times_two_is_four_times_the_energy():
    x = picture()
    assert gradient_ratio(2 * x, x) == pytest.approx(4)


def test_blur_lowers_the_ratio_and_both_blur_and_noise_raise_the_distance():
    x = picture()
    blurred, noisy = (
        gaussian_filter(x, (1, 1, 0)),
        x + 0.1 * np.random.default_rng(9).standard_normal(x.shape),
    )
    assert gradient_ratio(blurred, x) < 0.7 < 1.1 < gradient_ratio(noisy, x)
    assert patch_distance(blurred, x) > 0.5
    assert patch_distance(noisy, x) > 0.5


def test_detail_elsewhere_is_no_distance():
    x = picture(side=128)
    moved, other = np.roll(x, (16, 24), (0, 1)), picture(seed=1, side=128)
    assert patch_distance(moved, x) < 0.3 * patch_distance(gaussian_filter(x, (1, 1, 0)), x)
    assert patch_distance(other, x) < 0.3 * patch_distance(gaussian_filter(x, (1, 1, 0)), x)


def test_it_is_the_mean_over_directions_of_scipys_distance():
    a, b = (np.repeat(picture(seed, side=14)[..., :1], 3, axis=2) for seed in (0, 1))
    luma = [255 * x[..., 0] * 219 / 255 for x in (a, b)]  # of gray pixels
    weights = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1]) / 256
    bands = []
    for y in luma:
        padded = np.pad(y, 2, mode="reflect")
        blurred = [[(padded[i : i + 5, j : j + 5] * weights).sum() for j in range(14)] for i in range(14)]
        bands.append(y - np.array(blurred))
    draw = np.random.Generator(np.random.Philox(0))
    directions = draw.standard_normal((49, 3))
    directions /= np.linalg.norm(directions, axis=0)
    patches = [np.array([y[i : i + 7, j : j + 7].ravel() for i in range(8) for j in range(8)]) for y in bands]
    expected = np.mean([wasserstein_distance(*(p @ directions[:, k] for p in patches)) for k in range(3)])
    assert patch_distance(a, b, levels=1, count=3) == pytest.approx(expected, rel=1e-3)


def test_pictures_without_detail_are_refused():
    with pytest.raises(ValueError, match="flat"):
        gradient_ratio(picture(), np.zeros((64, 64, 3)))
    with pytest.raises(ValueError, match="28 pixels"):
        patch_distance(picture(side=20), picture(side=20))
    with pytest.raises(ValueError, match="sizes differ"):
        patch_distance(picture(side=32), picture(side=40))
