"""The default on pictures that networks trained on photographs fail on: no means off, no colours from nowhere."""

from functools import cache

import numpy as np
import pytest
import torch
from PIL import Image

from srcli import Upscaler
from tests.helpers.hostile import drift, hostile, outside, photograph, text

SCALES = (1.3, 2, 4)


@cache
def default():
    return Upscaler.from_preset(precision="fp32")


def enlarged(pixels, scale):
    lr = torch.tensor(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None].float() / 255
    sr = default().upscale(lr, scale)
    assert bool(torch.isfinite(sr).all())
    return (sr[0] * 255).round().byte().permute(1, 2, 0).numpy()


def excess(seed, scales=SCALES):
    """Means over 2x2 input pixels; at x1.3 those of sharp patterns suffer from the grid alone, so Lanczos is the measure."""
    pixels, worst = hostile(seed, 40), -np.inf
    for scale in scales:
        sr = enlarged(pixels, scale)
        size = sr.shape[1::-1]
        lanczos = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))
        bound = 40 if scale >= 2 else max(40, 1.2 * drift(pixels, lanczos))
        worst = max(worst, drift(pixels, sr) - bound)
    return worst


@pytest.mark.parametrize("seed", range(24))
def test_means_stay_near_on_hostile_pictures(seed):
    assert excess(seed) <= 0


@pytest.mark.slow
@pytest.mark.parametrize("start", range(0, 400, 20))
def test_means_stay_near_on_four_hundred(start):
    for seed in range(1000 + start, 1020 + start):
        assert excess(seed, (2, 4)) <= 0, seed


@pytest.mark.slow
@pytest.mark.xfail(
    reason="six of the 400 are beyond Lanczos's bound, by 2 levels at most; 69 levels at worst"
)
def test_means_stay_as_near_as_with_lanczos_at_small_scales():
    assert max(excess(seed, (1.3,)) for seed in range(1000, 1400)) <= 0


@pytest.mark.parametrize(
    "colour", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (128, 128, 128), (0, 0, 0)]
)
def test_flat_fields_stay_flat_up_to_the_border(colour):
    pixels = np.full((20, 20, 3), colour, np.uint8)
    for scale in SCALES:
        off = enlarged(pixels, scale).astype(int) - np.array(colour)
        assert np.abs(off).max() <= 2


def test_unsmoothed_text_gets_no_dots_around_it():
    for seed in range(3):
        pixels = text(np.random.default_rng(seed), 64, smooth=False)
        assert outside(pixels, enlarged(pixels, 4)) <= 0.002


def test_limits_end_with_the_engine_that_asked_for_them():
    network, preset = default().network, default().preset
    pixels = torch.tensor(np.ascontiguousarray(hostile(0, 40))).permute(2, 0, 1)[None].float() / 255
    limited = Upscaler(network, preset, precision="fp32").upscale(pixels, 4)
    free = Upscaler(network, preset, precision="fp32", limit=False).upscale(pixels, 4)
    assert not torch.equal(limited, free)
    assert torch.equal(limited, Upscaler(network, preset, precision="fp32").upscale(pixels, 4))


def test_gray_pictures_stay_gray():
    gray = photograph(np.random.default_rng(2), 40).mean(2, keepdims=True).astype(np.uint8).repeat(3, 2)
    for scale in (1.3, 2, 2.3, 4, 6.1):
        sr = enlarged(gray, scale)
        assert (sr.max(2) == sr.min(2)).all()


def test_scales_follow_one_another_smoothly():
    pixels = photograph(np.random.default_rng(7), 40)
    for scale in (1.9, 2.0, 2.24, 2.5, 3.99):
        near, far = enlarged(pixels, scale), enlarged(pixels, scale + 0.025)  # the next size of 40 pixels
        bigger = np.asarray(Image.fromarray(near).resize(far.shape[1::-1], Image.Resampling.BICUBIC))
        assert np.abs(bigger.astype(int) - far).mean() < 2
