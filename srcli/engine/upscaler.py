"""Upscaler: a preset's network, ready to enlarge images of any size to any size.

    sr = Upscaler.from_preset().upscale(lr, 4.3)      # (1, 3, h, w) in [0, 1] -> (1, 3, H, W) in [0, 1]

For files use `upscale_rows`, which reads the image in strips and gives finished rows from top to bottom, so that
memory does not grow with the picture. `affine` gives what all temperatures of a generative network share.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from srcli.config.presets import DEFAULT_PRESET, Preset, successor
from srcli.config.sampling import Sampling
from srcli.engine.chain import check_size, cleaned
from srcli.engine.device import (
    Precision,
    autocast,
    choose_device,
    choose_precision,
    is_finite,
    to_numpy,
    with_fallback,
)
from srcli.engine.features import Features
from srcli.engine.hub import OnHub
from srcli.engine.noise import checked_seed, patch_noise
from srcli.engine.normalised_image import NormalisedImage, TensorSource, picture_of
from srcli.engine.request import PLAIN, Rendered, RenderRequest, RenderStats, Report, Source
from srcli.engine.tiling import Band, bands, checked_tile, overlapping_rows
from srcli.errors import ModelError, UsageError
from srcli.geometry import Box, Grid, Size, output_size, tile_shape
from srcli.image.read import Image, read_image
from srcli.models.layers import channels_last, grid_coord
from srcli.models.limiter import set_limiter
from srcli.models.sr import Frame, GenerativeDecoder, ImplicitSR, pixel_cell
from srcli.resources import free_memory

GPU_TILE_SHARE = 0.5  # of the free memory; the rest is for features, bands and the allocator
LIVE_TENSORS = 4  # feature-sized tensors that a convolutional encoder holds at once, unless it says otherwise
INPUT_BYTES = 5 * 3 * 4  # per LR pixel: rows read, cut out, moved, normalised and laid out anew, in float32

Render = Callable[[Any, Grid], Tensor]  # what was prepared, and where -> see `Upscaler.rendered`


def _target(known: Size, scale: float | tuple[float, float] | None, size: tuple[int, int] | None) -> Size:
    if (scale is None) == (size is None):
        raise ValueError("give either scale or size")
    return Size(*size) if size is not None else output_size(known, scale)  # type: ignore[arg-type]


class Upscaler(OnHub):
    """A network with its preset, on a device."""

    sampling: Sampling | None = None  # how a diffusion model samples, where nothing else is asked for
    selects: bool = False  # whether every output pixel is the answer of one of several `branches`
    branches: tuple[str, ...] = ()
    samples_pixels: bool = False  # whether pixels come from a sampler, which transparency should not
    before: Upscaler | None = None  # a network that keeps the size, which a picture goes through first

    def __init__(
        self,
        network: ImplicitSR,
        preset: Preset,
        *,
        device: str = "auto",
        precision: str = "auto",
        tile: str | int = "auto",
        weights_sha256: str | None = None,
        limit: bool | None = None,
    ) -> None:
        self.device, self.device_reason = choose_device(device)
        loss = preset.engine.cpu_bf16
        harmless = loss is not None and loss.harmless
        self.precision: Precision = choose_precision(precision, self.device, cpu_bf16=harmless)
        self.tile = checked_tile(tile)
        self.preset = preset
        self.network = channels_last(network.to(self.device).eval())
        self.weights_sha256 = weights_sha256
        self.limits = preset.engine.limit if limit is None else limit
        set_limiter(network, preset, on=self.limits)

    @classmethod
    def from_preset(
        cls,
        preset: str | Path = DEFAULT_PRESET,
        *,
        device: str = "auto",
        precision: str = "auto",
        tile: str | int = "auto",
    ) -> Upscaler:
        """The network of a preset's name, a preset file or a safetensors file, with its weights.

        Raises PresetError (an unknown name), ModelError (weights missing, refused, damaged or of another network),
        ResourceError (no such device).
        """
        from srcli.engine.load import load_upscaler

        if new := successor(preset):
            warnings.warn(f"'{preset}' has been replaced; its successor '{new}' is used", stacklevel=2)
        return load_upscaler(new or preset, device=device, precision=precision, tile=tile)

    @property
    def generative(self) -> bool:
        """Whether the network gives a distribution, and so takes a temperature."""
        return isinstance(self.network.decoder, GenerativeDecoder)

    @property
    def halo(self) -> int:
        """LR pixels of margin around a tile."""
        encoder, override = self.network.encoder, self.preset.engine.halo
        practical = encoder.halo if encoder.practical_halo is None else encoder.practical_halo
        return practical if override is None else override

    def upscale(
        self,
        picture: Any,
        scale: float | tuple[float, float] | None = None,
        *,
        size: tuple[int, int] | None = None,
        temperature: float | None = None,
        seed: int = 0,
    ) -> Any:
        """Enlarge a picture by `scale`, or to `size` (H, W); the result has the form of what is given.

        Tensors (n, 3, h, w) in [0, 1] give float32 on the CPU; one that requires a gradient is enlarged whole, on its
        device, and the result has one. For paths, PIL images and arrays see `srcli.engine.normalised_image.picture_of`.
        Raises ValueError, TypeError (neither or both of scale and size, or a picture of another form), UsageError (see
        `upscale_rows`; a gradient of a network that draws its pixels), SrcliError (a file that cannot be read).
        """
        lr, restore = picture_of(picture)
        target = _target(Size(*lr.shape[-2:]), scale, size)
        if lr.requires_grad and torch.is_grad_enabled():
            return restore(self._differentiable(lr, target, temperature))
        request, srs = RenderRequest(temperature=temperature, seed=seed), []
        for one in lr.split(1):
            rows = self.upscale_rows(TensorSource(one), target, request).rows
            srs.append(torch.from_numpy(np.concatenate(list(rows))).permute(2, 0, 1))
        return restore(torch.stack(srs).clamp(0, 1))

    def stream(
        self,
        picture: str | Path | Image | Source,
        scale: float | tuple[float, float] | None = None,
        *,
        size: tuple[int, int] | None = None,
        temperature: float | None = None,
        seed: int = 0,
    ) -> Iterator[np.ndarray]:
        """As `upscale`, but finished rows from top to bottom, for results larger than memory; without transparency.

        Yields float32 (rows, W, 3) in [0, 1], sRGB, of as many rows as are done at once; `write_image` takes them.
        """
        source = read_image(picture) if isinstance(picture, (str, Path)) else picture
        target = _target(Size(*source.size), scale, size)
        rendered = self.upscale_rows(source, target, RenderRequest(temperature=temperature, seed=seed))
        return (np.clip(rows, 0, 1) for rows in rendered.rows)

    def _differentiable(self, lr: Tensor, target: Size, temperature: float | None) -> Tensor:
        if temperature or self.samples_pixels:
            raise UsageError(
                f"'{self.preset.name}' gives gradients at temperature 0 of a network without a sampler."
            )
        known = Size(*lr.shape[-2:])
        check_size(self, known, target)
        if self.before is not None:
            lr = self.before._differentiable(lr, known, None)
        mean, std = (torch.tensor(v, device=self.device).view(1, 3, 1, 1) for v in self.preset.mean_std)
        x = (lr.to(self.device) - mean) / std
        cell = pixel_cell(known, target, cell_clip=self.preset.engine.cell_clip).to(x).expand(len(x), -1)
        frame, network = Frame.whole(x, cell, target), self.network
        prepared = network.decoder.prepare(network.encoder.for_scale(frame.scale)(x), x, frame)
        # `query` is what training differentiates; `render` works in place.
        colours = network.decoder.query(
            prepared, grid_coord(Grid.of(known, target), x).expand(len(x), -1, -1)
        )
        sr = colours.transpose(1, 2).unflatten(2, tuple(target)) * std + mean
        return sr.clamp(0, 1).to(lr.device)

    def upscale_rows(self, source: Source, target: Size, request: RenderRequest = PLAIN) -> Rendered:
        """Enlarge an image row by row. UsageError for a request that this network cannot meet."""
        self._check(request)
        check_size(self, Size(*source.size), target)
        stats = RenderStats()
        return Rendered(self._noted(source, target, request, stats), stats)

    def _check(self, request: RenderRequest) -> None:
        temperature = request.temperature
        if temperature is not None:
            self._require_generative()
            if not (math.isfinite(temperature) and temperature >= 0):
                raise UsageError(f"A temperature is a number from 0 on, got {temperature}.")
        if temperature or self.samples_pixels:
            checked_seed(request.seed)
        if request.scores is not None and not self.selects:
            raise UsageError(f"'{self.preset.name}' chooses no branch for each pixel.")
        if (request.sampling or request.latent) and not self.samples_pixels:
            raise UsageError(f"'{self.preset.name}' is no diffusion model.")

    def _noted(
        self, source: Source, target: Size, request: RenderRequest, stats: RenderStats
    ) -> Iterator[np.ndarray]:
        yield from self._rows(source, target, request, stats)
        stats.notes += self._notes(request, stats)

    def _rows(
        self, source: Source, target: Size, request: RenderRequest, stats: RenderStats
    ) -> Iterator[np.ndarray]:
        temperature, where = request.temperature, request.temperature_map
        render = partial(self.rendered, seed=request.seed if temperature else None)
        top = 0
        for band in self._bands(source, target, render, request.report, stats):
            if temperature and where is not None:
                mean, direction = to_numpy(band)
                factor = where.rows(source, target, top, top + len(mean)) * np.float32(temperature)
                yield mean + factor[..., None] * direction
            else:
                colours = band[0] + temperature * band[1] if temperature else band[0]
                yield to_numpy(colours, as_bytes=request.as_bytes)
            top += band.shape[1]

    def _notes(self, request: RenderRequest, stats: RenderStats) -> list[str]:
        notes = []
        encoder, decoder = self.network.encoder, self.network.decoder
        exact = encoder.exact and self.halo >= encoder.halo
        if stats.tiles > 1 and decoder.tiling is None and not exact:
            notes.append(
                f"tiles read {self.halo} LR pixels of context; results differ slightly from --tile none"
            )
        if decoder.note:
            notes.append(decoder.note)
        if stats.tile_retries:
            notes.append(f"memory ran out {stats.tile_retries} times; smaller tiles were used")
        return notes

    def affine(
        self, source: Source, target: Size, *, seed: int = 0, report: Report | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """What all temperatures of one sample share: its colours are mean + temperature * direction.

        Yields both of finished rows, float32 (rows, W, 3). Raises UsageError (not generative, or no seed).
        """
        self._require_generative()
        render = partial(self.rendered, seed=checked_seed(seed))
        parts = self._bands(source, target, render, report, RenderStats())
        return ((mean, direction) for mean, direction in (to_numpy(band) for band in parts))

    def _require_generative(self) -> None:
        if not self.generative:
            name = self.preset.name
            raise UsageError(f"'{name}' takes no temperature: it gives one answer, not a distribution.")

    def _bands(
        self,
        source: Source,
        target: Size,
        render: Render,
        report: Report | None,
        stats: RenderStats,
        latent: Tensor | None = None,
    ) -> Iterator[Tensor]:
        """Finished rows on the device, (parts, rows, W, 3 or more) as `render` gives them, colours around [0, 1]."""
        decoder = self.network.decoder
        lr = self._pixels(source)
        mean, std = lr.mean.flatten(), lr.std.flatten()
        if decoder.tiling is not None:
            yield from (
                rows[None] for rows in overlapping_rows(self, lr, target, decoder.tiling, report, stats)
            )
            return
        scale = max(target.h / lr.inside.h, target.w / lr.inside.w)
        encoder = self.network.encoder.for_scale(scale)
        features = self._features(encoder, lr if latent is None else lr.beside(latent), stats)
        cell = pixel_cell(lr.inside, target, cell_clip=self.preset.engine.cell_clip).to(self.device)
        whole = None if decoder.local else self._prepare_whole(features, lr, target, cell)
        patch = decoder.patch if isinstance(decoder, GenerativeDecoder) else 1
        for band in bands(lr.inside, target, decoder.halo, patch):
            if whole is None:
                parts = self._band(features, lr, target, cell, band, render)
            else:
                grid = Grid.of(lr.inside, target, Box(band.top, 0, band.bottom, target.w))
                with autocast(self.device, self.precision):
                    parts = self.finished(whole, grid, render)
            scaled = parts[..., :3] * std
            scaled[0] += mean
            yield scaled if parts.shape[-1] == 3 else torch.cat([scaled, parts[..., 3:]], dim=-1)
            if report:
                report(band.bottom / target.h)

    def _pixels(self, source: Source) -> NormalisedImage:
        encoder = self.network.encoder
        mean, std = (torch.tensor(v, device=self.device) for v in self.preset.mean_std)
        if self.before is not None:
            source = cleaned(self.before, source)
        return NormalisedImage(source, mean, std, self._multiple, repeat_edge=encoder.repeat_edge)

    @property
    def _multiple(self) -> int:
        return self.network.encoder.multiple_of

    @property
    def _tile_multiple(self) -> int:
        return math.lcm(self._multiple, self.network.encoder.tile_multiple)

    def _features(
        self, encoder: Callable[[Tensor], Tensor], lr: NormalisedImage, stats: RenderStats, live: int = 0
    ) -> Features:
        tile = stats.tile = self.tile_for(lr.size, live)
        stats.tiles = -(-lr.size.h // tile.h) * -(-lr.size.w // tile.w)
        return Features(
            encoder,
            lr,
            tile,
            stats,
            halo=self.halo,
            multiple=self._tile_multiple,
            device=self.device,
            precision=self.precision,
        )

    def tile_for(self, size: Size, least: int = 0) -> Size:
        """Sides, without margin, of the tiles of an LR image; `least` are numbers held per LR pixel at least."""
        encoder = self.network.encoder
        item = 4 if self.precision == "fp32" else 2
        live = max(encoder.live_channels or LIVE_TENSORS * encoder.out_dim, least)
        free, cost = free_memory(self.device), self.preset.cost
        on_gpu, stated = self.device.type != "cpu", self.preset.engine.tile_memory
        most = encoder.cpu_tile_bytes if stated is None else stated * 1_000_000
        return tile_shape(
            size,
            self.halo,
            self._tile_multiple,
            tile=self.tile,
            bytes_per_pixel=max(live * item + INPUT_BYTES, math.ceil(cost.memory[1] if cost.memory else 0)),
            strip_bytes=4 * encoder.out_dim,
            free=int(free * GPU_TILE_SHARE) if on_gpu else min(most, free // 4),
        )

    def _band(
        self, features: Features, lr: NormalisedImage, target: Size, cell: Tensor, band: Band, render: Render
    ) -> Tensor:
        feat = features.rows(band.lr_top, band.lr_bottom)
        x = lr.box(Box(band.lr_top, 0, band.lr_bottom, lr.inside.w))
        blocks = []
        for block in band.blocks:
            box = Box(band.lr_top, block.lr_left, band.lr_bottom, block.lr_right)
            frame = Frame(lr.inside, box, cell, target)
            grid = Grid.of(
                lr.inside, target, Box(band.top, block.left, band.bottom, block.right), (box.top, box.left)
            )
            columns = slice(block.lr_left, block.lr_right)
            blocks.append(self._decode(feat[..., columns], x[..., columns], frame, grid, render))
        return blocks[0] if len(blocks) == 1 else torch.cat(blocks, dim=2)

    def _prepare_whole(self, features: Features, lr: NormalisedImage, target: Size, cell: Tensor) -> Any:
        feat = features.rows(0, lr.inside.h)
        box = Box(0, 0, *lr.inside)
        with autocast(self.device, self.precision):
            return self.network.decoder.prepare(feat, lr.box(box), Frame(lr.inside, box, cell, target))

    def finished(self, prepared: Any, grid: Grid, render: Render) -> Tensor:
        colours = render(prepared, grid)
        if not is_finite(colours):
            raise ModelError(
                f"The decoder gives NaN or infinity in {self.precision}.", hint="Try --precision fp32."
            )
        return colours

    def rendered(self, prepared: Any, grid: Grid, seed: int | None) -> Tensor:
        """Normalised colours (1, rows, W, 3) float32 of a grid; with a seed mean and direction, (2, rows, W, 3)."""
        decoder = self.network.decoder
        if seed is None:
            parts = [decoder.render(prepared, grid)]
        else:
            assert isinstance(decoder, GenerativeDecoder)
            noise = patch_noise(seed, grid.patches(decoder.patch), decoder.noise_channels)
            parts = list(decoder.render_affine(prepared, grid, torch.from_numpy(noise)[None].to(self.device)))
        return torch.cat(parts).permute(0, 2, 3, 1).float()

    def _decode(self, feat: Tensor, lr: Tensor, frame: Frame, grid: Grid, render: Render) -> Tensor:
        """What `render` gives, from features; computed again in float32 where half precision fails."""

        def compute(precision: Precision) -> Tensor:
            kept = feat.float() if precision == "fp32" else feat
            return render(self.network.decoder.prepare(kept, lr, frame), grid)

        colours = with_fallback(compute, self.device, self.precision, what="that part is")
        if not is_finite(colours):
            raise ModelError("The decoder gives NaN or infinity in fp32: the weights are damaged.")
        return colours
