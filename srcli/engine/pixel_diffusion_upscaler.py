"""PixelDiffusionUpscaler: the engine of diffusion models whose sample is the output itself (IDM).

Features of the LR image are made once; every size of output is sampled anew, and held whole while it is.
"""

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from srcli.config.sampling import Sampling
from srcli.engine.device import autocast, to_numpy
from srcli.engine.diffusion_upscaler import DiffusionUpscaler
from srcli.engine.normalised_image import NormalisedImage
from srcli.engine.request import RenderRequest, RenderStats, Report, Source, part_of
from srcli.errors import ResourceError
from srcli.geometry import Box, Grid, Size, mirrored
from srcli.models.sr import OutputGenerator
from srcli.resources import free_memory

STRIP = 256  # rows that are handed out at once
HELD = 6  # samples that a sampler holds at once: the picture, its noise, and predictions of earlier steps


class PixelDiffusionUpscaler(DiffusionUpscaler):
    """A `DiffusionUpscaler` for an encoder, a decoder that is not asked, and an `OutputGenerator`."""

    sample_pixels = "output pixels"

    def _rows(
        self, source: Source, target: Size, request: RenderRequest, stats: RenderStats
    ) -> Iterator[np.ndarray]:
        how, report = request.sampling or self.sampling, request.report
        generator = self.generator
        assert isinstance(generator, OutputGenerator)
        multiple = generator.multiple_of
        size = Size(*(-(-side // multiple) * multiple for side in target))
        self._check_room(size)
        lr = self._pixels(source)
        features = self._features(
            partial(generator.condition, self.network.encoder), lr, stats, generator.condition_live
        )
        feat = features.rows(0, lr.inside.h)
        total = torch.zeros(1, 3, *target, device=self.device)
        seeds = how.seeds(request.seed)
        relative = bool(generator.relative)
        enlarged = self._enlarged(lr, size, target) if how.fidelity or relative else None
        start = torch.zeros_like(enlarged) if relative and enlarged is not None else enlarged
        for n, each in enumerate(seeds):
            part = part_of(report, n / len(seeds), (n + 1) / len(seeds))
            total += self._one_sample(feat, lr, size, target, each, how, part, stats, start)
        mean = total / len(seeds)
        if relative and enlarged is not None:
            mean = mean + enlarged[..., : target.h, : target.w]
        picture = (mean * lr.std + lr.mean)[0].permute(1, 2, 0)
        for top in range(0, target.h, STRIP):
            yield to_numpy(picture[top : top + STRIP], as_bytes=request.as_bytes)

    def _one_sample(
        self,
        feat: Tensor,
        lr: NormalisedImage,
        size: Size,
        target: Size,
        seed: int,
        how: Sampling,
        report: Report | None,
        stats: RenderStats,
        start: Tensor | None,
    ) -> Tensor:
        def beside(boxes: Sequence[Box]) -> tuple[Tensor, ...]:
            with autocast(self.device, self.precision):
                parts = [self._spread(feat, lr.inside, target, box) for box in boxes]
                return tuple(torch.cat(leaves) for leaves in zip(*parts, strict=True))

        sample = self.sampled(beside, size, seed, how, report, stats, start)
        return sample[..., : target.h, : target.w]

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
