"""Thera from the command line: import, enlarge at ties and with unequal sides, refuse, measure, explain."""

import os
import pickle

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from srcli.cli import app
from srcli.config.presets import parse_preset
from srcli.weights.build import build
from srcli.weights.checkpoint import save as save_weights
from tests.cli.conftest import listing, picture, save

TABLE = {
    "title": "t",
    "encoder": {"name": "edsr", "n_resblocks": 1, "n_feats": 16, "mean_shift": False},
    "decoder": {"name": "thera"},
}


@pytest.fixture
def field(folder):
    preset = parse_preset(TABLE, name="field")
    save_weights(folder / "field.safetensors", build(preset), preset)
    return folder / "field.safetensors"


def run(*words):
    return CliRunner().invoke(app, [*map(str, words), "--device", "cpu"])


@pytest.mark.parametrize(
    ("words", "size"),
    [
        (["-s", "1.3"], (13, 10)),
        (["-s", "2.5"], (25, 20)),
        (["-s", "12"], (120, 96)),
        (["-W", "31", "-H", "9", "--fit", "exact"], (31, 9)),
    ],
)
def test_sizes_of_every_kind_come_out(field, folder, words, size):
    save(folder / "a.png", picture(8, 10))
    done = run("upscale", "a.png", "-m", field, *words, "-o", "b.png")
    assert done.exit_code == 0, done.stderr
    with Image.open("b.png") as made:
        assert made.size == size


def test_the_field_is_drawn_by_its_slope(field, folder):
    save(folder / "a.png", picture(8, 10))
    done = run("explain", "a.png", "-m", field, "-s", "2.5", "--field")
    assert done.exit_code == 0, done.stderr
    assert "levels per input pixel" in done.stderr
    with Image.open("a_field.png") as made:
        assert made.size == (25, 20)
        assert np.asarray(made).max() == 255


def test_a_network_without_a_field_is_told(folder):
    save(folder / "a.png", picture(8, 10))
    done = run("explain", "a.png", "-m", "edsr-baseline-blend", "--field")
    assert done.exit_code == 2
    assert "has no field" in done.stderr
    assert listing(folder) == ["a.png"]


def test_a_hostile_pickle_is_4_and_not_run(folder):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, ("was-here",)

    (folder / "model.pkl").write_bytes(pickle.dumps({"model": {"params": {}}, "more": Bomb()}))
    for more in ([], ["--trust-pickle"]):
        words = ["models", "import", "model.pkl", "--license", "MIT", *more]
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 4
        assert listing(folder) == ["model.pkl"]
