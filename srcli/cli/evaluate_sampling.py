"""The options of `srcli eval` that only diffusion models have, for several models at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from srcli.cli import options
from srcli.config.presets import Preset
from srcli.config.sampling import (
    Sampling,
    checked_steps,
    choose_sampling,
    is_sampled,
)
from srcli.errors import UsageError

if TYPE_CHECKING:
    from srcli.cli.evaluate import Request
    from srcli.evaluate.models import Model


def asked_steps(request: Request) -> list[int]:
    """The numbers of steps.

    Raises:
        UsageError: no whole numbers.
    """
    try:
        return [int(word) for word in options.words(request.steps)]
    except ValueError:
        raise UsageError(f"--steps takes whole numbers, got '{request.steps}'.") from None


def asked_sampling(request: Request, preset: Preset) -> Sampling | None:
    """How a preset is sampled; None for one that samples nothing.

    Raises:
        UsageError: an option makes no sense for it.
    """
    if not is_sampled(preset) or preset.diffusion is None:
        return None
    steps = asked_steps(request)
    if request.official and steps:
        raise UsageError("--official settles the steps.", hint="Leave out --steps.")
    for count in steps:
        checked_steps(count, preset.diffusion)
    return choose_sampling(
        preset, sampler=request.sampler, eta=request.eta, average=request.average, official=request.official
    )


def asked_branches(request: Request, name: str) -> list[str | None]:
    """The branches of a model that are measured, None for the one that it chooses; other models have one.

    Raises:
        UsageError: an unknown branch.
    """
    from srcli.engine.branch_map import parse_branch
    from srcli.evaluate.models import INTERPOLATIONS
    from srcli.models import branches_of
    from srcli.weights.files import resolve

    if not request.branch or name in INTERPOLATIONS:
        return [None]
    preset = resolve(name)
    if not branches_of(preset):
        return [None]
    return [parse_branch(preset, word) for word in options.words(request.branch)]


def check_sampling(request: Request, models: Sequence[Model]) -> None:
    """Refuse options that none of the models has a use for.

    Raises:
        UsageError: there is such an option, or two contradict each other.
    """
    given = {
        "--sampler": request.sampler is not None,
        "--eta": request.eta is not None,
        "--average": request.average != 1,
        "--official": request.official,
        "--steps": bool(request.steps),
    }
    asked = [option for option, present in given.items() if present]
    if asked and all(model.family != "diffusion" for model in models):
        raise UsageError(f"{asked[0]}: none of these models is a diffusion model.")
    if request.branch and all("/" not in model.name for model in models):
        words = {word.strip() for word in request.branch.split(",")}
        if words != {"selected"}:
            raise UsageError("--branch: none of these models has branches.")
    if request.selection_stats and request.tta:
        raise UsageError("--selection-stats: a mean of eight results has no one choice.", hint="Drop --tta.")
    if request.selection_stats and not any(getattr(model, "selection", False) for model in models):
        raise UsageError("--selection-stats: none of these models chooses a branch for each pixel.")
    if request.selection_stats and request.average > 1:
        raise UsageError("--selection-stats: a mean of samples has no one choice.", hint="Drop --average.")
