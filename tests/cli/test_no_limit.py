"""`--no-limit`: a network's own picture as it is, told wherever results are told."""

import json

import numpy as np
import pytest
import torch

from srcli.batch.provenance import read_provenance
from srcli.config.presets import parse_preset
from srcli.weights.build import build
from srcli.weights.checkpoint import save as save_weights
from tests.cli.conftest import save
from tests.helpers.command import pixels
from tests.helpers.command import srcli as run

NATIVE = {
    "title": "Native",
    "encoder": {"name": "rlfn", "n_feats": 8, "n_blocks": 1},
    "decoder": {"name": "native"},
    "pixels": {"mean": 0, "std": 0.5},
    "engine": {"limit": True},
}


@pytest.fixture
def native(folder):
    """A weights file of a random network whose picture goes far beyond what the input bears out."""
    torch.manual_seed(0)
    preset = parse_preset(NATIVE, name="native")
    network = build(preset)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(3)
    save_weights(folder / "native.safetensors", network, preset)
    drawing = np.kron(np.random.default_rng(0).integers(0, 2, (8, 10, 1)), np.full((2, 2, 3), 255))
    save(folder / "photo.png", drawing.astype(np.uint8))
    return folder / "native.safetensors"


def test_a_result_beyond_its_limits_is_another_one_and_says_so(native, folder):
    words = (
        "upscale", "photo.png", "-s", 4, "-m", native, "--device", "cpu", "--json", "--manifest", "m.jsonl",
    )  # fmt: skip
    kept = json.loads(run(*words).stdout)
    limited = pixels("photo_x4.png")
    assert kept["limit"] is read_provenance(folder / "photo_x4.png")["limit"] is True
    free = json.loads(run(*words, "--finish", "no-limit").stdout)
    assert free["status"] == "done"
    assert free["limit"] is read_provenance(folder / "photo_x4.png")["limit"] is False
    assert np.abs(pixels("photo_x4.png") - limited).max() > 64
    assert json.loads(run(*words, "--finish", "no-limit").stdout)["status"] == "skipped"
    assert [json.loads(line).get("limit") for line in (folder / "m.jsonl").read_text().splitlines()] == [
        True,
        False,
        False,
    ]


def test_a_model_without_limits_is_the_same_either_way(upscale, engine, folder):
    save(folder / "photo.png", np.zeros((4, 5, 3), np.uint8))
    made = json.loads(upscale("photo.png", "--json").stdout)
    assert made["limit"] is None
    assert "limit" not in read_provenance(folder / "photo_x4.png")
    assert json.loads(upscale("photo.png", "--json", "--finish", "no-limit").stdout)["status"] == "skipped"


def test_eval_says_in_its_header_whether_there_was_a_limit_and_keeps_the_figures_apart(
    native, folder, monkeypatch
):
    monkeypatch.setenv("SRCLI_CACHE_DIR", str(folder / "cache"))
    y, x = np.mgrid[:48, :48]
    save(folder / "shots" / "a.png", np.stack([(x // 8 + y // 8) % 2 * 255] * 3, -1).astype(np.uint8))
    words = (
        "eval", "--data", "shots", "-s", 4, "-m", f"{native},bicubic", "--device", "cpu", "--metrics",
        "psnr",
    )  # fmt: skip
    both = [run(*words), run(*words, "--no-limit"), run(*words), run(*words, "--no-limit", "--tta")]
    notes = ["limit on for native", "limit off for native+no-limit", "limit on for native", "+no-limit+tta"]
    for done, note in zip(both, notes, strict=True):
        header = done.stdout.split("model")[0]
        assert any(line.startswith("limit ") and line.endswith(note) for line in header.splitlines())
    documents = [json.loads(run(*words, "--json", *more).stdout) for more in ([], ["--no-limit"])]
    on, off = ({row["model"]: row["psnr"] for row in d["rows"]} for d in documents)
    assert on["bicubic"] == off["bicubic"]
    assert on["native"] > off["native+no-limit"]
    assert "limit off for native+no-limit" in documents[1]["notes"]
    assert "limit" not in run(*words[:6], "bicubic", "--metrics", "psnr").stdout
