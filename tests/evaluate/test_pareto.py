"""Fronts against brute force, what may share a panel, and the files that come out."""

import json
import math
import random
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from srcli.errors import UsageError
from srcli.evaluate.panels import panels, published_points
from srcli.evaluate.pareto import (
    Panel,
    Point,
    axis,
    curves,
    document,
    dominates,
    front,
    hypervolume,
    panel_table,
    point_tables,
)
from srcli.evaluate.published import Figure
from srcli.evaluate.rows import Row

PSNR, LPIPS = axis("psnr"), axis("lpips")
few = st.integers(0, 6).map(float)  # few values, so that ties and equal points are common
clouds = st.lists(st.tuples(few, few), min_size=1, max_size=25)


def slow_front(gains):
    """Every pair, by the definition."""

    def beaten(a):
        return any(b[0] >= a[0] and b[1] >= a[1] and (b[0] > a[0] or b[1] > a[1]) for b in gains)

    return {i for i, a in enumerate(gains) if not beaten(a)}


def slow_area(gains, origin):
    """Unit cells of an integer grid that some point covers."""
    cells = range(-2, 8)
    return sum(
        any(x + 1 <= a[0] and y + 1 <= a[1] for a in gains)
        for x in cells
        for y in cells
        if x >= origin[0] and y >= origin[1]
    )


@given(clouds)
def test_the_front_is_what_comparing_every_pair_leaves(gains):
    assert front(gains) == slow_front(gains)


@given(clouds)
def test_no_point_of_the_front_is_dominated_and_every_other_is_by_one_of_it(gains):
    kept = front(gains)
    for i, a in enumerate(gains):
        by = [k for k in kept if dominates(gains[k], a)]
        assert bool(by) != (i in kept)


@given(clouds, st.randoms(use_true_random=False))
def test_the_order_of_points_does_not_matter(gains, order):
    shuffled = list(gains)
    order.shuffle(shuffled)
    assert sorted(gains[i] for i in front(gains)) == sorted(shuffled[i] for i in front(shuffled))


@given(clouds)
def test_the_front_of_a_front_is_itself(gains):
    kept = [gains[i] for i in sorted(front(gains))]
    assert front(kept) == set(range(len(kept)))


@given(clouds, st.tuples(st.integers(-2, 6), st.integers(-2, 6)))
def test_the_hypervolume_is_the_area_counted_cell_by_cell(gains, origin):
    assert hypervolume(gains, origin) == slow_area(gains, origin)


def row(model, psnr, lpips, *, image="a", **other):
    fields = {"benchmark": "Set5", "scale": 4.0, "protocol": "liif-benchmark/1"} | other
    return Row(model, image=image, metrics={"psnr": psnr, "lpips": lpips}, **fields)


def only(rows, **options):
    (panel,) = panels(rows, PSNR, LPIPS, **options)
    return panel


def test_each_metric_is_better_in_its_own_direction():
    panel = only(
        [row("sharp", 25, 0.1), row("faithful", 28, 0.2), row("bad", 24, 0.3), row("so-so", 25, 0.15)]
    )
    assert [p.label for p in panel.front] == ["sharp", "faithful"]
    assert panel.dominated == {"bad": ["sharp", "faithful", "so-so"], "so-so": ["sharp"]}
    assert panel.worst == (24, 0.3)
    assert panel.hypervolume() == pytest.approx((25 - 24) * 0.2 + (28 - 25) * 0.1)
    assert panel.hypervolume((20, 0.5)) == pytest.approx(5 * 0.4 + 3 * 0.3)


def test_the_best_and_the_cheapest_make_a_front_of_time():
    rows = [replace(row(m, p, 1), seconds=s) for m, p, s in (("a", 30, 5), ("b", 29, 1), ("c", 28, 2))]
    (panel,) = panels(rows, PSNR, axis("seconds"))
    assert {p.label for p in panel.front} == {"a", "b"}


def test_a_front_never_reaches_across_benchmarks_scales_and_kinds_of_lr():
    rows = [
        row("a", 30, 0.1),
        row("a", 20, 0.5, benchmark="Set14"),
        row("a", 20, 0.5, scale=8.0),
        row("a", 20, 0.5, lr="made here (pillow-bicubic)"),
    ]
    found = panels(rows, PSNR, LPIPS)
    assert len(found) == 4
    assert all(len(panel.front) == 1 for panel in found)
    assert found[3].title == "Set5 x4, LR made here (pillow-bicubic)"


def test_points_are_means_over_pictures_with_their_intervals():
    rows = [row("a", p, 0.1, image=str(p)) for p in (20, 30, 40)]
    (point,) = only(rows, intervals=True).points
    assert (point.x, point.images) == (30, 3)
    assert point.x_interval[0] < 30 < point.x_interval[1]
    assert point.y_interval == pytest.approx((0.1, 0.1))


