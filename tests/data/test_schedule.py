"""Schedules of scales: whose turn it is, what is drawn, and what is refused."""

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srcli.data.scale_schedule import ScaleSchedule
from srcli.errors import UsageError

LOW, HIGH = ((1.0, 4.0),), ((4.0, 12.0),)


def groups_of(text, steps, joins=()):
    schedule = ScaleSchedule.parse(text, joins)
    return [schedule.group(step, steps) for step in range(steps)]


@pytest.mark.parametrize("text", ["uniform 1:4", "1:4", "uniform"])
def test_uniform_has_one_group(text):
    assert set(groups_of(text, 10)) == {LOW}
    assert str(ScaleSchedule.parse(text)) == "uniform 1:4"


def test_alternate_takes_turns():
    assert groups_of("alternate 1:4|4:12", 5) == [LOW, HIGH, LOW, HIGH, LOW]


def test_cumulative_is_uniform_first_then_alternates():
    seen = groups_of("cumulative", 100)
    assert set(seen[:50]) == {LOW}
    assert Counter(seen[50:]) == {LOW: 25, HIGH: 25}
    assert groups_of("cumulative 1:4|4:12", 10, (0, 0.8)) == [LOW] * 8 + [HIGH, LOW]


def test_branches_join_one_by_one_and_the_newest_comes_first():
    one, two, three = ((1.0, 4.0),), ((1.0, 4.0),) * 2, ((1.0, 4.0), (1.0, 4.0), (1.0, 2.0))
    seen = groups_of("cumulative 1:4|1:4x1:4|1:4x1:4x1:2", 36, (0, 1 / 3, 2 / 3))
    assert seen[:12] == [one] * 12
    assert seen[12:24] == [two, one] * 6
    assert seen[24:] == [three, one, two] * 4


@given(step=st.integers(0, 500), seed=st.integers(0, 9))
def test_factors_stay_in_their_ranges_and_stages_lead_to_the_scale(step, seed):
    schedule = ScaleSchedule.parse("alternate 1:4x1:4x1:2|1:4")
    drawn = schedule.at(step, 1000, seed=seed, patch=48)
    if step % 2:
        assert drawn.scales == (1, 4)
        assert drawn.stages is None
        return
    low, high = drawn.scales
    assert low == high
    first, second = (stage.h / 48 for stage in drawn.stages)
    rounding = 0.5 / 48
    assert 1 - rounding <= first <= 4 + rounding
    assert 1 - 0.03 <= second / first <= 4 + 0.1
    assert 1 - 0.03 <= low / second <= 2 + 0.1
    assert drawn == schedule.at(step, 1000, seed=seed, patch=48)


def test_the_first_factor_gives_way_to_small_photos():
    schedule = ScaleSchedule.parse("alternate 2:4x2:4|1:4")
    plain = [schedule.at(step, 9, seed=0, patch=48) for step in range(0, 40, 2)]
    shrunk = [schedule.at(step, 9, seed=0, patch=48, largest=5) for step in range(0, 40, 2)]
    assert max(p.scales[0] for p in plain) > 8
    assert all(s.scales[0] == pytest.approx(min(p.scales[0], 5)) for p, s in zip(plain, shrunk, strict=True))
    for p, s in zip(plain, shrunk, strict=True):  # the second factor is what it was
        second = [scales.scales[0] / (scales.stages[0].h / 48) for scales in (p, s)]
        assert second[0] == pytest.approx(second[1], rel=0.03)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("uniform 4:1", r"Did you mean 1:4\?"),
        ("4:1", r"Did you mean 1:4\?"),
        ("uniform 0.5:4", "begin at 1"),
        ("uniform 1:inf", "begin at 1"),
        ("uniform 1-4", "no range"),
        ("uniform 1:4|4:12", "one group"),
        ("alternate 1:4", "several"),
        ("alternating 1:4|4:12", "Did you mean 'alternate'"),
        ("", "no schedule"),
    ],
)
def test_what_is_no_schedule_is_refused_with_a_hint(text, message):
    with pytest.raises(UsageError, match=message):
        ScaleSchedule.parse(text)


@pytest.mark.parametrize("joins", [(0,), (0.1, 0.5), (0, 1), (0.5, 0.2), (0, 0.5, 0.6), (0, math.nan)])
def test_shares_rise_from_nothing_and_are_as_many_as_groups(joins):
    with pytest.raises(UsageError, match="shares"):
        ScaleSchedule.parse("cumulative 1:4|4:12", joins)
