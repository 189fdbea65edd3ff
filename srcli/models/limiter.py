"""What a native picture may not do on any input: leave the colours around it, shift them, or tint a gray picture. Ours.

Networks trained on photographs overshoot beside unsmoothed text, one-bit patterns and saturated borders. Three rules,
local (a few LR pixels around) and so exact in tiles, nearly always at rest on photographs:

- where the 5x5 LR pixels around hold at most eight colours, the picture stays within the range of the nearest 3x3 and one
  level, elsewhere within that of the 5x5 and 64 levels; ranges are enlarged bilinearly;
- its means over 2x2 LR pixels are brought within about 20 levels of the input's;
- where the 5x5 LR pixels around are neutral, so is the picture.

Networks that restore damaged pictures shift colours by several levels, and their ranges are no guide, since the input's
blocks and noise are in them: their picture gets the input's low frequencies, and the last rule.
"""

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.compiler import is_compiling

from srcli.config.presets import Preset
from srcli.geometry import F32
from srcli.models.layers import mix, tensor
from srcli.models.sr import ImplicitSR, NativeEncoder

COLOURS = 8  # in 5x5 pixels: drawn, not photographed
NEAR, FAR, DRIFT = 1 / 255, 64 / 255, 20 / 255
PLACES = 1 << 14  # LR pixels at once; their ranges stay in a cache
STEPS, GAIN = 3, 1.5  # of bringing means back; more than 1, since what is clamped does not move
# Gaussians that tell low frequencies: deviations in LR pixels, and what may stay: blotches of noise, but no other colour.
LOW = ((2.0, 0.0), (2.0, 0.0), (1.0, 1.5 / 255), (1.0, 1.5 / 255))
Rule = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


class Limiter:
    """Limits native pictures of normalised LR images. `rule`: `limited` or `with_low_frequencies`."""

    def __init__(
        self, mean: tuple[float, float, float], std: tuple[float, float, float], rule: Rule | None = None
    ) -> None:
        self.mean, self.std = mean, std
        self.rule = rule or limited

    def __call__(self, picture: Tensor, lr: Tensor) -> Tensor:
        """A picture (B, 3 * f^2, h, w) float32 of lr (B, 3, h, w), both normalised, within its limits."""
        mean, std = (picture.new_tensor(v).reshape(1, 3, 1, 1) for v in (self.mean, self.std))
        return self.rule(picture.unflatten(1, (3, -1)), lr.float(), mean, std).flatten(1, 2)


def set_limiter(network: ImplicitSR, preset: Preset, *, on: bool) -> None:
    """Limit the native pictures of a network's bodies, or stop it; networks without one are left as they are.

    Those of a preset that asks for its input's low frequencies get them in either case.
    """
    rule = with_low_frequencies if preset.engine.low_frequencies else limited
    for part in network.encoder.modules():
        if isinstance(part, NativeEncoder):
            wanted = on or preset.engine.low_frequencies
            part.limiter = Limiter(*preset.mean_std, rule) if wanted else None


