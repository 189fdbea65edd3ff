"""The same parity from a few committed values, for a checkout without the golden folder."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.parity.golden import Golden, filled
from tests.parity.methods import METHODS

REDUCED = json.loads(Path(__file__).with_name("reduced.json").read_text())["methods"]


@pytest.mark.parametrize("name", REDUCED)
def test_method_has_the_official_pixels(name):
    method, entry = METHODS[name], REDUCED[name]
    network, checksum = filled(method, entry["args"], entry["gain_rules"])
    assert checksum == entry["weights_sha256"]
    assert sum(parameter.numel() for parameter in network.parameters()) == entry["n_params"]

    arrays = {
        array: np.random.default_rng(source["seed"]).random(source["shape"]).astype(np.float32)
        for array, source in entry["inputs"].items()
    }
    left = set(entry["outputs"])
    with torch.no_grad():
        for array, value in method.run(network, Golden(arrays, entry["cases"])):
            expected = entry["outputs"][array]
            bound = method.bound(array, expected["std"])
            pixels = value.reshape(-1)[expected["index"]]
            assert np.abs(pixels.numpy() - np.float32(expected["value"])).max() <= bound, array
            assert abs(value.mean(dtype=torch.float64) - expected["mean"]) <= bound, array
            assert abs(value.double().std(correction=0) - expected["std"]) <= bound, array
            left.discard(array)
    assert not left, "arrays that nothing was compared with"
