"""Rendering with an engine in one call, and the frame of a stand-in for one."""

import numpy as np

from srcli.engine.request import PLAIN, Rendered, RenderRequest, RenderStats
from srcli.geometry import Size


def render(sr, lr, target, **request):
    """What an engine makes of (1, 3, h, w): float32 or bytes (H, W, 3), and what happened meanwhile."""
    from srcli.engine.normalised_image import TensorSource  # brings torch, which a stand-in does without

    rows, stats = sr.upscale_rows(TensorSource(lr), target, RenderRequest(**request))
    return np.concatenate(list(rows)), stats


def rows(sr, lr, target, **request):
    return render(sr, lr, target, **request)[0]


def upscaled(sr, lr, scale):
    """As `sr.upscale(lr, scale)` for a whole number, and what happened meanwhile."""
    import torch

    pixels, stats = render(sr, lr, Size(lr.shape[-2] * scale, lr.shape[-1] * scale))
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].clamp(0, 1), stats


class GrayPicture:
    """A gray LR picture in memory, as an engine reads it."""

    def __init__(self, luma):
        self.pixels = np.repeat(np.asarray(luma, np.float32)[..., None], 3, axis=2)
        self.size = Size(*self.pixels.shape[:2])

    def strip(self, top, bottom):
        assert 0 <= top < bottom <= self.size.h
        return self.pixels[top:bottom]


class StandIn:
    """An engine of which only `rows(source, target, request, stats)` is missing."""

    device, precision = "cpu", "fp32"
    selects = samples_pixels = False
    branches = ()

    def upscale_rows(self, source, target, request=PLAIN):
        stats = RenderStats()
        return Rendered(self.rows(source, target, request, stats), stats)
