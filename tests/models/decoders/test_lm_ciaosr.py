"""LM-CiaoSR: the fast form equals the plain one; windows of the cross-scale attention."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from srcli.geometry import Grid, Size, output_size
from srcli.models.decoders import lm_ciaosr
from srcli.models.decoders.lm_ciaosr import LMCiaoSR
from srcli.models.sr import Frame
from tests.reference.ciaosr import cross_scale, plain_lm
from tests.reference.deviation import deviation, gradient_deviation
from tests.reference.sampling import lr_size, queries

DIM = 6
BOUND = 2e-5  # float32, order of summation


def build(**arguments):
    """A small decoder with weights that make every input matter."""
    torch.manual_seed(1)
    decoder = LMCiaoSR(in_dim=DIM, hidden=18, depth=3, width=8, latent=20, **arguments)
    with torch.no_grad():
        for parameter in decoder.parameters():
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 100
            parameter.normal_(0, 1 / fan_in**0.5)
    return decoder


def inputs(h, w, batch=2):
    """Features and LR pixels."""
    torch.manual_seed(2)
    return torch.randn(batch, DIM, h, w), torch.randn(batch, 3, h, w)


@pytest.mark.parametrize("rows", [1, 1000])
@pytest.mark.parametrize("scale", [1, 2, 3.3, 6, (2.5, 4.0)])
def test_render_and_query_equal_the_plain_form(monkeypatch, scale, rows):
    monkeypatch.setattr(lm_ciaosr, "CHUNK_CPU", rows)
    decoder = build()
    size = lr_size(scale)
    feat, lr = inputs(*size)
    target = output_size(size, scale)
    frame = Frame.of_grid(lr, target, cell_clip=4)
    prepared = decoder.prepare(feat, lr, frame)
    coord = queries(*target).expand(2, -1, -1)
    expected = plain_lm(decoder, feat, lr, coord, frame.cell.expand(2, 2))
    assert deviation(decoder.query(prepared, coord), expected) < BOUND
    rendered = decoder.render(prepared, Grid.of(size, target))
    assert deviation(rendered, expected.transpose(1, 2).reshape(2, 3, *target)) < BOUND


@settings(deadline=None, max_examples=10)
@given(st.integers(2, 12), st.integers(2, 12), st.integers(0, 2**16))
def test_query_equals_the_plain_form_at_scattered_coordinates(h, w, seed):
    decoder = build()
    feat, lr = inputs(h, w)
    rng = torch.Generator().manual_seed(seed)
    coord = torch.rand(2, 40, 2, generator=rng) * 2 - 1
    cell = torch.rand(2, 2, generator=rng) / 8 + 0.01
    prepared = decoder.prepare(feat, lr, Frame.whole(lr, cell))
    assert deviation(decoder.query(prepared, coord), plain_lm(decoder, feat, lr, coord, cell)) < BOUND


def test_gradients_equal_those_of_the_plain_form():
    decoder = build()
    feat, lr = inputs(5, 6)
    feat.requires_grad_()
    coord, cell = torch.rand(2, 60, 2) * 2 - 1, torch.tensor([[0.1, 0.2], [0.07, 0.05]])
    wanted = [feat, *decoder.parameters()]
    fast = decoder.query(decoder.prepare(feat, lr, Frame.whole(lr, cell)), coord)
    slow = plain_lm(decoder, feat, lr, coord, cell)
    assert gradient_deviation(fast, slow, wanted) < BOUND


def test_large_images_attend_in_windows_with_a_pixel_of_context():
    decoder = build(window=4)
    feat, lr = inputs(9, 4)  # two windows of rows 0-3 and 4-8
    expected = torch.cat(
        [
            cross_scale(decoder.cs_attn, feat[:, :, :5])[:, :, :4],
            cross_scale(decoder.cs_attn, feat[:, :, 3:])[:, :, 1:],
        ],
        dim=2,
    )
    frame = Frame.of_grid(lr, Size(18, 8))
    coord = queries(18, 8).expand(2, -1, -1)
    answer = decoder.query(decoder.prepare(feat, lr, frame), coord)
    assert deviation(answer, plain_lm(decoder, feat, lr, coord, frame.cell.expand(2, 2), expected)) < BOUND
    whole = plain_lm(decoder, feat, lr, coord, frame.cell.expand(2, 2))
    assert (answer - whole).abs().max() > 1e-3


def test_a_long_and_narrow_image_has_windows_too():
    decoder = build(window=4)
    feat, lr = inputs(3, 9, batch=1)
    frame = Frame.of_grid(lr, Size(6, 18))
    wide = torch.cat(
        [
            cross_scale(decoder.cs_attn, feat[..., :5])[..., :4],
            cross_scale(decoder.cs_attn, feat[..., 3:])[..., 1:],
        ],
        dim=3,
    )
    coord = queries(6, 18)
    assert (
        deviation(
            decoder.query(decoder.prepare(feat, lr, frame), coord),
            plain_lm(decoder, feat, lr, coord, frame.cell, wide),
        )
        < BOUND
    )


def test_bfloat16_features_give_float32_colours_nearby():
    decoder = build()
    feat, lr = inputs(8, 8, batch=1)
    target = Size(26, 26)
    frame, grid = Frame.of_grid(lr, target), Grid.of(Size(8, 8), target)
    exact = decoder.render(decoder.prepare(feat, lr, frame), grid)
    with torch.autocast("cpu", torch.bfloat16):
        rough = decoder.render(decoder.prepare(feat.bfloat16(), lr, frame), grid)
    assert rough.dtype == torch.float32
    assert (rough - exact).square().mean().sqrt() < 0.05 * exact.std()
