"""Reading and writing weights: safetensors with the preset in its metadata, loaded strictly.

torch is imported inside the functions, so that commands which only list models start without it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from srcli import __version__
from srcli.config.presets import Preset
from srcli.errors import ModelError, PresetError, WeightsError
from srcli.files import write_atomically
from srcli.weights.files import (
    FIXED_SCALE,
    FORMAT,
    SUFFIX,
    as_filed,
    check_hash,
    damaged,
    digest_of,
    find,
    resolve,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

    from srcli.models.sr import ImplicitSR

SHOWN = 5  # keys of each kind in a message


@dataclass(frozen=True)
class Loaded:
    """A network with trained weights on the CPU in fp32, in evaluation mode, and where they came from."""

    network: ImplicitSR
    preset: Preset
    path: Path
    sha256: str  # of its file, or see `digest_of`


def load(model: str | Path | Preset) -> Loaded:
    """The network that a preset (or its name, its file, or a weights file of ours) stands for, with its weights.

    Raises PresetError (no such preset, or none of a network), ModelError (weights missing, refused, or with a wrong
    hash), WeightsError (weights that do not fit the network).
    """
    from srcli.weights.build import build

    preset = as_filed(model) if isinstance(model, Preset) else resolve(model)
    path = find(preset)
    digest = digest_of(preset, check_hash(preset, path))
    if preset.encoder.name == FIXED_SCALE:
        from srcli.weights import fixed_scale

        network, preset = fixed_scale.load(preset, path)
        return Loaded(network.eval(), preset, path, digest)
    check_header(preset, path)
    network = build(preset)
    load_into(network, read(path), where=str(path))
    return Loaded(network.eval(), preset, path, digest)


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, on the CPU; floating point ones as fp32.

    Raises ModelError (a pickle, which is only read by `models import`), WeightsError (another file, or a damaged one).
    """
    from safetensors.torch import load_file

    if path.suffix != SUFFIX:
        raise ModelError(
            f"{path} is not a safetensors file.",
            hint=f"Convert it: srcli models import {path} --preset NAME --license SPDX",
        )
    with _naming(path):
        state = load_file(path, device="cpu")
    return {key: value.float() if value.is_floating_point() else value for key, value in state.items()}


