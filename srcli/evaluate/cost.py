"""What a result costs: seconds of each part of a network, peak memory, and operations counted rather than timed."""

from __future__ import annotations

import os
import re
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from srcli.engine.load import load_upscaler, upscaler_for
from srcli.engine.upscaler import Upscaler
from srcli.errors import ModelError, PresetError
from srcli.evaluate.rows import Row
from srcli.evaluate.tables import Table, number
from srcli.geometry import Size, output_size
from srcli.weights.build import build
from srcli.weights.files import FIXED_SCALE, resolve

if TYPE_CHECKING:
    from srcli.evaluate.models import Model

SIDE = 48  # of the LR picture that operations are counted on


@dataclass
class Cost:
    """Seconds of the whole and of its parts, and peak bytes on the device (of the process on a CPU).

    `encode` and `generate` are None for a network without such a part; `decode` is the rest.
    """

    seconds: float = 0.0
    encode: float | None = None
    generate: float | None = None
    decode: float | None = None
    memory: int | None = None

    @staticmethod
    def combined(costs: Sequence[Cost], how: Callable[[Sequence[float]], float]) -> Cost:
        """Seconds of several results combined by `how` (`sum`, `statistics.median`), and their highest peak."""

        def part(name: str) -> float | None:
            values = [getattr(cost, name) for cost in costs]
            return None if None in values else how(values)

        peaks = [cost.memory for cost in costs if cost.memory is not None]
        seconds = how([cost.seconds for cost in costs])
        return Cost(seconds, part("encode"), part("generate"), part("decode"), max(peaks, default=None))


@contextmanager
def measured(network: nn.Module, device: torch.device) -> Iterator[Cost]:
    """The `Cost` of what a network does inside; it is filled in at the end.

    The parts `encoder` and `generator` are timed by hooks, so that the engine need not know about timing.
    """
    cost = Cost()
    spent: Counter[str] = Counter()
    parts = {"encode": getattr(network, "encoder", None), "generate": getattr(network, "generator", None)}
    present = {name: part for name, part in parts.items() if isinstance(part, nn.Module)}
    hooks = [hook for name, part in present.items() for hook in _timed(part, name, spent, device)]
    _forget_peak(device)
    _wait(device)
    start = time.perf_counter()
    try:
        yield cost
    finally:
        _wait(device)
        cost.seconds = time.perf_counter() - start
        for hook in hooks:
            hook.remove()
    cost.encode, cost.generate = (spent[name] if name in present else None for name in parts)
    cost.decode = cost.seconds - sum(spent.values()) if present else None
    cost.memory = _peak(device)


def _timed(
    part: nn.Module, name: str, spent: Counter[str], device: torch.device
) -> list[torch.utils.hooks.RemovableHandle]:
    started: list[float] = []

    def begin(*_: object) -> None:
        _wait(device)
        started.append(time.perf_counter())

    def end(*_: object) -> None:
        _wait(device)
        spent[name] += time.perf_counter() - started.pop()  # type: ignore[assignment]  # Counter of seconds

    return [part.register_forward_pre_hook(begin), part.register_forward_hook(end)]


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _forget_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak counts from here
    except OSError:
        return  # the peak is then that of the whole process


def _peak(device: torch.device) -> int | None:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        pass
    if os.name != "posix":
        return None
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


# --- without a benchmark -------------------------------------------------------------------------------------


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
    about = {name: getattr(model, name) for name in ("params", "device", "precision", "family")}
    cost = Cost.combined(costs, statistics.median)
    return Timing(model.name, size.w, size.h, scale, repeats, **vars(cost), **about)


def timing_table(timings: Sequence[Timing]) -> Table:
    """The table of cost that papers print."""
    parts = ("encode s", "generate s", "decode s", "total s")
    lines = [
        [
            t.model,
            f"{t.width}x{t.height}",
            f"x{t.scale:g}",
            *(number(seconds, ".4f") for seconds in (t.encode, t.generate, t.decode, t.seconds)),
            number(None if t.memory is None else t.memory / 1e6, ".0f"),
            number(t.params, ","),
            " ".join(filter(None, (t.device, t.precision))),
        ]
        for t in timings
    ]
    above = [f"median of {timings[0].repeats} runs after a warm-up; on a CPU the peak is that of the process"]
    return Table(above, ["model", "LR", "scale", *parts, "peak MB", "params", "on"], lines)


# --- operations ---------------------------------------------------------------------------------------------------


@cache
def flops_per_pixel(name: str, scale: float, steps: int | None = None, side: int = SIDE) -> float | None:
    """Floating-point operations per output pixel of a preset; None for an unknown name.

    A multiplication and the addition after it count as two; only products of matrices and convolutions count. For a
    diffusion model, one step and two steps are counted, which gives the cost of any number of them.
    """
    try:
        preset = resolve(name)
        if preset.encoder.name == FIXED_SCALE or preset.before:  # known by their weights alone
            return _counted(load_upscaler(name, device="cpu", precision="fp32", tile="none"), scale, side)
    except (PresetError, ModelError):
        return None
    upscaler = upscaler_for(build(preset), preset, device="cpu", precision="fp32", tile="none")
    sampling = upscaler.sampling
    if sampling is None:
        return _counted(upscaler, scale, side)
    counted = []
    for count in (1, 2):
        upscaler.sampling = replace(sampling, steps=count, skip=0)
        counted.append(_counted(upscaler, scale, side))
    calls = (steps or sampling.steps) - sampling.skip
    return counted[0] + (calls - 1) * (counted[1] - counted[0])  # every further step costs the same


def _counted(upscaler: Upscaler, scale: float, side: int) -> float:
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        sr = upscaler.upscale(torch.zeros(1, 3, side, side), scale)
    return counter.get_total_flops() / (sr.shape[2] * sr.shape[3])


def flops(row: Row) -> float | None:
    """Operations for the picture of a row, None where its model or size is unknown."""
    if row.width is None or row.height is None or row.family == "interpolation":
        return None
    name = re.sub(r"(\+(tta4?|no-limit))*$", "", row.model.partition("@")[0])
    each = flops_per_pixel(name, row.scale, row.steps)
    views = 4 if "+tta4" in row.model else 8 if "+tta" in row.model else 1  # of a self-ensemble
    return None if each is None else each * row.width * row.height * views
