"""Recipe adopt: a network for one factor learns other scales, keeps its own picture, and a residual that is worth nothing goes."""

import json
import warnings

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from srcli.cli import app
from srcli.engine.load import load_upscaler
from srcli.geometry import Size
from srcli.models.encoders.fixed_scale import inner_features
from srcli.train import adopt
from srcli.train.recipe import find_recipe, read_recipe
from srcli.weights.checkpoint import load
from srcli.weights.files import metadata
from tests.weights.test_fixed_scale import NETWORKS, released

spandrel = pytest.importorskip("spandrel")
SMALL = (
    "--set", "optim.steps=6", "--set", "optim.batch=2", "--set", "data.patch=12", "--set", "data.queries=64",
    "--set", "validation.crop=48", "--set", "validation.scales=[2]", "--set", "optim.warmup=1", "-d", "cpu",
)  # fmt: skip


def train(*words, code=0):
    done = CliRunner().invoke(app, ["train", "--recipe", "adopt", *map(str, words)])
    assert done.exit_code == code, done.output + str(done.exception)
    return done


def adopted(photos, source, out, *more):
    return train("--from", source, "--data", photos, "-o", out, *SMALL, *more)


@pytest.fixture
def source(tmp_path):
    return released(tmp_path, "SPAN")


@pytest.fixture
def judge(monkeypatch):
    """Moves the bounds, in dB, that decide whether a few steps of training are kept."""

    def judge(worth, harm):
        for name, value in {"WORTH": worth, "HARM": harm}.items():
            monkeypatch.setattr(adopt, name, value)

    return judge


def test_a_network_learns_other_scales_and_stays_as_it_is(tmp_path, photos, source, judge):
    judge(worth=-100, harm=100)
    done = adopted(photos, source, tmp_path / "run")
    assert "held out, against the network alone" in done.stderr
    assert "dropped" not in done.stderr
    last = tmp_path / "run/last.safetensors"
    preset = json.loads(metadata(last)["preset"])
    assert preset["encoder"]["architecture"] == "SPAN"
    assert str(tmp_path) not in metadata(last)["preset"]
    loaded = load(last)
    assert loaded.preset.name == "4x-SPAN-adopted"
    assert loaded.network.decoder.factor.abs().item() > 0
    lr = torch.rand(1, 3, 20, 24)
    with torch.no_grad():
        loaded.network.decoder.factor.zero_()
        ours = loaded.network.render(lr, Size(40, 48))
        plain = load(source).network.render(lr, Size(40, 48))
    torch.testing.assert_close(ours, plain, atol=5e-3, rtol=0)  # its weights are half as long
    whole = load_upscaler(last, device="cpu", tile="none").upscale(torch.rand(1, 3, 30, 150), 2.3)
    assert whole.shape == (1, 3, 69, 345)


def test_tiles_of_an_adopted_network_equal_the_whole(tmp_path, photos, source, judge):
    judge(worth=-100, harm=100)
    adopted(photos, source, tmp_path / "run")
    lr = torch.rand(1, 3, 34, 200)
    pictures = [
        load_upscaler(tmp_path / "run/last.safetensors", device="cpu", tile=tile).upscale(lr, 2.7)
        for tile in ("none", 64)
    ]
    torch.testing.assert_close(*pictures, atol=2e-4, rtol=0)


def test_a_run_that_stopped_ends_as_one_that_did_not(tmp_path, photos, source, judge):
    judge(worth=-100, harm=100)
    adopted(photos, source, tmp_path / "whole")
    adopted(photos, source, tmp_path / "parts", "--max-steps", "2")
    done = adopted(photos, source, tmp_path / "parts")
    assert "at step 2" in done.stderr
    one, other = (load_file(tmp_path / name / "last.safetensors") for name in ("whole", "parts"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize(
    ("worth", "harm", "why"), [(100, 100, "others gain less"), (-100, -100, "it loses more")]
)
def test_what_is_worth_nothing_or_harms_is_dropped(tmp_path, photos, source, judge, worth, harm, why):
    judge(worth, harm)
    done = adopted(photos, source, tmp_path / "run")
    assert "dropped, no success" in done.stderr
    assert why in done.stderr
    left = load(tmp_path / "run/last.safetensors")
    assert left.preset.decoder.name == "native"
    assert not (tmp_path / "run/best.safetensors").exists()
    lr = torch.rand(1, 3, 20, 24)
    with torch.no_grad():
        ours, plain = (network.render(lr, Size(40, 48)) for network in (left.network, load(source).network))
    assert torch.equal(ours, plain)


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "DnCNN"])
def test_inner_features_are_what_the_enlarging_layer_is_given(tmp_path, name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        known = spandrel.ModelLoader().load_from_file(released(tmp_path, name))
    inner = inner_features(known)
    assert inner.layer is not None
    assert inner.channels == (16 if name == "DAT" else 8)
    recipe = adopt.adopting(read_recipe(find_recipe("adopt")), str(next(tmp_path.iterdir())))
    assert recipe.preset.encoder.args["factor"] in recipe.validation.scales


def test_what_cannot_be_adopted_is_a_line(tmp_path, photos, source):
    words = ("--data", photos, "-o", tmp_path / "run", *SMALL)
    assert "--from FILE" in train(*words, code=2).stderr
    assert "keeps the size" in train("--from", released(tmp_path, "DnCNN"), *words, code=4).stderr
    assert "a network of srcli's own" in train("--from", "rlfn-native", *words, code=2).stderr
    done = CliRunner().invoke(
        app, ["train", "--recipe", "quick", "--from", str(source), "--data", str(photos)]
    )
    assert done.exit_code == 2
    assert "--recipe adopt" in done.stderr
    assert not (tmp_path / "run").exists()
