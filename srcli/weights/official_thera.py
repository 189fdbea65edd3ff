"""Thera's checkpoints: the pickle that its authors' JAX writes, read without running anything, and in our layout.

A pickle names what it is made of, and opening it calls that. Here the names that such a file needs stand for what is
below and only keeps values, so that neither JAX nor Flax is needed; other names are refused.
"""

from __future__ import annotations

import io
import math
import pickle
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from srcli.config.presets import Preset

if TYPE_CHECKING:
    from torch import Tensor

MEAN = (0.4488, 0.4371, 0.4040)  # of the authors' pixels, which the field adds to the picture once more
EPSILON = 1e-5  # that they add to the pixels' variance of 0.25, on the way in only
TORCH = b"l\xfc\x9cF\xf9 j\xa8P\x19"  # the number that torch's own pickles begin with
MOST_ENTRIES = 10_000


class _Frozen(dict[Any, Any]):
    """Flax's dictionary; that of older releases has its content after it. What an optimiser remembers is left out."""

    def __setstate__(self, state: Any) -> None:
        for part in state if isinstance(state, tuple) else (state,):
            self.update((part or {}).get("_dict", {}))


def _of_jax(make: Callable[..., np.ndarray], args: Any, state: Any, *_: Any) -> np.ndarray:
    array = make(*args)
    array.__setstate__(state)
    return array


NAMES: dict[str, Any] = {
    r"collections\.OrderedDict": dict,
    r"_codecs\.encode": lambda text, _: text.encode("latin1"),
    r"numpy\.dtype": np.dtype,
    r"numpy\.ndarray": np.ndarray,
    r"numpy\._?core\.multiarray\._reconstruct": np.zeros(0).__reduce__()[0],
    r"numpy\._?core\.multiarray\.scalar": np.float32(0).__reduce__()[0],
    r"numpy\._?core\.numeric\._frombuffer": np.zeros(0).__reduce_ex__(5)[0],
    r"jax\._src\.(array\._|device_array\.)reconstruct_(device_)?array": _of_jax,
    r"flax\.core\.frozen_dict\.FrozenDict|optax\.[\w.]+State": _Frozen,
}


class _Reader(pickle._Unpickler):  # in Python: the one in C lets a file of a few bytes ask for any memory
    def find_class(self, module: str, name: str) -> Any:
        for pattern, stand_in in NAMES.items():
            if re.fullmatch(pattern, f"{module}.{name}"):
                return stand_in
        raise pickle.UnpicklingError(f"GLOBAL {module}.{name}")


def is_pickle(path: Path) -> bool:
    """Whether a file is a plain pickle, which torch does not write."""
    with path.open("rb") as file:
        start = file.read(64)
    return start[:1] == b"\x80" and TORCH not in start


def read(content: bytes) -> dict[str, Tensor]:
    """The arrays of a plain pickle under the paths of their dictionaries, such as `out_conv/kernel`.

    UnpicklingError: it names something else; the message says GLOBAL and what. Damage raises whatever it leads to.
    """
    import torch

    tree, found = _Reader(io.BytesIO(content)).load(), {}
    for part in ("model", "params"):
        tree = tree.get(part, tree) if isinstance(tree, dict) else {}
    for count, (path, value) in enumerate(_entries(tree, "")):
        if count > MOST_ENTRIES:
            raise ValueError("it has more entries than any network")
        if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "fiu":
            found[path[1:]] = torch.from_numpy(np.array(value, np.float32))
    return found


def _entries(tree: Mapping[Any, Any], path: str) -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        yield f"{path}/{key}", value
        if isinstance(value, dict):
            yield from _entries(value, f"{path}/{key}")


# Flax's names of modules and ours, in this order; RDN's two ways of naming are those of newer and of older releases.
NAMING = r"""
    ^encoder/Conv_0/=encoder/SFENet1/ ^encoder/Conv_1/=encoder/SFENet2/ ^encoder/Sequential_0/layers_=encoder/GFF/
    ^encoder/Conv_2/=encoder/GFF/0/ ^encoder/Conv_3/=encoder/GFF/1/ /RDB_(\d+)/Conv_0/=/RDBs/\1/LFF/
    /RDB_(\d+)/(?:RDB_Conv_|Sequential_0/layers_)(\d+)/Conv_0/=/RDBs/\1/convs/\2/conv/0/
    ^refine/layers_(\d+)/LayerNorm_0/=refine/\1/0/ ^refine/layers_(\d+)/Conv_0/=refine/\1/1/
    ^refine/RSTB_(\d+)/BasicLayer_0/SwinTransformerBlock_=refine/layers/\1/residual_group/blocks/
    ^refine/RSTB_(\d+)/Conv_0/=refine/layers/\1/conv/ ^refine/PatchEmbed_0/LayerNorm_0/=refine/patch_embed/norm/
    ^refine/LayerNorm_0/=refine/norm/ ^refine/Conv_0/=refine/conv_first/ ^refine/Conv_1/=refine/conv_after_body/
    ^refine/Conv_2/=refine/conv_before_upsample/0/ /LayerNorm_0/=/norm1/ /LayerNorm_1/=/norm2/
    /WindowAttention_0/=/attn/ /Mlp_0/Dense_0/=/mlp/fc1/ /Mlp_0/Dense_1/=/mlp/fc2/ /layers_(\d+)=/\1
    /(kernel|scale)$=/weight ^refine/=encoder/tail/ ^(?!encoder/)=decoder/ /=."""
MODULES = [pair.split("=") for pair in NAMING.split()]


def is_official(state: Mapping[str, Tensor]) -> bool:
    """Whether these are the keys of one of Thera's checkpoints."""
    return {"components", "out_conv/kernel"} <= state.keys()


def convert(state: Mapping[str, Tensor], preset: Preset) -> dict[str, Tensor]:
    """The authors' state under the keys of the network of `preset`, for pixels of mean `MEAN` and deviation 0.5."""
    import torch

    out = {"decoder.bias": 2 * torch.tensor(MEAN)}
    for key, value in state.items():
        name = key
        for pattern, ours in MODULES:
            name = re.sub(pattern, ours, name)
        if preset.encoder.name == "refined" and key.startswith("encoder/"):
            name = name.replace("encoder.", "encoder.body.", 1)
        if key.endswith("/kernel") and value.ndim > 1:
            value = value.movedim((-1, -2), (0, 1))
        if key in ("encoder/head/layers_0/kernel", "encoder/Conv_0/kernel"):
            value = value * (0.5 / math.sqrt(0.25 + EPSILON))
        if key.startswith(
            "out_conv/"
        ):  # theirs has the colours of a wave side by side, ours the waves of a colour
            value, count = value.flatten(1) if value.ndim > 1 else value, 3 * (len(value) // 4)
            value = torch.cat([*(value[colour:count:3] for colour in range(3)), value[count:]])
        out[name] = value.contiguous()
    return out
