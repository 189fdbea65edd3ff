"""LIIF, MetaSR, LTE, LTE+ and Thera: the fast forms equal the plain ones, for any scale, band and coordinate."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from srcli.geometry import Axis, Box, Grid, Size, output_size
from srcli.models.decoders import DECODERS
from srcli.models.sr import Frame, pixel_cell
from tests.reference import liif, lte, metasr, thera
from tests.reference.deviation import deviation, gradient_deviation
from tests.reference.sampling import lr_size, queries

DIM = 6
BOUND = 1e-5  # float32, order of summation
VARIANTS = {
    "liif": ("liif", {"hidden": (24, 20, 16)}, liif.plain),
    "liif, nearest": ("liif", {"hidden": (24, 20), "local_ensemble": False}, liif.plain),
    "liif, no unfolding": ("liif", {"hidden": (24, 20), "feat_unfold": False}, liif.plain),
    "liif, no cell": ("liif", {"hidden": (24, 20), "cell_decode": False}, liif.plain),
    "liif, bare": (
        "liif",
        {"hidden": (24,), "local_ensemble": False, "feat_unfold": False, "cell_decode": False},
        liif.plain,
    ),
    "metasr": ("metasr", {"hidden": 24}, metasr.plain),
    "lte": ("lte", {"hidden_dim": 16, "hidden": (20, 16)}, lte.plain),
    "lte-plus": ("lte-plus", {"hidden_dim": 16, "hidden": (20, 16)}, lte.plain),
    "thera": ("thera", {"n_components": 20}, thera.plain),
}
SCALES = [1, 2, 2.5, 3.3, 4, 12, (2.5, 4.0), (1.7, 1.0)]

every_variant = pytest.mark.parametrize("variant", VARIANTS)


def build(variant):
    """A small decoder with weights that make every input matter, and its plain form."""
    name, arguments, plain = VARIANTS[variant]
    torch.manual_seed(1)
    decoder = DECODERS[name](in_dim=DIM, **arguments)
    with torch.no_grad():
        for parameter in decoder.parameters():
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 100
            parameter.normal_(0, 1.4 / fan_in**0.5)
        if name.startswith("lte"):  # within a turn or two, where float32 resolves angles to the bound
            decoder.freq.weight.mul_(0.5)
        if name == "thera":  # some waves that the blur takes away, and angles as above
            decoder.components.mul_(5)
            decoder.k.fill_(1)
    return decoder, plain


def inputs(h, w, batch=2):
    """Features and LR pixels."""
    torch.manual_seed(2)
    return torch.randn(batch, DIM, h, w), torch.randn(batch, 3, h, w)


@every_variant
@pytest.mark.parametrize("scale", SCALES)
def test_render_and_query_equal_the_plain_form(variant, scale):
    decoder, plain = build(variant)
    size = lr_size(scale)
    feat, lr = inputs(*size)
    target = output_size(size, scale)
    frame = Frame.of_grid(lr, target, cell_clip=4)
    prepared = decoder.prepare(feat, lr, frame)
    coord = queries(*target).expand(2, -1, -1)
    expected = plain(decoder, feat, lr, coord, frame.cell.expand(2, 2))
    assert deviation(decoder.query(prepared, coord), expected) < BOUND
    assert (
        deviation(
            decoder.render(prepared, Grid.of(size, target)), expected.transpose(1, 2).reshape(2, 3, *target)
        )
        < BOUND
    )


@every_variant
@settings(deadline=None, max_examples=10)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**16))
def test_query_equals_the_plain_form_at_scattered_coordinates(variant, h, w, seed):
    decoder, plain = build(variant)
    feat, lr = inputs(h, w)
    rng = torch.Generator().manual_seed(seed)
    coord = torch.rand(2, 40, 2, generator=rng) * 2 - 1
    cell = torch.rand(2, 2, generator=rng) / 8 + 0.01
    prepared = decoder.prepare(feat, lr, Frame.whole(lr, cell))
    assert deviation(decoder.query(prepared, coord), plain(decoder, feat, lr, coord, cell)) < BOUND


@every_variant
def test_gradients_equal_those_of_the_plain_form(variant):
    decoder, plain = build(variant)
    feat, lr = inputs(5, 6)
    feat.requires_grad_()
    coord, cell = torch.rand(2, 60, 2) * 2 - 1, torch.tensor([[0.1, 0.2], [0.07, 0.05]])
    wanted = [feat, *decoder.parameters()]
    fast = decoder.query(decoder.prepare(feat, lr, Frame.whole(lr, cell)), coord)
    slow = plain(decoder, feat, lr, coord, cell)
    assert gradient_deviation(fast, slow, wanted) < BOUND


@every_variant
@pytest.mark.parametrize("scale", [2, 3.3, (1.7, 4.6)])
def test_bands_and_boxes_of_the_image_render_as_the_whole(variant, scale):
    decoder, _ = build(variant)
    h, w = size = Size(17, 14)
    feat, lr = inputs(h, w, batch=1)
    target = output_size(size, scale)
    frame = Frame.of_grid(lr, target)
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
        # The kernels sum in an order of their own for every shape; the numbers summed are the same.
        torch.testing.assert_close(rendered, whole[..., *box.slices], atol=2e-6, rtol=1e-6)


@every_variant
@settings(deadline=None, max_examples=12)
@given(st.floats(-1, 1), st.floats(-1, 1))
def test_answers_depend_on_nothing_beyond_the_halo(variant, y, x):
    decoder, _ = build(variant)
    feat, lr = inputs(9, 9, batch=1)
    feat.requires_grad_()
    coord = torch.tensor([[[y, x]]])
    prepared = decoder.prepare(feat, lr, Frame.whole(lr, pixel_cell(Size(9, 9), Size(18, 18))))
    (gradient,) = torch.autograd.grad(decoder.query(prepared, coord).sum(), feat)
    rows, cols = gradient[0].abs().sum(0).nonzero().T
    pixel = [min(int((at + 1) / 2 * 9), 8) for at in (y, x)]
    assert (rows - pixel[0]).abs().max() <= decoder.halo
    assert (cols - pixel[1]).abs().max() <= decoder.halo


@every_variant
def test_bfloat16_features_give_float32_colours_nearby(variant):
    decoder, _ = build(variant)
    feat, lr = inputs(8, 8, batch=1)
    target = Size(26, 26)
    frame, grid = Frame.of_grid(lr, target), Grid.of(Size(8, 8), target)
    exact = decoder.render(decoder.prepare(feat, lr, frame), grid)
    rough = decoder.render(decoder.prepare(feat.bfloat16(), lr, frame), grid)
    assert rough.dtype == torch.float32
    assert (rough - exact).square().mean().sqrt() < 0.02 * exact.std()


@pytest.mark.parametrize("variant", ["metasr", "thera"])
def test_a_grid_with_two_cells_is_refused(variant):
    decoder, _ = build(variant)
    feat, lr = inputs(6, 6)
    prepared = decoder.prepare(feat, lr, Frame.whole(lr, torch.tensor([[0.1, 0.1], [0.1, 0.2]])))
    with pytest.raises(ValueError, match="one cell"):
        decoder.render(prepared, Grid.of(Size(6, 6), Size(12, 12)))
