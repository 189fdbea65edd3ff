"""What a batch is asked for, what is decided about one of its results, and what became of it: plain data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from srcli import __version__
from srcli.config.sampling import Sampling, choose_sampling, is_sampled
from srcli.config.temperature import Asked, Chosen, choose
from srcli.geometry import Size
from srcli.image.formats import OPTIONS, Depth

if TYPE_CHECKING:
    from srcli.batch.degradation import RealWorld
    from srcli.batch.inputs import Source
    from srcli.batch.loading import Model
    from srcli.batch.manifest import Manifest
    from srcli.batch.sizes import SizeRule, Target
    from srcli.config.presets import Preset
    from srcli.engine.temperature_map import TemperatureMap
    from srcli.errors import SrcliError
    from srcli.image.colour_transfer import TransferMethod
    from srcli.image.probe import Header

Status = Literal["planned", "done", "skipped", "failed"]
Exists = Literal["auto", "skip", "overwrite"]


@dataclass(frozen=True)
class Settings:
    """Everything about a batch that is the same for all its pictures."""

    rule: SizeRule  # how large
    model: Model
    format: str | None = None  # None: the input's
    encoding: dict[str, Any] = field(default_factory=dict)  # further options of `srcli.image.plan_output`
    alpha: str = "auto"  # how transparency is enlarged: auto, model, lanczos or drop
    frames: str = "error"  # which picture of an animation
    seed: int = 0  # of the first sample, for models that draw; recorded
    temperature: Asked = None  # None and "auto": the preset's own
    temperature_map: TemperatureMap | None = None  # a factor on it for every pixel
    samples: int = 1  # results for every input, with seeds from `seed` on
    consistency: bool = False  # results are made to reduce to their input
    selection: Path | None = None  # map of the chosen branches: a file, or a folder with one for each picture
    self_ensemble: bool = False  # results are the mean over turned and mirrored copies of the input
    colour_transfer: TransferMethod | None = None  # how results take their colours from the input again
    provenance: bool = True  # the output records how it was made
    real_world: RealWorld | None = None  # measures every picture, and is for those that are damaged
    # How much of a restoring model's picture is taken, the rest from `faithful`; None: all of it, or with
    # `real_world` as the damage says.
    restore: float | None = None
    faithful: Model | None = None  # restores nothing; where a part of its picture may be wanted
    notice: bool = False  # tell if one of the pictures, which nobody asked about, is damaged
    # For a dry run: lines on what an output of a size would take, and bytes.
    memory_plan: Callable[[Size], tuple[list[str], int]] | None = None
    exists: Exists = "auto"  # what to do where the output exists
    any_weights: bool = False  # an output that other weights made, by the same options, is up to date
    manifest: Manifest | None = None  # of what was done before
    in_memory: int | None = None  # larger inputs, in bytes, may lie on the disk; None: by the free memory
    max_input_pixels: int = 500_000_000  # larger inputs are refused
    max_output_pixels: int = 4_000_000_000

    def chosen_temperature(self, target: Target) -> Chosen | None:
        """The temperature for one picture; None for a preset that draws no noise."""
        return choose(self.model.preset, target.scale, self.temperature)

    @property
    def limited(self) -> bool | None:
        """Whether results are kept within limits; None for a preset that has none."""
        return self.model.limit is not False if self.model.preset.engine.limit else None

    @property
    def restored(self) -> float | None:
        """How much of the model's picture is taken; None for one that restores nothing."""
        if self.model.preset.training.degradation is None or self.faithful is None:
            return None
        return 1.0 if self.restore is None else self.restore

    def chosen_sampling(self) -> Sampling | None:
        """Sampler, steps and so on; None for a preset that is no diffusion model."""
        if not is_sampled(self.model.preset):
            return None
        return self.model.sampling or choose_sampling(self.model.preset)

    def fingerprint(self, content: bytes, target: Target, weights: str, *, form: str, seed: int) -> str:
        """What a result depends on, in 32 hexadecimal digits.

        BLAKE2b over the hash of the input's content, the weights' hash, the options that change pixels or
        metadata in the output's format, and the major version. Device and tile are not among them: they do not
        change the picture.
        """
        idle = {name: usual for name, (usual, formats) in OPTIONS.items() if form not in formats}
        options = {
            "size": target.size,
            "dpi": target.dpi,
            "format": self.format,
            "encoding": {name: idle.get(name, value) for name, value in self.encoding.items()},
            "alpha": self.alpha,
            "frames": self.frames,
            "precision": self.model.precision,
            "seed": seed,
        }
        noise, share = self.chosen_temperature(target), self.restored
        faithful = None if share in (None, 1) or self.faithful is None else self.faithful.weights_sha256()
        drawn: dict[str, Any] = {
            "temperature": None if noise is None else noise.value,
            "temperature_map": None if self.temperature_map is None else self.temperature_map.digest,
            "consistency": self.consistency or None,
            "branch": self.model.branch,
            "tta": self.self_ensemble or None,
            "limit": False if self.limited is False else None,
            "restore": None if faithful is None else [share, faithful],
            "colour_fix": self.colour_transfer,
        }
        options |= {key: value for key, value in drawn.items() if value is not None}
        if (sampling := self.chosen_sampling()) is not None:
            options["sampling"] = {**asdict(sampling), "tile": self.model.tile}
        text = json.dumps([weights, options, __version__.split(".")[0]], sort_keys=True)
        return hashlib.blake2b(content + text.encode(), digest_size=16).hexdigest()


