"""How a diffusion model samples: what was asked for, with the preset's own values for the rest.

Plain data, for the command line and for records; `srcli.engine.diffusion` does it.
"""

import hashlib
import typing
from dataclasses import dataclass

from srcli.config.presets import Diffusion, Preset, Sampler, unsuitable
from srcli.errors import UsageError, suggest

SAMPLERS: tuple[str, ...] = typing.get_args(Sampler)
WITH_ETA = ("ddim",)
MOST_AVERAGED = 256


@dataclass(frozen=True)
class Sampling:
    """How one sample is drawn, or several that are averaged."""

    sampler: Sampler = "dpm++"  # its name
    steps: int = 20  # as its schedule counts them
    eta: float = 0.0  # share of fresh noise in the steps of ddim
    skip: int = 0  # steps at the noisy end that are left out
    official: bool = False  # whether the authors' grid of steps is used
    average: int = 1  # samples whose pictures are averaged
    # sides of the LR image are padded to a multiple of it, by a whole one where none is missing; 1: never
    window: int = 1
    # for models whose sample is the output, the share of the way, from its noisy end, that is left out: 0 begins at
    # the noisiest step, near 1 little is added to the picture enlarged by bicubic interpolation
    fidelity: float = 0.0

    @property
    def calls(self) -> int:
        return self.steps - self.skip

    def about(self) -> str:
        words = f"{self.sampler}, {self.calls} steps"
        words += f", eta {self.eta:g}" if self.sampler in WITH_ETA else ""
        words += ", as the authors do" if self.official else ""
        words += f", fidelity {self.fidelity:g}" if self.fidelity else ""
        return words + (f", mean of {self.average}" if self.average > 1 else "")

    def seeds(self, seed: int) -> list[int]:
        """The seeds of the samples that are averaged; the first is `seed`, the others are far from any in use."""
        return [seed, *(_derived(seed, n) for n in range(1, self.average))]


def _derived(seed: int, n: int) -> int:
    return int.from_bytes(hashlib.blake2b(f"{seed} {n}".encode(), digest_size=8).digest(), "big")


def is_sampled(preset: Preset) -> bool:
    """Whether a generator is sampled before anything is decoded."""
    return preset.kind not in ("regression", "flow")


def begins_near_input(preset: Preset) -> bool:
    """Whether sampling can begin with the enlarged picture and some noise."""
    return preset.kind == "restoration" or (preset.diffusion is not None and preset.diffusion.near_input)


def usual_colour_fix(preset: Preset) -> str:
    """How results take their colours from the input again where nothing was asked for: as SeeSR has it, or the preset."""
    if preset.kind == "restoration":
        return "adain"
    return "none" if preset.diffusion is None else preset.diffusion.colour_fix


def check_sampled(preset: Preset, option: str) -> None:
    """Refuse an option that only diffusion models have: UsageError, with a hint that lists them."""
    if not is_sampled(preset):
        problem = f"{option}: the preset '{preset.name}' is no diffusion model."
        raise unsuitable(problem, is_sampled, "that are", "No preset here is one.")


def choose_sampling(
    preset: Preset,
    *,
    sampler: str | None = None,
    steps: int | None = None,
    eta: float | None = None,
    average: int = 1,
    official: bool = False,
    fidelity: float | None = None,
) -> Sampling | None:
    """What was asked for and the preset's own values for the rest; None for a preset that samples nothing.

    Raises UsageError (an unknown sampler, a number that makes no sense, or options that contradict each other).
    """
    diffusion = preset.diffusion
    if fidelity is not None:
        _check_fidelity(preset, fidelity)
    if diffusion is None or not is_sampled(preset):
        return None
    if not 1 <= average <= MOST_AVERAGED:
        raise UsageError(f"--sampling average takes a number from 1 to {MOST_AVERAGED}, got {average}.")
    if official:
        if (sampler, steps, eta) != (None, None, None):
            raise UsageError("--official settles how is sampled.", hint="Leave out sampler, steps and eta.")
        own = diffusion.official
        return Sampling(own.sampler, own.steps, own.eta, own.skip, True, average, own.window)
    if sampler is not None and sampler not in SAMPLERS:
        raise UsageError(f"unknown sampler '{sampler}'.", hint=suggest(sampler, SAMPLERS))
    chosen = typing.cast(Sampler, sampler or diffusion.sampler)
    count = diffusion.steps if steps is None else checked_steps(steps, diffusion)
    if eta is None:
        share = diffusion.eta if chosen in WITH_ETA else 0.0
    elif chosen not in WITH_ETA:
        raise UsageError(f"--sampling eta is of ddim; '{chosen}' has none.", hint="Add sampler=ddim.")
    elif not 0 <= eta <= 1:
        raise UsageError(f"--sampling eta takes a number from 0 to 1, got {eta:g}.")
    else:
        share = eta
    near = diffusion.fidelity if fidelity is None else fidelity
    return Sampling(chosen, count, share, average=average, fidelity=near)


def _check_fidelity(preset: Preset, fidelity: float) -> None:
    if not begins_near_input(preset):
        problem = f"--sampling fidelity: '{preset.name}' does not restore an enlarged picture."
        raise unsuitable(problem, begins_near_input, "that do", "No preset here does.")
    if not 0 <= fidelity < 1:
        raise UsageError(f"--sampling fidelity takes a number from 0 up to 1, got {fidelity:g}.")


def checked_steps(steps: int, diffusion: Diffusion) -> int:
    """The number of steps. Raises UsageError (none, or more than were trained)."""
    if not 1 <= steps <= diffusion.train_steps:
        raise UsageError(
            f"steps are a number from 1 to {diffusion.train_steps}, the steps of training, got {steps}.",
            hint=f"The preset's own: {diffusion.steps}.",
        )
    return steps
