import dataclasses
import json
from pathlib import Path

import pytest

from srcli.config.base_models import bases_of
from srcli.config.presets import DEFAULT_PRESET, Part, list_presets, load_preset, parse_preset, preset_folders
from srcli.errors import ModelError, PresetError
from srcli.models import count_parameters
from srcli.models.decoders import DECODERS
from srcli.models.encoders import ENCODERS
from srcli.models.generators import GENERATORS
from srcli.models.sr import OutputGenerator
from srcli.weights.build import build
from srcli.weights.files import is_bundled

TINY = """
title = "Tiny"
encoder = {name = "edsr", n_resblocks = 1, n_feats = 8}
decoder = {name = "blend", width = 8, hidden = [8]}
"""
PACKAGED = list_presets()


def write(folder: Path, text: str, name: str = "tiny.toml") -> Path:
    path = folder / name
    path.write_text(text, "utf-8")
    return path


def test_a_preset_file_says_what_it_says(tmp_path):
    path = write(tmp_path, TINY + "[pixels]\nmean = 0.5\nstd = [0.1, 0.2, 0.3]\n[engine]\ncell_clip = 4\n")
    preset = load_preset(path)
    assert (preset.name, preset.title, preset.folder) == ("tiny", "Tiny", tmp_path)
    assert preset.encoder == Part("edsr", {"n_resblocks": 1, "n_feats": 8})
    assert preset.decoder.args["hidden"] == (8,)
    assert preset.mean_std == ((0.5, 0.5, 0.5), (0.1, 0.2, 0.3))
    assert preset.engine.cell_clip == 4.0
    assert isinstance(preset.engine.cell_clip, float)
    assert preset.weights_file == "tiny.safetensors"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("[engin]\nhalo = 1", ["engin", "Did you mean 'engine'?"]),
        ("[engine]\nhallo = 1", ["hallo", "engine", "Did you mean 'halo'?"]),
        ("[engine]\nhalo = 1.5", ["engine, halo", "whole number", "1.5"]),
        ("[engine]\nhalo = true", ["engine, halo", "whole number"]),
        ("[engine]\nwindow_padding = 'never'", ["window_padding", "'never'", "'always'"]),
        ("[pixels]\nmean = [0.5, 0.5]", ["pixels, mean", "list of 3"]),
        ("[pixels]\nmean = 'dark'", ["pixels, mean", "list of 3"]),
        ("[weights]\nurl = 3", ["weights, url", "text"]),
        ("[[reported]]\nscale = 2", ["reported", "'benchmark' is missing"]),
        ("= 3", ["is not TOML", "line"]),
    ],
)
def test_a_wrong_setting_is_named_with_its_place(tmp_path, more, words):
    with pytest.raises(PresetError) as caught:
        load_preset(write(tmp_path, TINY + more))
    assert caught.value.code == 2
    for word in ["tiny.toml", *words]:
        assert word in str(caught.value)


@pytest.mark.parametrize(("table", "word"), [("name = 'x'\n", "name"), ("folder = 'x'\n", "folder")])
def test_what_is_derived_cannot_be_set(tmp_path, table, word):
    with pytest.raises(PresetError, match=word):
        load_preset(write(tmp_path, table + TINY))


def test_a_missing_section_is_named(tmp_path):
    with pytest.raises(PresetError, match="'decoder' is missing"):
        load_preset(write(tmp_path, TINY.split("decoder")[0]))


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(PresetError, match="Did you mean edsr-baseline-blend, ") as caught:
        load_preset("edsr-baseline-blen")
    assert caught.value.code == 2


@pytest.mark.parametrize("name", ["nowhere/my.toml", "../presets/edsr-baseline-blend"])
def test_a_path_is_not_looked_up_by_name(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PresetError):
        load_preset(name)


