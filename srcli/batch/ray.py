"""A batch on a Ray cluster: actors that do what the processes of a pool do, on any machine that Ray knows.

Actors that come late, as machines join, take what is left.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from srcli.batch.inputs import EXTRA_HINT
from srcli.batch.job import Settings
from srcli.batch.naming import Destination
from srcli.batch.pool import Answer, Died, WorkerSetup, attempt, outcomes, worker_on
from srcli.batch.worker import Fatal, Item, Outcome
from srcli.errors import ResourceError, UsageError, first_line


@dataclass(frozen=True)
class RayPool:
    """A Ray cluster to be used: the one that `RAY_ADDRESS` names or this machine belongs to, else this machine alone.

    `device` auto takes the GPUs of the cluster, if it has any; there are `workers` for each GPU, or else each machine.
    """

    device: str
    workers: int
    least = 1  # pictures for which it is used

    def outcomes(self, settings: Settings, place: Destination, items: Sequence[Item]) -> Generator[Outcome]:
        """Do all items; what became of them comes as it is ready.

        Raises UsageError (Ray is not installed), Fatal (what would fail for every picture: no weights, no device, or
        actors that do not start).
        """
        ray = _ray()
        is_ours = not ray.is_initialized()
        if is_ours:
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no reports to its makers
            try:
                ray.init(include_dashboard=False, log_to_driver=False, logging_level="error")
            except (ConnectionError, RuntimeError, ValueError, OSError) as error:
                raise Fatal(ResourceError(f"Ray does not start: {first_line(error, last=True)}.")) from error
        try:
            count, resources = self._share(ray)
            device = "cuda" if resources["num_gpus"] and self.device in ("auto", "all") else self.device
            device = "auto" if device == "all" else device
            setup = WorkerSetup(settings, place, max(1, int(resources["num_cpus"])))
            yield from outcomes(_Actors(ray, setup, device, resources, count), items)
        finally:
            if is_ours:
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


class Actor:
    """What runs on another machine: one picture after the other, with a network of its own."""

    def __init__(self, setup: WorkerSetup, device: str) -> None:
        self.worker = worker_on(setup, device)

    def start(self) -> None:
        """Done when it runs."""

    def do(self, item: Item) -> Answer:
        """One picture."""
        return attempt(self.worker, item)


class _Actors:
    """Workers that are known by their handle."""

    def __init__(
        self, ray: Any, setup: WorkerSetup, device: str, resources: dict[str, float], count: int
    ) -> None:
        self.count = count
        self._ray = ray
        self._promises: dict[Any, tuple[Any, bool]] = {}  # actor, and whether it has started
        self._stillborn = 0
        shared = ray.put(setup)
        remote = ray.remote(Actor).options(max_restarts=0, **resources)
        self._make: Callable[[], Any] = lambda: remote.remote(shared, device)

    def start_worker(self) -> Any:
        actor = self._make()
        self._promises[actor.start.remote()] = actor, False
        return actor

    def send(self, worker: Any, item: Item) -> None:
        self._promises[worker.do.remote(item)] = worker, True

    def wait(self) -> tuple[Any, Answer | Died | None]:
        (promise, *_), _ = self._ray.wait(list(self._promises), num_returns=1)
        actor, has_started = self._promises.pop(promise)
        try:
            return actor, self._ray.get(promise)
        except self._ray.exceptions.RayError as error:
            self._stillborn += not has_started
            if self._stillborn > self.count:
                problem = ResourceError(
                    f"Ray's actors do not start: {first_line(error, last=True)}.",
                    hint="Is srcli installed on every machine of the cluster?",
                )
                raise Fatal(problem) from error
            return actor, Died("its actor is gone")

    def stop(self, worker: Any) -> None:
        self._ray.kill(worker)

    def close(self) -> None:
        for actor, _ in self._promises.values():
            with suppress(Exception):  # the cluster may be gone
                self._ray.kill(actor)


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise UsageError("--workers ray needs Ray.", hint=EXTRA_HINT) from error
    return ray
