"""Any network for one factor that the package spandrel knows, as an encoder that gives its own picture.

What spandrel says of a network decides how it is cut: multiples and least sides, whether it may be tiled. How far it looks
is found out: pixels that are no number (NaN) spread to whatever depends on them.
"""

import math
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srcli.models.layers import no_autocast
from srcli.models.sr import Gives, NativeEncoder

GRID = 64  # LR pixels at whose multiples tiles begin: windows of 8, 16, 32 and 64 stay where they are
LARGE_TILE = 2 << 30  # bytes, of a network that looks further than a margin
WHOLE = 1 << 40  # the same of one that had better not be cut at all, as far as there is memory
PROBE = 16  # LR rows of the strips that are tried
HELD = 4  # of the largest tensor, how many are held at once


class Inner(NamedTuple):
    """Where a network's features are: the input of `layer`; None stands for its picture."""

    layer: str | None
    channels: int
    spread: float = 1.0  # deviation of the features of a picture with the spectrum of photographs


def _like_a_photograph() -> Tensor:
    """A strip (1, 3, PROBE, GRID) of noise whose octaves are equally strong, always the same."""
    noise = torch.Generator().manual_seed(0)
    total = torch.full((1, 3, PROBE, GRID), 0.5)
    for step in (1, 2, 4, 8):
        octave = torch.rand(1, 1, PROBE // step, GRID // step, generator=noise) - 0.5
        total += 0.2 * F.interpolate(octave, size=(PROBE, GRID), mode="bilinear") * step**0.5
    return total.clamp(0, 1)


@torch.no_grad()
def inner_features(descriptor: Any) -> Inner:
    """What enlarges a network's features: the convolution before a pixel shuffle, or the first layer with a larger result."""
    calls: list[tuple[str, Tensor, Tensor]] = []

    def seen(name: str, _layer: nn.Module, given: Any, result: Any) -> None:
        if given and isinstance(given[0], Tensor) and isinstance(result, Tensor) and result.ndim == 4:
            calls.append((name, given[0], result))

    leaves = {name: layer for name, layer in descriptor.model.named_modules() if not any(layer.children())}
    hooks = [layer.register_forward_hook(partial(seen, name)) for name, layer in leaves.items()]
    picture = _like_a_photograph()
    try:
        descriptor(picture)
    finally:
        for hook in hooks:
            hook.remove()
    at = next((i for i, (_, _, result) in enumerate(calls) if result.shape[-1] > GRID), None)
    if at is not None:
        shuffles, after_one = isinstance(leaves[calls[at][0]], nn.PixelShuffle), at > 0
        if shuffles and after_one and isinstance(leaves[calls[at - 1][0]], nn.Conv2d):
            at -= 1
        name, feat, _ = calls[at]
        if feat.shape[2:] == picture.shape[2:] and [call[0] for call in calls].count(name) == 1:
            return Inner(name, feat.shape[1], max(float(feat.std()), 1e-6))
    return Inner(None, 3 * descriptor.scale**2)


class FixedScale(NativeEncoder):
    """A network of `spandrel.ImageModelDescriptor`, which has three channels of [0, 1] in and out.

    `architecture` and `factor` are for people: both are found in the weights, which `descriptor` has already; `file` is
    where they come from in training. The picture lies in [0, 1]. Features are what it is made of: the input of the layer
    that enlarges, times `gain`, or the picture itself where no such layer is found. Tiles read 64 LR pixels around them
    where nothing beyond has an influence, else 128.
    """

    repeat_edge = False

    def __init__(
        self,
        *,
        architecture: str = "",
        factor: int = 0,
        file: str = "",
        gain: float = 1.0,
        gives: Gives = "picture",
        descriptor: Any = None,
    ) -> None:
        if descriptor is None:
            raise ValueError(
                "its network is known by a weights file alone: -m FILE, or srcli train --from FILE"
            )
        inner = Inner(None, 3 * descriptor.scale**2) if gives == "picture" else inner_features(descriptor)
        super().__init__(descriptor.scale, inner.channels, gives)
        self.inner, self.gain = inner.layer, gain
        self.network: nn.Module = descriptor.model.eval()
        self.descriptor = descriptor
        self.tile_multiple = step = math.lcm(GRID, descriptor.size_requirements.multiple_of)
        self.live_channels = self._held(3 * step)
        self.exact = self._is_local(step)
        self.halo = step if self.exact else 2 * step
        if descriptor.tiling.name == "INTERNAL":
            self.tile_multiple = WHOLE  # one tile, whatever is asked for
        if descriptor.tiling.name != "SUPPORTED":
            self.cpu_tile_bytes = WHOLE
        elif not self.exact:
            self.cpu_tile_bytes = LARGE_TILE

    def forward(self, lr: Tensor) -> Tensor:
        """(B, 3, h, w) in [0, 1] -> (B, out_dim, h, w), all of it from one call of the network."""
        if self.gives == "picture":
            return self.picture(lr, lr)
        seen: list[Tensor] = []
        hook = self._layer().register_forward_pre_hook(lambda _layer, given: seen.append(given[0]))
        try:
            picture = self.picture(lr, lr)
        finally:
            hook.remove()
        feat = (
            picture if self.inner is None else seen[0][..., : lr.shape[2], : lr.shape[3]].float() * self.gain
        )
        return feat if self.gives == "features" else torch.cat([feat, picture], dim=1)

    def _layer(self) -> nn.Module:
        return self.network if self.inner is None else self.network.get_submodule(self.inner)

    def picture(self, feat: Tensor, lr: Tensor) -> Tensor:
        kind, known = lr.device.type, self.descriptor
        able = {torch.float16: known.supports_half, torch.bfloat16: known.supports_bfloat16}
        if torch.is_autocast_enabled(kind) and not able.get(torch.get_autocast_dtype(kind), False):
            with no_autocast(lr):
                return self._called(lr)
        return self._called(lr)

    def _called(self, lr: Tensor) -> Tensor:
        # Calling it switches gradients off; what it wraps does not.
        call = type(self.descriptor).__call__
        picture: Tensor = getattr(call, "__wrapped__", call)(self.descriptor, lr)
        return F.pixel_unshuffle(picture.float(), self.factor)

    @torch.no_grad()
    def _held(self, width: int) -> int:
        """Numbers held at once per LR pixel, by the layers' results for a strip. ValueError for another picture's size."""
        sizes: list[int] = []

        def seen(_layer: nn.Module, _given: Any, result: Any) -> None:
            sizes.extend([result.numel()] if isinstance(result, Tensor) else [])

        hooks = [layer.register_forward_hook(seen) for layer in self.network.modules()]
        try:
            shape = self(torch.rand(1, 3, PROBE, width)).shape
        finally:
            for hook in hooks:
                hook.remove()
        if shape != (1, self.out_dim, PROBE, width):
            raise ValueError(f"its picture of {PROBE}x{width} pixels is not {self.factor} times as large")
        return HELD * max(sizes) // (PROBE * width)

    @torch.no_grad()
    def _is_local(self, step: int) -> bool:
        """Whether a strip's third of three parts has no influence on the first, and the first none on the third."""
        first, third = slice(None, step), slice(2 * step, None)
        for unknown, other in ((first, third), (third, first)):
            lr = torch.full((1, 3, PROBE, 3 * step), 0.5)
            lr[..., unknown] = torch.nan
            if not self(lr)[..., other].isfinite().all():
                return False
        return True
