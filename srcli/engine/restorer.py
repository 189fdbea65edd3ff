"""Runs a latent restorer: enlarge by bicubic interpolation, then restore at that size.

The enlarged picture's latents get the noise of the first step, and are denoised step by step in overlapping tiles of
one size; all tiles share the noise of one sample, and their predictions are blended at every step. Before anything is
computed, memory is planned for every stage, and tiles are made as small as it takes.

The auto-encoder, too, runs in tiles, without the changes of tone that tiles have by themselves: it normalises groups of
channels by the mean and deviation of the whole picture; run on a tile, it takes those of the tile, and neighbours differ.
So all tiles are run twice: first to learn the statistics, each layer's pooled over all tiles, then with these in the
place of the tile's own. Deeper layers' statistics were taken after shallower layers that still used a tile's own, which
is why a further pass changes little; tests and `docs/lgcaa.md` say how much remains. What attention in the middle of
the network sees is a tile either way.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srcli.config.sampling import Sampling
from srcli.engine.device import autocast, is_out_of_memory
from srcli.engine.diffusion import SMALLEST_TILE, Plan, Predict, Tiles, plan_tiles
from srcli.engine.diffusion_upscaler import STRIP, DiffusionUpscaler
from srcli.engine.memory_plan import MemoryPlan, parameter_bytes, plan_memory
from srcli.engine.request import RenderRequest, RenderStats, Report, Source, part_of
from srcli.errors import ResourceError
from srcli.geometry import Box, Size
from srcli.models.cosines import LatentDecoder
from srcli.models.latent_restorer import Condition, LatentRestorer
from srcli.models.noise_schedule import make_scheduler
from srcli.resources import free_memory

PASSES = 1  # over all tiles of the auto-encoder, to learn statistics, before the one that counts


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
        enlarged = self.enlarged(source, target)

        def draw(seed: int, report: Report | None) -> Tensor:
            restored = self._restored(enlarged, seed, how, part_of(report, 0, 0.95), stats)
            return restored[..., : target.h, : target.w].cpu()

        sr = (self.mean(draw, request) * 0.5 + 0.5)[0].permute(1, 2, 0).numpy()
        for top in range(0, target.h, STRIP):
            yield sr[top : top + STRIP]
        if request.report:
            request.report(1.0)

    def planned(self, target: Size, how: Sampling | None = None) -> MemoryPlan:
        """Tiles, memory and arithmetic for an output of `target` in the memory that is free now, or ResourceError."""
        how, free = how or self.sampling, free_memory(self.device) + parameter_bytes(self.network)
        schedule = make_scheduler(self.diffusion, how)
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
        start = fitting(lambda n: encode(decoder, picture, n, min(overlap, (n or 0) // 2)))
        plan = Plan(
            plan_tiles(size, planned.tile, overlap, generator.multiple_of),
            overlap=overlap,
            multiple_of=generator.multiple_of,
        )
        with autocast(self.device, self.precision):
            predict = self._predict(enlarged, start)
            found, used = self.denoised(predict, plan, seed, how, report, stats, start.to(self.device))
        stats.tile, stats.tiles = used.tiles.side, len(used.tiles.boxes)
        return fitting(lambda n: decode(decoder, found.cpu(), n, min(overlap, (n or 0) // 2)))

    def _predict(self, enlarged: Enlarged, latent: Tensor) -> Predict:
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


class Statistics:
    """Means and variances of the groups of every GroupNorm of a network, pooled over what it was run on."""

    def __init__(self, network: nn.Module) -> None:
        self.norms = [module for module in network.modules() if isinstance(module, nn.GroupNorm)]
        self.sums: dict[nn.GroupNorm, Tensor] = {}
        self.known: dict[nn.GroupNorm, tuple[Tensor, Tensor]] = {}

    @contextmanager
    def at_work(self, *, learning: bool) -> Iterator[None]:
        """Inside, the known statistics are used, if any; with `learning` those of what is run become known after."""
        hooks = [norm.register_forward_hook(self._learn) for norm in self.norms] if learning else []
        if self.known:
            hooks += [norm.register_forward_hook(self._normalised) for norm in self.norms]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
        if learning:
            pooled = {norm: found[:2] / found[2] for norm, found in self.sums.items()}
            self.known = {norm: (mean, square - mean**2) for norm, (mean, square) in pooled.items()}
            self.sums = {}

    def _learn(self, norm: nn.GroupNorm, args: tuple[Tensor], result: Tensor) -> None:
        x = args[0].float().reshape(len(args[0]), norm.num_groups, -1)
        found = torch.stack([x.mean(-1), x.square().mean(-1), torch.ones_like(x[..., 0])]).sum(1)
        self.sums[norm] = self.sums[norm] + found if norm in self.sums else found

    def _normalised(self, norm: nn.GroupNorm, args: tuple[Tensor], result: Tensor) -> Tensor:
        x = args[0]
        mean, variance = self.known[norm]
        per_group = x.shape[1] // norm.num_groups
        scale = ((variance.clamp(min=0) + norm.eps) ** -0.5).repeat_interleave(per_group) * norm.weight
        shift = norm.bias - mean.repeat_interleave(per_group) * scale
        shape = (1, -1, *[1] * (x.ndim - 2))
        return (x * scale.to(x.dtype).reshape(shape) + shift.to(x.dtype).reshape(shape)).to(result.dtype)


def encode(
    decoder: LatentDecoder, picture: Tensor, side: int | None, overlap: int, *, passes: int = PASSES
) -> Tensor:
    """Latents (1, C, h, w) float32 of a picture (1, 3, H, W) in [-1, 1], both on the picture's device.

    Tiles have `side` latent pixels (None: no tiles) and share `overlap`. `passes`: see the module; 0 leaves every tile
    its own statistics.
    """
    factor = decoder.factor
    size = Size(*(length // factor for length in picture.shape[-2:]))
    tiles = plan_tiles(size, side, overlap)

    def one(box: Box) -> Tensor:
        seen = Box(*(factor * corner for corner in box))
        return decoder.encode(picture[(..., *seen.slices)].to(_device(decoder)))

    return _tiled(one, decoder, tiles, decoder.channels, picture.device, passes)


def decode(
    decoder: LatentDecoder, latent: Tensor, side: int | None, overlap: int, *, passes: int = PASSES
) -> Tensor:
    """The picture (1, 3, H, W) float32 of latents (1, C, h, w), not clamped; see `encode`."""
    factor = decoder.factor
    size = Size(*(length * factor for length in latent.shape[-2:]))
    tiles = plan_tiles(size, None if side is None else side * factor, overlap * factor, factor)

    def one(box: Box) -> Tensor:
        seen = Box(*(corner // factor for corner in box))
        return decoder.decode(latent[(..., *seen.slices)].to(_device(decoder)))

    return _tiled(one, decoder, tiles, 3, latent.device, passes)


def _tiled(
    one: Callable[[Box], Tensor],
    network: nn.Module,
    tiles: Tiles,
    channels: int,
    device: torch.device,
    passes: int,
) -> Tensor:
    if len(tiles.boxes) == 1:
        return one(tiles.boxes[0]).float().to(device)
    statistics = Statistics(network)
    for _ in range(passes):
        with statistics.at_work(learning=True):
            for box in tiles.boxes:
                one(box)
    whole = torch.zeros(1, channels, *tiles.size, device=device)
    with statistics.at_work(learning=False):
        for box, weight in zip(tiles.boxes, tiles.weights, strict=True):
            whole[(..., *box.slices)] += one(box).float().to(device) * weight.to(device)
    return whole


def _device(decoder: LatentDecoder) -> torch.device:
    return next(chain(decoder.parameters(), decoder.buffers())).device
