"""Runs a latent restorer: enlarge by bicubic interpolation, then restore at that size.

The enlarged picture's latents get the noise of the first step, and are denoised step by step in overlapping tiles of
one size; all tiles share the noise of one sample, and their predictions are blended at every step. Before anything is
computed, memory is planned for every stage, and tiles are made as small as it takes.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from srcli.config.sampling import Sampling
from srcli.engine import latents
from srcli.engine.device import autocast, is_out_of_memory
from srcli.engine.diffusion import SMALLEST_TILE, Plan, denoise, plan_tiles
from srcli.engine.diffusion_upscaler import DiffusionUpscaler
from srcli.engine.memory_plan import MemoryPlan, parameter_bytes, plan_memory
from srcli.engine.noise import SampleNoise
from srcli.engine.request import RenderRequest, RenderStats, Report, Source, part_of
from srcli.errors import ResourceError
from srcli.geometry import Box, Size
from srcli.models.latent_restorer import Condition, LatentRestorer
from srcli.models.noise_schedule import scheduler_for
from srcli.resources import free_memory

STRIP = 256  # rows that are handed out at once


@dataclass(frozen=True)
class Enlarged:
    """A picture on its way: LR (1, 3, h, w), and its enlargement (1, 3, H, W) with sides padded to whole latents."""

    lr: Tensor
    picture: Tensor
    target: Size

    def shown(self, box: Box) -> Box:
        """The LR pixels that a box of the enlargement shows."""
        lr = Size(*self.lr.shape[-2:])
        down, across = lr.h / self.target.h, lr.w / self.target.w
        top = min(math.floor(box.top * down), lr.h - 1)
        left = min(math.floor(box.left * across), lr.w - 1)
        bottom = min(max(math.ceil(box.bottom * down), top + 1), lr.h)
        return Box(top, left, bottom, min(max(math.ceil(box.right * across), left + 1), lr.w))


class Restorer(DiffusionUpscaler):
    """A latent restorer; `tile` counts latent pixels. Its auto-encoder overflows in half precision, and has float32."""

    network: LatentRestorer

    def _notes(self, request: RenderRequest, stats: RenderStats) -> list[str]:
        how = request.sampling or self.sampling
        notes = [f"enlarged by bicubic interpolation, then restored: {how.about()}"]
        if stats.tiles > 1 and stats.tile is not None:
            side = stats.tile
            notes.append(f"{stats.tiles} tiles of {side.w}x{side.h} latents, blended at every step")
        if stats.tile_retries:
            notes.append(f"memory ran out {stats.tile_retries} times; smaller tiles were used")
        return notes

    def _rows(
        self, source: Source, target: Size, request: RenderRequest, stats: RenderStats
    ) -> Iterator[np.ndarray]:
        how = request.sampling or self.sampling
        enlarged, seeds = self.enlarged(source, target), how.seeds(request.seed)
        total = torch.zeros(1, 3, *target)
        for n, seed in enumerate(seeds):
            report = part_of(request.report, n / len(seeds), (n + 0.95) / len(seeds))
            total += self._restored(enlarged, seed, how, report, stats)[..., : target.h, : target.w].cpu()
        sr = (total / len(seeds) * 0.5 + 0.5)[0].permute(1, 2, 0).numpy()
        for top in range(0, target.h, STRIP):
            yield sr[top : top + STRIP]
        if request.report:
            request.report(1.0)

    def planned(self, target: Size, how: Sampling | None = None) -> MemoryPlan:
        """Tiles, memory and arithmetic for an output of `target` in the memory that is free now, or ResourceError."""
        how, free = how or self.sampling, free_memory(self.device) + parameter_bytes(self.network)
        schedule = scheduler_for(self.diffusion, how)
        calls = schedule.calls - self.first_call(schedule, how)
        return plan_memory(self.preset, target, how, tile=self.tile, free=free, calls=calls)

    def enlarged(self, source: Source, target: Size) -> Enlarged:
        """The picture at `target` by bicubic interpolation, its sides padded to whole latents."""
        whole = np.ascontiguousarray(source.strip(0, source.size[0]))
        lr = torch.from_numpy(whole).permute(2, 0, 1)[None].float() * 2 - 1
        picture = F.interpolate(lr, size=list(target), mode="bicubic").clamp(-1, 1)
        multiple = self.network.decoder.factor * self.network.generator.multiple_of
        down, across = (-side % multiple for side in target)
        reflects = down < target.h and across < target.w
        picture = F.pad(picture, (0, across, 0, down), mode="reflect" if reflects else "replicate")
        return Enlarged(lr, picture, target)

    def _restored(
        self, enlarged: Enlarged, seed: int, how: Sampling, report: Report | None, stats: RenderStats
    ) -> Tensor:
        """The restored picture (1, 3, H, W) in [-1, 1], padded as `enlarged.picture` is."""
        decoder, generator = self.network.decoder, self.network.generator
        planned = self.planned(Size(*enlarged.picture.shape[-2:]), how)
        overlap = self.diffusion.overlap or generator.context
        size = Size(*(side // decoder.factor for side in enlarged.picture.shape[-2:]))
        side = planned.vae_tile

        def fitting(run: Callable[[int | None], Tensor]) -> Tensor:
            nonlocal side
            while True:
                try:
                    with autocast(self.device, "fp32"):
                        return run(side)
                except (RuntimeError, MemoryError) as error:
                    if not is_out_of_memory(error):
                        raise
                side = _smaller(side, size)
                stats.tile_retries += 1

        picture = enlarged.picture
        start = fitting(lambda n: latents.encode(decoder, picture, n, min(overlap, (n or 0) // 2)))
        plan = Plan(
            plan_tiles(size, planned.tile, overlap, generator.multiple_of),
            overlap=overlap,
            multiple_of=generator.multiple_of,
        )
        schedule = scheduler_for(self.diffusion, how)
        with autocast(self.device, self.precision):
            found, used = denoise(
                self._predict(enlarged, start),
                SampleNoise(seed, generator.channels, size, self.device),
                schedule,
                plan,
                start=start.to(self.device),
                begin=self.first_call(schedule, how),
                is_out_of_memory=is_out_of_memory,
                report=report,
            )
        stats.tile, stats.tiles = used.tiles.side, len(used.tiles.boxes)
        stats.tile_retries += used != plan
        return fitting(lambda n: latents.decode(decoder, found.cpu(), n, min(overlap, (n or 0) // 2)))

    def _predict(
        self, enlarged: Enlarged, latent: Tensor
    ) -> Callable[[Tensor, Tensor, Sequence[Box]], Tensor]:
        """The generator on tiles of the sample, given the enlarged picture's latents; what its encoder says is kept."""
        network, factor = self.network, self.network.decoder.factor
        known: dict[Box, Tensor] = {}

        def predict(noisy: Tensor, t: Tensor, boxes: Sequence[Box]) -> Tensor:
            shown = [Box(*(factor * corner for corner in box)) for box in boxes]
            pictures = torch.cat([enlarged.picture[(..., *box.slices)] for box in shown]).to(self.device)
            for box in shown:
                if box not in known:
                    lr = enlarged.lr[(..., *enlarged.shown(box).slices)].to(self.device)
                    known[box] = network.generator.condition(network.encoder, lr)
            tokens = torch.cat([known[box] for box in shown])
            near = torch.cat([latent[(..., *box.slices)] for box in boxes]).to(self.device)
            return network.generator(noisy, t.to(self.device), Condition(pictures, tokens, near))

        return predict


def _smaller(side: int | None, size: Size) -> int:
    half = (max(size) if side is None else side) // 2
    if half < SMALLEST_TILE // 2:
        raise ResourceError(
            "memory is short even for the auto-encoder's smallest tiles.",
            hint="Close other programs, or choose a smaller output.",
        )
    return half
