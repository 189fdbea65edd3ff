"""Our networks give the official numbers: the same keys, the same weights, the same outputs."""

import numpy as np
import pytest
import torch

from tests.parity.golden import GOLDEN, KEYS, filled, read_golden, read_keys
from tests.parity.methods import METHODS

FILES = sorted(file.stem for file in GOLDEN.glob("*.npz") if (KEYS / f"{file.stem}.json").is_file())
pytestmark = pytest.mark.skipif(not FILES, reason="no golden numbers: set SRCLI_GOLDEN and SRCLI_GOLDEN_KEYS")


SLOW = ("fplia_fpam_fpsm",)
CASES = [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in FILES]


@pytest.mark.parametrize("name", CASES)
def test_method_has_the_official_keys_and_outputs(name):
    if name not in METHODS:
        pytest.skip("no network of ours stands behind this file")
    method, keys, golden = METHODS[name], read_keys(name), read_golden(name)
    network, checksum = filled(method, keys.get("args", {}), keys["gain_rules"])

    state = {key: value for key, value in network.state_dict().items() if key not in method.own}
    ours = {method.name(key): list(value.shape) for key, value in state.items()}
    assert ours == {key: shape for key, shape, *_ in keys["keys"]}
    assert sum(parameter.numel() for parameter in network.parameters()) == keys["n_params"]
    assert checksum == keys["weights_sha256"]

    outputs = {array for array in golden.arrays if not array.startswith(method.inputs)}
    with torch.no_grad():
        for array, value in method.run(network, golden):
            expected = golden.arrays[array]
            assert value.shape == expected.shape, array
            error = np.abs(value.numpy().astype(float) - expected).max()
            assert error <= method.bound(array, expected.std()), f"{array}: {error}"
            outputs.discard(array)
    assert not outputs, "arrays that nothing was compared with"
