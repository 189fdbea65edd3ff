"""LatentDiffusionUpscaler: the engine of latent diffusion models that decode by coordinates (FPLIA, Kim et al.).

A latent is sampled once for a picture, on the grid of its LR image and so whatever the size of the output; then it
stands behind the colours of the LR image, and features and colours are made as for any other network.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from srcli.config.presets import Preset
from srcli.config.sampling import Sampling
from srcli.engine.device import DTYPES, to_numpy
from srcli.engine.diffusion_upscaler import DiffusionUpscaler
from srcli.engine.noise import checked_seed
from srcli.engine.normalised_image import read_mirrored
from srcli.engine.request import PLAIN, Rendered, RenderRequest, RenderStats, Report, Source, part_of
from srcli.engine.upscaler import Render
from srcli.errors import UsageError
from srcli.geometry import Box, Grid, Size
from srcli.models.sr import ImplicitSR, SelectiveDecoder
from srcli.resources import free_memory

SAMPLING_SHARE = 0.9  # of the time, for progress


@dataclass(frozen=True)
class Latent:
    """What was sampled for a picture; serves all sizes of its output."""

    # (1, z, h, w) float32, as the encoder expects them; of the LR image and what completes its sides
    values: Tensor
    size: Size  # of the LR image
    seed: int  # of the noise
    sampling: Sampling  # how it was sampled
    stats: RenderStats = field(default_factory=RenderStats)  # what happened meanwhile


class Extended:
    """A source continued by reflection, as official code pads: to a multiple, by a whole one where none is missing."""

    def __init__(self, source: Source, multiple: int) -> None:
        self.source = source
        self.inside = Size(*source.size)
        self.size = Size(*(side // multiple * multiple + multiple for side in self.inside))

    def enlarged(self, target: Size) -> Size:
        """The size of the whole where the image itself is brought to `target`."""
        return Size(
            *(round(side * new / own) for side, new, own in zip(self.size, target, self.inside, strict=True))
        )

    def strip(self, top: int, bottom: int) -> np.ndarray:
        return read_mirrored(self.source, Box(top, 0, bottom, self.size.w), repeat_edge=False)


class LatentDiffusionUpscaler(DiffusionUpscaler):
    """A `DiffusionUpscaler` for a network with a generator of latents; `branch` always answers, if it is set."""

    sample_pixels = "LR pixels"

    def __init__(
        self, network: ImplicitSR, preset: Preset, *, branch: str | None = None, **options: Any
    ) -> None:
        decoder = network.decoder
        self.needs_latent = True
        if isinstance(decoder, SelectiveDecoder):
            self.branches = decoder.branches
            self.selects = decoder.selects and branch is None
            if branch is not None:
                self.needs_latent = decoder.needs_latent(branch)
                network = ImplicitSR(network.encoder, decoder.branch(branch), network.generator)
        super().__init__(network, preset, **options)

    def latent(
        self, source: Source, *, seed: int = 0, sampling: Sampling | None = None, report: Report | None = None
    ) -> Latent:
        """One latent of a picture, from which any size is decoded (`RenderRequest.latent`).

        Raises UsageError (the seed is none), ModelError (the generator gives NaN or infinity), ResourceError (no
        memory).
        """
        how = sampling or self.sampling
        return self._latent(_extended(source, how), checked_seed(seed), how, report)

    def _check(self, request: RenderRequest) -> None:
        super()._check(request)
        how = request.sampling or self.sampling
        if request.scores is not None and how.average > 1 and request.latent is None:
            raise UsageError("Of a mean of several samples there is no one choice of branches.")

    def upscale_rows(self, source: Source, target: Size, request: RenderRequest = PLAIN) -> Rendered:
        """As `Upscaler.upscale_rows`, with a latent that was sampled before if the request has one."""
        size = Size(*_extended(source, request.sampling or self.sampling).size)
        if request.latent is not None and request.latent.size != size:
            raise UsageError(f"The latent is of a picture of {request.latent.size}, not {size}.")
        return super().upscale_rows(source, target, request)

    def _rows(
        self, source: Source, target: Size, request: RenderRequest, stats: RenderStats
    ) -> Iterator[np.ndarray]:
        how, report = request.sampling or self.sampling, request.report
        given = _extended(source, how)
        if request.latent is not None:
            latents = [request.latent]
        else:
            seeds = how.seeds(request.seed)
            each = SAMPLING_SHARE / len(seeds)  # of the time
            latents = [
                self._latent(given, seed, how, part_of(report, each * n, each * (n + 1)))
                for n, seed in enumerate(seeds)
            ]
        for latent in latents:
            stats.sample_tile = latent.stats.sample_tile
            stats.tile_retries += latent.stats.tile_retries
            stats.fp32_fallbacks += latent.stats.fp32_fallbacks
        full = given.enlarged(target) if isinstance(given, Extended) else target
        scores = request.scores
        render: Render = partial(self.rendered, seed=None) if scores is None else self._with_scores
        done = part_of(report, SAMPLING_SHARE, 1)
        streams = [self._bands(given, full, render, done, stats, latent.values) for latent in latents]
        top = 0
        for bands in zip(*streams, strict=True):
            band = (bands[0] if len(bands) == 1 else torch.stack(bands).mean(0))[0]
            band = band[: target.h - top, : target.w]
            if scores is not None and len(band):
                scores(top, band[..., 3:].permute(2, 0, 1).cpu().numpy())
            top += len(band)
            if len(band):
                yield to_numpy(band[..., :3], as_bytes=request.as_bytes)

    def _with_scores(self, prepared: Any, grid: Grid) -> Tensor:
        """As `rendered`, with the scores of the branches behind the colours: (1, rows, W, 3 + n)."""
        decoder = self.network.decoder
        assert isinstance(decoder, SelectiveDecoder)
        parts = [part.float() for part in decoder.render_scored(prepared, grid)]
        return torch.cat(parts, dim=1).permute(0, 2, 3, 1)

    @property
    def _multiple(self) -> int:
        return math.lcm(self.network.encoder.multiple_of, self.generator.multiple_of)

    def _latent(self, source: Source, seed: int, how: Sampling, report: Report | None) -> Latent:
        encoder, generator = self.network.encoder, self.generator
        lr = self._pixels(source)
        if not self.needs_latent:
            unseen = torch.zeros(1, encoder.latent_channels, *lr.size, device=self.device)
            return Latent(unseen, lr.inside, seed, how)
        stats = RenderStats()
        features = self._features(partial(generator.condition, encoder), lr, stats, generator.condition_live)
        condition = features.whole().to(DTYPES[self.precision])
        if self.device.type != "cpu" and condition.nbytes > free_memory(self.device) // 4:
            condition = condition.cpu()  # where it can stay while the sample is denoised

        def beside(boxes: Sequence[Box]) -> Tensor:
            return torch.cat([condition[(..., *box.slices)] for box in boxes]).to(self.device)

        values = self.sampled(beside, lr.size, seed, how, report, stats)
        return Latent(values, lr.inside, seed, how, stats)


def _extended(source: Source, how: Sampling) -> Source:
    return Extended(source, how.window) if how.window > 1 else source
