"""`--degradation`: the model that was chosen, or the one for damaged pictures, or whichever suits each picture."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from srcli.errors import UsageError
from srcli.presets import REAL_WORLD_PRESET, Preset

if TYPE_CHECKING:
    from srcli.cli.console import Console

Asked = Literal["auto", "clean", "real"]


def chosen_model(
    asked: Asked, model: str, preset: Preset, resolve: Callable[[str], Preset]
) -> tuple[str, Preset]:
    """The model of every picture, or of the clean ones, as a word and as a preset.

    Args:
        asked: the option.
        model: as it was typed.
        preset: the same.
        resolve: finds a preset.
    """
    if asked != "real" or preset.training.degradation is not None:
        return model, preset
    return REAL_WORLD_PRESET, resolve(REAL_WORLD_PRESET)


def second_model(
    asked: Asked,
    preset: Preset,
    resolve: Callable[[str], Preset],
    console: Console,
    *,
    drawn: bool,
    consistency: bool,
) -> Preset | None:
    """The model for those pictures that are damaged, where every picture is measured; else None.

    Args:
        asked: the option.
        preset: the model that was chosen.
        resolve: finds a preset.
        console: takes a note.
        drawn: whether options were given that only a model with a temperature has.
        consistency: whether results are to reduce to their inputs.

    Raises:
        UsageError: other options contradict it.
    """
    if consistency and asked != "clean":
        raise UsageError(
            f"--consistency brings back the damage that --degradation {asked} is to remove.",
            hint="Drop one of them.",
        )
    if asked != "auto":
        return None
    if preset.training.degradation is not None:
        console.note(
            f"--degradation auto: {preset.name} was trained on damaged pictures, and takes all of them"
        )
        return None
    if drawn:
        raise UsageError(
            f"--degradation auto may choose {REAL_WORLD_PRESET}, which has no temperature and no samples.",
            hint="Drop --temperature, --temperature-map and --samples, or --degradation.",
        )
    return resolve(REAL_WORLD_PRESET)
