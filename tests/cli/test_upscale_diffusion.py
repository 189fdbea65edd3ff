"""`srcli upscale` with a diffusion model: how it samples, and which branch answers."""

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from srcli.cli import app
from srcli.cli.restoring import colour_fix, faithful
from srcli.config.presets import load_preset
from srcli.config.sampling import choose_sampling
from srcli.config.toml import read_toml
from srcli.engine.branch_map import PALETTE
from srcli.errors import UsageError
from srcli.image.colour_transfer import ColourFix
from srcli.image.provenance import read_provenance
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
    done = run(
        fplia, photo, "-s", "2.5", "--json", "--selection-stats", "--selection-map", "map.png",
        "--selection-overlay", "over", "--selection-scores", "scores.npy",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    record = json.loads(done.stdout)
    assert sum(record["selection"].values()) == pytest.approx(100, abs=0.01)
    assert record["sampling"]["sampler"] == "dpm++"
    assert record["sampling"]["calls"] == 3
    assert "is experimental" in done.stderr
    scores = np.load(folder / "scores.npy")
    assert scores.shape == (4, 20, 25)
    with Image.open(folder / "map.png") as drawn:
        assert drawn.mode == "P"
        assert np.array_equal(np.asarray(drawn), scores.argmax(axis=0))
        colours = drawn.getpalette()[:12]
    assert "".join(f"{value:02X}" for value in colours[:3]) == PALETTE["f"][1:]
    assert read_provenance(folder / "map.png")["fingerprint"] == record["fingerprint"]
    for n, name in enumerate(("f", "p", "pf", "fp")):
        assert record["selection"][name] == pytest.approx(
            100 * (scores.argmax(axis=0) == n).mean(), abs=0.001
        )
    over = pixels(folder / "over" / "a_x2.5_selection_overlay.png").astype(int)
    colour = np.array(colours).reshape(4, 3)[scores.argmax(axis=0)]
    assert np.abs(over - (pixels(folder / "a_x2.5.png") + colour) / 2).max() <= 1
    again = run(fplia, photo, "-s", "2.5", "--selection-map", "map.png")
    assert "up to date" in again.stdout


def test_each_option_of_sampling_makes_another_picture_and_is_recorded(fplia, photo, folder):
    found = {}
    for name, words in {
        "plain": [], "seed": ["--seed", 1], "sampler": ["--sampler", "ddim"], "steps": ["--steps", 2],
        "eta": ["--sampler", "ddim", "--eta", 1], "average": ["--average", 2], "branch": ["--branch", "p"],
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
    done = run(fplia, photo, "-s", 2, "--samples", 2, "--diversity", "--jsonl")
    assert done.exit_code == 0, done.stderr
    first, second = map(json.loads, done.stdout.splitlines())
    assert (first["seed"], second["seed"]) == (0, 1)
    assert second["diversity"] > 0


def test_a_dry_run_says_how_it_would_sample(fplia, photo, folder):
    done = run(fplia, photo, "--dry-run", "--official")
    assert done.exit_code == 0, done.stderr
    assert "ddim, 199 steps, eta 1, as the authors do" in done.stderr
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
        (["--steps", "0"], "--steps takes a number from 1 to 1000"),
        (["--steps", "1001"], "from 1 to 1000"),
        (["--sampler", "dpm"], "Did you mean 'ddpm'?"),
        (["--eta", "0.5"], "Add --sampler ddim"),
        (["--sampler", "ddim", "--eta", "2"], "from 0 to 1"),
        (["--average", "0"], "from 1 to 256"),
        (["--official", "--steps", "9"], "Leave out --sampler, --steps and --eta"),
        (["--branch", "q"], "unknown branch 'q'"),
        (["--branch", "f", "--selection-stats"], "nothing is chosen"),
        (["--average", "2", "--selection-map", "m.png"], "no one choice"),
        (["--selection-map", "m.jpg"], "writes .png files"),
        (["--samples", "2", "--selection-map", "m.png"], "one file for 2 pictures"),
        (["--temperature", "0.5"], "has no temperature"),
        (["--tta"], "removes what noise adds"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_hint(fplia, photo, words, said):
    done = run(fplia, photo, *words)
    assert done.exit_code == 2
    assert said in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    "words", [["--steps", "5"], ["--official"], ["--branch", "f"], ["--selection-stats"]]
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


def test_a_presets_own_colour_fix_is_the_default_and_can_be_refused():
    kim, fplia = load_preset("kim-small"), load_preset("fplia-small")
    assert colour_fix(kim, None, 1) == ColourFix("lowpass")
    assert colour_fix(kim, "adain", 1) == ColourFix("adain")
    assert colour_fix(kim, "none", 1) is None
    assert colour_fix(fplia, None, 1) is None


def test_fidelity_is_a_dial_of_models_whose_canvas_is_the_output():
    idm = load_preset("idm")
    assert faithful(idm, choose_sampling(idm), 0.5).fidelity == 0.5
    assert faithful(idm, choose_sampling(idm), None).fidelity == 0
    with pytest.raises(UsageError, match="does not restore an enlarged picture"):
        faithful(load_preset("fplia-small"), None, 0.5)
