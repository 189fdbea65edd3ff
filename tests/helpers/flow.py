"""A small LINF with random weights, as a preset and as a weights file: what tests of the temperature run on."""

from srcli.engine.upscaler import Upscaler
from srcli.evaluate.models import Network
from srcli.weights.checkpoint import save
from tests.helpers.presets import EDSR, network_of, tiny

TABLE = {
    "title": "Tiny flow",
    "encoder": EDSR,
    "decoder": {"name": "linf", "patch": 3, "hidden_dim": 8, "hidden": [16, 16]},
    "weights": {"license": "Apache-2.0"},
}


def tiny_flow(**more):
    """The preset and its network."""
    preset = tiny("tiny-flow", **{**TABLE, **more})
    return preset, network_of(preset, 3).eval()


def flow_model(weights_sha256=None, **more):
    """The network as something to evaluate."""
    preset, network = tiny_flow(**more)
    return Network(Upscaler(network, preset, device="cpu", weights_sha256=weights_sha256))


def save_flow(path, **more):
    """The network's weights file."""
    preset, network = tiny_flow(**more)
    save(path, network, preset)
    return path
