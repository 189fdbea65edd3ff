"""Weights files as files: where they are looked for, their hash, and the preset they carry. No torch here."""

import hashlib
import json
import re
import struct
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from srcli.config.base_models import bases_of, locate_base, missing_bases
from srcli.config.base_models import models_folder as models_folder
from srcli.config.presets import (
    Part,
    Pixels,
    Preset,
    Weights,
    list_presets,
    load_preset,
    parse_preset,
    preset_names,
)
from srcli.errors import ModelError, PresetError, UsageError, WeightsError, first_line, placeholder
from srcli.files import sha256

SUFFIX = ".safetensors"
PICKLES = (".pth", ".pt", ".ckpt", ".pkl", ".bin")
NETWORKS = (".pth", ".pt", ".ckpt")  # of those, what people share networks for one factor in
FIXED_SCALE = "fixed-scale"  # the encoder of such a network
FORMAT = "2"  # of our metadata; see `_renamed`
MAX_HEADER = 100_000_000  # bytes; the format's own limit


def bundled_folder() -> Path:
    """The folder of weights that came with the package."""
    return Path(__file__).parent.parent / "_weights"


def locate(preset: Preset) -> Path | None:
    """The weights file of a preset, or None: beside the preset's own file, bundled, then `models_folder`."""
    if Path(preset.weights_file).is_absolute():
        candidates = [Path(preset.weights_file)]
    else:
        folders = [bundled_folder(), models_folder()]
        if preset.weights.file and preset.folder:
            folders.insert(0, preset.folder)
        candidates = [folder / preset.weights_file for folder in folders]
    return next((path for path in candidates if path.is_file()), None)


def find(preset: Preset) -> Path:
    """The weights file of a preset. Raises ModelError (there is none; the message says how to get it)."""
    absent = [base for base in bases_of(preset) if locate_base(base) is None]
    if absent:
        raise missing_bases(absent, and_then=None if locate(preset) else _how(preset))
    path = locate(preset)
    if path is None:
        raise ModelError(
            f"the weights of '{preset.name}' ({preset.weights_file}) are not here.", hint=_how(preset)
        )
    return path


def _how(preset: Preset) -> str:
    if preset.weights.links:
        return f"Get them: srcli models pull {preset.name}"
    if preset.training.recipe:
        note = f" ({preset.weights.note})" if preset.weights.note else ""
        return f"Train them: srcli train --recipe {preset.training.recipe} --data PHOTOS{note}"
    return (
        f"Train them (srcli train), or convert a file that you have: srcli models import FILE --preset {preset.name} "
        f"--license SPDX. {preset.weights.note or 'None are published.'}"
    )


def is_bundled(preset: Preset) -> bool:
    """Whether the preset's weights came with the package."""
    path = locate(preset)
    return path is not None and path.parent == bundled_folder()


def resolve(model: str | Path) -> Preset:
    """The preset that `-m` names: a preset's name, a preset file, a weights file, or one on the Hub; the licence is its file's.

    Any other file of weights is taken for a network for one factor, which is known when it is loaded. Of two with a plus
    between them the first is run before the second. With ``@`` and digits behind it, its weights must be there and have a SHA-256 that begins with them. Raises
    PresetError (an unknown name, or no preset), ModelError (weights that are missing, refused, carry no preset or have
    another hash), UsageError (too few or too many digits, or none).
    """
    if str(model).startswith("hf:"):
        from srcli.weights.hub import Reference

        return Reference.parse(str(model)).preset()
    path = Path(model)
    name, at, pin = str(model).rpartition("@")
    if at and pin.isalnum() and not path.exists():
        return _pinned(resolve(name), pin.lower())
    first, plus, last = str(model).rpartition("+")
    if plus and not path.exists():
        return _after(first, resolve(last))
    if path.suffix in PICKLES and not path.exists():
        raise ModelError(f"weights file {path} does not exist.")
    if path.suffix in NETWORKS or (
        path.suffix == SUFFIX and path.is_file() and "preset" not in metadata(path)
    ):
        return fixed_scale_preset(path)
    if path.suffix in PICKLES:
        raise ModelError(
            f"{path} is a pickle, which can run code when it is opened; it is not read as a model.",
            hint=f"Convert it: srcli models import {path} --preset NAME --license SPDX",
        )
    if (path / "model_index.json").is_file():
        raise ModelError(
            f"{path} is a model in parts; it is used as one file.",
            hint=f"Join them: srcli models import {path} -o NAME.safetensors",
        )
    if path.suffix == SUFFIX:
        return preset_inside(path)
    own = models_folder() / f"{model}{SUFFIX}"
    if path.name == str(model) and own.is_file() and own in imported_files():
        return replace(preset_inside(own), name=own.stem)
    return as_filed(load_preset(model))


