"""HIIF: a call is a call however it is cut into pieces."""

import pytest
import torch

from srcli.geometry import Grid, Size
from srcli.models.decoders.hiif import HIIF, KEEP
from srcli.models.sr import Frame
from tests.helpers.decoders import DIM, build, inputs
from tests.reference.deviation import deviation
from tests.reference.hiif import attend, plain
from tests.reference.sampling import queries

BOUND = 2e-5  # float32, order of summation
MANY = 6e-5  # of 265,200 queries, with whose order the plain form's own answer moves by 3e-5


def calls(decoder, feat, lr, target, cell, rows):
    """The plain form for calls of some rows each, as an image."""
    parts = queries(*target).expand(len(feat), -1, -1).split(rows * target.w, dim=1)
    sr = torch.cat([plain(decoder, feat, lr, part, cell) for part in parts], dim=1)
    return sr.transpose(1, 2).reshape(len(feat), 3, *target)


@pytest.mark.parametrize("rows", [1, 4, 1000])
def test_official_calls_are_of_so_many_rows(rows):
    decoder = build("hiif", protocol="official", rows_per_call=rows)
    feat, lr = inputs(6, 5)
    target = Size(19, 14)
    frame = Frame.of_grid(lr, target)
    expected = calls(decoder, feat, lr, target, frame.cell.expand(2, 2), rows)
    with torch.no_grad():
        prepared = decoder.prepare(feat, lr, frame)
        rendered = decoder.render(prepared, Grid.of(Size(6, 5), target))
    assert deviation(rendered, expected) < BOUND
    whole = build("hiif")
    together = whole.render(whole.prepare(feat, lr, frame), Grid.of(Size(6, 5), target))
    assert torch.allclose(rendered, together, atol=1e-3) == (rows >= target.h)
    assert (str(rows) in decoder.note) > (str(rows) in whole.note)


@torch.no_grad()
def test_more_queries_than_are_kept_between_passes_are_computed_again():
    decoder, target = build("hiif"), Size(520, 510)
    assert target.h * target.w > KEEP.cpu
    feat, lr = inputs(6, 5, batch=1)
    frame = Frame.of_grid(lr, target)
    rendered = decoder.render(decoder.prepare(feat, lr, frame), Grid.of(Size(6, 5), target))
    assert deviation(rendered, calls(decoder, feat, lr, target, frame.cell, target.h)) < MANY


def test_a_grid_can_be_trained_through():
    decoder = build("hiif")
    feat, lr = inputs(4, 4, batch=1)
    frame, grid = Frame.of_grid(lr, Size(6, 6)), Grid.of(Size(4, 4), Size(6, 6))
    rendered = decoder.render(decoder.prepare(feat, lr, frame), grid)
    queried = decoder.query(decoder.prepare(feat, lr, frame), queries(6, 6))
    target = torch.randn_like(rendered)
    first = torch.autograd.grad((rendered * target).sum(), decoder.freq.weight)[0]
    second = torch.autograd.grad((queried * target.flatten(2).transpose(1, 2)).sum(), decoder.freq.weight)[0]
    torch.testing.assert_close(first, second, atol=1e-4, rtol=1e-4)


def test_a_colour_depends_on_what_else_is_asked():
    decoder = build("hiif")
    feat, lr = inputs(5, 5, batch=1)
    coord = torch.rand(1, 50, 2) * 2 - 1
    prepared = decoder.prepare(feat, lr, Frame.whole(lr, torch.tensor([[0.1, 0.1]])))
    together = decoder.query(prepared, coord)[:, :25]
    assert (decoder.query(prepared, coord[:, :25]) - together).abs().max() > 1e-3


def test_attention_with_known_sums_is_attention():
    decoder = build("hiif")
    x = torch.randn(2, 50, 12)
    mean = decoder.conv0.sums(x) / 50
    torch.testing.assert_close(
        decoder.conv0(x, decoder.conv0.block(mean)), attend(decoder.conv0, x), atol=1e-5, rtol=1e-5
    )


def test_a_grid_without_its_target_is_refused():
    decoder = build("hiif")
    feat, lr = inputs(6, 6)
    prepared = decoder.prepare(feat, lr, Frame.whole(lr, torch.tensor([[0.1, 0.1]])))
    with pytest.raises(ValueError, match="target"):
        decoder.render(prepared, Grid.of(Size(6, 6), Size(12, 12)))


@pytest.mark.parametrize("wrong", [{"n_heads": 5}, {"levels": 1}, {"rows_per_call": 0}])
def test_settings_that_make_no_network_are_refused(wrong):
    with pytest.raises(ValueError, match="got"):
        HIIF(in_dim=DIM, hidden_dim=12, **{"n_heads": 3, **wrong})
