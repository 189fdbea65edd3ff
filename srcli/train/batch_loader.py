"""Batches for the network: samples of the next steps are made while this one is computed."""

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count

import torch

from srcli.data.samples import WHOLE_STEP, Batch, Range, Sampler, batch_rng
from srcli.processes import Ranks
from srcli.train.recipe import Recipe

Parts = tuple[Batch, ...]  # of one step, in this process
KEPT = 1 << 30  # bytes of samples of a pool that are cached
POOL = WHOLE_STEP - 2  # streams of random numbers from here downwards choose samples of a pool


class BatchLoader:
    """The batches of every step of a run, in this process.

    A step's samples are numbered over all processes and parts: the first part of each process in turn, then the
    second. Two processes therefore see what one sees with twice the batch.
    """

    def __init__(
        self, recipe: Recipe, sampler: Sampler, ranks: Ranks, *, pinned: bool = False, room: int = KEPT
    ) -> None:
        self.recipe, self.sampler, self.ranks, self.pinned, self.room = recipe, sampler, ranks, pinned, room
        self.schedule = recipe.scale_schedule
        sides = (min(photo.pixels.shape[:2]) for photo in sampler.photos)
        self.largest = max(sides) / recipe.data.patch
        self.kept: dict[int, Batch] = {}
        self.bytes = 0

    def step(self, step: int, check: Callable[[], None] = lambda: None) -> Parts:
        parts = []
        for part in range(self.recipe.optim.accumulate):
            check()
            parts.append(self._part(step, part))
        return tuple(parts)

    def heaviest(self, samples: int) -> Batch:
        """A batch of `samples` as in the step that takes most memory, to measure it."""
        patch = self.recipe.data.patch
        scales = self.schedule.heaviest(patch=patch, largest=self.largest)
        batch = self._drawn(0, range(samples), scales.scales, again=False)
        return batch._replace(stages=scales.stages)

    def _part(self, step: int, part: int) -> Batch:
        optim, overfit, pool = self.recipe.optim, self.recipe.overfit, self.recipe.data.pool
        first = (part * self.ranks.world + self.ranks.rank) * optim.batch
        numbers: Sequence[int] = range(first, first + optim.batch)
        again = bool(overfit or pool)
        if pool and not overfit:
            drawn = [batch_rng(optim.seed, step, POOL - number).integers(pool) for number in numbers]
            numbers, step = [int(number) for number in drawn], 0
        if overfit:  # the first samples of the first step, over and over
            first = (first + step * self.ranks.world * optim.accumulate * optim.batch) % overfit
            numbers, step = range(first, min(first + optim.batch, overfit)), 0
        scales = self.schedule.at(
            step, optim.steps, seed=optim.seed, patch=self.recipe.data.patch, largest=self.largest
        )
        batch = self._drawn(step, numbers, scales.scales, again=bool(pool and not overfit))
        if self.pinned:
            batch = batch.with_each(torch.Tensor.pin_memory)
        return batch._replace(stages=scales.stages, numbers=tuple(numbers) if again else None)

    def _drawn(self, step: int, numbers: Sequence[int], scales: Range | None, *, again: bool) -> Batch:
        """Samples of a step; with `again` those of a pool, which are cached up to `room` bytes."""
        seed, draw = self.recipe.optim.seed, self.sampler.draw
        if not again or self.recipe.data.on_device:
            return draw(seed, step, numbers, scales)
        parts = []
        for number in numbers:
            one = self.kept.get(number)
            if one is None:
                one = draw(seed, step, [number], scales)
                # Threads may make the same sample at once: only the one that is cached is counted.
                if self.bytes < self.room and self.kept.setdefault(number, one) is one:
                    self.bytes += sum(part.nbytes for part in one if isinstance(part, torch.Tensor))
            parts.append(one)
        lr, hr, coord, cell = (torch.cat(column) for column in list(zip(*parts, strict=True))[:4])
        pictures = [one.picture for one in parts if one.picture is not None]
        return Batch(lr, hr, coord, cell, picture=torch.cat(pictures) if pictures else None)

    @contextmanager
    def from_step(self, step: int, workers: int, check: Callable[[], None]) -> Iterator[Iterator[Parts]]:
        """An iterator over the steps from `step` on, made ahead by `workers` threads.

        Without workers, and for samples cut on the device (which works ahead by itself), a step is made when it is
        needed, and `check` is called before each of its parts.
        """
        if workers == 0 or self.recipe.data.on_device:
            yield (self.step(number, check) for number in count(step))
            return
        with ThreadPoolExecutor(workers, thread_name_prefix="samples") as pool:
            waiting: deque[Future[Parts]] = deque(
                pool.submit(self.step, step + i) for i in range(workers + 1)
            )

            def ahead() -> Iterator[Parts]:
                for later in count(step + len(waiting)):
                    waiting.append(pool.submit(self.step, later))
                    yield waiting.popleft().result()

            try:
                yield ahead()
            finally:
                pool.shutdown(cancel_futures=True)


def reach_note(loader: BatchLoader) -> str | None:
    """A line on photos that are too small for the schedule's scales, if they are."""
    if loader.schedule.highest <= loader.largest or math.isclose(loader.schedule.highest, loader.largest):
        return None
    return (
        f"the largest photo allows x{loader.largest:.3g} with LR patches of {loader.recipe.data.patch}; "
        f"scales of '{loader.schedule}' above are drawn as that"
    )
