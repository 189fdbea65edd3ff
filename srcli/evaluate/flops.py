"""What a network computes, counted rather than timed."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache

import torch
from torch.utils.flop_counter import FlopCounterMode

from srcli.config.presets import load_preset
from srcli.engine.load import engine_for
from srcli.engine.upscaler import Upscaler
from srcli.errors import ModelError, PresetError
from srcli.evaluate.models import INTERPOLATIONS
from srcli.evaluate.rows import Row
from srcli.models import build

SIDE = 48  # of the LR picture that is counted on


@cache
def flops_per_pixel(name: str, scale: float, steps: int | None = None) -> float | None:
    """Floating-point operations per output pixel of a preset, None for a name that is none.

    A multiplication and the addition after it count as two; only products of matrices and convolutions count. Of a
    diffusion model one and two steps are counted, which tells what any number of them takes.
    """
    if name in INTERPOLATIONS:
        return None
    try:
        preset = load_preset(name)
    except (PresetError, ModelError):
        return None
    upscaler = engine_for(build(preset), preset, device="cpu", precision="fp32", tile="none")
    sampling = upscaler.sampling
    if sampling is None:
        return _counted(upscaler, scale)
    counted = []
    for count in (1, 2):
        upscaler.sampling = replace(sampling, steps=count, skip=0)
        counted.append(_counted(upscaler, scale))
    calls = (steps or sampling.steps) - sampling.skip
    return counted[0] + (calls - 1) * (counted[1] - counted[0])


def _counted(upscaler: Upscaler, scale: float) -> float:
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        sr = upscaler.upscale(torch.zeros(1, 3, SIDE, SIDE), scale)
    return counter.get_total_flops() / (sr.shape[2] * sr.shape[3])


def flops(row: Row) -> float | None:
    """Operations for the picture of a row, None where its model or size is unknown."""
    if row.width is None or row.height is None:
        return None
    each = flops_per_pixel(re.split("[@+]", row.model)[0], row.scale, row.steps)
    views = 8 if "+tta" in row.model else 1
    return None if each is None else each * row.width * row.height * views