def test_unlike_protocols_are_refused_unless_told():
    rows = [row("a", 30, 0.1), row("b", 29, 0.1, protocol="classic-y/1")]
    with pytest.raises(UsageError, match=r"unlike protocols.*a.*classic-y/1: b.*--mix-protocols"):
        panels(rows, PSNR, LPIPS)
    assert only(rows, mix_protocols=True).protocols == ["liif-benchmark/1", "classic-y/1"]


def test_one_model_by_two_protocols_keeps_two_names():
    rows = [row("a", 30, 0.1), row("a", 29, 0.1, protocol="classic-y/1")]
    panel = only(rows, mix_protocols=True)
    assert [p.label for p in panel.points] == ["a (liif-benchmark/1)", "a (classic-y/1)"]


def test_a_metric_that_is_nan_is_refused_by_name():
    with pytest.raises(UsageError, match=r"lpips of broken on Set5 a at x4 is not a number"):
        panels([row("fine", 30, 0.1), row("broken", 30, math.nan)], PSNR, LPIPS)


def test_an_infinite_point_is_left_out_and_said():
    panel = only([row("same picture", math.inf, 0.0), row("a", 30, 0.1)])
    assert [p.label for p in panel.points] == ["a"]
    assert "same picture is left out: it is infinite" in panel.notes[0]


def test_only_pictures_that_every_model_has_count():
    rows = [row("a", 30, 0.1, image="one"), row("a", 10, 0.9, image="two"), row("b", 29, 0.2, image="one")]
    panel = only(rows)
    assert [p.x for p in panel.points] == [30, 29]
    assert panel.notes == ["means over the 1 pictures that every model was measured on"]


def test_models_without_a_common_picture_are_refused():
    with pytest.raises(UsageError, match=r"no picture was measured with every model \(a: 1, b: 1\)"):
        panels([row("a", 30, 0.1, image="one"), row("b", 29, 0.2, image="two")], PSNR, LPIPS)


def test_files_may_repeat_rows_and_hold_different_metrics_of_them():
    one, two = row("a", 30, 0.1), row("a", 30, 0.1)
    joined = [replace(one, metrics={"psnr": 30.0}), replace(two, metrics={"lpips": 0.1}), one]
    (point,) = only(joined).points
    assert (point.x, point.y, point.images) == (30, 0.1, 1)


def test_two_values_for_one_picture_are_said():
    panel = only([row("a", 30, 0.1), row("a", 31, 0.1)])
    assert panel.points[0].x == 31
    assert panel.notes == ["a psnr has two values for one picture; the later file counts"]


def test_other_weights_under_the_same_name_are_another_model():
    panel = only([row("a", 30, 0.1, weights="0123456789ab"), row("a", 31, 0.2, weights="ba9876543210")])
    assert [p.label for p in panel.points] == ["a@01234567", "a@ba987654"]


def test_what_lacks_a_metric_is_left_out_and_said_and_nothing_at_all_is_an_error():
    lacking = replace(row("b", 29, 0), metrics={"psnr": 29.0})
    panel = only([row("a", 30, 0.1), lacking])
    assert panel.notes == ["b is left out: it has no lpips"]
    with pytest.raises(UsageError, match=r"no row has both psnr and lpips.*They have psnr"):
        panels([lacking], PSNR, LPIPS)


def test_an_unknown_metric_is_answered_with_a_suggestion():
    with pytest.raises(UsageError, match=r"Did you mean 'lpips'"):
        axis("lpisp")
    assert axis("my_score:higher").higher_is_better
    with pytest.raises(UsageError, match=r"higher or lower"):
        axis("my-score:up")


def test_rows_that_differ_in_one_setting_form_curves():
    def at(t, n):
        return Point(f"{t} {n}", "linf", "flow", 1, 1, temperature=t, steps=n)

    grid = [at(t, n) for n in (30, 10) for t in (0.5, 0.0)]
    lines = [
        [p.label for p in line] for line in curves([*grid, Point("b", "bicubic", "interpolation", 1, 1)])
    ]
    assert sorted(lines) == sorted(
        [["0.0 30", "0.5 30"], ["0.0 10", "0.5 10"], ["0.0 10", "0.0 30"], ["0.5 10", "0.5 30"]]
    )


def figure(method, metric, value, **other):
    fields = {"source": "paper/1", "encoder": None, "variant": None, "benchmark": "DIV2K", "scale": 4.0}
    return Figure(method=method, metric=metric, value=value, temperature=None, **fields | other)


def test_published_points_need_both_metrics_of_the_same_set_and_protocol():
    panel = Panel(
        "DIV2K", 4.0, "given", PSNR, LPIPS, [Point("a", "a", "regression", 30, 0.1, "liif-div2k/1")]
    )
    figures = [
        figure("IDM", "psnr", 27.0),
        figure("IDM", "lpips", 0.2),
        figure("half", "psnr", 27.0),
        figure("elsewhere", "psnr", 27.0, benchmark="Set5"),
        figure("elsewhere", "lpips", 0.2, benchmark="Set5"),
        figure("border", "psnr", 27.0, source="linf/2"),  # its border is not that of the protocol
        figure("border", "lpips", 0.2, source="linf/2"),
        figure("IDM", "psnr", 27.0, source="survey/1"),  # the same figures again
        figure("IDM", "lpips", 0.2, source="survey/1"),
    ]
    (point,) = published_points(panel, figures)
    assert (point.label, point.family, point.source) == ("IDM", "diffusion", "paper/1")


