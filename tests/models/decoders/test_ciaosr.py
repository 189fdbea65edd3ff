"""CiaoSR: its cross-scale attention at any size, and in windows."""

import itertools

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from srcli.geometry import Grid, Size, starts
from srcli.models.decoders.cross_scale import CrossScaleAttention, in_windows
from srcli.models.sr import Frame
from tests.helpers.decoders import CASES, DIM, build, filled, inputs
from tests.reference import ciaosr as reference
from tests.reference.deviation import deviation, gradient_deviation

BOUND = CASES["ciaosr"].bound


def test_an_image_of_one_pixel_is_enlarged():
    decoder = build("ciaosr")
    feat, lr = inputs(1, 1)
    sr = decoder.render(
        decoder.prepare(feat, lr, Frame.of_grid(lr, Size(3, 2))), Grid.of(Size(1, 1), Size(3, 2))
    )
    assert sr.shape == (2, 3, 3, 2)
    assert sr.isfinite().all()


@settings(deadline=None, max_examples=15)
@given(st.integers(2, 13), st.integers(2, 13))
def test_cross_scale_attention_equals_pasting_patches(h, w):
    attention = filled(CrossScaleAttention(DIM))
    feat, _ = inputs(h, w)
    assert deviation(attention(feat), reference.cross_scale(attention, feat)) < BOUND


def test_attention_has_the_gradients_of_pasting_patches():
    attention = filled(CrossScaleAttention(DIM))
    feat, _ = inputs(7, 6)
    feat.requires_grad_()
    fast, slow = attention(feat), reference.cross_scale(attention, feat)
    assert gradient_deviation(fast, slow, [feat, *attention.parameters()]) < 1e-5


@given(st.integers(1, 300), st.integers(1, 60), st.data())
def test_windows_cover_an_axis_and_share_the_overlap(size, side, data):
    overlap = data.draw(st.integers(0, side - 1))
    begins = starts(size, side, overlap)
    covered = np.zeros(size, int)
    for begin in begins:
        assert begin == 0 or begin + side <= size
        covered[begin : begin + side] += 1
    assert covered.min() >= 1
    assert all(after - before <= side - overlap for before, after in itertools.pairwise(begins))


def test_beyond_the_limit_attention_is_averaged_over_windows():
    decoder = build("ciaosr", tile=6, overlap=2, whole_up_to=60)
    feat, lr = inputs(9, 8)
    attention = decoder.cs_attn
    expected, count = torch.zeros_like(feat), torch.zeros(9, 8)
    for rows in (slice(0, 6), slice(3, 9)):  # the second begins at 4 at most, and must end with the image
        for cols in (slice(0, 6), slice(2, 8)):
            expected[..., rows, cols] += reference.cross_scale(attention, feat[..., rows, cols])
            count[rows, cols] += 1
    wide = decoder.prepare(feat, lr, Frame.of_grid(lr, Size(18, 16))).wide
    assert deviation(wide, expected / count) < BOUND
    assert not torch.allclose(wide, attention(feat), atol=1e-3)
    small, image = inputs(6, 10)
    assert (
        deviation(decoder.prepare(small, image, Frame.of_grid(image, Size(18, 16))).wide, attention(small))
        < BOUND
    )


def test_a_window_as_large_as_the_image_is_the_image():
    attention = filled(CrossScaleAttention(DIM))
    feat, _ = inputs(6, 5)
    torch.testing.assert_close(in_windows(attention, feat, 6, 3), attention(feat))
