"""`srcli upscale --degradation`: which model a picture gets, and what is said about it."""

import json

import cv2
import numpy as np
import pytest
from PIL import Image

from srcli.config.presets import REAL_WORLD_PRESET, load_preset
from tests.cli.conftest import Bicubic, picture, save
from tests.degradations.test_estimate import jpeg, leaves, noisy


@pytest.fixture
def real(monkeypatch):
    """The stand-in for the network of damaged pictures."""
    bicubic = Bicubic()
    monkeypatch.setattr("srcli.batch.loading.Loading.__call__", lambda *_: bicubic)
    return bicubic


@pytest.fixture
def shots(folder):
    """A clean and a damaged picture."""
    clean = leaves(256)
    damaged = jpeg(noisy(cv2.GaussianBlur(clean, (0, 0), 1.1), 8), 50)
    for name, pixels in (("clean", clean), ("damaged", damaged)):
        save(folder / f"{name}.png", np.rint(pixels * 255).astype(np.uint8))
    return clean, damaged


def records(result):
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    return found if isinstance(found, list) else [found]


def test_auto_measures_every_picture_and_says_what_it_picked(upscale, engine, real, shots):
    result = upscale("clean.png", "damaged.png", "-s", "2", "--degradation", "auto", "--json")
    clean, damaged = records(result)
    assert clean["model"]["name"] == "tiny"
    assert damaged["model"]["name"] == REAL_WORLD_PRESET
    assert damaged["model"]["sha256"] == load_preset(REAL_WORLD_PRESET).weights.sha256
    assert (clean["degradation"]["pick"], damaged["degradation"]["pick"]) == ("clean", "real")
    assert damaged["degradation"]["blocks"] > 3 * clean["degradation"]["blocks"]
    assert 0.5 <= damaged["degradation"]["confidence"] <= 1
    assert len(engine.calls) == len(real.calls) == 1
    for line, words in zip(result.stderr.splitlines(), ("looks clean (", "looks damaged ("), strict=True):
        assert words in line
        assert "blocks " in line
        assert "noise " in line
        assert "blur " in line
    again = records(upscale("clean.png", "damaged.png", "-s", "2", "--degradation", "auto", "--json"))
    assert [record["status"] for record in again] == ["skipped", "skipped"]


def test_without_the_option_nothing_is_measured(upscale, engine, real, shots):
    for words in ((), ("--degradation", "clean")):
        (record,) = records(upscale("damaged.png", "-s", "2", *words, "--overwrite", "--json"))
        assert record["model"]["name"] == "tiny"
        assert record["degradation"] is None
    assert real.calls == []


def test_real_takes_the_model_for_damaged_pictures(upscale, engine, real, shots):
    for use in ({}, {"use": REAL_WORLD_PRESET}):
        result = upscale("clean.png", "-s", "2", "--degradation", "real", "--dry-run", "--json", **use)
        assert records(result)[0]["model"]["name"] == REAL_WORLD_PRESET
    result = upscale("clean.png", "-s", "2", "--degradation", "auto", "--dry-run", use=REAL_WORLD_PRESET)
    assert result.exit_code == 0
    assert f"{REAL_WORLD_PRESET} was trained on damaged pictures" in result.stderr


def test_depth_gray_and_transparency_do_not_change_the_pick(upscale, engine, real, folder, shots):
    _, damaged = shots
    whole = np.rint(damaged * 65535).astype(np.uint16)
    cover = np.full((128, 128, 1), 65535, np.uint16)
    cover[:, 100:] = 0
    gray = np.rint(damaged.mean(axis=2) * 255).astype(np.uint8)
    kinds = {"deep": whole[..., ::-1], "alpha": np.concatenate([whole[..., ::-1], cover], 2), "gray": gray}
    for name, pixels in kinds.items():
        cv2.imwrite(str(folder / f"{name}.png"), pixels)
    words = [f"{name}.png" for name in kinds]
    found = records(upscale(*words, "-s", "2", "--degradation", "auto", "--dry-run", "--json"))
    assert [record["degradation"]["pick"] for record in found] == ["real"] * 3


def test_transparency_is_no_damage_and_is_kept(upscale, engine, real, folder, shots):
    _, damaged = shots
    cover = np.linspace(255, 160, 128)[None].repeat(128, 0)
    save(folder / "a.png", np.dstack([np.rint(damaged * 255), np.rint(cover)]).astype(np.uint8))
    for words, calls in ((("--degradation", "real"), 1), (("--degradation", "real", "--alpha", "model"), 2)):
        engine.calls.clear()
        (record,) = records(upscale("a.png", "-s", "2", *words, "--overwrite", "--json"))
        assert len(engine.calls) == calls
        assert any("lanczos" in note for note in record["notes"]) == (calls == 1)
        with Image.open(folder / "a_x2.png") as result:
            found = np.asarray(result)[..., 3]
        assert np.abs(found[:, 1::2] - np.asarray(cover, np.float64).repeat(2, 0)).max() < 2


def test_what_cannot_be_measured_is_left_to_the_model_that_was_chosen(upscale, engine, real, folder):
    save(folder / "small.png", picture())
    result = upscale("small.png", "-s", "2", "--degradation", "auto", "--json")
    (record,) = records(result)
    assert record["model"]["name"] == "tiny"
    assert record["degradation"] == {"asked": "auto", "pick": "clean", "looks": None, "confidence": None}
    assert "too little to measure" in result.stderr
    (record,) = records(upscale("small.png", "-s", "0.5", "--degradation", "auto", "--json"))
    assert record["degradation"] is None  # no network is needed


@pytest.mark.parametrize(
    "words",
    [
        ("--degradation", "auto", "--consistency"),
        ("--degradation", "real", "--consistency"),
        ("--degradation", "real", "--temperature", "0.5"),
        ("--degradation", "auto", "--temperature", "0.5", "-m", "edsr-baseline-linf"),
        ("--degradation", "auto", "--samples", "2", "-m", "edsr-baseline-linf"),
        ("--degradation", "bad"),
    ],
)
def test_options_that_contradict_it_are_refused(upscale, engine, shots, words):
    result = upscale("clean.png", *words)
    assert result.exit_code == 2
    assert "degradation" in result.stderr or "temperature" in result.stderr
