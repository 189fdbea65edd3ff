"""The engines of diffusion models: what they share, and that of models whose sample is the output itself (IDM).

Latent models that decode by coordinates are in `latent_diffusion_upscaler`, latent restorers in `restorer`.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from srcli.config.presets import Preset
from srcli.config.sampling import Sampling, choose_sampling
from srcli.engine.device import autocast, to_numpy, with_fallback
from srcli.engine.diffusion import Plan, Predict, denoise, plan_tiles
from srcli.engine.noise import SampleNoise
from srcli.engine.normalised_image import NormalisedImage
from srcli.engine.request import RenderRequest, RenderStats, Report, Source, part_of
from srcli.engine.upscaler import Upscaler
from srcli.errors import ResourceError, UsageError
from srcli.geometry import Box, Grid, Size, mirrored
from srcli.models.noise_schedule import Schedule, make_scheduler
from srcli.models.sr import Generator, ImplicitSR, OutputGenerator
from srcli.resources import free_memory

CPU_BATCH_MEMORY = 256 << 20  # more tiles at a time are no faster on a CPU
GPU_BATCH_SHARE = 0.5  # of the free memory
MOST_TILES = 32  # at a time
SLACK = 1.25  # a sample this much longer than a tile is not cut
STRIP = 256  # rows that are handed out at once
HELD = 6  # samples that a sampler holds at once: the picture, its noise, and predictions of earlier steps

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

        def predict(noisy: Tensor, t: Tensor, boxes: Sequence[Box]) -> Tensor:
            given = condition(boxes)
            noisy = noisy.float().contiguous(memory_format=torch.channels_last)
            return with_fallback(
                lambda _: self.generator(noisy, t, given).float(),
                self.device,
                self.precision,
                what="those steps are",
                stats=stats,
            )

        start = start if how.fidelity else None
        sample, used = self.denoised(predict, self.sample_plan(size), seed, how, report, stats, start)
        stats.sample_tile = used.tiles.side if len(used.tiles.boxes) > 1 else None
        with torch.inference_mode():
            return self.generator.denormalised(sample.float())

    def denoised(
        self,
        predict: Predict,
        plan: Plan,
        seed: int,
        how: Sampling,
        report: Report | None,
        stats: RenderStats,
        start: Tensor | None,
    ) -> tuple[Tensor, Plan]:
        """The sample of a seed from noise, or from a start with noise; see `denoise`."""
        schedule = make_scheduler(self.diffusion, how)
        sample, used = denoise(
            predict,
            SampleNoise(seed, self.generator.channels, plan.tiles.size, self.device),
            schedule,
            plan,
            by_level=self.generator.by_level,
            start=start,
            begin=self.first_call(schedule, how),
            report=report,
        )
        stats.tile_retries += used is not plan
        return sample, used

    def mean(self, draw: Callable[[int, Report | None], Tensor], request: RenderRequest) -> Tensor:
        """The mean of what `draw` makes of every seed that is averaged, given the seed and its part of the report."""
        seeds = (request.sampling or self.sampling).seeds(request.seed)
        total = torch.zeros(())
        for n, seed in enumerate(seeds):
            total = total + draw(seed, part_of(request.report, n / len(seeds), (n + 1) / len(seeds)))
        return total / len(seeds)


class PixelDiffusionUpscaler(DiffusionUpscaler):
    """A `DiffusionUpscaler` for an encoder, a decoder that is not asked, and an `OutputGenerator`.

    Features of the LR image are made once; every size of output is sampled anew, and held whole while it is.
    """

    sample_pixels = "output pixels"

    @property
    def generator(self) -> OutputGenerator:
        assert isinstance(self.network.generator, OutputGenerator)
        return self.network.generator

    def _rows(
        self, source: Source, target: Size, request: RenderRequest, stats: RenderStats
    ) -> Iterator[np.ndarray]:
        how, generator = request.sampling or self.sampling, self.generator
        multiple, relative = generator.multiple_of, bool(generator.relative)
        size = Size(*(-(-side // multiple) * multiple for side in target))
        self._check_room(size)
        lr = self._pixels(source)
        look = partial(generator.condition, self.network.encoder)
        feat = self._features(look, lr, stats, generator.condition_live).rows(0, lr.inside.h)
        enlarged = self._enlarged(lr, size, target) if how.fidelity or relative else None
        start = torch.zeros_like(enlarged) if relative and enlarged is not None else enlarged

        def beside(boxes: Sequence[Box]) -> tuple[Tensor, ...]:
            with autocast(self.device, self.precision):
                parts = [self._spread(feat, lr.inside, target, box) for box in boxes]
                return tuple(torch.cat(leaves) for leaves in zip(*parts, strict=True))

        def draw(seed: int, report: Report | None) -> Tensor:
            sample = self.sampled(beside, size, seed, how, report, stats, start)
            return sample[..., : target.h, : target.w]

        mean = self.mean(draw, request)
        if relative and enlarged is not None:
            mean = mean + enlarged[..., : target.h, : target.w]
        picture = (mean * lr.std + lr.mean)[0].permute(1, 2, 0)
        for top in range(0, target.h, STRIP):
            yield to_numpy(picture[top : top + STRIP], as_bytes=request.as_bytes)

    def _enlarged(self, lr: NormalisedImage, size: Size, target: Size) -> Tensor:
        """The picture at the size of the sample by bicubic interpolation, normalised (1, 3, H, W)."""
        picture = lr.box(Box(0, 0, *lr.inside)).to(self.device, torch.float32)
        picture = F.interpolate(picture, size=list(target), mode="bicubic")
        return F.pad(picture, (0, size.w - target.w, 0, size.h - target.h), mode="replicate")

    def _spread(self, feat: Tensor, lr: Size, target: Size, box: Box) -> tuple[Tensor, ...]:
        """The condition of a tile; where that reaches beyond the output, the condition goes on mirrored."""
        inner = Box(box.top, box.left, min(box.bottom, target.h), min(box.right, target.w))
        grid = Grid.of(lr, target, inner)
        (top, bottom), (left, right) = (axis.source(self.network.decoder.halo) for axis in grid)
        grid = Grid.of(lr, target, inner, (top, left))
        parts = self.generator.spread(feat[..., top:bottom, left:right], grid)
        if inner == box:
            return parts
        rows = mirrored(0, box.size.h, inner.size.h, repeat_edge=False)
        columns = mirrored(0, box.size.w, inner.size.w, repeat_edge=False)
        return tuple(part[:, :, rows][..., columns] if part.ndim == 4 else part for part in parts)

    def _check_room(self, size: Size) -> None:
        """Refuse, before any work, an output that cannot be held while it is sampled."""
        needed, free = HELD * 4 * 3 * size.h * size.w, free_memory(self.device)
        if needed > free:
            raise ResourceError(
                f"Sampling {size.w}x{size.h} pixels holds {needed / 1e9:.1f} GB on {self.device}, "
                f"of which {free / 1e9:.1f} GB are free.",
                hint="Choose a smaller size, another device, or a model that decodes by coordinates.",
            )
