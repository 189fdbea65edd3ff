"""Evaluation on several processes: `torchrun -m srcli eval ..` gives each its share of the pictures."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


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
