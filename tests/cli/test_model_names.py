"""What `-m` means when models come and go: successors of old names, pinned weights, and a default that changes."""

import json
import shutil
from functools import partial

import pytest

from srcli.batch.provenance import read_provenance
from srcli.config import presets
from srcli.config.presets import load_preset, successor
from srcli.engine.upscaler import Upscaler
from srcli.errors import ModelError
from srcli.files import sha256
from srcli.weights.build import build
from srcli.weights.checkpoint import save as save_weights
from tests.cli.conftest import picture, save
from tests.helpers.command import srcli

TINY = """
title = "Tiny"
encoder = {name = "edsr", n_resblocks = 1, n_feats = 8}
decoder = {name = "blend", width = 8, hidden = [8]}
"""


@pytest.fixture
def models(folder, monkeypatch):
    """Presets 'new' and 'other', which has other weights, in a folder of models; 'gone' was replaced by 'new'."""
    monkeypatch.setenv("SRCLI_PRESETS_DIR", str(folder / "presets"))
    monkeypatch.setitem(presets.SUCCESSORS, "gone", "new")
    monkeypatch.setitem(presets.SUCCESSORS, "lost", "nowhere")
    (folder / "presets").mkdir()
    for name in ("new", "other"):
        (folder / "presets" / f"{name}.toml").write_text(TINY, "utf-8")
        preset = load_preset(name)
        save_weights(folder.parent / "models" / f"{name}.safetensors", build(preset), preset)
    save(folder / "photo.png", picture(6, 8))
    return folder.parent / "models"


run = partial(srcli, code=None)


def upscaled(*words):
    """The record of `srcli upscale photo.png -s 2 --json` with further words."""
    done = run("upscale", "photo.png", "-s", 2, "--json", *words)
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


# --- successors ---------------------------------------------------------------------------------------------------


def test_an_old_name_is_its_successor_which_is_said_and_recorded(models, engine, folder):
    done = run("upscale", "photo.png", "-s", 2, "-m", "gone", "--json", "--manifest", "m.jsonl")
    assert done.exit_code == 0
    assert done.stderr == "'gone' has been replaced; its successor 'new' is used\n"
    wanted = {"name": "new", "sha256": sha256(models / "new.safetensors"), "license": "unstated"}
    line = json.loads((folder / "m.jsonl").read_text())
    for record in (json.loads(done.stdout), read_provenance(folder / "photo_x2.png"), line):
        assert record["model"] == wanted
    info = run("models", "info", "gone", "--json")
    assert json.loads(info.stdout)["name"] == "new"
    assert "successor 'new'" in info.stderr


def test_an_old_preset_is_itself_as_long_as_it_is_there(models, engine, folder):
    (folder / "presets" / "gone.toml").write_text(TINY, "utf-8")
    shutil.copy(models / "new.safetensors", models / "gone.safetensors")
    assert successor("gone") is None
    done = run("upscale", "photo.png", "-s", 2, "-m", "gone", "--json")
    assert json.loads(done.stdout)["model"]["name"] == "gone"
    assert done.stderr == ""


def test_a_name_whose_successor_is_not_there_is_unknown(models, engine):
    done = run("upscale", "photo.png", "-m", "lost")
    assert done.exit_code == 2
    assert "unknown preset 'lost'" in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["eval", "--data", "shots", "-s", "2", "-m", "bicubic,gone"],
        ["eval", "--timing", "1", "-m", "gone"],
        ["sweep-temperature", "--data", "shots", "-m", "gone", "--select", "psnr"],
        ["pareto", "--bench", "Set5", "-m", "gone", "--x", "psnr", "--y", "ssim"],
        ["compare", "photo.png", "-m", "gone", "--downscale", "2"],
        ["models", "merge", "gone", "new", "-o", "m.safetensors"],
        ["train", "--recipe", "quick", "--data", "shots", "--init", "gone"],
        ["upscale", "photo.png", "-m", "gone@0123456789"],
    ],
)
def test_where_figures_and_weights_count_an_old_name_is_refused(models, folder, words):
    save(folder / "shots" / "a.png", picture(16, 16))
    done = run(*words)
    assert done.exit_code == 4, done.output
    assert "'gone' has been replaced; its successor 'new' is another network. Name it: new" in done.stderr
    assert "Traceback" not in done.output


def test_in_python_an_old_name_warns(models):
    with pytest.warns(UserWarning, match="'gone' has been replaced; its successor 'new' is used"):
        upscaler = Upscaler.from_preset("gone", device="cpu")
    assert upscaler.preset.name == "new"
    with pytest.raises(ModelError, match="successor 'new'"):
        load_preset("gone")


# --- pins ---------------------------------------------------------------------------------------------------------


def test_pinned_weights_are_used_if_they_are_the_ones(models, engine):
    digits = sha256(models / "new.safetensors")
    for pin in (digits, digits[:8].upper()):
        assert upscaled("-m", f"new@{pin}", "--overwrite")["model"]["sha256"] == digits
    file = models / "new.safetensors"
    assert upscaled("-m", f"{file}@{digits[:9]}", "--overwrite")["model"]["name"] == "new"
    assert run("models", "path", f"new@{digits[:8]}").stdout.strip() == str(file)


