"""FPLIA's decoder: its two ways of asking agree, tiles do not show, and choosing does what it says."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from srcli.geometry import Box, Grid, Size
from srcli.models.decoders.lia import BRANCHES, LIA, SELECTED, LIAField
from srcli.models.layers import bilinear_at, grid_coord
from srcli.models.sr import Frame
from tests.benchmarks.lia_ablations import AblatedLIA

LR = Size(9, 7)
TARGET = Size(25, 30)
SMALL = {"dim": 8, "n_heads": 2, "radius": 1, "hidden": (12,)}


def small(**args: object) -> LIA:
    torch.manual_seed(1)
    made = AblatedLIA if {"select", "attention"} & set(args) else LIA
    decoder = made(in_dim=9, perc_dim=4, **{**SMALL, **args}).eval()  # type: ignore[arg-type]
    with torch.no_grad():
        for weight in (p for p in decoder.parameters() if p.ndim == 4):
            weight *= (
                3  # fresh weights hardly differ from pixel to pixel, and one branch would win everywhere
            )
    return decoder


def asked(decoder: LIA, target: Size = TARGET, batch: int = 2) -> tuple[LIAField, Grid, Tensor]:
    torch.manual_seed(2)
    feat, lr = torch.randn(batch, 9, *LR), torch.randn(batch, 3, *LR)
    grid = Grid.of(LR, target)
    return (
        decoder.prepare(feat, lr, Frame.of_grid(lr, target)),
        grid,
        grid_coord(grid, lr).expand(batch, -1, -1),
    )


def as_image(colours: Tensor, grid: Grid) -> Tensor:
    return colours.transpose(1, 2).unflatten(2, grid.size)


FORMS = {
    "published": {},
    "of the paper": {"variant": "paper", "radius": 2},
    "two branches": {"branches": ("fp", "f")},
    "one branch": {"branches": ("p",)},
    "by channel": {"select": "channel"},
    "joined": {"select": "concat"},
    "modulated": {"select": "sft"},
    "without attention": {"attention": "liif"},
}


@pytest.mark.parametrize("form", FORMS)
@torch.no_grad()
def test_a_rendered_rectangle_equals_its_queries(form):
    decoder = small(**FORMS[form])
    prepared, grid, coord = asked(decoder)
    rendered = decoder.render(prepared, grid)
    torch.testing.assert_close(rendered, as_image(decoder.query(prepared, coord), grid), rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_rectangle_of_a_tile_equals_the_picture():
    decoder = small()
    torch.manual_seed(2)
    feat, lr, target = torch.randn(1, 9, 9, 20), torch.randn(1, 3, 9, 20), Size(25, 53)
    frame = Frame.of_grid(lr, target)
    whole = decoder.render(decoder.prepare(feat, lr, frame), Grid.of(frame.size, target))
    out = Box(3, 24, 25, 31)
    box = Box(0, 4, 9, 17)
    grid = Grid.of(frame.size, target, out, (box.top, box.left))
    assert grid.cols.source(decoder.halo) == (box.left + 2, box.right - 2)
    cut = (slice(None), slice(None), *box.slices)
    tile = decoder.render(decoder.prepare(feat[cut], lr[cut], replace(frame, box=box)), grid)
    torch.testing.assert_close(tile, whole[(..., *out.slices)], rtol=0, atol=1e-5)


@torch.no_grad()
def test_the_branch_with_the_highest_vote_answers():
    decoder = small()
    prepared, grid, coord = asked(decoder)
    colours, scores = decoder.render_chosen(prepared, grid)
    answers = decoder.answers(prepared, coord, decoder.branches)
    images = torch.stack([as_image(answers[name], grid) for name in decoder.branches])
    winner = scores.argmax(1)
    assert len(winner.unique()) > 1, "the test needs several winners"
    best = images.gather(0, winner[None, :, None].expand(1, -1, 3, -1, -1))[0]
    torch.testing.assert_close(colours, best, rtol=0, atol=1e-5)


@torch.no_grad()
def test_one_branch_of_a_full_model_is_shown_alone():
    decoder = small()
    prepared, grid, coord = asked(decoder)
    for name in decoder.branches:
        view = decoder.branch(name)
        assert view.halo == decoder.halo
        image = as_image(decoder.answers(prepared, coord, (name,))[name], grid)
        torch.testing.assert_close(view.render(prepared, grid), image, rtol=0, atol=1e-5)
        assert torch.equal(view.query(prepared, coord), decoder.answers(prepared, coord, (name,))[name])


@torch.no_grad()
def test_a_branch_has_the_same_keys_and_answer_in_a_model_of_its_own():
    decoder = small()
    alone = LIA(in_dim=5, branches=("f",), **SMALL).eval()  # type: ignore[arg-type]
    own = alone.state_dict()
    state = decoder.state_dict()
    assert set(own) < set(state)
    alone.load_state_dict({key: state[key] for key in own})
    prepared, _, coord = asked(decoder)
    feat = torch.randn(2, 9, *LR, generator=torch.Generator().manual_seed(3))
    frame = prepared.frame
    expected = decoder.answers(decoder.prepare(feat, prepared.lr, frame), coord, ("f",))["f"]
    answer = alone.query(alone.prepare(feat[:, :5], prepared.lr, frame), coord)
    torch.testing.assert_close(answer, expected, rtol=0, atol=1e-6)


def test_training_draws_the_selection_and_passes_gradients_to_every_branch():
    decoder = small().train()
    prepared, _, coord = asked(decoder)
    torch.manual_seed(5)
    first = decoder.answers(prepared, coord, (*decoder.branches, SELECTED))
    again = decoder.answers(prepared, coord, (SELECTED,))[SELECTED]
    assert not torch.equal(first[SELECTED], again)
    parts = torch.stack([first[name] for name in decoder.branches])
    nearest = (parts - first[SELECTED]).abs().amax(-1).amin(0)
    assert nearest.max() < 1e-5, "forward, one branch answers"
    again.square().mean().backward()
    for name in decoder.branches:
        assert decoder.features[name].weight.grad.abs().max() > 0
        assert decoder.confidence[name].weight.grad.abs().max() > 0


def test_training_on_the_paper_mixes_the_branches():
    decoder = small(variant="paper").train()
    decoder.temperature.fill_(3)
    prepared, _, coord = asked(decoder)
    answers = decoder.answers(prepared, coord, (*decoder.branches, SELECTED))
    parts = torch.stack([answers[name] for name in decoder.branches])
    assert (parts - answers[SELECTED]).abs().amax(-1).amin(0).max() > 1e-3


def test_a_cold_temperature_selects_by_the_score_alone():
    decoder = small(variant="paper").train()
    scores = torch.tensor([[[0.0, 2.0, 1.0, -1.0]]])
    features = [torch.full((1, 1, 8), float(i)) for i in range(4)]
    decoder.temperature.fill_(1e-3)
    mixed = decoder.mixed(features, scores, torch.zeros(1, 1, 4))
    torch.testing.assert_close(mixed, features[1])


def test_the_temperature_is_kept_with_the_weights():
    decoder = small()
    decoder.temperature.fill_(0.25)
    other = small()
    other.load_state_dict(decoder.state_dict())
    assert other.temperature == 0.25


@torch.no_grad()
def test_beyond_the_picture_keys_have_no_content_and_values_are_zero():
    """Slow and literal, at a corner: the softmax counts keys outside, whose logit is the bias alone."""
    decoder = small(branches=("fp",))
    prepared, _, _ = asked(decoder, batch=1)
    coord = torch.tensor([[[-0.98, -0.95]]])  # within the first pixel
    p, frame = coord[0, 0], prepared.frame
    maps = {
        key: layer(prepared.streams[s])[0]
        for (key, layer), s in zip(decoder.convs.items(), ("fid", "perc", "perc"), strict=True)
    }
    centre = torch.tensor([-1 + 1 / LR.h, -1 + 1 / LR.w])
    half = (p - centre) * torch.tensor([*LR]) / 2  # in pixels, negative: partly outside
    q = maps["fp_q"][:, 0, 0] * (1 + half[0]) * (1 + half[1])
    logits, values = [], []
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            inside = dy >= 0 and dx >= 0
            key = maps["fp_k"][:, dy, dx] if inside else torch.zeros(8)
            value = maps["fp_v"][:, dy, dx] if inside else torch.zeros(8)
            offset = (half - torch.tensor([dy, dx])) * 2
            bias = decoder.position.along(offset[:1], 0)[0] + decoder.position.along(offset[1:], 1)[0]
            logits.append((q * key).view(2, 4).sum(1) / 2 + bias)
            values.append(value.view(2, 4))
    weights = torch.stack(logits).softmax(0)
    joined = (torch.stack(values) * weights[..., None]).flatten()
    feature = decoder.features["fp"](torch.cat([joined, frame.rel_cell[0]]))
    colour = decoder.mlp(decoder.norm(feature)) + bilinear_at(prepared.lr, coord)[0, 0]
    torch.testing.assert_close(decoder.query(prepared, coord)[0, 0], colour, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"branches": ("f", "q")}, "some of f, p, pf, fp"),
        ({"branches": ()}, "some of f, p, pf, fp"),
        ({"n_heads": 3}, "3 heads of 8 channels"),
        ({"radius": 0}, "radius 0"),
        ({"perc_dim": 0}, "need features for 'perc'"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(args, message):
    with pytest.raises(ValueError, match=message):
        LIA(**{"in_dim": 9, "perc_dim": 4, **SMALL, **args})


def test_an_unknown_branch_is_refused():
    decoder = small(branches=("f", "p"))
    prepared, grid, coord = asked(decoder)
    for ask in (
        decoder.branch,
        lambda n: decoder.answers(prepared, coord, (n,)),
        lambda n: decoder.render_chosen(prepared, grid, n),
    ):
        with pytest.raises(ValueError, match="no branch 'fp': there are f, p"):
            ask("fp")


def test_a_decoder_that_mixes_has_no_map_of_choices():
    decoder = small(select="concat")
    prepared, grid, _ = asked(decoder)
    assert not decoder.selects
    assert decoder.render_chosen(prepared, grid).scores is None


def test_branches_are_in_the_order_of_the_votes():
    assert small(branches=("fp", "p", "f")).branches == ("f", "p", "fp")
    assert tuple(BRANCHES) == ("f", "p", "pf", "fp")
