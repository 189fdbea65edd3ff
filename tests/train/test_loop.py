"""Runs: they learn, they resume bit for bit, they stop when asked, and they refuse what they should."""

import itertools
import json
import resource
import signal
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from srcli.config.presets import list_presets, load_preset
from srcli.errors import (
    ExistsError,
    NothingToDoError,
    ResourceError,
    SrcliError,
    UsageError,
    WeightsError,
)
from srcli.train.log import Limits
from srcli.train.loop import RunOptions, dry_run, train
from srcli.train.recipe import read_recipe
from srcli.weights.checkpoint import load
from srcli.weights.files import data_of, find, is_bundled
from tests.helpers.weights import same_weights
from tests.train.conftest import held_out_name

HALVES = {"data.scale_per": "batch", "optim.accumulate": "2", "schedule.scales": "cumulative 1:2|2:4"}


def log_of(out):
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if "loss" in line]


def uninterrupted(settings, photos, folder):
    out = folder / "whole"
    train(settings, [photos], out, options=RunOptions(log_every=1))
    return out


@pytest.mark.parametrize(("stop", "changes"), [(1, {}), (5, HALVES), (6, {}), (11, {})])
def test_a_run_stopped_anywhere_ends_in_the_same_weights(recipe, photos, tmp_path, stop, changes):
    settings = read_recipe(recipe, changes)
    once, twice = uninterrupted(settings, photos, tmp_path), tmp_path / "twice"
    train(settings, [photos], twice, limits=Limits(steps=stop), options=RunOptions(log_every=1, workers=2))
    train(settings, [photos], twice, options=RunOptions(log_every=1, save_every=3))
    assert same_weights(once, twice)
    assert same_weights(once, twice, "best.safetensors")
    assert [line["loss"] for line in log_of(once)] == [line["loss"] for line in log_of(twice)]


def test_a_killed_run_goes_on_from_its_last_checkpoint(recipe, photos, tmp_path):
    settings = read_recipe(recipe)

    class KilledError(BaseException):
        pass

    def kill(progress):
        if progress.step == 8:
            raise KilledError

    out = tmp_path / "killed"
    with pytest.raises(KilledError):
        train(settings, [photos], out, options=RunOptions(save_every=5, log_every=1), report=kill)
    lines = []
    train(settings, [photos], out, options=RunOptions(log_every=1), notify=lines.append)
    assert f"continuing {out} at step 6" in lines  # validated and saved there
    assert same_weights(uninterrupted(settings, photos, tmp_path), out)
    assert [line["step"] for line in log_of(out)] == list(range(1, 13))


def test_training_learns(recipe, photos, tmp_path):
    settings = read_recipe(recipe, {"optim.steps": "150", "optim.batch": "4", "validation.every": "1000"})
    losses = []
    train(settings, [photos], tmp_path / "run", report=lambda p: losses.append(p.loss))
    assert np.mean(losses[-20:]) < 0.9 * np.mean(losses[:5])


def test_overfitting_a_few_samples_sees_only_these(recipe, photos, tmp_path):
    from dataclasses import replace

    settings = replace(read_recipe(recipe, {"optim.steps": "60", "optim.warmup": "5"}), overfit=2)
    losses = []
    train(settings, [photos], tmp_path / "run", report=lambda p: losses.append(p.loss))
    assert losses[-1] < 0.7 * losses[0]
    assert all(b < 1.3 * a for a, b in itertools.pairwise(losses))  # no other samples in between


