"""LIT and CLIT: the fast forms equal the plain ones, for any scale, stage, window, band and coordinate."""

import warnings
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from srcli.config.presets import parse_preset
from srcli.engine.upscaler import Upscaler
from srcli.geometry import Axis, Box, Grid, Size, output_size
from srcli.models import attention, attention_grid
from srcli.models.decoders import lit
from srcli.models.decoders.lit import LIT, stage_sizes
from srcli.models.sr import Frame
from srcli.weights.build import build
from tests.reference import lit as reference
from tests.reference.deviation import deviation, gradient_deviation
from tests.reference.lit_fft import LITFFT
from tests.reference.sampling import centres, nearest, queries

DIM = 6
BOUND = 1e-5  # float32, order of summation
SMALL = {"base_dim": 8, "n_heads": 2, "hidden": (12, 10)}
VARIANTS = {
    "lit": {},
    "lit, 3x3": {"side": 3},
    "lit, 1x1": {"side": 1},
    "lit, no cell": {"side": 3, "cell": False},
    "lit, ensemble": {"side": 5, "local_ensemble": True},
    "lit, paper": {"side": 5, "variant": "paper"},
    "lit, one layer": {"side": 3, "hidden": (9,)},
    "clit-2": {"branches": 2, "side": 5},
    "clit-3": {"branches": 3, "side": 3},
    "clit-3, ensemble": {"branches": 3, "side": 3, "local_ensemble": True},
    "clit-3, no attention": {"branches": 3, "attention": False},
}
SCALES = [1, 2, 2.5, 3.3, (2.5, 4.0), 6, 17, (1.7, 9), 0.6]

every_variant = pytest.mark.parametrize("variant", VARIANTS)


def scaled(network):
    """Weights that make every input matter."""
    with torch.no_grad():
        for parameter in network.parameters():
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 100
            parameter.normal_(0, 1.4 / fan_in**0.5)
    return network


def make(variant, **more):
    torch.manual_seed(1)
    return scaled(LIT(in_dim=DIM, **{**SMALL, **VARIANTS[variant], **more}))


def inputs(h, w, batch=2):
    """Features and LR pixels."""
    torch.manual_seed(2)
    return torch.randn(batch, DIM, h, w), torch.randn(batch, 3, h, w)


