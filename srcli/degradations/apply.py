"""Applying a degradation to a picture, on the picture's device."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import conv2d, interpolate

from srcli.degradations.draw import Degradation, Round
from srcli.degradations.jpeg import jpeg
from srcli.degradations.kernels import Blur, kernel
from srcli.degradations.noise import with_noise

SHARPEN_TAPS = 51
SHARPEN_SIGMA = 0.3 * ((SHARPEN_TAPS - 1) * 0.5 - 1) + 0.8  # what OpenCV takes for that many taps
SHARPEN_BY, SHARPEN_ABOVE = 0.5, 10 / 255


def degrade(hr: Tensor, degradation: Degradation, size: Sequence[int]) -> tuple[Tensor, Tensor]:
    """LR (h, w, 3) of `size` and HR (H, W, 3) from `hr`, all uint8; HR is sharpened if the degradation says so."""
    x = hr.permute(2, 0, 1)[None].float() / 255
    if degradation.sharpen:
        x = sharpened(x)
        hr = _levels(x)
    if degradation.untouched:
        return _levels(resized(x, size, degradation.final_mode)), hr
    first, second = degradation.first, degradation.second
    x = _round(x, first, [max(1, int(side * first.factor)) for side in x.shape[-2:]])
    x = jpeg(x, first.jpeg)
    x = _round(x, second, [max(1, int(side * second.factor)) for side in size])
    if not degradation.jpeg_last:
        x = jpeg(x, second.jpeg)
    x = resized(x, size, degradation.final_mode)
    if degradation.sinc:
        x = blurred(x, degradation.sinc)
    if degradation.jpeg_last:
        x = jpeg(x, second.jpeg)
    return _levels(x), hr


def _round(x: Tensor, what: Round, size: Sequence[int]) -> Tensor:
    if what.blur:
        x = blurred(x, what.blur)
    return with_noise(resized(x, size, what.mode), what.noise)


def _levels(x: Tensor) -> Tensor:
    return (x[0].clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0)


def blurred(x: Tensor, blur: Blur) -> Tensor:
    """A picture (1, c, h, w) filtered by a kernel, its border reflected."""
    return _filtered(x, torch.from_numpy(kernel(blur)).to(x))


def _filtered(x: Tensor, weight: Tensor) -> Tensor:
    """Every channel of (1, c, h, w) correlated with (m, n), the border pixel itself not repeated."""
    for dim, taps in zip((-2, -1), weight.shape, strict=True):
        x = x.index_select(dim, _reflection(x.shape[dim], taps // 2, x.device))
    return conv2d(x.transpose(0, 1), weight[None, None]).transpose(0, 1)


def _reflection(side: int, beyond: int, device: torch.device) -> Tensor:
    """Indices -beyond .. side + beyond - 1 of an axis that is reflected at its ends as often as needed."""
    period = max(2 * (side - 1), 1)
    place = torch.arange(-beyond, side + beyond, device=device) % period
    return torch.minimum(place, period - place) if side > 1 else place.zero_()


def resized(x: Tensor, size: Sequence[int], mode: str) -> Tensor:
    """A picture (1, c, h, w) resized by area, bilinear or bicubic (a = -0.75), without antialiasing."""
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    corners = None if mode == "area" else False
    return interpolate(x, size=list(size), mode=mode, align_corners=corners)


def sharpened(x: Tensor) -> Tensor:
    """Unsharp masking of a picture (1, 3, h, w) in [0, 1], where it differs from its surroundings."""
    axis = torch.arange(SHARPEN_TAPS, device=x.device, dtype=x.dtype) - SHARPEN_TAPS // 2
    bell = torch.exp(-(axis**2) / (2 * SHARPEN_SIGMA**2))
    bell = bell / bell.sum()

    def soft(picture: Tensor) -> Tensor:
        return _filtered(_filtered(picture, bell[:, None]), bell[None, :])

    detail = x - soft(x)
    mask = soft((detail.abs() > SHARPEN_ABOVE).to(x))
    return mask * (x + SHARPEN_BY * detail).clamp(0, 1) + (1 - mask) * x
