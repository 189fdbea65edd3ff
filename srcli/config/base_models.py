"""Base models: other people's networks that some presets stand on, as folders in the layout of their makers.

Each is described by a TOML file in the folder `bases` of presets: where it is published, under which licence, and
which of its files are needed. Since repositories move, the file can be replaced by one of the same name in
`$SRCLI_PRESETS_DIR/bases`, and a folder that is already here can be named instead: in the preset, or by a variable of
the environment such as `SRCLI_SD2_BASE`. No torch here.
"""

import os
from dataclasses import dataclass, replace
from pathlib import Path

from srcli.config.presets import Part, Preset, preset_folders
from srcli.config.toml import read_section, read_toml
from srcli.errors import ModelError, PresetError, suggest

FOLDER = "bases"
MARK = "srcli.json"  # what was fetched, from where; its presence says that the folder is whole


@dataclass(frozen=True)
class Base:
    """A base model."""

    title: str  # its name in print
    repository: str  # on the Hugging Face Hub
    license: str  # SPDX identifier, or the name that its makers give
    files: tuple[str, ...]  # patterns of the files that are needed
    revision: str = "main"  # a commit, tag or branch; which commit it was is recorded when it is fetched
    size: int | None = None  # bytes, roughly
    note: str | None = None  # one line for people
    name: str = ""  # what the user types; the file's stem

    @property
    def variable(self) -> str:
        """The variable of the environment that names its folder."""
        return "SRCLI_" + self.name.upper().replace("-", "_")


def load_base(name: str) -> Base:
    """The base model called `name`. Raises PresetError (there is none, or its file is no description)."""
    for folder in preset_folders():
        path = folder / FOLDER / f"{name}.toml"
        if path.name == f"{name}.toml" and path.is_file():
            return replace(read_section(Base, read_toml(path), str(path)), name=name)
    raise PresetError(f"unknown base model '{name}'.", hint=suggest(name, base_names()))


def base_names() -> set[str]:
    """The names of all base models."""
    return {path.stem for folder in preset_folders() for path in (folder / FOLDER).glob("*.toml")}


def models_folder() -> Path:
    """The folder that `models pull` and `models import` write to: `$SRCLI_MODELS_DIR` or the user's data folder."""
    own = os.environ.get("SRCLI_MODELS_DIR")
    if own:
        return Path(own)
    import platformdirs

    return Path(platformdirs.user_data_dir("srcli", appauthor=False)) / "models"


def locate_base(base: str) -> Path | None:
    """The folder of a base model, or of a path that is one; None where it is not here. Raises PresetError."""
    if Path(base).is_dir():
        return Path(base)
    about = load_base(base)
    named = os.environ.get(about.variable)
    folder = Path(named) if named else models_folder() / base
    return folder if folder.is_dir() and (named or (folder / MARK).is_file()) else None


def find_base(base: str) -> Path:
    """As `locate_base`, but raises ModelError, which says how to get it, where it is not here."""
    folder = locate_base(base)
    if folder is None:
        raise missing_bases([base])
    return folder


def base_of(part: Part) -> str:
    """The base model that a part of a network stands on, by name or folder; "" for none."""
    return str(part.args.get("base", "dino-vitb16" if part.name == "dino" else ""))


def bases_of(preset: Preset) -> list[str]:
    """The base models that a preset stands on, by name or folder, each once."""
    parts = [part for part in (preset.generator, preset.decoder, preset.encoder) if part is not None]
    return list(dict.fromkeys(filter(None, map(base_of, parts))))


def missing_bases(names: list[str], and_then: str | None = None) -> ModelError:
    """What to say where base models are not here; `and_then` says what else is missing."""
    about = [load_base(name) for name in names]
    titles = " and ".join(f"{each.title} ({each.license})" for each in about)
    variables = " ".join(f"{each.variable}=FOLDER" for each in about)
    return ModelError(
        f"the base models are not here: {titles}.",
        hint=f"Get them: srcli models pull {' '.join(names)}; or name folders that you have: {variables}."
        + (f" The model's own weights, too: {and_then}" if and_then else ""),
    )
