"""HIIF: the fast forms equal the plain one, and a call is a call however it is cut into pieces."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from srcli.geometry import Box, Grid, Size, output_size
from srcli.models.decoders import hiif
from srcli.models.decoders.hiif import HIIF
from srcli.models.sr import Frame
from tests.reference.deviation import deviation, gradient_deviation
from tests.reference.hiif import attend, plain
from tests.reference.sampling import lr_size, queries

DIM = 6
BOUND = 2e-5  # float32, order of summation
SCALES = [0.6, 1, 1.5, 2, 3, 3.3, 4, 9, (2.5, 4.0), (1.7, 1.0)]


def build(**arguments):
    """A small decoder with weights that make every input matter."""
    torch.manual_seed(1)
    decoder = HIIF(in_dim=DIM, hidden_dim=12, levels=4, n_heads=3, **arguments)
    with torch.no_grad():
        for name, parameter in decoder.named_parameters():
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 100
            parameter.normal_(0, 1.4 / fan_in**0.5)
            if name.endswith("ln.weight"):  # of keys and values
                parameter.add_(1)
    return decoder


def inputs(h, w, batch=2):
    """Features and LR pixels."""
    torch.manual_seed(2)
    return torch.randn(batch, DIM, h, w), torch.randn(batch, 3, h, w)


def calls(decoder, feat, lr, target, cell, rows):
    """The plain form for calls of some rows each, as an image."""
    parts = queries(*target).expand(len(feat), -1, -1).split(rows * target.w, dim=1)
    sr = torch.cat([plain(decoder, feat, lr, part, cell) for part in parts], dim=1)
    return sr.transpose(1, 2).reshape(len(feat), 3, *target)


@pytest.mark.parametrize("scale", SCALES)
def test_render_and_query_equal_the_plain_form(scale):
    decoder = build()
    size = lr_size(scale)
    feat, lr = inputs(*size)
    target = output_size(size, scale)
    frame = Frame.of_grid(lr, target, cell_clip=4)
    expected = calls(decoder, feat, lr, target, frame.cell.expand(2, 2), target.h)
    prepared = decoder.prepare(feat, lr, frame)
    assert deviation(decoder.render(prepared, Grid.of(size, target)), expected) < BOUND
    queried = decoder.query(prepared, queries(*target).expand(2, -1, -1))
    assert deviation(queried.transpose(1, 2).reshape(expected.shape), expected) < BOUND


@pytest.mark.parametrize("rows", [1, 4, 1000])
def test_official_calls_are_of_so_many_rows(rows):
    decoder = build(protocol="official", rows_per_call=rows)
    feat, lr = inputs(6, 5)
    target = Size(19, 14)
    frame = Frame.of_grid(lr, target)
    expected = calls(decoder, feat, lr, target, frame.cell.expand(2, 2), rows)
    with torch.no_grad():
        prepared = decoder.prepare(feat, lr, frame)
        rendered = decoder.render(prepared, Grid.of(Size(6, 5), target))
    assert deviation(rendered, expected) < BOUND
    whole = build()
    together = whole.render(whole.prepare(feat, lr, frame), Grid.of(Size(6, 5), target))
    assert torch.allclose(rendered, together, atol=1e-3) == (rows >= target.h)
    assert (str(rows) in decoder.note) > (str(rows) in whole.note)


@pytest.mark.parametrize("keep", [0, 1 << 18])
@pytest.mark.parametrize("chunk", [1, 7, 100])
@pytest.mark.parametrize("rows_per_call", [None, 5])
def test_bands_chunks_and_memory_do_not_matter(monkeypatch, keep, chunk, rows_per_call):
    decoder = build()
    decoder.rows_per_call = rows_per_call
    feat, lr = inputs(5, 6, batch=1)
    size, target = Size(5, 6), Size(12, 16)
    frame = Frame.of_grid(lr, target)
    with torch.no_grad():
        whole = decoder.render(decoder.prepare(feat, lr, frame), Grid.of(size, target))
        monkeypatch.setattr(hiif, "BAND", {"cpu": 7})
        monkeypatch.setattr(hiif, "CHUNK", {"cpu": chunk})
        monkeypatch.setattr(hiif, "KEEP", {"cpu": keep})
        prepared = decoder.prepare(feat, lr, frame)
        assert (prepared.calls[0].kept is None) == (keep == 0)
        boxes = [Box(top, 0, bottom, 16) for top, bottom in ((0, 3), (3, 9), (9, 12))]
        parts = [decoder.render(prepared, Grid.of(size, target, box)) for box in boxes]
        assert deviation(torch.cat(parts, dim=2), whole) < BOUND
        inner = decoder.render(prepared, Grid.of(size, target, Box(2, 3, 11, 14)))
        assert deviation(inner, whole[:, :, 2:11, 3:14]) < BOUND


@settings(deadline=None, max_examples=15)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**16))
def test_query_equals_the_plain_form_at_scattered_coordinates(h, w, seed):
    decoder = build()
    feat, lr = inputs(h, w)
    rng = torch.Generator().manual_seed(seed)
    coord = torch.rand(2, 40, 2, generator=rng) * 2 - 1
    cell = torch.rand(2, 2, generator=rng) / 8 + 0.01
    prepared = decoder.prepare(feat, lr, Frame.whole(lr, cell))
    assert deviation(decoder.query(prepared, coord), plain(decoder, feat, lr, coord, cell)) < BOUND


def test_gradients_equal_those_of_the_plain_form():
    decoder = build()
    feat, lr = inputs(5, 6)
    feat.requires_grad_()
    coord, cell = torch.rand(2, 60, 2) * 2 - 1, torch.tensor([[0.1, 0.2], [0.07, 0.05]])
    wanted = [feat, *decoder.parameters()]
    fast = decoder.query(decoder.prepare(feat, lr, Frame.whole(lr, cell)), coord)
    slow = plain(decoder, feat, lr, coord, cell)
    assert gradient_deviation(fast, slow, wanted) < BOUND


def test_a_grid_can_be_trained_through():
    decoder = build()
    feat, lr = inputs(4, 4, batch=1)
    frame, grid = Frame.of_grid(lr, Size(6, 6)), Grid.of(Size(4, 4), Size(6, 6))
    rendered = decoder.render(decoder.prepare(feat, lr, frame), grid)
    queried = decoder.query(decoder.prepare(feat, lr, frame), queries(6, 6))
    target = torch.randn_like(rendered)
    first = torch.autograd.grad((rendered * target).sum(), decoder.freq.weight)[0]
    second = torch.autograd.grad((queried * target.flatten(2).transpose(1, 2)).sum(), decoder.freq.weight)[0]
    torch.testing.assert_close(first, second, atol=1e-4, rtol=1e-4)


def test_a_colour_depends_on_what_else_is_asked():
    decoder = build()
    feat, lr = inputs(5, 5, batch=1)
    coord = torch.rand(1, 50, 2) * 2 - 1
    prepared = decoder.prepare(feat, lr, Frame.whole(lr, torch.tensor([[0.1, 0.1]])))
    together = decoder.query(prepared, coord)[:, :25]
    assert (decoder.query(prepared, coord[:, :25]) - together).abs().max() > 1e-3


def test_attention_with_known_sums_is_attention():
    decoder = build()
    x = torch.randn(2, 50, 12)
    mean = decoder.conv0.sums(x) / 50
    torch.testing.assert_close(
        decoder.conv0(x, decoder.conv0.block(mean)), attend(decoder.conv0, x), atol=1e-5, rtol=1e-5
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


def test_a_grid_without_its_target_is_refused():
    decoder = build()
    feat, lr = inputs(6, 6)
    prepared = decoder.prepare(feat, lr, Frame.whole(lr, torch.tensor([[0.1, 0.1]])))
    with pytest.raises(ValueError, match="target"):
        decoder.render(prepared, Grid.of(Size(6, 6), Size(12, 12)))


@pytest.mark.parametrize("wrong", [{"n_heads": 5}, {"levels": 1}, {"rows_per_call": 0}])
def test_settings_that_make_no_network_are_refused(wrong):
    with pytest.raises(ValueError, match="got"):
        HIIF(in_dim=DIM, hidden_dim=12, **{"n_heads": 3, **wrong})
