"""Runs a latent restorer: enlarge by bicubic interpolation, then restore at that size.

The enlarged picture's latents get the noise of the first step, and are denoised step by step in overlapping tiles of
one size; all tiles share one canvas of noise, and their predictions are blended at every step. Before anything is
computed, memory is planned for every stage, and tiles are made as small as it takes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from srcli.engine import latents
from srcli.engine.device import arithmetic, is_out_of_memory
from srcli.engine.diffusion import SMALLEST_TILE, Plan, plan_tiles, sample
from srcli.engine.diffusion_upscaler import SampledUpscaler
from srcli.engine.features import Source
from srcli.engine.footprint import parameter_bytes
from srcli.engine.memory_plan import Forecast, forecast
from srcli.engine.noise import CanvasNoise, checked_seed
from srcli.engine.upscaler import Report
from srcli.errors import ResourceError, UsageError
from srcli.geometry import Box, Size
from srcli.models.latent_restorer import Condition, LatentRestorer
from srcli.models.noise_schedule import Schedule, scheduler_for
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


class Restorer(SampledUpscaler):
    """A latent restorer with its preset, on a device.

    Its auto-encoder, which overflows in half precision, runs in float32 whatever the precision; `tile` counts latent
    pixels.
    """

    network: LatentRestorer

    @property
    def gives_bytes(self) -> bool:
        """Rows come from memory, not from the device."""
        return False

    @property
    def notes(self) -> list[str]:
        """What a user should know of the last picture."""
        notes = [f"enlarged by bicubic interpolation, then restored: {self.sampling.about()}"]
        if self.tiles > 1 and self.tile_used is not None:
            side = self.tile_used
            notes.append(f"{self.tiles} tiles of {side.w}x{side.h} latents, blended at every step")
        if self.tile_retries:
            notes.append(f"memory ran out {self.tile_retries} times; smaller tiles were used")
        return notes

    def rows(
        self,
        source: Source,
        target: Size,
        *,
        temperature: float | None = None,
        seed: int = 0,
        report: Report | None = None,
        as_bytes: bool = False,
    ) -> Iterator[np.ndarray]:
        """Finished rows of the restored picture, from top to bottom.

        Args:
            source: the LR image.
            target: size of the output.
            temperature: must be None.
            seed: which sample.
            report: called with the finished share after every step.
            as_bytes: round to 8 bits.

        Yields:
            float32 (rows, W, 3), around [0, 1] but not clamped; or uint8, clamped, white at 255.

        Raises:
            UsageError: a temperature.
            ResourceError: memory is short even for the smallest tiles.
        """
        if temperature is not None:
            raise UsageError(f"'{self.preset.name}' takes no temperature.")
        enlarged = self.enlarged(source, target)
        seeds = self.sampling.seeds(checked_seed(seed))
        total = torch.zeros(1, 3, *target)
        for number, each in enumerate(seeds):

            def share(done: float, number: int = number) -> None:
                if report:
                    report((number + 0.95 * done) / len(seeds))

            total += self._restored(enlarged, each, share)[..., : target.h, : target.w].cpu()
        sr = (total / len(seeds) * 0.5 + 0.5)[0].permute(1, 2, 0).numpy()
        for top in range(0, target.h, STRIP):
            rows = sr[top : top + STRIP]
            yield np.rint(rows.clip(0, 1) * 255).astype(np.uint8) if as_bytes else rows
        if report:
            report(1.0)

    def planned(self, target: Size) -> Forecast:
        """Tiles, memory and arithmetic for an output of `target`, fitted to the memory that is free now.

        Raises:
            ResourceError: not even the smallest tiles fit.
        """
        free = free_memory(self.device) + parameter_bytes(self.network)
        return forecast(self.preset, target, self.sampling, tile=self.tile, free=free, calls=self._calls()[1])

    def _calls(self) -> tuple[int, int]:
        """The first call of the generator, and how many there are from it on."""
        schedule = scheduler_for(self.diffusion, self.sampling)
        begin = self._begin(schedule)
        return begin, schedule.calls - begin

    def _begin(self, schedule: Schedule) -> int:
        fidelity = self.sampling.fidelity
        return schedule.begin_near((1 - fidelity) * self.diffusion.train_steps) if fidelity else 0

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

    def _restored(self, enlarged: Enlarged, seed: int, report: Report) -> Tensor:
        """The restored picture (1, 3, H, W) in [-1, 1], padded as `enlarged.picture` is."""
        decoder, generator = self.network.decoder, self.network.generator
        planned = self.planned(Size(*enlarged.picture.shape[-2:]))
        overlap = self.diffusion.overlap or generator.context
        canvas = Size(*(side // decoder.factor for side in enlarged.picture.shape[-2:]))
        side = planned.vae_tile

        def fitting(run: Callable[[int | None], Tensor]) -> Tensor:
            nonlocal side
            while True:
                try:
                    with arithmetic(self.device, "fp32"):
                        return run(side)
                except (RuntimeError, MemoryError) as error:
                    if not is_out_of_memory(error):
                        raise
                side = _smaller(side, canvas)
                self.tile_retries += 1

        picture = enlarged.picture
        start = fitting(lambda n: latents.encode(decoder, picture, n, min(overlap, (n or 0) // 2)))
        plan = Plan(
            plan_tiles(canvas, planned.tile, overlap, generator.multiple_of),
            planned.batch,
            overlap,
            generator.multiple_of,
        )
        schedule = scheduler_for(self.diffusion, self.sampling)
        with arithmetic(self.device, self.precision):
            found, used = sample(
                self._predict(enlarged, start),
                CanvasNoise(seed, generator.channels, canvas, self.device),
                schedule,
                plan,
                start=start.to(self.device),
                begin=self._begin(schedule),
                is_out_of_memory=is_out_of_memory,
                report=report,
            )
        self.tile_used, self.tiles = used.tiles.side, len(used.tiles.boxes)
        self.tile_retries += used != plan
        return fitting(lambda n: latents.decode(decoder, found.cpu(), n, min(overlap, (n or 0) // 2)))

    def _predict(
        self, enlarged: Enlarged, latent: Tensor
    ) -> Callable[[Tensor, Tensor, Sequence[Box]], Tensor]:
        """The generator on tiles of the canvas, given the enlarged picture's latents; what its encoder says is kept."""
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


def _smaller(side: int | None, canvas: Size) -> int:
    """Half of a tile's side."""
    half = (max(canvas) if side is None else side) // 2
    if half < SMALLEST_TILE // 2:
        raise ResourceError(
            "memory is short even for the auto-encoder's smallest tiles.",
            hint="Close other programs, or choose a smaller output.",
        )
    return half
