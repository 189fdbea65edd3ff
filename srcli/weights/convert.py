"""Turning a checkpoint into a weights file of ours: the tensors, a recorded hash, and a card for people."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srcli import __version__
from srcli.config.presets import Preset, load_preset, parse_preset
from srcli.errors import ExistsError, ModelError, PresetError, ResourceError, WeightsError
from srcli.files import remove_leftovers, sha256, write_atomically
from srcli.weights.checkpoint import check_header, file_of, load_into, mismatches, read, save_state, shapes
from srcli.weights.files import (
    FIXED_SCALE,
    FORMAT,
    SUFFIX,
    UNSTATED,
    check_hash,
    check_license,
    find,
    fixed_scale_preset,
    hash_file,
    imported_files,
    locate,
    metadata,
    models_folder,
    preset_inside,
    renamed,
    resolve,
)
from srcli.weights.official import Checkpoint, NoPresetError, fit, identify, read_foreign, rename

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Installed:
    """A new weights file."""

    path: Path  # the safetensors file, beside which the card and the hash lie, or a folder
    preset: Preset  # what it holds, with the switches that the checkpoint stated
    sha256: str  # its hash, or that of a folder's index
    named: bool  # whether the preset's name now finds it; otherwise it is used by its path


def import_file(
    path: Path,  # `.pth`, `.ckpt` or `.safetensors`, in any published layout, or a folder that `write_folder` made
    *,
    preset: str = "auto",  # a name or file; "auto" finds it by keys, shapes and switches
    license_id: str | None,  # SPDX; None takes the preset's, if it states one
    output: Path | None = None,  # file to write; without a suffix, a folder with a file for each component
    trust_pickle: bool = False,
    overwrite: bool = False,
) -> Installed:
    """Convert a checkpoint to safetensors in the folder of models.

    Raises ModelError (missing, refused, or of unknown licence), WeightsError (damaged, or does not fit), ExistsError
    (there is such a file already).
    """
    if license_id is not None:
        license_id = check_license(license_id)
    inside: Preset | None = None
    if is_folder(path):
        inside, state = read_folder(path)
        checkpoint = Checkpoint(state)
    else:
        checkpoint = read_foreign(path, trust_pickle=trust_pickle)
    try:
        chosen, stated = _choose(checkpoint, path, preset, inside)
    except NoPresetError as error:
        checkpoint, chosen = _fixed_scale(path, output, error, trust_pickle=trust_pickle)
        stated = chosen
    if license_id is None:
        license_id = check_license(None if chosen.weights.license == UNSTATED else chosen.weights.license)
    known = stated.encoder.name != FIXED_SCALE
    named = known and output is None and stated.decoder == chosen.decoder
    if output is None:
        output = models_folder() / (stated.weights_file if named else f"{path.stem}.safetensors")
    source = {"source": path.name, "source_sha256": sha256(path / INDEX if inside else path)}
    installed = install(
        checkpoint,
        stated,
        license_id,
        output,
        source=source,
        overwrite=overwrite,
        named=named,
        where=str(path),
    )
    return (
        replace(installed, preset=replace(installed.preset, name=output.stem), named=True)
        if output in imported_files()
        else installed
    )


def _fixed_scale(
    path: Path, output: Path | None, no_preset: NoPresetError, *, trust_pickle: bool
) -> tuple[Checkpoint, Preset]:
    """A network for one factor under our keys, and its preset; `no_preset` where it is none that is known."""
    from srcli.weights import fixed_scale

    if is_folder(path):
        raise no_preset
    if output is not None and output.suffix != SUFFIX:
        raise WeightsError(f"a network for one factor is one file: {output} must end in {SUFFIX}.")
    try:
        state = fixed_scale.read_state(path, trust_pickle=trust_pickle)
        _, preset = fixed_scale.network_of(state, fixed_scale_preset(path), str(path))
    except fixed_scale.UnknownNetworkError:
        raise no_preset from None
    except ResourceError as missing:
        raise NoPresetError(no_preset.message, hint=f"{no_preset.hint} {missing.hint}") from missing
    prefixed = {f"{fixed_scale.PREFIX}{key}": value for key, value in state.items()}
    return Checkpoint(prefixed), replace(preset, weights=replace(preset.weights, file=None))


def _choose(checkpoint: Checkpoint, path: Path, preset: str, inside: Preset | None) -> tuple[Preset, Preset]:
    """The preset as named or found, and with the checkpoint's own switches."""
    if preset != "auto":  # its licence is that of the preset, not of weights that have its name already
        chosen = preset_inside(Path(preset)) if Path(preset).suffix == SUFFIX else load_preset(preset)
    elif inside is not None:
        chosen = inside
    elif path.suffix == SUFFIX and "preset" in metadata(path):
        chosen = preset_inside(path)
        if chosen.encoder.name == FIXED_SCALE:
            raise NoPresetError(f"{path} is a network for one factor already.")
        check_header(chosen, path)
    else:
        chosen = identify(checkpoint, str(path))
    if Path(chosen.weights_file).is_absolute() or inside is not None:  # of another file
        chosen = replace(chosen, weights=replace(chosen.weights, file=None))
    stated, problems = fit(checkpoint, chosen)
    if problems:
        raise WeightsError(
            f"{path} does not fit preset '{chosen.name}': {problems}.",
            hint="Is it a checkpoint of another preset? --preset auto finds it.",
        )
    return chosen, stated


