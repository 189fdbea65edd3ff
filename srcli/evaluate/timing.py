"""What models cost, apart from any benchmark: seconds of each part, peak memory, parameters."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from srcli.evaluate.models import Model
from srcli.evaluate.tables import Table
from srcli.geometry import Size, output_size


@dataclass(frozen=True)
class Timing:
    """Medians over the repeats, in seconds, and the highest peak of memory in bytes."""

    model: str
    width: int
    height: int
    scale: float
    repeats: int
    seconds: float
    encode: float | None
    generate: float | None
    decode: float | None
    memory: int | None
    params: int | None
    device: str | None
    precision: str | None
    family: str


def time_model(model: Model, size: Size, scale: float, repeats: int) -> Timing:
    """Enlarge a picture of noise, once to warm up and then `repeats` times."""
    lr = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    target = output_size(size, scale)
    draws = model.draws(scale, (), range(repeats + 1), ())  # of one seed, a model may keep what it rendered
    draws *= 1 if len(draws) > 1 else repeats + 1
    costs = [model.enlarge(lr, target, draw).cost for draw in draws][1:]

    def median(part: str) -> float | None:
        values = [getattr(cost, part) for cost in costs]
        return None if None in values else statistics.median(values)

    return Timing(
        model.name,
        size.w,
        size.h,
        scale,
        repeats,
        statistics.median(cost.seconds for cost in costs),
        median("encode"),
        median("generate"),
        median("decode"),
        max((cost.memory for cost in costs if cost.memory is not None), default=None),
        model.params,
        model.device,
        model.precision,
        model.family,
    )


def timing_table(timings: Sequence[Timing]) -> Table:
    """The table of cost that papers print."""
    header = [
        "model",
        "LR",
        "scale",
        "encode s",
        "generate s",
        "decode s",
        "total s",
        "peak MB",
        "params",
        "on",
    ]
    lines = [
        [
            t.model,
            f"{t.width}x{t.height}",
            f"x{t.scale:g}",
            *("-" if s is None else f"{s:.4f}" for s in (t.encode, t.generate, t.decode, t.seconds)),
            "-" if t.memory is None else f"{t.memory / 1e6:.0f}",
            "-" if t.params is None else f"{t.params:,}",
            " ".join(part for part in (t.device, t.precision) if part),
        ]
        for t in timings
    ]
    above = [f"median of {timings[0].repeats} runs after a warm-up; on a CPU the peak is that of the process"]
    return Table(above, header, lines)