def _after(first: str, preset: Preset) -> Preset:
    """The preset with a model that is run first, whose licence counts too."""
    before = resolve(first)
    terms = dict.fromkeys((before.weights.license, preset.weights.license))
    weights = replace(preset.weights, license=" AND ".join(terms), file=preset.weights_file)
    return replace(preset, name=f"{before.name}+{preset.name}", before=first, weights=weights)


def digest_of(preset: Preset, own: str | None = None) -> str:
    """The SHA-256 of a preset's weights (`own`, where it is known), or of that and of the model before them."""
    own = own or sha256(find(preset))
    if preset.before is None:
        return own
    return hashlib.sha256(f"{digest_of(resolve(preset.before))} {own}".encode()).hexdigest()


def imported_files() -> list[Path]:
    """Weights files in the folder of models that belong to no preset: each is a model of the name of its file."""
    found = [path for path in sorted(models_folder().glob(f"*{SUFFIX}")) if path.stem not in preset_names()]
    of_presets = {locate(preset) for preset in list_presets()} if found else set()
    return [path for path in found if path not in of_presets and "preset" in _readable(path)]


def _readable(path: Path) -> dict[str, str]:
    with suppress(WeightsError):
        return metadata(path)
    return {}


def fixed_scale_preset(path: Path) -> Preset:
    """The preset of a file with a network for one factor, as far as that is known without a look inside."""
    unit = Pixels((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    weights = Weights(file=str(path.absolute()))
    return Preset(path.stem, path.stem, Part(FIXED_SCALE), Part("native"), pixels=unit, weights=weights)


def _pinned(preset: Preset, pin: str) -> Preset:
    if not re.fullmatch("[0-9a-f]{8,64}", pin):
        raise UsageError(f"'{preset.name}@{pin}': weights are pinned by 8 to 64 digits of their SHA-256.")
    path = find(preset)
    found = sha256(path)
    if not found.startswith(pin):
        raise ModelError(
            f"{path} is not what '{preset.name}@{pin}' asks for: its SHA-256 is {found}.",
            hint="Put the file with that hash in its place, or name it.",
        )
    return replace(preset, weights=replace(preset.weights, sha256=found))


def as_filed(preset: Preset) -> Preset:
    """The preset with what its weights file states, where that is here: the licence, and what `renamed` changes."""
    path = locate(preset)
    if path is None:
        return preset
    with suppress(WeightsError):  # it is told when it is loaded
        about = metadata(path)
        licence = about.get("license") or preset.weights.license
        preset = replace(preset, weights=replace(preset.weights, license=licence))
        return renamed(preset, about.get("srcli_format")) if "preset" in about else preset
    return preset


def renamed(preset: Preset, written: str | None) -> Preset:
    """A preset by the names of today, for weights that were written in format `written`.

    Until format 2, LINF's `ensemble = "local"` took the mean of the neighbours' conditions; now that is "local-condition",
    and "local" is the mean of four flows, of the same keys and shapes.
    """
    decoder = preset.decoder
    if written in (None, "1") and decoder.name == "linf" and decoder.args.get("ensemble") == "local":
        decoder = replace(decoder, args={**decoder.args, "ensemble": "local-condition"})
    return replace(preset, decoder=decoder)


def preset_inside(path: Path) -> Preset:
    """The preset that a weights file of ours carries; its weights are the file. Raises ModelError (not such a file)."""
    if not path.is_file():
        raise ModelError(f"weights file {path} does not exist.")
    text = metadata(path).get("preset")
    if text is None:
        raise WeightsError(
            f"{path} does not say which network it belongs to.",
            hint=f"Convert it: srcli models import {path} --preset NAME --license SPDX",
        )
    try:
        table: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"the preset inside {path} is not readable: {error}.") from error
    if not isinstance(table, dict):
        raise WeightsError(f"the preset inside {path} is no table of settings.")
    try:
        preset = parse_preset(table, name=path.stem, where=str(path))
    except PresetError as error:
        raise WeightsError(f"{error.message} Was it written by another version of srcli?") from error
    preset = renamed(preset, metadata(path).get("srcli_format"))
    return replace(preset, weights=replace(preset.weights, file=str(path.absolute()), sha256=None))


def data_of(model: str | Path) -> str:
    """What taught the weights of a model, as far as that is said."""
    path = Path(model)
    with suppress(ModelError, PresetError):
        named = path.stem if path.parent == bundled_folder() else model
        return resolve(named).training.data or "not stated"
    return "not stated"


def metadata(path: Path) -> dict[str, str]:
    """The text metadata in a safetensors file's header, read without touching the tensors. Raises WeightsError."""
    try:
        with path.open("rb") as file:
            start = file.read(8)
            size = struct.unpack("<Q", start)[0] if len(start) == 8 else MAX_HEADER + 1
            header = json.loads(file.read(size)) if size <= MAX_HEADER else None
    except (ValueError, OSError, RecursionError) as error:
        raise damaged(path, error) from error
    if not isinstance(header, dict):
        raise damaged(path, ValueError("it has no header"))
    found = header.get("__metadata__", {})
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}


