"""CanvasUpscaler: the engine of diffusion models whose canvas is the output itself (IDM).

Features of the LR image are made once; every size of output is sampled anew, and held whole while it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from srcli.config.sampling import Sampling
from srcli.engine.device import arithmetic
from srcli.engine.diffusion_upscaler import SampledUpscaler
from srcli.engine.features import Pixels, Source, mirrored
from srcli.engine.noise import checked_seed
from srcli.engine.upscaler import Report, fetched
from srcli.errors import ResourceError
from srcli.geometry import Box, Grid, Size
from srcli.models.sr import OutputGenerator
from srcli.resources import free_memory

STRIP = 256  # rows that are handed out at once
HELD = 6  # canvases that a sampler holds at once: the picture, its noise, and predictions of earlier steps


class CanvasUpscaler(SampledUpscaler):
    """A `SampledUpscaler` for an encoder, a decoder that is not asked, and an `OutputGenerator`."""

    canvas_pixels = "output pixels"

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
    ) -> Iterator[np.ndarray]:
        """Finished rows of the enlarged image, from top to bottom; see `Upscaler.rows`.

        `sampling` says how, if not as `self.sampling` says. There is no temperature.

        Raises:
            UsageError: a temperature, or no seed.
            ResourceError: the output is too large to be held.
        """
        if temperature is not None:
            self._require_generative()
        how = sampling or self.sampling
        return self._painted(source, target, checked_seed(seed), how, report, as_bytes)

    def _painted(
        self,
        source: Source,
        target: Size,
        seed: int,
        how: Sampling,
        report: Report | None,
        as_bytes: bool,
    ) -> Iterator[np.ndarray]:
        generator = self.generator
        assert isinstance(generator, OutputGenerator)
        multiple = generator.multiple_of
        size = Size(*(-(-side // multiple) * multiple for side in target))
        self._check_room(size)
        lr = self._pixels(source)
        features = self._features(
            partial(generator.condition, self.network.encoder), lr, generator.condition_live
        )
        feat = features.rows(0, lr.inside.h)
        total = torch.zeros(1, 3, *target, device=self.device)
        self.fp32_fallbacks, self.tile_retries = features.fp32_fallbacks, features.tile_retries
        seeds = how.seeds(seed)
        relative = bool(generator.relative)
        enlarged = self._enlarged(lr, size, target) if how.fidelity or relative else None
        start = torch.zeros_like(enlarged) if relative and enlarged is not None else enlarged
        for n, each in enumerate(seeds):
            total += self._canvas(feat, lr, size, target, each, how, _part(report, n, len(seeds)), start)
        mean = total / len(seeds)
        if relative and enlarged is not None:
            mean = mean + enlarged[..., : target.h, : target.w]
        picture = (mean * lr.std + lr.mean)[0].permute(1, 2, 0)
        for top in range(0, target.h, STRIP):
            yield fetched(picture[top : top + STRIP], as_bytes=as_bytes)

    def _canvas(
        self,
        feat: Tensor,
        lr: Pixels,
        size: Size,
        target: Size,
        seed: int,
        how: Sampling,
        report: Report | None,
        start: Tensor | None,
    ) -> Tensor:
        """One sample (1, 3, H, W), normalised."""

        def beside(boxes: Sequence[Box]) -> tuple[Tensor, ...]:
            with arithmetic(self.device, self.precision):
                parts = [self._spread(feat, lr.inside, target, box) for box in boxes]
                return tuple(torch.cat(leaves) for leaves in zip(*parts, strict=True))

        canvas, retries, fallbacks = self.sampled(beside, size, seed, how, report, start)
        self.tile_retries += retries
        self.fp32_fallbacks += fallbacks
        return canvas[..., : target.h, : target.w]

    def _enlarged(self, lr: Pixels, size: Size, target: Size) -> Tensor:
        """The picture at the size of the canvas by bicubic interpolation, normalised (1, 3, H, W)."""
        picture = lr.box(Box(0, 0, *lr.inside)).to(self.device, torch.float32)
        picture = F.interpolate(picture, size=list(target), mode="bicubic")
        return F.pad(picture, (0, size.w - target.w, 0, size.h - target.h), mode="replicate")

    def _spread(self, feat: Tensor, lr: Size, target: Size, box: Box) -> tuple[Tensor, ...]:
        """The condition of a tile; where that reaches beyond the output, the condition goes on mirrored."""
        inner = Box(box.top, box.left, min(box.bottom, target.h), min(box.right, target.w))
        grid = Grid.of(lr, target, inner)
        (top, bottom), (left, right) = (axis.source(self.network.decoder.halo) for axis in grid)
        grid = Grid.of(lr, target, inner, (top, left))
        generator = self.generator
        assert isinstance(generator, OutputGenerator)
        parts = generator.spread(feat[..., top:bottom, left:right], grid)
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


def _part(report: Report | None, n: int, count: int) -> Report | None:
    return None if report is None else lambda share: report((n + share) / count)
