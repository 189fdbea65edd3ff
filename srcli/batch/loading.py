"""Where networks run: in this process, in several, or on a cluster; and how each is loaded."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from srcli.batch.inputs import EXTRA_HINT
from srcli.config.presets import Preset
from srcli.config.sampling import Sampling, choose_sampling
from srcli.errors import ResourceError, SrcliError, UsageError
from srcli.resources import has_gpu
from srcli.weights.files import digest_of, locate

if TYPE_CHECKING:
    from srcli.batch.inputs import Source
    from srcli.batch.naming import Destination
    from srcli.batch.pool import ProcessPool
    from srcli.batch.ray import RayPool
    from srcli.batch.render import Engine
    from srcli.engine.upscaler import Upscaler
    from srcli.geometry import Size

PLENTY = 1 << 40  # bytes
PARAMETER = 6  # bytes of one: float32, and laid out anew or rounded
MARGIN = 60  # LR pixels around a tile, of most encoders
TILE_MEMORY, UNSTATED = 537, (50, 1500)  # of presets that do not say: `tile_memory` and `memory`
LOOKED_AT = 64  # headers, for the time that a batch takes


@dataclass
class Model:
    """A preset and how its network is loaded; can be sent to another process."""

    preset: Preset
    precision: str = "auto"
    tile: str = "auto"
    sampling: Sampling | None = None  # of a diffusion model; None: the preset's own
    branch: str | None = None  # of a decoder with several; None: the one that it chooses for each pixel
    limit: bool | None = None  # False: results are not kept within limits
    needs_weights: bool = True  # False, for a dry run: weights that are not here have the hash ""
    _sha256: str | None = None
    _engines: dict[str, Engine] = field(default_factory=dict)

    def weights_sha256(self) -> str:
        """The SHA-256 of its weights in hexadecimal digits, found when it is first asked for."""
        if not self.needs_weights and locate(self.preset) is None:
            return ""
        self._sha256 = self._sha256 or digest_of(self.preset)
        return self._sha256

    def engine(self, device: str) -> Engine:
        """Its network on a device, loaded once."""
        if device not in self._engines:
            self._engines[device] = self.load(device)
        return self._engines[device]

    def load(self, device: str) -> Upscaler:
        """Its network on a device."""
        from srcli.engine.load import load_upscaler

        return load_upscaler(
            self.preset,
            device=device,
            precision=self.precision,
            tile=self.tile,
            sampling=self.sampling,
            branch=self.branch,
            limit=self.limit,
        )

    def other(self, preset: Preset) -> Model:
        """Another one, loaded in the same way."""
        return Model(preset, self.precision, self.tile, limit=self.limit)


def first_device(device: str) -> str:
    """The device for a lone picture, of those that were named."""
    return "auto" if device == "all" else device.split(",")[0]


def pool_of(engine: str, device: str, workers: int) -> ProcessPool | RayPool | None:
    """The processes that --device and --workers ask for; None for this one alone."""
    if engine == "ray":
        from srcli.batch.ray import RayPool

        return RayPool(device, workers)
    devices = [word for word in device.split(",") if word]
    if device == "all":
        from srcli.engine.device import all_devices

        devices = all_devices()
    devices = devices * workers
    if len(devices) < 2:
        return None
    from srcli.batch.pool import ProcessPool

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return ProcessPool(tuple(devices), max(1, cores // len(devices)))


def network_memory(model: Model, size: Size, free: int | None) -> int:
    """Bytes that a network takes for a picture of `size` on a CPU with `free` bytes of memory; found without torch."""
    from srcli.geometry import tile_shape

    if has_gpu() or model.preset.kind == "restoration":  # which plans its memory by itself
        return 0
    cost, most = model.preset.cost, (model.preset.engine.tile_memory or TILE_MEMORY) * 1_000_000
    fixed, each = cost.memory or UNSTATED
    tile = tile_shape(
        size,
        MARGIN,
        1,
        tile=int(model.tile) if model.tile.isdigit() and int(model.tile) else model.tile,
        bytes_per_pixel=int(each),
        free=most if free is None else min(most, free // 4),
    )
    read = [min(side + 2 * MARGIN, whole) for side, whole in zip(tile, size, strict=True)]
    row = 0 if tile == size else tile.h * size.w  # of several tiles
    held = fixed * 1_000_000 + read[0] * read[1] * each + row * cost.features
    return PARAMETER * (model.preset.params or 0) + int(held)


def memory_plan(model: Model, device: str, target: Size) -> tuple[list[str], int]:
    """What an output would take, in lines and bytes, of a model that plans its memory by itself."""
    from srcli.config.base_models import bases_of, locate_base
    from srcli.engine.device import choose_device
    from srcli.engine.memory_plan import plan_memory, speed
    from srcli.engine.tiling import checked_tile
    from srcli.resources import free_memory

    preset, tile = model.preset, checked_tile(model.tile)
    chosen = model.sampling or choose_sampling(preset)
    assert chosen is not None
    where = choose_device(device).device
    free, note = free_memory(where), []
    try:
        found = plan_memory(preset, target, chosen, tile=tile, free=free)
    except ResourceError as error:
        note = [f"not on this machine: {error.message}"]
        found = plan_memory(preset, target, chosen, tile=tile, free=PLENTY)
    absent = [base for base in bases_of(preset) if locate_base(base) is None]
    if absent:
        note.append(f"not here yet: {', '.join(absent)} (srcli models pull {' '.join(absent)})")
    return [*found.lines(speed(where)), *note], found.peak


def seconds_needed(upscaler: Upscaler, sources: Sequence[Source]) -> float | None:
    """How long a network takes for its inputs here, by some of their headers; None where none can be read."""
    from srcli.engine.memory_plan import seconds_for
    from srcli.geometry import Size
    from srcli.image.probe import probe

    files = [source.path for source in sources if source.path is not None]
    sizes = []
    for path in files[:: -(-len(files) // LOOKED_AT) or 1]:
        with suppress(SrcliError, OSError):
            sizes.append(Size(*probe(path, frames="first").size))
    return seconds_for(upscaler, sizes) * len(files) / len(sizes) if sizes else None


def check_engine(engine: str, sources: Sequence[Source], place: Destination, *, dry_run: bool) -> None:
    """Object storage is for Ray, standard streams are for this process.

    Raises UsageError (it is the other way round, or Ray is not installed).
    """
    stored = [source.label for source in sources if source.uri]
    stored += [f"{place.scheme}://"] if place.scheme else []
    if engine == "local":
        if stored:
            raise UsageError(f"{stored[0]} is in object storage.", hint="Give --workers ray.")
        return
    if importlib.util.find_spec("ray") is None:
        raise UsageError("--workers ray needs Ray.", hint=EXTRA_HINT)
    if place.stdout or any(source.path is None for source in sources):
        raise UsageError("--workers ray takes no picture from standard input or to standard output.")
    if stored and dry_run:
        raise UsageError("--dry-run does not look into object storage.")
