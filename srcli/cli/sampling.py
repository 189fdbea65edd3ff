"""The options that only diffusion models have: how they sample, and which branch of their decoder answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from srcli.config.presets import Preset
from srcli.config.sampling import Sampling, check_sampled, choose_sampling
from srcli.errors import UsageError

if TYPE_CHECKING:
    from srcli.batch.job import SelectionFiles
    from srcli.cli.upscale_request import Request


def sampled(preset: Preset, request: Request) -> tuple[Sampling | None, str | None]:
    """How a preset is sampled, and the branch that is wanted of it; None for each where nothing was asked for.

    Raises:
        UsageError: an option makes no sense, alone or for this preset.
    """
    given = {
        "--sampler": request.sampler is not None,
        "--steps": request.steps is not None,
        "--eta": request.eta is not None,
        "--average": request.average != 1,
        "--official": request.official,
    }
    asked = [option for option, present in given.items() if present]
    for option in asked:
        check_sampled(preset, option)
    sampling = choose_sampling(
        preset,
        sampler=request.sampler,
        steps=request.steps,
        eta=request.eta,
        average=request.average,
        official=request.official,
    )
    if request.branch is None:
        return sampling if asked else None, None
    from srcli.engine.branch_map import parse_branch

    return sampling if asked else None, parse_branch(preset, request.branch)


def selected(preset: Preset, request: Request, branch: str | None, pictures: int) -> SelectionFiles | None:
    """What is wanted of the choice of branches; None for nothing.

    Args:
        preset: the model.
        request: the options.
        branch: the one that was asked for.
        pictures: how many results there will be.

    Raises:
        UsageError: the preset chooses nothing, a branch or an average leaves nothing to choose, or one file is asked
            for several pictures.
    """
    files = {
        "--selection-map": request.selection_map,
        "--selection-overlay": request.selection_overlay,
        "--selection-scores": request.selection_scores,
    }
    asked = [option for option, path in files.items() if path is not None]
    if not asked and not request.selection_stats:
        return None
    from srcli.engine.branch_map import check_selects

    first = (asked or ["--selection-stats"])[0]
    check_selects(preset, first)
    if branch is not None:
        raise UsageError(f"{first}: with --branch {branch} nothing is chosen.", hint="Drop one of them.")
    if request.average > 1:
        raise UsageError(
            f"{first}: a mean of {request.average} samples has no one choice.",
            hint="Drop --average, or --selection-*.",
        )
    for option, suffix in zip(files, (".png", ".png", ".npy"), strict=True):
        path = files[option]
        if path is None:
            continue
        if path.suffix and path.suffix != suffix:
            raise UsageError(f"{option} writes {suffix} files, not '{path.suffix}'.")
        if path.suffix and pictures > 1:
            raise UsageError(
                f"{option} {path} is one file for {pictures} pictures.",
                hint="Give a folder: a name without a dot.",
            )
    from srcli.batch.job import SelectionFiles

    return SelectionFiles(*files.values())
