"""Blend: rendering equals querying, which is the formula; bands, gradients and bfloat16."""

import pytest
import torch

from srcli.geometry import Axis, Box, Grid, Size, output_size
from srcli.models.decoders import DECODERS
from srcli.models.sr import Frame, pixel_cell
from tests.reference.sampling import nearest, neighbours, queries, size_of, skip

SIZE = Size(9, 7)


def build():
    decoder = DECODERS["blend"](in_dim=5, width=12, hidden=(10, 8))
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.normal_(0, 0.3)
    return decoder, torch.randn(2, 5, *SIZE), torch.randn(2, 3, *SIZE)


def plain(decoder, feat, lr, coord, cell):
    """The formula of the class, at every neighbour."""
    first = decoder.project(feat)
    mixed = 0
    for at, distance, weight in neighbours(feat, coord):
        own = decoder.cell(cell * size_of(feat) / 2).unsqueeze(1)
        mixed = mixed + weight * (nearest(first, at) + decoder.offset(distance / 2) + own).relu()
    return decoder.mlp(mixed) + skip(lr, coord)


@pytest.mark.parametrize("scale", [1, 2, 2.5, 3.3, 12, (2.5, 4.0)])
def test_render_and_query_equal_the_formula(scale):
    decoder, feat, lr = build()
    target = output_size(SIZE, scale)
    frame = Frame.of_grid(lr, target)
    prepared, coord = decoder.prepare(feat, lr, frame), queries(*target).expand(2, -1, -1)
    expected = plain(decoder, feat, lr, coord, frame.cell)
    torch.testing.assert_close(decoder.query(prepared, coord), expected, atol=1e-5, rtol=0)
    rendered = decoder.render(prepared, Grid.of(SIZE, target)).flatten(2).transpose(1, 2)
    torch.testing.assert_close(rendered, expected, atol=1e-5, rtol=0)


def test_gradients_equal_those_of_the_formula():
    decoder, feat, lr = build()
    feat.requires_grad_()
    coord, cell = torch.rand(2, 50, 2) * 2 - 1, torch.tensor([[0.1, 0.2], [0.07, 0.05]])
    fast = decoder.query(decoder.prepare(feat, lr, Frame.whole(lr, cell)), coord)
    slow = plain(decoder, feat, lr, coord, cell)
    wanted, direction = [feat, *decoder.parameters()], torch.randn_like(slow)
    theirs = torch.autograd.grad(slow, wanted, direction)
    for ours, other in zip(torch.autograd.grad(fast, wanted, direction), theirs, strict=True):
        assert other.abs().max() > 0
        torch.testing.assert_close(ours, other, atol=1e-5 * max(1, float(other.abs().max())), rtol=0)


def test_band_renders_as_the_whole():
    decoder, feat, lr = build()
    target = Size(31, 20)
    frame = Frame.of_grid(lr, target)
    whole = decoder.render(decoder.prepare(feat, lr, frame), Grid.of(SIZE, target))
    top, bottom = Axis(SIZE.h, target.h, 12, 19).source(decoder.halo)
    part = Frame(SIZE, Box(top, 0, bottom, SIZE.w), frame.cell, target)
    prepared = decoder.prepare(feat[:, :, top:bottom], lr[:, :, top:bottom], part)
    band = decoder.render(prepared, Grid.of(SIZE, target, Box(12, 0, 19, target.w), origin=(top, 0)))
    torch.testing.assert_close(band, whole[:, :, 12:19], atol=2e-6, rtol=1e-6)


@pytest.mark.parametrize("autocast", [True, False])
def test_bfloat16_features_give_float32_colours_nearby(autocast):
    decoder, feat, lr = build()
    target, cell = Size(25, 22), pixel_cell(SIZE, Size(25, 22))
    exact = decoder.render(decoder.prepare(feat, lr, Frame.whole(lr, cell)), Grid.of(SIZE, target))
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        prepared = decoder.prepare(feat.bfloat16(), lr, Frame.whole(lr, cell))
        rough = decoder.render(prepared, Grid.of(SIZE, target))
    assert rough.dtype == torch.float32
    assert (rough - exact).square().mean().sqrt() < 0.02 * exact.std()