def test_the_run_leaves_a_log_a_configuration_samples_and_weights_that_load(recipe, photos, tmp_path):
    out = tmp_path / "run"
    assert (
        train(read_recipe(recipe), [photos], out, limits=Limits(steps=7), options=RunOptions(save_every=2))
        is None
    )
    resolved = json.loads((out / "config.resolved.json").read_text())
    assert resolved["optim"]["steps"] == 12
    assert resolved["photos"] == {"train": 3, "held_out": 1}
    card = (out / "model_card.md").read_text()
    assert "7 of 12 steps" in card
    assert "psnr-y x2" in card
    preset = load(out / "last.safetensors").preset
    assert (preset.encoder.args["n_feats"], preset.training.recipe) == (8, "tiny")
    start, first, *_ = map(json.loads, (out / "log.jsonl").read_text().splitlines())
    assert (start["event"], start["torch"]) == ("start", torch.__version__)
    assert first["step"] == 1
    assert first["loss"] > 0
    kept = sorted(path.name for path in (out / "checkpoints").iterdir())
    assert kept == [f"step_{n:08d}.safetensors" for n in (4, 6, 7)]
    with (
        Image.open(out / "samples" / "step_00000006.png") as sheet,
        Image.open(photos / f"{held_out_name()}.png") as photo,
    ):
        truth = np.asarray(photo)[16:48, 16:48]  # the centre
        assert (np.asarray(sheet)[:, -32:] == truth).all()


def test_validation_is_the_luma_psnr_of_the_averaged_weights(recipe, photos, tmp_path):
    from srcli.geometry import Size

    out = tmp_path / "run"
    train(read_recipe(recipe), [photos], out)
    network = load(out / "last.safetensors").network
    with Image.open(photos / f"{held_out_name()}.png") as photo:
        hr = photo.crop((16, 16, 48, 48))
    lr = (
        torch.from_numpy(np.array(hr.resize((16, 16), Image.Resampling.BICUBIC))).permute(2, 0, 1)[None] / 255
    )
    with torch.no_grad():
        sr = (network.render((lr - 0.5) / 0.5, Size(32, 32))[0] * 0.5 + 0.5).clamp(0, 1).permute(1, 2, 0)
    luma = (sr.double().numpy() - np.asarray(hr) / 255) @ np.array([65.738, 129.057, 25.064]) / 256
    expected = -10 * np.log10(np.mean(luma[2:-2, 2:-2] ** 2))
    measured = log_of(out)[-1]["validation"]["psnr-y x2"]
    assert measured == pytest.approx(expected, abs=0.02)  # the file has fp16 weights


def test_weights_and_card_name_all_that_has_taught_them(recipe, photos, tmp_path):
    """The start's photos too, when the run goes on without naming it; the teacher's and the start's data as they say."""
    first, out = tmp_path / "first", tmp_path / "run"
    train(read_recipe(recipe), [photos], first, limits=Limits(steps=1))
    start = first / "last.safetensors"
    assert load(start).preset.training.data == "photos"
    more = photos.rename(photos.with_name("more"))
    changes = {"objective.name": "self-ensemble", "objective.teacher": "edsr-baseline-blend"}
    train(read_recipe(recipe, changes), [more], out, limits=Limits(steps=1), init=start)
    train(read_recipe(recipe, changes), [more], out, limits=Limits(steps=2))
    taught = load_preset("edsr-baseline-blend").training.data
    wanted = f"more; started from last.safetensors: photos; teacher edsr-baseline-blend: {taught}"
    assert load(out / "last.safetensors").preset.training.data == wanted
    assert f"- Data: {wanted}; 3 images of" in (out / "model_card.md").read_text()
    for preset in filter(is_bundled, list_presets()):
        assert data_of(find(preset)) == preset.training.data
    assert data_of(tmp_path / "nothing.safetensors") == "not stated"


def test_a_signal_saves_and_says_so(recipe, photos, tmp_path):
    def interrupt(progress):
        if progress.step == 3:
            signal.raise_signal(signal.SIGTERM)

    out = tmp_path / "run"
    assert train(read_recipe(recipe), [photos], out, report=interrupt) == signal.SIGTERM
    assert torch.load(out / "trainer.pt", weights_only=True)["step"] == 3
    assert (out / "model_card.md").exists()


def test_limits_and_habits_are_no_configuration(recipe, photos, tmp_path):
    settings, out = read_recipe(recipe), tmp_path / "run"
    train(settings, [photos], out, limits=Limits(steps=2))
    train(
        settings, [photos], out, limits=Limits(seconds=0), options=RunOptions(save_every=7, keep=0, workers=1)
    )
    assert torch.load(out / "trainer.pt", weights_only=True)["step"] == 2
    assert not list((out / "checkpoints").iterdir())


