"""Colours that are taken from the input again."""

import numpy as np
import pytest
from scipy.ndimage import convolve1d

from srcli.geometry import Size
from srcli.image.colour_transfer import colour_shift, transfer_colours
from srcli.image.resize import resize_rows

MODES = ("adain", "wavelet", "lowpass")
STEP = 1 / 255


def photo(h, w, seed=0):
    """Something with edges and noise, in [0.2, 0.8]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:h, :w]
    base = 0.5 + 0.2 * np.sign(np.sin(x / 5 + seed))[..., None] * np.array([1, 0.5, -0.7])
    return (base + 0.05 * np.cos(y / 3)[..., None] + rng.normal(0, 0.01, (h, w, 3))).astype(np.float32)


def enlarged(lr, h, w):
    return resize_rows(
        lambda top, bottom: lr[top:bottom], Size(*lr.shape[:2]), Size(h, w), 0, h, kernel="bicubic"
    )


@pytest.mark.parametrize("mode", MODES)
def test_a_constant_cast_is_removed(mode):
    lr = photo(24, 36)
    clean = enlarged(lr, 96, 144)
    cast = clean + np.array([0.08, -0.05, 0.02], np.float32)
    back = transfer_colours(cast, lr, mode)
    assert max(abs(value) for value in colour_shift(cast, lr)) > 12
    assert max(abs(value) for value in colour_shift(back, lr)) < 0.5
    tolerance = 4 if mode == "lowpass" else 2  # which sharpens edges a little
    assert np.abs(back - clean).max() < tolerance * STEP


@pytest.mark.parametrize("mode", ["adain", "wavelet"])
def test_the_enlarged_input_stays_as_it_is(mode):
    lr = photo(24, 36)
    clean = enlarged(lr, 96, 144)
    assert np.abs(transfer_colours(clean, lr, mode) - clean).max() <= STEP


@pytest.mark.parametrize("mode", MODES)
def test_fine_detail_that_the_model_added_is_kept(mode):
    lr = photo(24, 36)
    clean = enlarged(lr, 96, 144)
    detail = np.float32(0.05) * np.where(np.indices((96, 144)).sum(0) % 2, 1, -1)[..., None].astype(
        np.float32
    )
    back = transfer_colours(clean + detail + np.float32(0.1), lr, mode)
    found = (back - clean)[8:-8, 8:-8]
    kept = float((found * detail[8:-8, 8:-8]).mean() / (detail**2).mean())
    assert kept > 0.9


def test_adain_gives_every_channel_the_inputs_mean_and_deviation():
    lr, sr = photo(20, 20), photo(80, 80, seed=3) * np.float32(0.7) + np.float32(0.1)
    back, like = transfer_colours(sr, lr, "adain"), enlarged(lr, 80, 80)
    np.testing.assert_allclose(back.mean((0, 1)), like.mean((0, 1)), atol=1e-4)
    np.testing.assert_allclose(back.std((0, 1), ddof=1), like.std((0, 1), ddof=1), atol=2e-3)


def test_wavelet_takes_the_five_lowest_levels_from_the_input():
    lr, sr = photo(20, 20), photo(80, 80, seed=3)

    def low(x):
        for level in range(5):
            taps = np.zeros(2 * 2**level + 1)
            taps[[0, 2**level, -1]] = 0.25, 0.5, 0.25
            for axis in (0, 1):
                x = convolve1d(x, taps, axis=axis, mode="nearest")
        return x

    expected = sr - low(sr) + low(enlarged(lr, 80, 80))
    np.testing.assert_allclose(transfer_colours(sr, lr, "wavelet"), expected, atol=1e-5)
