"""What enlarging a picture would take, from one small run."""

import time
from collections.abc import Iterable
from typing import Any

import torch

from srcli.engine.device import autocast
from srcli.engine.upscaler import Upscaler
from srcli.geometry import Size, output_size

SAMPLE = 64  # side of the picture whose enlarging is timed
PROBE = 48  # of the one whose encoding is


class Estimate:
    """A model that has been timed on this machine.

    Args:
        scale: of the enlarging.
        model: a preset's name or a file.
        device: where.
        precision: of the arithmetic.
        tile: as `--tile`.

    Raises:
        PresetError, ModelError, ResourceError: as `Upscaler.from_preset`.
    """

    def __init__(
        self, scale: float, model: str, *, device: str = "auto", precision: str = "auto", tile: str = "auto"
    ) -> None:
        self.scale = scale
        self.upscaler = Upscaler.from_preset(model, device=device, precision=precision, tile=tile)
        lr = torch.rand(1, 3, SAMPLE, SAMPLE)
        self.upscaler.upscale(lr, scale)
        began = time.perf_counter()
        self.upscaler.upscale(lr, scale)
        self.seconds_per_pixel = (time.perf_counter() - began) / SAMPLE**2

    def of(self, height: int, width: int) -> dict[str, Any]:
        """Size of the result, tiles, and seconds in proportion to pixels, for a picture of that size."""
        target = output_size(Size(height, width), self.scale)
        tile = self.upscaler.tile_for(Size(height, width))
        return {
            "output width": target.w,
            "output height": target.h,
            "tile": f"{tile.w}x{tile.h}",
            "tiles": -(-height // tile.h) * -(-width // tile.w),
            "seconds, about": round(self.seconds_per_pixel * height * width, 1),
            "device": str(self.upscaler.device),
        }


def seconds_for(upscaler: Upscaler, sizes: Iterable[Size]) -> float:
    """About how long encoding pictures (h, w) of these sizes takes, margins of tiles included, by the time of a small one."""
    encoder = upscaler.network.encoder
    x = torch.zeros(1, 3, PROBE, PROBE, device=upscaler.device).contiguous(memory_format=torch.channels_last)
    for _ in range(2):  # the first one sets up
        began = time.perf_counter()
        with autocast(upscaler.device, upscaler.precision):
            float(encoder(x).sum())
        seconds = time.perf_counter() - began
    pixels = 0
    for size in sizes:
        tile = upscaler.tile_for(size)
        read = [
            side + 2 * upscaler.halo * (-(-side // step) - 1) for side, step in zip(size, tile, strict=True)
        ]
        pixels += read[0] * read[1]
    return pixels * seconds / PROBE**2
