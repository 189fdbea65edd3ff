"""`srcli eval` as it is typed: formats, exit codes, what is said and where."""

import csv
import io
import json
import os
import shutil
import socket
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
from PIL import Image

from tests.helpers.command import srcli


def smooth(h, w, seed):
    small = np.random.default_rng(seed).integers(0, 256, (h // 4, w // 4, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((w, h), Image.Resampling.BICUBIC)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a benchmark of two pictures, and a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SRCLI_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("SRCLI_DATA_DIR", raising=False)
    for i in (1, 2):
        path = tmp_path / f"data/Set5/HR/p{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        smooth(48, 40 + 4 * i, i).save(path)
    return tmp_path


run = partial(srcli, "eval")


SET5 = ("--bench", "Set5", "--data", "data", "-m", "bicubic")


def test_a_table_names_protocol_version_and_lr(here):
    text = run(*SET5, "-s", "2,3").stdout
    assert text.startswith("protocol liif-benchmark/1")
    assert "srcli 0.1" in text
    lines = [line.split() for line in text.splitlines() if line.startswith("bicubic")]
    assert [(line[1], line[2], line[3]) for line in lines] == [("Set5", "x2*", "2"), ("Set5", "x3*", "2")]
    assert "LR made here (pillow-bicubic)" in text


def test_all_formats_hold_the_same_numbers(here, model):
    words = (*SET5, "-m", model, "--metrics", "psnr_y,ssim")
    document = json.loads(run(*words, "--json").stdout)
    rows = [json.loads(line) for line in run(*words, "--format", "jsonl").stdout.splitlines()]
    assert rows == document["rows"]
    lines = list(csv.DictReader(io.StringIO(run(*words, "-f", "csv").stdout)))
    assert [float(line["psnr-y"]) for line in lines] == [row["psnr-y"] for row in rows]
    assert list(lines[0])[:10] == [
        "model", "benchmark", "image", "scale", "protocol", "lr", "temperature", "seed", "steps", "psnr-y",
    ]  # fmt: skip
    shown = {mean["model"]: f"{mean['psnr-y']:.2f}" for mean in document["mean"]}
    for name in ("table", "md", "latex"):
        text = run(*words, "-f", name).stdout
        for model_name, value in shown.items():
            (line,) = [line for line in text.splitlines() if line.strip(" |").startswith(model_name)]
            assert value in line
    averages = np.mean([row["psnr-y"] for row in rows if row["model"] == "bicubic"])
    assert shown["bicubic"] == f"{averages:.2f}"


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".csv", ".md", ".tex", ".txt"])
def test_output_goes_to_a_file_in_the_format_of_its_suffix(here, suffix):
    result = run(*SET5, "-o", f"out/table{suffix}")
    assert result.stdout == ""
    assert f"wrote out/table{suffix}" in result.stderr
    assert (here / f"out/table{suffix}").read_text() == run(*SET5, "-f", {
        ".tex": "latex", ".txt": "table",
    }.get(suffix, suffix[1:])).stdout  # fmt: skip


def test_pictures_of_every_image_on_request(here):
    text = run(*SET5, "--per-image").stdout
    assert [line.split()[3] for line in text.splitlines() if " p1 " in line or " p2 " in line] == ["p1", "p2"]


def test_missing_data_is_code_4_and_two_lines(here):
    result = run("--bench", "Urban100", code=4)
    assert result.stdout == ""
    first, second = result.stderr.strip().splitlines()
    assert first.startswith("error: Urban100 is not here")
    assert "https://" in second
    assert "--data" in second


def test_a_folder_of_hr_pictures_just_runs(here, monkeypatch):
    (here / "data/Set5/HR").rename(here / "data/Urban100")
    monkeypatch.setenv("SRCLI_DATA_DIR", str(here / "data"))
    assert "Urban100" in run("--bench", "urban100", "-m", "bicubic").stdout
    assert "Nothing to evaluate on" in run("-m", "bicubic", code=2).stderr
    assert "Urban100" in run("--data", "data/Urban100", "-m", "bicubic").stdout