def test_published_points_take_no_part_in_the_front():
    panel = only([row("a", 30, 0.1)])
    panel = replace(panel, published=[Point("IDM", "IDM", "diffusion", 99, 0, source="paper/1")])
    assert [p.label for p in panel.front] == ["a"]
    assert panel.dominated == {}
    lines = panel_table(panel).lines
    assert [line[-1] for line in lines] == ["on the front", "published (paper/1)"]


def sweep():
    random.seed(0)
    rows = []
    for name in "ab":
        for t in (0.0, 0.5, 1.0):
            made = [
                row("linf", 30 - t + i, 0.2 - t / 10, image=f"{name}{i}", temperature=t) for i in range(3)
            ]
            rows += [replace(r, family="flow", seconds=1.0, benchmark=name) for r in made]
        rows += [
            replace(row("bicubic", 27, 0.4, image=f"{name}{i}"), seconds=0.01, benchmark=name)
            for i in range(3)
        ]
    return panels(rows, PSNR, LPIPS, cost="seconds", intervals=True)


def test_pictures_are_drawn_in_every_format_and_are_repeatable():
    from srcli.evaluate.plots import pareto_picture

    found = sweep()
    svg = pareto_picture(found, "svg")
    png, pdf = (pareto_picture(found[:1], form) for form in ("png", "pdf"))
    assert png.startswith(b"\x89PNG")
    assert pdf.startswith(b"%PDF")
    words = "".join(ET.fromstring(svg).itertext())
    assert all(word in words for word in ("a x4", "b x4", "linf t=0", "bicubic", "flow", "s per picture"))
    assert pareto_picture(found, "svg") == svg


def test_published_points_are_drawn_hollow_with_their_source_below():
    from srcli.evaluate.plots import pareto_picture

    panel = only([row("a", 30, 0.1)])
    panel = replace(panel, published=[Point("IDM", "IDM", "diffusion", 29, 0.05, source="paper/1")])
    words = "".join(ET.fromstring(pareto_picture([panel], "svg", front=False)).itertext())
    assert "1 IDM (paper/1)" in words
    assert "front" not in words


def test_the_line_of_the_front_has_a_corner_between_neighbours():
    from srcli.evaluate.plots import front_line

    xs, ys = front_line(only([row("sharp", 25, 0.1), row("faithful", 28, 0.2), row("bad", 24, 0.3)]))
    assert list(zip(xs, ys, strict=True)) == [(25, 0.1), (25, 0.2), (28, 0.2)]  # up, then to the right


def test_operations_are_those_of_the_encoder_and_of_at_most_a_plain_decoder(tmp_path):
    from srcli.evaluate.cost import flops, flops_per_pixel

    path = tmp_path / "tiny.toml"
    path.write_text(
        'title = "tiny"\n[encoder]\nname = "edsr"\nn_resblocks = 1\nn_feats = 8\nmean_shift = false\n'
        '[decoder]\nname = "liif"\nhidden = [16]\n'
    )
    encoder = 9 * (3 * 8 + 3 * 8 * 8)  # weights of its convolutions: head, block, tail
    decoder = (9 * 8 + 4) * 16 + 16 * 3
    count = flops_per_pixel(str(path), 4.0)
    assert 2 * encoder / 16 + 2 * 16 * 3 < count <= 2 * encoder / 16 + 2 * decoder * 4
    assert flops_per_pixel("bicubic", 4.0) is None
    sized = replace(row(str(path), 30, 0.1), width=10, height=20)
    assert flops(sized) == count * 200
    assert flops(replace(sized, model=f"{path}+tta")) == 8 * count * 200
    assert flops(replace(sized, model=f"{path}+tta4")) == 4 * count * 200
    assert flops(replace(sized, width=None)) is None


def test_tables_json_and_csv_say_the_same():
    (panel, _) = sweep()
    whole = json.loads(json.dumps(document([panel])))
    (said,) = whole["panels"]
    table = panel_table(panel, hypervolume=True)
    assert [line[0] for line in table.lines[: len(said["front"])]] == said["front"]
    flat = point_tables([panel])
    assert [p["label"] for p in flat if not p["front"]] == list(said["dominated"]) == ["bicubic"]
    assert flat[-1]["dominated by"] == "linf t=0; linf t=0.5; linf t=1"
    assert f"hypervolume {said['hypervolume']:.4g}" in table.below[0]
    assert np.isclose(said["hypervolume"], panel.hypervolume())
