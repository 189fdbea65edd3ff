"""This process among others: the signals that end it, and its rank in a distributed run.

A signal (Ctrl-C, SIGTERM, SIGHUP of a terminal that is closed) unwinds what is under way, which removes temporary files,
and the process ends with 128 + number. A second one, one inside an import (what is raised there does not always come
out), and one that takes long to unwind, because a library computes and Python does not get a word in, end it at once.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn, TypeVar

from srcli.files import remove_temporary_files

T = TypeVar("T")
PATIENCE = 1.5  # seconds
ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
_received: list[int] = []


def handle_signals() -> None:
    """From here on they end this process as said above; one that the caller has it ignore (`nohup`) stays ignored."""
    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _unwind)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)  # gets the signal's number at once
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))
    threading.Thread(target=_watch, args=(reader,), daemon=True).start()


def end_if_signalled() -> None:
    """The last thing that is done: end with the code of a signal if one has come; if one comes now, end at once."""
    if _received:
        _end(_received[0])  # taking libraries down would let the next signal through
    _received.extend(ENDING)


def _unwind(number: int, frame: FrameType | None) -> None:
    if number in _received or _is_importing(frame):
        _end(number)
    _received.append(number)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _watch(reader: int) -> None:
    with suppress(OSError), os.fdopen(reader, "rb", buffering=0) as pipe:
        while number := pipe.read(1):
            if signal.getsignal(number[0]) is _unwind:  # and not one that saves first
                time.sleep(PATIENCE)
                _end(number[0])


def _end(number: int) -> NoReturn:
    remove_temporary_files()
    os._exit(128 + number)


@dataclass(frozen=True)
class Ranks:
    """This process among those that share the work."""

    rank: int = 0
    world: int = 1

    def mine(self, index: int) -> bool:
        """Whether the picture number `index` is done here."""
        return index % self.world == self.rank

    def gathered(self, values: list[T]) -> list[T]:
        """The values of all processes, on all of them."""
        if self.world == 1:
            return values
        import torch.distributed as dist

        parts: list[list[T]] = [[] for _ in range(self.world)]
        dist.all_gather_object(parts, values)
        return [value for part in parts for value in part]


@contextmanager
def joined_ranks(backend: str = "gloo") -> Iterator[Ranks]:
    """Inside, the processes that torchrun started know each other; a lone process needs nothing.

    Args:
        backend: how tensors travel; Python objects always travel by gloo.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Ranks()
        return
    import torch.distributed as dist

    ours = not dist.is_initialized()
    if ours:
        # Its functions have the group of the moment of import as default. Imported later (optimisers do), they would keep
        # the group's threads beyond `destroy_process_group`, and now and then these abort the interpreter's exit.
        import torch.distributed.nn.functional  # noqa: F401

        dist.init_process_group("gloo" if backend == "gloo" else f"cpu:gloo,cuda:{backend}")
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size())
    finally:
        if ours:
            dist.destroy_process_group()
