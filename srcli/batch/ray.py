"""A batch on a Ray cluster: actors that do what a crew's processes do, on any machine that Ray knows.

An actor gets one picture at a time, so that a bad one fails alone. A picture whose actor dies goes to another one,
once; actors that come late, as machines join, take what is left.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from srcli.batch.each import Fatal, Item, Outcome
from srcli.batch.naming import Destination
from srcli.batch.pool import TRIES, Answer, Load, Work, attempt, death, engine_on, largest_first, outcome_of
from srcli.batch.storage import EXTRA_HINT
from srcli.batch.task import Settings
from srcli.errors import ResourceError, UsageError, first_line


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster to be used: the one that `RAY_ADDRESS` names or this machine belongs to, else this machine alone.

    Attributes:
        device: auto takes the GPUs of the cluster, if it has any; or cpu, cuda, ..
        workers: actors for each GPU, or without GPUs for each machine.
        load: makes the network on the device that is named; sent to the actors.
    """

    device: str
    workers: int
    load: Load
    least = 1  # pictures for which it is used

    def outcomes(self, settings: Settings, place: Destination, items: Sequence[Item]) -> Generator[Outcome]:
        """Do all items; what became of them comes as it is ready.

        Raises:
            UsageError: Ray is not installed.
            Fatal: weights or a device that are not there, or actors that do not start.
        """
        ray = _ray()
        started = not ray.is_initialized()
        if started:
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no reports to its makers
            try:
                ray.init(include_dashboard=False, log_to_driver=False, logging_level="error")
            except (ConnectionError, RuntimeError, ValueError, OSError) as error:
                raise Fatal(ResourceError(f"Ray does not start: {first_line(error, last=True)}.")) from error
        try:
            count, resources = self._share(ray)
            device = "cuda" if resources["num_gpus"] and self.device in ("auto", "all") else self.device
            device = "auto" if device == "all" else device
            work = Work(settings, place, self.load, max(1, int(resources["num_cpus"])))
            yield from _Run(ray, work, device, resources, count).outcomes(items)
        finally:
            if started:
                ray.shutdown()

    def _share(self, ray: Any) -> tuple[int, dict[str, float]]:
        """How many actors, and what each takes."""
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        gpus = int(sum(node.get("GPU", 0) for node in nodes))
        cpus = min((node["CPU"] for node in nodes if node.get("CPU")), default=1)
        if gpus and not self.device.startswith("cpu"):
            each = max(node.get("GPU", 0) for node in nodes) * self.workers
            return gpus * self.workers, {"num_gpus": 1 / self.workers, "num_cpus": max(1, cpus // each)}
        return len(nodes) * self.workers, {"num_gpus": 0, "num_cpus": max(1, cpus // self.workers)}


class Hand:
    """What runs in an actor: one picture after the other, with a network of its own."""

    def __init__(self, work: Work, device: str) -> None:
        self.work = work
        self.engine = engine_on(work, device)

    def is_ready(self) -> bool:
        """Whether it runs."""
        return True

    def do(self, item: Item) -> Answer:
        """One picture; see `attempt`."""
        return attempt(self.work, item, self.engine)


class _Run:
    """One batch: actors, and what each of them is busy with."""

    def __init__(self, ray: Any, work: Work, device: str, resources: dict[str, float], count: int) -> None:
        self.ray = ray
        self.count = count
        self.busy: dict[Any, tuple[Any, Item | None]] = {}  # promise -> actor, and its picture
        self.stillborn = 0
        shared = ray.put(work)
        remote = ray.remote(Hand).options(max_restarts=0, **resources)
        self.make: Callable[[], Any] = lambda: remote.remote(shared, device)

    def outcomes(self, items: Sequence[Item]) -> Generator[Outcome]:
        """See `Cluster.outcomes`."""
        waiting, lost = deque(largest_first(items)), dict.fromkeys(items, 0)
        for _ in range(min(self.count, len(items))):
            self._hire()
        try:
            while self.busy:
                (promise, *_), _ = self.ray.wait(list(self.busy), num_returns=1)
                actor, item = self.busy.pop(promise)
                try:
                    answer = self.ray.get(promise)
                except self.ray.exceptions.RayError as error:
                    if item is None:
                        self._count_stillborn(error)
                    else:
                        lost[item] += 1
                        if lost[item] < TRIES:
                            waiting.appendleft(item)
                        else:
                            yield Outcome(item, [], death(item, "its actor is gone"))
                    if waiting:
                        self._hire()
                    continue
                if waiting:
                    following = waiting.popleft()
                    self.busy[actor.do.remote(following)] = (actor, following)
                else:
                    self.ray.kill(actor)
                if item is not None:
                    yield outcome_of(item, answer)
        finally:
            for actor, _ in self.busy.values():
                with suppress(Exception):  # the cluster may be gone
                    self.ray.kill(actor)

    def _hire(self) -> None:
        actor = self.make()
        self.busy[actor.is_ready.remote()] = (actor, None)

    def _count_stillborn(self, error: Exception) -> None:
        self.stillborn += 1
        if self.stillborn > self.count:
            problem = ResourceError(
                f"Ray's actors do not start: {first_line(error, last=True)}.",
                hint="Is srcli installed on every machine of the cluster?",
            )
            raise Fatal(problem) from error


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise UsageError("--engine ray needs Ray.", hint=EXTRA_HINT) from error
    return ray