def test_the_users_folder_hides_packaged_presets(tmp_path, monkeypatch):
    write(tmp_path, TINY, f"{DEFAULT_PRESET}.toml")
    write(tmp_path, TINY, "mine.toml")
    monkeypatch.setenv("SRCLI_PRESETS_DIR", str(tmp_path))
    assert load_preset(DEFAULT_PRESET).title == "Tiny"
    names = [preset.name for preset in list_presets()]
    assert names == sorted({preset.name for preset in PACKAGED} | {"mine"})


def test_a_path_wins_over_a_name(tmp_path, monkeypatch):
    write(tmp_path, TINY.replace("Tiny", "Other"), "mine.toml")
    folder = tmp_path / "presets"
    folder.mkdir()
    write(folder, TINY, "mine.toml")
    monkeypatch.setenv("SRCLI_PRESETS_DIR", str(folder))
    monkeypatch.chdir(tmp_path)
    assert load_preset("mine").title == "Tiny"
    assert load_preset("mine.toml").title == "Other"


@pytest.mark.parametrize("preset", PACKAGED, ids=lambda preset: preset.name)
def test_a_preset_survives_json(preset):
    again = parse_preset(json.loads(preset.to_json()), name="x")
    assert again == dataclasses.replace(preset, folder=None)


def test_an_empty_list_of_arguments_survives_json(tmp_path):
    preset = load_preset(write(tmp_path, TINY.replace("[8]", "[]")))
    assert parse_preset(preset.to_dict(), name="x").decoder.args["hidden"] == ()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"blend"', '"blnd"', ["unknown decoder 'blnd'", "Did you mean 'blend'?"]),
        ('"edsr"', '"edsrr"', ["unknown encoder 'edsrr'", "Did you mean 'edsr'?"]),
        ("hidden", "hiden", ["decoder 'blend'", "'hiden'", "Did you mean 'hidden'?", "width"]),
        ("n_feats = 8", "n_feats = 8.5", ["encoder.n_feats", "whole number"]),
        ("[8]", "8", ["decoder.hidden", "must be a list"]),
        ("width = 8", "in_dim = 8", ["'in_dim'"]),
    ],
)
def test_constructors_are_the_schema(tmp_path, old, new, words):
    preset = load_preset(write(tmp_path, TINY.replace(old, new)))
    with pytest.raises(PresetError) as caught:
        build(preset)
    for word in words:
        assert word in str(caught.value)
    assert "in_dim," not in str(caught.value)  # given by the encoder, not by the preset


@pytest.mark.parametrize("preset", PACKAGED, ids=lambda preset: preset.name)
def test_every_packaged_preset_builds_and_has_the_stated_size(preset, monkeypatch, tmp_path):
    import torch

    if bases_of(preset):  # made of models that are not here
        monkeypatch.setenv("SRCLI_MODELS_DIR", str(tmp_path))
        for name in ("SRCLI_SD2_BASE", "SRCLI_DINO_VITB16"):
            monkeypatch.delenv(name, raising=False)
        with pytest.raises(ModelError, match="models pull"):
            build(preset)
        return
    assert preset.encoder.name in ENCODERS
    assert preset.decoder.name in DECODERS
    with torch.device("meta"):
        network = build(preset)
    assert count_parameters(network) == preset.params


@pytest.mark.parametrize("preset", PACKAGED, ids=lambda preset: preset.name)
def test_every_packaged_preset_can_be_judged_by_a_reader(preset):
    assert preset.title
    assert preset.code_license
    assert preset.weights.links or preset.weights.note or is_bundled(preset)
    assert all(link.startswith("https://") for link in preset.weights.links)
    low, high = preset.scales.trained
    assert 1 <= low <= high  # LGCAA has one scale
    for row in preset.reported:
        assert row.source
        assert row.psnr or row.psnr_y


def test_the_packaged_folder_holds_the_default():
    assert (preset_folders()[-1] / f"{DEFAULT_PRESET}.toml").is_file()


@pytest.mark.parametrize("preset", [p for p in PACKAGED if p.generator], ids=lambda preset: preset.name)
def test_what_samples_the_output_can_begin_near_the_input(preset):
    assert preset.diffusion.near_input == issubclass(
        GENERATORS.get(preset.generator.name, object), OutputGenerator
    )
