"""Thera's checkpoints: the pickle that its authors' JAX writes, read without running anything, and in our layout.

A pickle names what it is made of, and opening it calls that. Here the names that such a file needs stand for classes
below, which keep values and do nothing, so that neither JAX nor Flax is needed; other names are refused.
"""

from __future__ import annotations

import io
import math
import pickle
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from srcli.config.presets import Preset

if TYPE_CHECKING:
    from torch import Tensor

MEAN = (0.4488, 0.4371, 0.4040)  # of the authors' pixels, which the field adds to the picture once more
EPSILON = 1e-5  # that they add to the pixels' variance of 0.25, on the way in only
TORCH = b"l\xfc\x9cF\xf9 j\xa8P\x19"  # the number that torch's own pickles begin with
MOST_ENTRIES = 10_000
NUMBERS = re.compile(r"[<>=|]?(f[248]|[iu][1248]|b1)")


class _Type:
    """NumPy's type of plain numbers."""

    def __init__(self, code: str, *_: Any) -> None:
        if not NUMBERS.fullmatch(code):
            raise ValueError(f"numbers of type {code}")
        self.kind = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.kind = self.kind.newbyteorder(state[1])


class _Array:
    """An array, whose content comes after it; a scalar or a buffer has it at once."""

    value: np.ndarray

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _version, shape, kind, fortran, content = state
        self.value = np.frombuffer(content, kind.kind).reshape(shape, order="F" if fortran else "C")


def _buffer(content: bytes, kind: _Type, shape: tuple[int, ...], order: str) -> _Array:
    array = _Array()
    array.__setstate__((1, shape, kind, order == "F", content))
    return array


def _scalar(kind: _Type, content: bytes) -> _Array:
    return _buffer(content, kind, (), "C")


def _of_jax(make: Any, args: Any, state: Any, *_: Any) -> _Array:
    array = _Array()
    array.__setstate__(state)
    return array


def _encoded(text: str, _: str) -> bytes:
    return text.encode("latin1")


class _Frozen(dict[Any, Any]):
    """Flax's dictionary; of older releases, its content comes after it."""

    def __setstate__(self, state: Any) -> None:
        for part in state if isinstance(state, tuple) else (state,):
            self.update((part or {}).get("_dict", {}))


class _Ignored:
    """What an optimiser remembers."""

    def __new__(cls, *_: Any, **__: Any) -> _Ignored:
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        pass


NAMES: dict[str, Any] = {
    r"collections\.OrderedDict": dict,
    r"_codecs\.encode": _encoded,
    r"numpy\.dtype": _Type,
    r"numpy\.ndarray|numpy\._?core\.multiarray\._reconstruct": _Array,
    r"numpy\._?core\.multiarray\.scalar": _scalar,
    r"numpy\._?core\.numeric\._frombuffer": _buffer,
    r"flax\.core\.frozen_dict\.FrozenDict": _Frozen,
    r"jax\._src\.(array\._reconstruct_array|device_array\.reconstruct_device_array)": _of_jax,
    r"optax\.[\w.]+State": _Ignored,
}


class _Reader(pickle._Unpickler):  # in Python: the one in C lets a file of a few bytes ask for any memory
    trusted = False

    def find_class(self, module: str, name: str) -> Any:
        for pattern, stand_in in NAMES.items():
            if re.fullmatch(pattern, f"{module}.{name}"):
                return stand_in
        if self.trusted:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"GLOBAL {module}.{name}")


def is_pickle(start: bytes) -> bool:
    """Whether a file that starts so is a plain pickle, which torch does not write."""
    return start[:1] == b"\x80" and TORCH not in start


def read(content: bytes, *, trusted: bool = False) -> tuple[dict[str, Tensor], str | None]:
    """The arrays of a plain pickle under the paths of their dictionaries, such as `out_conv/kernel`, and its own name.

    `trusted`: run what the file names, beyond what is known here. Raises UnpicklingError (it names something else; the
    message says GLOBAL and what), Exception (whatever a damaged pickle leads to).
    """
    import torch

    reader = _Reader(io.BytesIO(content))
    reader.trusted = trusted
    tree = reader.load()
    name = None
    if isinstance(tree, dict) and isinstance(tree.get("model"), dict):
        name = f"{tree.get('backbone')} {tree.get('size')}"
        tree = tree["model"]
    if isinstance(tree, dict) and isinstance(tree.get("params"), dict):
        tree = tree["params"]
    found: dict[str, Tensor] = {}
    for count, (path, value) in enumerate(_leaves(tree, "")):
        if count > MOST_ENTRIES:
            raise ValueError("it has more entries than any network")
        if isinstance(value, _Array):
            found[path] = torch.from_numpy(value.value.astype(np.float32))
    return found, name