def install(
    checkpoint: Checkpoint,
    preset: Preset,
    license_id: str,
    output: Path,
    *,
    source: dict[str, str],
    overwrite: bool,
    named: bool,
    where: str,
) -> Installed:
    """Write a checkpoint that fits `preset` as a weights file, with its hash and card beside it.

    Raises ExistsError (there is one, without `overwrite`), WeightsError (it does not fit, holds NaN or infinite values,
    or `output` has another suffix than `.safetensors`), ResourceError (it cannot be written).
    """
    from srcli.weights.build import build

    if output.suffix not in ("", ".safetensors"):
        raise WeightsError(f"{output} must end in .safetensors, or in nothing for a folder.")
    check_free(output, overwrite=overwrite)
    network = None if preset.encoder.name == FIXED_SCALE else build(preset)  # that has been made
    state = rename(checkpoint.state, preset)
    bad = [key for key, value in state.items() if not value.isfinite().all()]
    if bad:
        raise WeightsError(
            f"{where} holds values that are not numbers (NaN or infinite) in {len(bad)} of {len(state)} tensors, "
            f"such as {bad[0]}.",
            hint="Its training diverged, or the file is damaged: take an earlier checkpoint.",
        )
    if network is not None:
        load_into(network, state, where=where)
    preset = replace(preset, weights=replace(preset.weights, license=license_id))
    if not output.suffix:
        write_folder(output, state, preset)
        return Installed(output, preset, sha256(output / INDEX), named=False)
    content = file_of(state, preset, extra=source)
    digest = hashlib.sha256(content).hexdigest()
    write_atomically(hash_file(output), f"{digest}  {output.name}\n".encode())
    write_atomically(output.with_suffix(".md"), card(preset, output, digest, source).encode())
    write_atomically(output, content)  # last: weights that are there are complete
    return Installed(output, preset, digest, named and locate(preset) == output)


def check_free(output: Path, *, overwrite: bool) -> None:
    """Remove what a killed run left; ExistsError if `output` is there and is not to be overwritten."""
    remove_leftovers(output.parent)
    if output.exists() and not overwrite:
        raise ExistsError(
            f"{output} exists.", hint="Replace it with --overwrite, or choose another --output."
        )


def remove(path: Path) -> None:
    """Remove a weights file that `install` wrote, with hash and card; ResourceError if it cannot be removed."""
    for each in (path, hash_file(path), path.with_suffix(".md")):
        try:
            each.unlink(missing_ok=True)
        except OSError as error:
            raise ResourceError(f"cannot remove {each}: {error.strerror}.") from error


def card(preset: Preset, path: Path, digest: str, source: dict[str, str]) -> str:
    """A short model card in Markdown."""
    low, high = preset.scales.trained
    facts = {
        "preset": preset.name,
        "file": path.name,
        "SHA-256": digest,
        "licence of the weights": preset.weights.license,
        "licence of the authors' code": preset.code_license or UNSTATED,
        "paper": preset.paper,
        "code": preset.origin,
        "trained scales": f"{low:g} to {high:g}",
        "made from": source.get("source"),
        "SHA-256 of that": source.get("source_sha256"),
    }
    lines = [f"- {name}: {value}" for name, value in facts.items() if value]
    return "\n".join([f"# {preset.title}", "", *lines, ""])


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
    """Write a network's state as a folder. Raises ResourceError (the disk is full or the folder is not writable)."""
    from safetensors.torch import save

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

        from srcli.models import make
        from srcli.models.generators import GENERATORS

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
    """A folder's preset, and its state under our keys. Raises ModelError (no such folder), WeightsError (damaged)."""
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


ENCODER = "encoder."


def merge(
    models: Sequence[str],
    output: Path,
    *,
    encoder: str | None = None,
    half: bool = False,
    overwrite: bool = False,
) -> Preset:
    """Write the mean of weights of one network (Wortsman et al. 2022, "model soups", uniform); gives its preset.

    The first of `models` says what the result is. `encoder`: a model whose encoder, with its settings, is taken in
    place of the mean's; to begin a training from. Raises ExistsError (`output` is there), WeightsError (another suffix
    than `.safetensors`, networks or licences differ, or encoder and decoder do not fit), ModelError, PresetError (an
    input).
    """
    import torch

    from srcli.weights.build import build

    if output.suffix != SUFFIX:
        raise WeightsError(f"{output} must end in {SUFFIX}.")
    check_free(output, overwrite=overwrite)
    presets = [resolve(model) for model in (*models, *([encoder] if encoder else []))]
    paths = [find(preset) for preset in presets]
    source = ", ".join(f"{path.name} {check_hash(p, path)}" for p, path in zip(presets, paths, strict=True))
    for preset, path in zip(presets, paths, strict=True):
        check_header(preset, path)
    licences = sorted({preset.weights.license for preset in presets})
    if len(licences) > 1:
        raise WeightsError(f"weights under several licences cannot be merged: {', '.join(licences)}.")
    states = [read(path) for path in paths]
    for path, state in zip(paths[1 : len(models)], states[1:], strict=False):
        if problems := mismatches(shapes(states[0]), shapes(state)):
            raise WeightsError(f"{path} is not of the network of {paths[0]}: {problems}.")
    merged = {
        key: torch.stack([state[key] for state in states[: len(models)]]).mean(0)
        if first.is_floating_point()
        else first
        for key, first in states[0].items()
    }
    preset = presets[0]
    if encoder:
        merged = {key: value for key, value in merged.items() if not key.startswith(ENCODER)}
        merged |= {key: value for key, value in states[-1].items() if key.startswith(ENCODER)}
        preset = replace(preset, encoder=presets[-1].encoder, params=None)
    preset = replace(preset, reported=())  # measured with other weights
    load_into(build(preset), merged, where=f"the merging of {', '.join(map(str, paths))}")
    save_state(output, merged, preset, half=half, extra={"source": source})
    return preset
