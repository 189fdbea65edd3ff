"""How much memory and arithmetic a network would take, found without either: it is run on tensors that have no content.

Every operation's results are counted while they live, as torch frees them in earnest; what a kernel needs inside an
operation is not seen. Parameters and inputs are counted if they are made inside.
"""

import time
import weakref
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

SPEED_SIDE = 768  # of the matrices whose product tells how fast a processor is


class Cost(NamedTuple):
    """What a call takes."""

    peak: int  # bytes of results that live at once at most, beside what was there before
    flops: int  # of products of matrices and convolutions; a multiplication and an addition are two


class _Live(TorchDispatchMode):
    """Counts the bytes of all storages that operations inside make, while they live."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.most = 0
        self.seen: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        for each in tree_leaves((args, kwargs)):
            if isinstance(each, Tensor):  # parameters and such, of which the result may be a view
                self.seen.add(each.untyped_storage())
        result = func(*args, **(kwargs or {}))
        for each in tree_leaves(result):
            if isinstance(each, Tensor):
                self._count(each.untyped_storage())
        return result

    def _count(self, storage: Any) -> None:
        if storage in self.seen:
            return
        self.seen.add(storage)
        size = storage.nbytes()
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._gone, size).atexit = False

    def _gone(self, size: int) -> None:
        self.now -= size


def cost(call: Callable[[], Any]) -> Cost:
    """What a call takes that makes its own inputs; run inside `without_content`."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter, _Live() as live:
        before = live.now
        result = call()
        peak = live.most - before
        del result
    return Cost(peak, counter.get_total_flops())


def without_content() -> FakeTensorMode:
    """Inside, tensors have a shape and a type, and no content; networks are made at once."""
    return FakeTensorMode(allow_non_fake_inputs=True)


def parameter_bytes(network: nn.Module) -> int:
    """Bytes of parameters and buffers."""
    tensors = [*network.parameters(), *network.buffers()]
    return sum(t.numel() * t.element_size() for t in tensors)


def speed(device: torch.device) -> float:
    """Floating-point operations per second that a product of matrices reaches on a device, measured now."""
    a = torch.rand(SPEED_SIDE, SPEED_SIDE, device=device)

    def seconds() -> float:
        began = time.perf_counter()
        float((a @ a).sum())
        return time.perf_counter() - began

    seconds()
    return 2 * SPEED_SIDE**3 / min(seconds() for _ in range(3))
