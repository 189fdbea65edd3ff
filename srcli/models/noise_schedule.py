"""The noise of diffusion models: how much each step of training adds, and the samplers that take it away again.

The samplers are those of `diffusers`; here are their settings.
"""

import math
import warnings
from fractions import Fraction
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from srcli.config.presets import Diffusion
from srcli.config.sampling import Sampling


def betas(diffusion: Diffusion) -> Tensor:
    """The variance of the noise that each step of training adds: (train_steps,), float64."""
    first, last, steps = diffusion.beta_start, diffusion.beta_end, diffusion.train_steps
    if diffusion.beta_schedule == "linear":
        return torch.linspace(first, last, steps, dtype=torch.float64)
    return torch.linspace(math.sqrt(first), math.sqrt(last), steps, dtype=torch.float64) ** 2


def alphas_cumprod(diffusion: Diffusion) -> Tensor:
    """The share of the signal's variance that is left after each step: (train_steps,), float32."""
    return torch.cumprod(1 - betas(diffusion), 0).float()


class Schedule:
    """A sampler of `diffusers` with its steps; made by `make_scheduler`.

    It takes `calls` predictions, at `times` (steps of training) where sqrt(alpha-bar) is `levels`; (calls,) float32
    both.
    """

    def __init__(self, scheduler: Any, times: Tensor, levels: Tensor, *, arguments: dict[str, Any]) -> None:
        self.scheduler = scheduler
        self.times = times.float()
        self.levels = levels
        self.calls = len(times)
        self._exact = times  # as the scheduler has them
        self._arguments = arguments

    def begin_near(self, time: float) -> int:
        """The first call that is for no later a step of training than `time`."""
        return int((self.times > time).sum().clamp(max=self.calls - 1))

    def start(self, noise: Tensor, latent: Tensor | None, begin: int) -> Tensor:
        """The sample before call `begin`: noise, or a latent with as much noise as belongs there."""
        if hasattr(self.scheduler, "set_begin_index"):
            self.scheduler.set_begin_index(begin + len(self.scheduler.timesteps) - self.calls)
        if latent is None:
            # Those that count in sigmas begin with more than unit noise.
            return noise * float(self.scheduler.init_noise_sigma)
        noisy: Tensor = self.scheduler.add_noise(latent, noise, self._exact[begin : begin + 1])
        return noisy

    def scaled(self, sample: Tensor, call: int) -> Tensor:
        """The sample as the generator was trained to see it."""
        seen: Tensor = self.scheduler.scale_model_input(sample, self._exact[call])
        return seen

    @property
    def draws(self) -> bool:
        return "variance_noise" in self._arguments and self._arguments.get("eta", 1.0) > 0

    def step(self, prediction: Tensor, sample: Tensor, call: int, fresh: Tensor | None) -> Tensor:
        """The sample after a step. `prediction`: for the sample as `scaled` gave it."""
        arguments = dict(self._arguments)
        if "eta" in arguments:
            self._aim(call)
        if fresh is not None:
            arguments["variance_noise"] = fresh
        after: Tensor = self.scheduler.step(
            prediction, self._exact[call], sample, return_dict=False, **arguments
        )[0]
        return after

    def _aim(self, call: int) -> None:
        """Make the next step of DDIM end at the next of our times, and the last one at none.

        Its scheduler steps back by train_steps // steps, which misses the grid where that is no whole number.
        """
        later = int(self._exact[call + 1]) if call + 1 < self.calls else -1
        gap = int(self._exact[call]) - later
        self.scheduler.num_inference_steps = Fraction(self.scheduler.config.num_train_timesteps, gap)


def make_scheduler(diffusion: Diffusion, sampling: Sampling) -> Schedule:
    """The sampler that was chosen, ready for one sample.

    "ddpm" is ancestral sampling, which is DDIM at eta 1. `official` is the grid of Kim et al. and FPLIA: steps counted
    from 1, the last of them down to the noise of the first step of training instead of to none.
    """
    common: dict[str, Any] = {
        "num_train_timesteps": diffusion.train_steps,
        "trained_betas": betas(diffusion).numpy(),
        "prediction_type": diffusion.prediction,
    }
    scheduler, arguments = _scheduler(diffusion, sampling, common)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # its way from torch to NumPy
        scheduler.set_timesteps(sampling.steps)
    times = scheduler.timesteps[sampling.skip :]
    shares = alphas_cumprod(diffusion)
    levels = shares[times.round().long().clamp(0, diffusion.train_steps - 1)].sqrt()
    return Schedule(scheduler, times, levels, arguments=arguments)


def _scheduler(
    diffusion: Diffusion, sampling: Sampling, common: dict[str, Any]
) -> tuple[Any, dict[str, Any]]:
    """A scheduler of `diffusers`, and what its `step` is given."""
    diffusers: Any = import_module("diffusers")  # its lazy modules have no types that hold
    sampler, official = sampling.sampler, sampling.official
    if sampler in ("ddim", "ddpm"):
        grid: dict[str, Any] = {"timestep_spacing": "trailing"}
        if official and sampler == "ddim":
            grid = {"timestep_spacing": "leading", "steps_offset": 1, "set_alpha_to_one": False}
        scheduler = diffusers.DDIMScheduler(**common, clip_sample=diffusion.clip, **grid)
        # Its own are float32, in which 1 - alpha-bar of the last steps has three digits.
        scheduler.alphas_cumprod = torch.cumprod(1 - betas(diffusion), 0)
        if official:
            scheduler.final_alpha_cumprod = scheduler.alphas_cumprod[0]
        arguments: dict[str, Any] = {
            "eta": 1.0 if sampler == "ddpm" else sampling.eta,
            "variance_noise": None,
        }
        if sampler == "ddpm":
            arguments["use_clipped_model_output"] = diffusion.clip
        return scheduler, arguments
    grid = {"timestep_spacing": "trailing"}
    if sampler == "euler":
        return diffusers.EulerDiscreteScheduler(**common, **grid), {}
    if sampler == "unipc":
        return diffusers.UniPCMultistepScheduler(**common, **grid, final_sigmas_type="zero"), {}
    kind = "sde-dpmsolver++" if sampler == "dpm++-sde" else "dpmsolver++"
    scheduler = diffusers.DPMSolverMultistepScheduler(**common, **grid, algorithm_type=kind, solver_order=2)
    return scheduler, {"variance_noise": None} if sampler == "dpm++-sde" else {}
