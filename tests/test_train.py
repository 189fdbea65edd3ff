"""Training: it learns, it resumes bit for bit, and it refuses what it should."""

import json
import signal

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from srcli.data.samples import Batch
from srcli.errors import NothingToDoError, PresetError, UsageError, WeightsError
from srcli.recipe import OptimSettings, read_recipe
from srcli.train import Limits, Trainer, train

RECIPE = """
title = "tiny"
[encoder]
name = "edsr"
n_resblocks = 1
n_feats = 8
mean_shift = false
[decoder]
name = "blend"
width = 8
hidden = [8]
[data]
patch = 16
queries = 64
[optim]
steps = 12
batch = 2
lr = 2e-3
warmup = 2
ema = 0.9
[validation]
every = 6
scales = [2]
photos = 1
crop = 48
"""


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text(RECIPE)
    return path


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(3):
        noise = np.random.default_rng(i).integers(0, 256, (20, 20, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((80, 80), Image.Resampling.BICUBIC).save(folder / f"{i}.png")
    return folder


def test_an_interrupted_run_ends_in_the_same_weights(recipe, photos, tmp_path):
    settings = read_recipe(recipe)
    train(settings, [photos], tmp_path / "once")
    train(settings, [photos], tmp_path / "twice", limits=Limits(steps=5))
    train(settings, [photos], tmp_path / "twice")
    once, twice = (load_file(tmp_path / run / "last.safetensors") for run in ("once", "twice"))
    assert all(torch.equal(once[key], twice[key]) for key in once)


def test_training_learns(recipe, photos, tmp_path):
    settings = read_recipe(recipe, {"optim.steps": "150", "optim.batch": "4", "validation.every": "1000"})
    losses = []
    train(settings, [photos], tmp_path / "run", report=lambda p: losses.append(p.loss))
    assert np.mean(losses[-20:]) < 0.9 * np.mean(losses[:5])


def test_the_run_leaves_a_log_a_configuration_and_weights_that_load(recipe, photos, tmp_path):
    from srcli.weights import load

    out = tmp_path / "run"
    assert train(read_recipe(recipe), [photos], out, limits=Limits(steps=6)) is None
    resolved = json.loads((out / "config.resolved.json").read_text())
    assert resolved["optim"]["steps"] == 12
    assert "6 of 12 steps" in (out / "model_card.md").read_text()
    loaded = load(out / "last.safetensors")
    assert loaded.preset.encoder.args["n_feats"] == 8
    start, first, *_ = map(json.loads, (out / "log.jsonl").read_text().splitlines())
    assert start["event"] == "start"
    assert first["step"] == 1
    assert first["loss"] > 0


def test_a_signal_saves_and_says_so(recipe, photos, tmp_path):
    def interrupt(progress):
        if progress.step == 3:
            signal.raise_signal(signal.SIGTERM)

    out = tmp_path / "run"
    assert train(read_recipe(recipe), [photos], out, report=interrupt) == signal.SIGTERM
    assert torch.load(out / "trainer.pt", weights_only=True)["step"] == 3


def test_a_changed_configuration_is_shown_and_refused(recipe, photos, tmp_path):
    out = tmp_path / "run"
    train(read_recipe(recipe), [photos], out, limits=Limits(steps=1))
    other = read_recipe(recipe, {"optim.lr": "5e-4"})
    with pytest.raises(UsageError, match=r"optim\.lr 0\.002 -> 0\.0005"):
        train(other, [photos], out)
    train(other, [photos], out, limits=Limits(steps=2), force=True)


def test_a_step_without_a_finite_loss_changes_nothing(recipe):
    trainer = Trainer(read_recipe(recipe), torch.device("cpu"))
    before = {k: v.clone() for k, v in trainer.network.state_dict().items()}
    sampler_batch = [torch.rand(2, 3, 16, 16), torch.full((2, 64, 3), torch.nan)]
    batch = Batch(*sampler_batch, torch.rand(2, 64, 2), torch.full((2, 2), 0.1))
    trainer.train_step(batch)
    assert trainer.skipped_in_a_row == 1
    assert all(torch.equal(before[k], v) for k, v in trainer.network.state_dict().items())


def test_the_learning_rate_warms_up_and_falls_to_its_end(recipe):
    settings = read_recipe(recipe)
    trainer = Trainer(settings, torch.device("cpu"))
    rates = []
    for trainer.step in range(settings.optim.steps + 1):
        rates.append(trainer.learning_rate())
    assert rates[0] == pytest.approx(1e-3)
    assert max(rates) == pytest.approx(2e-3)
    assert rates[-1] == pytest.approx(OptimSettings().lr_end)
    assert rates[2:] == sorted(rates[2:], reverse=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optim.stepz": "3"}, "steps"),
        ({"encodder.name": "edsr"}, "encoder"),
        ({"data.patches": "3"}, "patch"),
    ],
)
def test_unknown_settings_are_errors_with_a_suggestion(recipe, changes, message):
    with pytest.raises(PresetError, match=f"Did you mean '{message}'"):
        read_recipe(recipe, changes)


def test_no_photos_and_damaged_state_are_errors(recipe, photos, tmp_path):
    (tmp_path / "none").mkdir()
    with pytest.raises(NothingToDoError):
        train(read_recipe(recipe), [tmp_path / "none"], tmp_path / "run")
    assert not (tmp_path / "run").exists()
    train(read_recipe(recipe), [photos], tmp_path / "run", limits=Limits(steps=1))
    (tmp_path / "run" / "trainer.pt").write_bytes(b"PK\x03\x04 broken")
    with pytest.raises(WeightsError, match="damaged"):
        train(read_recipe(recipe), [photos], tmp_path / "run")