def damaged(path: Path, error: BaseException, kind: str = "safetensors file") -> WeightsError:
    """What to tell a person of a weights file that cannot be read because of `error`."""
    with suppress(OSError):
        if found := placeholder(path):
            return WeightsError(f"{path} is {found}.")
    return WeightsError(f"{path} is no {kind}, or is damaged: {first_line(error)}.")


def hash_file(path: Path) -> Path:
    """The file beside a weights file that records its hash, in the format of `sha256sum`."""
    return path.with_name(path.name + ".sha256")


def known_hash(preset: Preset, path: Path) -> str | None:
    """The hash that `path` ought to have: the preset's, or the one recorded when it was made; None if neither."""
    if preset.weights.sha256:
        return preset.weights.sha256
    beside = hash_file(path)
    return beside.read_text("utf-8").split()[0] if beside.is_file() and beside.stat().st_size else None


def check_hash(preset: Preset, path: Path) -> str:
    """The file's SHA-256, compared with the known one. Raises ModelError (they differ)."""
    found, wanted = sha256(path), known_hash(preset, path)
    if wanted not in (None, found):
        raise ModelError(
            f"{path} is not the file it should be: SHA-256 {found[:12]}.., expected {str(wanted)[:12]}...",
            hint="It is damaged or was replaced: delete it and get it again.",
        )
    return found


UNSTATED = "unstated"
# SPDX identifiers under which weights and code are commonly published; those of FREE allow commercial use.
FREE = (
    "0BSD", "AGPL-3.0-only", "AGPL-3.0-or-later", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0",
    "CC-BY-4.0", "CC-BY-SA-4.0", "CC0-1.0", "GPL-2.0-only", "GPL-2.0-or-later", "GPL-3.0-only", "GPL-3.0-or-later",
    "ISC", "LGPL-2.1-only", "LGPL-2.1-or-later", "LGPL-3.0-only", "LGPL-3.0-or-later", "MIT", "MIT-0", "MPL-2.0",
    "Unlicense", "Zlib",
)  # fmt: skip
NON_COMMERCIAL = ("CC-BY-NC-4.0", "CC-BY-NC-SA-4.0", "CC-BY-NC-ND-4.0", "PolyForm-Noncommercial-1.0.0")
LICENSES = dict.fromkeys(FREE, True) | dict.fromkeys(NON_COMMERCIAL, False)
OWN_TERMS = re.compile(r"LicenseRef-[A-Za-z0-9.-]+")


def check_license(license_id: str | None) -> str:
    """The licence, if it is an SPDX identifier of a usual one, or of own terms. Raises ModelError."""
    known = {name.lower(): name for name in (*LICENSES, UNSTATED)}
    if license_id is None:
        raise ModelError(
            "the licence of these weights is not known.",
            hint="Say it: --license MIT (any SPDX identifier), LicenseRef-NAME for other terms, or 'unstated'.",
        )
    if license_id.lower() in known:
        return known[license_id.lower()]
    if OWN_TERMS.fullmatch(license_id):
        return license_id
    raise ModelError(
        f"'{license_id}' is not a licence that I know.",
        hint="Use its SPDX identifier (MIT, Apache-2.0, CC-BY-NC-4.0, ..), or LicenseRef-NAME for other terms.",
    )


def allows_commercial_use(license_id: str) -> bool:
    """Whether a licence is known to allow commercial use; False where nothing is known."""
    return all(LICENSES.get(each, False) for each in license_id.split(" AND "))
