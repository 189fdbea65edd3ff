"""Which branch answered where."""

import numpy as np
import pytest

from srcli.engine.branch_map import KINDS, PUBLISHED, Choices, Selection, kinds, shares, summary
from srcli.geometry import Size
from tests.helpers.rendering import GrayPicture


def halves(h=24, w=60):
    """Flat on the left, an edge in the middle, noise on the right."""
    luma = np.full((h, w), 0.2, np.float32)
    luma[:, w // 2 - 10 :] = 0.8
    luma[:, w // 2 + 6 :] += np.random.default_rng(0).normal(0, 0.15, (h, w - w // 2 - 6))
    return GrayPicture(luma)


def test_choices_are_counted_and_sum_to_a_hundred_percent():
    rng = np.random.default_rng(1)
    scores = rng.normal(size=(4, 9, 7)).astype(np.float32)
    selection = Selection(Size(9, 7), ("f", "p", "pf", "fp"), keep_scores=True)
    for top, bottom in ((0, 4), (4, 5), (5, 9)):
        selection.add(top, scores[:, top:bottom])
    assert np.array_equal(selection.scores, scores)
    best = [max(range(4), key=lambda n: scores[n, y, x]) for y in range(9) for x in range(7)]
    assert selection.counts() == {name: best.count(n) for n, name in enumerate(("f", "p", "pf", "fp"))}
    assert sum(selection.shares().values()) == pytest.approx(100)


def test_the_map_lies_over_the_result_in_colours_of_its_own():
    selection = Selection(Size(1, 2), ("f", "fp"))
    selection.add(0, np.array([[[1, 0]], [[0, 1]]], np.float32))
    over = selection.over(np.zeros((1, 2, 3), np.uint8))
    assert over.tolist() == [[[0, 57, 89], [0, 79, 58]]]  # half of #0072B2 and of #009E73
    assert "f #0072B2 (fidelity)" in selection.legend()


def test_flat_areas_edges_and_texture_are_told_apart():
    kind = kinds(halves())
    assert (kind[:, :14] == KINDS.index("flat")).all()
    assert (kind[:, 20] == KINDS.index("edge")).all()
    assert (kind[:, 42:] == KINDS.index("texture")).mean() > 0.9


def test_choices_by_kind_are_all_choices_and_follow_the_place():
    picture = halves()
    selection = Selection(Size(60, 150), ("f", "p"))
    scores = np.zeros((2, 60, 150), np.float32)
    scores[1, :, 90:] = 1  # the textured part
    selection.add(0, scores)
    found = selection.counts_by_kind(picture)
    assert sum(sum(each.values()) for each in found.values()) == 60 * 150
    assert found["flat"]["p"] == 0
    assert found["texture"]["p"] > 5 * found["texture"]["f"]


def test_the_summary_weighs_by_pixels_and_by_pictures_and_quotes_the_paper():
    def one(f, p):
        return {"flat": {"f": f, "p": 0}, "edge": {"f": 0, "p": p}, "texture": {"f": 0, "p": 0}}

    choices = [Choices("m", "Set5", 4.0, one(30, 10)), Choices("m", "Set5", 4.0, one(0, 360))]
    lines = {line["of"]: line for line in summary(choices)}
    assert lines["pixels"]["f"] == pytest.approx(7.5)
    assert lines["pictures"]["f"] == pytest.approx(37.5)
    assert lines["edge"]["part"] == pytest.approx(92.5)
    assert lines["texture"]["p"] == 0
    assert lines["published"]["fp"] == 41.15
    assert lines["pixels"]["pictures"] == 2


def test_published_shares_sum_to_a_hundred_percent():
    assert all(sum(each.values()) == pytest.approx(100, abs=0.02) for each in PUBLISHED.values())
    assert shares({"f": 0, "p": 0}) == {"f": 0.0, "p": 0.0}