def _leaves(tree: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Everything in nested dictionaries, those too, with its path."""
    yield path, tree
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from _leaves(value, f"{path}/{key}" if path else str(key))


# Flax's names of modules and ours, in this order; RDN's two ways of naming are those of newer and of older releases.
MODULES = (
    (r"^encoder/Conv_0/", "encoder/SFENet1/"),
    (r"^encoder/Conv_1/", "encoder/SFENet2/"),
    (r"^encoder/(Conv_2|Sequential_0/layers_0)/", "encoder/GFF/0/"),
    (r"^encoder/(Conv_3|Sequential_0/layers_1)/", "encoder/GFF/1/"),
    (r"/RDB_(\d+)/Conv_0/", r"/RDBs/\1/LFF/"),
    (r"/RDB_(\d+)/(RDB_Conv_|Sequential_0/layers_)(\d+)/Conv_0/", r"/RDBs/\1/convs/\3/conv/0/"),
    (r"^refine/layers_(\d+)/LayerNorm_0/", r"refine/\1/0/"),
    (r"^refine/layers_(\d+)/Conv_0/", r"refine/\1/1/"),
    (r"^refine/RSTB_(\d+)/BasicLayer_0/SwinTransformerBlock_", r"refine/layers/\1/residual_group/blocks/"),
    (r"^refine/RSTB_(\d+)/Conv_0/", r"refine/layers/\1/conv/"),
    (r"^refine/PatchEmbed_0/LayerNorm_0/", "refine/patch_embed/norm/"),
    (r"^refine/LayerNorm_0/", "refine/norm/"),
    (r"^refine/Conv_0/", "refine/conv_first/"),
    (r"^refine/Conv_1/", "refine/conv_after_body/"),
    (r"^refine/Conv_2/", "refine/conv_before_upsample/0/"),
    (r"/LayerNorm_0/", "/norm1/"),
    (r"/LayerNorm_1/", "/norm2/"),
    (r"/WindowAttention_0/", "/attn/"),
    (r"/Mlp_0/Dense_0/", "/mlp/fc1/"),
    (r"/Mlp_0/Dense_1/", "/mlp/fc2/"),
    (r"/layers_(\d+)", r"/\1"),
    (r"/(kernel|scale)$", "/weight"),
    (r"^refine/", "encoder/tail/"),
    (r"^(?!encoder/)", "decoder/"),
)


def is_official(state: Mapping[str, Tensor]) -> bool:
    """Whether these are the keys of one of Thera's checkpoints."""
    return {"components", "out_conv/kernel"} <= state.keys()


def convert(state: Mapping[str, Tensor], preset: Preset) -> dict[str, Tensor]:
    """The state of one of Thera's checkpoints under the keys of our network, for pixels of mean `MEAN` and deviation 0.5."""
    import torch

    out = {"decoder.bias": 2 * torch.tensor(MEAN)}
    for key, value in state.items():
        ours = our_name(key)
        if preset.encoder.name == "refined" and key.startswith("encoder/"):
            ours = ours.replace("encoder.", "encoder.body.", 1)
        if key.endswith("/kernel") and value.ndim > 1:
            value = value.movedim((-1, -2), (0, 1))
        if key in ("encoder/head/layers_0/kernel", "encoder/Conv_0/kernel"):
            value = value * (0.5 / math.sqrt(0.25 + EPSILON))
        out[ours] = (_by_colour(value) if key.startswith("out_conv/") else value).contiguous()
    return out


def our_name(key: str) -> str:
    """What we call an array of the authors' without a tail behind the encoder."""
    for pattern, name in MODULES:
        key = re.sub(pattern, name, key)
    return key.replace("/", ".")


def _by_colour(value: Tensor) -> Tensor:
    """The last layer's outputs: of the authors', the colours of a wave lie side by side; of ours, the waves of a colour."""
    import torch

    count = len(value) // 4
    value = value.flatten(1) if value.ndim > 1 else value
    return torch.cat([*(value[colour : 3 * count : 3] for colour in range(3)), value[3 * count :]])