def limited(phases: Tensor, lr: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """A native picture (B, 3, f^2, h, w), in the order of `pixel_shuffle`, of lr (B, 3, h, w) within its limits.

    All are normalised, by mean and std (1, 3, 1, 1).
    """
    seen = (lr * std + mean).clamp(0, 1)
    drawn = (colours_around(seen) <= COLOURS).unsqueeze(1)
    high3, low3 = _around(lr), -_around(-lr)
    high = torch.where(drawn, high3 + NEAR / std, _around(high3) + FAR / std).minimum((1 - mean) / std)
    low = torch.where(drawn, low3 - NEAR / std, -_around(-low3) - FAR / std).maximum(-mean / std)
    phases = _within(phases, low, high)
    for _ in range(STEPS):
        over = _beyond(phases.mean(2) - lr, DRIFT / std)
        if over is None:
            break
        phases = _within(phases - GAIN * over.unsqueeze(2), low, high)
    return _gray_where_gray(phases, seen)


def with_low_frequencies(phases: Tensor, lr: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """A native picture with the low frequencies of its LR image, and gray where that is; arguments as for `limited`.

    The Gaussians are too wide to bring back the edges of JPEG's blocks. They reach 16 LR pixels in all.
    """
    factor = math.isqrt(phases.shape[2])
    low, high = -mean / std, (1 - mean) / std
    for deviation, most in LOW:
        # What is beyond is cut off in the end.
        seen = phases.clamp(low.unsqueeze(2), high.unsqueeze(2))
        off = _smooth(lr - seen.mean(2), deviation)
        phases = phases + _enlarged(off - off.maximum(-most / std).minimum(most / std), factor)
    return _gray_where_gray(phases, (lr * std + mean).clamp(0, 1))


def _smooth(x: Tensor, deviation: float) -> Tensor:
    """(B, C, h, w) by a Gaussian; the border repeats."""
    reach = math.ceil(2.5 * deviation)
    place = torch.arange(-reach, reach + 1, device=x.device, dtype=x.dtype)
    kernel = torch.exp(-(place**2) / (2 * deviation**2))
    kernel = (kernel / kernel.sum()).expand(x.shape[1], 1, 1, -1)
    x = F.pad(x, (reach,) * 4, mode="replicate")
    across = F.conv2d(x, kernel, groups=x.shape[1])
    return F.conv2d(across, kernel.transpose(2, 3), groups=x.shape[1])


def _gray_where_gray(phases: Tensor, seen: Tensor) -> Tensor:
    """Phases without colour where the 5x5 pixels of `seen` (B, 3, h, w) in [0, 1] around have none."""
    colour = seen.amax(1, keepdim=True) - seen.amin(1, keepdim=True)
    gray = (_around(_around(colour)) == 0).to(phases.dtype)
    if not (is_compiling() or bool(gray.any())):
        return phases
    tint = phases.mean(1, keepdim=True)
    return mix(phases, tint, _enlarged(gray, math.isqrt(phases.shape[2])))


def _around(x: Tensor) -> Tensor:
    """The largest value within 3x3 pixels of (B, C, h, w); nothing is seen beyond the border."""
    for dim in (-1, -2):
        if x.shape[dim] > 1:
            length = x.shape[dim] - 1
            pairs = x.narrow(dim, 0, length).maximum(x.narrow(dim, 1, length))
            ends = x.narrow(dim, 0, 1), x.narrow(dim, length, 1)
            before, after = torch.cat([ends[0], pairs], dim), torch.cat([pairs, ends[1]], dim)
            x = before.maximum(after)
    return x


def _enlarged(x: Tensor, factor: int) -> Tensor:
    """Maps (B, C, h, w) enlarged bilinearly, as (B, C, factor^2, h, w)."""
    large = F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)
    return F.pixel_unshuffle(large, factor).unflatten(1, (x.shape[1], factor * factor))


def _within(phases: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Phases between `low` and `high` (B, 3, h, w), enlarged bilinearly; computed only where something is near them."""
    if is_compiling():
        factor = math.isqrt(phases.shape[2])
        return phases.maximum(_enlarged(low, factor)).minimum(_enlarged(high, factor))
    near = (phases.amax(2) > -_around(-high)) | (phases.amin(2) < _around(low))
    at = near.any(1).nonzero(as_tuple=True)
    if not len(at[0]):
        return phases
    weights = tensor(_bilinear(math.isqrt(phases.shape[2])), phases)
    out = phases.permute(0, 3, 4, 1, 2).clone()  # pixel-major
    ranges = [F.pad(x, (1, 1, 1, 1), mode="replicate").permute(0, 2, 3, 1) for x in (low, high)]
    for part in zip(*(index.split(PLACES) for index in at), strict=True):
        least, most = (_neighbours(x, part) @ weights for x in ranges)
        out[part] = out[part].maximum(least).minimum(most)
    return out.permute(0, 3, 4, 1, 2)


def _neighbours(padded: Tensor, at: tuple[Tensor, ...]) -> Tensor:
    """The 3x3 pixels around n places of (B, h, w, C), (n, C, 9), where a border of one pixel surrounds it."""
    batch, row, column = at
    return torch.stack([padded[batch, row + i // 3, column + i % 3] for i in range(9)], dim=-1)


@lru_cache(maxsize=8)
def _bilinear(factor: int) -> F32:
    """Shares (9, factor^2) of the 3x3 pixels around in the phases of an enlarged pixel."""
    place = (np.arange(factor) + 0.5) / factor - 0.5
    axis = np.clip(1 - np.abs(place - np.arange(-1, 2)[:, None]), 0, None)  # (3, factor)
    return np.einsum("yi,xj->yxij", axis, axis).reshape(9, factor * factor).astype(np.float32)


def _beyond(off: Tensor, most: Tensor) -> Tensor | None:
    """By how much means over 2x2 of `off` (B, 3, h, w) pass `most`: of the four around a pixel, the worst; None: none does."""
    if min(off.shape[-2:]) < 2:
        return None
    mean = F.avg_pool2d(off, 2, stride=1)
    over = F.pad(mean - mean.minimum(most).maximum(-most), (1, 1, 1, 1))
    if not (is_compiling() or bool(over.any())):
        return None
    above, below = F.max_pool2d(over, 2, stride=1), F.max_pool2d(-over, 2, stride=1)
    return torch.where(above > below, above, -below)


def colours_around(lr: Tensor) -> Tensor:
    """How many different colours of 8 bits the 5x5 pixels around each pixel of lr (B, 3, h, w) hold, (B, h, w).

    Where the inner 3x3 have nine, 25 stands for whatever it is: counting takes a sort, and most of a photograph needs none.
    """
    red, green, blue = (lr * 255).round().unbind(1)
    code = ((red * 256 + green) * 256 + blue).to(torch.int32)
    batch, height, width = code.shape
    if is_compiling():  # all of them, without a list of places
        rows, cols = (torch.arange(n).unsqueeze(1) + torch.arange(5) for n in (height, width))
        code = code.float()[:, _clipped(height, code.device)[rows]][..., _clipped(width, code.device)[cols]]
        ordered = code.permute(0, 1, 3, 2, 4).flatten(3).sort(dim=-1).values
        return (ordered[..., 1:] != ordered[..., :-1]).sum(-1) + 1
    code = code[:, _clipped(height, code.device)][:, :, _clipped(width, code.device)]
    inner = code[:, 1:-1, 1:-1]
    alike = torch.zeros(batch, height, width, dtype=torch.bool, device=code.device)
    places = [(y, x) for y in range(3) for x in range(3)]
    for number, (y, x) in enumerate(places):
        for v, u in places[:number]:
            pair = inner[:, y : y + height, x : x + width] == inner[:, v : v + height, u : u + width]
            alike |= pair
    found = torch.full((batch, height, width), 25, device=code.device)
    windows = code.unfold(1, 5, 1).unfold(2, 5, 1)[alike].flatten(1).sort(dim=-1).values
    found[alike] = (windows[:, 1:] != windows[:, :-1]).sum(-1) + 1
    return found


def _clipped(length: int, device: torch.device) -> Tensor:
    """Indices of an axis continued by two samples at both ends."""
    return torch.arange(-2, length + 2, device=device).clamp(0, length - 1)
