"""`srcli models export`: wrong doors, each a line and its code."""

import sys

import pytest
import torch
from typer.testing import CliRunner

from srcli.cli import app
from srcli.config.presets import load_preset
from srcli.weights.build import build
from srcli.weights.checkpoint import save
from tests.helpers.presets import TINY, write_preset


@pytest.fixture
def model(tmp_path):
    preset = load_preset(write_preset(tmp_path, TINY))
    torch.manual_seed(0)
    path = tmp_path / "tiny.safetensors"
    save(path, build(preset), preset)
    return path


def refused(*words, code):
    done = CliRunner().invoke(app, ["models", "export", *map(str, words)])
    assert done.exit_code == code, done.output + str(done.exception)
    assert done.stderr.count("\n") == 1 + done.stderr.startswith("exporting"), done.stderr
    return done.stderr


def test_wrong_doors(tmp_path, model, monkeypatch):
    out = tmp_path / "out.onnx"
    assert "diffusion model" in refused("fplia-small", "-o", out, code=2)
    assert "Did you mean rlfn-native" in refused("rlfn-nativ", "-o", out, code=2)
    assert "ends with neither" in refused(model, "-o", tmp_path / "out.bin", code=2)
    assert "--int8 is of ONNX" in refused(model, "-o", tmp_path / "out.pt2", "--int8", code=2)
    assert "is missing" in refused(model, code=2)
    line = refused(model, "-o", tmp_path / "no" / "out.onnx", code=5)
    assert "does not exist" in line
    assert "exporting" not in line  # which takes minutes
    (tmp_path / "out.decoder.onnx").touch()
    assert "exists" in refused(model, "-o", out, "--parts", "apart", code=6)
    out.touch()
    assert "exists" in refused(model, "-o", out, code=6)
    out.unlink()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert 'pip install "srcli[onnx]"' in refused(model, "-o", out, code=5)
    assert not out.exists()


@pytest.mark.slow
def test_a_model_is_written(tmp_path, model):
    onnxruntime = pytest.importorskip("onnxruntime")
    out = tmp_path / "out.onnx"
    done = CliRunner().invoke(app, ["models", "export", str(model), "-o", str(out)])
    assert done.exit_code == 0, done.output
    assert done.stdout == f"{out}\n"
    assert [each.name for each in onnxruntime.InferenceSession(out).get_inputs()] == ["image", "size"]
