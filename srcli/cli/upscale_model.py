"""The model of `srcli upscale`, and how it draws and samples, as the options say it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from srcli.cli.degradation import chosen_model
from srcli.cli.drawing import Drawing, drawing
from srcli.cli.restoring import faithful
from srcli.cli.sampling import sampled
from srcli.errors import ModelError
from srcli.presets import Preset
from srcli.sampling import Sampling
from srcli.weights.licenses import LICENSES
from srcli.weights.store import resolve

if TYPE_CHECKING:
    from collections.abc import Callable

    from srcli.cli.upscale_request import Request


@dataclass(frozen=True)
class Model:
    """What was chosen.

    Attributes:
        word: its name or file.
        preset: the same.
        drawing: its temperature.
        sampling: of a diffusion model; None: the preset's own.
        branch: of a decoder with several; None: the one that it chooses for each pixel.
    """

    word: str
    preset: Preset
    drawing: Drawing
    sampling: Sampling | None
    branch: str | None


def chosen(request: Request) -> Model:
    """The model that was asked for.

    Raises:
        PresetError: there is none of that name.
        ModelError: its licence is refused.
        UsageError: an option makes no sense, alone or for this model.
    """
    word, preset = chosen_model(request, find_preset(request))
    noise = drawing(preset, request)
    sampling, branch = sampled(preset, request)
    return Model(word, preset, noise, faithful(preset, sampling, request.fidelity), branch)


def find_preset(request: Request) -> Callable[[str], Preset]:
    """What finds presets whose licence was not refused."""
    return partial(_licensed, license_=request.license)


def _licensed(model: str, license_: str) -> Preset:
    preset = resolve(model)
    if license_ == "commercial" and not LICENSES.get(preset.weights.license, False):
        raise ModelError(
            f"the weights of '{preset.name}' have the licence '{preset.weights.license}', "
            "which is not known to allow commercial use.",
            hint="See: srcli models list --license commercial",
        )
    return preset