def test_one_corrupt_picture_is_named_and_the_others_are_measured(here):
    path = here / "data/Set5/HR/p0.png"
    path.write_bytes((here / "data/Set5/HR/p1.png").read_bytes()[:500])
    result = run(*SET5, code=1)
    assert "p0" in result.stderr
    assert "1 of 3 pictures failed; the others were measured." in result.stderr
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("bicubic")]
    assert line.split()[3] == "2"
    document = json.loads(run(*SET5, "--json", code=1).stdout)
    assert [failure["image"] for failure in document["failed"]] == ["p0"]
    for other in (here / "data/Set5/HR").iterdir():
        other.write_bytes(path.read_bytes())
    assert run(*SET5, code=1).stderr.splitlines()[-1] == "3 of 3 pictures failed."


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("--bench", "Set6"), 2, "Did you mean 'Set5'"),
        ((*SET5, "--metrics", "psrn"), 2, "Did you mean 'psnr'"),
        ((*SET5, "--protocol", "clasic-y"), 2, "Did you mean 'classic-y'"),
        ((*SET5, "-s", "0"), 2, "scale"),
        ((*SET5, "-s", "nan"), 2, "nan"),
        ((*SET5, "--stats", "ttest"), 2, "unknown test"),
        ((*SET5, "--fail-under", "psnr"), 2, "METRIC=VALUE"),
        ((*SET5, "--reference", "no.csv"), 2, "no.csv"),
        ((*SET5, "-o", "x.doc"), 2, "suffix"),
        ((*SET5, "-T", "warm"), 2, "--temperature"),
        ((*SET5, "-m", "no-such-model"), 2, "unknown preset"),
        ((*SET5, "-m", "no.safetensors"), 4, "does not exist"),
        ((), 2, "Nothing to evaluate on"),
        (("--data", "absent", "-m", "bicubic"), 3, "no folder"),
        (("--data", "empty", "-m", "bicubic"), 3, "holds no image"),
        (("--pred", "data"), 2, "go together"),
        (("--pred", "data/Set5/HR", "--ref", "empty"), 3, "holds no image"),
        (("--timing", "1", "--size", "12", "-m", "bicubic"), 2, "WxH"),
    ],
)  # fmt: skip
def test_wrong_words_have_their_exit_code_and_one_line(here, words, code, says):
    (here / "empty").mkdir()
    result = run(*words, code=code)
    assert says in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert result.stdout == ""


def test_unpaired_and_mismatched_lr_are_named(here):
    for name, size in (("p1", (22, 24)), ("p2", (10, 10))):
        path = here / f"lr/{name}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", size).save(path)
    words = ("--data", "data/Set5/HR", "--lr", "lr", "-m", "bicubic", "-s", "2")
    result = run(*words, code=1)
    assert "p2" in result.stderr
    assert "do not belong together at x2" in result.stderr
    assert "given" in run(*words, "--json", code=1).stdout
    (here / "lr/p2.png").unlink()
    assert "1 HR without LR (p2)" in run(*words, code=4).stderr


def test_fail_under_is_code_7_and_spares_the_baselines(here, model):
    assert "does not hold" in run(*SET5, "-m", model, "--fail-under", "psnr=90", code=7).stderr
    passed = run(*SET5, "-m", model, "--fail-under", "psnr=1", "--fail-under", "hist-w1=255")
    assert "hist-w1" in passed.stdout
    run(*SET5, "--fail-under", "psnr=90", code=7)


def test_finished_pictures_of_any_tool_are_scored(here):
    (here / "results").mkdir()
    for i in (1, 2):
        with Image.open(here / f"data/Set5/HR/p{i}.png") as hr:
            Image.eval(hr, lambda v: min(v + 4, 255)).save(here / f"results/p{i}_x4.png")
    document = json.loads(run("--pred", "results", "--ref", "data/Set5/HR", "--json").stdout)
    assert document["mean"][0]["images"] == 2
    assert 35 < document["mean"][0]["psnr"] < 37
    assert "lr-psnr" not in document["mean"][0]
    assert (
        "Say it: -s 4"
        in run("--pred", "results", "--ref", "data/Set5/HR", "--protocol", "classic-y", code=2).stderr
    )
    assert (
        "only one result"
        in run("--pred", "results", "--ref", "data/Set5/HR", "--metrics", "lr-psnr", code=2).stderr
    )


def test_a_missing_result_is_no_better_mean(here):
    (here / "results").mkdir()
    shutil.copy(here / "data/Set5/HR/p1.png", here / "results/p1.png")
    words = ("--pred", "results", "--ref", "data/Set5/HR", "--fail-under", "psnr=30")
    assert "1 reference without result (p2)" in run(*words, code=4).stderr
    allowed = run(*words, "--allow-missing").stdout
    assert "1 of 2 results missing: p2" in allowed
    assert " 1 of 2 " in allowed
    with Image.open(here / "data/Set5/HR/p2.png") as hr:
        hr.crop((0, 0, hr.width - 1, hr.height)).save(here / "results/p2.png")
    smaller = run(*words, code=1)
    assert "p2" in smaller.stderr
    assert " 1 of 2 " in smaller.stdout
    assert "goes with --pred" in run(*SET5, "--allow-missing", code=2).stderr


