"""The options of `srcli upscale` that only models with a temperature have."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from srcli.batch.naming import SAMPLES_TEMPLATE, Destination, Template
from srcli.config.presets import Preset
from srcli.config.sampling import is_sampled
from srcli.config.temperature import Asked, check_generative, parse_temperature, warning
from srcli.errors import UsageError

if TYPE_CHECKING:
    from srcli.cli.upscale_request import Request
    from srcli.engine.temperature_map import TemperatureMap

SEEDS = 1 << 64


@dataclass(frozen=True)
class Drawing:
    """What was asked for: a temperature, a factor on it for every pixel, and what to say about them."""

    temperature: Asked
    where: TemperatureMap | None
    warning: str | None


def drawing(preset: Preset, request: Request) -> Drawing:
    """The options as values, checked against each other and the preset.

    Raises:
        UsageError: one of them makes no sense, alone or for this preset.
    """
    samples, seed, where = request.samples, request.seed, request.temperature_map
    asked = None if request.temperature is None else parse_temperature(request.temperature)
    if samples < 1:
        raise UsageError(f"--samples takes a whole number from 1 on, got {samples}.")
    if request.diversity and samples < 2:
        raise UsageError("--diversity compares samples, and there is one.", hint="Ask for more: --samples 5")
    given = {
        "--temperature": request.temperature is not None,
        "--temperature-map": where is not None,
        "--samples": samples > 1,
    }
    for option in (option for option, present in given.items() if present):
        if not (option == "--samples" and is_sampled(preset)):
            check_generative(preset, option)
    if not 0 <= seed <= SEEDS - samples:
        raise UsageError(f"--seed takes a whole number from 0 to 2^64 - 1, got {seed}.")
    if where is not None:
        from srcli.engine.temperature_map import temperature_map

        return Drawing(asked, temperature_map(where), _warning(asked))
    return Drawing(asked, None, _warning(asked))


def _warning(asked: Asked) -> str | None:
    return warning([asked]) if isinstance(asked, float) else None


def for_samples(place: Destination, samples: int, *, named: bool) -> Destination:
    """Where the samples of an input go: with a number in their names.

    Raises:
        UsageError: they have one name.
    """
    if samples == 1:
        return place
    if place.stdout or place.file is not None:
        raise UsageError(
            f"{samples} samples cannot go to {place.file or 'standard output'}.",
            hint="Give a folder: -o FOLDER/.",
        )
    if not named:
        return replace(place, template=Template(SAMPLES_TEMPLATE))
    if not place.template.has_index:
        raise UsageError(
            f"{samples} samples would have one name.",
            hint="Put {index} into --name, for example {stem}_{size}_{index}{ext}.",
        )
    return place
