"""`srcli upscale` with a diffusion model: how it samples, and which branch answers."""

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from srcli.batch.provenance import read_provenance
from srcli.cli import app
from srcli.config.presets import load_preset
from srcli.config.sampling import choose_sampling, usual_colour_fix
from srcli.config.toml import read_toml
from srcli.engine.branch_map import PALETTE
from srcli.errors import UsageError
from srcli.image.read import read_image
from srcli.train.recipe import find_recipe
from tests.cli.conftest import picture, save


@pytest.fixture
def photo(folder):
    save(folder / "a.png", picture(8, 10))
    return folder / "a.png"


def run(fplia, *words):
    return CliRunner().invoke(app, ["upscale", "--model", str(fplia), "--device", "cpu", *map(str, words)])


def pixels(path):
    with Image.open(path) as opened:
        return np.asarray(opened)


def test_choices_are_told_drawn_and_stored(fplia, photo, folder):
    done = run(fplia, photo, "-s", "2.5", "--json", "--selection-map", "map.png")
    assert done.exit_code == 0, done.stderr
    record = json.loads(done.stdout)
    assert sum(record["selection"].values()) == pytest.approx(100, abs=0.01)
    assert record["sampling"]["sampler"] == "dpm++"
    assert record["sampling"]["calls"] == 3
    assert "is experimental" in done.stderr
    with Image.open(folder / "map.png") as drawn:
        assert drawn.mode == "P"
        chosen = np.asarray(drawn)
    assert chosen.shape == (20, 25)
    with Image.open(folder / "map.png") as drawn:
        colours = drawn.getpalette()[:12]
    assert "".join(f"{value:02X}" for value in colours[:3]) == PALETTE["f"][1:]
    assert read_provenance(folder / "map.png")["fingerprint"] == record["fingerprint"]
    for n, name in enumerate(("f", "p", "pf", "fp")):
        assert record["selection"][name] == pytest.approx(100 * (chosen == n).mean(), abs=0.001)
    again = run(fplia, photo, "-s", "2.5", "--selection-map", "map.png")
    assert "up to date" in again.stdout


def test_each_option_of_sampling_makes_another_picture_and_is_recorded(fplia, photo, folder):
    found = {}
    for name, words in {
        "plain": [], "seed": ["--seed", 1], "sampler": ["--sampling", "sampler=ddim"], "steps": ["--sampling", "steps=2"],
        "eta": ["--sampling", "sampler=ddim,eta=1"], "average": ["--sampling", "average=2"], "branch": ["--branch", "p"],
    }.items():  # fmt: skip
        done = run(fplia, photo, "-s", 3, "-o", f"{name}.png", *words)
        assert done.exit_code == 0, done.stderr
        found[name] = pixels(folder / f"{name}.png").tobytes()
    made = {name: read_provenance(folder / f"{name}.png") for name in found}
    assert len({each["fingerprint"] for each in made.values()}) == len(found)
    assert len(set(found.values())) == len(found)
    assert made["eta"]["sampling"]["eta"] == 1
    assert made["branch"]["branch"] == "p"
    again = run(fplia, photo, "-s", 3, "-o", "again.png", "--branch", "selected")
    assert again.exit_code == 0
    assert pixels(folder / "again.png").tobytes() == found["plain"]


def test_samples_of_a_diffusion_model_differ_by_their_seeds(fplia, photo, folder):
    done = run(fplia, photo, "-s", 2, "--samples", 2, "--jsonl")
    assert done.exit_code == 0, done.stderr
    first, second = map(json.loads, done.stdout.splitlines())
    assert (first["seed"], second["seed"]) == (0, 1)
    assert not np.array_equal(pixels(folder / "a_x2_1.png"), pixels(folder / "a_x2_2.png"))


def test_a_dry_run_says_how_it_would_sample(fplia, photo, folder):
    done = run(fplia, photo, "--dry-run", "--sampling", "sampler=ddim,steps=50,eta=1")
    assert done.exit_code == 0, done.stderr
    assert "ddim, 50 steps, eta 1" in done.stderr
    assert not (folder / "a_x4.png").exists()


def test_transparency_is_not_sampled_and_16_bits_stay(fplia, folder):
    save(folder / "a.png", picture(8, 10, mode="RGBA"))
    done = run(fplia, "a.png", "-s", 2, "--bit-depth", 16)
    assert done.exit_code == 0, done.stderr
    assert "transparency enlarged by lanczos" in done.stderr
    assert read_image(folder / "a_x2.png").alpha is not None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--sampling", "steps=0"], "steps are a number from 1 to 1000"),
        (["--sampling", "steps=1001"], "from 1 to 1000"),
        (["--sampling", "steps=many"], "takes a number, got 'many'"),
        (["--sampling", "step=9"], "It takes sampler=.., steps=.."),
        (["--sampling", "sampler=dpm"], "Did you mean 'ddpm'?"),
        (["--sampling", "eta=0.5"], "Add sampler=ddim"),
        (["--sampling", "sampler=ddim,eta=2"], "from 0 to 1"),
        (["--sampling", "average=0"], "from 1 to 256"),
        (["--sampling", "fidelity=0.5"], "does not restore"),
        (["--branch", "q"], "unknown branch 'q'"),
        (["--branch", "f", "--selection-map", "m.png"], "nothing is chosen"),
        (["--sampling", "average=2", "--selection-map", "m.png"], "no one choice"),
        (["--selection-map", "m.jpg"], "writes .png files"),
        (["--samples", "2", "--selection-map", "m.png"], "one file for 2 pictures"),
        (["--temperature", "0.5"], "has no temperature"),
        (["--finish", "tta"], "removes what noise adds"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_hint(fplia, photo, words, said):
    done = run(fplia, photo, *words)
    assert done.exit_code == 2
    assert said in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    "words", [["--sampling", "steps=5"], ["--branch", "f"], ["--selection-map", "m.png"]]
)
def test_a_model_that_samples_nothing_has_none_of_these_options(upscale, photo, words):
    done = upscale(photo, *words)
    assert done.exit_code == 2
    assert "is no diffusion model" in done.stderr or "has no branches" in done.stderr


def test_missing_official_weights_say_where_to_get_them(photo):
    done = run("fplia", photo)
    assert done.exit_code == 4
    assert "fplia" in done.stderr


@pytest.mark.parametrize(("name", "recipe"), [("kim-small", "kim"), ("idm-small", "idm")])
def test_small_models_that_do_not_ship_say_how_to_train_them(photo, name, recipe):
    done = run(name, photo)
    assert done.exit_code == 4
    assert f"Train them: srcli train --recipe {recipe} --data PHOTOS (" in done.stderr
    assert "short" in read_toml(find_recipe(recipe))["variant"]


def test_a_presets_own_colour_fix_is_the_default():
    assert usual_colour_fix(load_preset("kim-small")) == "lowpass"
    assert usual_colour_fix(load_preset("lgcaa")) == "adain"
    assert usual_colour_fix(load_preset("fplia-small")) == "none"


def test_fidelity_is_a_dial_of_models_whose_canvas_is_the_output():
    idm = load_preset("idm")
    assert choose_sampling(idm, fidelity=0.5).fidelity == 0.5
    assert choose_sampling(idm).fidelity == 0
    with pytest.raises(UsageError, match="does not restore an enlarged picture"):
        choose_sampling(load_preset("fplia-small"), fidelity=0.5)
