"""Checkpoints as authors publish them: what is inside, which preset it belongs to, and its keys in our layout.

The releases nest their state dict differently and call things differently; the part that knows its old names
says so in a class attribute `UPSTREAM_KEYS`, pairs of a regular expression and its replacement (None drops the
key), tried in order, the first match counts. What no rule matches goes to the decoder; `encoder.` and `generator.` stay.
"""

from __future__ import annotations

import argparse
import inspect
import pickle
import re
import struct
import types
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

from srcli.config.presets import Part, Preset, list_presets
from srcli.errors import ModelError, WeightsError
from srcli.weights import official_fplia as fplia
from srcli.weights.checkpoint import mismatches, network_shapes, read, shapes
from srcli.weights.files import SUFFIX, damaged, is_bundled

if TYPE_CHECKING:
    from torch import Tensor

NESTED = ("params_ema", "params", "state_dict", "model")
PREFIXES = ("module.", "model.", "generator.", "_orig_mod.")
# What unpickling a damaged or foreign file raises; anything else is a bug.
UNREADABLE = (
    pickle.UnpicklingError, EOFError, RuntimeError, ValueError, KeyError, IndexError, TypeError, AttributeError,
    ImportError, AssertionError, ArithmeticError, MemoryError, struct.error, OSError,
)  # fmt: skip


@dataclass(frozen=True)
class Checkpoint:
    """A state dict under its published keys, and what the file says about itself, which may be wrong."""

    state: dict[str, Tensor]  # key -> tensor; floating point ones as fp32
    name: str | None = None  # the name of the network's class in the authors' code
    args: Mapping[str, Any] = field(default_factory=dict)  # its constructor's arguments there


def read_foreign(path: Path, *, trust_pickle: bool = False) -> Checkpoint:
    """A checkpoint in any of the published layouts; `trust_pickle` lets a pickle run whatever code it holds.

    Raises ModelError (missing, or a pickle with more than `_harmless` values), WeightsError (damaged, or no weights).
    """
    if not path.is_file():
        raise ModelError(f"checkpoint {path} does not exist.")
    if path.suffix == SUFFIX:
        return Checkpoint(read(path))
    return unwrap(unpickled(path, trust_pickle=trust_pickle), str(path))


def unpickled(path: Path, *, trust_pickle: bool = False) -> Any:
    """What a pickle holds; raises as `read_foreign`."""
    import torch

    from srcli.weights import official_thera as thera  # with NumPy

    try:
        if thera.is_pickle(path):
            return thera.read(path.read_bytes())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the age of the file's format
            with torch.serialization.safe_globals(_harmless()):
                return torch.load(path, map_location="cpu", weights_only=not trust_pickle)
    except UNREADABLE as error:
        raise _unreadable(path, error) from error


def _harmless() -> list[Any]:
    """What checkpoints hold beside tensors and runs no code: NumPy's numbers and arrays, settings, paths."""
    import numpy as np

    kinds = [
        getattr(np.dtypes, name) for name in np.dtypes.__all__ if not name.startswith(("Object", "Void"))
    ]
    settings = [argparse.Namespace, types.SimpleNamespace]
    paths = [
        (pure, f"{module}.{name}")
        for pure, name in ((PurePosixPath, "PosixPath"), (PureWindowsPath, "WindowsPath"))
        for module in ("pathlib", "pathlib._local")
    ]
    makers: list[Any] = [np.float32(0).__reduce__()[0], np.zeros(0).__reduce__()[0]]
    numpy = [
        (made, f"numpy.{core}.multiarray.{made.__name__}") for made in makers for core in ("core", "_core")
    ]
    return [*kinds, np.dtype, np.ndarray, *numpy, *settings, *paths]


def _unreadable(path: Path, error: BaseException) -> ModelError:
    wanted = re.search(r"GLOBAL ([\w.]+)", str(error))
    if wanted:
        return ModelError(
            f"{path} is refused: opening it would run code ({wanted[1]}).",
            hint=f"If you made it yourself: srcli models import {path} --trust-pickle.",
        )
    if str(error).startswith("Weights only load failed"):
        error = ValueError("torch cannot read it")
    return damaged(path, error, "checkpoint")


