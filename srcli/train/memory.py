"""How much memory a step takes, found out with one and two samples before the first one, so that it can be cut to fit."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.weak import WeakIdKeyDictionary

from srcli.data.samples import Batch
from srcli.engine.device import is_out_of_memory
from srcli.errors import ResourceError
from srcli.resources import free_memory, in_words
from srcli.train.batch_loader import Feed
from srcli.train.trainer import Trainer

SHARE = 0.9  # of the free memory that a step may take; kernels need some that is not seen here


class _TooMuchError(Exception):
    """A pass takes more than it may."""


class _Tracker(TorchDispatchMode):
    """Inside, the bytes of all tensors that are made are counted, on any device.

    Attributes:
        peak: the most that there was at once, beside the gradients of `parameters`.
        gradients: the most that these were.

    Args:
        parameters: what is trained.
        most: bytes.

    Raises:
        _TooMuchError: there are more than `most` at once.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], most: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.most = most
        self.now = self.peak = self.gradients = self.own = 0
        self.known = WeakIdKeyDictionary()
        self.hooks = [p.register_post_accumulate_grad_hook(self._gradient) for p in parameters]

    def __exit__(self, *error: Any) -> None:
        for hook in self.hooks:
            hook.remove()
        super().__exit__(*error)  # type: ignore[no-untyped-call]

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
        self.peak = max(self.peak, self.now - self.own)
        if self.now > self.most:
            raise _TooMuchError

    def _gone(self, size: int) -> None:
        self.now -= size

    def _gradient(self, parameter: Tensor) -> None:
        assert parameter.grad is not None
        self._own(parameter.nbytes)
        weakref.finalize(parameter.grad.untyped_storage(), self._own, -parameter.nbytes)

    def _own(self, size: int) -> None:
        self.own += size
        self.gradients = max(self.gradients, self.own)


def cut_to_fit(trainer: Trainer, feed: Feed, notify: Callable[[str], None], *, always: bool = False) -> None:
    """Set the pieces in which `trainer` passes a batch through: as few as fit into the memory.

    A pass of one sample is measured, and where it is close one of two: no decoder takes more for each of many. The
    gradient is the same but for the order of sums and for how noise is drawn. A run that had more pieces keeps them, so
    that it is resumed bit for bit.

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
    one = _measured(trainer, feed.heaviest(1), room)
    sample, gradients = one or (room, 1)
    if one and batch > 1 and gradients + batch * sample > room:
        two = _measured(trainer, feed.heaviest(2), room)
        sample = min(sample, two[0] // 2) if two else room
    most = 0 if one is None else max(1, (room - gradients) // sample)
    most = min(trainer.ranks.gathered([most]))
    if not most:
        raise ResourceError(
            f"a step on one sample takes more than {in_words(max(0, room))} of memory beside the weights, and "
            f"{in_words(free)} are free.",
            hint="Lower data.patch or data.queries with --set, take a smaller network, or free some memory.",
        )
    pieces = (n for n in range(min(before, batch), batch + 1) if batch % n == 0 and batch // n <= most)
    trainer.pieces = next(pieces)
    passes = batch // trainer.pieces
    if trainer.pieces > 1 or always:
        needed = trainer.bytes_to_come + gradients + sample * passes
        notify(
            f"memory: a step takes about {in_words(needed)}, {in_words(free)} are free; one sample takes {in_words(sample)}"
            + (
                f", so {batch} go through in {trainer.pieces} passes of {passes}"
                if trainer.pieces > 1
                else ""
            )
        )
    if trainer.step and trainer.pieces != before:
        notify(f"there were {before} passes before: from here on, sums are rounded in another order")


def _measured(trainer: Trainer, batch: Batch, most: int) -> tuple[int, int] | None:
    """Bytes that all passes of a step take at most beside the gradients, and of these; None where they are more than `most`."""
    try:
        with _Tracker(trainer.parameters, most) as tracker:
            trainer.try_pass(batch)
    except _TooMuchError:
        return None
    except RuntimeError as error:
        if is_out_of_memory(error):
            return None
        raise
    return tracker.peak, tracker.gradients
