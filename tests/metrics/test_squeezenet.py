"""The distance in SqueezeNet's features: by its definition on random weights, and what is said without the file."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from srcli.errors import ModelError
from srcli.metrics import METRICS, Scene, find_protocol
from srcli.metrics import perceptual as module
from srcli.metrics.classifiers import SqueezeNet


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The folder of backbones, empty."""
    monkeypatch.setenv("SRCLI_MODELS_DIR", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    module.squeezenet_network.cache_clear()
    folder = tmp_path / "metrics" / "checkpoints"
    folder.mkdir(parents=True)
    yield folder
    module.squeezenet_network.cache_clear()


@pytest.fixture
def weights(place, monkeypatch):
    """Random weights in the backbone's place."""
    torch.manual_seed(5)
    state = SqueezeNet().state_dict()
    save_file(state, place / module.SQUEEZENET)
    monkeypatch.setattr(module, "SQUEEZENET_SHA256", module.sha256(place / module.SQUEEZENET))
    return state


def pictures(h=41, w=52):
    rng = np.random.default_rng(0)
    return rng.random((h, w, 3)), rng.random((h, w, 3))


def by_definition(state, a, b):
    """Layer by layer with functions; lengths and squares with NumPy."""

    def conv(x, name, **more):
        return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], **more)

    def stages(x):
        bgr = x[..., ::-1] * 255 - np.array([103.939, 116.779, 123.68])
        x = torch.tensor(bgr.transpose(2, 0, 1)[None].copy(), dtype=torch.float32)
        kept = []
        for index in range(13):
            if index == 0:
                x = conv(x, "features.0", stride=2)
            elif index == 1:
                x = x.clamp(min=0)
            elif index in (2, 5, 8):
                x = F.max_pool2d(x, 3, 2, ceil_mode=True)
            else:
                narrow = conv(x, f"features.{index}.squeeze").clamp(min=0)
                sides = (
                    conv(narrow, f"features.{index}.expand1x1"),
                    conv(narrow, f"features.{index}.expand3x3", padding=1),
                )
                x = torch.cat(sides, 1).clamp(min=0)
            if index in (1, 4, 7, 9, 10, 11, 12):
                kept.append(x[0].numpy())
        return kept

    total = 0.0
    for one, other in zip(stages(a), stages(b), strict=True):
        units = [f / np.linalg.norm(f, axis=0, keepdims=True) for f in (one, other)]
        total += np.mean(np.sum((units[0] - units[1]) ** 2, axis=0))
    return total


def test_the_distance_is_that_of_unit_features_layer_by_layer(weights):
    a, b = pictures()
    assert module.squeezenet(a, b) == pytest.approx(by_definition(weights, a, b), rel=1e-4)
    assert module.squeezenet(a, a) == 0


def test_it_is_measured_on_the_whole_result_as_the_protocol_rounds_it(weights):
    a, b = pictures()
    truth = np.rint(b * 255).astype(np.uint8)
    scene = Scene(a.astype(np.float32), truth, 2, find_protocol("rgb"))
    expected = module.squeezenet(np.rint(a * 255) / 255, truth / 255)
    assert METRICS["squeezenet"].measure(scene) == pytest.approx(expected, rel=1e-5)


def test_without_its_file_it_says_which_one_and_where_to(place):
    said = METRICS["squeezenet"].missing(asked=True)
    assert module.SQUEEZENET in said
    assert f"cp {module.SQUEEZENET} {place}" in said
    with pytest.raises(ModelError, match=r"cannot be measured") as caught:
        module.squeezenet(*pictures())
    assert caught.value.code == 4


def test_another_file_of_that_name_is_refused(place):
    save_file(SqueezeNet().state_dict(), place / module.SQUEEZENET)
    assert METRICS["squeezenet"].missing() is None
    with pytest.raises(ModelError, match=r"not the file it should be"):
        module.squeezenet(*pictures())


def test_a_picture_too_small_for_its_layers_is_refused(weights):
    with pytest.raises(ValueError, match="35 pixels"):
        module.squeezenet(*pictures(34, 60))
    module.squeezenet(*pictures(35, 35))
