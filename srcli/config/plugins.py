"""Plug-ins: encoders, decoders, objectives, metrics and presets of other packages, or of a file, by name.

A package says in its metadata what it has, as entry points of the groups `srcli.encoders`, `srcli.decoders`,
`srcli.objectives`, `srcli.metrics` and `srcli.presets`; it is imported once a name is asked for that is none of ours. A
file that `srcli --plugin` or `$SRCLI_PLUGIN` names has dictionaries, ENCODERS, DECODERS, OBJECTIVES and METRICS, and is
run at the first look into a table of ours.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections import UserDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from srcli.errors import PLUGINS, PluginError, SrcliError, first_line, place_in_plugin

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

VARIABLE = (
    "SRCLI_PLUGIN"  # files, with what separates paths between them; processes that are started have it too
)

V = TypeVar("V")


class Registry(UserDict[str, V]):
    """Things by name: our own, and those of plug-ins. A name belongs to whoever had it first, and that is us.

    `kind` is what messages call one of them (a decoder), and in the plural its group and a file's dictionary; `like`: what
    it must be a subclass of, or an instance. One of ours may be ".module:name" of `package`, imported once it is asked for.
    """

    def __init__(self, kind: str, like: Any, own: Mapping[str, V | str], package: str = "") -> None:
        self.kind, self.like, self.package = kind, like, package
        self.files: tuple[str, ...] = ()
        self.foreign: set[str] = set()  # names of plug-ins, whose code changes while our version stays
        self.data: dict[str, Any] = dict(own)

    def __getitem__(self, name: str) -> V:
        if name not in self:
            raise KeyError(name)
        found = self.data[name]
        if isinstance(found, str):
            module, _, attribute = found.partition(":")
            found = self.data[name] = getattr(import_module(module, self.package), attribute)
        return cast("V", found)

    def __contains__(self, name: object) -> bool:
        self._take_files()
        if name in self.data:
            return True
        point = _installed(f"srcli.{self.kind}s").get(str(name))
        if point is None:
            return False
        with _running(_named(point), _folder(point.module)):
            found = point.load()
        self._take(point.name, found, _named(point))
        return True

    def with_plugins(self) -> Registry[V]:
        """Itself, with all that packages here have, for lists."""
        for name in _installed(f"srcli.{self.kind}s"):
            assert name in self
        return self

    def _take_files(self) -> None:
        files = tuple(filter(None, os.environ.get(VARIABLE, "").split(os.pathsep)))
        if files == self.files:
            return
        for file in files:
            if file not in self.files:
                for name, value in getattr(_run(file), f"{self.kind}s".upper(), {}).items():
                    if name in self.data:
                        raise PluginError(
                            f"{file}: there is a {self.kind} '{name}'.", hint="Name it otherwise."
                        )
                    self._take(name, value, file)
        self.files = files

    def _take(self, name: str, value: Any, where: str) -> None:
        fits = isinstance(value, self.like) or (isinstance(value, type) and issubclass(value, self.like))
        if not fits:
            raise PluginError(
                f"{where}: '{name}' is no {self.kind}: {self.like.__name__} is missing below it."
            )
        if getattr(value, "name", name) != name:  # a metric's
            raise PluginError(f"{where}: '{name}' calls itself '{value.name}'.", hint="Call it the same.")
        self[name] = value
        self.foreign.add(name)


def add_file(file: Path) -> None:
    """Use what a file has, here and in processes that are started from here."""
    known = [each for each in os.environ.get(VARIABLE, "").split(os.pathsep) if each]
    os.environ[VARIABLE] = os.pathsep.join(dict.fromkeys([*known, str(file.absolute())]))


def preset_folders_of_plugins() -> list[Path]:
    """The folders of presets that packages here bring, by the packages that `srcli.presets` names."""
    found = (_folder(point.module) for point in _installed("srcli.presets").values())
    return [folder for folder in found if folder is not None]


@cache
def _installed(group: str) -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points  # looks through all packages: not where nothing is asked for

    return {point.name: point for point in entry_points(group=group)}


def _named(point: EntryPoint) -> str:
    return f"package {point.dist.name}" if point.dist else point.value


def _folder(module: str) -> Path | None:
    """The folder of a package, or the file of a module; None for one that is not there."""
    spec = importlib.util.find_spec(module)
    if spec is None:
        return None
    return Path(next(iter(spec.submodule_search_locations or ()), spec.origin or module))


@cache
def _run(file: str) -> Any:
    name = f"srcli_plugin_{Path(file).stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None or not Path(file).is_file():
        raise PluginError(f"plug-in {file} is no Python file.", hint="Check --plugin, or $SRCLI_PLUGIN.")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    with _running(file, Path(file)):
        spec.loader.exec_module(module)
    return module


@contextmanager
def _running(what: str, where: Path | None) -> Iterator[None]:
    """Inside, what a plug-in raises as it is imported becomes an error with its file and line."""
    if where is not None:
        PLUGINS.add(where)
    try:
        yield
    except SrcliError:
        raise
    except Exception as error:
        about = f"{type(error).__name__}: {first_line(error)}"
        raise PluginError(
            f"{place_in_plugin(error) or what} raised {about}.", hint="Mend the plug-in."
        ) from error
