"""The base models' part of `srcli models`: what can be fetched, where it is, and whether it is whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from srcli.cli.console import say
from srcli.config.base_models import base_names, load_base, locate_base
from srcli.config.presets import Preset


def split(names: list[str]) -> tuple[list[str], list[str]]:
    """The base models among names, and the others."""
    known = base_names()
    return [name for name in names if name in known], [name for name in names if name not in known]


def rows() -> Iterator[tuple[str, ...]]:
    """A table of all base models."""
    yield "NAME", "SIZE", "LICENCE", "WEIGHTS"
    for name in sorted(base_names()):
        about = load_base(name)
        folder = locate_base(name)
        size = "-" if about.size is None else f"{about.size / 1e6:.1f} MB"
        where = (
            f"here: {folder}" if folder else f"to be fetched (models pull {name}), or {about.variable}=FOLDER"
        )
        yield name, size, about.license, where


def described(preset: Preset) -> list[dict[str, Any]]:
    """The base models that a preset stands on, for machines; those that it names as folders have no more to tell."""
    from srcli.config.base_models import bases_of

    found = []
    for name in bases_of(preset):
        folder = locate_base(name) if name in base_names() else Path(name)
        about: dict[str, Any] = {"name": name, "path": None if folder is None else str(folder)}
        if name in base_names():
            base = load_base(name)
            about |= {"repository": base.repository, "size": base.size, "license": base.license}
        found.append(about)
    return found


def verdicts(names: list[str]) -> tuple[list[tuple[str, ...]], list[str]]:
    """A line for every file of base models, and the names of those that are not whole."""
    from srcli.config.base_models import find_base
    from srcli.weights.download import check_base

    lines: list[tuple[str, ...]] = []
    wrong = []
    for name in names:
        folder = find_base(name)
        checked = check_base(name, folder)
        lines += [(name, verdict, "", str(folder / file)) for file, verdict in checked.items()]
        if not {"WRONG", "MISSING"}.isdisjoint(checked.values()):
            wrong.append(name)
    return lines, wrong


def here() -> list[str]:
    """The base models that are here."""
    return [name for name in sorted(base_names()) if locate_base(name)]


def pull(name: str, to: Path | None, *, offline: bool, overwrite: bool) -> None:
    """Fetch a base model, saying from where and under which licence."""
    from srcli.weights.download import pull_base

    about = load_base(name)
    size = "" if about.size is None else f", about {about.size / 1e6:.1f} MB"
    say(f"{name} from {about.repository} at {about.revision}{size}")
    say(f"licence: {about.license}" + (f"; {about.note}" if about.note else ""))
    print(pull_base(name, folder=to, offline=offline, overwrite=overwrite))
