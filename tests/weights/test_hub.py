"""Models on a Hub that runs here: fetched once, used without it, put there, and what it refuses."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from PIL import Image
from typer.testing import CliRunner

from srcli import Upscaler
from srcli.cli import app
from srcli.errors import ModelError
from srcli.files import sha256
from srcli.weights.files import resolve
from tests.helpers.flow import save_flow
from tests.helpers.hub import Hub

ROOT = Path(__file__).parents[2]


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.delenv("SRCLI_OFFLINE", raising=False)
    monkeypatch.setenv("SRCLI_CACHE_DIR", str(tmp_path / "srcli"))
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (12, 9), (200, 90, 30)).save("photo.png")
    found = Hub(monkeypatch, tmp_path / "cache")
    yield found
    found.close()


@pytest.fixture
def model(tmp_path):
    return save_flow(tmp_path / "tiny.safetensors")


def run(*words, code=0):
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == code, done.output + str(done.exception)
    return done


def refusal(name, code=4):
    done = run("upscale", "photo.png", "-m", name, "-o", "large.png", code=code)
    assert not Path("large.png").exists()
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("error: "))
    return line


def test_a_model_is_fetched_once_and_then_used_without_the_hub(hub, model):
    hub.put("someone/flow-s", {"model.safetensors": model.read_bytes(), "other.safetensors": b""})
    run("upscale", "photo.png", "-s", "2", "-m", "hf:someone/flow-s", "-o", "first.png")
    asked = len(hub.asked)
    hub.close()
    run("upscale", "photo.png", "-s", "2", "-m", "hf:someone/flow-s", "-o", "again.png")
    assert len(hub.asked) == asked
    assert Image.open("first.png").tobytes() == Image.open("again.png").tobytes()
    assert isinstance(Upscaler.from_pretrained("someone/flow-s", device="cpu"), Upscaler)


def test_a_revision_and_a_file_are_named(hub, model):
    hub.put("someone/many", {"a.safetensors": model.read_bytes(), "b.safetensors": b"damaged"})
    assert resolve("hf:someone/many@v1:a.safetensors").name == "tiny-flow"
    assert "/resolve/v1/a.safetensors" in hub.asked[-1]
    assert "Name one: hf:someone/many:a.safetensors" in refusal("hf:someone/many")
    assert "is damaged" in refusal("hf:someone/many:b.safetensors")


def test_pull_asks_again(hub, model):
    hub.put("someone/flow", {"model.safetensors": model.read_bytes()})
    run("models", "pull", "hf:someone/flow")
    hub.put("someone/flow", {"model.safetensors": save_flow(model, title="New").read_bytes()})
    assert resolve("hf:someone/flow").title == "Tiny flow"
    assert "Apache-2.0" in run("models", "pull", "hf:someone/flow").stderr
    assert resolve("hf:someone/flow").title == "New"


def test_what_the_hub_refuses_is_a_line(hub, model, monkeypatch):
    hub.put("someone/empty", {"README.md": b"#"})
    hub.put("someone/flow", {"model.safetensors": model.read_bytes()})
    for name, words in {
        "hf:someone/absent": "there is no someone/absent on the Hub",
        "hf:someone/flow@v9": "no hf:someone/flow@v9 on the Hub",
        "hf:someone/flow:x.safetensors": "no hf:someone/flow:x.safetensors on the Hub",
        "hf:someone/empty": "has none",
    }.items():
        assert words in refusal(name), name
    assert "hf:user/repo" in refusal("hf:flow", code=2)
    monkeypatch.setenv("SRCLI_OFFLINE", "1")
    assert "srcli models pull hf:someone/flow" in refusal("hf:someone/flow")


def test_no_network_is_a_line_also_for_another_process(tmp_path, monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    env = {
        **os.environ,
        "HF_ENDPOINT": f"http://127.0.0.1:{port}",
        "HF_HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT),
    }
    for words in (
        ("models", "info", "hf:someone/flow"),
        ("models", "pull", "sd2-base", "--to", str(tmp_path)),
    ):
        command = [sys.executable, "-m", "srcli", *words]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
        assert done.returncode == 4, done.stderr
        assert "Traceback" not in done.stderr


def test_a_model_goes_there_and_comes_back(hub, model):
    done = run("models", "push", model, "hf:me/flow", "--private")
    assert "hf:me/flow" in done.stderr
    files = hub.files["me/flow"]
    assert set(files) == {"README.md", "config.json", "model.safetensors"}
    assert files["model.safetensors"] == model.read_bytes()
    assert json.loads(files["config.json"])["decoder"]["name"] == "linf"
    card = ModelCard(files["README.md"].decode())
    assert (card.data.license, card.data.library_name, card.data.pipeline_tag) == (
        "apache-2.0", "srcli", "image-to-image",
    )  # fmt: skip
    assert "-m hf:me/flow" in card.text
    again = resolve("hf:me/flow")
    assert sha256(Path(again.weights.file)) == sha256(model)
    assert "main branch" in run("models", "push", model, "hf:me/flow@v1", code=2).stderr


def test_an_upscaler_is_saved_and_opened(hub, tmp_path, model):
    lr = torch.rand(1, 3, 6, 7)
    own = Upscaler.from_preset(model, device="cpu")
    own.save_pretrained(tmp_path / "folder")
    other = Upscaler.from_pretrained(tmp_path / "folder", device="cpu")
    assert torch.equal(own.upscale(lr, 2), other.upscale(lr, 2))
    assert own.push_to_hub("me/mine").startswith(hub.address)
    assert torch.equal(own.upscale(lr, 2), Upscaler.from_pretrained("me/mine", device="cpu").upscale(lr, 2))
    unstated = Upscaler.from_preset(save_flow(model, weights={}), device="cpu")
    with pytest.raises(ModelError, match="licence"):
        unstated.save_pretrained(tmp_path / "none")
    assert not (tmp_path / "none").exists()
