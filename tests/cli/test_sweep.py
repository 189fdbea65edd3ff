"""`srcli sweep-temperature`, and `srcli eval` of a model with a temperature, as they are typed."""

import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from srcli.cli import app
from srcli.cli.console import Console
from srcli.cli.evaluation_output import evaluation_progress
from srcli.config.presets import list_presets, load_preset
from srcli.config.temperature import choose
from tests.helpers.flow import save_flow


@pytest.fixture(scope="module")
def flow(tmp_path_factory):
    return save_flow(tmp_path_factory.mktemp("model") / "tiny-flow.safetensors")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a benchmark of two pictures; cache, models and backbones of its own."""
    monkeypatch.chdir(tmp_path)
    for name in ("SRCLI_CACHE_DIR", "SRCLI_MODELS_DIR", "TORCH_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    monkeypatch.delenv("SRCLI_DATA_DIR", raising=False)
    for i in (1, 2):
        path = tmp_path / f"data/Set5/HR/p{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        small = np.random.default_rng(i).integers(0, 256, (12, 10 + i, 3), dtype=np.uint8)
        Image.fromarray(small).resize((40 + 4 * i, 48), Image.Resampling.BICUBIC).save(path)
    return tmp_path


def run(*words, code=0, command="sweep-temperature"):
    result = CliRunner().invoke(app, [command, *map(str, words)])
    assert result.exit_code == code, result.output + str(result.exception)
    return result


SET5 = ("--bench", "Set5", "--data", "data", "-s", "2", "--seeds", "2", "--metrics", "psnr-y")
RULE = ("--select", "spectrum@psnr-y>=-3dB")


def test_a_sweep_writes_rows_document_and_pictures_and_recommends(here, flow):
    result = run(*SET5, *RULE, "-m", flow, "--temps", "0:1:0.25", "-o", "out")
    lines = list(csv.DictReader((here / "out/sweep.csv").read_text().splitlines()))
    assert len(lines) == 2 * 5 * 2
    assert list(lines[0])[:6] == ["preset", "benchmark", "image", "scale", "temperature", "seed"]
    assert list(lines[0])[6:] == ["psnr-y", "spectrum"]
    document = json.loads((here / "out/sweep.json").read_text())
    best = document["recommended"][0]["temperature"]
    assert f"x2: temperature {best:g} by spectrum@psnr-y>=-3dB" in result.stdout
    by_hand = {}
    for line in lines:
        by_hand.setdefault(float(line["temperature"]), []).append(
            (float(line["psnr-y"]), float(line["spectrum"]))
        )
    table = {t: np.mean(values, axis=0) for t, values in by_hand.items()}
    allowed = {t: spectrum for t, (psnr, spectrum) in table.items() if psnr >= table[0][0] - 3}
    assert best == min(allowed, key=allowed.get)
    with Image.open(here / "out/sweep.png") as picture:
        assert min(picture.size) > 300
    assert "</svg>" in (here / "out/sweep.svg").read_text()


def test_a_written_preset_is_what_upscale_then_uses(here, flow):
    run(*SET5, *RULE, "-m", flow, "--temps", "0,0.5,1", "--write-preset", "own/mine.toml", "-o", "out")
    best = json.loads((here / "out/sweep.json").read_text())["recommended"][0]["temperature"]
    chosen = choose(load_preset(here / "own/mine.toml"), 2)
    assert (chosen.value, chosen.origin) == (best, "from the preset")
    again = run(*SET5, *RULE, "-m", "own/mine.toml", "--temps", "0,0.5,1")
    assert f"temperature {best:g}" in again.stdout


def test_a_second_sweep_takes_the_rows_of_the_first(here, flow):
    first = run(*SET5, *RULE, "-m", flow, "--temps", "0,0.5", "--json")
    assert "measured before" not in first.stderr
    second = run(*SET5, *RULE, "-m", flow, "--temps", "0,0.25,0.5", "--json")
    assert "8 of 12 rows were measured before" in second.stderr
    values = [
        {r["temperature"]: r["spectrum"] for r in json.loads(x.stdout)["rows"]} for x in (first, second)
    ]
    assert values[1] | values[0] == values[1]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--temps", "0.5"], 2, "at least two temperatures"),
        (["--temps", "0,-0.5"], 2, "from 0 on"),
        (["--temps", "0,nan"], 2, "from 0 on"),
        (["--temps", "0:1"], 2, "no range"),
        (["--temps", "0.2,0.4"], 2, "temperature 0"),
        (["--temps", "0,1", "--select", "spectrum@psnr-y"], 2, "is no limit"),
        (["--temps", "0,1", "--select", "spektrum"], 2, "Did you mean 'spectrum'?"),
        (["--temps", "0,1", "--metrics", "lpips"], 4, "Get it: srcli models pull metrics"),
        (["--temps", "0,1", "-m", "edsr-baseline-blend"], 2, "has no temperature"),
        (["--temps", "0,1", "-m", "nothing"], 2, "unknown preset"),
        (["--temps", "0,1", "--write-preset", "mine"], 2, ".toml"),
        (["--temps", "0,1", "--bench", "Set6"], 2, "unknown benchmark"),
        (["--temps", "0,1", "--bench", "Set14"], 4, "Set14 is not here"),
        (["--temps", "0,1", "--seeds", "0"], 2, ""),
    ],
)
def test_what_is_wrong_is_said_before_any_work(here, flow, words, code, said):
    words = words if "-m" in words else ["-m", flow, *words]
    result = run(*SET5, *(() if "--select" in words else RULE), *words, code=code)
    assert said in " ".join(result.stderr.split())
    assert result.stdout == ""
    assert not list(here.rglob("eval"))


def test_the_presets_with_a_temperature_are_listed_where_another_is_named(here):
    text = run(*SET5, *RULE, "-m", "edsr-baseline-blend", code=2).stderr
    names = [preset.name for preset in list_presets() if preset.decoder.name == "linf"]
    assert (f"Presets with one: {', '.join(names)}." if names else "No preset here has one.") in text


def test_without_a_backbone_no_other_metric_takes_the_place_of_lpips(here, flow, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(here / "torch"))
    words = ("--data", "photos", "-s", "2", "--seeds", "1", "--metrics", "psnr", "-m", flow, "--temps", "0,1")
    (here / "photos").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (110, 110, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(here / "photos/a.png")
    result = run(*words, "-o", "out")
    assert "lpips cannot be measured: its backbone" in " ".join(result.stdout.split())
    assert "--lpips-backbone FILE" in result.stdout
    assert "no backbone" in result.stdout
    assert "no temperature is recommended, since lpips@psnr>=-0.3dB could not be measured" in result.stdout
    document = json.loads((here / "out/sweep.json").read_text())
    assert document["recommended"][0]["temperature"] is None
    assert all("lpips" not in row for row in document["rows"])
    assert "--select" in run(*words, "--write-preset", "mine.toml", code=4).stderr
    assert not (here / "mine.toml").exists()


def test_nothing_to_measure_on_is_said(here, flow):
    assert "Nothing to evaluate on" in run("-m", flow, code=2).stderr


def test_a_rule_that_nothing_keeps_to_recommends_nothing_and_writes_no_preset(here, flow):
    words = (*SET5, "-m", flow, "--temps", "0,1", "--select", "spectrum@psnr-y>=90")
    assert "x2: no temperature keeps to" in run(*words).stdout
    assert "Loosen --select" in run(*words, "--write-preset", "mine.toml", code=2).stderr
    assert not (here / "mine.toml").exists()


def test_a_high_temperature_is_warned_about_and_measured(here, flow):
    result = run(*SET5, *RULE, "-m", flow, "--temps", "0,2.5")
    assert "warning: a temperature of 2.5" in result.stderr


def test_progress_says_what_is_left_in_parts_of_a_picture(monkeypatch, capsys):
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    outcome = SimpleNamespace(benchmark="Set5", scale=4)
    with evaluation_progress(Console(style="plain"), 4) as progress:
        for number in (1, 1, 1, 1, 2, 2):
            clock[0] += 11
            progress(outcome, number, 2)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Set5 x4: 0.25/2 pictures, 1 min 17 s left"
    left = [line.partition(", ")[2] for line in lines]
    assert left == [
        f"{time} left" for time in ("1 min 17 s", "1 min 06 s", "55.0 s", "44.0 s", "33.0 s", "22.0 s")
    ]


def test_a_broken_picture_is_named_and_the_others_are_swept(here, flow):
    (here / "data/Set5/HR/p3.png").write_bytes(b"no picture")
    result = run(*SET5, *RULE, "-m", flow, "--temps", "0,1", "-o", "out", code=1)
    assert "p3" in result.stderr
    assert {line["image"] for line in csv.DictReader((here / "out/sweep.csv").read_text().splitlines())} == {
        "p1",
        "p2",
    }


# --- eval ---------------------------------------------------------------------------------------------------------


def test_eval_measures_temperatures_and_seeds_of_models_that_have_them(here, flow):
    words = ("--bench", "Set5", "--data", "data", "-s", "2", "-m", flow, "-m", "bicubic", "--metrics", "psnr")
    text = run(*words, "--temps", "0:0.5:0.25", "--seeds", "2", "--json", command="eval").stdout
    rows = json.loads(text)["rows"]
    drawn = [(r["temperature"], r["seed"]) for r in rows if r["model"] == "tiny-flow" and r["image"] == "p1"]
    assert drawn == [(t, s) for t in (0, 0.25, 0.5) for s in (0, 1)]
    assert [r["temperature"] for r in rows if r["model"] == "bicubic"] == [None, None]


def test_eval_uses_the_models_own_temperature_where_none_is_asked_for(here, flow):
    words = ("--bench", "Set5", "--data", "data", "-s", "2,6", "-m", flow, "--metrics", "psnr", "--json")
    rows = json.loads(run(*words, command="eval").stdout)["rows"]
    assert {r["scale"]: round(r["temperature"], 9) for r in rows} == {2: 0.8, 6: 0.64}
    auto = json.loads(run(*words, "-T", "auto", command="eval").stdout)["rows"]
    assert auto == rows


def test_eval_refuses_a_temperature_where_no_model_has_one(here):
    words = ("--bench", "Set5", "--data", "data", "-s", "2", "-m", "bicubic", "-T", "0.5")
    assert "none of these models draws noise" in run(*words, code=2, command="eval").stderr


def test_a_shipped_flow_is_the_default(here):
    document = json.loads(run(*SET5, *RULE, "--temps", "0,1", "--json").stdout)
    assert {row["model"] for row in document["rows"]} == {"rlfn-linf-s"}


def test_models_info_says_what_auto_means(flow):
    text = run("info", flow, command="models").stdout
    assert "0.8 at x2, 0.8 at x4, 0.32 at x8 (published policy)" in text
    assert "temperature" not in run("info", "edsr-baseline-blend", command="models").stdout
