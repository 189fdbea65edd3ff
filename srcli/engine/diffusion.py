"""Denoising a sample with a generator, step by step, in tiles that are blended at every step.

A sample larger than a tile is predicted in overlapping tiles of one size, whose predictions are blended with weights
that sum to one before the step is taken (Bar-Tal et al., "MultiDiffusion", ICML 2023). The noise, the first and that of
stochastic samplers, is drawn for the sample as a whole. So tiles share all their pixels' past, and neither their number
at a time nor the device changes what a seed means.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from srcli.engine.device import is_out_of_memory
from srcli.errors import ModelError, ResourceError, UsageError
from srcli.geometry import Box, Size, starts
from srcli.models.noise_schedule import Schedule

Predict = Callable[[Tensor, Tensor, Sequence[Box]], Tensor]
Noise = Callable[[int], Tensor]

LOWEST_WEIGHT = 1e-3  # of a tile's outermost pixels, before weights are made to sum to one
SMALLEST_TILE = 32  # pixels of a sample's tile; smaller ones see too little


class Tiles(NamedTuple):
    """Overlapping tiles of one size that cover a sample."""

    size: Size  # of the sample
    side: Size  # of every tile
    boxes: list[Box]  # the tiles, row by row
    weights: list[Tensor]  # of each, (side.h, side.w) float32; at every pixel of the sample they sum to one


def plan_tiles(size: Size, side: int | None, overlap: int, multiple_of: int = 1) -> Tiles:
    """The tiles of a sample, whose sides are multiples of `multiple_of` as all corners are.

    `side`: of the tiles, rounded up to a multiple; None for one that is the sample. `overlap`: pixels that neighbours
    share at least; at most half a tile.
    """

    def whole(pixels: float) -> int:
        return max(math.ceil(pixels / multiple_of), 1) * multiple_of

    axes = []
    for length in size:
        tile = length if side is None else min(whole(side), length)
        shared = min(whole(overlap), tile // 2 // multiple_of * multiple_of)
        places = starts(length, tile, shared)
        axes.append((tile, places, _ramps(length, tile, places, max(shared, 1))))
    (tall, tops, rows), (wide, lefts, columns) = axes
    boxes, weights = [], []
    for top, down in zip(tops, rows, strict=True):
        for left, across in zip(lefts, columns, strict=True):
            boxes.append(Box(top, left, top + tall, left + wide))
            weights.append(torch.outer(down, across).float())
    return Tiles(size, Size(tall, wide), boxes, weights)


def _ramps(length: int, tile: int, places: list[int], ramp: int) -> list[Tensor]:
    """Weights of the tiles on one axis: raised cosines over the overlap, made to sum to one at every pixel."""
    rising = 0.5 - 0.5 * np.cos(np.pi * (np.arange(ramp) + 0.5) / ramp)
    rising = np.maximum(rising, LOWEST_WEIGHT)
    total = np.zeros(length)
    raw = []
    for start in places:
        weight = np.ones(tile)
        if start > 0:
            weight[:ramp] *= rising[:tile]
        if start + tile < length:
            weight[-ramp:] *= rising[::-1][-tile:]
        total[start : start + tile] += weight
        raw.append(weight)
    return [
        torch.from_numpy(weight / total[start : start + tile])
        for start, weight in zip(places, raw, strict=True)
    ]


# --- sampling -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """How much is predicted at a time."""

    tiles: Tiles  # of the sample
    batch: int = 1  # tiles predicted together
    overlap: int = 16  # sample pixels that neighbours share, for smaller tiles
    multiple_of: int = 1  # of the generator

    def smaller(self) -> Plan | None:
        """The next thing to try when memory runs out: fewer tiles at a time, then smaller ones, then None."""
        if self.batch > 1:
            return replace(self, batch=self.batch // 2)
        longest = max(self.tiles.side)
        half = math.ceil(longest / 2 / self.multiple_of) * self.multiple_of
        if half < max(SMALLEST_TILE, 2 * self.multiple_of) or half >= longest:
            return None
        tiles = plan_tiles(self.tiles.size, half, min(self.overlap, half // 2), self.multiple_of)
        return replace(self, tiles=tiles)


@torch.no_grad()
def denoise(
    predict: Predict,
    noise: Noise,  # the sample's own (1, C, H, W) at 0, and that of the n-th step at n
    schedule: Schedule,
    plan: Plan,
    *,
    by_level: bool = False,  # t is sqrt(alpha-bar) instead of the step of training
    start: Tensor | None = None,
    begin: int = 0,
    report: Callable[[float], None] | None = None,
) -> tuple[Tensor, Plan]:
    """Denoise a sample (1, C, H, W) from noise, or from noise and a start; and the plan that fitted into memory.

    `predict` gives the noise (or velocity) in n noisy tiles (n, C, h, w) at the time t (n,), told where they lie.
    `start`: gets the noise that belongs before call `begin`, the first one made; None: noise alone. Raises ModelError
    (a prediction is NaN or infinite), ResourceError (memory runs out even with the smallest tiles), UsageError (`begin`
    is no call, or is not the first without a start).
    """
    if not 0 <= begin < schedule.calls or (begin and start is None):
        raise UsageError(f"Sampling cannot begin at call {begin} of {schedule.calls}.")
    sample = schedule.start(noise(0), start, begin)
    for call in range(begin, schedule.calls):
        time = (schedule.levels if by_level else schedule.times)[call].to(sample.device)
        seen = schedule.scaled(sample, call)
        while True:
            try:
                prediction = _blended(predict, seen, time, plan)
                break
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            plan = _next(plan, sample)  # outside the handler, so that the failed call's tensors are free
        if not bool(torch.isfinite(prediction).all()):
            raise ModelError(
                f"The generator gives NaN or infinity at step {call + 1} of {schedule.calls}.",
                hint="Try --precision fp32; if that is in use, the weights are damaged.",
            )
        fresh = noise(call + 1) if schedule.draws else None
        sample = schedule.step(prediction, sample, call, fresh)
        if report:
            report((call + 1 - begin) / (schedule.calls - begin))
    return sample, plan


def _blended(predict: Predict, sample: Tensor, time: Tensor, plan: Plan) -> Tensor:
    tiles = plan.tiles
    if len(tiles.boxes) == 1:
        return predict(sample, time.expand(1), tiles.boxes).float()
    whole: Tensor | None = None
    for first in range(0, len(tiles.boxes), plan.batch):
        boxes = tiles.boxes[first : first + plan.batch]
        noisy = torch.cat([sample[(..., *box.slices)] for box in boxes])
        predicted = predict(noisy, time.expand(len(boxes)), boxes).float()
        if whole is None:
            whole = torch.zeros(1, predicted.shape[1], *tiles.size, device=predicted.device)
        for at, box in enumerate(boxes):
            whole[(..., *box.slices)] += predicted[at] * tiles.weights[first + at].to(predicted.device)
    assert whole is not None
    return whole


def _next(plan: Plan, sample: Tensor) -> Plan:
    if sample.device.type == "cuda":
        torch.cuda.empty_cache()
    smaller = plan.smaller()
    if smaller is None:
        side = plan.tiles.side
        raise ResourceError(
            f"Out of memory on {sample.device} while sampling a canvas of {plan.tiles.size.w}x{plan.tiles.size.h}, "
            f"even with one tile of {side.w}x{side.h} at a time.",
            hint="Close other programs, use --device cpu, or a smaller model.",
        )
    return smaller
