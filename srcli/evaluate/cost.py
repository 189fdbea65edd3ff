"""What a result costs: seconds of each part of a network, and peak memory."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn


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


@contextmanager
def measured(network: nn.Module, device: torch.device) -> Iterator[Cost]:
    """Inside, a network works; afterwards the yielded `Cost` says what it took.

    The parts `encoder` and `generator` are timed by hooks, so that nothing in the engine knows of it.
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
