"""The reduction on the device is Pillow's, bit for bit."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from srcli.data.reduce import batch_taps, bicubic, pillow_bicubic, resize
from srcli.geometry import Size

sides = st.integers(1, 70)


def pillow(pixels, size):
    # In two steps, as every version of Pillow did in one before 13.
    across = Image.fromarray(pixels).resize((size[1], pixels.shape[0]), Image.Resampling.BICUBIC)
    return np.asarray(across.resize((size[1], size[0]), Image.Resampling.BICUBIC))


@given(st.tuples(sides, sides), st.tuples(sides, sides), st.integers(0, 2**32 - 1), st.booleans())
def test_any_size_to_any_size_equals_pillow(old, new, seed, extreme):
    rng = np.random.default_rng(seed)
    # Black and white alone reach the largest sums and both ends of the clipping.
    pixels = rng.choice([0, 255], (*old, 3)) if extreme else rng.integers(0, 256, (*old, 3))
    pixels = pixels.astype(np.uint8)
    ours = bicubic(torch.from_numpy(pixels)[None], Size(*new))[0].numpy()
    np.testing.assert_array_equal(ours, pillow(pixels, new))


@pytest.mark.parametrize(("old", "new"), [(1000, 7), (511, 510), (48, 333), (700, 233), (5, 500)])
def test_long_axes_equal_pillow(old, new):
    pixels = np.random.default_rng(old).integers(0, 256, (old, 9, 3), dtype=np.uint8)
    ours = bicubic(torch.from_numpy(pixels)[None], Size(new, 9))[0].numpy()
    np.testing.assert_array_equal(ours, pillow(pixels, (new, 9)))


def test_pictures_of_different_sizes_are_reduced_together_as_each_alone():
    heights, widths = (40, 17, 63), (20, 50, 33)
    rng = np.random.default_rng(0)
    batch = torch.from_numpy(rng.integers(0, 256, (3, 63, 50, 3), dtype=np.uint8))
    rows = batch_taps([(h, 12) for h in heights])
    cols = batch_taps([(w, 9) for w in widths])
    for picture, h, w, got in zip(batch, heights, widths, resize(batch, rows, cols), strict=True):
        np.testing.assert_array_equal(got.numpy(), pillow(picture[:h, :w].numpy().copy(), (12, 9)))


def test_tall_pictures_are_reduced_columns_first_by_every_version_of_pillow():
    pixels = np.random.default_rng(0).integers(0, 256, (300, 40, 3), dtype=np.uint8)
    ours = bicubic(torch.from_numpy(pixels)[None], Size(75, 10))[0].numpy()
    np.testing.assert_array_equal(pillow_bicubic(pixels, Size(75, 10)), ours)
    wide = pillow_bicubic(pixels.swapaxes(0, 1), Size(10, 75)).swapaxes(0, 1)
    assert (wide != ours).any()  # the order of the axes is no detail


@pytest.mark.gpu
def test_a_gpu_gives_the_same_pixels_as_pillow():
    pixels = np.random.default_rng(0).integers(0, 256, (190, 131, 3), dtype=np.uint8)
    ours = bicubic(torch.from_numpy(pixels)[None].cuda(), Size(48, 37))[0].cpu().numpy()
    np.testing.assert_array_equal(ours, pillow(pixels, (48, 37)))
