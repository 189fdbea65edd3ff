"""Plain values, as TOML and JSON hold them, to typed settings: a dataclass is the schema of a section."""

import dataclasses
import tomllib
import types
import typing
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

from srcli.errors import PresetError, suggest

T = TypeVar("T")


def read_toml(path: Path) -> dict[str, Any]:
    """The table in a TOML file. Raises PresetError (not readable, not UTF-8, or not TOML; the message has the line)."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PresetError(f"cannot read {path}: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PresetError(f"{path} is not TOML: {error}.") from error
    except RecursionError as error:
        raise PresetError(f"{path} nests values too deeply.") from error


def user_path(key: str) -> Path | None:
    """A path that the user's `config.toml` names; None where it does not. Raises PresetError."""
    import platformdirs

    config = Path(platformdirs.user_config_dir("srcli", appauthor=False)) / "config.toml"
    value = read_toml(config).get(key) if config.is_file() else None
    if value is not None and not isinstance(value, str):
        raise PresetError(f"{key} in {config} must be a path in quotes.")
    return None if value is None else Path(value).expanduser()


def read_section(cls: type[T], table: Mapping[str, Any], where: str) -> T:
    """A dataclass filled from a table of plain values; its annotations are the schema. Raises PresetError."""
    hints = _hints(typing.cast(Any, cls))
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]  # T is a dataclass; Python cannot say so
    for key in table:
        if key not in hints:
            raise PresetError(f"unknown key '{key}' in {where}.", hint=suggest(key, hints))
    for item in fields:
        required = item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
        if required and item.name not in table:
            raise PresetError(f"'{item.name}' is missing in {where}.")
    values = {key: convert(value, hints[key], f"{where}, {key}") for key, value in table.items()}
    try:
        return cls(**values)
    except ValueError as error:
        raise PresetError(f"{where}: {error}") from error


@cache
def _hints(cls: type) -> dict[str, Any]:  # strings are evaluated, which takes longer than all else
    return typing.get_type_hints(cls)


def convert(value: Any, hint: Any, where: str) -> Any:
    """`value` as the type `hint`: lists become tuples, whole numbers floats where a float is asked for.

    A tuple of fixed length also takes a single number, which then stands for each entry. A class with a method
    `from_plain(value, where)` reads itself. Raises PresetError (the value is of another type).
    """
    if hint is Any or hint is None:
        return frozen(value)
    if hasattr(hint, "from_plain"):
        return hint.from_plain(value, where)
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise PresetError(f"{where}: must be a table of settings, got {value!r}.")
        return read_section(typing.cast("type[Any]", hint), value, where)
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return _union(value, args, where)
    if origin is Literal:
        if value not in args:
            raise PresetError(f"{where}: {value!r} is none of {', '.join(map(repr, args))}.")
        return value
    if origin is tuple:
        return _tuple(value, args, where)
    if origin is dict:
        if not isinstance(value, dict):
            raise PresetError(f"{where}: must be a table, got {value!r}.")
        return {str(key): convert(item, args[1], f"{where}.{key}") for key, item in value.items()}
    return _scalar(value, hint, where)


def _scalar(value: Any, hint: Any, where: str) -> Any:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if hint is float and whole:
        return float(value)
    if hint is int and not whole:
        raise PresetError(f"{where}: must be a whole number, got {value!r}.")
    if not isinstance(value, hint):
        words = {float: "a number", str: "text in quotes", bool: "true or false"}
        raise PresetError(f"{where}: must be {words.get(hint, hint)}, got {value!r}.")
    return value


def _tuple(value: Any, args: tuple[Any, ...], where: str) -> tuple[Any, ...]:
    if args[-1] is Ellipsis:
        if not isinstance(value, list | tuple):
            raise PresetError(f"{where}: must be a list, got {value!r}.")
        return tuple(convert(item, args[0], where) for item in value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = [value] * len(args)
    if not isinstance(value, list | tuple) or len(value) != len(args):
        raise PresetError(f"{where}: must be a list of {len(args)}, got {value!r}.")
    return tuple(convert(item, hint, where) for item, hint in zip(value, args, strict=True))


def _union(value: Any, args: tuple[Any, ...], where: str) -> Any:
    if value is None and type(None) in args:
        return None
    wanted = [hint for hint in args if hint is not type(None)]
    for hint in wanted[:-1]:
        try:
            return convert(value, hint, where)
        except PresetError:
            continue
    return convert(value, wanted[-1], where)


def frozen(value: Any) -> Any:
    """A value with its lists as tuples."""
    return tuple(frozen(item) for item in value) if isinstance(value, list | tuple) else value
