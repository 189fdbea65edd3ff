"""LIT and CLIT: their stages, windows and attention."""

import warnings
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from srcli.geometry import Axis, Box, Grid, Size, output_size
from srcli.models import attention, attention_grid
from srcli.models.decoders.lit import LIT, stage_sizes
from srcli.models.sr import Frame
from tests.helpers.decoders import DIM, build, filled, inputs
from tests.helpers.decoders import LIT as SMALL
from tests.helpers.presets import WIDE, tiny_engine
from tests.reference import lit as reference
from tests.reference.deviation import deviation, gradient_deviation
from tests.reference.sampling import centres, nearest, queries

BOUND = 1e-5  # float32, order of summation


def test_stages_that_training_draws_are_taken_as_they_are():
    decoder = build("clit-3")
    feat, lr = inputs(4, 5)
    coord, cell = torch.rand(2, 30, 2) * 2 - 1, torch.tensor([[0.1, 0.09]])
    stages = (Size(7, 6), Size(9, 14))
    frame = Frame(Size(4, 5), Box(0, 0, 4, 5), cell, stages=stages)
    expected = reference.cascade(decoder, feat, lr, coord, cell.expand(2, 2), stages)
    assert deviation(decoder.query(decoder.prepare(feat, lr, frame), coord), expected) < BOUND
    with pytest.raises(ValueError, match="4 stages"):
        decoder.prepare(feat, lr, Frame(Size(4, 5), frame.box, cell, stages=(*stages, Size(20, 20))))


@pytest.mark.parametrize("variant", ["lit", "lit, ensemble", "clit-3"])
def test_gradients_are_the_same_where_what_does_not_fit_is_computed_again(variant):
    decoder = build(variant)
    decoder.kept = 0
    feat, lr = inputs(4, 5)
    feat.requires_grad_()
    coord, cell = torch.rand(2, 40, 2) * 2 - 1, torch.tensor([[0.1, 0.1]])
    stages = tuple(Size(4 * i, 5 * i) for i in range(2, decoder.n_branches + 1))
    wanted = [feat, *decoder.parameters()]
    frame = Frame(Size(4, 5), Box(0, 0, 4, 5), cell, stages=stages)
    fast = decoder.query(decoder.prepare(feat, lr, frame), coord)
    slow = reference.cascade(decoder, feat, lr, coord, cell.expand(2, 2), stages)
    assert gradient_deviation(fast, slow, wanted) < BOUND


