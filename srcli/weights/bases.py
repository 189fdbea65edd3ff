"""Fetching base models from the Hugging Face Hub, at one commit, into the folder of models; checking, removing them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from srcli.config.base_models import MARK, Base, find_base, load_base, models_folder
from srcli.errors import ExistsError, ModelError, ResourceError
from srcli.files import sha256, write_atomically, write_error

WEIGHTS = (".safetensors", ".bin")


def pull_base(
    name: str, *, folder: Path | None = None, offline: bool = False, overwrite: bool = False
) -> Path:
    """Fetch a base model; what is there already is continued, or left alone where it is whole.

    Args:
        name: of the base model.
        folder: where its own folder is made, instead of the folder of models.
        offline: refuse to use the network.
        overwrite: fetch it again where it is whole.

    Returns:
        Its folder, with the commit that was fetched in a file beside the weights.

    Raises:
        PresetError: an unknown name.
        ModelError: offline, or the Hub does not answer with the files.
        ResourceError: the disk is full or the folder not writable.
        ExistsError: a folder of that name that is not ours.
    """
    about = load_base(name)
    target = (folder or models_folder()) / name
    if (target / MARK).is_file() and not overwrite:
        return target
    if offline:
        raise ModelError(
            f"{about.title} is not fetched: offline.",
            hint=f"On a machine with a network: srcli models pull {name} --to FOLDER; "
            f"then set {about.variable} to the folder here.",
        )
    if target.is_dir() and any(target.iterdir()) and not (target / ".cache").is_dir() and not overwrite:
        raise ExistsError(
            f"{target} exists and was not fetched by srcli.", hint=f"Use it: {about.variable}=FOLDER"
        )
    commit = _fetched(about, target)
    missing = [pattern for pattern in about.files if "*" not in pattern and not (target / pattern).is_file()]
    weights = [path for path in target.rglob("*") if path.suffix in WEIGHTS]
    if not weights or len(missing) == len(about.files):
        raise ModelError(
            f"{about.repository} holds none of the files of {about.title}.",
            hint="Has it moved? Copy presets/bases/NAME.toml to $SRCLI_PRESETS_DIR/bases and change it.",
        )
    shutil.rmtree(target / ".cache", ignore_errors=True)
    record = {
        "repository": about.repository,
        "revision": about.revision,
        "commit": commit,
        "license": about.license,
        "files": {name: sha256(target / name) for name in _files(target)},
    }
    write_atomically(target / MARK, json.dumps(record, indent=2).encode() + b"\n")
    return target


def _fetched(about: Base, target: Path) -> str:
    """Fetch the files into a folder; returns the commit that they are of."""
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        commit: Any = huggingface_hub.HfApi().model_info(about.repository, revision=about.revision).sha
        huggingface_hub.snapshot_download(
            about.repository, revision=commit, local_dir=target, allow_patterns=list(about.files)
        )
    except RepositoryNotFoundError as error:
        raise ModelError(
            f"there is no {about.repository} on the Hub, or it is not public.",
            hint="It may have moved: copy presets/bases/NAME.toml to $SRCLI_PRESETS_DIR/bases and change it.",
        ) from error
    except OSError as error:
        if isinstance(error, HfHubHTTPError | LocalEntryNotFoundError | ConnectionError):
            raise ModelError(
                f"{about.repository} cannot be fetched: {str(error).splitlines()[0]}",
                hint="Run again to continue, or get it elsewhere and name the folder: "
                f"{about.variable}=FOLDER",
            ) from error
        raise write_error(target, error) from error
    return str(commit)


def check_base(name: str, folder: Path) -> dict[str, str]:
    """Hash the files of a base model again and compare them with what was fetched.

    Args:
        name: which one.
        folder: where it is.

    Returns:
        For every file "ok" or "WRONG"; "MISSING" for one that was fetched and is gone, or that the base model cannot do
        without; "no hash recorded" in a folder that was not fetched by us.

    Raises:
        PresetError: an unknown name.
    """
    mark = folder / MARK
    recorded: dict[str, str] = json.loads(mark.read_text("utf-8")).get("files", {}) if mark.is_file() else {}
    needed = [pattern for pattern in load_base(name).files if pattern.endswith(".json")]
    verdicts = dict.fromkeys([*recorded, *needed], "MISSING")
    for each in _files(folder):
        wanted = recorded.get(each)
        verdict = "ok" if wanted is not None and wanted == sha256(folder / each) else "WRONG"
        verdicts[each] = verdict if wanted is not None else "no hash recorded"
    if not any(Path(each).suffix in WEIGHTS and verdict != "MISSING" for each, verdict in verdicts.items()):
        verdicts["weights"] = "MISSING"
    return verdicts


def _files(folder: Path) -> list[str]:
    """Settings and weights in a folder, from there."""
    found = (path for path in folder.rglob("*") if path.suffix in (".json", *WEIGHTS) and path.name != MARK)
    return sorted(path.relative_to(folder).as_posix() for path in found)


def remove_base(name: str) -> Path:
    """Remove a base model that was fetched.

    Raises:
        ModelError: it is not here.
        ResourceError: it cannot be removed, or lies in a folder of the user's.
    """
    folder = find_base(name)
    if not (folder / MARK).is_file():
        raise ResourceError(f"{folder} was not fetched by srcli and stays.")
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise ResourceError(f"cannot remove {folder}: {error.strerror}.") from error
    return folder
