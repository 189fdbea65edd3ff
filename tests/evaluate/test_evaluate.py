"""Evaluation as a library: rows, means, failures, cache, statistics, published figures."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from srcli.config.presets import load_preset, parse_preset
from srcli.data.benchmarks import Benchmark
from srcli.engine.upscaler import Upscaler
from srcli.errors import ImageError, ModelError, UsageError
from srcli.evaluate.cost import time_model
from srcli.evaluate.models import (
    Draw,
    Interpolation,
    Network,
    Result,
    SelfEnsemble,
    distinct_names,
    family_of,
    open_model,
)
from srcli.evaluate.published import References, published, published_kind, published_name, read_figures
from srcli.evaluate.report import Options, document, tables
from srcli.evaluate.rows import Row, RowCache, csv_text, jsonl_text, means, read_rows
from srcli.evaluate.run import evaluate
from srcli.evaluate.scoring import score_pictures
from srcli.evaluate.statistics import bootstrap, compare, gain, wilcoxon
from srcli.evaluate.tables import latex_text, markdown_text
from srcli.geometry import ROTATIONS, Size
from srcli.metrics import METRICS, Metric
from srcli.processes import Ranks
from srcli.weights.build import build
from tests.data.test_benchmarks import picture, put
from tests.helpers.presets import TINY


def smooth(h=48, w=40, seed=0):
    small = Image.fromarray(picture(h // 4, w // 4, seed))
    return np.asarray(small.resize((w, h), Image.Resampling.BICUBIC))


@pytest.fixture
def few():
    return Benchmark("few", "liif-benchmark", arrays={"a": smooth(seed=1), "b": smooth(52, 44, seed=2)})


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(1)
    preset = parse_preset(TINY, name="tiny")
    return Network(Upscaler(build(preset), preset, device="cpu"))


class Noisy:
    """A model that draws: the picture enlarged plus noise of a temperature."""

    name, family, params, device, precision = "noisy", "flow", 5, "cpu", None
    weights, published_as, published_kind, identity = "f" * 64, None, None, "noisy 1"

    def __init__(self):
        self.calls = 0

    def draws(self, scale, temperatures, seeds, steps):
        return [Draw(t, s) for t in temperatures or (0.5,) for s in seeds]

    def enlarge(self, lr, size, draw):
        self.calls += 1
        plain = Interpolation("bicubic").enlarge(lr, size, Draw()).pixels / 255
        noise = np.random.default_rng(draw.seed).normal(0, draw.temperature / 10, plain.shape)
        return Result((plain + noise).astype(np.float32))


# --- rows ---------------------------------------------------------------------------------------------------------


def test_every_row_names_what_made_it_and_what_it_cost(few, network):
    row = evaluate([network], [few], [2.5]).rows[0]
    assert (row.model, row.benchmark, row.image, row.scale) == ("tiny", "few", "a", 2.5)
    assert row.protocol == "liif-benchmark/1"
    assert row.lr == "made here (pillow-bicubic)"
    assert list(row.metrics) == ["psnr", "psnr-y", "ssim", "lr-psnr"]
    assert row.params == sum(p.numel() for p in network.upscaler.network.parameters())
    assert row.encode > 0
    assert row.encode + row.decode == pytest.approx(row.seconds)
    assert row.generate is None
    assert row.memory > 10_000_000
    assert (row.device, row.precision) == ("cpu", "fp32")


def test_a_network_is_measured_as_its_engine_gives_it(few, network):
    row = evaluate([network], [few], [2], metrics=["psnr"], protocol="rgb+float").rows[0]
    lr = np.asarray(Image.fromarray(few.arrays["a"]).resize((20, 24), Image.Resampling.BICUBIC))
    x = torch.from_numpy(lr.copy()).permute(2, 0, 1)[None].float() / 255
    sr = network.upscaler.upscale(x, 2)[0].permute(1, 2, 0).double().numpy()
    expected = -10 * math.log10(np.mean((sr - few.arrays["a"] / 255) ** 2))
    assert row.metrics["psnr"] == pytest.approx(expected, abs=1e-9)


def test_rows_come_by_benchmark_scale_model_and_picture(few):
    found = evaluate([open_model("nearest"), open_model("bicubic")], [few], [2, 3], metrics=["psnr"])
    assert [(r.scale, r.model, r.image) for r in found.rows] == [
        (scale, model, image) for scale in (2, 3) for model in ("nearest", "bicubic") for image in "ab"
    ]


def test_a_metric_that_is_not_a_number_fails_that_picture(few):
    broken = Metric("odd", lambda scene: math.nan if scene.hr.shape[0] == 48 else 1.0, "", True, "")
    found = evaluate([open_model("bicubic")], [few], [2], metrics=[broken])
    assert [row.image for row in found.rows] == ["b"]
    assert "odd of a at x2 by bicubic is not a number" in found.failures[0].message


def test_a_picture_too_small_for_its_border_fails_alone(few):
    small = Benchmark("mixed", "liif-div2k", arrays={**few.arrays, "tiny": smooth(16, 16)})
    found = evaluate([open_model("bicubic")], [small], [2], metrics=["psnr"])
    assert len(found.rows) == 2
    assert "leaves nothing" in found.failures[0].message


def test_ranks_share_the_pictures_and_lose_none(few):
    models = [open_model("bicubic"), open_model("nearest")]
    whole = evaluate(models, [few], [2, 3], metrics=["psnr"]).rows
    parts = [
        r
        for rank in (0, 1)
        for r in evaluate(models, [few], [2, 3], metrics=["psnr"], ranks=Alone(rank, 2)).rows
    ]
    told, expected = (
        sorted((r.model, r.image, r.scale, r.metrics["psnr"]) for r in rows) for rows in (parts, whole)
    )
    assert told == expected


class Alone(Ranks):
    """One of several processes, which never hears of the others."""

    def gathered(self, values):
        return values


# --- draws --------------------------------------------------------------------------------------------------------


def test_seeds_are_averaged_per_picture_and_their_spread_is_kept(few):
    found = evaluate([Noisy()], [few], [2], metrics=["psnr"], temperatures=[0.2, 0.4], seeds=range(3))
    assert len(found.rows) == 2 * 2 * 3
    first = means(found.rows)[0]
    values = {
        seed: [r.metrics["psnr"] for r in found.rows if (r.temperature, r.seed) == (0.2, seed)]
        for seed in range(3)
    }
    assert first.row.metrics["psnr"] == pytest.approx(np.mean(list(values.values())))
    assert first.deviation["psnr"] == pytest.approx(np.std([np.mean(v) for v in values.values()], ddof=1))
    assert (first.images, first.seeds) == (2, 3)


def test_diversity_looks_at_all_seeds_of_a_picture(few):
    found = evaluate([Noisy(), open_model("bicubic")], [few], [2], metrics=["diversity"], seeds=range(4))
    values = {r.model: r.metrics["diversity"] for r in found.rows}
    assert values["bicubic"] == 0
    assert values["noisy"] == pytest.approx(255 * 0.05, rel=0.15)
    lonely = evaluate([Noisy()], [few], [2], metrics=["diversity"], seeds=[0])
    assert "two seeds" in lonely.failures[0].message


# --- cache --------------------------------------------------------------------------------------------------------


def test_rows_are_kept_and_extended_by_metrics(few, tmp_path):
    model, cache = Noisy(), RowCache(tmp_path)
    first = evaluate([model], [few], [2], metrics=["psnr"], seeds=[7], cache=cache)
    again = evaluate([model], [few], [2], metrics=["psnr"], seeds=[7], cache=cache)
    assert (model.calls, first.cached, again.cached) == (2, 0, 2)
    assert again.rows == first.rows
    evaluate([model], [few], [2], metrics=["ssim"], seeds=[7], cache=cache)
    both = evaluate([model], [few], [2], metrics=["ssim", "psnr"], seeds=[7], cache=cache)
    assert (model.calls, list(both.rows[0].metrics)) == (4, ["ssim", "psnr"])


@pytest.mark.parametrize("change", ["protocol", "seed", "scale", "picture", "model", "version", "damage"])
def test_a_kept_row_is_not_used_when_anything_differs(few, tmp_path, monkeypatch, change):
    model, cache = Noisy(), RowCache(tmp_path)
    asked = {"metrics": ["psnr"], "seeds": [7], "cache": cache, "protocol": "rgb"}
    evaluate([model], [few], [2], **asked)
    scales, benchmark = [2], few
    if change == "protocol":
        asked["protocol"] = "rgb+float"
    elif change == "seed":
        asked["seeds"] = [8]
    elif change == "scale":
        scales = [2.1]
    elif change == "picture":
        benchmark = replace(few, arrays={k: 255 - v for k, v in few.arrays.items()})
    elif change == "model":
        model.identity = "noisy 2"
    elif change == "version":
        monkeypatch.setattr("srcli.evaluate.rows.__version__", "99")
    else:
        for file in tmp_path.rglob("*.json"):
            file.write_text(file.read_text()[:-20])
    assert evaluate([model], [benchmark], scales, **asked).cached == 0
    assert model.calls == 4


def test_an_interrupted_run_continues_where_it_stopped(few, tmp_path):
    class Interrupted(Noisy):
        def enlarge(self, lr, size, draw):
            if self.calls == 1:
                raise KeyboardInterrupt
            return super().enlarge(lr, size, draw)

    cache = RowCache(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        evaluate([Interrupted()], [few], [2], seeds=[0], cache=cache)
    model = Noisy()
    assert evaluate([model], [few], [2], seeds=[0], cache=cache).cached == 1
    assert model.calls == 1


def test_pictures_are_saved_and_score_as_they_did(few, tmp_path, network):
    found = evaluate([network], [few], [2], metrics=["psnr"], protocol="rgb", save_images=tmp_path)
    for name, pixels in few.arrays.items():
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    scored = score_pictures(tmp_path / "tiny/few/x2", tmp_path, 2, protocol="rgb", metrics=["psnr"])
    assert [r.metrics for r in scored.rows] == [r.metrics for r in found.rows]


def test_saved_pictures_are_made_again_where_they_are_missing(few, tmp_path):
    model, cache = Noisy(), RowCache(tmp_path / "cache")
    asked = {"metrics": ["psnr"], "seeds": [3], "cache": cache, "save_images": tmp_path / "out"}
    evaluate([model], [few], [2], **asked)
    (tmp_path / "out/noisy/few/x2/a_t0.5_seed3.png").unlink()
    assert evaluate([model], [few], [2], **asked).cached == 1
    assert (tmp_path / "out/noisy/few/x2/a_t0.5_seed3.png").exists()


def test_scored_pictures_pair_by_name_and_a_missing_one_is_an_error(tmp_path):
    for name in "abc":
        put(tmp_path / f"hr/{name}.png", 32, 32, seed=ord(name))
    put(tmp_path / "sr/b_x4.png", 32, 32, seed=2)
    with pytest.raises(ModelError, match=r"2 reference without result \(a, c\).*--allow-missing") as caught:
        score_pictures(tmp_path / "sr", tmp_path / "hr", 4)
    assert caught.value.code == 4
    with pytest.raises(ModelError, match=r"1 reference without result \(a\)"):  # of the first two
        score_pictures(tmp_path / "sr", tmp_path / "hr", 4, limit=2)
    with pytest.raises(ModelError, match="1 result without reference \\(b_x4\\)"):
        score_pictures(tmp_path / "sr", tmp_path / "hr", 2, allow_missing=True)
    found = score_pictures(tmp_path / "sr", tmp_path / "hr", 4, allow_missing=True)
    assert [(r.image, r.model) for r in found.rows] == [("b", "sr")]
    table = tables(found, Options())[0]
    assert table.lines[0][3] == "1 of 3"
    assert "2 of 3 results missing: a, c" in table.above
    assert document(found, Options())["mean"][0]["of"] == 3


@pytest.mark.parametrize(
    ("protocol", "size", "scored"),
    [
        ("rgb", (33, 30), True),
        ("rgb", (32, 28), False),  # it compares whole pictures
        ("real-isr", (32, 28), False),
        ("classic-y", (32, 28), True),  # HR cropped to whole LR pixels: 30 = 7 * 4 + 2, 33 = 8 * 4 + 1
        ("liif-benchmark", (32, 28), True),
        ("liif-benchmark", (33, 30), True),
        ("liif-benchmark", (32, 29), False),
        ("liif-benchmark", (33, 28), False),
        ("liif-benchmark", (28, 28), False),
        ("liif-benchmark", (36, 32), False),
    ],
)
def test_results_have_the_size_of_the_truth_or_of_what_the_protocol_crops_it_to(
    tmp_path, protocol, size, scored
):
    put(tmp_path / "hr/a.png", 30, 33, seed=1)
    put(tmp_path / "sr/a.png", size[1], size[0], seed=2)
    found = score_pictures(tmp_path / "sr", tmp_path / "hr", 4, protocol=protocol)
    assert [(r.width, r.height) for r in found.rows] == ([size] if scored else [])
    assert [f"{size[0]}x{size[1]}" in f.message for f in found.failures] == ([] if scored else [True])


# --- models -------------------------------------------------------------------------------------------------------


def test_self_ensemble_is_the_mean_over_eight_views_or_four_rotations(network):
    lr, views = smooth(20, 16), []
    for mirrored in (False, True):
        for turns in range(4):
            x = np.rot90(lr[:, ::-1] if mirrored else lr, turns)
            size = Size(30, 40) if turns % 2 else Size(40, 30)
            y = np.rot90(network.enlarge(np.ascontiguousarray(x), size, Draw()).pixels, -turns)
            views.append(y[:, ::-1] if mirrored else y)
    for model, expected in ((SelfEnsemble(network), views), (SelfEnsemble(network, ROTATIONS), views[:4])):
        result = model.enlarge(lr, Size(40, 30), Draw())
        np.testing.assert_allclose(result.pixels, np.mean(expected, axis=0), atol=1e-6)
    assert SelfEnsemble(network).name == "tiny+tta"


@pytest.mark.parametrize("name", ["nearest", "bilinear", "bicubic", "lanczos"])
def test_interpolations_are_pillows(name):
    lr = smooth(12, 10)
    expected = Image.fromarray(lr).resize((25, 31), getattr(Image.Resampling, name.upper()))
    np.testing.assert_array_equal(
        open_model(name).enlarge(lr, Size(31, 25), Draw()).pixels, np.asarray(expected)
    )


def test_two_models_of_one_name_are_told_apart(network):
    a, b, c = Noisy(), Noisy(), open_model("bicubic")
    b.weights = "0123456789"
    distinct_names([a, b, c])
    assert [m.name for m in (a, b, c)] == ["noisy@ffffffff", "noisy@01234567", "bicubic"]


def test_timing_measures_every_part(network):
    timing = time_model(network, Size(16, 20), 2.5, 3)
    assert timing.seconds >= timing.encode > 0
    assert timing.decode > 0
    assert (timing.width, timing.height, timing.repeats) == (20, 16, 3)


# --- formats ------------------------------------------------------------------------------------------------------


def row(model="m", image="a", value=30.0, **rest):
    return Row(model, "Set5", image, 4, "rgb/1", metrics={"psnr": value}, **rest)


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".csv"])
def test_rows_survive_every_format(tmp_path, few, network, suffix):
    found = evaluate([network, Noisy()], [few], [2.5], seeds=[1, 2])
    perfect = replace(found.rows[0], metrics={**found.rows[0].metrics, "psnr": math.inf})
    found.rows[0] = perfect
    texts = {
        ".json": json.dumps(document(found, Options()), allow_nan=False),
        ".jsonl": jsonl_text(found.rows),
        ".csv": csv_text([r.to_dict() for r in found.rows]),
    }
    (tmp_path / f"rows{suffix}").write_text(texts[suffix])
    assert read_rows(tmp_path / f"rows{suffix}") == found.rows


@pytest.mark.parametrize("text", ["", "{", '{"rows": 3}', '[{"a": 1}]', "a,b\n1,x\n"])
def test_a_file_without_rows_is_a_usage_error(tmp_path, text):
    for suffix in (".json", ".jsonl", ".csv"):
        (tmp_path / f"x{suffix}").write_text(text)
        with pytest.raises(UsageError):
            read_rows(tmp_path / f"x{suffix}")


def test_tables_show_the_same_numbers_and_mark_made_lr(few):
    found = evaluate([open_model("nearest"), open_model("bicubic")], [few], [4], metrics=["psnr", "ssim"])
    plain, marked = (tables(found, Options(), bold=bold)[0] for bold in (False, True))
    best = max(means(found.rows), key=lambda m: m.row.metrics["psnr"]).row.model
    for line, bold in zip(plain.lines, marked.lines, strict=True):
        assert line[2] == "x4*"
        assert bold[4] == (f"**{line[4]}**" if line[0] == best else line[4])
    assert "liif-benchmark/1" in plain.above[0]
    assert "pillow-bicubic" in plain.below[0]
    shown = {mean.row.model: f"{mean.row.metrics['psnr']:.2f}" for mean in means(found.rows)}
    assert {line[0]: line[4] for line in plain.lines} == shown


def test_markdown_and_latex_escape_what_would_break_them():
    assert markdown_text(["a", "b"], [["x|y", "1"]]).splitlines()[2] == "| x\\|y | 1 |"
    text = latex_text(["m_1", "psnr ↑"], [["a & b", "**30.1**"]], "100 % of #3")
    assert r"m\_1 & psnr $\uparrow$ \\" in text
    assert r"a \& b & \textbf{30.1} \\" in text
    assert r"\caption{100 \% of \#3}" in text


# --- statistics ---------------------------------------------------------------------------------------------------


def test_bootstrap_interval_covers_the_mean_of_a_normal_sample():
    rng = np.random.default_rng(1)
    inside = [i.low <= 3 <= i.high for i in (bootstrap(rng.normal(3, 1, 60), seed=n) for n in range(60))]
    assert 0.85 <= np.mean(inside) <= 1
    values = rng.normal(3, 1, 200)
    interval = bootstrap(values)
    width = 2 * 1.96 * values.std() / math.sqrt(200)
    assert interval.high - interval.low == pytest.approx(width, rel=0.1)
    assert interval == bootstrap(values)


def test_wilcoxon_of_five_wins_is_one_in_sixteen():
    assert wilcoxon(np.array([1.0, 2, 3, 4, 5])) == pytest.approx(2 / 2**5)
    assert wilcoxon(np.zeros(5)) is None


def test_models_are_compared_picture_by_picture():
    rows = [row("a", name, 30 + i) for i, name in enumerate("pqr")]
    rows += [row("b", name, 29 + 1.5 * i) for i, name in enumerate("rqp")] + [row("b", "extra", 99)]
    (found,) = compare(rows, "psnr")
    assert (found.a, found.b, found.images) == ("a", "b", 3)
    assert found.difference.mean == pytest.approx((30 - 32 + 31 - 30.5 + 32 - 29) / 3)


def test_models_on_other_protocols_are_not_compared():
    rows = [row("a"), replace(row("b"), protocol="classic-y/1")]
    assert compare(rows, "psnr") == []


def test_gain_is_positive_when_better_whatever_the_direction():
    def mean(model, family, psnr, hist):
        return means([replace(row(model, family=family), metrics={"psnr": psnr, "hist-w1": hist})])[0]

    every = [mean("r1", "regression", 30, 4), mean("r2", "regression", 32, 5), mean("d", "diffusion", 31, 2)]
    assert gain(every[2], every, "regression", "psnr") == pytest.approx(-100 / 32)
    assert gain(every[2], every, "regression", "hist-w1") == pytest.approx(50)
    assert gain(every[0], every, "flow", "psnr") is None


# --- published figures --------------------------------------------------------------------------------------------


def test_published_tables_have_all_their_figures():
    figures = published()
    papers = [f for f in figures if f.source.split("/")[0] in ("clit", "fplia", "lgcaa", "linf")]
    per_table = {name: sum(f.source == name for f in papers) for name in {f.source for f in papers}}
    assert len(papers) == 1990
    assert per_table == {
        "fplia/1": 400, "fplia/2": 24, "fplia/3": 24, "fplia/4": 36, "fplia/5": 24, "fplia/6": 9,
        "linf/1": 600, "linf/2": 47, "linf/3": 12, "linf/4": 20, "lgcaa/I": 270, "lgcaa/II": 36, "lgcaa/III": 54,
        "clit/1": 139, "clit/2": 168, "clit/3": 24, "clit/4": 49, "clit/5": 24, "clit/6": 30,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("names", "where", "scale", "metric", "protocol", "temperature", "value"),
    [
        (("LIIF", "EDSR-baseline"), "Set5", 4, "psnr-y", "liif-benchmark/1", None, 32.24),
        (("LTE", "RDN"), "Urban100", 8, "psnr-y", "liif-benchmark/1", None, 22.88),
        (("LIIF", "EDSR-baseline"), "DIV2K", 30, "psnr", "liif-div2k/1", None, 20.48),
        (("CLIT", "EDSR-baseline"), "DIV2K", 2, "ssim-clit", "liif-div2k/1", None, 0.9397),
        (("LINF", "EDSR-baseline"), "Set5", 4, "lpips", "liif-benchmark/1", 0.5, 0.087),
        (("LINF", "EDSR-baseline"), "Set5", 4, "psnr-y", "liif-benchmark/1", 0.0, 32.26),
        (("Bicubic", None), "Urban100", 4, "psnr-y", "classic-y/1", None, 23.14),
        (("LGCAA", None), "RealSR", 4, "psnr", "real-isr/1", None, 27.05),
        (("LGCAA", None), "RealSR", 2, "psnr", "real-isr/1", None, None),
        (("LIIF", "EDSR-baseline"), "DIV2K", 5, "psnr", "liif-div2k/1", None, None),
        (("LIIF", "EDSR-baseline"), "Set5", 4, "psnr", "liif-benchmark/1", None, None),
    ],
)
def test_published_figures_are_found_where_they_belong(
    names, where, scale, metric, protocol, temperature, value
):
    mean = Row("ours", where, "", scale, protocol, temperature=temperature)
    figure = References(published(), {"ours": names}).find(mean, metric)
    assert (figure and figure.value) == value


def test_shares_are_fractions_however_they_were_printed():
    shares = [figure.value for figure in published() if figure.metric == "clipiqa"]
    assert len(shares) == 45
    assert all(0.2 < share < 0.8 for share in shares)


def test_presets_know_what_tables_call_them():
    known = {
        "lgcaa": ("LGCAA", None), "edsr-baseline-liif": ("LIIF", "EDSR-baseline"), "rdn-lit": ("LIT", "RDN"),
        "rdn-clit3": ("CLIT", "RDN"), "edsr-baseline-blend": None,
    }  # fmt: skip
    assert {name: published_name(load_preset(name)) for name in known} == known


def test_a_part_of_a_set_is_marked_and_not_compared_with_figures_of_the_whole(few, tmp_path):
    path = tmp_path / "paper.csv"
    path.write_text("method,benchmark,scale,metric,value\nbicubic,few,4,psnr-y,20.5\n")
    references = References(read_figures(path), {})  # figures of one's own
    for limit, images in ((1, "1 of 2"), (2, "2")):
        found = evaluate([open_model("bicubic")], [few], [4], metrics=["psnr-y"], limit=limit)
        table = tables(found, Options(references=references))[0]
        line = dict(zip(table.header, table.lines[0], strict=True))
        assert line["images"] == images
        assert line["paper"] == "20.50 (file)"
        assert (line.get("diff", "-") == "-") == (limit == 1)
        assert any("no difference to a part" in note for note in table.below) == (limit == 1)
        mean = document(found, Options(references=references))["mean"][0]
        expected = None if limit == 1 else pytest.approx(mean["psnr-y"] - 20.5)
        assert mean["published"]["psnr-y"]["difference"] == expected
    path.write_text("method,value\nx,1\n")
    with pytest.raises(UsageError, match="columns"):
        read_figures(path)
    broken = evaluate([Broken()], [few], [4], metrics=["psnr-y"])
    assert tables(broken, Options())[0].lines[0][3] == "1 of 2"


class Broken(Interpolation):
    """Fails on one of the two pictures."""

    def __init__(self):
        super().__init__("bicubic")

    def enlarge(self, lr, size, draw):
        if size.h == 52:
            raise ImageError("broken.")
        return super().enlarge(lr, size, draw)


@pytest.mark.parametrize(
    ("preset", "decoder", "rows"),
    [
        ("edsr-baseline-blend", {"name": "linf", "patch": 3, "hidden_dim": 16}, {"LINF"}),  # a table has the method
        ("edsr-baseline-blend", None, {"MetaSR", "LIIF", "LTE"}),  # none has: the encoder's, of the same family
        ("edsr-baseline-liif", None, set()),  # it stands beside its own
        ("rdn-liif", {"name": "blend"}, {"MetaSR", "LIIF", "LTE", "CiaoSR", "CLIT"}),
        ("fplia-small", None, {"FPLIA"}),
    ],
)  # fmt: skip
def test_a_network_that_no_table_has_is_shown_among_the_published_rows_of_its_kind(preset, decoder, rows):
    table = {**load_preset(preset).to_dict(), **({"decoder": decoder} if decoder else {})}
    chosen = parse_preset(table, name="ours")
    name, kin = published_name(chosen), published_kind(chosen)
    references = References(published(), {"ours": name} if name else {}, {"ours": kin})
    mean = Row("ours", "Set5", "", 4, "liif-benchmark/1", family=family_of(chosen))
    shown = [row for _, row in references.beside([mean, mean], ["psnr-y", "lpips"])]
    assert {row.method for row in shown} >= rows
    assert bool(shown) == bool(rows)
    if rows and kin[0] is None:
        assert {row.encoder for row in shown} == {kin[1]}
        assert {row.family for row in shown} == {"regression"}
    keys = [(row.label, row.temperature, *row.values.items()) for row in shown]
    assert len(set(keys)) == len(keys)
    liif = [row.values["psnr-y"] for row in shown if row.label == "EDSR-baseline LIIF"]
    assert set(liif) <= {32.24}


def test_published_rows_stand_below_ours(few, tmp_path):
    path = tmp_path / "paper.csv"
    path.write_text("method,encoder,benchmark,scale,metric,value\nLIIF,EDSR-baseline,few,4,psnr-y,21.25\n")
    found = evaluate([open_model("bicubic")], [few], [4], metrics=["psnr-y", "ssim"])
    found.rows = [replace(row, family="regression") for row in found.rows]
    references = References(read_figures(path), {}, {"bicubic": (None, "EDSR-baseline")})
    lines = tables(found, Options(references=references))[0].lines
    assert lines[1] == ["published: EDSR-baseline LIIF (file)", "few", "x4", "-", "21.25", "-", "-", "-"]
    (row,) = document(found, Options(references=references))["published"]
    assert (row["benchmark"], row["scale"], row["values"]) == ("few", 4, {"psnr-y": 21.25})


def test_every_metric_is_measured_on_a_real_scene_or_says_why_not(few):
    wide = Benchmark("wide", "liif-benchmark", arrays={"w": smooth(200, 180)})
    names = [m.name for m in METRICS.values() if not m.missing() and "samples" not in m.needs]
    found = evaluate([open_model("bicubic")], [wide], [2], metrics=names)
    assert not found.failures
    assert all(math.isfinite(v) for v in found.rows[0].metrics.values())
