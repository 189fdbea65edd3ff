"""The model of `srcli upscale`, and how it draws and samples, as the options say it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from srcli.cli.degradation import chosen_model
from srcli.cli.drawing import Drawing, drawing
from srcli.cli.options import current
from srcli.cli.restoring import faithful
from srcli.cli.sampling import sampled
from srcli.config.presets import DEFAULT_PRESET, Preset
from srcli.config.sampling import Sampling
from srcli.errors import ModelError
from srcli.weights.files import LICENSES, resolve

if TYPE_CHECKING:
    from collections.abc import Callable

    from srcli.cli.console import Console
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
        named: whether the person named it, and not a predecessor.
    """

    word: str
    preset: Preset
    drawing: Drawing
    sampling: Sampling | None
    branch: str | None
    named: bool


def chosen(request: Request, console: Console) -> Model:
    """The model that was asked for, or the default; the successor of one that has left is said.

    Raises:
        PresetError: there is none of that name.
        ModelError: its licence is refused.
        UsageError: an option makes no sense, alone or for this model.
    """
    model = current(request.model or DEFAULT_PRESET, console.note)
    word, preset = chosen_model(model, request, find_preset(request))
    noise = drawing(preset, request)
    sampling, branch = sampled(preset, request)
    sampling = faithful(preset, sampling, request.fidelity)
    return Model(word, preset, noise, sampling, branch, named=request.model == model)


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
