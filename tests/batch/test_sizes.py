from decimal import ROUND_HALF_EVEN, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srcli.batch.sizes import Paper, parse_paper, parse_pixels, parse_scale, size_rule
from srcli.errors import ResourceError, UsageError
from srcli.geometry import Size

PHOTO = Size(3000, 4000)
sides = st.integers(1, 20_000)
sizes = st.builds(Size, sides, sides)


def nearest(side: int, wanted: int, other: int) -> int:
    """side * wanted / other in decimal arithmetic, half to even."""
    exact = Decimal(side) * Decimal(wanted) / Decimal(other)
    return max(1, int(exact.to_integral_value(ROUND_HALF_EVEN)))


@pytest.mark.parametrize(
    ("text", "factor"), [("4.3", 4.3), ("4.3x", 4.3), ("430%", 4.3), ("1e1", 10), (" 2X ", 2), ("50 %", 0.5)]
)
def test_a_scale_is_a_factor_or_a_percentage(text, factor):
    assert parse_scale(text) == pytest.approx(factor, rel=1e-15)


@pytest.mark.parametrize(
    "text", ["0", "-2", "nan", "inf", "-inf", "1e400", "", "x", "4,3", "2:3", "0%", "four"]
)
def test_a_scale_that_is_no_factor_is_refused(text):
    with pytest.raises(UsageError, match=r"4\.3x or 430%"):
        parse_scale(text)


def test_a_fractional_scale_rounds_each_side():
    assert size_rule(scale="4.3").target(Size(37, 53)).size == (159, 228)
    assert size_rule(scale="4.3").target(Size(480, 333)).size == (2064, 1432)  # not int(): 1431


@given(size=sizes, width=sides)
def test_a_width_is_met_exactly_and_the_height_follows(size, width):
    target = size_rule(width=width).target(size)
    assert target.size == (nearest(size.h, width, size.w), width)
    assert target.scale == pytest.approx(width / size.w)


@given(size=sizes, height=sides)
def test_a_height_is_met_exactly_and_the_width_follows(size, height):
    assert size_rule(height=height).target(size).size == (height, nearest(size.w, height, size.h))


@given(size=sizes, side=sides)
def test_max_side_and_short_side_meet_their_side(size, side):
    assert max(size_rule(max_side=side).target(size).size) == side
    short = size_rule(short_side=side).target(size).size
    assert min(short) == side


@given(size=sizes, box=sizes)
def test_inside_fits_and_cover_covers(size, box):
    inside = size_rule(width=box.w, height=box.h).target(size).size
    assert inside.h <= box.h
    assert inside.w <= box.w
    assert inside.h == box.h or inside.w == box.w
    cover = size_rule(width=box.w, height=box.h, fit="cover").target(size).size
    assert cover.h >= box.h
    assert cover.w >= box.w
    assert size_rule(width=box.w, height=box.h, fit="exact").target(size).size == box


@given(size=st.builds(Size, st.integers(100, 9000), st.integers(100, 9000)), millions=st.floats(0.5, 400))
def test_megapixels_are_met_and_the_aspect_kept(size, millions):
    target = size_rule(megapixels=millions).target(size).size
    assert target.h * target.w / 1e6 == pytest.approx(millions, rel=0.02)
    assert abs(target.h - target.w * size.h / size.w) <= 1 + size.h / size.w


def test_a_print_is_turned_to_match_the_picture():
    rule = size_rule(paper="30x40cm@300dpi")
    upright, wide = rule.target(Size(4000, 3000)), rule.target(PHOTO)
    assert upright.size == (4724, 3543)  # 40 cm and 30 cm at 300 dpi
    assert wide.size == (3543, 4724)
    assert wide.dpi == 300


@pytest.mark.parametrize(
    ("text", "paper"),
    [
        ("30x40cm@300dpi", Paper(30, 40, "cm", 300)),
        ("8.5x11in@150", Paper(8.5, 11, "in", 150)),
        ("210x297mm", Paper(210, 297, "mm", 300)),
    ],
)
def test_a_print_has_units_and_a_resolution(text, paper):
    assert parse_paper(text) == paper


@pytest.mark.parametrize("text", ["30x40", "30cm", "0x40cm", "30x40cm@0dpi", "30x40m", "axbcm", ""])
def test_a_print_without_an_extent_is_refused(text):
    with pytest.raises(UsageError, match="30x40cm@300dpi"):
        parse_paper(text)


def test_only_enlarge_leaves_large_pictures_and_only_shrink_small_ones():
    larger = size_rule(width=2000, only_enlarge=True).target(PHOTO)
    assert larger.kept
    assert larger.size == PHOTO
    assert size_rule(width=5000, only_enlarge=True).target(PHOTO).size.w == 5000
    smaller = size_rule(max_side=5000, only_shrink=True).target(PHOTO)
    assert smaller.kept
    assert smaller.size == PHOTO
    assert not size_rule(max_side=4000, only_shrink=True).target(PHOTO).kept


def test_a_size_beyond_all_numbers_is_a_matter_of_resources():
    assert size_rule(scale="1e9").target(Size(480, 640)).size == (480 * 10**9, 640 * 10**9)
    with pytest.raises(ResourceError):
        size_rule(scale="1e308").target(Size(480, 640))


@pytest.mark.parametrize(
    ("text", "count"), [("500M", 500_000_000), ("4G", 4 * 10**9), ("12", 12), ("1.5 Mp", 1_500_000)]
)
def test_pixel_counts_have_prefixes(text, count):
    assert parse_pixels(text, "--max-input-pixels") == count


@pytest.mark.parametrize("text", ["0", "-1", "many", "1T", "", "nan", "9" * 400])
def test_pixel_counts_that_are_none_are_refused(text):
    with pytest.raises(UsageError, match="--max-input-pixels"):
        parse_pixels(text, "--max-input-pixels")
