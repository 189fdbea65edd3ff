"""Official checkpoints, written to disk as their authors do, become models that give the official numbers."""

import numpy as np
import pytest
import torch

from srcli.weights.checkpoint import load
from srcli.weights.convert import import_file
from srcli.weights.files import preset_inside
from tests.parity.golden import GOLDEN, filled, read_golden, read_keys
from tests.parity.methods import METHODS

# Golden files for which a preset is packaged, up to switches that the checkpoint itself states.
PRESETS = {
    "clit2": "edsr-baseline-clit2",
    "clit3": "edsr-baseline-clit3",
    "liif": "edsr-baseline-liif",
    "liif_nocell": "edsr-baseline-liif",
    "liif_noensemble": "edsr-baseline-liif",
    "liif_nounfold": "edsr-baseline-liif",
    "linf": "edsr-baseline-linf-1x1",
    "linf_patch": "edsr-baseline-linf",
    "linf_patch_rrdb": "rrdb-linf",
    "lit": "edsr-baseline-lit",
    "lm_liif": "edsr-baseline-lm-liif",
    "lm_liif_noensemble": "edsr-baseline-lm-liif",
    "lm_liif_plain": "edsr-baseline-lm-liif",
    "lm_lte": "edsr-baseline-lm-lte",
    "lte": "edsr-baseline-lte",
    "lte_fast": "edsr-baseline-lte-plus",
    "metasr": "edsr-baseline-metasr",
    "swinir_liif_window": "swinir-liif",
    "swinir_lte_window": "swinir-lte",
}
FILES = [name for name in PRESETS if name in METHODS and (GOLDEN / f"{name}.npz").is_file()]
SLOW = ("swinir", "rrdb")
CASES = [
    pytest.param(name, marks=[pytest.mark.slow] if any(word in name for word in SLOW) else [])
    for name in FILES
]
pytestmark = pytest.mark.skipif(not FILES, reason="no golden numbers: set SRCLI_GOLDEN and SRCLI_GOLDEN_KEYS")


@pytest.mark.parametrize("name", CASES)
def test_an_official_checkpoint_is_known_and_gives_the_official_numbers(name, tmp_path, monkeypatch):
    monkeypatch.setenv("SRCLI_MODELS_DIR", str(tmp_path / "models"))
    method, keys, golden = METHODS[name], read_keys(name), read_golden(name)
    network, _ = filled(method, keys["args"], keys["gain_rules"])
    state = {method.name(key): value for key, value in network.state_dict().items()}
    adam = {"name": "adam", "args": {"lr": 1e-4}, "sd": {"state": {0: {"step": 1}}, "param_groups": []}}
    # The published SwinIR-LIIF calls itself by the name of its encoder; here every file does.
    model = {"name": keys["args"]["encoder_spec"]["name"], "args": keys["args"], "sd": state}
    torch.save({"model": model, "optimizer": adam, "epoch": 1000}, tmp_path / "epoch-last.pth")

    installed = import_file(tmp_path / "epoch-last.pth", license_id="unstated")
    assert preset_inside(installed.path).name == PRESETS[name]
    loaded = load(installed.preset.name if installed.named else installed.path)
    if "linf" in name:  # presets continue the grid beyond the border, which the authors do not
        loaded.network.decoder.official_border = loaded.network.decoder.patch > 1
    with torch.no_grad():
        array, value = next(iter(method.run(loaded.network, golden)))
    expected = golden.arrays[array]
    assert np.abs(value.numpy() - expected).max() <= method.tolerance * max(1, expected.std())
