"""Thera's pickles, crafted as JAX and Flax write them without either: what is read, and what is refused unopened."""

import json
import os
import pickle
import sys
import types
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from srcli.config.presets import load_preset
from srcli.errors import ModelError, SrcliError, WeightsError
from srcli.weights.checkpoint import mismatches, network_shapes, shapes
from srcli.weights.official import read_foreign, rename
from tests.parity.thera import nested

KERNEL = np.arange(24, dtype=np.float32).reshape(1, 1, 3, 8)
ARRAYS = {"components": np.ones((2, 2), np.float32), "k": np.float32(0.06), "out_conv/kernel": KERNEL}


def module(monkeypatch, name, **content):
    """A module that is there while pickles are written."""
    made = types.ModuleType(name)
    parts = name.split(".")
    for count in range(1, len(parts)):
        monkeypatch.setitem(sys.modules, ".".join(parts[:count]), types.ModuleType(".".join(parts[:count])))
    for key, value in content.items():
        value.__module__, value.__qualname__, value.__name__ = name, key, key
        setattr(made, key, value)
    monkeypatch.setitem(sys.modules, name, made)


def written(monkeypatch, content, protocol=4):
    """Bytes of a pickle, made while JAX, Flax and Optax seem to be here."""

    class Frozen:
        def __init__(self, content):
            self.content = content

        def __reduce__(self):
            return type(self), (self.content,)

    def rebuilt(*_):
        raise AssertionError("only written here")

    class OnDevice:
        def __init__(self, array):
            self.array = array

        def __reduce__(self):
            return rebuilt, (*self.array.__reduce__(), {"weak_type": False})

    class EmptyState(tuple):
        __slots__ = ()

    with monkeypatch.context() as here:
        module(here, "jax._src.array", _reconstruct_array=rebuilt)
        module(here, "flax.core.frozen_dict", FrozenDict=Frozen)
        module(here, "optax._src.base", EmptyState=EmptyState)
        kit = types.SimpleNamespace(frozen=Frozen, jax=OnDevice, state=EmptyState)
        return pickle.dumps(content(kit), protocol=protocol)


def read(folder, content):
    path = folder / "model.pkl"
    path.write_bytes(content)
    return read_foreign(path)


KINDS = {
    "plain dictionaries": lambda kit: {"model": {"params": nested(ARRAYS)}, "backbone": "rdn", "size": "air"},
    "Flax and JAX": lambda kit: {
        "model": kit.frozen({"params": nested({key: kit.jax(np.asarray(v)) for key, v in ARRAYS.items()})}),
        "optimiser": [kit.state(), (np.int32(7), kit.state())],
    },
    "ordered, without nesting": lambda kit: OrderedDict(nested(ARRAYS)),
    "columns first": lambda kit: {"model": nested({**ARRAYS, "out_conv/kernel": np.asfortranarray(KERNEL)})},
}


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_arrays_are_read_whoever_holds_them(kind, protocol, tmp_path, monkeypatch):
    content = written(monkeypatch, KINDS[kind], protocol)
    for old in (False, True):
        if old and protocol == 2:  # NumPy 1 calls its inner module otherwise
            content = content.replace(b"numpy._core", b"numpy.core")
        state = read(tmp_path, content).state
        assert state.keys() == ARRAYS.keys()
        for key, value in ARRAYS.items():
            assert np.array_equal(state[key].numpy(), value)


def test_the_dictionary_of_older_flax_is_read(tmp_path):
    state = (None, {"_dict": nested(ARRAYS), "_hash": None})
    start = b"\x80\x02}X\x05\x00\x00\x00modelcflax.core.frozen_dict\nFrozenDict\n)\x81"
    found = read(tmp_path, start + pickle.dumps(state, protocol=2)[2:-1] + b"bs.").state
    assert found.keys() == ARRAYS.keys()


