"""CiaoSR: the fast forms equal the plain ones, for any scale, band and coordinate; attention at any size."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from srcli.geometry import Box, Grid, Size, output_size, starts
from srcli.models.decoders import ciaosr, cross_scale
from srcli.models.decoders.ciaosr import CiaoSR
from srcli.models.decoders.cross_scale import CrossScaleAttention, in_windows
from srcli.models.sr import Frame
from tests.reference import ciaosr as reference
from tests.reference.deviation import deviation, gradient_deviation
from tests.reference.sampling import lr_size, queries

DIM = 6
BOUND = 5e-5  # its softmax has no divisor and amplifies the last bits
SCALES = [0.6, 1, 1.5, 2, 2.5, 3.3, 4, 12, (2.5, 4.0), (1.7, 1.0)]


def filled(network):
    """Weights that make every input matter."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 100
            parameter.normal_(0, 1.4 / fan_in**0.5)
    return network


def build(**arguments):
    return filled(CiaoSR(in_dim=DIM, hidden=(24, 20, 16), **arguments))


def inputs(h, w, batch=2):
    """Features and LR pixels."""
    torch.manual_seed(2)
    return torch.randn(batch, DIM, h, w), torch.randn(batch, 3, h, w)


@pytest.mark.parametrize("scale", SCALES)
def test_render_and_query_equal_the_plain_form(scale):
    decoder = build()
    size = lr_size(scale)
    feat, lr = inputs(*size)
    target = output_size(size, scale)
    frame = Frame.of_grid(lr, target)
    prepared = decoder.prepare(feat, lr, frame)
    coord = queries(*target).expand(2, -1, -1)
    expected = reference.plain(decoder, feat, lr, coord, frame.cell.expand(2, 2))
    assert deviation(decoder.query(prepared, coord), expected) < BOUND
    rendered = decoder.render(prepared, Grid.of(size, target))
    assert deviation(rendered, expected.transpose(1, 2).reshape(2, 3, *target)) < BOUND


@settings(deadline=None, max_examples=15)
@given(st.integers(2, 12), st.integers(2, 12), st.integers(0, 2**16))
def test_query_equals_the_plain_form_at_scattered_coordinates(h, w, seed):
    decoder = build()
    feat, lr = inputs(h, w)
    rng = torch.Generator().manual_seed(seed)
    coord = torch.rand(2, 40, 2, generator=rng) * 2 - 1
    cell = torch.rand(2, 2, generator=rng) / 8 + 0.01
    prepared = decoder.prepare(feat, lr, Frame.whole(lr, cell))
    assert deviation(decoder.query(prepared, coord), reference.plain(decoder, feat, lr, coord, cell)) < BOUND


def test_gradients_equal_those_of_the_plain_form():
    decoder = build()
    feat, lr = inputs(5, 6)
    feat.requires_grad_()
    coord, cell = torch.rand(2, 60, 2) * 2 - 1, torch.tensor([[0.1, 0.2], [0.07, 0.05]])
    wanted = [feat, *decoder.parameters()]
    fast = decoder.query(decoder.prepare(feat, lr, Frame.whole(lr, cell)), coord)
    slow = reference.plain(decoder, feat, lr, coord, cell)
    assert gradient_deviation(fast, slow, wanted) < 1e-5


@pytest.mark.parametrize("budget", [1, 50])
@pytest.mark.parametrize("scale", [1.3, 2, (1.7, 3.6)])
def test_bands_blocks_and_chunks_do_not_matter(monkeypatch, budget, scale):
    decoder = build()
    feat, lr = inputs(8, 9, batch=1)
    size, target = Size(8, 9), output_size(Size(8, 9), scale)
    prepared = decoder.prepare(feat, lr, Frame.of_grid(lr, target))
    whole = decoder.render(prepared, Grid.of(size, target))
    monkeypatch.setattr(ciaosr, "BAND", {"cpu": budget})
    monkeypatch.setattr(ciaosr, "CHUNK", {"cpu": budget})
    middle = target.h // 2
    bands = [Box(0, 0, middle, target.w), Box(middle, 0, target.h, target.w)]
    parts = [decoder.render(prepared, Grid.of(size, target, band)) for band in bands]
    assert deviation(torch.cat(parts, dim=2), whole) < BOUND


def test_an_image_of_one_pixel_is_enlarged():
    decoder = build()
    feat, lr = inputs(1, 1)
    sr = decoder.render(
        decoder.prepare(feat, lr, Frame.of_grid(lr, Size(3, 2))), Grid.of(Size(1, 1), Size(3, 2))
    )
    assert sr.shape == (2, 3, 3, 2)
    assert sr.isfinite().all()


def test_a_grid_with_two_cells_is_refused():
    decoder = build()
    feat, lr = inputs(6, 6)
    prepared = decoder.prepare(feat, lr, Frame.whole(lr, torch.tensor([[0.1, 0.1], [0.1, 0.2]])))
    with pytest.raises(ValueError, match="one cell"):
        decoder.render(prepared, Grid.of(Size(6, 6), Size(12, 12)))


def test_bfloat16_features_give_float32_colours_nearby():
    decoder = build()
    feat, lr = inputs(8, 8, batch=1)
    target = Size(26, 26)
    frame, grid = Frame.of_grid(lr, target), Grid.of(Size(8, 8), target)
    exact = decoder.render(decoder.prepare(feat, lr, frame), grid)
    rough = decoder.render(decoder.prepare(feat.bfloat16(), lr, frame), grid)
    assert rough.dtype == torch.float32
    assert (rough - exact).square().mean().sqrt() < 0.05 * exact.std()


@settings(deadline=None, max_examples=15)
@given(st.integers(2, 13), st.integers(2, 13), st.sampled_from([1, 60, 1 << 22]))
def test_cross_scale_attention_equals_pasting_patches(h, w, chunk):
    attention = filled(CrossScaleAttention(DIM))
    feat, _ = inputs(h, w)
    before, cross_scale.CHUNK_CPU = cross_scale.CHUNK_CPU, chunk
    try:
        assert deviation(attention(feat), reference.cross_scale(attention, feat)) < BOUND
    finally:
        cross_scale.CHUNK_CPU = before


def test_attention_has_the_gradients_of_pasting_patches():
    attention = filled(CrossScaleAttention(DIM))
    feat, _ = inputs(7, 6)
    feat.requires_grad_()
    wanted = [feat, *attention.parameters()]
    fast, slow = attention(feat), reference.cross_scale(attention, feat)
    direction = torch.randn_like(slow)
    for ours, theirs in zip(
        torch.autograd.grad(fast, wanted, direction),
        torch.autograd.grad(slow, wanted, direction),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-5 * max(1, float(theirs.abs().max())), rtol=0)


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
    decoder = build(tile=6, overlap=2, whole_up_to=60)
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
