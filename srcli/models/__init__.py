"""Networks, and `make`, which makes one of their parts from what a preset says of it."""

import inspect
import typing
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

from torch import nn

from srcli.config.presets import Part
from srcli.config.toml import convert
from srcli.errors import PresetError, place_in_plugin, suggest, torchvision_mismatch

M = TypeVar("M")

# What constructors raise for values that make no sense.
REFUSED = (ValueError, TypeError, RuntimeError, ArithmeticError, LookupError, AttributeError, AssertionError)


def make(table: Mapping[str, Callable[..., M]], kind: str, part: Part, where: str, **given: Any) -> M:
    """One part: looked up by name in `table`, called with its arguments and what is `given` beside them.

    A constructor's or function's signature is the schema: lists become tuples and types are checked by its annotations.
    Raises PresetError (unknown name or argument, one that is missing, wrong type, or a value that the constructor
    refuses).
    """
    args = check_part(table, kind, part, where, given)
    try:
        return table[part.name](**args, **given)
    except REFUSED as error:
        if pair := torchvision_mismatch(error):
            raise pair from error
        reason = str(error).partition("\n")[0] or type(error).__name__
        reason = f"{place} {reason}" if (place := place_in_plugin(error)) else reason
        raise PresetError(f"{kind} '{part.name}' in {where}: {reason}") from error


def check_part(
    table: Mapping[str, Callable[..., Any]], kind: str, part: Part, where: str, given: Collection[str] = ()
) -> dict[str, Any]:
    """The arguments of a part's constructor, typed, without calling it; see `make`."""
    if part.name not in table:
        hint = f"{suggest(part.name, table)} A plug-in's is found with: srcli --plugin FILE.py"
        raise PresetError(f"unknown {kind} '{part.name}' in {where}.", hint=hint)
    constructor = table[part.name]
    typed: Any = constructor
    hints = typing.get_type_hints(typed.__init__ if inspect.isclass(typed) else typed)
    takes = {k: p for k, p in inspect.signature(constructor).parameters.items() if k not in given}
    for key in part.args:
        if key not in takes:
            raise PresetError(f"{kind} '{part.name}' in {where} takes no '{key}'.", hint=suggest(key, takes))
    missing = [key for key, each in takes.items() if each.default is each.empty and key not in part.args]
    if missing:
        raise PresetError(f"{kind} '{part.name}' in {where} needs {', '.join(missing)}.")
    return {
        key: convert(value, hints.get(key, Any), f"{where}, {kind}.{key}") for key, value in part.args.items()
    }


def count_parameters(network: nn.Module) -> int:
    """Number of values in all parameters, the unused ones that checkpoints carry included; no buffers."""
    return sum(parameter.numel() for parameter in network.parameters())
