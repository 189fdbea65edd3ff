"""SampledUpscaler: what the engines of diffusion models share, and how a generator is asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from srcli.config.presets import Preset
from srcli.config.sampling import Sampling, choose_sampling
from srcli.engine.device import DTYPES, Precision, is_out_of_memory, with_fallback
from srcli.engine.diffusion import Plan, plan_tiles, sample
from srcli.engine.noise import CanvasNoise
from srcli.engine.upscaler import Report, Upscaler
from srcli.errors import UsageError
from srcli.geometry import Box, Size
from srcli.models.noise_schedule import Schedule, scheduler_for
from srcli.models.sr import Generator, ImplicitSR
from srcli.resources import free_memory

CPU_BATCH_MEMORY = 256 << 20  # more tiles at a time are no faster on a CPU
GPU_BATCH_SHARE = 0.5  # of the free memory
MOST_TILES = 32  # at a time
SLACK = 1.25  # a canvas this much longer than a tile is not cut

Condition = Callable[[Sequence[Box]], Tensor | tuple[Tensor, ...]]


class SampledUpscaler(Upscaler):
    """An `Upscaler` whose network has a generator, which samples a canvas.

    Attributes:
        canvas_pixels: what the pixels of the canvas are, in words.
        canvas_tile: sides of the tiles that the last canvas was sampled in; None: it was not cut.
        diffusion: what the preset says of the noise.

    Args:
        network: with a generator.
        preset: with a section [diffusion].
        sampling: how, by default; None: as the preset says.
        options: of `Upscaler`.
    """

    canvas_pixels: str
    sampling: Sampling

    def __init__(
        self, network: ImplicitSR, preset: Preset, *, sampling: Sampling | None = None, **options: Any
    ) -> None:
        super().__init__(network, preset, **options)
        chosen = sampling or choose_sampling(preset)
        assert chosen is not None
        assert preset.diffusion is not None
        self.sampling, self.diffusion = chosen, preset.diffusion
        self.canvas_tile: Size | None = None

    @property
    def generator(self) -> Generator:
        """The network's generator."""
        assert self.network.generator is not None
        return self.network.generator

    @property
    def samples_pixels(self) -> bool:
        """See `Upscaler.samples_pixels`."""
        return True

    @property
    def notes(self) -> list[str]:
        """See `Upscaler.notes`."""
        tile = self.canvas_tile
        notes = (
            [] if tile is None else [f"sampled in blended tiles of {tile.w}x{tile.h} {self.canvas_pixels}"]
        )
        return [*super().notes, *notes]

    def canvas_plan(self, size: Size) -> Plan:
        """How a canvas is cut.

        The tiles depend on the canvas and on what was asked for, never on the memory, so that a picture does not; how
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

    def sampled(
        self,
        condition: Condition,
        size: Size,
        seed: int,
        how: Sampling,
        report: Report | None,
        start: Tensor | None = None,
    ) -> tuple[Tensor, int, int]:
        """A canvas (1, C, H, W), denormalised.

        Args:
            condition: for some boxes of the canvas, what the generator sees beside the noise, with their axis first.
            size: of the canvas.
            seed: of the noise.
            how: it is sampled.
            report: called with the finished share after every step.
            start: a canvas that `how.fidelity` begins with.

        Returns:
            The canvas, how often tiles had to be fewer or smaller, and the predictions computed again in float32.

        Raises:
            ModelError, ResourceError: see `srcli.engine.diffusion.sample`.
            UsageError: fidelity, without anything to be faithful to.
        """
        if how.fidelity and start is None:
            raise UsageError(f"'{self.preset.name}' samples from noise alone: it has no fidelity.")
        plan = self.canvas_plan(size)
        predictor = Predictor(self.generator, condition, self.device, self.precision)
        schedule: Schedule = scheduler_for(self.diffusion, how)
        canvas, used = sample(
            predictor,
            CanvasNoise(seed, self.generator.channels, size, self.device),
            schedule,
            plan,
            by_level=self.generator.by_level,
            start=start if how.fidelity else None,
            begin=schedule.begin_near((1 - how.fidelity) * self.diffusion.train_steps) if how.fidelity else 0,
            is_out_of_memory=is_out_of_memory,
            report=report,
        )
        self.canvas_tile = used.tiles.side if len(used.tiles.boxes) > 1 else None
        with torch.inference_mode():
            return (
                self.generator.denormalised(canvas.float()),
                int(used is not plan),
                predictor.fp32_fallbacks,
            )


class Predictor:
    """A generator beside its condition, as `srcli.engine.diffusion.sample` calls it.

    Args:
        generator: the network.
        condition: see `SampledUpscaler.sampled`.
        device: where it runs.
        precision: it runs in.

    Attributes:
        fp32_fallbacks: predictions computed again in float32 because half precision gave NaN or infinity.
    """

    def __init__(
        self, generator: Generator, condition: Condition, device: torch.device, precision: Precision
    ) -> None:
        self.generator = generator
        self.condition = condition
        self.device = device
        self.precision = precision
        self.fp32_fallbacks = 0

    def __call__(self, noisy: Tensor, t: Tensor, boxes: Sequence[Box]) -> Tensor:
        """The noise (n, C, h, w) in tiles."""
        condition = self.condition(boxes)
        noisy = noisy.float().contiguous(memory_format=torch.channels_last)
        predicted, again = with_fallback(
            lambda _: self.generator(noisy, t, condition).float(),
            self.device,
            self.precision,
            what="those steps are",
            quiet=self.fp32_fallbacks > 0,
        )
        self.fp32_fallbacks += again
        return predicted


def parked(condition: Tensor, device: torch.device, precision: Precision) -> Tensor:
    """A condition where it can stay while a canvas is sampled: in the precision used, off a device it would fill."""
    kept = condition.to(DTYPES[precision])
    if device.type != "cpu" and kept.nbytes > free_memory(device) // 4:
        return kept.cpu()
    return kept
