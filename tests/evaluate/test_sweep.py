"""Sweeping the temperature: rules, curves, what they cost, files, and presets with a recorded temperature."""

import csv
import io

import numpy as np
import pytest
import torch
from PIL import Image

from srcli.config.presets import load_preset
from srcli.config.temperature import choose
from srcli.data.benchmarks import Benchmark
from srcli.errors import UsageError
from srcli.evaluate.models import Interpolation, Network
from srcli.evaluate.panels import panels
from srcli.evaluate.pareto import axis
from srcli.evaluate.plots import sweep_picture
from srcli.evaluate.published import published
from srcli.evaluate.rows import Row, RowCache, csv_text, json_text, read_rows
from srcli.evaluate.run import Evaluation
from srcli.evaluate.sweep import (
    DEFAULT_RULE,
    Sweep,
    choice,
    csv_lines,
    curves,
    document,
    parse_rule,
    sweep,
    with_temperatures,
)
from srcli.metrics import METRICS, find_metrics
from srcli.weights.files import find, resolve
from tests.helpers.flow import TABLE, flow_model, save_flow

TAUS = [0, 0.25, 0.5, 1]


def smooth(h, w, seed):
    small = np.random.default_rng(seed).integers(0, 256, (h // 4, w // 4, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((w, h), Image.Resampling.BICUBIC))


@pytest.fixture(scope="module")
def few():
    return Benchmark("few", "liif-benchmark", arrays={"a": smooth(40, 36, 1), "b": smooth(36, 44, 2)})


@pytest.fixture(scope="module")
def rule():
    return parse_rule("spectrum@psnr>=-0.3dB")


@pytest.fixture(scope="module")
def result(few, rule):
    return sweep(flow_model(), [few], [2, 3.5], TAUS, rule=rule, metrics=["psnr", "diversity"], seeds=(0, 1))


# --- rules --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "metric", "limits"),
    [
        ("lpips", "lpips", []),
        ("lpips@psnr>=-0.3dB", "lpips", [("psnr", True, -0.3, True)]),
        (" NIQE @ psnr_y >= 27.5 @ diversity<=+2levels", "niqe", [("psnr-y", True, 27.5, False), ("diversity", False, 2.0, True)]),
        ("ssim@lr-psnr>=.5", "ssim", [("lr-psnr", True, 0.5, False)]),
    ],
)  # fmt: skip
def test_a_rule_is_read(text, metric, limits):
    found = parse_rule(text)
    assert found.metric is METRICS[metric]
    assert [(m.metric.name, m.lowest, m.value, m.relative) for m in found.limits] == limits
    assert found.is_relative == any(limit[3] for limit in limits)


@pytest.mark.parametrize(
    "text", ["", "lpisp", "lpips@", "lpips@psnr", "lpips@psnr>-1", "lpips@psnr>=abc", "lpips@nope>=1", "fid"]
)
def test_what_is_no_rule_is_refused(text):
    with pytest.raises(UsageError):
        parse_rule(text)


def test_a_rule_whose_metric_was_not_measured_recommends_nothing():
    drawn = curves(rows_of("s", 4, {0: (30.0, 9.0), 0.5: (29.9, 8.0)}))
    found = choice(parse_rule(DEFAULT_RULE), drawn, 4)
    assert (found.temperature, found.values, found.faithful) == (None, {}, {})


def rows_of(benchmark, scale, table):
    """One picture's rows: temperature -> (psnr, niqe)."""
    return [
        Row("m", benchmark, "a", scale, "rgb/1", temperature=t, seed=0, metrics={"psnr": p, "niqe": n})
        for t, (p, n) in table.items()
    ]


def test_a_rule_takes_the_best_within_its_limits_and_the_lower_of_equals():
    values = [(30.0, 8.0), (29.9, 5.0), (29.7, 4.0), (29.7, 4.0), (29.6, 2.0), (28.0, 1.0)]
    drawn = curves(rows_of("s", 4, dict(zip((0, 0.2, 0.4, 0.5, 0.6, 1), values, strict=True))))
    taken = {text: choice(parse_rule(text), drawn, 4).temperature for text in (
        "niqe", "niqe@psnr>=-0.3dB", "niqe@psnr>=-0.35", "niqe@psnr>=29.8", "psnr", "niqe@psnr>=31", "psnr@niqe<=-4",
    )}  # fmt: skip
    # -0.3 dB: 30 - 0.3 is 29.7, which binary fractions may miss by a rounding; both temperatures beside it are right
    assert taken.pop("niqe@psnr>=-0.3dB") in (0.2, 0.4)
    assert list(taken.values()) == [1, 0.4, 0.2, 0, None, 0.4]


def test_every_benchmark_counts_alike_and_every_scale_for_itself():
    rows = rows_of("s", 4, {0: (30, 9.0), 0.5: (29, 5.0), 1: (28, 6.0)})
    rows += rows_of("t", 4, {0: (30, 9.0), 0.5: (29, 7.0), 1: (28, 2.0)})
    rows += rows_of("s", 2, {0: (30, 1.0), 0.5: (29, 5.0), 1: (28, 6.0)})
    rule, drawn = parse_rule("niqe"), curves(rows)
    assert [choice(rule, drawn, s).temperature for s in (4, 2)] == [1, 0]
    assert choice(rule, drawn, 4).values["niqe"] == 4
    assert choice(rule, drawn, 4).faithful["niqe"] == 9


# --- curves -------------------------------------------------------------------------------------------------------


def test_each_point_of_a_curve_is_the_picture_that_direct_sampling_gives(few, result):
    upscaler = flow_model().upscaler
    hr = few.arrays["b"][:35, :42]  # 44 // 3.5 is 12, 12 * 3.5 is 42
    lr = np.asarray(Image.fromarray(hr).resize((12, 10), Image.Resampling.BICUBIC))
    x = torch.tensor(lr).permute(2, 0, 1)[None].float() / 255
    for tau in TAUS:
        sr = upscaler.upscale(x, 3.5, temperature=tau, seed=1)[0].permute(1, 2, 0).double().numpy()
        error = np.mean((sr - hr / 255)[4:-4, 4:-4] ** 2)
        wanted = (3.5, "b", tau, 1)
        found = [r for r in result.found.rows if (r.scale, r.image, r.temperature, r.seed) == wanted]
        assert found[0].metrics["psnr"] == pytest.approx(
            -10 * np.log10(error), abs=1e-4
        )  # colours agree to 1e-5


def test_every_temperature_is_measured_with_the_same_seeds(result):
    assert len(result.found.rows) == 2 * 2 * len(TAUS) * 2
    for tau in TAUS:
        assert {r.seed for r in result.found.rows if r.temperature == tau} == {0, 1}


def test_diversity_grows_with_the_temperature_from_nothing(result):
    spread = [mean.row.metrics["diversity"] for mean in result.curves[0].points]
    assert spread[0] == 0
    assert spread == sorted(spread)
    assert spread[-1] > 1


class Counted:
    """Counts the renders of an upscaler."""

    def __init__(self, upscaler):
        self._upscaler = upscaler
        self.renders = 0

    def __getattr__(self, name):
        return getattr(self._upscaler, name)

    def affine(self, *args, **options):
        self.renders += 1
        return self._upscaler.affine(*args, **options)

    def upscale(self, *args, **options):
        self.renders += 1
        return self._upscaler.upscale(*args, **options)


def test_twenty_one_temperatures_cost_no_more_renders_than_two(few, rule):
    renders = []
    for temperatures in ([0, 1], [n / 20 for n in range(21)]):
        counted = Counted(flow_model().upscaler)
        sweep(Network(counted), [few], [2], temperatures, rule=parse_rule("psnr"), seeds=(0, 1))
        renders.append(counted.renders)
    assert renders == [4, 4]  # two pictures, two seeds


def test_an_interrupted_sweep_continues_where_it_stopped(few, rule, tmp_path):
    def interrupted(outcome, done, total):
        if outcome.image == "b" and outcome.temperature == 0.25:
            raise KeyboardInterrupt

    options = {"rule": rule, "seeds": (0, 1), "cache": RowCache(tmp_path)}
    model = flow_model("f" * 64)
    with pytest.raises(KeyboardInterrupt):
        sweep(model, [few], [2], TAUS, report=interrupted, **options)
    again = sweep(model, [few], [2], TAUS, **options)
    assert again.found.cached == 8 + 3  # all of the first picture, three of the second
    fresh = sweep(flow_model("f" * 64), [few], [2], TAUS, rule=rule, seeds=(0, 1))
    assert csv_lines(again.found) == csv_lines(fresh.found)


def test_a_sweep_needs_two_temperatures_with_zero_among_them_and_a_model_that_draws(few, rule):
    with pytest.raises(UsageError, match="two temperatures"):
        sweep(flow_model(), [few], [2], [0.5, 0.5], rule=rule)
    with pytest.raises(UsageError, match="temperature 0"):
        sweep(flow_model(), [few], [2], [0.5, 1], rule=rule)
    with pytest.raises(UsageError, match="no temperature"):
        sweep(Interpolation("bicubic"), [few], [2], [0, 1], rule=rule)


def test_a_picture_that_fails_is_left_out_at_every_temperature(few, rule):
    small = Benchmark(
        "few", "liif-benchmark", arrays={**few.arrays, "c": smooth(8, 8, 3)}
    )  # too small for SSIM
    found = sweep(flow_model(), [small], [2], TAUS, rule=parse_rule("ssim"), seeds=(0,))
    assert [failure.image for failure in found.found.failures] == ["c"]
    assert {row.image for row in found.found.rows} == {"a", "b"}


# --- files --------------------------------------------------------------------------------------------------------


def test_csv_has_the_columns_that_are_promised(result):
    lines = list(csv.DictReader(io.StringIO(csv_text(csv_lines(result.found)))))
    head = ["preset", "benchmark", "image", "scale", "temperature", "seed"]
    assert list(lines[0]) == [*head, "psnr", "diversity", "spectrum"]
    first = result.found.rows[0]
    assert lines[0]["preset"] == "tiny-flow"
    assert float(lines[0]["psnr"]) == first.metrics["psnr"]


def test_pareto_reads_json_with_the_choice_and_csv_of_an_unstated_protocol(result, tmp_path):
    path = tmp_path / "sweep.json"
    path.write_text(json_text(document(result)))
    stated = read_rows(path)
    found = panels(stated, axis("psnr"), axis("spectrum"))
    assert len(found) == 2
    assert [point.temperature for point in found[0].points] == TAUS
    assert document(result)["recommended"][0]["temperature"] == result.recommended[2]
    path = tmp_path / "sweep.csv"
    path.write_text(csv_text(csv_lines(result.found)))
    rows = read_rows(path)
    assert {row.protocol for row in rows} == {"unstated"}
    assert [row.metrics for row in rows] == [row.metrics for row in stated]


def test_the_picture_shows_the_published_points_of_tables_with_both_metrics():
    rule = parse_rule("lpips")
    rows = [
        Row("edsr-baseline-linf", "Set5", "a", 4, "liif-benchmark/1", temperature=t, seed=0, family="flow",
            metrics={"psnr-y": 32 - t, "lpips": 0.2 - t / 10})
        for t in (0, 0.5, 1)
    ]  # fmt: skip
    drawn = curves(rows)
    found = Evaluation(rows, metrics=find_metrics(["psnr-y", "lpips"]))
    swept = Sweep(found, rule, drawn, [choice(rule, drawn, 4)])
    panel = swept.panels(published())[0]
    assert (panel.x.name, panel.y.name) == ("psnr-y", "lpips")
    points = {p.label: (p.x, p.y) for p in panel.published}
    assert points["EDSR-baseline LINF t=0.5"] == (31.00, 0.087)  # LINF, Table 1
    svg = sweep_picture(swept, "svg", figures=published()).decode()
    assert "EDSR-baseline LINF t=0.5" in svg
    assert "chosen by the rule" in svg


def test_a_picture_of_two_scales_is_a_png_with_a_panel_each(result):
    with Image.open(io.BytesIO(sweep_picture(result, "png", dpi=50))) as image:
        assert image.width > 1.8 * image.height


# --- presets ------------------------------------------------------------------------------------------------------

COMMENTED = """# a flow of ours
title = "Tiny flow"          # as printed

[encoder]
name = "edsr"
n_resblocks = 1
n_feats = 8
mean_shift = false

[decoder]
name = "linf"
patch = 3
hidden_dim = 8
hidden = [16, 16]

[temperature]                # by an earlier sweep
scales = {"2" = 0.9, "8" = 0.3}
"""


def test_a_copied_preset_keeps_its_comments_and_uses_the_new_temperatures(tmp_path):
    save_flow(tmp_path / "mine.safetensors")
    original = tmp_path / "mine.toml"
    original.write_text(COMMENTED + '\n[weights]\nfile = "mine.safetensors"   # beside this\n')
    preset = load_preset(original)
    target = tmp_path / "elsewhere" / "copy.toml"
    target.parent.mkdir()
    target.write_text(with_temperatures(preset, target, {4.0: 0.55, 2.0: 0.7}))
    copy = load_preset(target)
    assert [choose(copy, scale).value for scale in (2, 4, 8)] == [0.7, 0.55, 0.3]
    assert choose(copy, 3).value == pytest.approx(0.625)
    text = target.read_text()
    assert all(words in text for words in ("# a flow of ours", "# as printed", "# by an earlier sweep"))
    assert find(copy).samefile(tmp_path / "mine.safetensors")
    assert copy.decoder == preset.decoder


def test_a_preset_from_a_weights_file_becomes_a_preset_file_that_finds_it(tmp_path):
    (tmp_path / "w").mkdir()
    save_flow(tmp_path / "w" / "flow.safetensors")
    preset = resolve(tmp_path / "w" / "flow.safetensors")
    target = tmp_path / "flow.toml"
    target.write_text(with_temperatures(preset, target, {4.0: 0.4}))
    copy = load_preset(target)
    assert find(copy).samefile(tmp_path / "w" / "flow.safetensors")
    assert copy.encoder.args == {k: v for k, v in TABLE["encoder"].items() if k != "name"}
    assert choose(copy, 4).value == 0.4


def test_a_preset_written_over_itself_changes_in_its_temperatures_only(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(COMMENTED)
    text = with_temperatures(load_preset(path), path, {8.0: 0.1})
    changed = [(a, b) for a, b in zip(COMMENTED.splitlines(), text.splitlines(), strict=True) if a != b]
    assert [a for a, _ in changed] == ['scales = {"2" = 0.9, "8" = 0.3}']