def test_the_halo_is_reached_where_there_is_one_branch():
    for side in (1, 3, 7):
        decoder = filled(LIT(in_dim=DIM, **SMALL, side=side))
        feat, lr = inputs(13, 13, batch=1)
        feat.requires_grad_()
        prepared = decoder.prepare(feat, lr, Frame.of_grid(lr, Size(26, 26)))
        (gradient,) = torch.autograd.grad(decoder.query(prepared, torch.zeros(1, 1, 2)).sum(), feat)
        rows, _ = gradient[0].abs().sum(0).nonzero().T
        assert (rows - 6).abs().max() == decoder.halo == max(side // 2, 0) + 2


@pytest.mark.parametrize("side", [1, 3, 5, 7, 9, 15, 25])
def test_any_window_trains_a_step_and_renders(side):
    decoder = filled(LIT(in_dim=DIM, base_dim=4, n_heads=2, hidden=(8,), side=side))
    feat, lr = inputs(9, 8, batch=1)
    optimiser = torch.optim.Adam(decoder.parameters(), lr=1e-2)
    coord, colours = queries(18, 16), torch.randn(1, 18 * 16, 3)
    losses = []
    for _ in range(2):
        prepared = decoder.prepare(feat, lr, Frame.of_grid(lr, Size(18, 16)))
        loss = (decoder.query(prepared, coord) - colours).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[1] < losses[0]
    with torch.no_grad():
        frame = Frame.of_grid(lr, Size(18, 16))
        prepared = decoder.prepare(feat, lr, frame)
        expected = reference.plain(decoder, feat, lr, coord, frame.cell)
        rendered = decoder.render(prepared, Grid.of(Size(9, 8), Size(18, 16)))
        assert deviation(rendered.flatten(2).transpose(1, 2), expected) < BOUND


def test_no_attention_is_a_window_of_one_pixel():
    without, one = build("lit", attention=False), build("lit", side=1)
    assert without.state_dict().keys() == one.state_dict().keys()
    feat, lr = inputs(5, 5)
    one.load_state_dict(without.state_dict())
    grid, frame = Grid.of(Size(5, 5), Size(14, 14)), Frame.of_grid(lr, Size(14, 14))
    images = [decoder.render(decoder.prepare(feat, lr, frame), grid) for decoder in (without, one)]
    assert torch.equal(*images)
    with pytest.raises(ValueError, match="no attention"):
        one.attention_at(one.prepare(feat, lr, frame), torch.zeros(2, 1, 2))


@pytest.mark.parametrize(
    "wrong",
    [{"side": 4}, {"side": 27}, {"n_heads": 3}, {"branches": 0}, {"side": 0}, {"n_heads": 0}, {"hidden": ()}],
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=r"side must be odd|cannot make"):
        LIT(in_dim=DIM, **{**SMALL, **wrong})


@pytest.mark.parametrize(
    ("scale", "branches", "factors"),
    [
        (2, 3, [2]),
        (4, 3, [4]),
        (6, 3, [4, 1.5]),
        (8, 3, [4, 2]),
        (12, 3, [4, 3]),
        (16, 3, [4, 4]),
        (18, 3, [4, 4, 1.125]),
        (24, 3, [4, 4, 1.5]),
        (30, 3, [4, 4, 1.875]),
        (30, 2, [4, 7.5]),
        (30, 1, [30]),
        (100, 3, [4, 4, 6.25]),
        ((2, 6), 3, [(2, 4), (1, 1.5)]),
        ((5, 18), 3, [(4, 4), (1.25, 4), (1, 1.125)]),
        ((0.5, 8), 3, [(1, 4), (0.5, 2)]),
    ],
)
def test_a_scale_is_split_in_stages_of_four(scale, branches, factors):
    size = Size(1000, 2000)
    target = output_size(size, scale if isinstance(scale, tuple) else float(scale))
    sizes = [size, *stage_sizes(size, target, branches), target]
    for (before, after), factor in zip(pairwise(sizes), factors, strict=True):
        both = factor if isinstance(factor, tuple) else (factor, factor)
        assert (after.h / before.h, after.w / before.w) == both


def test_a_scale_beyond_the_branches_warns_once_and_one_branch_never():
    feat, lr = inputs(6, 6, batch=1)
    target = Size(6 * 30, 6 * 30)
    corner = Frame.of_grid(lr, target)
    with pytest.warns(RuntimeWarning, match="3 stages and this network has 2") as caught:
        build("clit-2").prepare(feat, lr, corner)
    assert len(caught) == 1
    inner = Frame(Size(12, 12), Box(6, 0, 12, 6), corner.cell, Size(360, 360))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build("clit-2").prepare(feat, lr, inner)  # another part of the same image
        build("clit-3").prepare(feat, lr, corner)
        build("lit").prepare(feat, lr, corner)


def test_several_branches_refuse_a_batch_of_scales_that_need_different_stages():
    feat, lr = inputs(6, 6)
    cells = torch.tensor([[2 / 30, 2 / 30], [2 / 12, 2 / 12]])
    with pytest.raises(ValueError, match="one scale"):
        build("clit-2").prepare(feat, lr, Frame.whole(lr, cells))
    build("lit").prepare(feat, lr, Frame.whole(lr, cells))


def test_frequencies_are_those_of_the_release():
    printed = "0 .587401 1.519842 3 5.349605 9.079370 15 24.398422 39.317463 63 100.593658 160.269852 255"
    expected = [float(f) for f in printed.split()] + [405.374756, 644.079407, 1023]
    assert pytest.approx(expected, rel=0, abs=5e-7) == attention.FREQUENCIES


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 40), st.integers(1, 2000))
def test_runs_hold_every_query_once_with_its_window(lr, hr):
    index = Axis(lr, hr, 0, hr).nearest().index
    seen = []
    for group in attention_grid.Runs.of(index):
        assert group.query.shape[1] <= attention_grid.LONGEST
        assert (index[group.query] == group.window[:, None]).all()
        seen += group.query.reshape(-1).tolist()
    assert sorted(seen) == list(range(hr))