def quietly(decoder, feat, lr, frame):
    """`prepare` without the word on scales beyond training."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return decoder.prepare(feat, lr, frame)


@every_variant
@pytest.mark.parametrize("scale", SCALES)
def test_render_and_query_equal_the_plain_form(variant, scale):
    decoder = make(variant)
    size = Size(2, 3) if scale == 17 else Size(5, 6)
    feat, lr = inputs(*size)
    target = output_size(size, scale)
    frame = Frame.of_grid(lr, target)
    prepared = quietly(decoder, feat, lr, frame)
    coord = queries(*target).expand(2, -1, -1)
    stages = stage_sizes(size, target, decoder.n_branches)
    expected = reference.cascade(decoder, feat, lr, coord, frame.cell.expand(2, 2), stages)
    assert deviation(decoder.query(prepared, coord), expected) < BOUND
    assert (
        deviation(decoder.render(prepared, Grid.of(size, target)).flatten(2).transpose(1, 2), expected)
        < BOUND
    )


@every_variant
@settings(deadline=None, max_examples=8)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**16))
def test_query_equals_the_plain_form_at_scattered_coordinates_with_a_cell_per_image(variant, h, w, seed):
    decoder = make(variant)
    feat, lr = inputs(h, w)
    rng = torch.Generator().manual_seed(seed)
    coord = torch.rand(2, 30, 2, generator=rng) * 2 - 1
    cell = (2 / torch.tensor([h, w])) / (1 + 2.9 * torch.rand(2, 2, generator=rng))
    prepared = decoder.prepare(feat, lr, Frame.whole(lr, cell))
    assert deviation(decoder.query(prepared, coord), reference.plain(decoder, feat, lr, coord, cell)) < BOUND


def test_stages_that_training_draws_are_taken_as_they_are():
    decoder = make("clit-3")
    feat, lr = inputs(4, 5)
    coord, cell = torch.rand(2, 30, 2) * 2 - 1, torch.tensor([[0.1, 0.09]])
    stages = (Size(7, 6), Size(9, 14))
    frame = Frame(Size(4, 5), Box(0, 0, 4, 5), cell, stages=stages)
    expected = reference.cascade(decoder, feat, lr, coord, cell.expand(2, 2), stages)
    assert deviation(decoder.query(decoder.prepare(feat, lr, frame), coord), expected) < BOUND
    with pytest.raises(ValueError, match="4 stages"):
        decoder.prepare(feat, lr, Frame(Size(4, 5), frame.box, cell, stages=(*stages, Size(20, 20))))


@every_variant
@pytest.mark.parametrize("kept", [0, 1 << 30])
def test_gradients_equal_those_of_the_plain_form_in_one_piece_and_in_many(variant, kept, monkeypatch):
    monkeypatch.setattr(lit, "KEPT", kept)
    monkeypatch.setattr(attention, "CPU", attention.CPU._replace(gathered=20_000))
    decoder = make(variant)
    feat, lr = inputs(4, 5)
    feat.requires_grad_()
    coord, cell = torch.rand(2, 40, 2) * 2 - 1, torch.tensor([[0.1, 0.1]])
    stages = tuple(Size(4 * i, 5 * i) for i in range(2, decoder.n_branches + 1))
    wanted = [feat, *decoder.parameters()]
    frame = Frame(Size(4, 5), Box(0, 0, 4, 5), cell, stages=stages)
    fast = decoder.query(decoder.prepare(feat, lr, frame), coord)
    slow = reference.cascade(decoder, feat, lr, coord, cell.expand(2, 2), stages)
    assert gradient_deviation(fast, slow, wanted) < BOUND


@every_variant
@pytest.mark.parametrize("scale", [2, (1.7, 4.6), 6.3])
def test_bands_and_boxes_of_the_image_render_as_the_whole(variant, scale):
    decoder = make(variant)
    h, w = size = Size(19, 21)
    feat, lr = inputs(h, w, batch=1)
    target = output_size(size, scale)
    frame = Frame.of_grid(lr, target)
    whole = decoder.render(quietly(decoder, feat, lr, frame), Grid.of(size, target))
    for box in (
        Box(0, 0, target.h // 3, target.w),
        Box(target.h // 2, target.w // 2, target.h // 2 + 9, target.w // 2 + 1),
        Box(target.h - 8, 7, target.h, target.w - 5),
    ):
        top, bottom = Axis(h, target.h, box.top, box.bottom).source(decoder.halo)
        left, right = Axis(w, target.w, box.left, box.right).source(decoder.halo)
        seen = (..., slice(top, bottom), slice(left, right))
        part = Frame(size, Box(top, left, bottom, right), frame.cell, target)
        prepared = quietly(decoder, feat[seen], lr[seen], part)
        rendered = decoder.render(prepared, Grid.of(size, target, box, origin=(top, left)))
        # The kernels sum in an order of their own for every shape; the numbers summed are the same.
        torch.testing.assert_close(rendered, whole[..., *box.slices], atol=5e-6, rtol=1e-6)


@every_variant
@settings(deadline=None, max_examples=10)
@given(st.floats(-1, 1), st.floats(-1, 1), st.sampled_from([1, 2.3, 6.5, 18]))
def test_answers_depend_on_nothing_beyond_the_halo(variant, y, x, scale):
    decoder, n = make(variant), 17
    feat, lr = inputs(n, n, batch=1)
    feat.requires_grad_()
    frame = Frame.of_grid(lr, output_size(Size(n, n), scale))
    (gradient,) = torch.autograd.grad(
        decoder.query(quietly(decoder, feat, lr, frame), torch.tensor([[[y, x]]])).sum(), feat
    )
    rows, cols = gradient[0].abs().sum(0).nonzero().T
    pixel = [min(int((at + 1) / 2 * n), n - 1) for at in (y, x)]
    assert (rows - pixel[0]).abs().max() <= decoder.halo
    assert (cols - pixel[1]).abs().max() <= decoder.halo


def test_the_halo_is_reached_where_there_is_one_branch():
    for side in (1, 3, 7):
        decoder = scaled(LIT(in_dim=DIM, **SMALL, side=side))
        feat, lr = inputs(13, 13, batch=1)
        feat.requires_grad_()
        prepared = decoder.prepare(feat, lr, Frame.of_grid(lr, Size(26, 26)))
        (gradient,) = torch.autograd.grad(decoder.query(prepared, torch.zeros(1, 1, 2)).sum(), feat)
        rows, _ = gradient[0].abs().sum(0).nonzero().T
        assert (rows - 6).abs().max() == decoder.halo == max(side // 2, 0) + 2


@pytest.mark.parametrize("side", [1, 3, 5, 7, 9, 15, 25])
def test_any_window_trains_a_step_and_renders(side):
    decoder = scaled(LIT(in_dim=DIM, base_dim=4, n_heads=2, hidden=(8,), side=side))
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
    without, one = make("lit", attention=False), make("lit", side=1)
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
        make("clit-2").prepare(feat, lr, corner)
    assert len(caught) == 1
    inner = Frame(Size(12, 12), Box(6, 0, 12, 6), corner.cell, Size(360, 360))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make("clit-2").prepare(feat, lr, inner)  # another part of the same image
        make("clit-3").prepare(feat, lr, corner)
        make("lit").prepare(feat, lr, corner)


def test_several_branches_refuse_a_batch_of_scales_that_need_different_stages():
    feat, lr = inputs(6, 6)
    cells = torch.tensor([[2 / 30, 2 / 30], [2 / 12, 2 / 12]])
    with pytest.raises(ValueError, match="one scale"):
        make("clit-2").prepare(feat, lr, Frame.whole(lr, cells))
    make("lit").prepare(feat, lr, Frame.whole(lr, cells))


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


@pytest.mark.parametrize("limits", [(3, 5, 2, 100, 100), (1, 1, 1, 1, 1), (50, 100, 7, 3000, 5000)])
def test_what_is_worked_on_at_once_changes_nothing(limits, monkeypatch):
    decoder = make("clit-2")
    feat, lr = inputs(4, 5, batch=1)
    grid, frame = Grid.of(Size(4, 5), Size(18, 22)), Frame.of_grid(lr, Size(18, 22))
    with torch.no_grad():
        whole = decoder.render(decoder.prepare(feat, lr, frame), grid)
        monkeypatch.setattr(attention, "CPU", attention.Budget(*limits))
        torch.testing.assert_close(
            decoder.render(decoder.prepare(feat, lr, frame), grid), whole, atol=5e-6, rtol=0
        )


def test_attention_is_what_the_plain_form_weighs_windows_with():
    decoder = make("clit-2", side=3)
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


@every_variant
def test_bfloat16_features_give_float32_colours_nearby(variant):
    decoder = make(variant)
    feat, lr = inputs(8, 8, batch=1)
    frame, grid = Frame.of_grid(lr, Size(44, 44)), Grid.of(Size(8, 8), Size(44, 44))
    with torch.no_grad():
        exact = decoder.render(decoder.prepare(feat, lr, frame), grid)
        rough = decoder.render(decoder.prepare(feat.bfloat16(), lr, frame), grid)
    assert rough.dtype == torch.float32
    assert (rough - exact).square().mean().sqrt() < 0.02 * exact.std()


@pytest.mark.parametrize("variant", ["lit", "clit-2", "lit, ensemble"])
def test_training_in_bfloat16_gives_gradients_nearby(variant):
    decoder = make(variant)
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
    preset = parse_preset(
        {
            "title": "tiny",
            "encoder": {"name": "edsr", "n_resblocks": 2, "n_feats": 16, "mean_shift": False},
            "decoder": decoder,
        },
        name="tiny",
    )
    torch.manual_seed(3)
    network = build(preset)
    scaled(network.decoder)
    return Upscaler(network, preset, device="cpu", **options)


@pytest.mark.parametrize(
    ("branches", "side", "scale"), [(1, 7, 3.3), (1, 3, 4), (2, 5, 6.1), (3, 3, (1.2, 17)), (1, 15, 2)]
)
def test_tiles_of_equal_features_give_equal_bits_for_any_branches(branches, side, scale):
    lr = torch.rand(1, 3, 50, 101 if branches == 1 else 60)
    decoder = {"name": "lit", "branches": branches, "side": side, "base_dim": 8, "n_heads": 2, "hidden": [8]}
    whole = upscaler(decoder, tile="none").upscale(lr, scale)
    for tile in (48, 97) if branches == 1 else (48,):
        assert torch.equal(upscaler(decoder, tile=tile).upscale(lr, scale), whole)


def test_small_bands_change_no_more_than_rounding(monkeypatch):
    lr = torch.rand(1, 3, 40, 50)
    decoder = {"name": "lit", "branches": 2, "side": 3, "base_dim": 8, "n_heads": 2, "hidden": [8]}
    whole = upscaler(decoder).upscale(lr, 6.1)
    monkeypatch.setattr("srcli.engine.tiling.BAND_LR", 400)
    monkeypatch.setattr("srcli.engine.tiling.BAND_HR", 9000)
    assert (upscaler(decoder).upscale(lr, 6.1) - whole).abs().max() < 1e-5


@pytest.mark.parametrize("scale", [2, 3.3])
def test_the_first_lit_renders_parts_as_the_whole(scale):
    torch.manual_seed(1)
    decoder = scaled(LITFFT(in_dim=DIM, base_dim=8, n_heads=2, hidden=(8,)))
    size = Size(13, 14)
    feat, lr = inputs(*size)
    target = output_size(size, scale)
    frame = Frame.of_grid(lr, target)
    prepared = decoder.prepare(feat, lr, frame)
    whole = decoder.render(prepared, Grid.of(size, target))
    queried = decoder.query(prepared, queries(*target).expand(2, -1, -1))
    assert deviation(queried.transpose(1, 2).reshape(whole.shape), whole) < BOUND
    box = Box(target.h // 2, target.w // 2, target.h // 2 + 3, target.w)
    top, bottom = Axis(size.h, target.h, box.top, box.bottom).source(decoder.halo)
    left, right = Axis(size.w, target.w, box.left, box.right).source(decoder.halo)
    seen = (..., slice(top, bottom), slice(left, right))
    part = Frame(size, Box(top, left, bottom, right), frame.cell, target)
    rendered = decoder.render(
        decoder.prepare(feat[seen], lr[seen], part), Grid.of(size, target, box, origin=(top, left))
    )
    torch.testing.assert_close(rendered, whole[..., *box.slices], atol=5e-6, rtol=1e-6)
