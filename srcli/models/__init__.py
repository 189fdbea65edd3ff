"""Networks as values: a preset goes in, its parts joined together come out."""

from __future__ import annotations

import inspect
import typing
from typing import Any, TypeVar

from torch import nn

from srcli.errors import PresetError, suggest
from srcli.models.decoders import DECODERS
from srcli.models.encoders import ENCODERS
from srcli.models.generators import GENERATORS
from srcli.models.sr import Decoder, Encoder, Generator, ImplicitSR
from srcli.presets import Part, Preset
from srcli.sections import convert

M = TypeVar("M", bound=nn.Module)


def build(preset: Preset) -> ImplicitSR:
    """The network a preset describes, with freshly initialised weights.

    Raises:
        PresetError: an unknown part, an argument that its constructor does not take, or a generator without
            the noise that it was trained with or with an encoder that does not fit it.
    """
    if preset.generator is not None and preset.generator.name == "lgcaa":
        from srcli.models.latent_restorer import assemble

        return assemble(preset)
    encoder = make(ENCODERS, "encoder", preset.encoder, preset.name)
    decoder = make(DECODERS, "decoder", preset.decoder, preset.name, in_dim=encoder.out_dim)
    if preset.generator is None:
        return ImplicitSR(encoder, decoder)
    if preset.diffusion is None:
        raise PresetError(f"{preset.name} has a generator, so it needs a section [diffusion].")
    generator = make(GENERATORS, "generator", preset.generator, preset.name)
    try:
        generator.check(encoder)
    except ValueError as error:
        part = f"generator '{preset.generator.name}' in {preset.name}"
        raise PresetError(f"{part} and encoder '{preset.encoder.name}': {error}") from error
    return ImplicitSR(encoder, decoder, generator)


def make(table: dict[str, type[M]], kind: str, part: Part, where: str, **given: Any) -> M:
    """One part: looked up by name in `table`, called with its arguments and what is `given` beside them.

    The constructor's signature is the schema: lists become tuples and types are checked by its annotations.

    Raises:
        PresetError: unknown name or argument, one that is missing, wrong type, or a value that the constructor refuses.
    """
    if part.name not in table:
        raise PresetError(f"unknown {kind} '{part.name}' in {where}.", hint=suggest(part.name, table))
    constructor = table[part.name]
    hints = typing.get_type_hints(constructor.__init__)
    takes = {k: p for k, p in inspect.signature(constructor).parameters.items() if k not in given}
    for key in part.args:
        if key not in takes:
            raise PresetError(f"{kind} '{part.name}' in {where} takes no '{key}'.", hint=suggest(key, takes))
    missing = [key for key, each in takes.items() if each.default is each.empty and key not in part.args]
    if missing:
        raise PresetError(f"{kind} '{part.name}' in {where} needs {', '.join(missing)}.")
    args = {
        key: convert(value, hints.get(key, Any), f"{where}, {kind}.{key}") for key, value in part.args.items()
    }
    try:
        return constructor(**args, **given)
    except ValueError as error:
        raise PresetError(f"{kind} '{part.name}' in {where}: {error}") from error


def count_parameters(network: nn.Module) -> int:
    """Number of values in all parameters, the unused ones that checkpoints carry included; no buffers."""
    return sum(parameter.numel() for parameter in network.parameters())


__all__ = [
    "DECODERS",
    "ENCODERS",
    "GENERATORS",
    "Decoder",
    "Encoder",
    "Generator",
    "ImplicitSR",
    "build",
    "count_parameters",
    "make",
]
