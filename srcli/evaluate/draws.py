"""Pictures about a model's results, for `explain`: branches by pixel, deviation of samples, slope of a field."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from srcli.config.temperature import choose
from srcli.engine.branch_map import Selection, in_words
from srcli.engine.request import RenderRequest
from srcli.engine.upscaler import Upscaler
from srcli.errors import UsageError
from srcli.evaluate.contact_sheet import png
from srcli.geometry import Grid, Size
from srcli.image.read import Image
from srcli.models.layers import grid_coord
from srcli.models.sr import Frame

GRAY_PER_LEVEL = 8  # a deviation of 32 levels is white


def selection_picture(
    upscaler: Upscaler, image: Image, target: Size, *, seed: int = 0
) -> tuple[bytes, str, NDArray[np.float32]]:
    """The branch of each pixel drawn over the result, as PNG; the shares in words; the scores (branches, H, W).

    Raises UsageError (the network does not choose a branch for each pixel).
    """
    if not upscaler.selects:
        raise UsageError(f"'{upscaler.preset.name}' chooses no branch for each pixel.")
    selection = Selection(target, upscaler.branches, keep_scores=True)
    result = _levels(upscaler, image, target, RenderRequest(seed=seed, scores=selection.add))
    assert selection.scores is not None
    told = f"{in_words(selection.shares())}; {selection.legend()}"
    return png(selection.over(result)), told, selection.scores


def deviation_picture(
    upscaler: Upscaler, image: Image, target: Size, samples: int, *, seed: int = 0
) -> tuple[bytes, str]:
    """The standard deviation over `samples` results, of seeds from `seed` on, as a gray PNG, and its mean in words."""
    chosen = choose(upscaler.preset, target.h / image.size[0])
    temperature = None if chosen is None else chosen.value
    total, squares = np.zeros((2, *target, 3), np.int64)  # exact in integers, and no sample is kept
    for number in range(samples):
        levels = _levels(upscaler, image, target, RenderRequest(temperature=temperature, seed=seed + number))
        total += levels
        squares += levels.astype(np.int64) ** 2
    deviation = np.sqrt(np.maximum(squares - total**2 / samples, 0) / (samples - 1))
    gray = np.rint(np.minimum(deviation.mean(axis=2) * GRAY_PER_LEVEL, 255)).astype(np.uint8)
    return png(gray), f"diversity {deviation.mean():.2f} levels over {samples} samples"


def field_picture(upscaler: Upscaler, image: Image, target: Size) -> tuple[bytes, str]:
    """How steep the blurred field of a Thera decoder is at each output pixel, as a gray PNG, and its scale in words."""
    network = upscaler.network
    field = cast("Any", network.decoder.alone)
    if not field.has_field:
        raise UsageError(f"'{upscaler.preset.name}' has no field.", hint="--field is for a Thera decoder.")
    lr = torch.from_numpy(image.strip(0, image.size[0])).permute(2, 0, 1)[None].float().to(upscaler.device)
    mean, std = (torch.tensor(v, device=lr.device).view(1, 3, 1, 1) for v in upscaler.preset.mean_std)
    x = (lr - mean) / std
    with torch.inference_mode():
        feat, frame = network.encoder(x)[:, : field.out_conv.in_features], Frame.of_grid(x, target)
        parts = grid_coord(Grid.of(frame.size, target), x).split(1 << 14, dim=1)
        slopes = torch.cat([field.gradient((feat, x, frame), part) for part in parts], dim=1)
    steep = (slopes.norm(dim=-1).mean(-1) * 255 * std.mean()).reshape(target).cpu().numpy()
    white = max(float(np.quantile(steep, 0.995)), 1e-6)
    gray = np.rint(np.minimum(steep / white, 1) * 255).astype(np.uint8)
    return png(gray), f"white: {white:.1f} levels per input pixel or more; mean {steep.mean():.1f}"


def _levels(upscaler: Upscaler, image: Image, target: Size, request: RenderRequest) -> NDArray[np.uint8]:
    rows = list(upscaler.upscale_rows(image, target, request).rows)
    whole = np.concatenate(rows)
    return whole if whole.dtype == np.uint8 else np.rint(np.clip(whole, 0, 1) * 255).astype(np.uint8)