@pytest.mark.parametrize(
    ("pin", "code", "said"),
    [
        ("0123abcd", 4, "is not what 'new@0123abcd' asks for: its SHA-256 is "),
        ("0123abc", 2, "8 to 64 digits"),
        ("0123abcg", 2, "8 to 64 digits"),
        ("0" * 65, 2, "8 to 64 digits"),
    ],
)
@pytest.mark.parametrize("command", [("upscale", "photo.png"), ("compare", "photo.png", "-s", 2)])
def test_other_weights_than_the_pinned_ones_are_refused(models, command, pin, code, said):
    done = run(*command, "-m", f"new@{pin}")
    assert done.exit_code == code
    assert said in done.stderr


def test_a_pin_of_missing_weights_says_how_to_get_them(models):
    (models / "new.safetensors").unlink()
    done = run("upscale", "photo.png", "-m", "new@0123abcd")
    assert done.exit_code == 4
    assert "are not here" in done.stderr


# --- a default that changes ---------------------------------------------------------------------------------------


@pytest.fixture
def default(models, monkeypatch):
    """`default(name)` makes another preset the default."""

    def change(name):
        monkeypatch.setattr("srcli.cli.upscale.DEFAULT_PRESET", name)

    change("other")
    return change


@pytest.mark.parametrize("recorded", [[], ["--metadata", "unmarked", "--manifest", "m.jsonl"]])
def test_a_changed_default_redoes_nothing_until_it_is_asked_to(default, engine, folder, recorded):
    made = upscaled(*recorded)
    before = (folder / "photo_x2.png").read_bytes()
    default("new")
    for _ in range(2):
        kept = upscaled(*recorded)
        assert (kept["status"], kept["model"], kept["fingerprint"]) == (
            "skipped",
            made["model"],
            made["fingerprint"],
        )
        assert kept["notes"][-1] == "up to date, made by other; --upgrade makes it again"
    assert (
        upscaled("-m", "gone", *recorded)["status"] == "skipped"
    )  # an old name is no choice of these weights
    assert (folder / "photo_x2.png").read_bytes() == before
    assert len(engine.calls) == 1
    again = upscaled("--upgrade", *recorded)
    assert (again["status"], again["model"]["name"]) == ("done", "new")
    assert upscaled("--upgrade", *recorded)["notes"][-1] == "up to date"


@pytest.mark.parametrize(
    "words", [["-m", "new"], ["-m", "new", "--upgrade"], ["--bit-depth", "16"], ["-s", "3"], ["--seed", "1"]]
)
def test_what_is_asked_for_otherwise_is_made_again(default, engine, words):
    upscaled("-o", "big.png")
    default("new")
    assert upscaled("-o", "big.png", *words)["model"]["name"] == "new"
    assert len(engine.calls) == 2


def test_another_picture_under_the_same_name_is_made_again(default, engine, folder):
    upscaled()
    save(folder / "photo.png", picture(8, 6))
    default("new")
    assert upscaled()["status"] == "done"


def test_what_somebody_has_changed_is_neither_kept_as_ours_nor_replaced(default, engine, folder):
    upscaled("-o", "big.tif")
    data = (folder / "big.tif").read_bytes()
    (folder / "big.tif").write_bytes(data + b"\0")
    default("new")
    assert run("upscale", "photo.png", "-s", 2, "-o", "big.tif").exit_code == 6
    assert run("upscale", "photo.png", "-s", 2, "-o", "big.tif", "--upgrade").exit_code == 6


def test_a_model_for_damaged_pictures_does_not_stand_for_one_for_clean_ones(default, engine, folder):
    text = TINY + '[training]\ndegradation = "realesrgan"\n'
    (folder / "presets" / "other.toml").write_text(text, "utf-8")
    upscaled()
    default("new")
    assert upscaled()["model"]["name"] == "new"


def test_a_manifest_of_an_earlier_version_knows_its_model_by_the_hash(default, engine, folder, models):
    toml = folder / "presets" / "other.toml"
    toml.write_text(TINY + f'[weights]\nsha256 = "{sha256(models / "other.safetensors")}"\n', "utf-8")
    words = ["--metadata", "unmarked", "--manifest", "m.jsonl"]
    upscaled(*words)
    line = json.loads((folder / "m.jsonl").read_text())
    del line["model"]
    (folder / "m.jsonl").write_text(json.dumps(line) + "\n")
    default("new")
    assert upscaled(*words)["notes"][-1] == "up to date, made by other; --upgrade makes it again"


@pytest.mark.parametrize("other", ["--overwrite", "--skip-existing"])
def test_upgrade_and_what_contradicts_it(default, other):
    done = run("upscale", "photo.png", "--upgrade", other)
    assert done.exit_code == 2
    assert "contradict" in done.stderr
