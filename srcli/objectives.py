"""What training minimises: by the name a recipe gives, one loss for every optimiser step that a batch is used for.

An objective is a callable (network, batch) -> loss. The batch is on the network's device and in the normalised
domain of the preset, as the network sees it. A recipe's objective gives one or several of them: each gets an
optimiser step of its own on the same batch, in order.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from typing import Any

from torch import Tensor

from srcli.data.samples import Batch
from srcli.errors import PresetError, suggest
from srcli.models.sr import ImplicitSR
from srcli.presets import Part, convert

Objective = Callable[[ImplicitSR, Batch], Tensor]


def l1(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error of colours (B, Q, 3) in the normalised domain."""
    return (prediction.float() - target.float()).abs().mean()


def colour_l1() -> tuple[Objective, ...]:
    """Mean absolute error of the colours at the batch's coordinates."""

    def loss(network: ImplicitSR, batch: Batch) -> Tensor:
        return l1(network(batch.lr, batch.coord, batch.cell, batch.stages), batch.hr)

    return (loss,)


OBJECTIVES: dict[str, Callable[..., tuple[Objective, ...]]] = {
    "l1": colour_l1,
}


def make_objective(part: Part, where: str = "the recipe") -> tuple[Objective, ...]:
    """The losses of `part`: its name in OBJECTIVES, and that function's keyword arguments.

    Raises:
        PresetError: an unknown name or argument, a wrong type, or a value that is refused.
    """
    if part.name not in OBJECTIVES:
        raise PresetError(f"unknown objective '{part.name}' in {where}.", hint=suggest(part.name, OBJECTIVES))
    maker = OBJECTIVES[part.name]
    hints, known = typing.get_type_hints(maker), list(inspect.signature(maker).parameters)
    for key in part.args:
        if key not in known:
            raise PresetError(
                f"objective '{part.name}' in {where} takes no '{key}'.", hint=suggest(key, known)
            )
    args = {
        key: convert(value, hints.get(key, Any), f"{where}, {part.name}.{key}")
        for key, value in part.args.items()
    }
    try:
        return maker(**args)
    except ValueError as error:
        raise PresetError(f"objective '{part.name}' in {where}: {error}") from error
