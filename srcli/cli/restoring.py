"""The options of models that restore an enlarged picture, and of colours that are taken from the input again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from srcli.config.presets import Preset, list_presets
from srcli.config.sampling import Sampling, choose_sampling
from srcli.errors import ResourceError, UsageError

if TYPE_CHECKING:
    from srcli.geometry import Size
    from srcli.image.colour_transfer import ColourFix, Mode

PLENTY = 1 << 40  # bytes
USUAL: Mode = "adain"  # of the models that need one, as SeeSR has it


def is_restorer(preset: Preset) -> bool:
    """Whether a preset restores what has been enlarged before."""
    return preset.kind == "restoration"


def begins_near_input(preset: Preset) -> bool:
    """Whether sampling can begin with the enlarged picture and some noise."""
    return is_restorer(preset) or (preset.diffusion is not None and preset.diffusion.near_input)


def faithful(preset: Preset, sampling: Sampling | None, fidelity: float | None) -> Sampling | None:
    """`sampling` with the fidelity that was asked for.

    Raises:
        UsageError: a number that makes no sense, or a preset that has no such dial.
    """
    if fidelity is None:
        return sampling
    if not begins_near_input(preset):
        names = ", ".join(known.name for known in list_presets() if begins_near_input(known))
        raise UsageError(
            f"--fidelity: '{preset.name}' does not restore an enlarged picture.",
            hint=f"Presets that do: {names}.",
        )
    if not 0 <= fidelity < 1:
        raise UsageError(f"--fidelity takes a number from 0 up to 1, got {fidelity:g}.")
    chosen = sampling or choose_sampling(preset)
    assert chosen is not None
    return replace(chosen, fidelity=fidelity)


def colour_fix(preset: Preset, mode: Mode | None, strength: float) -> ColourFix | None:
    """The correction that was asked for, or the preset's own, or the usual one of restorers; None for none.

    Raises:
        UsageError: a strength that makes no sense.
    """
    from srcli.image.colour_transfer import ColourFix  # brings numpy

    if not 0 <= strength <= 1:
        raise UsageError(f"--colour-strength takes a number from 0 to 1, got {strength:g}.")
    own = "none" if preset.diffusion is None else preset.diffusion.colour_fix
    chosen = mode or (USUAL if is_restorer(preset) else own)
    return None if chosen == "none" or strength == 0 else ColourFix(chosen, strength)


def forecast_lines(
    preset: Preset, sampling: Sampling | None, tile: str, device: str
) -> Callable[[Size], tuple[list[str], int]] | None:
    """For a dry run: what says what an output would take, in lines and bytes; None for models that plan by themselves."""
    return partial(_forecast, preset, sampling, tile, device) if is_restorer(preset) else None


def _forecast(
    preset: Preset, sampling: Sampling | None, tile: str, device: str, target: Size
) -> tuple[list[str], int]:
    from srcli.config.base_models import bases_of, locate_base
    from srcli.engine.device import choose_device
    from srcli.engine.footprint import speed
    from srcli.engine.memory_plan import plan_memory
    from srcli.engine.tiling import checked_tile
    from srcli.resources import free_memory

    chosen = sampling or choose_sampling(preset)
    assert chosen is not None
    where = choose_device(device).device
    free, note = free_memory(where), []
    try:
        found = plan_memory(preset, target, chosen, tile=checked_tile(tile), free=free)
    except ResourceError as error:
        note = [f"not on this machine: {error.message}"]
        found = plan_memory(preset, target, chosen, tile=checked_tile(tile), free=PLENTY)
    absent = [base for base in bases_of(preset) if locate_base(base) is None]
    if absent:
        note.append(f"not here yet: {', '.join(absent)} (srcli models pull {' '.join(absent)})")
    return [*found.lines(speed(where)), *note], found.peak
