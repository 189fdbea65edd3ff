"""LatentUpscaler: the engine of latent diffusion models that decode by coordinates (FPLIA, Kim et al.).

A latent is sampled once for a picture, on the grid of its LR image and so whatever the size of the output; then it
stands behind the colours of the LR image, and features and colours are made as for any other network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from srcli.config.presets import Preset
from srcli.config.sampling import Sampling
from srcli.engine.diffusion_upscaler import SampledUpscaler, parked
from srcli.engine.features import Source, mirrored
from srcli.engine.noise import checked_seed
from srcli.engine.upscaler import Render, Report, fetched
from srcli.errors import UsageError
from srcli.geometry import Box, Grid, Size
from srcli.models.decoders.lia import BRANCHES, LIA
from srcli.models.sr import ImplicitSR

SAMPLING_SHARE = 0.9  # of the time, for progress

Chosen = Callable[[int, np.ndarray], None]


@dataclass(frozen=True)
class Latent:
    """What was sampled for a picture; serves all sizes of its output.

    Attributes:
        values: (1, z, h, w) float32, as the encoder expects them; of the LR image and what completes its sides.
        size: of the LR image.
        seed: of the noise.
        sampling: how it was sampled.
        retries: how often tiles had to be fewer or smaller for want of memory.
        fp32_fallbacks: predictions computed again in float32.
    """

    values: Tensor
    size: Size
    seed: int
    sampling: Sampling
    retries: int = 0
    fp32_fallbacks: int = 0


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
        """See `Source`."""
        rows = mirrored(top, bottom, self.inside.h, repeat_edge=False)
        columns = mirrored(0, self.size.w, self.inside.w, repeat_edge=False)
        first = int(rows.min())
        return self.source.strip(first, int(rows.max()) + 1)[rows - first][:, columns]


class LatentUpscaler(SampledUpscaler):
    """A `SampledUpscaler` for a network with a generator of latents.

    Args:
        network: encoder, decoder and generator.
        preset: with a section [diffusion].
        branch: the one whose answers are given, of a decoder with several; None: what the decoder selects.
        options: of `SampledUpscaler`.

    Raises:
        UsageError: the decoder has no such branch.
    """

    canvas_pixels = "LR pixels"

    def __init__(
        self, network: ImplicitSR, preset: Preset, *, branch: str | None = None, **options: Any
    ) -> None:
        decoder = network.decoder
        self.selects = isinstance(decoder, LIA) and decoder.selects and branch is None
        self.branches = decoder.branches if isinstance(decoder, LIA) else ()
        self.branch = branch
        if branch is not None:
            if branch not in self.branches:
                raise UsageError(f"The decoder of '{preset.name}' has no branch '{branch}'.")
            assert isinstance(decoder, LIA)
            network = ImplicitSR(network.encoder, decoder.branch(branch), network.generator)
        super().__init__(network, preset, **options)

    def latent(
        self, source: Source, *, seed: int = 0, sampling: Sampling | None = None, report: Report | None = None
    ) -> Latent:
        """Sample the latent of a picture, from which `rows` decodes any size. One, whatever `sampling.average` says.

        Args:
            source: the LR image.
            seed: of the noise.
            sampling: how, if not as `self.sampling` says.
            report: called with the finished share after every step.

        Raises:
            UsageError: the seed is none.
            ModelError: the generator gives NaN or infinity.
            ResourceError: memory runs out even with the smallest tiles.
        """
        how = sampling or self.sampling
        return self._latent(_extended(source, how), checked_seed(seed), how, report)

    def rows(
        self,
        source: Source,
        target: Size,
        *,
        temperature: float | None = None,
        seed: int = 0,
        report: Report | None = None,
        as_bytes: bool = False,
        sampling: Sampling | None = None,
        latent: Latent | None = None,
        chosen: Chosen | None = None,
    ) -> Iterator[np.ndarray]:
        """Finished rows of the enlarged image, from top to bottom; see `Upscaler.rows`.

        `sampling` says how the latent is sampled, if not as `self.sampling` says; a `latent` that was sampled before
        stands in its place. `chosen` is called with the top of every band and the scores (n, rows, W) of the branches,
        of which the highest was chosen. There is no temperature.

        Raises:
            UsageError: a temperature, no seed, a latent of a picture of another size, or `chosen` where nothing is.
        """
        if temperature is not None:
            self._require_generative()
        if chosen is not None and not self.selects:
            raise UsageError(f"'{self.preset.name}' chooses no branch for each pixel.")
        how = sampling or self.sampling
        given = _extended(source, how)
        if latent is not None and latent.size != Size(*given.size):
            raise UsageError(f"The latent is of a picture of {latent.size}, not {Size(*given.size)}.")
        if chosen is not None and how.average > 1 and latent is None:
            raise UsageError("Of a mean of several samples there is no one choice of branches.")
        return self._decoded(given, target, checked_seed(seed), how, latent, chosen, report, as_bytes)

    def _decoded(
        self,
        source: Source,
        target: Size,
        seed: int,
        how: Sampling,
        latent: Latent | None,
        chosen: Chosen | None,
        report: Report | None,
        as_bytes: bool,
    ) -> Iterator[np.ndarray]:
        seeds = how.seeds(seed)
        latents = [latent] if latent is not None else []
        while len(latents) < (1 if latent is not None else len(seeds)):
            part = _part(report, len(latents) / len(seeds), 1 / len(seeds))
            latents.append(self._latent(source, seeds[len(latents)], how, part))
        full = source.enlarged(target) if isinstance(source, Extended) else target
        render: Render = partial(self._rendered, seed=None) if chosen is None else self._with_scores
        done = None if report is None else lambda share: report(SAMPLING_SHARE + (1 - SAMPLING_SHARE) * share)
        streams = [self._bands(source, full, render, done, each.values) for each in latents]
        spent = [sum(getattr(each, part) for each in latents) for part in ("retries", "fp32_fallbacks")]
        top = 0
        for bands in zip(*streams, strict=True):
            band = (bands[0] if len(bands) == 1 else torch.stack(bands).mean(0))[0]
            band = band[: target.h - top, : target.w]
            if chosen is not None and len(band):
                chosen(top, band[..., 3:].permute(2, 0, 1).cpu().numpy())
            top += len(band)
            if len(band):
                yield fetched(band[..., :3], as_bytes=as_bytes)
        self.tile_retries += spent[0]
        self.fp32_fallbacks += spent[1]

    def _with_scores(self, prepared: Any, grid: Grid) -> Tensor:
        """As `_rendered`, with the scores of the branches behind the colours: (1, rows, W, 3 + n)."""
        decoder = self.network.decoder
        assert isinstance(decoder, LIA)
        rendered = decoder.render_chosen(prepared, grid)
        assert rendered.scores is not None
        return torch.cat([rendered.colours.float(), rendered.scores.float()], dim=1).permute(0, 2, 3, 1)

    @property
    def _multiple(self) -> int:
        return math.lcm(self.network.encoder.multiple_of, self.generator.multiple_of)

    def _latent(self, source: Source, seed: int, how: Sampling, report: Report | None) -> Latent:
        encoder, generator = self.network.encoder, self.generator
        lr = self._pixels(source)
        self.canvas_tile = None
        if self.branch is not None and "perc" not in BRANCHES[self.branch]:  # it will not be looked at
            unseen = torch.zeros(1, encoder.latent_channels, *lr.size, device=self.device)
            return Latent(unseen, lr.inside, seed, how)
        features = self._features(partial(generator.condition, encoder), lr, live=generator.condition_live)
        condition = parked(features.whole(), self.device, self.precision)

        def beside(boxes: Sequence[Box]) -> Tensor:
            return torch.cat([condition[(..., *box.slices)] for box in boxes]).to(self.device)

        values, retries, fallbacks = self.sampled(beside, lr.size, seed, how, report)
        retries += features.tile_retries
        fallbacks += features.fp32_fallbacks
        return Latent(values, lr.inside, seed, how, retries, fallbacks)


def _extended(source: Source, how: Sampling) -> Source:
    return Extended(source, how.window) if how.window > 1 else source


def _part(report: Report | None, start: float, length: float) -> Report | None:
    if report is None:
        return None
    return lambda share: report(SAMPLING_SHARE * (start + length * share))
