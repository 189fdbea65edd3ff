"""The options that only diffusion models have: how they sample, and which branch of their decoder answers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from srcli.errors import UsageError
from srcli.presets import Preset
from srcli.sampling import Sampling, check_sampled, check_selects, choose_sampling, parse_branch

if TYPE_CHECKING:
    from srcli.job.task import SelectionFiles


def sampled(
    preset: Preset,
    *,
    sampler: str | None,
    steps: int | None,
    eta: float | None,
    average: int,
    official: bool,
    branch: str | None,
) -> tuple[Sampling | None, str | None]:
    """How a preset is sampled, and the branch that is wanted of it; None for each where nothing was asked for.

    Raises:
        UsageError: an option makes no sense, alone or for this preset.
    """
    given = {
        "--sampler": sampler is not None,
        "--steps": steps is not None,
        "--eta": eta is not None,
        "--average": average != 1,
        "--official": official,
    }
    asked = [option for option, present in given.items() if present]
    for option in asked:
        check_sampled(preset, option)
    sampling = choose_sampling(
        preset, sampler=sampler, steps=steps, eta=eta, average=average, official=official
    )
    return sampling if asked else None, parse_branch(preset, branch)


def selected(
    preset: Preset,
    *,
    stats: bool,
    map_: Path | None,
    overlay: Path | None,
    scores: Path | None,
    branch: str | None,
    average: int,
    pictures: int,
) -> SelectionFiles | None:
    """What is wanted of the choice of branches; None for nothing.

    Raises:
        UsageError: the preset chooses nothing, a branch or an average leaves nothing to choose, or one file is asked
            for several pictures.
    """
    files = {"--selection-map": map_, "--selection-overlay": overlay, "--selection-scores": scores}
    asked = [option for option, path in files.items() if path is not None]
    if not asked and not stats:
        return None
    first = (asked or ["--selection-stats"])[0]
    check_selects(preset, first)
    if branch is not None:
        raise UsageError(f"{first}: with --branch {branch} nothing is chosen.", hint="Drop one of them.")
    if average > 1:
        raise UsageError(
            f"{first}: a mean of {average} samples has no one choice.",
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
    from srcli.job.task import SelectionFiles

    return SelectionFiles(map_, overlay, scores)
