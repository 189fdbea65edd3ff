"""Metrics against independent implementations, slow obvious versions, and what they must be by definition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from srcli.errors import UsageError
from srcli.metrics import METRICS, Scene, find_metrics, find_protocol
from srcli.metrics.distributions import (
    channel_distances,
    diversity,
    histogram_distance,
    radial_spectrum,
    spectral_distance,
)
from srcli.metrics.protocol import border
from srcli.metrics.psnr import luma_of, psnr
from srcli.metrics.ssim import ms_ssim, ssim, ssim_padded


def picture(h=64, w=48, seed=0):
    rng = np.random.default_rng(seed)
    rows, cols = np.mgrid[:h, :w] / 16
    waves = 0.5 + 0.3 * np.sin(rows + 2 * cols)[..., None] * np.array([1, 0.8, 0.6])
    return np.rint(np.clip(waves + rng.normal(0, 0.05, (h, w, 3)), 0, 1) * 255).astype(np.uint8)


def scene(name, sr, hr, scale=2.0, **rest):
    return Scene(sr, hr, scale, find_protocol(name), **rest)


def noisy(hr, sigma=0.02, seed=9):
    return (hr / 255 + np.random.default_rng(seed).normal(0, sigma, hr.shape)).astype(np.float32)


@given(st.floats(1e-4, 0.5), st.integers(0, 5))
def test_psnr_of_a_constant_error_is_minus_twenty_log10_of_it(error, shave):
    hr = np.full((16, 20, 3), 0.4)
    assert psnr(hr + error, hr, shave=shave) == pytest.approx(-20 * np.log10(error), abs=1e-9)


def test_psnr_y_of_float_results_is_the_weighted_difference():
    hr, sr = picture(), noisy(picture())
    weights = np.array([65.738, 129.057, 25.064]) / 256
    difference = (np.clip(sr.astype(np.float64), 0, 1) - hr / 255) @ weights
    expected = -10 * np.log10(np.mean(difference[2:-2, 2:-2] ** 2))
    assert METRICS["psnr-y"].measure(scene("liif-benchmark", sr, hr)) == pytest.approx(expected, abs=1e-9)


def test_classic_y_equals_the_textbook_recipe_on_8_bit_levels():
    hr, sr = picture(), noisy(picture())
    levels = np.rint(np.clip(sr, 0, 1) * 255)

    def y(rgb):  # BT.601 as in the matrix of ITU-R, for values from 0 to 255
        return np.rint(16 + (65.481 * rgb[..., 0] + 128.553 * rgb[..., 1] + 24.966 * rgb[..., 2]) / 255)

    mse = np.mean((y(levels) - y(hr.astype(float)))[2:-2, 2:-2] ** 2)
    expected = 10 * np.log10(255**2 / mse)
    assert METRICS["psnr-y"].measure(scene("classic-y", sr, hr)) == pytest.approx(expected, abs=1e-6)


def test_luma_of_black_and_white_is_16_and_235():
    assert luma_of(np.zeros((1, 1, 3)))[0, 0] * 255 == pytest.approx(16)
    assert luma_of(np.ones((1, 1, 3)))[0, 0] * 255 == pytest.approx(235, abs=0.01)


@pytest.mark.parametrize(
    ("protocol", "rgb", "luma"),
    [("liif-benchmark", 4, 4), ("liif-div2k", 10, 10), ("classic-y", 4, 4), ("rgb", 0, 0), ("fplia", 10, 4)],
)
def test_border_of_each_protocol_at_a_fractional_scale(protocol, rgb, luma):
    chosen = find_protocol(protocol)
    assert (border(chosen.rgb_border, 3.3), border(chosen.luma_border, 3.3)) == (rgb, luma)
    assert border(chosen.rgb_border, 4.0) == rgb


def test_an_error_in_the_border_does_not_count():
    hr = picture()
    sr = (hr / 255).copy()
    sr[:2], sr[-2:], sr[:, :2], sr[:, -2:] = 0, 0, 0, 0
    assert METRICS["psnr"].measure(scene("liif-benchmark", sr, hr)) == np.inf
    assert METRICS["psnr"].measure(scene("rgb", sr, hr)) < 30


def test_values_outside_the_range_are_clamped_first():
    hr = np.full((20, 20, 3), 255, np.uint8)
    assert METRICS["psnr"].measure(scene("liif-benchmark", np.full(hr.shape, 1.5), hr)) == np.inf


def test_8bit_and_float_are_chosen_by_name_and_differ():
    hr, sr = picture(), noisy(picture())
    plain, rounded = (METRICS["psnr"].measure(scene(n, sr, hr)) for n in ("liif-div2k", "liif-div2k+8bit"))
    assert 0 < abs(plain - rounded) < 0.1
    assert find_protocol("classic-y+float").label == "classic-y+float/1"
    assert find_protocol("classic_y+8bit") is find_protocol("classic-y")


@pytest.mark.parametrize("name", ["liif", "classic-y+16bit", ""])
def test_unknown_protocol_is_a_usage_error(name):
    with pytest.raises(UsageError, match="unknown protocol"):
        find_protocol(name)


def test_metrics_are_found_as_people_type_them():
    assert [m.name for m in find_metrics(["PSNR_Y", "ssim", "psnr-y"])] == ["psnr-y", "ssim"]
    with pytest.raises(UsageError, match=r"Did you mean 'psnr'"):
        find_metrics(["psrn"])


def slow_ssim(a, b):
    """One window at a time, from the definition."""
    g = np.exp(-((np.arange(11) - 5) ** 2) / 4.5)
    window = np.outer(g, g) / g.sum() ** 2
    values = []
    for top in range(a.shape[0] - 10):
        for left in range(a.shape[1] - 10):
            x, y = (p[top : top + 11, left : left + 11] for p in (a, b))
            mx, my = (window * x).sum(), (window * y).sum()
            vx, vy = (window * (x - mx) ** 2).sum(), (window * (y - my) ** 2).sum()
            cov = (window * (x - mx) * (y - my)).sum()
            values.append(
                (2 * mx * my + 1e-4) * (2 * cov + 9e-4) / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4))
            )
    return np.mean(values)


def test_ssim_equals_the_definition_window_by_window():
    a, b = picture(20, 18)[..., 0] / 255, noisy(picture(20, 18))[..., 0].astype(np.float64)
    assert ssim(a, b) == pytest.approx(slow_ssim(a, b), abs=1e-12)


def test_padded_ssim_equals_the_definition_on_a_picture_with_zeros_around():
    a, b = picture(16, 14) / 255, np.clip(noisy(picture(16, 14)), 0, 1).astype(np.float64)
    padded = [np.pad(x, ((5, 5), (5, 5), (0, 0))) for x in (a, b)]
    expected = np.mean([slow_ssim(padded[0][..., c], padded[1][..., c]) for c in range(3)])
    assert ssim_padded(a, b) == pytest.approx(expected, abs=2e-5)  # float32, as published


def test_ssim_agrees_with_scikit_image_and_torchmetrics():
    import torch
    from skimage.metrics import structural_similarity
    from torchmetrics.functional.image import structural_similarity_index_measure

    a, b = picture() / 255, np.clip(noisy(picture()), 0, 1).astype(np.float64)
    theirs = structural_similarity(
        a, b, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1, channel_axis=2
    )
    assert ssim(a, b) == pytest.approx(theirs, abs=1e-9)
    pair = [torch.from_numpy(x).permute(2, 0, 1)[None] for x in (a, b)]
    _, every_window = structural_similarity_index_measure(*pair, data_range=1.0, return_full_image=True)
    inside = every_window[..., 5:-5, 5:-5]  # theirs reflects at the border, ours stays inside
    assert ssim(a, b) == pytest.approx(float(inside.mean()), abs=1e-9)


def test_ms_ssim_agrees_with_torchmetrics():
    import torch
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

    a, b = picture(190, 176) / 255, np.clip(noisy(picture(190, 176), 0.1), 0, 1).astype(np.float64)
    pair = [torch.from_numpy(x).permute(2, 0, 1)[None] for x in (a, b)]
    theirs = float(multiscale_structural_similarity_index_measure(*pair, data_range=1.0))
    assert ms_ssim(a, b) == pytest.approx(theirs, abs=1e-3)  # theirs averages channels first


@pytest.mark.parametrize("measure", [ssim, ssim_padded])
def test_ssim_is_one_for_equals_and_symmetric(measure):
    a, b = picture() / 255, picture(seed=5) / 255
    assert measure(a, a) == pytest.approx(1, abs=1e-6)
    assert measure(a, b) == pytest.approx(measure(b, a), abs=1e-6)
    assert measure(a, b) < 0.99


def test_metrics_refuse_pictures_they_are_not_defined_for():
    small = np.zeros((10, 30, 3))
    with pytest.raises(ValueError, match="at least 11"):
        ssim(small, small)
    with pytest.raises(ValueError, match="more than 160"):
        ms_ssim(np.zeros((160, 300, 3)), np.zeros((160, 300, 3)))
    with pytest.raises(ValueError, match="leaves nothing"):
        METRICS["psnr"].measure(scene("liif-div2k", small, small.astype(np.uint8), 4.0))


def test_diversity_is_the_unbiased_deviation_over_samples():
    samples = np.random.default_rng(0).integers(0, 256, (5, 3, 4, 3))
    slow = [np.std(samples[:, i, j, c], ddof=1) for i in range(3) for j in range(4) for c in range(3)]
    assert diversity(samples) == pytest.approx(np.mean(slow))
    with pytest.raises(ValueError, match="two samples"):
        diversity(samples[:1])


def test_white_noise_has_a_flat_spectrum_at_its_variance():
    noise = np.random.default_rng(0).normal(0, 0.1, (256, 200))
    assert radial_spectrum(noise)[8:].mean() == pytest.approx(0.01, rel=0.03)


def test_spectrum_grows_with_blur_and_ignores_a_shift():
    import cv2

    hr = picture(96, 96) / 255
    blurred = [spectral_distance(cv2.GaussianBlur(hr, (0, 0), s), hr) for s in (0.5, 1, 2)]
    assert blurred == sorted(blurred)
    assert spectral_distance(hr, hr) == 0
    shifted = spectral_distance(np.roll(hr, 7, axis=1)[8:-8, 8:-8], hr[8:-8, 8:-8])
    assert shifted < blurred[0]


def test_histogram_distance_equals_scipy():
    from scipy.stats import wasserstein_distance

    a, b = picture(seed=1), (picture(seed=2) // 2)
    expected = [wasserstein_distance(a[..., c].ravel(), b[..., c].ravel()) for c in range(3)]
    assert channel_distances(a, b[:7]) != pytest.approx(expected)
    assert channel_distances(a, b) == pytest.approx(expected)
    assert histogram_distance(a, b) == pytest.approx(np.mean(expected))


def test_lr_psnr_is_infinite_for_a_result_that_reduces_to_the_lr():
    def every_second(x, size):
        return x[: 2 * size[0] : 2, : 2 * size[1] : 2]

    hr = picture()
    right = scene("liif-benchmark", hr, hr, lr=hr[::2, ::2], reduce=every_second)
    assert METRICS["lr-psnr"].measure(right) == np.inf
    wrong = scene("liif-benchmark", hr, hr, lr=hr[::2, ::2] ^ 1, reduce=every_second)
    assert METRICS["lr-psnr"].measure(wrong) == pytest.approx(20 * np.log10(255))
    with pytest.raises(ValueError, match="no LR"):
        METRICS["lr-psnr"].measure(scene("liif-benchmark", hr, hr))
