"""What a run tells, and where a call of it stops."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

from srcli.processes import ENDING


@dataclass
class Progress:
    """What the caller is told after a step.

    Attributes:
        step: how many are done.
        loss: of this step; the sum where an objective has several.
        lr: learning rate of the next step.
        samples_per_second: of this call, over all processes.
        data_share: share of the time that was spent waiting for samples.
        skipped: steps of this call that changed nothing, for want of a finite loss.
        validation: PSNR in dB by scale, where this step was measured.
    """

    step: int
    loss: float
    lr: float
    samples_per_second: float
    data_share: float = 0.0
    skipped: int = 0
    validation: dict[str, float] | None = None


@dataclass
class Limits:
    """Where this call stops; the schedule's length is the recipe's `steps`."""

    steps: int | None = None
    seconds: float | None = None
    started: float = field(default_factory=time.monotonic)

    def reached(self, step: int) -> bool:
        """Whether to stop before step `step`."""
        return self.out_of_time() or (self.steps is not None and step >= self.steps)

    def out_of_time(self) -> bool:
        """Whether to stop at once, also within a step."""
        return self.seconds is not None and time.monotonic() - self.started >= self.seconds


class StoppedError(Exception):
    """What is under way is given up, since the time is over or a signal came."""


class CheckedWithin(TorchFunctionMode):
    """Inside, `check` is called before every operation forward and after it on the way back, so that it can end a pass.

    A pass back is one call that can take minutes, in which a signal only sets a flag.
    """

    def __init__(self, check: Callable[[], None]) -> None:
        self.check = check

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        self.check()
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.grad_fn is not None:
            result.register_hook(self._back)
        return result

    def _back(self, _gradient: Tensor) -> None:
        self.check()


@contextmanager
def stop_on_signal() -> Iterator[Callable[[], int | None]]:
    """Inside, SIGINT, SIGTERM and SIGHUP only raise a flag; the yielded call returns the signal or None.

    A second one does what it would outside; one that the caller has it ignore (`nohup`) stays ignored.
    """
    received: list[int] = []

    def remember(number: int, _frame: FrameType | None) -> None:
        if received:
            restore()
            signal.raise_signal(number)
        received.append(number)

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    previous = {s: signal.getsignal(s) for s in ENDING if signal.getsignal(s) is not signal.SIG_IGN}
    for number in previous:
        signal.signal(number, remember)
    try:
        yield lambda: received[0] if received else None
    finally:
        restore()