def test_names_of_older_flax_are_those_of_newer():
    keys = [
        name for name, _ in json.loads((Path(__file__).parents[1] / "parity/thera.json").read_text())["keys"]
    ]
    air = load_preset("edsr-baseline-thera-air")
    assert not any("RDB" in key for key in keys)
    assert len(keys) == len(network_shapes(air)) - 1  # its constant colour
    preset = load_preset("rdn-thera-air")
    newer = {"components": (2, 32), "k": (), "out_conv/kernel": (1, 1, 64, 128), "out_conv/bias": (128,)}
    layers = {
        "Conv_0": (3, 3, 3, 64),
        "Conv_1": (3, 3, 64, 64),
        "Conv_2": (1, 1, 1024, 64),
        "Conv_3": (3, 3, 64, 64),
    }
    for block in range(16):
        layers[f"RDB_{block}/Conv_0"] = (1, 1, 576, 64)
        layers |= {f"RDB_{block}/RDB_Conv_{c}/Conv_0": (3, 3, 64 * (c + 1), 64) for c in range(8)}
    for path, shape in layers.items():
        newer |= {f"encoder/{path}/kernel": shape, f"encoder/{path}/bias": (64,)}
    older = {
        key.replace("encoder/Conv_2", "encoder/Sequential_0/layers_0")
        .replace("encoder/Conv_3", "encoder/Sequential_0/layers_1")
        .replace("RDB_Conv_", "Sequential_0/layers_"): shape
        for key, shape in newer.items()
    }
    for names in (newer, older):
        state = rename({key: torch.empty(shape) for key, shape in names.items()}, preset)
        assert not mismatches(network_shapes(preset), shapes(state))


class Runs:
    """What a pickle would call."""

    def __init__(self, call, *args):
        self.call, self.args = call, args

    def __reduce__(self):
        return self.call, self.args


@pytest.mark.parametrize(
    ("call", "args"),
    [
        (os.mkdir, ("was-here",)),
        (eval, ("__import__('os').mkdir('was-here')",)),
        (np.savetxt, ("was-here", [1])),
        (getattr, ("text", "upper")),
        (torch.zeros, (2,)),
    ],
)
def test_whatever_else_a_pickle_names_is_refused_and_not_run(call, args, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = {"model": {"params": nested(ARRAYS)}, "more": Runs(call, *args)}
    for protocol in (2, 4):
        with pytest.raises(ModelError, match="would run code") as caught:
            read(tmp_path, pickle.dumps(content, protocol=protocol))
        assert caught.value.code == 4
        assert [path.name for path in tmp_path.iterdir()] == ["model.pkl"]


@pytest.mark.parametrize(
    "name",
    [b"jax._src.array\nArrayImpl", b"flax.core\nfreeze", b"optax\nadam", b"builtins\nexec", b"numpy\nload"],
)
def test_names_of_the_same_packages_that_are_not_needed_are_refused(name, tmp_path):
    with pytest.raises(ModelError, match="would run code"):
        read(tmp_path, b"\x80\x02c" + name + b"\n.")


def doubling(depth):
    tree = {"k": np.float32(1)}
    for _ in range(depth):
        tree = {"a": tree, "b": tree}
    return tree


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x04",
        b"\x80\x04}\x94.",
        b"\x80\x02}r\xff\xff\xff\x7f.",  # a place of two thousand million
        b"\x80\x02]q\x00h\x00a.",  # a list of itself
        b"\x80\x02}q\x00X\x05\x00\x00\x00modelh\x00s.",  # a dictionary in itself
        pickle.dumps(doubling(60)),
        pickle.dumps({"model": {"k": np.array([None, 1], object)}}),
        pickle.dumps([1, 2]),
        pickle.dumps({"model": 3}),
    ],
)
def test_a_pickle_that_is_no_network_is_one_line(content, tmp_path):
    with pytest.raises(SrcliError, match=r"model\.pkl") as caught:
        read(tmp_path, content)
    assert caught.value.code == 4
    assert "\n" not in caught.value.message


def test_a_network_of_other_sizes_is_told_apart(tmp_path):
    from srcli.weights.convert import import_file

    (tmp_path / "model.pkl").write_bytes(pickle.dumps({"model": {"params": nested(ARRAYS)}}))
    with pytest.raises(WeightsError, match="does not fit preset 'rdn-thera-air'") as caught:
        import_file(tmp_path / "model.pkl", preset="rdn-thera-air", license_id="unstated")
    assert caught.value.code == 4