def test_a_changed_configuration_is_shown_and_refused(recipe, photos, tmp_path):
    out = tmp_path / "run"
    train(read_recipe(recipe), [photos], out, limits=Limits(steps=1))
    other = read_recipe(recipe, {"optim.lr": "5e-4"})
    with pytest.raises(UsageError, match=r"optim\.lr 0\.002 -> 0\.0005"):
        train(other, [photos], out)
    train(other, [photos], out, limits=Limits(steps=2), force=True)
    (photos / "a.png").unlink()
    with pytest.raises(UsageError, match=r"photos\.train 3 -> 2"):
        train(other, [photos], out)


def test_runs_of_the_first_version_continue(recipe, photos, tmp_path):
    settings, out = read_recipe(recipe), tmp_path / "run"
    train(settings, [photos], out, limits=Limits(steps=2))
    record = json.loads((out / "config.resolved.json").read_text())
    del record["network"]["training"]
    old = {key: record[key] for key in ("network", "held_out", "data", "optim", "validation")}
    for key in ("accumulate", "lr_start", "decay", "milestones", "factor", "compile"):
        del old["optim"][key]
    del old["data"]["scale_per"]
    (out / "config.resolved.json").write_text(json.dumps(old))
    state = torch.load(out / "trainer.pt", weights_only=True)
    del state["scaler"]
    torch.save(state, out / "trainer.pt")
    train(settings, [photos], out)
    assert same_weights(uninterrupted(settings, photos, tmp_path), out)


def test_resume_takes_nothing_a_path_or_the_run_at_hand(recipe, photos, tmp_path):
    settings, out, other = read_recipe(recipe), tmp_path / "run", tmp_path / "other"
    train(settings, [photos], out, limits=Limits(steps=4))
    with pytest.raises(ExistsError, match="holds a run"):
        train(settings, [photos], out, resume="no")
    with pytest.raises(NothingToDoError, match="no run to resume"):
        train(settings, [photos], out, resume=str(tmp_path / "absent"))
    train(settings, [photos], other, resume=str(out), limits=Limits(steps=5))
    assert torch.load(other / "trainer.pt", weights_only=True)["step"] == 5
    train(settings, [photos], out, resume="no", force=True, limits=Limits(steps=1))
    assert torch.load(out / "trainer.pt", weights_only=True)["step"] == 1
    with pytest.raises(ExistsError, match="another run"):
        train(settings, [photos], out, resume=str(other))


def test_a_run_without_a_finite_loss_stops_and_keeps_what_it_choked_on(recipe, photos, tmp_path):
    settings = read_recipe(
        recipe, {"optim.steps": "40", "pixels.std": "[1e-45, 1, 1]", "validation.every": "99"}
    )
    out = tmp_path / "run"
    with pytest.raises(SrcliError, match="No finite loss in 20 steps up to step 20") as caught:
        train(settings, [photos], out, options=RunOptions(save_every=100))
    assert caught.value.code == 1
    ((lr, *_),) = torch.load(out / "not-finite-step-20.pt", weights_only=True)
    assert lr.shape == (2, 3, 12, 12)


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on the size of files")
def test_a_full_disk_leaves_the_last_checkpoint(recipe, photos, tmp_path):
    settings, out = read_recipe(recipe), tmp_path / "run"
    train(settings, [photos], out, limits=Limits(steps=2))
    before = {path: path.read_bytes() for path in out.glob("*.*t*") if path.suffix in (".pt", ".safetensors")}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))  # EFBIG, which is treated as ENOSPC is
    try:
        with pytest.raises(ResourceError, match="disk is full") as caught:
            train(settings, [photos], out, limits=Limits(steps=3))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.code == 5
    assert len(before) == 2
    assert all(path.read_bytes() == content for path, content in before.items())
    assert not list(out.glob(".srcli-*"))
    train(settings, [photos], out)
    assert same_weights(uninterrupted(settings, photos, tmp_path), out)