@dataclass(frozen=True)
class Job:
    """One result with all decisions made."""

    source: Source
    header: Header  # of the input
    target: Target  # output size
    path: Path | None  # of the output; None is standard output
    preset: Preset  # of the model that this picture gets
    needs_network: bool  # a side grows, or none changes and the model repairs
    format: str
    depth: Depth
    seed: int  # of the noise
    frames: int | None = None  # pictures of an animation, where all of them are done
    temperature: Chosen | None = None  # factor on the noise; None for a model that draws none
    temperature_map: str | None = None  # auto or a file, where the factor varies
    sampling: Sampling | None = None  # of a diffusion model
    branch: str | None = None  # of a diffusion model, as asked for
    degradation: dict[str, Any] | None = None  # the damage that was measured, where it decides on the model
    model: dict[str, Any] | None = None  # name, sha256 and license of the weights; None: no network runs
    restore: float | None = None  # how much of a restoring model's picture is taken; None for other models
    limit: bool | None = None  # the result is kept within limits; None for a model that has none
    in_content: str | None = None  # content ID of the input, see `provenance`
    fingerprint: str | None = None  # see `Settings.fingerprint`
    content: str | None = None  # content ID of an output that is up to date
    is_finished: bool = False  # the output is there and stays as it is
    memory: int | None = None  # bytes that are needed, an estimate
    notes: tuple[str, ...] = ()  # what was decided, a line each

    @property
    def pixels(self) -> int:
        """Output pixels, of all pictures."""
        return self.target.size.h * self.target.size.w * (self.frames or 1)


def grows(size: tuple[int, int], target: tuple[int, int]) -> bool:
    """Whether a side of `target` is longer than that of `size`."""
    return target[0] > size[0] or target[1] > size[1]


@dataclass
class Record:
    """What happened to one input, as in JSON: what its job says, and what was found out meanwhile."""

    input: str  # as it was named
    status: Status
    output: str | None = None  # the file, or "-"
    in_size: tuple[int, int] | None = None  # (width, height) as shown, after the EXIF orientation
    out_size: tuple[int, int] | None = None  # (width, height)
    scale_x: float | None = None  # output width over input width
    scale_y: float | None = None
    depth: str | None = None  # bits per sample of the output: 8, 16 or 32f
    format: str | None = None
    model: dict[str, Any] | None = None
    device: str | None = None  # where the network ran
    precision: str | None = None  # it ran in
    frames: int | None = None
    tile: str | None = None  # width x height of the encoder's tiles
    tile_retries: int = 0  # tiles cut in four for want of memory
    fp32_fallback: int = 0  # tiles computed again in float32
    seed: int | None = None
    temperature: float | None = None
    temperature_origin: str | None = None  # as asked, from the preset, or published policy
    temperature_map: str | None = None
    sampling: dict[str, Any] | None = None
    branch: str | None = None
    selection: dict[str, float] | None = None  # percent of the output's pixels that each branch answered
    degradation: dict[str, Any] | None = None
    restore: float | None = None
    limit: bool | None = None
    lr_psnr: float | None = None  # dB between the reduced result and the input, with consistency
    seconds: float | None = None  # without loading the model
    memory: int | None = None
    fingerprint: str | None = None
    in_content: str | None = None
    content: str | None = None  # content ID of the output
    notes: list[str] = field(default_factory=list)
    error: dict[str, Any] | None = None  # code, type, message and hint of a failure

    @staticmethod
    def of(job: Job, status: Status, *, notes: list[str] | None = None, **found: Any) -> Record:
        """What a job says, its notes followed by `notes`, and what was `found` besides or instead."""
        old, new, noise, sampling = Size(*job.header.size), job.target.size, job.temperature, job.sampling
        said: dict[str, Any] = {
            "output": "-" if job.path is None else str(job.path),
            "in_size": (old.w, old.h),
            "out_size": (new.w, new.h),
            "scale_x": new.w / old.w,
            "scale_y": new.h / old.h,
            "temperature": None if noise is None else noise.value,
            "temperature_origin": None if noise is None else noise.origin,
            "sampling": None if sampling is None else {**asdict(sampling), "calls": sampling.calls},
            "notes": [*dict.fromkeys((*job.notes, *(notes or ())))],
        }
        same = "depth format model frames seed temperature_map branch degradation restore limit memory fingerprint"
        said |= {name: getattr(job, name) for name in (*same.split(), "in_content", "content")}
        return Record(job.source.label, status, **said | found)

    @staticmethod
    def failure(label: str, error: SrcliError) -> Record:
        """The record of an input that failed."""
        kind = type(error).__name__
        about = {"code": error.code, "type": kind, "message": error.message, "hint": error.hint}
        return Record(label, "failed", error=about)
