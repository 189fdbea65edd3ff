"""Every decoder: the fast forms equal the plain one, for any scale, band, box and coordinate."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from srcli.geometry import Grid, Size, output_size
from srcli.models.sr import Frame
from tests.helpers.decoders import CASES, build, check_bfloat16, check_halo, check_parts, inputs, prepare
from tests.reference.deviation import deviation, gradient_deviation
from tests.reference.sampling import lr_size, queries

SCALES = [0.6, 1, 1.5, 2, 2.5, 3.3, 4, 17, (2.5, 4.0), (1.7, 1.0)]
FEW = [0.6, 3.3, (2.5, 4.0)]  # for variants, whose coordinates are those of the decoder itself
MAIN = [case for case in CASES if "," not in case]
every_case = pytest.mark.parametrize("case", CASES)
LOCAL = [case for case in CASES if build(case).local]


def check(case, decoder, feat, lr, target, cell_clip, bound):
    """That `render` and `query` give the plain form's picture."""
    frame = Frame.of_grid(lr, target, cell_clip=cell_clip)
    coord = queries(*target).expand(len(lr), -1, -1)
    with torch.no_grad():
        prepared = prepare(decoder, feat, lr, frame)
        expected = CASES[case].plain(decoder, feat, lr, coord, frame.cell.expand(len(lr), 2))
        assert deviation(decoder.query(prepared, coord), expected) < bound
        rendered = decoder.render(prepared, Grid.of(frame.size, target)).flatten(2).transpose(1, 2)
        assert deviation(rendered, expected) < bound


@pytest.mark.parametrize(
    ("case", "scale"),
    [(case, scale) for case in CASES for scale in (SCALES if case in MAIN else FEW)],
    ids=str,
)
def test_render_and_query_equal_the_plain_form(case, scale):
    size = lr_size(scale)
    *_, bound, cell_clip = CASES[case]
    check(case, build(case), *inputs(*size), output_size(size, scale), cell_clip, bound)


@pytest.mark.parametrize("case", [*MAIN, "liif, nearest", "lm-liif, nearest", "lit, ensemble", "lit, 1x1"])
def test_more_than_is_worked_on_at_once_changes_nothing(case):
    w = 42 if build(case).local else 84  # beyond 96 pixels of a side, 2048 and 4096 queries, 8192 LR pixels
    check(case, build(case), *inputs(99, w, batch=1), Size(125, 3 * w // 2), None, 5e-5)


@every_case
@settings(deadline=None, max_examples=8)
@given(st.integers(2, 12), st.integers(2, 12), st.integers(0, 2**16))
def test_query_equals_the_plain_form_at_scattered_coordinates_with_a_cell_per_image(case, h, w, seed):
    decoder = build(case)
    feat, lr = inputs(h, w)
    rng = torch.Generator().manual_seed(seed)
    coord = torch.rand(2, 40, 2, generator=rng) * 2 - 1
    cell = (2 / torch.tensor([h, w])) / (1 + 2.9 * torch.rand(2, 2, generator=rng))
    with torch.no_grad():
        found = decoder.query(decoder.prepare(feat, lr, Frame.whole(lr, cell)), coord)
        expected = CASES[case].plain(decoder, feat, lr, coord, cell)
    assert deviation(found, expected) < CASES[case].bound


@every_case
def test_gradients_equal_those_of_the_plain_form(case):
    decoder = build(case)
    feat, lr = inputs(5, 6)
    feat.requires_grad_()
    coord, cell = torch.rand(2, 60, 2) * 2 - 1, torch.tensor([[2 / 85, 2 / 102]]).expand(2, 2)  # three stages
    wanted = [feat, *decoder.parameters()]
    fast = decoder.query(prepare(decoder, feat, lr, Frame.whole(lr, cell)), coord)
    slow = CASES[case].plain(decoder, feat, lr, coord, cell)
    assert gradient_deviation(fast, slow, wanted) < CASES[case].bound


@every_case
@pytest.mark.parametrize("scale", [2, (1.7, 4.6), 6.3], ids=str)
def test_bands_and_boxes_of_the_image_render_as_the_whole(case, scale):
    check_parts(build(case), scale, CASES[case].bound)


@pytest.mark.parametrize("case", LOCAL)
@settings(deadline=None, max_examples=8)
@given(st.floats(-1, 1), st.floats(-1, 1), st.sampled_from([1, 2.3, 6.5, 18]))
def test_answers_depend_on_nothing_beyond_the_halo(case, y, x, scale):
    check_halo(build(case), y, x, scale)


@every_case
def test_bfloat16_features_give_float32_colours_nearby(case):
    check_bfloat16(build(case))


@pytest.mark.parametrize("case", ["metasr", "ciaosr", "thera"])
def test_a_grid_with_two_cells_is_refused(case):
    decoder = build(case)
    feat, lr = inputs(6, 6)
    prepared = decoder.prepare(feat, lr, Frame.whole(lr, torch.tensor([[0.1, 0.1], [0.1, 0.2]])))
    with pytest.raises(ValueError, match="one cell"):
        decoder.render(prepared, Grid.of(Size(6, 6), Size(12, 12)))


@pytest.mark.parametrize("case", MAIN)
def test_gradients_through_a_grid_are_those_through_its_points(case):
    decoder, (feat, lr) = build(case), inputs(4, 5, batch=1)
    feat, target = feat.requires_grad_(), Size(7, 9)
    ways = [prepare(decoder, feat, lr, Frame.of_grid(lr, target)) for _ in range(2)]
    rendered = decoder.render(ways[0], Grid.of(Size(4, 5), target)).flatten(2).transpose(1, 2)
    assert gradient_deviation(rendered, decoder.query(ways[1], queries(*target)), [feat]) < 1e-4