@pytest.mark.parametrize(
    ("rows", "inner", "columns"), [(1, 32, 256), (2, 32, 256), (16, 49, 256), (96, 8, 64)]
)
def test_small_products_equal_those_in_double(rows, inner, columns):
    left, right = torch.randn(5, rows, 2 * inner)[..., inner:], torch.randn(inner, 5, columns).transpose(0, 1)
    expected = (left.double() @ right.double()).float()
    with torch.inference_mode():
        found = attention_grid.product(left, right)
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-5)
        some = attention_grid.product(left[:, : rows // 2 + 1], right)
    torch.testing.assert_close(some, found[:, : rows // 2 + 1], atol=1e-5, rtol=0)


def test_attention_is_what_the_plain_form_weighs_windows_with():
    decoder = build("clit-2", side=3)
    feat, lr = inputs(5, 6)
    coord = torch.rand(2, 20, 2) * 2 - 1
    prepared = decoder.prepare(feat, lr, Frame.of_grid(lr, Size(30, 36)))
    pictures = decoder.attention_at(prepared, coord)
    assert [picture.shape for picture in pictures] == [(2, 20, 2, 3, 3)] * 2
    maps = decoder.conv_ch(feat)
    grid = centres(5, 6).permute(2, 0, 1).expand(2, -1, -1, -1)
    steps = [torch.linspace(-1, 1, 3) * (2 / n) for n in (5, 6)]
    window = torch.stack(torch.meshgrid(*steps, indexing="ij"), dim=-1).reshape(-1, 2)
    q, keys = reference.bilinear(decoder.conv_qs[0](maps), coord), decoder.conv_ks[0](maps)
    pixels = nearest(grid, coord).unsqueeze(2) + window
    expected = reference.attention(decoder, q, keys, coord, pixels).transpose(2, 3).unflatten(-1, (3, 3))
    torch.testing.assert_close(pictures[0], expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(pictures[1].sum((-2, -1)), torch.ones(2, 20, 2))


@pytest.mark.parametrize("variant", ["lit", "clit-2", "lit, ensemble"])
def test_training_in_bfloat16_gives_gradients_nearby(variant):
    decoder = build(variant)
    feat, lr = inputs(6, 6)
    coord, frame = torch.rand(2, 50, 2) * 2 - 1, Frame.of_grid(lr, Size(30, 30))
    gradients = []
    for low in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            sr = decoder.query(decoder.prepare(feat, lr, frame), coord)
        assert sr.dtype == torch.float32
        gradients.append(torch.autograd.grad(sr.square().sum(), decoder.conv_vs[0].weight)[0])
    exact, rough = gradients
    assert (rough - exact).square().mean().sqrt() < 0.05 * exact.std()


def upscaler(decoder, **options):
    engine = tiny_engine(encoder={**WIDE, "n_resblocks": 2}, decoder=decoder, **options)
    filled(engine.network.decoder)
    return engine


@pytest.mark.parametrize(
    ("branches", "side", "scale"), [(1, 7, 3.3), (1, 3, 4), (2, 5, 6.1), (3, 3, (1.2, 17)), (1, 15, 2)]
)
def test_tiles_of_equal_features_give_equal_bits_for_any_branches(branches, side, scale):
    lr = torch.rand(1, 3, *((50, 101) if branches == 1 else (26, 30)))
    decoder = {"name": "lit", "branches": branches, "side": side, "base_dim": 8, "n_heads": 2, "hidden": [8]}
    whole = upscaler(decoder, tile="none").upscale(lr, scale)
    for tile in (48, 97) if branches == 1 else (24,):
        assert torch.equal(upscaler(decoder, tile=tile).upscale(lr, scale), whole)
