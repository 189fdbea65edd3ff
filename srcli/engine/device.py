"""Which processor runs, and in which precision."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from srcli.engine.request import RenderStats
from srcli.errors import ResourceError, UsageError, suggest

Precision = Literal["fp32", "bf16", "fp16"]
DTYPES: dict[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Choice(NamedTuple):
    """A device and, in a few words, why it was taken."""

    device: torch.device
    reason: str


def choose_device(name: str = "auto") -> Choice:
    """The device called `name`; "auto" takes the first of cuda, xpu, mps and cpu that is there.

    Raises UsageError (an unknown name), ResourceError (a device that this machine does not have).
    """
    present = {
        "cuda": torch.cuda.is_available(),
        "xpu": hasattr(torch, "xpu") and torch.xpu.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        kind = next(kind for kind, there in present.items() if there)
        absent = [k for k in present if not present[k]]
        return Choice(
            torch.device(kind), f"first available; none of {', '.join(absent)}" if absent else "first"
        )
    kind, _, index = name.partition(":")
    if kind not in present or (index and not index.isdigit()):
        raise UsageError(f"Unknown device '{name}'.", hint=suggest(kind, ["auto", *present]))
    if not present[kind]:
        raise ResourceError(
            f"This machine has no {kind} device that torch can use.", hint="Try --device auto."
        )
    if kind == "cuda" and index and int(index) >= torch.cuda.device_count():
        raise ResourceError(
            f"There is no {name}; this machine has {torch.cuda.device_count()} CUDA device(s)."
        )
    return Choice(torch.device(name), "asked for")


def all_devices() -> list[str]:
    """The CUDA devices of this machine, or what "auto" means where there are none."""
    return [f"cuda:{i}" for i in range(torch.cuda.device_count())] or ["auto"]


def choose_precision(name: str, device: torch.device, *, cpu_bf16: bool = False) -> Precision:
    """The precision called `name`; "auto" is bf16 on a CUDA or XPU device that has it, else fp32.

    With `cpu_bf16` it is bf16 on a CPU with instructions for it, too. Raises UsageError (an unknown name).
    """
    if name == "auto":
        half = (device.type == "cuda" and torch.cuda.is_bf16_supported()) or device.type == "xpu"
        half = half or (cpu_bf16 and device.type == "cpu" and _cpu_computes_bf16())
        return "bf16" if half else "fp32"
    if name not in DTYPES:
        raise UsageError(f"Unknown precision '{name}'.", hint=suggest(name, ["auto", *DTYPES]))
    return name  # type: ignore[return-value]


def _cpu_computes_bf16() -> bool:
    asked = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")  # not in every version of torch
    return any(getattr(torch.cpu, name, bool)() for name in asked)


@contextmanager
def autocast(device: torch.device, precision: Precision) -> Iterator[None]:
    """Inside, networks compute in `precision`, repeatably; float32 means float32 (no TF32)."""
    dtype = DTYPES[precision]
    cast = torch.autocast(device.type, dtype) if precision != "fp32" else nullcontext()
    exact = torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=precision != "fp32"
    )
    with torch.inference_mode(), cast, exact if device.type == "cuda" else nullcontext():
        yield


def with_fallback(
    compute: Callable[[Precision], Tensor],  # the work, in the precision it is given
    device: torch.device,  # where it runs
    precision: Precision,  # it runs in
    *,
    what: str,  # is computed again, in words, with its verb
    stats: RenderStats | None = None,  # counts it, so that it is told once
) -> Tensor:
    """What `compute` gives in `precision`, or in float32 where that is not finite."""
    with autocast(device, precision):
        found = compute(precision)
    if precision == "fp32" or is_finite(found):
        return found
    if stats is None or what not in stats.told:
        warnings.warn(
            f"{precision} gave NaN or infinity on {device}; {what} computed in fp32.",
            RuntimeWarning,
            stacklevel=3,
        )
    if stats is not None:
        stats.told.add(what)
        stats.fp32_fallbacks += 1
    with autocast(device, "fp32"):
        return compute("fp32").float()


def is_finite(values: Tensor) -> bool:
    """Whether no value is NaN or infinity: their sum, in one pass over memory, tells it but where it overflows."""
    return bool(values.sum(dtype=torch.float32).isfinite()) or bool(values.isfinite().all())


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that a device or the machine has no memory left."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and "alloc" in str(error) and "memory" in str(error)


def to_numpy(values: Tensor, *, as_bytes: bool = False) -> np.ndarray:
    """Values from the device; as bytes they are a quarter, rounded half to even like NumPy's."""
    if as_bytes:
        values = values.clamp(0, 1).mul_(255).round_().to(torch.uint8)
    return values.cpu().numpy()
