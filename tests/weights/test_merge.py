"""`srcli models merge`: the mean of weights, with another's encoder, and what cannot be merged."""

import pytest
import torch
from typer.testing import CliRunner

from srcli.cli import app
from srcli.files import sha256
from srcli.weights.checkpoint import load
from srcli.weights.files import metadata, resolve
from tests.helpers.presets import BLEND, EDSR, save_tiny

DEEPER = {**EDSR, "n_resblocks": 2}


@pytest.fixture
def made(tmp_path):
    """Writes the weights of a small network, random by `seed`, with other parts where they are named."""

    def make(seed, license_id="MIT", **parts):
        return save_tiny(tmp_path / f"{seed}.safetensors", seed, weights={"license": license_id}, **parts)

    return make


def merge(*words):
    return CliRunner().invoke(app, ["models", "merge", *map(str, words)])


def test_the_mean_is_the_mean_and_tells_its_sources(made, tmp_path):
    files, out = [made(seed) for seed in range(3)], tmp_path / "out.safetensors"
    done = merge(*files, "-o", out)
    assert (done.exit_code, done.stdout) == (0, f"{out}\n")
    states = [load(file).network.state_dict() for file in files]
    for key, value in load(out).network.state_dict().items():
        slow = (states[0][key].double() + states[1][key].double() + states[2][key].double()) / 3
        assert torch.allclose(value.double(), slow, atol=1e-7)
    assert metadata(out)["source"] == ", ".join(f"{file.name} {sha256(file)}" for file in files)


def test_half_is_the_rounded_mean(made, tmp_path):
    file, out = made(0), tmp_path / "out.safetensors"
    assert merge(file, "-o", out, "--half").exit_code == 0
    before = load(file).network.state_dict()
    assert all(torch.equal(v, before[k].half().float()) for k, v in load(out).network.state_dict().items())
    assert out.stat().st_size < file.stat().st_size


def test_the_encoder_of_another_comes_with_its_settings(made, tmp_path):
    one, deeper, out = made(0), made(1, encoder=DEEPER), tmp_path / "out.safetensors"
    assert merge(one, "--encoder", deeper, "-o", out).exit_code == 0
    assert resolve(out).encoder == resolve(deeper).encoder != resolve(one).encoder
    merged, theirs, own = (load(path).network for path in (out, deeper, one))
    assert all(torch.equal(v, theirs.encoder.state_dict()[k]) for k, v in merged.encoder.state_dict().items())
    assert all(torch.equal(v, own.decoder.state_dict()[k]) for k, v in merged.decoder.state_dict().items())


def test_what_does_not_fit_is_said_and_nothing_is_written(made, tmp_path):
    one, out = made(0), tmp_path / "out.safetensors"
    wider, unfree = made(2, decoder={**BLEND, "hidden": [16]}), made(3, "CC-BY-NC-4.0")
    thick = made(4, encoder={**EDSR, "n_feats": 16})
    for words, code, said in [
        ((one, wider, "-o", out), 4, "is not of the network"),
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
