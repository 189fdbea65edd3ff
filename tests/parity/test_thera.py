"""The authors' checkpoints of Thera, written as JAX writes them, become models that give the authors' numbers."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from srcli.models import count_parameters
from srcli.weights.checkpoint import load
from srcli.weights.convert import import_file
from tests.parity import thera
from tests.parity.fill import digest
from tests.parity.golden import GOLDEN, KEYS, Golden, read_golden, read_keys

PRESETS = {
    "thera_edsr_air": "edsr-baseline-thera-air",
    "thera_edsr_plus": "edsr-baseline-thera-plus",
    "thera_edsr_pro": "edsr-baseline-thera-pro",
    "thera_rdn_air": "rdn-thera-air",
    "thera_rdn_pro": "rdn-thera-pro",
}
FILES = [name for name in PRESETS if (GOLDEN / f"{name}.npz").is_file() and (KEYS / f"{name}.json").is_file()]
CASES = [pytest.param(name, marks=[pytest.mark.slow] if "rdn" in name else []) for name in FILES]
REDUCED = Path(__file__).with_name("thera.json")


def imported(keys, folder, monkeypatch, preset="auto"):
    """The network that a checkpoint filled by the rule becomes, and the name of its preset."""
    monkeypatch.setenv("SRCLI_MODELS_DIR", str(folder / "models"))
    arrays = thera.filled(keys["keys"], keys["gain_rules"])
    assert digest(arrays) == keys["weights_sha256"]
    content = {"model": {"params": thera.nested(arrays)}, "backbone": "edsr-baseline", "size": "air"}
    (folder / "model.pkl").write_bytes(pickle.dumps(content))
    installed = import_file(folder / "model.pkl", preset=preset, license_id="Apache-2.0")
    return installed.preset.name, load(installed.path).network


@pytest.mark.skipif(not FILES, reason="no golden numbers: set SRCLI_GOLDEN and SRCLI_GOLDEN_KEYS")
@pytest.mark.parametrize("name", CASES)
def test_network_has_the_official_keys_and_outputs(name, tmp_path, monkeypatch):
    keys, golden = read_keys(name), read_golden(name)
    _, network = imported(keys, tmp_path, monkeypatch, PRESETS[name])
    assert count_parameters(network) == keys["n_params"]
    left = {array for array in golden.arrays if array.startswith(("enc", "out_", "sr_"))}
    with torch.no_grad():
        for array, value, tolerance in thera.run(network, golden):
            expected = golden.arrays[array]
            assert value.shape == expected.shape, array
            error = np.abs(value.numpy().astype(float) - expected).max()
            assert error <= tolerance * max(1, expected.std()), f"{array}: {error}"
            left.discard(array)
    assert not left, "arrays that nothing was compared with"


def test_network_has_the_official_pixels(tmp_path, monkeypatch):
    """The same from a few committed values, for a checkout without the golden folder."""
    entry = json.loads(REDUCED.read_text())
    preset, network = imported(entry, tmp_path, monkeypatch)
    assert preset == "edsr-baseline-thera-air"
    lr = np.random.default_rng(0).random((1, 3, 24, 20)).astype(np.float32)
    left = set(entry["outputs"])
    with torch.no_grad():
        for array, value, tolerance in thera.run(network, Golden({"lr": lr}, entry["cases"])):
            if array in entry["outputs"]:
                expected = entry["outputs"][array]
                bound = tolerance * max(1, expected["std"])
                pixels = value.reshape(-1)[expected["index"]]
                assert np.abs(pixels.numpy() - np.float32(expected["value"])).max() <= bound, array
                left.discard(array)
    assert not left, "arrays that nothing was compared with"
