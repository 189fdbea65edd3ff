"""`srcli upscale` and `srcli explain` with a model that restores, and --finish colour=.. with any model."""

import json
from functools import partial

import numpy as np
import pytest
from PIL import Image

from srcli.image.read import read_image
from srcli.weights.checkpoint import save as save_weights
from tests.cli.conftest import picture, save
from tests.helpers.command import srcli
from tests.helpers.latent import network, preset


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "tiny-restorer.safetensors"
    save_weights(path, network(), preset())
    return path


@pytest.fixture
def photo(folder):
    save(folder / "a.png", picture(12, 10))
    return folder / "a.png"


run = partial(srcli, code=None)


def test_a_picture_is_restored_and_the_record_says_how(tiny, photo, folder):
    done = run(
        "upscale", photo, "-m", tiny, "-s", 2.5, "-o", "out.png", "--device", "cpu", "--json", "--seed", 7
    )
    assert done.exit_code == 0, done.stderr
    record = json.loads(done.stdout)
    notes = "\n".join(record["notes"])
    assert "enlarged by bicubic interpolation, then restored: ddim, 3 steps" in notes
    assert "colour fix adain: mean of red, green, blue off by" in notes
    shown, wanted = (read_image(path).strip(0, n) for path, n in ((folder / "out.png", 30), (photo, 12)))
    assert np.abs(shown.mean((0, 1)) - wanted.mean((0, 1))).max() < 0.02
    again = run("upscale", photo, "-m", tiny, "-s", 2.5, "-o", "out.png", "--device", "cpu", "--seed", 7)
    assert "up to date" in again.stdout
    other = run(
        "upscale", photo, "-m", tiny, "-s", 2.5, "-o", "out.png", "--sampling", "fidelity=0.5", "--seed", 7,
        "--json",
    )  # fmt: skip
    assert json.loads(other.stdout)["fingerprint"] != record["fingerprint"]


@pytest.mark.slow
def test_transparency_is_not_sampled(tiny, folder):
    rgba = np.dstack([picture(12, 10), np.tile(np.linspace(0, 255, 10).astype(np.uint8), (12, 1))])
    Image.fromarray(rgba).save(folder / "b.png")
    done = run("upscale", "b.png", "-m", tiny, "-s", 2, "-o", "out.png", "--device", "cpu")
    assert done.exit_code == 0, done.stderr
    plain = run("upscale", "b.png", "-s", 2, "-o", "plain.png", "--alpha", "lanczos", "--device", "cpu")
    assert plain.exit_code == 0, plain.stderr
    with Image.open(folder / "out.png") as ours, Image.open(folder / "plain.png") as theirs:
        assert np.array_equal(np.asarray(ours)[..., 3], np.asarray(theirs)[..., 3])


@pytest.mark.slow
def test_a_dry_run_tells_what_restoring_takes_without_any_weights(photo, folder):
    text = preset().to_dict()
    lines = [f"title = {json.dumps(text['title'])}"]
    for section in ("encoder", "decoder", "generator", "diffusion"):
        lines += [f"[{section}]"]
        flat = {k: v for k, v in text[section].items() if not isinstance(v, dict)}
        lines += [f"{key} = {json.dumps(value)}" for key, value in flat.items()]
        for key, inner in text[section].items():
            if isinstance(inner, dict) and inner:
                lines += [f"[{section}.{key}]", *(f"{k} = {json.dumps(v)}" for k, v in inner.items())]
    (folder / "mine.toml").write_text("\n".join(lines))
    done = run("upscale", photo, "-m", "mine.toml", "-s", 20, "--dry-run", "--device", "cpu")
    assert done.exit_code == 0, done.stderr
    for word in ("latents, denoised in", "memory:", "TFLOP", "on this machine"):
        assert word in done.stderr
    record = json.loads(
        run("upscale", photo, "-m", "mine.toml", "-s", 200, "--dry-run", "--device", "cpu", "--json").stdout
    )
    told = next(note for note in record["notes"] if note.startswith("memory:"))
    assert record["memory"] / 1e9 >= float(told.split()[1])  # the line of the picture counts the stages, too
    missing = run("upscale", photo, "-m", "mine.toml", "-s", 2)
    assert missing.exit_code == 4


def test_without_base_models_the_commands_are_given(photo, monkeypatch, tmp_path):
    monkeypatch.setenv("SRCLI_MODELS_DIR", str(tmp_path / "none"))
    done = run("upscale", photo, "-m", "lgcaa", "-s", 4)
    assert done.exit_code == 4
    assert "srcli models pull sd2-base dino-vitb16" in done.stderr


def test_colours_are_fixed_for_any_model_and_the_shift_is_told(photo, folder):
    words = ["upscale", photo, "-s", 2, "--device", "cpu", "--json"]
    plain = json.loads(run(*words, "-o", "plain.png").stdout)
    fixed = json.loads(run(*words, "-o", "fixed.png", "--finish", "colour=wavelet").stdout)
    assert not any("colour fix" in note for note in plain["notes"])
    assert any("colour fix wavelet" in note for note in fixed["notes"])
    assert plain["fingerprint"] != fixed["fingerprint"]


def test_dials_that_make_no_sense_are_refused(tiny, photo):
    for words in (["--sampling", "fidelity=1"], ["--finish", "colour=sepia"], ["--temperature", 0.5]):
        assert run("upscale", photo, "-m", tiny, "-s", 2, *words).exit_code == 2, words
    refused = run("upscale", photo, "-s", 2, "--sampling", "fidelity=0.5")
    assert refused.exit_code == 2
    assert "does not restore" in refused.stderr


@pytest.mark.slow
def test_lgcaas_outputs_are_drawn_as_lengths_and_at_a_point(tiny, photo, folder):
    for name, words in {"norms.png": [], "point.png": ["--at", "3,4"]}.items():
        done = run("explain", photo, "-m", tiny, "-s", 4, "-o", name, "--device", "cpu", *words)
        assert done.exit_code == 0, done.stderr
        with Image.open(folder / name) as drawn:
            assert drawn.size[0] > 300
    assert (folder / "norms.png").read_bytes() != (folder / "point.png").read_bytes()
    outside = run("explain", photo, "-m", tiny, "--at", "90,4", "-o", "no.png", "--device", "cpu")
    assert outside.exit_code == 2
