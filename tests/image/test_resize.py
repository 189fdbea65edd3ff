"""Resizing against Pillow's float mode and against a sum written out."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from srcli.data.reduce import pillow_bicubic
from srcli.geometry import Size
from srcli.image.resize import resize, resize_rows
from tests.image.make import texture

FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
side = st.integers(1, 40)


@settings(max_examples=80, deadline=None)
@given(side, side, side, side, st.sampled_from(sorted(set(FILTERS) - {"nearest"})))
def test_resizing_equals_pillow_in_float(h, w, tall, wide, kernel):
    picture = texture(h, w, 1, np.float32)[..., 0]
    expected = np.asarray(Image.fromarray(picture).resize((wide, tall), FILTERS[kernel]))
    # float32 sums of up to 240 terms
    assert np.abs(resize(picture, (tall, wide), kernel=kernel) - expected).max() < 2e-5


@given(side, side)
def test_nearest_takes_the_pixel_that_holds_the_centre(source, target):
    picked = resize(np.arange(source, dtype=np.float32)[:, None], (target, 1), kernel="nearest")[:, 0]
    # Pillow decides ties by rounding errors, so it is no reference here.
    assert picked.tolist() == [float((Fraction(2 * i + 1, 2) * source / target) // 1) for i in range(target)]


@pytest.mark.parametrize("kernel", sorted(FILTERS))
@pytest.mark.parametrize("size", [(13, 61), (90, 9), (200, 171)])
def test_rows_do_not_depend_on_how_they_are_cut(kernel, size):
    picture = texture(50, 43, 3, np.float32)
    whole = resize(picture, size, kernel=kernel)
    asked = []

    def read(first, last):
        asked.append((first, last))
        return picture[first:last]

    edges = [0, 1, size[0] // 3, size[0] - 2, size[0]]
    bands = [resize_rows(read, (50, 43), size, top, bottom, kernel=kernel) for top, bottom in pairwise(edges)]
    assert np.array_equal(np.concatenate(bands), whole)
    assert all(0 <= first < last <= 50 for first, last in asked)
    if size[0] == 200:
        assert asked[0][1] <= 6  # the first row needs only the first rows of the source


def test_a_constant_stays_constant_and_integers_become_floats():
    flat = np.full((7, 5), 51, np.uint8)
    for kernel in FILTERS:
        out = resize(flat, (11, 3), kernel=kernel)
        assert out.dtype == np.float32
        assert np.abs(out - 0.2).max() < 1e-6


def test_the_benchmarks_bicubic_is_pillows():
    picture = texture(21, 30, 3, np.uint8)
    expected = np.asarray(Image.fromarray(picture).resize((13, 9), Image.Resampling.BICUBIC))
    assert np.array_equal(pillow_bicubic(picture, Size(9, 13)), expected)
    assert np.array_equal(pillow_bicubic(picture[..., 0], Size(9, 13)), expected[..., 0])