def test_results_are_kept_as_pictures_and_tta_changes_them(here, model):
    run(*SET5, "-m", model, "--save-images", "out")
    run(*SET5, "-m", model, "--save-images", "out", "--tta")
    plain, averaged = (here / f"out/tiny{mark}/Set5/x4/p1.png" for mark in ("", "+tta"))
    with Image.open(plain) as a, Image.open(averaged) as b:
        assert a.size == b.size == (44, 48)
        assert np.abs(np.asarray(a, int) - np.asarray(b, int)).max() > 0


def test_tta_averages_over_all_copies_or_over_rotations(here, model):
    eight, same, four, again = (
        run(*SET5, *words, "-m", model, "--json").stdout
        for words in (["--tta"], ["--finish", "tta"], *[["--finish", "no-limit,tta=rotations:4"]] * 2)
    )
    assert eight == same
    assert four == again
    assert '"tiny+tta"' in eight
    assert '"tiny+tta4"' in four
    assert (
        "tta=rotations:4, not 'rotations:8'"
        in run(*SET5, "--finish", "tta=rotations:8", "-m", model, code=2).stderr
    )


def test_timing_needs_no_benchmark(here, model):
    text = run("--timing", "1", "--size", "20x16", "-s", "2,3", "-m", model).stdout
    assert [line.split()[1:3] for line in text.splitlines() if line.startswith("tiny")] == [
        ["20x16", "x2"], ["20x16", "x3"],
    ]  # fmt: skip
    (first,) = json.loads(run("--timing", "1", "--size", "20x16", "-m", model, "--json").stdout)
    assert first["encode"] + first["decode"] == pytest.approx(first["seconds"])


def test_published_figures_stand_beside_ours(here):
    mean = json.loads(run(*SET5, "-s", "4", "--reference", "builtin", "--json").stdout)["mean"][0]
    assert mean["published"]["psnr-y"]["value"] == 28.42
    assert mean["lr"] == "made here (pillow-bicubic)"
    assert "28.42 (collected/bicubic)" in run(*SET5, "--reference", "builtin").stdout


def test_metrics_protocols_and_references_are_listed(here):
    text = run("--list-metrics").stdout
    for name in ("psnr-y", "ssim-clit", "lr-psnr", "liif-div2k/1", "real-isr/1", "fplia/1"):
        assert name in text
    assert "linf/1    600" in " ".join(run("--list-references").stdout.split()).replace(" 600", "    600")


def test_groups_by_family_and_tests_between_models(here, model):
    words = (*SET5, "-m", model, "--stats", "bootstrap,wilcoxon", "--group-by", "family")
    text = run(*words).stdout
    assert "% vs best regression" in text
    assert "Wilcoxon p" in text
    document = json.loads(run(*words, "--json").stdout)
    assert document["mean"][0]["percent"]["regression"].keys() == {"psnr", "psnr-y", "ssim", "lr-psnr"}
    assert {c["metric"] for c in document["comparisons"]} == {"psnr", "psnr-y", "ssim", "lr-psnr"}
    low, high = document["mean"][0]["interval"]["psnr"]
    assert low <= document["mean"][0]["psnr"] <= high


def timeless(document):
    drop = ("seconds", "encode", "generate", "decode", "memory")
    parts = [*document["rows"], *document["mean"]]
    return [{k: v for k, v in part.items() if k not in drop} for part in parts], document["failed"]


@pytest.mark.slow
def test_two_processes_give_the_table_of_one(here, model):
    (here / "data/Set5/HR/p3.png").write_text("no picture")
    words = [
        sys.executable, "-m", "srcli", "eval", *SET5, "-m", str(model), "-s", "2,3", "--no-cache", "--json",
    ]  # fmt: skip
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    whole = subprocess.run(words, capture_output=True, text=True, check=False)
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    parts = [
        subprocess.Popen(
            words,
            env=os.environ | shared | {"RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    (first, _), (second, _) = (part.communicate(timeout=300) for part in parts)
    assert [part.returncode for part in parts] == [1, 1]
    assert whole.returncode == 1
    assert second == ""
    assert timeless(json.loads(first)) == timeless(json.loads(whole.stdout))
