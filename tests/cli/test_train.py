"""`srcli train` as it is typed: from photos to weights that enlarge, and words that are refused."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from srcli.cli import app
from srcli.cli.train import Dashboard
from srcli.train.log import Progress
from tests.train.conftest import RECIPE, held_out_name


@pytest.fixture
def place(folder):
    """A folder with a recipe, `tiny.toml`, and `photos/`."""
    (folder / "tiny.toml").write_text(RECIPE)
    (folder / "photos").mkdir()
    for i, name in enumerate(("a", "b", held_out_name())):
        noise = np.random.default_rng(i).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((64, 64), Image.Resampling.BICUBIC).save(
            folder / "photos" / f"{name}.png"
        )
    return folder


def train(*words, **env):
    words = ["train", "--data", "photos", "--recipe", "tiny.toml", "-d", "cpu", *map(str, words)]
    return CliRunner().invoke(app, words, env=env)


def test_photos_become_weights_that_upscale_and_eval_take(place):
    done = train("-o", "run", "--max-steps", "6")
    assert done.exit_code == 0
    weights = done.stdout.strip()
    assert weights == str(Path("run", "last.safetensors"))
    assert "psnr-y x2" in done.stderr
    source = f"photos/{held_out_name()}.png"
    enlarged = CliRunner().invoke(app, ["upscale", source, "-s", "2.5", "-o", "out.png", "-m", weights])
    assert enlarged.exit_code == 0
    with Image.open("out.png") as picture:
        assert picture.size == (160, 160)
    validated = train("-o", "run", "--max-steps", "7", "--val", "./photos")
    assert "photos psnr-y x2" in validated.stderr
    measured = CliRunner().invoke(app, ["eval", "--bench", "./photos", "-s", "2", "-m", weights, "--json"])
    assert measured.exit_code == 0, measured.stderr


def test_a_run_goes_on_where_it_stopped_and_its_default_folder_is_named_after_the_recipe(place):
    assert train("--max-steps", 2, "-q").stderr == ""
    done = train("--max-minutes", 5, "--max-hours", 1)
    assert "continuing runs/tiny at step 2" in done.stderr.replace(os.sep, "/")
    assert (place / "runs" / "tiny" / "model_card.md").exists()


def test_the_dry_run_tells_and_writes_nothing(place):
    before = sorted(place.rglob("*"))
    done = train("--dry-run")
    assert done.exit_code == 0
    assert "samples/s" in done.stderr
    assert sorted(place.rglob("*")) == before


def test_scales_and_settings_arrive_in_the_record(place):
    train(
        "-o", "run", "--max-steps", 1, "--scales", "alternate 1:2|2:4", "--set", "optim.lr=3e-4",
        "--overfit", 2,
    )  # fmt: skip
    record = json.loads((place / "run" / "config.resolved.json").read_text())
    assert record["schedule"]["scales"] == "alternate 1:2|2:4"
    assert record["optim"]["lr"] == 3e-4
    assert record["overfit"] == 2


def test_weights_to_start_from_may_be_a_file_and_what_is_new_is_named(place):
    train("-o", "first", "--max-steps", 1)
    decoder = '--set=decoder={name = "lit", base_dim = 8, n_heads = 2, side = 3, hidden = [8]}'
    start = ("--init", "first/last.safetensors", "--max-steps", 1, decoder, "-o", "second")
    refused = train(*start)
    assert refused.exit_code == 4
    assert "init.take=encoder" in refused.stderr
    done = train(*start, "--set", "init.take=encoder")
    assert done.exit_code == 0
    assert "new, not in first/last.safetensors: decoder." in done.stderr


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--scales", "4:1"], 2, "Did you mean 1:4?"),
        (["--set", "optim.lr"], 2, "section.key=value"),
        (["--set", "optim.lrr=1"], 2, "Did you mean 'lr'"),
        (["--variant", "short"], 2, "unknown variant"),
        (["--recipe", "quik"], 2, "Did you mean 'quick'"),
        (["--recipe", "absent.toml"], 3, "does not exist"),
        (["--data", "absent"], 3, "does not exist"),
        (["--log", "wandb"], 2, "unknown log"),
        (["--init", "edsr-baseline-liif"], 4, "weights"),
        (["--resume", "absent"], 3, "no run to resume"),
        (["--device", "tpu"], 2, "Unknown device"),
        (["-o", "tiny.toml/run"], 5, "cannot"),
    ],
)
def test_what_cannot_be_done_has_a_line_and_a_code(place, words, code, message):
    done = train(*words, "--max-steps", 1)
    assert (done.exit_code, message in done.stderr) == (code, True), done.stderr


def test_no_photos_are_a_question_of_usage(place):
    done = CliRunner().invoke(app, ["train"])
    assert done.exit_code == 2
    assert "--data photos/" in done.stderr


def test_a_terminal_signal_saves_and_exits_with_143(place):
    words = ["-m", "srcli", "train", "--recipe", "tiny.toml", "--data", "photos", "-o", "run", "-d", "cpu"]
    words += ["--set", "optim.steps=1000000", "--set", "validation.every=1000000", "--log-every", "1"]
    process = subprocess.Popen(
        [sys.executable, *words], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    log = place / "run" / "log.jsonl"
    while process.poll() is None and not (log.exists() and log.read_text().count("\n") > 1):
        time.sleep(0.05)  # until it has taken a step
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 143, errors
    assert (place / "run" / "last.safetensors").exists()
    assert not list((place / "run").glob(".srcli-*"))


def test_the_dashboard_shows_progress_and_measurements(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # a terminal, for Rich
    with Dashboard(100, "rich") as screen:
        screen.note("two photos")
        for step in range(1, 41):
            validation = {"psnr-y x2": 31.234 - abs(step - 20) / 100} if step % 10 == 0 else None
            screen.report(Progress(step, 0.5 / step, 1e-3, 33.0, 0.25, 1, validation))
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", capsys.readouterr().err)
    assert re.search(r"━\s*\n\s*step 40/100, 40%", shown)
    for word in (
        "looking through the photos", "two photos", "step 40/100, 40%", "33 samples/s", "25% of the time", "31.23",
        "1 steps skipped", "learning rate 1.00e-03", "memory ", " left", "best 31.23 dB at step 20", "loss      █",
        "held out  ▄█▄▁",
    ):  # fmt: skip
        assert word in shown, shown
    plain = Dashboard(100, "plain")
    plain.report(Progress(1, 0.5, 1e-3, 33.0, validation={"psnr-y x2": 31.234}))
    plain.report(Progress(2, 0.5, 1e-3, 33.0))
    assert capsys.readouterr().err.count("\n") == 1
    assert plain.ending("srcli train ..") == "stopped at step 2 of 100; it goes on with: srcli train .."
    lines = Dashboard(100, "json")
    lines.report(Progress(1, 0.5, 1e-3, 33.0, validation={"psnr-y x2": 31.234}))
    assert json.loads(capsys.readouterr().err)["validation"] == {"psnr-y x2": 31.234}
    with Dashboard(100, "none") as quiet:
        quiet.note("nothing")
        quiet.report(Progress(1, 0.5, 1e-3, 33.0, validation={"psnr-y x2": 31.234}))
    assert capsys.readouterr().err == ""
