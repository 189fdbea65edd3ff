"""`--degradation`: the model that was chosen, or the one for damaged pictures, or whichever suits each picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from srcli.config.presets import DEFAULT_PRESET, REAL_WORLD_PRESET, Preset
from srcli.errors import SrcliError, UsageError
from srcli.geometry import Size
from srcli.image.probe import probe
from srcli.resources import duration

if TYPE_CHECKING:
    from srcli.batch.inputs import Source
    from srcli.cli.console import Console
    from srcli.cli.upscale_request import Request
    from srcli.engine.upscaler import Upscaler

Resolve = Callable[[str], Preset]
FASTER = "edsr-s-blend-real"  # for damaged pictures, too
LOOKED_AT = 64  # headers, for the time that a batch takes


def chosen_model(model: str, request: Request, resolve: Resolve) -> tuple[str, Preset]:
    """The model of every picture, or of the clean ones, as a word and as a preset; `model` is what was named."""
    preset = resolve(model)
    if request.degradation != "real" or preset.training.degradation is not None:
        return model, preset
    return REAL_WORLD_PRESET, resolve(REAL_WORLD_PRESET)


def faithful_model(model: Preset, request: Request, resolve: Resolve) -> Preset | None:
    """The model whose picture may be mixed into a restoring one's; None where nothing is restored.

    Raises:
        UsageError: --restore where nothing is.
    """
    named = resolve(request.model or DEFAULT_PRESET)
    if model.training.degradation is None and request.degradation not in ("auto", "auto:each"):
        if request.restore is not None:
            raise UsageError(
                f"--restore: '{model.name}' restores nothing.", hint="Add --degradation real, or auto."
            )
        return None
    return named if named.training.degradation is None else resolve(DEFAULT_PRESET)


def second_model(
    preset: Preset, request: Request, resolve: Resolve, console: Console, *, drawn: bool
) -> Preset | None:
    """The model for those pictures that are damaged, where every picture is measured; else None.

    Args:
        preset: the model that was chosen.
        request: the options.
        resolve: finds a preset.
        console: takes a note.
        drawn: whether options were given that only a model with a temperature has.

    Raises:
        UsageError: other options contradict it.
    """
    if request.consistency and request.degradation not in (None, "clean"):
        raise UsageError(
            f"--consistency brings back the damage that --degradation {request.degradation} is to remove.",
            hint="Drop one of them.",
        )
    if request.degradation not in ("auto", "auto:each"):
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


def say_time(upscaler: Upscaler, sources: Sequence[Source], console: Console) -> None:
    """Say before the work how long a slow model takes for its inputs, and which one is faster.

    Pictures that cannot be read are left out here; the batch says why. So is standard input.
    """
    files = [source.path for source in sources if source.path is not None]
    sizes = []
    for path in files[:: -(-len(files) // LOOKED_AT) or 1]:
        with suppress(SrcliError, OSError):
            sizes.append(Size(*probe(path, frames="first").size))
    if sizes:
        seconds = upscaler.seconds_for(sizes) * len(files) / len(sizes)
        console.note(
            f"{upscaler.preset.name}: about {duration(seconds)} here; faster, and plainer: -m {FASTER}"
        )