def test_a_dry_run_takes_a_step_tells_and_writes_nothing(recipe, photos, tmp_path):
    lines, out = [], tmp_path / "run"
    dry_run(read_recipe(recipe), [photos], out, notify=lines.append)
    assert not out.exists()
    assert any("samples/s" in line and "MiB" in line for line in lines)
    assert any(line.startswith("memory: a step takes about") for line in lines)
    train(read_recipe(recipe), [photos], out, limits=Limits(steps=1))
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    dry_run(read_recipe(recipe), [photos], out, notify=lines.append)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
    assert any("11 of 12 steps" in line for line in lines)
    with pytest.raises(UsageError, match="another configuration"):
        dry_run(read_recipe(recipe, {"optim.lr": "1"}), [photos], out)


def test_broken_small_and_missing_photos(recipe, photos, tmp_path):
    (tmp_path / "none").mkdir()
    with pytest.raises(NothingToDoError):
        train(read_recipe(recipe), [tmp_path / "none"], tmp_path / "run")
    Image.new("RGB", (10, 40)).save(tmp_path / "none" / "narrow.png")
    with pytest.raises(NothingToDoError, match="at least 12 pixels; skipped: 1"):
        train(read_recipe(recipe), [tmp_path / "none"], tmp_path / "run")
    assert not (tmp_path / "run").exists()
    Image.new("RGB", (40, 40)).save(photos / "cut.jpg")
    (photos / "cut.jpg").write_bytes((photos / "cut.jpg").read_bytes()[:400])
    lines = []
    train(read_recipe(recipe), [photos], tmp_path / "run", limits=Limits(steps=1), notify=lines.append)
    (named,) = [line for line in lines if "cut.jpg" in line]
    assert named.startswith("skipped cut.jpg: cannot be decoded")


def test_photos_too_small_for_the_scales_are_no_secret(recipe, photos, tmp_path):
    lines = []
    settings = read_recipe(recipe, {"schedule.scales": "alternate 1:4|4:12"})
    train(settings, [photos], tmp_path / "run", limits=Limits(steps=1), notify=lines.append)
    assert any("the largest photo allows x5.33" in line for line in lines)


def test_a_damaged_state_and_an_unwritable_folder_are_errors(recipe, photos, tmp_path):
    train(read_recipe(recipe), [photos], tmp_path / "run", limits=Limits(steps=1))
    (tmp_path / "run" / "trainer.pt").write_bytes(b"PK\x03\x04 broken")
    with pytest.raises(WeightsError, match="damaged"):
        train(read_recipe(recipe), [photos], tmp_path / "run")
    torch.save({"step": 3}, tmp_path / "run" / "trainer.pt")
    with pytest.raises(WeightsError, match="does not fit"):
        train(read_recipe(recipe), [photos], tmp_path / "run")
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(ResourceError):
        train(read_recipe(recipe), [photos], tmp_path / "file" / "run")
    with pytest.raises(UsageError, match="cannot be measured at x20"):
        train(read_recipe(recipe, {"validation.scales": "[20]"}), [photos], tmp_path / "other")


def test_tensorboard_gets_what_the_log_gets(recipe, photos, tmp_path):
    pytest.importorskip("tensorboard")
    out = tmp_path / "run"
    train(read_recipe(recipe), [photos], out, options=RunOptions(log_every=4, tensorboard=True))
    assert list((out / "tensorboard").glob("events.out.tfevents.*"))


def test_a_second_call_in_the_same_folder_is_refused_and_harms_nothing(recipe, photos, tmp_path):
    out = tmp_path / "run"
    settings = read_recipe(recipe)

    def intrude(progress):
        if progress.step == 3:
            with pytest.raises(UsageError, match="another process trains"):
                train(settings, [photos], out)

    train(settings, [photos], out, report=intrude)
    train(settings, [photos], tmp_path / "alone")
    assert same_weights(out, tmp_path / "alone")
