"""How much memory a step takes, found out with one and two samples before the first one, so that it can be cut to fit."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.weak import WeakIdKeyDictionary

from srcli.errors import ResourceError
from srcli.resources import free_memory, in_words
from srcli.train.feed import Feed
from srcli.train.trainer import Trainer

SHARE = 0.9  # of the free memory that a step may take; kernels need some that is not seen here


class _TooMuchError(Exception):
    """A pass takes more than it may."""


class _Tracker(TorchDispatchMode):
    """Inside, the bytes of all tensors that are made are counted, their most in `peak`; on any device, to the byte.

    Raises:
        _TooMuchError: there are more than `most` at once.
    """

    def __init__(self, most: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.most, self.now, self.peak = most, 0, 0
        self.known = WeakIdKeyDictionary()

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        tree_map_only(Tensor, self._seen, (args, kwargs))
        result = func(*args, **kwargs)
        tree_map_only(Tensor, self._made, result)
        return result

    def _seen(self, tensor: Tensor) -> None:
        self.known.setdefault(tensor.untyped_storage(), None)

    def _made(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage in self.known:
            return
        self.known[storage] = None
        size = storage.nbytes()
        weakref.finalize(storage, self._gone, size)
        self.now += size
        self.peak = max(self.peak, self.now)
        if self.peak > self.most:
            raise _TooMuchError

    def _gone(self, size: int) -> None:
        self.now -= size


def _peak(work: Callable[[], None], device: torch.device, most: int) -> int | None:
    """Bytes that `work` takes at most on `device`; None where they are more than `most`."""
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        try:
            work()
        except torch.OutOfMemoryError:
            return None
        return torch.cuda.max_memory_allocated(device) - before
    try:
        with _Tracker(most) as tracker:
            work()
    except _TooMuchError:
        return None
    return tracker.peak


def cut_to_fit(trainer: Trainer, feed: Feed, notify: Callable[[str], None], *, always: bool = False) -> None:
    """Set the pieces in which `trainer` passes a batch through: as few as fit into the memory.

    The gradient is the same but for the order of sums and for how noise is drawn. A run that had more pieces keeps them,
    so that it is resumed bit for bit.

    Args:
        trainer: at the step where it goes on.
        feed: its samples.
        notify: called with a line on the memory, if there is more than one piece.
        always: also if there is one.

    Raises:
        ResourceError: not even one sample fits.
    """
    batch, before = trainer.recipe.optim.batch, trainer.pieces
    free = free_memory(trainer.device)
    if trainer.device.type == "cpu":  # the processes of a machine share it
        free //= int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    room = int(free * SHARE) - trainer.bytes_to_come

    def peak(samples: int) -> int | None:
        return _peak(partial(trainer.try_pass, feed.heaviest(samples)), trainer.device, room)

    one = peak(1)
    most = min(trainer.ranks.gathered([0 if one is None else _most(one, batch, room, peak)]))
    if one is None or not most:
        raise ResourceError(
            f"a step on one sample takes more than {in_words(max(0, room))} of memory beside the weights, and "
            f"{in_words(free)} are free.",
            hint="Lower data.patch or data.queries with --set, take a smaller network, or free some memory.",
        )
    pieces = (n for n in range(min(before, batch), batch + 1) if batch % n == 0 and batch // n <= most)
    trainer.pieces = next(pieces)
    if trainer.pieces == 1 and not always:
        return
    passes = batch // trainer.pieces
    needed = trainer.bytes_to_come + (peak(passes) or room)
    notify(
        f"memory: a step takes about {in_words(needed)}, {in_words(free)} are free; one sample takes {in_words(one)}"
        + (f", so {batch} go through in {trainer.pieces} passes of {passes}" if trainer.pieces > 1 else "")
    )
    if trainer.step and trainer.pieces != before:
        notify(f"there were {before} passes before: from here on, sums are rounded in another order")


def _most(one: int, batch: int, room: int, peak: Callable[[int], int | None]) -> int:
    """How many samples of a batch fit into `room` at once, a divisor of `batch`; `one` of them takes that much.

    Where it is close, the passes themselves are measured: a decoder that computes parts again to save memory begins to
    do so at some size.
    """
    if one * batch <= room:
        return batch
    two = peak(2)
    sample = 0 if two is None else max(two - one, 0)
    fitting = (n for n in range(batch, 1, -1) if batch % n == 0 and one + (n - 1) * sample <= room)
    return next((n for n in fitting if two is not None and peak(n) is not None), 1)