def shapes_inside(path: Path) -> dict[str, tuple[int, ...]]:
    """Key -> shape by a safetensors file's header, which agrees with the file's size; WeightsError for any other."""
    from safetensors import safe_open

    with _naming(path), safe_open(path, framework="numpy") as file:
        return {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118  # no mapping


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Inside, what safetensors says of a damaged file names the file."""
    from safetensors import SafetensorError

    try:
        yield
    except (SafetensorError, ValueError, OSError) as error:
        raise damaged(path, error) from error


def check_header(preset: Preset, path: Path) -> None:
    """Compare the network that a preset describes with the header of a weights file, before either takes memory.

    Raises WeightsError (they differ, or the preset inside describes no network), PresetError, ModelError (as `build`).
    """
    if preset.encoder.name == FIXED_SCALE:
        raise WeightsError(
            f"{path} is a network for one factor, which is used as it is: not merged or trained."
        )
    try:
        own = network_shapes(preset)
    except (PresetError, ModelError) as error:
        if Path(preset.weights_file) != path.absolute():
            raise
        raise WeightsError(
            f"the preset inside {path} describes no network: {error}",
            hint=None if error.hint else "Get the file again.",
        ) from error
    _check_fit(own, shapes_inside(path), str(path))


def network_shapes(preset: Preset) -> dict[str, tuple[int, ...]]:
    """Key -> shape of the weights of a preset's network, without building it in memory; raises as `build`."""
    from srcli.weights.build import outline

    return shapes(own_state(outline(preset)))


def load_into(network: nn.Module, state: Mapping[str, Tensor], *, where: str) -> None:
    """Copy `state` into `network`, strictly: the same keys with the same shapes, else WeightsError."""
    _check_fit(shapes(own_state(network)), shapes(state), where)
    network.load_state_dict(dict(state), strict=not getattr(network, "outside", ()))


def _check_fit(own: Mapping[str, tuple[int, ...]], other: Mapping[str, tuple[int, ...]], where: str) -> None:
    if problems := mismatches(own, other):
        raise WeightsError(
            f"{where} does not fit the network: {problems}.", hint="Is it a checkpoint of another preset?"
        )


def own_state(network: nn.Module) -> dict[str, Tensor]:
    """The state of a network without what comes from base models as it was, see `ImplicitSR.outside`."""
    outside = getattr(network, "outside", ())
    return {key: value for key, value in network.state_dict().items() if key not in outside}


def shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Key -> shape of a state dict."""
    return {key: tuple(value.shape) for key, value in state.items()}


def mismatches(own: Mapping[str, tuple[int, ...]], other: Mapping[str, tuple[int, ...]]) -> str:
    """What `other` lacks, has too much, or has in another shape, in words; empty if they agree."""
    wrong = [
        f"{k} {list(other[k])} instead of {list(own[k])}" for k in own if k in other and own[k] != other[k]
    ]
    kinds = {
        "missing": [key for key in own if key not in other],
        "unexpected": [key for key in other if key not in own],
        "of another shape": wrong,
    }
    return "; ".join(f"{len(keys)} {kind} ({_first(keys)})" for kind, keys in kinds.items() if keys)


def _first(keys: Iterable[str]) -> str:
    keys = list(keys)
    return ", ".join(keys[:SHOWN]) + (", .." if len(keys) > SHOWN else "")


def save(
    path: Path,  # ends in `.safetensors`
    network: nn.Module,  # its state dict is written
    preset: Preset,  # what the file will say that it is
    *,
    half: bool = False,  # floating point values in fp16, half the size; they are read back as fp32
    extra: Mapping[str, str] | None = None,  # more metadata, such as the source or the number of steps
) -> None:
    """Write a network's weights atomically, with the resolved preset in the metadata. Raises ResourceError."""
    save_state(path, own_state(network), preset, half=half, extra=extra)


def save_state(
    path: Path,
    state: Mapping[str, Tensor],
    preset: Preset,
    *,
    half: bool = False,
    extra: Mapping[str, str] | None = None,
) -> None:
    """As `save`, for a state dict."""
    write_atomically(path, file_of(state, preset, half=half, extra=extra))


def file_of(
    state: Mapping[str, Tensor], preset: Preset, *, half: bool = False, extra: Mapping[str, str] | None = None
) -> bytes:
    """The content of the file that `save_state` writes."""
    from safetensors.torch import save as to_bytes

    tensors = {
        key: (value.half() if half and value.is_floating_point() else value)
        .detach()
        .cpu()
        .contiguous()
        .clone()
        for key, value in state.items()
    }
    about = {
        "format": "pt",  # what other readers of safetensors expect here
        "srcli": __version__,
        "srcli_format": FORMAT,
        "preset": _portable(preset).to_json(),
        "license": preset.weights.license,
        **(extra or {}),
    }
    return _in_order(to_bytes(tensors, metadata=about))


def _in_order(file: bytes) -> bytes:
    """A safetensors file with its metadata sorted: the library writes them in an order that changes from run to run."""
    start = 8 + int.from_bytes(file[:8], "little")
    header = json.loads(file[8:start])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors lie at multiples of 8
    return b"".join([len(text).to_bytes(8, "little"), text, memoryview(file)[start:]])


def _portable(preset: Preset) -> Preset:
    """The preset without what is only true of another file or machine."""
    file = preset.weights.file
    file = None if file is not None and Path(file).is_absolute() else file
    encoder = preset.encoder
    if from_file := encoder.args.get("file"):  # of a network for one factor
        encoder = replace(encoder, args={**encoder.args, "file": Path(from_file).name})
    weights = replace(preset.weights, file=file, sha256=None)
    return replace(preset, encoder=encoder, before=None, weights=weights)
