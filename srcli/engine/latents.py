"""Pictures to latents and back in tiles, without the changes of tone that tiles have by themselves.

An auto-encoder normalises groups of channels by the mean and deviation of the whole picture; run on a tile, it takes
those of the tile, and neighbours differ. So all tiles are run twice: first to learn the statistics, each layer's pooled
over all tiles, then with these in the place of the tile's own. Deeper layers' statistics were taken after shallower
layers that still used a tile's own, which is why a further pass changes little; tests and `docs/lgcaa.md` say how much
remains. What attention in the middle of the network sees is a tile either way.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain

import torch
from torch import Tensor, nn

from srcli.engine.diffusion import Tiles, plan_tiles
from srcli.geometry import Box, Size
from srcli.models.cosines import LatentDecoder

PASSES = 1  # over all tiles, to learn statistics, before the one that counts


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
        return decoder.encode(picture[(..., *_times(box, factor).slices)].to(_device(decoder)))

    return _tiled(one, decoder, tiles, decoder.channels, picture.device, passes)


def decode(
    decoder: LatentDecoder, latent: Tensor, side: int | None, overlap: int, *, passes: int = PASSES
) -> Tensor:
    """The picture (1, 3, H, W) float32 of latents (1, C, h, w), not clamped; see `encode`."""
    factor = decoder.factor
    size = Size(*(length * factor for length in latent.shape[-2:]))
    tiles = plan_tiles(size, None if side is None else side * factor, overlap * factor, factor)

    def one(box: Box) -> Tensor:
        corners = (value // factor for value in (box.top, box.left, box.bottom, box.right))
        return decoder.decode(latent[(..., *Box(*corners).slices)].to(_device(decoder)))

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


def _times(box: Box, factor: int) -> Box:
    return Box(box.top * factor, box.left * factor, box.bottom * factor, box.right * factor)


def _device(decoder: LatentDecoder) -> torch.device:
    return next(chain(decoder.parameters(), decoder.buffers())).device
