"""A generative model as a folder: `model_index.json` and one safetensors file per component, as diffusers lays it out.

The index holds the preset and what each component's file is called. The UNet's file and `config.json` are what
diffusers itself reads; the noise schedule is written beside them for the same reason, and read back from the preset.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srcli import __version__
from srcli.config.presets import Preset, parse_preset
from srcli.errors import ModelError, PresetError, WeightsError
from srcli.weights.store import FORMAT, renamed

if TYPE_CHECKING:
    from torch import Tensor

INDEX = "model_index.json"
WEIGHTS = "diffusion_pytorch_model.safetensors"
COMPONENTS = {  # folder -> beginning of our keys; the first that fits has a key
    "fidelity": "encoder.fidelity.",
    "vae": "encoder.autoencoder.",
    "encoder": "encoder.",
    "unet": "generator.unet.",
    "generator": "generator.",
    "lia": "decoder.",
    "decoder": "decoder.",  # any other
}


def is_folder(path: Path) -> bool:
    """Whether a path is a model in a folder."""
    return (path / INDEX).is_file()


def write_folder(path: Path, state: Mapping[str, Tensor], preset: Preset) -> None:
    """Write a network's state as a folder.

    Args:
        path: the folder; it is made.
        state: under our keys.
        preset: what it is.

    Raises:
        ResourceError: the disk is full or the folder is not writable.
    """
    from safetensors.torch import save

    from srcli.files import write_atomically

    parts: dict[str, dict[str, Tensor]] = {}
    folders = {k: v for k, v in COMPONENTS.items() if k != "lia" or preset.decoder.name == "lia"}
    for key, value in state.items():
        name, prefix = next((name, prefix) for name, prefix in folders.items() if key.startswith(prefix))
        parts.setdefault(name, {})[key.removeprefix(prefix)] = value.detach().cpu().contiguous()
    for name, tensors in parts.items():
        write_atomically(path / name / WEIGHTS, save(tensors, metadata={"format": "pt"}))
    for name, settings in _settings(preset, parts).items():
        write_atomically(path / name, _json(settings))
    index = {
        "_class_name": preset.title,
        "srcli": __version__,
        "srcli_format": FORMAT,
        "components": {name: COMPONENTS[name] for name in parts},
        "preset": preset.to_dict(),
    }
    write_atomically(path / INDEX, _json(index))  # last: without it the folder is no model


def _settings(preset: Preset, parts: Mapping[str, Any]) -> dict[str, Any]:
    """What diffusers wants beside the weights, by file."""
    files: dict[str, Any] = {}
    if "unet" in parts and preset.generator is not None:
        import torch

        from srcli.models import GENERATORS, make

        with torch.device("meta"):
            unet: Any = make(GENERATORS, "generator", preset.generator, preset.name).unet
        config = {key: value for key, value in dict(unet.config).items() if not key.startswith("_")}
        files["unet/config.json"] = {"_class_name": "UNet2DModel", **config}
    if preset.diffusion is not None:
        noise = preset.diffusion
        files["scheduler/scheduler_config.json"] = {
            "_class_name": "DDIMScheduler",
            "num_train_timesteps": noise.train_steps,
            "beta_start": noise.beta_start,
            "beta_end": noise.beta_end,
            "beta_schedule": noise.beta_schedule,
            "prediction_type": noise.prediction,
            "clip_sample": noise.clip,
        }
    return files


def _json(content: Any) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()


def read_folder(path: Path) -> tuple[Preset, dict[str, Tensor]]:
    """The preset of a folder, and its state under our keys.

    Raises:
        ModelError: there is no such folder.
        WeightsError: its index or one of its files is missing or damaged.
    """
    from srcli.weights.checkpoint import read

    if not is_folder(path):
        raise ModelError(f"{path} is no model: it has no {INDEX}.")
    try:
        index = json.loads((path / INDEX).read_text(encoding="utf-8"))
        table = dict(index["preset"])
        components = dict(index["components"])
        preset = renamed(
            parse_preset(table, name=path.name, where=str(path / INDEX)), index.get("srcli_format")
        )
    except (ValueError, KeyError, TypeError, RecursionError, OSError, PresetError) as error:
        raise WeightsError(f"{path / INDEX} is not readable: {error}.") from error
    state: dict[str, Tensor] = {}
    for name, prefix in components.items():
        if COMPONENTS.get(name) != prefix:
            raise WeightsError(f"{path / INDEX} names an unknown component '{name}'.")
        state.update({f"{prefix}{key}": value for key, value in read(path / name / WEIGHTS).items()})
    return preset, state
