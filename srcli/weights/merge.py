"""One weights file out of several: their mean, and the encoder of another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from srcli.config.presets import Preset
from srcli.errors import WeightsError
from srcli.weights.checkpoint import check_header, load_into, mismatches, read, save_state, shapes
from srcli.weights.install import check_free
from srcli.weights.store import SUFFIX, check_hash, find, resolve

ENCODER = "encoder."


def merge(
    models: Sequence[str],
    output: Path,
    *,
    encoder: str | None = None,
    half: bool = False,
    overwrite: bool = False,
) -> Preset:
    """Write the mean of weights of one network (Wortsman et al. 2022, "model soups", uniform).

    Args:
        models: presets or weights files of ours; the first says what the result is.
        output: the file to write, ends in `.safetensors`.
        encoder: a model whose encoder, with its settings, is taken in place of the mean's; to begin a training from.
        half: write fp16.
        overwrite: replace `output`.

    Returns:
        The preset of the result.

    Raises:
        ExistsError: `output` is there.
        WeightsError: it has another suffix, networks or licences differ, or encoder and decoder do not fit.
        ModelError, PresetError: an input that is missing, refused or unknown.
    """
    import torch

    from srcli.models import build

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
