"""The nodes for other programs, imported with stand-ins for the few classes of those programs that they use."""

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from srcli import Upscaler

EXAMPLES = Path(__file__).parents[1] / "docs/examples"


@pytest.fixture
def host(monkeypatch):
    """`host(name, **names)` is a module of the program."""

    def put(name, **names):
        module = ModuleType(name)
        vars(module).update(names)
        monkeypatch.setitem(sys.modules, name, module)

    return put


@pytest.fixture
def example(monkeypatch):
    """`example(name)` imports the folder of that name as a package, as the programs do."""

    def load(name):
        folder = EXAMPLES / name
        spec = importlib.util.spec_from_file_location(
            f"example_{name}", folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="module")
def expected():
    """A picture (9, 11, 3) in [0, 1], and that to x2.5."""
    picture = np.random.default_rng(0).random((9, 11, 3), np.float32)
    return picture, Upscaler.from_preset(device="cpu").upscale(picture, 2.5)


def test_the_node_for_comfyui(host, example, expected):
    updates = []
    bar = lambda total: SimpleNamespace(update=lambda step: updates.append((total, step)))  # noqa: E731
    host("comfy")
    host("comfy.utils", ProgressBar=bar)
    package = example("comfyui")
    kind = package.NODE_CLASS_MAPPINGS["SrcliUpscale"]
    assert package.NODE_DISPLAY_NAME_MAPPINGS.keys() == package.NODE_CLASS_MAPPINGS.keys()
    inputs = kind.INPUT_TYPES()["required"]
    defaults = {name: about[1]["default"] for name, about in inputs.items() if name != "image"}
    assert defaults == {"scale": 4.0, "model": "rlfn-native"}
    picture, wanted = expected
    batch = torch.from_numpy(np.stack([picture, picture[::-1].copy()]))
    (result,) = getattr(kind(), kind.FUNCTION)(image=batch, **{**defaults, "scale": 2.5})
    assert result.shape == (2, *wanted.shape)
    np.testing.assert_allclose(result[0].numpy(), wanted, atol=1e-5)
    assert updates == [(2, 1), (2, 1)]


def test_the_node_for_chainner(host, example, expected):
    nodes = {}

    def register(schema_id, **about):
        return lambda run: nodes.setdefault(schema_id, SimpleNamespace(run=run, **about)).run

    group = SimpleNamespace(register=register)
    category = SimpleNamespace(add_node_group=lambda _name: group)
    package = SimpleNamespace(add_category=lambda **_about: category)
    host("api", MB=1 << 20, Dependency=SimpleNamespace, add_package=lambda *_words, **_about: package)
    host("nodes")
    host("nodes.properties")
    fields = {"ImageInput": lambda: None, "NumberInput": lambda name, **about: (name, about)}
    host("nodes.properties.inputs", **fields, TextInput=lambda name, **about: (name, about))
    host("nodes.properties.outputs", ImageOutput=lambda: None)
    importlib.import_module(f"{example('chainner').__name__}.upscale")
    node = nodes["srcli:upscale"]
    assert len(node.inputs) == 3
    picture, wanted = expected
    bgr = node.run(picture[..., ::-1], 2.5, "rlfn-native")
    np.testing.assert_allclose(bgr[..., ::-1], wanted, atol=1e-5)
    alpha = np.ones((9, 11, 1), np.float32)
    bgra = node.run(np.concatenate([picture[..., ::-1], alpha], axis=2), 2.5, "rlfn-native")
    np.testing.assert_allclose(bgra[..., [2, 1, 0]], wanted, atol=1e-5)
    np.testing.assert_allclose(bgra[..., 3], 1, atol=1e-6)
    assert node.run(picture[..., 0], 2.5, "rlfn-native").shape == wanted.shape[:2]
