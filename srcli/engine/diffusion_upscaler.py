"""DiffusionUpscaler: what the engines of diffusion models share, and how a generator is asked."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from srcli.config.presets import Preset
from srcli.config.sampling import Sampling, choose_sampling
from srcli.engine.device import DTYPES, Precision, is_out_of_memory, with_fallback
from srcli.engine.diffusion import Plan, denoise, plan_tiles
from srcli.engine.noise import SampleNoise
from srcli.engine.request import RenderRequest, RenderStats, Report
from srcli.engine.upscaler import Upscaler
from srcli.errors import UsageError
from srcli.geometry import Box, Size
from srcli.models.noise_schedule import Schedule, scheduler_for
from srcli.models.sr import Generator, ImplicitSR
from srcli.resources import free_memory

CPU_BATCH_MEMORY = 256 << 20  # more tiles at a time are no faster on a CPU
GPU_BATCH_SHARE = 0.5  # of the free memory
MOST_TILES = 32  # at a time
SLACK = 1.25  # a sample this much longer than a tile is not cut

Condition = Callable[[Sequence[Box]], Tensor | tuple[Tensor, ...]]


class DiffusionUpscaler(Upscaler):
    """An `Upscaler` whose network has a generator, which denoises a sample of `sample_pixels` (in words)."""

    sample_pixels: str
    samples_pixels = True
    sampling: Sampling

    def __init__(
        self, network: ImplicitSR, preset: Preset, *, sampling: Sampling | None = None, **options: Any
    ) -> None:
        super().__init__(network, preset, **options)
        chosen = sampling or choose_sampling(preset)
        assert chosen is not None
        assert preset.diffusion is not None
        self.sampling, self.diffusion = chosen, preset.diffusion

    @property
    def generator(self) -> Generator:
        assert self.network.generator is not None
        return self.network.generator

    def _notes(self, request: RenderRequest, stats: RenderStats) -> list[str]:
        tile, notes = stats.sample_tile, super()._notes(request, stats)
        if tile is not None:
            notes.append(f"sampled in blended tiles of {tile.w}x{tile.h} {self.sample_pixels}")
        return notes

    def sample_plan(self, size: Size) -> Plan:
        """How a sample is cut.

        The tiles depend on the sample and on what was asked for, never on the memory, so that a picture does not; how
        many are predicted at a time does.
        """
        generator, diffusion = self.generator, self.diffusion
        side: int | None = None
        if self.tile == "auto":
            side = diffusion.tile if size.h * size.w > (SLACK * diffusion.tile) ** 2 else None
        elif self.tile != "none":
            side = int(self.tile)
        overlap = 0
        if side is not None:
            wanted = diffusion.overlap if diffusion.overlap is not None else generator.context
            overlap = max(wanted, -(-side // 4))
        tiles = plan_tiles(size, side, overlap, generator.multiple_of)
        item = 4 if self.precision == "fp32" else 2
        each = generator.live_channels * item * tiles.side.h * tiles.side.w
        free = free_memory(self.device)
        on_cpu = self.device.type == "cpu"
        memory = min(CPU_BATCH_MEMORY, free // 4) if on_cpu else int(free * GPU_BATCH_SHARE)
        batch = max(1, min(memory // each, len(tiles.boxes), MOST_TILES))
        return Plan(tiles, batch, overlap, generator.multiple_of)

    def first_call(self, schedule: Schedule, how: Sampling) -> int:
        return schedule.begin_near((1 - how.fidelity) * self.diffusion.train_steps) if how.fidelity else 0

    def sampled(
        self,
        condition: Condition,
        size: Size,
        seed: int,
        how: Sampling,
        report: Report | None,
        stats: RenderStats,
        start: Tensor | None = None,
    ) -> Tensor:
        """A sample (1, C, H, W), denormalised; `start` is what `how.fidelity` begins with.

        `condition` gives, for boxes of the sample, what the generator sees beside the noise. Raises ModelError,
        ResourceError (see `denoise`), UsageError (fidelity, without anything to be faithful to).
        """
        if how.fidelity and start is None:
            raise UsageError(f"'{self.preset.name}' samples from noise alone: it has no fidelity.")
        plan = self.sample_plan(size)
        predictor = Predictor(self.generator, condition, self.device, self.precision, stats)
        schedule: Schedule = scheduler_for(self.diffusion, how)
        sample, used = denoise(
            predictor,
            SampleNoise(seed, self.generator.channels, size, self.device),
            schedule,
            plan,
            by_level=self.generator.by_level,
            start=start if how.fidelity else None,
            begin=self.first_call(schedule, how),
            is_out_of_memory=is_out_of_memory,
            report=report,
        )
        stats.sample_tile = used.tiles.side if len(used.tiles.boxes) > 1 else None
        stats.tile_retries += used is not plan
        with torch.inference_mode():
            return self.generator.denormalised(sample.float())


class Predictor:
    """A generator beside its condition, as `denoise` calls it; counts in `stats` what is computed again in float32."""

    def __init__(
        self,
        generator: Generator,
        condition: Condition,
        device: torch.device,
        precision: Precision,
        stats: RenderStats,
    ) -> None:
        self.generator = generator
        self.condition = condition
        self.device = device
        self.precision = precision
        self.stats = stats
        self._warned = False

    def __call__(self, noisy: Tensor, t: Tensor, boxes: Sequence[Box]) -> Tensor:
        condition = self.condition(boxes)
        noisy = noisy.float().contiguous(memory_format=torch.channels_last)
        predicted, again = with_fallback(
            lambda _: self.generator(noisy, t, condition).float(),
            self.device,
            self.precision,
            what="those steps are",
            quiet=self._warned,
        )
        self.stats.fp32_fallbacks += again
        self._warned |= again
        return predicted


def offload(condition: Tensor, device: torch.device, precision: Precision) -> Tensor:
    """A condition where it can stay while a sample is denoised: in the precision used, off a device it would fill."""
    kept = condition.to(DTYPES[precision])
    if device.type != "cpu" and kept.nbytes > free_memory(device) // 4:
        return kept.cpu()
    return kept
