"""Networks that keep the size, such as denoisers: alone, and before one that enlarges."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from srcli.config.presets import DEFAULT_PRESET
from srcli.engine.normalised_image import TensorSource
from srcli.errors import UsageError
from srcli.geometry import Size
from srcli.models.sr import NativeEncoder
from srcli.weights.files import models_folder

if TYPE_CHECKING:
    from srcli.engine.request import Source
    from srcli.engine.upscaler import Upscaler


def keeps_size(upscaler: Upscaler) -> bool:
    """Whether it is a network for factor 1, which enlarges nothing."""
    encoder = upscaler.network.encoder
    return isinstance(encoder, NativeEncoder) and encoder.factor == 1


def check_size(upscaler: Upscaler, known: Size, target: Size) -> None:
    """Refuse another size of a network that keeps it, with a UsageError."""
    if keeps_size(upscaler) and known != target:
        name, path = upscaler.preset.name, Path(upscaler.preset.weights_file)
        typed = name if path.parent == models_folder() else path.name
        raise UsageError(
            f"'{name}' keeps the size of a picture; {target.w}x{target.h} is asked for, of {known.w}x{known.h}.",
            hint=f"Write a model that enlarges behind it: -m {typed}+{DEFAULT_PRESET}; or ask for -s 1.",
        )


def cleaned(upscaler: Upscaler, source: Source) -> TensorSource:
    """What a network that keeps the size makes of a picture, held whole: 12 bytes for a pixel."""
    rows = np.concatenate(list(upscaler.upscale_rows(source, Size(*source.size)).rows))
    return TensorSource(torch.from_numpy(rows).permute(2, 0, 1)[None].clamp(0, 1))


def check_first(first: Upscaler, upscaler: Upscaler) -> None:
    """Raise UsageError for a network before another that enlarges, or stands before one that samples."""
    if upscaler.samples_pixels:
        raise UsageError(
            f"'{upscaler.preset.name}': a diffusion model takes none before it.",
            hint=f"Run it by itself: srcli upscale -s 1 -m {first.preset.name}",
        )
    if not keeps_size(first):
        raise UsageError(
            f"'{first.preset.name}' enlarges, and stands before '+'.",
            hint="There stands a model that keeps the size, such as a denoiser.",
        )
