"""What a native picture may not do on any input: leave the colours around it, shift them, or tint a gray picture. Ours.

Networks trained on photographs overshoot beside unsmoothed text, one-bit patterns and saturated borders. Three rules,
local (a few LR pixels around) and so exact in tiles, nearly always at rest on photographs:

- where the 5x5 LR pixels around hold at most eight colours, the picture stays within the range of the nearest 3x3 and one
  level, elsewhere within that of the 5x5 and 64 levels; ranges are enlarged bilinearly;
- its means over 2x2 LR pixels are brought within about 20 levels of the input's;
- where the 5x5 LR pixels around are neutral, so is the picture.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from srcli.models.sr import ImplicitSR, NativeEncoder
from srcli.presets import Preset

COLOURS = 8  # in 5x5 pixels: drawn, not photographed
NEAR, FAR, DRIFT = 1 / 255, 64 / 255, 20 / 255
STEPS, GAIN = 3, 1.5  # of bringing means back; more than 1, since what is clamped does not move


class Limiter:
    """Limits native pictures of normalised LR images.

    Args:
        mean: of each channel.
        std: of each channel.
    """

    def __init__(self, mean: tuple[float, float, float], std: tuple[float, float, float]) -> None:
        self.mean, self.std = mean, std

    def __call__(self, picture: Tensor, lr: Tensor) -> Tensor:
        """A picture (B, 3 * f^2, h, w) float32 of lr (B, 3, h, w), both normalised, within its limits."""
        mean, std = (lr.new_tensor(v).reshape(1, 3, 1, 1) for v in (self.mean, self.std))
        seen = (lr.float() * std + mean).clamp(0, 1)
        phases = picture.unflatten(1, (3, -1)) * std.unsqueeze(2) + mean.unsqueeze(2)
        return ((limited(phases, seen) - mean.unsqueeze(2)) / std.unsqueeze(2)).flatten(1, 2)


def add_limiter(network: ImplicitSR, preset: Preset) -> None:
    """Limit the native pictures of a network's bodies; networks without one are left as they are."""
    for part in network.encoder.modules():
        if isinstance(part, NativeEncoder):
            part.limiter = Limiter(*preset.mean_std)


def limited(phases: Tensor, lr: Tensor) -> Tensor:
    """A native picture within its limits.

    Args:
        phases: (B, 3, f^2, h, w), the picture in the order of `pixel_shuffle`, in [0, 1] or around it.
        lr: (B, 3, h, w), the LR image in [0, 1].

    Returns:
        (B, 3, f^2, h, w).
    """
    factor = math.isqrt(phases.shape[2])
    drawn = (colours_around(lr) <= COLOURS).unsqueeze(1)
    low = torch.where(drawn, -_around(-lr, 3) - NEAR, -_around(-lr, 5) - FAR).clamp(min=0)
    high = torch.where(drawn, _around(lr, 3) + NEAR, _around(lr, 5) + FAR).clamp(max=1)
    low, high = _enlarged(low, factor), _enlarged(high, factor)
    phases = phases.maximum(low).minimum(high)
    for _ in range(STEPS):
        over = _beyond(phases.mean(2) - lr)
        if over is None:
            break
        phases = (phases - GAIN * over.unsqueeze(2)).maximum(low).minimum(high)
    gray = (_around(lr.amax(1, keepdim=True) - lr.amin(1, keepdim=True), 5) == 0).to(lr.dtype)
    if bool(gray.any()):
        phases = torch.lerp(phases, phases.mean(1, keepdim=True), _enlarged(gray, factor))
    return phases


def _around(x: Tensor, side: int) -> Tensor:
    """The largest value within `side` x `side` pixels; nothing is seen beyond the border."""
    return F.max_pool2d(x, side, stride=1, padding=side // 2)


def _enlarged(x: Tensor, factor: int) -> Tensor:
    """X (B, C, h, w) enlarged bilinearly, as (B, C, factor^2, h, w)."""
    large = F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)
    return F.pixel_unshuffle(large, factor).unflatten(1, (x.shape[1], factor * factor))


def _beyond(off: Tensor) -> Tensor | None:
    """By how much means over 2x2 of `off` (B, 3, h, w) pass `DRIFT`: of the four around a pixel, the most; None: none does."""
    if min(off.shape[-2:]) < 2:
        return None
    mean = F.avg_pool2d(off, 2, stride=1)
    over = F.pad(mean - mean.clamp(-DRIFT, DRIFT), (1, 1, 1, 1))
    if not bool(over.any()):
        return None
    above, below = F.max_pool2d(over, 2, stride=1), F.max_pool2d(-over, 2, stride=1)
    return torch.where(above > below, above, -below)


def colours_around(lr: Tensor) -> Tensor:
    """How many different colours of 8 bits the 5x5 pixels around each pixel of lr (B, 3, h, w) hold, (B, h, w)."""
    red, green, blue = (lr * 255).round().unbind(1)
    code = (red * 256 + green) * 256 + blue  # below 2^24: exact in float32
    code = F.pad(code.unsqueeze(1), (2, 2, 2, 2), mode="replicate")[:, 0]
    seen = code.unfold(1, 5, 1).unfold(2, 5, 1).flatten(3).sort(dim=-1).values
    return (seen[..., 1:] != seen[..., :-1]).sum(-1) + 1
