"""`srcli upscale --degradation`: which model a picture gets, and what is said about it."""

import json

import cv2
import numpy as np
import pytest
from PIL import Image

from srcli.batch.provenance import read_provenance
from srcli.config.presets import REAL_WORLD_PRESET, load_preset
from tests.cli.conftest import Bicubic, picture, save
from tests.degradations.test_estimate import jpeg, leaves, noisy

SECOND = "srcli.batch.loading.Model.load"


@pytest.fixture
def real(in_place):
    """The stand-in for the network of damaged pictures."""
    return in_place(Bicubic(), SECOND)


@pytest.fixture
def shots(folder):
    """A clean and a damaged picture."""
    clean = leaves(256, seed=1)
    damaged = jpeg(noisy(cv2.GaussianBlur(clean, (0, 0), 1.1), 8), 50)
    for name, pixels in (("clean", clean), ("damaged", damaged)):
        save(folder / f"{name}.png", np.rint(pixels * 255).astype(np.uint8))
    return clean, damaged


def records(result):
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    return found if isinstance(found, list) else [found]


def test_auto_measures_every_picture_and_says_what_it_picked(upscale, engine, real, shots):
    result = upscale("clean.png", "damaged.png", "-s", "2", "--degradation", "auto:each", "--json")
    clean, damaged = records(result)
    assert clean["model"]["name"] == "tiny"
    assert damaged["model"]["name"] == REAL_WORLD_PRESET
    assert damaged["model"]["sha256"] == load_preset(REAL_WORLD_PRESET).weights.sha256
    assert (clean["degradation"]["pick"], damaged["degradation"]["pick"]) == ("clean", "real")
    assert damaged["degradation"]["blocks"] > 2 * clean["degradation"]["blocks"]
    assert 0.5 <= damaged["degradation"]["confidence"] <= 1
    assert len(real.calls) == 1
    assert len(engine.calls) == 1 + (damaged["restore"] < 1)  # mixed into one that is slightly damaged
    for line, words in zip(result.stderr.splitlines(), ("looks clean (", "looks damaged ("), strict=True):
        assert words in line
        assert "blocks " in line
        assert "noise " in line
        assert "blur " in line
    again = records(upscale("clean.png", "damaged.png", "-s", "2", "--degradation", "auto:each", "--json"))
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
    see_through = np.concatenate([whole[..., ::-1] // 257, cover // 257], 2).astype(np.uint8)
    kinds = {"deep": whole[..., ::-1], "alpha": see_through, "gray": gray}
    for name, pixels in kinds.items():
        cv2.imwrite(str(folder / f"{name}.png"), pixels)
    words = [f"{name}.png" for name in kinds]
    found = records(upscale(*words, "-s", "2", "--degradation", "auto:each", "--dry-run", "--json"))
    assert [record["degradation"]["pick"] for record in found] == ["clean", "real", "real"]  # 16 bits never


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
    assert record["degradation"] == {"asked": "auto:each", "pick": "clean", "looks": None, "confidence": None}
    assert "too little to measure" in result.stderr
    (record,) = records(upscale("small.png", "-s", "0.5", "--degradation", "auto:each", "--json"))
    assert record["degradation"] is None  # no network is needed


@pytest.mark.parametrize(
    "words",
    [
        ("--degradation", "auto", "--finish", "consistency"),
        ("--degradation", "real", "--finish", "consistency"),
        ("--degradation", "real", "--temperature", "0.5"),
        ("--degradation", "auto", "--temperature", "0.5", "-m", "edsr-baseline-linf"),
        ("--degradation", "auto", "--samples", "2", "-m", "edsr-baseline-linf"),
        ("--degradation", "bad"),
        ("--restore", "0.5"),
        ("--restore", "1.5", "--degradation", "real"),
    ],
)
def test_options_that_contradict_it_are_refused(upscale, engine, shots, words):
    result = upscale("clean.png", *words)
    assert result.exit_code == 2
    assert any(word in result.stderr for word in ("degradation", "temperature", "restore"))


def test_a_folder_has_one_verdict_by_the_median_of_its_pictures(upscale, engine, real, folder, shots):
    clean, damaged = (np.rint(pixels * 255).astype(np.uint8) for pixels in shots)
    for name, pixels in (("a/1.png", damaged), ("a/2.png", clean), ("a/3.png", damaged), ("b/4.png", clean)):
        (folder / name).parent.mkdir(exist_ok=True)
        save(folder / name, pixels)
    words = ("a", "b", "-r", "-o", "out", "-s", "2", "--dry-run", "--json")
    found = records(upscale(*words, "--degradation", "auto"))
    assert [record["degradation"]["pick"] for record in found] == ["real", "real", "real", "clean"]
    assert found[1]["degradation"]["measured"] == 3
    found = records(upscale(*words, "--degradation", "auto:each"))
    assert [record["degradation"]["pick"] for record in found] == ["real", "clean", "real", "clean"]


def test_what_photographers_deliver_is_never_taken_for_damaged(upscale, engine, real, folder, shots):
    damaged = np.rint(shots[1] * 255).astype(np.uint8)
    for name, options in (("a.tif", {}), ("b.jpg", {"quality": 90}), ("c.jpg", {"quality": 85})):
        Image.fromarray(damaged).save(folder / name, **options)
    found = records(
        upscale("a.tif", "b.jpg", "c.jpg", "-s", "2", "--degradation", "auto:each", "--dry-run", "--json")
    )
    assert [record["degradation"].get("why") for record in found] == ["TIFF", "JPEG of quality 90", None]
    assert [record["degradation"]["pick"] for record in found] == ["clean", "clean", "real"]


def test_damage_is_told_of_once_where_nobody_asked(upscale, engine, real, folder, shots):
    save(folder / "again.png", np.rint(shots[1] * 255).astype(np.uint8))
    result = upscale("clean.png", "damaged.png", "again.png", "-s", "2")
    assert result.stderr.count("--degradation real") == 1
    assert "damaged.png: looks damaged" in result.stderr
    result = upscale("damaged.png", "-s", "2", "--degradation", "clean", "--overwrite")
    assert "looks damaged" not in result.stderr


@pytest.mark.parametrize(("share", "level"), [(None, 200), ("1", 200), ("0.25", 125), ("0", 100)])
def test_the_dial_mixes_the_faithful_picture_and_the_restored_one(
    upscale, folder, shots, share, level, in_place
):
    class Level(Bicubic):
        def __init__(self, value):
            super().__init__()
            self.value = value / 255

        def rows(self, source, target, *_):
            step = 7 if self.value > 0.5 else 16  # bands need not agree
            for top in range(0, target.h, step):
                yield np.full((min(step, target.h - top), target.w, 3), self.value, np.float32)

    in_place(Level(200))
    in_place(Level(100), SECOND)
    words = () if share is None else ("--restore", share)
    result = upscale("damaged.png", "-s", "2", "--degradation", "real", *words, "--json")
    (record,) = records(result)
    assert record["restore"] == (1 if share is None else float(share))
    with Image.open(folder / "damaged_x2.png") as made:
        assert np.asarray(made).min() == np.asarray(made).max() == level
    again = upscale("damaged.png", "-s", "2", "--degradation", "real", *words, "--json")
    assert records(again)[0]["status"] == "skipped"
    other = upscale("damaged.png", "-s", "2", "--degradation", "real", "--restore", "0.5", "--json")
    assert records(other)[0]["status"] == "done"


def test_the_verdict_and_the_share_stand_in_file_and_manifest(upscale, engine, real, folder, shots):
    words = ("damaged.png", "-s", "2", "--degradation", "auto:each", "--manifest", "m.jsonl", "--json")
    (record,) = records(upscale(*words))
    assert 0.5 <= record["restore"] <= 1
    made = read_provenance(folder / "damaged_x2.png")
    kept = json.loads((folder / "m.jsonl").read_text())
    for place in (made, kept):
        assert place["restore"] == record["restore"]
        assert place["degradation"] == record["degradation"]
