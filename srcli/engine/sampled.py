"""What the engines of diffusion models share: how a canvas is cut, and how its generator is asked."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from srcli.diffusion import Plan, Schedule, plan_tiles, sample, scheduler_for
from srcli.engine.device import DTYPES, Precision, arithmetic, free_memory, is_out_of_memory
from srcli.engine.noise import CanvasNoise
from srcli.geometry import Box, Size
from srcli.models.sr import Generator
from srcli.presets import Diffusion
from srcli.sampling import Sampling

CPU_BATCH_MEMORY = 256 << 20  # more tiles at a time are no faster on a CPU
GPU_BATCH_SHARE = 0.5  # of the free memory
MOST_TILES = 32  # at a time
SLACK = 1.25  # a canvas this much longer than a tile is not cut

Report = Callable[[float], None]


def canvas_plan(
    size: Size,
    diffusion: Diffusion,
    generator: Generator,
    *,
    tile: str | int,
    device: torch.device,
    precision: Precision,
) -> Plan:
    """How a canvas is cut.

    The tiles depend on the canvas and on what was asked for, never on the memory, so that a picture does not; how many
    are predicted at a time does.

    Args:
        size: of the canvas.
        diffusion: the preset's default tile and overlap.
        generator: for the context that it wants.
        tile: "auto" for the preset's, "none" for one tile, or canvas pixels.
        device: where it runs.
        precision: it runs in.
    """
    side: int | None = diffusion.tile if tile == "auto" else None if tile == "none" else int(tile)
    if tile == "auto" and size.h * size.w <= (SLACK * diffusion.tile) ** 2:
        side = None
    overlap = 0
    if side is not None:
        wanted = diffusion.overlap if diffusion.overlap is not None else generator.context
        overlap = max(wanted, -(-side // 4))
    tiles = plan_tiles(size, side, overlap, generator.multiple_of)
    item = 4 if precision == "fp32" else 2
    each = generator.live_channels * item * tiles.side.h * tiles.side.w
    free = free_memory(device)
    memory = min(CPU_BATCH_MEMORY, free // 4) if device.type == "cpu" else int(free * GPU_BATCH_SHARE)
    batch = max(1, min(memory // each, len(tiles.boxes), MOST_TILES))
    return Plan(tiles, batch, overlap, generator.multiple_of)


class Predictor:
    """A generator beside its condition, as `srcli.diffusion.sample` calls it.

    Args:
        generator: the network.
        condition: for some boxes of the canvas, what the generator sees beside the noise, with their axis first.
        device: where it runs.
        precision: it runs in.

    Attributes:
        fp32_fallbacks: predictions computed again in float32 because half precision gave NaN or infinity.
    """

    def __init__(
        self,
        generator: Generator,
        condition: Callable[[Sequence[Box]], Tensor | tuple[Tensor, ...]],
        device: torch.device,
        precision: Precision,
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
        with arithmetic(self.device, self.precision):
            predicted: Tensor = self.generator(noisy, t, condition).float()
        if self.precision == "fp32" or bool(torch.isfinite(predicted).all()):
            return predicted
        self.fp32_fallbacks += 1
        if self.fp32_fallbacks == 1:
            warnings.warn(
                f"{self.precision} gave NaN or infinity on {self.device}; those steps are computed in fp32.",
                RuntimeWarning,
                stacklevel=2,
            )
        with arithmetic(self.device, "fp32"):
            again: Tensor = self.generator(noisy, t, condition).float()
        return again


def sample_canvas(
    predictor: Predictor,
    size: Size,
    plan: Plan,
    diffusion: Diffusion,
    sampling: Sampling,
    seed: int,
    *,
    report: Report | None = None,
) -> tuple[Tensor, Plan]:
    """A canvas (1, C, H, W) in the generator's units, and the plan that fitted.

    Raises:
        ModelError, ResourceError: see `srcli.diffusion.sample`.
    """
    generator = predictor.generator
    schedule: Schedule = scheduler_for(diffusion, sampling)
    return sample(
        predictor,
        CanvasNoise(seed, generator.channels, size, predictor.device),
        schedule,
        plan,
        by_level=generator.by_level,
        is_out_of_memory=is_out_of_memory,
        report=report,
    )


def parked(condition: Tensor, device: torch.device, precision: Precision) -> Tensor:
    """A condition where it can stay while a canvas is sampled: in the precision used, off a device it would fill."""
    kept = condition.to(DTYPES[precision])
    if device.type != "cpu" and kept.nbytes > free_memory(device) // 4:
        return kept.cpu()
    return kept


def settled(asked: Sampling | None, default: Sampling | None) -> Sampling:
    """How an engine that samples does it: as asked, else by default."""
    how = asked or default
    assert how is not None  # presets with a generator have a default
    return how