def unwrap(content: Any, where: str) -> Checkpoint:
    """The state dict inside a loaded checkpoint, without nesting and prefixes. Raises WeightsError (no tensors)."""
    import torch

    name: Any = None
    args: Mapping[str, Any] = {}
    while isinstance(content, Mapping):
        if isinstance(content.get("sd"), Mapping):
            name, args, content = content.get("name"), content.get("args") or {}, content["sd"]
        inner = next((key for key in NESTED if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            break
        content = content[inner]
    tensors = content.items() if isinstance(content, Mapping) else ()
    state = {
        str(key): value.detach().float() if value.is_floating_point() else value.detach()
        for key, value in tensors
        if isinstance(value, torch.Tensor)
    }
    if not state:
        raise WeightsError(f"{where} holds no weights.")
    return Checkpoint(_without_prefix(state), name if isinstance(name, str) else None, args)


def _without_prefix(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state without the names of what wrapped the network, and without what stood beside it, such as a loss."""
    wrapped = re.compile(f"({'|'.join(map(re.escape, PREFIXES))})+encoder[.]")
    bare = any(key.startswith("encoder.") for key in state)
    for prefix in PREFIXES:
        inside = {key: value for key, value in state.items() if key.startswith(prefix)}
        network = any(map(wrapped.match, inside)) and not bare
        if inside and (network or len(inside) == len(state)):
            return _without_prefix({key.removeprefix(prefix): value for key, value in inside.items()})
    return state


def rename(state: Mapping[str, Tensor], preset: Preset) -> dict[str, Tensor]:
    """The state dict under our keys: `encoder.*`, `decoder.*` and `generator.*`."""
    from srcli.models.decoders import DECODERS
    from srcli.models.encoders import ENCODERS
    from srcli.weights import official_thera as thera

    ours = all(key.startswith(("encoder.", "decoder.", "generator.")) for key in state)
    has_decoder = any(key.startswith("decoder.") for key in state)
    if ours and (has_decoder or preset.decoder.name == "native"):
        return dict(state)
    if preset.generator is not None and fplia.is_official(state):
        return fplia.convert(state, preset)
    if thera.is_official(state):
        return thera.convert(state, preset)
    parts = (ENCODERS[preset.encoder.name], DECODERS[preset.decoder.name])
    rules = [rule for part in parts for rule in getattr(part, "UPSTREAM_KEYS", ())]
    renamed = {_renamed(key, rules): value for key, value in state.items()}
    named = {key: value for key, value in renamed.items() if key is not None}
    for part in parts:
        named = part.from_release(named) if hasattr(part, "from_release") else named
    return named


def _renamed(key: str, rules: Iterable[tuple[str, str | None]]) -> str | None:
    for pattern, replacement in rules:
        if re.search(pattern, key):
            return None if replacement is None else re.sub(pattern, replacement, key, count=1)
    return key if key.startswith(("encoder.", "generator.")) else f"decoder.{key}"


def fit(checkpoint: Checkpoint, preset: Preset) -> tuple[Preset, str]:
    """The preset with the switches that the checkpoint states, and how its keys differ from the network's, in words.

    Switches such as `local_ensemble` leave no trace in the keys, so the file's own `args` decide them.
    """
    own = network_shapes(preset)
    switches = _switches(preset)
    changed = {
        key: value
        for key, value in checkpoint.args.items()
        if isinstance(value, bool) and switches.get(key, value) != value
    }
    if changed:
        preset = replace(preset, decoder=Part(preset.decoder.name, {**preset.decoder.args, **changed}))
        own = network_shapes(preset)
    return preset, mismatches(own, shapes(rename(checkpoint.state, preset)))


def _in_parts(preset: Preset) -> bool:
    """Whether the network is made of parts from our tables, not assembled from base models."""
    from srcli.models.generators import GENERATORS

    return preset.generator is None or preset.generator.name in GENERATORS


def _switches(preset: Preset) -> dict[str, Any]:
    """The arguments of the decoder's constructor that are true or false, as the preset has them."""
    from srcli.models.decoders import DECODERS

    parameters = inspect.signature(DECODERS[preset.decoder.name]).parameters.values()
    values = {p.name: preset.decoder.args.get(p.name, p.default) for p in parameters}
    return {key: value for key, value in values.items() if isinstance(value, bool)}


class NoPresetError(WeightsError):
    """A checkpoint of another network than those of all presets."""


def identify(checkpoint: Checkpoint, where: str) -> Preset:
    """The preset that a checkpoint belongs to, by its keys, shapes and switches; its name is not trusted.

    Where a switch in the checkpoint differs from every preset's, the preset is the one that fits otherwise. Raises
    NoPresetError (none fits), WeightsError (several do).
    """
    sampled = fplia.is_official(checkpoint.state) or any(
        key.startswith("generator.") for key in checkpoint.state
    )
    presets = [preset for preset in list_presets() if (preset.generator is not None) == sampled]
    tried = [(preset, *fit(checkpoint, preset)) for preset in presets if _in_parts(preset)]
    fitting = [(preset, stated) for preset, stated, problems in tried if not problems]
    exact = [preset for preset, stated in fitting if stated == preset] or [preset for preset, _ in fitting]
    if len(exact) > 1:  # those whose weights came with the package wait for none
        exact = [preset for preset in exact if not is_bundled(preset)] or exact
    if len(exact) == 1:
        return exact[0]
    if exact:
        names = ", ".join(preset.name for preset in exact)
        raise WeightsError(f"{where} fits several presets: {names}.", hint="Say which: --preset NAME.")
    claimed = f", which calls itself '{checkpoint.name}'," if checkpoint.name else ""
    raise NoPresetError(
        f"{where}{claimed} fits no preset.",
        hint="Name one to see what differs: --preset NAME; srcli models list.",
    )
