"""Where networks run: in this process, in several, or on a cluster; and how each is loaded."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from srcli.config.presets import Preset
from srcli.config.sampling import Sampling
from srcli.files import sha256
from srcli.weights.files import find, locate

if TYPE_CHECKING:
    from srcli.batch.pool import ProcessPool
    from srcli.batch.ray import RayPool
    from srcli.engine.upscaler import Upscaler


@dataclass
class WeightsHash:
    """The hash of a preset's weights, found when it is asked for; can be sent to another process."""

    preset: Preset
    found: str | None = None
    needed: bool = True

    def __call__(self) -> str:
        """The SHA-256 in hexadecimal digits; "" for weights that are neither here nor needed."""
        if not self.needed and locate(self.preset) is None:
            return ""
        self.found = self.found or sha256(find(self.preset))
        return self.found


@dataclass(frozen=True)
class Loading:
    """How a model is loaded; can be sent to another process."""

    model: str
    precision: str
    tile: str
    sampling: Sampling | None = None
    branch: str | None = None
    limit: bool | None = None

    def __call__(self, device: str) -> Upscaler:
        """The network on a device."""
        from srcli.engine.load import load_upscaler

        return load_upscaler(
            self.model,
            device=device,
            precision=self.precision,
            tile=self.tile,
            sampling=self.sampling,
            branch=self.branch,
            limit=self.limit,
        )


def first_device(device: str) -> str:
    """The device for a lone picture, of those that were named."""
    return "auto" if device == "all" else device.split(",")[0]


def pool_of(engine: str, loading: Loading, device: str, workers: int) -> ProcessPool | RayPool | None:
    """The processes that --engine, --device and --workers ask for; None for this one alone."""
    from srcli.batch.pool import ProcessPool
    from srcli.batch.ray import RayPool

    if engine == "ray":
        return RayPool(device, workers, loading)
    devices = [word for word in device.split(",") if word]
    if device == "all":
        from srcli.engine.device import all_devices

        devices = all_devices()
    devices = devices * workers
    if len(devices) < 2:
        return None
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return ProcessPool(tuple(devices), loading, max(1, cores // len(devices)))
