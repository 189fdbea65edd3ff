"""`srcli models merge`: the mean of weights, with another's encoder, and what cannot be merged."""

from dataclasses import replace

import pytest
import torch
from typer.testing import CliRunner

from srcli.cli import app
from srcli.config.presets import Part, Preset, Weights
from srcli.files import sha256
from srcli.weights.build import build
from srcli.weights.checkpoint import load, save
from srcli.weights.files import metadata, resolve

TINY = Preset(
    "tiny",
    "Tiny",
    Part("edsr", {"n_resblocks": 1, "n_feats": 8}),
    Part("blend", {"width": 8, "hidden": (8,)}),
    weights=Weights(license="MIT"),
)
DEEPER = replace(TINY, encoder=Part("edsr", {"n_resblocks": 2, "n_feats": 8}))
WIDER = replace(TINY, decoder=Part("blend", {"width": 8, "hidden": (16,)}))


@pytest.fixture
def made(tmp_path):
    """Writes the weights of a preset, random by `seed`."""

    def make(preset, seed):
        torch.manual_seed(seed)
        path = tmp_path / f"{seed}.safetensors"
        save(path, build(preset), preset)
        return path

    return make


def merge(*words):
    return CliRunner().invoke(app, ["models", "merge", *map(str, words)])


def test_the_mean_is_the_mean_and_tells_its_sources(made, tmp_path):
    files, out = [made(TINY, seed) for seed in range(3)], tmp_path / "out.safetensors"
    done = merge(*files, "-o", out)
    assert (done.exit_code, done.stdout) == (0, f"{out}\n")
    states = [load(file).network.state_dict() for file in files]
    for key, value in load(out).network.state_dict().items():
        slow = (states[0][key].double() + states[1][key].double() + states[2][key].double()) / 3
        assert torch.allclose(value.double(), slow, atol=1e-7)
    assert metadata(out)["source"] == ", ".join(f"{file.name} {sha256(file)}" for file in files)


def test_half_is_the_rounded_mean(made, tmp_path):
    file, out = made(TINY, 0), tmp_path / "out.safetensors"
    assert merge(file, "-o", out, "--half").exit_code == 0
    before = load(file).network.state_dict()
    assert all(torch.equal(v, before[k].half().float()) for k, v in load(out).network.state_dict().items())
    assert out.stat().st_size < file.stat().st_size


def test_the_encoder_of_another_comes_with_its_settings(made, tmp_path):
    one, deeper, out = made(TINY, 0), made(DEEPER, 1), tmp_path / "out.safetensors"
    assert merge(one, "--encoder", deeper, "-o", out).exit_code == 0
    assert resolve(out).encoder == DEEPER.encoder
    merged, theirs, own = (load(path).network for path in (out, deeper, one))
    assert all(torch.equal(v, theirs.encoder.state_dict()[k]) for k, v in merged.encoder.state_dict().items())
    assert all(torch.equal(v, own.decoder.state_dict()[k]) for k, v in merged.decoder.state_dict().items())


def test_what_does_not_fit_is_said_and_nothing_is_written(made, tmp_path):
    one, out = made(TINY, 0), tmp_path / "out.safetensors"
    unfree = made(replace(TINY, weights=Weights(license="CC-BY-NC-4.0")), 3)
    thick = made(replace(TINY, encoder=Part("edsr", {"n_resblocks": 1, "n_feats": 16})), 4)
    for words, code, said in [
        ((one, made(WIDER, 2), "-o", out), 4, "is not of the network"),
        ((one, "--encoder", thick, "-o", out), 4, "does not fit"),
        ((one, unfree, "-o", out), 4, "CC-BY-NC-4.0, MIT"),
        ((one, tmp_path / "no.safetensors", "-o", out), 4, "does not exist"),
        ((one, "tinny", "-o", out), 2, "tinny"),
        ((one, "-o", tmp_path / "out.pth"), 4, ".safetensors"),
    ]:
        done = merge(*words)
        assert (done.exit_code, said in done.stderr, out.exists()) == (code, True, False), done.stderr
    out.write_bytes(b"mine")
    assert merge(one, "-o", out).exit_code == 6
    assert out.read_bytes() == b"mine"
    assert merge(one, "-o", out, "--overwrite").exit_code == 0
