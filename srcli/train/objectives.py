"""Objectives by the name that a recipe gives.

An objective is a callable (network, batch) -> loss. The batch is on the network's device and normalised as the network
sees it. The objective of a recipe is one such loss or several: each gets an optimiser step of its own on the same batch,
in order.
"""

import inspect
from collections.abc import Callable

from srcli.config.plugins import Registry
from srcli.config.presets import Diffusion, Part
from srcli.errors import PresetError
from srcli.models import make
from srcli.train.autoencoder_loss import autoencoder
from srcli.train.diffusion_losses import latent_diffusion, noise_level
from srcli.train.fplia_losses import alignment, fidelity, lia_finetune
from srcli.train.lgcaa_loss import denoising
from srcli.train.losses import (
    Objective,
    colour_l1,
    colour_l2,
    field_l1,
    linf_stage_2,
    nll,
    perceptual_l1,
    self_ensemble,
)

OBJECTIVES: Registry[Callable[..., tuple[Objective, ...]]] = Registry(
    "objective",
    Callable,
    {
        "alignment": alignment,
        "autoencoder": autoencoder,
        "fidelity": fidelity,
        "field-l1": field_l1,
        "l1": colour_l1,
        "l2": colour_l2,
        "latent-diffusion": latent_diffusion,
        "lgcaa": denoising,
        "lia-finetune": lia_finetune,
        "linf-stage-2": linf_stage_2,
        "nll": nll,
        "noise-level": noise_level,
        "perceptual-l1": perceptual_l1,
        "self-ensemble": self_ensemble,
    },
)


def make_objective(
    part: Part, where: str = "the recipe", diffusion: Diffusion | None = None
) -> tuple[Objective, ...]:
    """The losses of `part`: its name in OBJECTIVES, and that function's keyword arguments.

    Raises PresetError (as `make`, or a preset without the section [diffusion] that the objective needs).
    """
    maker, given = OBJECTIVES.get(part.name), {}
    if maker is not None and "diffusion" in inspect.signature(maker).parameters:
        if diffusion is None:
            raise PresetError(
                f"objective '{part.name}' in {where} needs a preset with a section [diffusion]."
            )
        given["diffusion"] = diffusion
    return make(OBJECTIVES, "objective", part, where, **given)
