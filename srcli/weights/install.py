"""Turning a checkpoint into a weights file of ours: the tensors, a recorded hash, and a card for people."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

from srcli.config.presets import Preset, load_preset
from srcli.errors import ExistsError, ResourceError, WeightsError
from srcli.files import remove_leftovers, sha256, write_atomically
from srcli.weights.checkpoint import check_header, file_of, load_into
from srcli.weights.folder import INDEX, is_folder, read_folder, write_folder
from srcli.weights.licenses import UNSTATED, check_license
from srcli.weights.official import Checkpoint, fit, identify, read_foreign, rename
from srcli.weights.store import SUFFIX, hash_file, locate, metadata, models_folder, preset_inside


@dataclass(frozen=True)
class Installed:
    """A new weights file.

    Attributes:
        path: the safetensors file, beside which the card and the hash lie, or a folder.
        preset: what it holds, with the switches that the checkpoint stated.
        sha256: its hash, or that of a folder's index.
        named: whether the preset's name now finds it; otherwise it is used by its path.
    """

    path: Path
    preset: Preset
    sha256: str
    named: bool


def import_file(
    path: Path,
    *,
    preset: str = "auto",
    license_id: str | None,
    output: Path | None = None,
    trust_pickle: bool = False,
    overwrite: bool = False,
) -> Installed:
    """Convert a checkpoint to safetensors in the folder of models.

    Args:
        path: `.pth`, `.ckpt` or `.safetensors`, in any published layout, or a folder that `write_folder` made.
        preset: a preset's name or file; "auto" finds it by keys, shapes and switches.
        license_id: SPDX identifier of the weights; None takes the preset's, if it states one.
        output: the file to write instead; without a suffix, a folder with a file for each component.
        trust_pickle: see `read_foreign`.
        overwrite: replace an existing file.

    Raises:
        ModelError: missing, refused, or of unknown licence.
        WeightsError: damaged, or does not fit.
        ExistsError: there is such a file already.
    """
    if license_id is not None:
        license_id = check_license(license_id)
    inside: Preset | None = None
    if is_folder(path):
        inside, state = read_folder(path)
        checkpoint = Checkpoint(state)
    else:
        checkpoint = read_foreign(path, trust_pickle=trust_pickle)
    chosen, stated = _choose(checkpoint, path, preset, inside)
    if license_id is None:
        license_id = check_license(None if chosen.weights.license == UNSTATED else chosen.weights.license)
    named = output is None and stated.decoder == chosen.decoder
    if output is None:
        output = models_folder() / (stated.weights_file if named else f"{path.stem}.safetensors")
    source = {"source": path.name, "source_sha256": sha256(path / INDEX if inside else path)}
    return install(
        checkpoint,
        stated,
        license_id,
        output,
        source=source,
        overwrite=overwrite,
        named=named,
        where=str(path),
    )


def _choose(checkpoint: Checkpoint, path: Path, preset: str, inside: Preset | None) -> tuple[Preset, Preset]:
    """The preset as named or found, and with the checkpoint's own switches."""
    if preset != "auto":  # its licence is that of the preset, not of weights that have its name already
        chosen = preset_inside(Path(preset)) if Path(preset).suffix == SUFFIX else load_preset(preset)
    elif inside is not None:
        chosen = inside
    elif _is_ours(path):
        chosen = preset_inside(path)
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


def _is_ours(path: Path) -> bool:
    return path.suffix == SUFFIX and "preset" in metadata(path)


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

    Raises:
        ExistsError: there is such a file and `overwrite` is not set.
        WeightsError: it does not fit, holds NaN or infinite values, or `output` has another suffix than `.safetensors`.
        ResourceError: the disk is full or the folder is not writable.
    """
    from srcli.models import build

    if output.suffix not in ("", ".safetensors"):
        raise WeightsError(f"{output} must end in .safetensors, or in nothing for a folder.")
    check_free(output, overwrite=overwrite)
    network = build(preset)
    state = rename(checkpoint.state, preset)
    bad = [key for key, value in state.items() if not value.isfinite().all()]
    if bad:
        raise WeightsError(
            f"{where} holds values that are not numbers (NaN or infinite) in {len(bad)} of {len(state)} tensors, "
            f"such as {bad[0]}.",
            hint="Its training diverged, or the file is damaged: take an earlier checkpoint.",
        )
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
    """Nothing may be replaced unasked; what a killed run left beside it goes.

    Raises:
        ExistsError: `output` is there and `overwrite` is not set.
    """
    remove_leftovers(output.parent)
    if output.exists() and not overwrite:
        raise ExistsError(
            f"{output} exists.", hint="Replace it with --overwrite, or choose another --output."
        )


def remove(path: Path) -> None:
    """Remove a weights file that `install` wrote, with the hash and the card beside it.

    Raises:
        ResourceError: it cannot be removed.
    """
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
