"""LM-LIIF and LM-LTE: the fast forms equal the plain ones, for any scale, band and coordinate."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from srcli.geometry import Axis, Box, Grid, Size, output_size
from srcli.models.decoders import DECODERS, modulated
from srcli.models.decoders.modulated import Slots
from srcli.models.sr import Frame, pixel_cell
from tests.reference.deviation import deviation, gradient_deviation
from tests.reference.lmf import plain
from tests.reference.sampling import lr_size, queries

DIM = 6
BOUND = 1e-5  # float32, order of summation
SMALL = {"depth": 3, "width": 8, "latent": 20}
VARIANTS = {
    "lm-liif": ("lm-liif", SMALL),
    "lm-liif, depth 1": ("lm-liif", SMALL | {"depth": 1}),
    "lm-liif, raw features": ("lm-liif", SMALL | {"mod_input": False}),
    "lm-liif, nearest": ("lm-liif", SMALL | {"local_ensemble": False}),
    "lm-liif, bare": ("lm-liif", SMALL | {"feat_unfold": False, "cell_decode": False}),
    "lm-lte": ("lm-lte", SMALL | {"hidden_dim": 12}),
    "lm-lte, latent's waves": ("lm-lte", SMALL | {"hidden_dim": 12, "mod_input": False}),
    "lm-lte, nearest": ("lm-lte", SMALL | {"hidden_dim": 12, "local_ensemble": False}),
    "lm-liif, published": ("lm-liif", {}),
    "lm-lte, published": ("lm-lte", {}),
}
SCALES = [1, 2, 2.5, 3.3, 4, 12, (2.5, 4.0), (1.7, 1.0)]

every_variant = pytest.mark.parametrize("variant", VARIANTS)


def build(variant):
    """A decoder with weights that make every input matter."""
    name, arguments = VARIANTS[variant]
    torch.manual_seed(1)
    decoder = DECODERS[name](in_dim=DIM, **arguments)
    with torch.no_grad():
        for parameter in decoder.parameters():
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 100
            parameter.normal_(0, 1 / fan_in**0.5)
    return decoder


def inputs(h, w, batch=2):
    """Features and LR pixels."""
    torch.manual_seed(2)
    return torch.randn(batch, DIM, h, w), torch.randn(batch, 3, h, w)


@every_variant
@pytest.mark.parametrize("scale", SCALES)
def test_render_and_query_equal_the_plain_form(variant, scale):
    decoder = build(variant)
    size = lr_size(scale)
    feat, lr = inputs(*size)
    target = output_size(size, scale)
    frame = Frame.of_grid(lr, target, cell_clip=4)
    coord = queries(*target).expand(2, -1, -1)
    with torch.no_grad():
        prepared = decoder.prepare(feat, lr, frame)
        expected = plain(decoder, feat, lr, coord, frame.cell.expand(2, 2))
        assert deviation(decoder.query(prepared, coord), expected) < BOUND
        image = expected.transpose(1, 2).reshape(2, 3, *target)
        assert deviation(decoder.render(prepared, Grid.of(size, target)), image) < BOUND


@every_variant
@settings(deadline=None, max_examples=5)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**16))
def test_query_equals_the_plain_form_at_scattered_coordinates(variant, h, w, seed):
    decoder = build(variant)
    feat, lr = inputs(h, w)
    rng = torch.Generator().manual_seed(seed)
    coord = torch.rand(2, 40, 2, generator=rng) * 2 - 1
    cell = torch.rand(2, 2, generator=rng) / 8 + 0.01
    with torch.no_grad():
        prepared = decoder.prepare(feat, lr, Frame.whole(lr, cell))
        assert deviation(decoder.query(prepared, coord), plain(decoder, feat, lr, coord, cell)) < BOUND


@every_variant
def test_gradients_equal_those_of_the_plain_form(variant):
    decoder = build(variant)
    feat, lr = inputs(5, 6)
    feat.requires_grad_()
    coord, cell = torch.rand(2, 60, 2) * 2 - 1, torch.tensor([[0.1, 0.2], [0.07, 0.05]])
    wanted = [feat, *decoder.parameters()]
    fast = decoder.query(decoder.prepare(feat, lr, Frame.whole(lr, cell)), coord)
    slow = plain(decoder, feat, lr, coord, cell)
    assert gradient_deviation(fast, slow, wanted) < BOUND


@pytest.mark.parametrize("chunk", [1, 500])
def test_pieces_of_any_size_and_queries_in_any_chunk_give_the_same_colours(monkeypatch, chunk):
    decoder = build("lm-lte")
    size, target = Size(4, 5), Size(13, 22)
    feat, lr = inputs(*size)
    grid, coord = Grid.of(size, target), queries(*target).expand(2, -1, -1)
    with torch.no_grad():
        prepared = decoder.prepare(feat, lr, Frame.of_grid(lr, target))
        monkeypatch.setattr(modulated, "CHUNK_CPU", 10**9)
        at_once = decoder.render(prepared, grid), decoder.query(prepared, coord)
        monkeypatch.setattr(modulated, "CHUNK_CPU", chunk)
        in_pieces = decoder.render(prepared, grid), decoder.query(prepared, coord)
    torch.testing.assert_close(in_pieces, at_once, atol=2e-6, rtol=1e-6)


@every_variant
@pytest.mark.parametrize("scale", [2, 3.3, (1.7, 4.6)])
def test_bands_and_boxes_of_the_image_render_as_the_whole(variant, scale):
    decoder = build(variant)
    h, w = size = Size(17, 14)
    feat, lr = (maps.contiguous(memory_format=torch.channels_last) for maps in inputs(h, w, batch=1))
    target = output_size(size, scale)
    frame = Frame.of_grid(lr, target)
    with torch.no_grad():
        whole = decoder.render(decoder.prepare(feat, lr, frame), Grid.of(size, target))
        for box in (
            Box(0, 0, target.h // 3, target.w),
            Box(target.h // 3, 0, target.h, target.w),
            Box(9, 7, target.h - 8, target.w - 5),
        ):
            top, bottom = Axis(h, target.h, box.top, box.bottom).source(decoder.halo)
            left, right = Axis(w, target.w, box.left, box.right).source(decoder.halo)
            seen = (..., slice(top, bottom), slice(left, right))
            part = Frame(size, Box(top, left, bottom, right), frame.cell, target)
            prepared = decoder.prepare(feat[seen], lr[seen], part)
            rendered = decoder.render(prepared, Grid.of(size, target, box, origin=(top, left)))
            torch.testing.assert_close(rendered, whole[..., *box.slices], atol=5e-6, rtol=1e-6)


@every_variant
@settings(deadline=None, max_examples=5)
@given(st.floats(-1, 1), st.floats(-1, 1))
def test_answers_depend_on_nothing_beyond_the_halo(variant, y, x):
    decoder = build(variant)
    feat, lr = inputs(9, 9, batch=1)
    feat.requires_grad_()
    coord = torch.tensor([[[y, x]]])
    prepared = decoder.prepare(feat, lr, Frame.whole(lr, pixel_cell(Size(9, 9), Size(18, 18))))
    (gradient,) = torch.autograd.grad(decoder.query(prepared, coord).sum(), feat)
    rows, cols = gradient[0].abs().sum(0).nonzero().T
    pixel = [min(int((at + 1) / 2 * 9), 8) for at in (y, x)]
    assert (rows - pixel[0]).abs().max() <= decoder.halo
    assert (cols - pixel[1]).abs().max() <= decoder.halo


@given(st.integers(1, 40), st.integers(1, 150), st.booleans(), st.data())
def test_every_hr_pixel_sits_in_a_slot_of_each_of_its_neighbours(lr, hr, ensemble, data):
    start = data.draw(st.integers(0, hr - 1))
    axis = Axis(lr, hr, start, data.draw(st.integers(start + 1, hr)))
    slots = Slots.of(axis, ensemble)
    index, distance = (np.atleast_2d(part) for part in (axis.neighbours() if ensemble else axis.nearest()))
    assert (slots.pixel + slots.start == index).all()
    assert (slots.distance[slots.slot, slots.pixel] == distance).all()
    for row, pixels in zip(slots.slot, slots.pixel, strict=True):
        assert len(set(zip(row.tolist(), pixels.tolist(), strict=True))) == len(axis)
    middle = slots.distance.shape[1] // 2
    for (left, right), pixels in zip(
        zip(slots.served(0, middle), slots.served(middle, slots.distance.shape[1]), strict=True),
        slots.pixel,
        strict=True,
    ):
        assert (pixels[left] < middle).all()
        assert (pixels[right] >= middle).all()
        assert left.stop == right.start


@every_variant
def test_bfloat16_features_give_float32_colours_nearby(variant):
    decoder = build(variant)
    feat, lr = inputs(8, 8, batch=1)
    target = Size(26, 26)
    frame, grid = Frame.of_grid(lr, target), Grid.of(Size(8, 8), target)
    with torch.no_grad():
        exact = decoder.render(decoder.prepare(feat, lr, frame), grid)
        rough = decoder.render(decoder.prepare(feat.bfloat16(), lr, frame), grid)
    assert rough.dtype == torch.float32
    assert (rough - exact).square().mean().sqrt() < 0.03 * exact.std()


@pytest.mark.parametrize(
    ("name", "arguments", "decoder_parameters"),
    [("lm-liif", {}, 165_651), ("lm-liif", {"depth": 8}, 179_571), ("lm-lte", {}, 270_467)],
)
def test_published_sizes(name, arguments, decoder_parameters):
    decoder = DECODERS[name](**arguments)
    assert sum(parameter.numel() for parameter in decoder.parameters()) == decoder_parameters
