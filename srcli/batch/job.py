"""What a batch is asked for, what is decided about one of its results, and what became of it: plain data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from srcli import __version__
from srcli.batch.degradation import RealWorld, SecondModel
from srcli.batch.inputs import Source
from srcli.batch.manifest import Entry
from srcli.batch.sizes import SizeRule, Target
from srcli.config.presets import Preset
from srcli.config.sampling import Sampling, choose_sampling, is_sampled
from srcli.config.temperature import Asked, Chosen, choose
from srcli.engine.temperature_map import TemperatureMap
from srcli.errors import SrcliError
from srcli.geometry import Size
from srcli.image.colour_transfer import TransferMethod
from srcli.image.formats import OPTIONS, Depth
from srcli.image.probe import Header
from srcli.weights.files import FIXED_SCALE

Status = Literal["planned", "done", "skipped", "failed"]
Exists = Literal["auto", "skip", "overwrite"]


@dataclass(frozen=True)
class Settings:
    """Everything about a batch that is the same for all its pictures.

    Attributes:
        rule: how large.
        preset: the model.
        weights_sha256: gives the hash of its weights; called only where a network is needed.
        format: the format asked for, None for the input's.
        encoding: further options of `srcli.image.plan_output`.
        alpha: how transparency is enlarged: auto, model, lanczos or drop.
        frames: which picture of an animation.
        precision: as asked for.
        seed: of the first sample, for models that draw; recorded.
        temperature: as asked for; None and "auto" mean the preset's own.
        temperature_map: a factor on it for every pixel.
        samples: results for every input, with seeds from `seed` on.
        consistency: whether results are made to reduce to their input.
        sampling: of a diffusion model; None means the preset's own.
        branch: of a decoder with several; None means the one that it chooses for each pixel.
        canvas_tile: as asked for; a diffusion model's result depends on it a little.
        selection: the map of the choice of branches, a file or a folder that takes one for each picture.
        turned: whether results are the mean over turned and mirrored copies of the input.
        limit: whether results are kept within limits by presets that have some.
        colour_fix: how results take their colours from the input again; None: not at all.
        provenance: whether the output records how it was made.
        real_world: the model for damaged pictures, where every picture is measured and may get it.
        restore: how much of a restoring model's picture is taken, the rest from `faithful`; None: all of it, or with
            `real_world` as the damage says.
        faithful: the model that restores nothing, where a part of its picture may be wanted.
        notice: whether pictures that nobody asked about are measured, to say if one is damaged.
        memory_plan: for a dry run, gives lines on what an output of a size would take, and bytes; None: nothing is said.
        exists: what to do where the output exists.
        any_weights: whether an output that other weights made, from the same and with the same options, is up to date.
        made: gives what a manifest says of an output, if one does.
        in_memory: bytes of an input beyond which it lies on the disk where it can; None: by the memory that is free.
        max_input_pixels: larger inputs are refused.
        max_output_pixels: larger outputs are refused.
    """

    rule: SizeRule
    preset: Preset
    weights_sha256: Callable[[], str]
    format: str | None = None
    encoding: dict[str, Any] = field(default_factory=dict)
    alpha: str = "auto"
    frames: str = "error"
    precision: str = "auto"
    seed: int = 0
    temperature: Asked = None
    temperature_map: TemperatureMap | None = None
    samples: int = 1
    consistency: bool = False
    sampling: Sampling | None = None
    branch: str | None = None
    canvas_tile: str = "auto"
    selection: Path | None = None
    turned: bool = False
    limit: bool = True
    colour_fix: TransferMethod | None = None
    provenance: bool = True
    real_world: RealWorld | None = None
    restore: float | None = None
    faithful: SecondModel | None = None
    notice: bool = False
    memory_plan: Callable[[Size], tuple[list[str], int]] | None = None
    exists: Exists = "auto"
    any_weights: bool = False
    made: Callable[[Source, Path], Entry | None] = lambda _source, _output: None
    in_memory: int | None = None
    max_input_pixels: int = 500_000_000
    max_output_pixels: int = 4_000_000_000

    def chosen_temperature(self, target: Target) -> Chosen | None:
        """The temperature for one picture; None for a preset that draws no noise."""
        return choose(self.preset, target.scale, self.temperature)

    @property
    def limited(self) -> bool | None:
        """Whether results are kept within limits; None for a preset that has none."""
        return self.limit if self.preset.engine.limit else None

    @property
    def restored(self) -> float | None:
        """How much of the model's picture is taken; None for one that restores nothing."""
        if self.preset.training.degradation is None or self.faithful is None:
            return None
        return 1.0 if self.restore is None else self.restore

    @property
    def _restored(self) -> list[Any] | None:
        if self.restored in (None, 1):
            return None
        assert self.faithful is not None
        return [self.restored, self.faithful.weights_sha256()]

    def chosen_sampling(self) -> Sampling | None:
        """Sampler, steps and so on; None for a preset that is no diffusion model."""
        if not is_sampled(self.preset):
            return None
        return self.sampling or choose_sampling(self.preset)

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
            "precision": self.precision,
            "seed": seed,
        }
        chosen = self.chosen_temperature(target)
        drawn: dict[str, Any] = {
            "temperature": None if chosen is None else chosen.value,
            "temperature_map": None if self.temperature_map is None else self.temperature_map.digest,
            "consistency": self.consistency or None,
            "branch": self.branch,
            "tta": self.turned or None,
            "limit": False if self.limited is False else None,
            "restore": self._restored,
            "colour_fix": self.colour_fix,
        }
        options |= {key: value for key, value in drawn.items() if value is not None}
        if (sampling := self.chosen_sampling()) is not None:
            options["sampling"] = {**asdict(sampling), "tile": self.canvas_tile}
        text = json.dumps([weights, options, __version__.split(".")[0]], sort_keys=True)
        return hashlib.blake2b(content + text.encode(), digest_size=16).hexdigest()


@dataclass(frozen=True)
class Job:
    """One result with all decisions made.

    Attributes:
        source: the input.
        header: of the input.
        target: output size.
        path: of the output; None is standard output.
        preset: the model that this picture gets.
        format: of the output.
        depth: of the output.
        seed: of the noise.
        frames: pictures of an animation, where all of them are done; else None.
        temperature: factor on the noise; None for a model that draws none.
        temperature_map: auto or a file, where the factor varies.
        sampling: of a diffusion model.
        branch: of a diffusion model, as asked for.
        degradation: the damage that was measured, where it decides on the model.
        model: name, sha256 and license of the weights; None where no network runs.
        restore: how much of a restoring model's picture is taken; None for other models.
        limit: whether the result is kept within limits; None for a model that has none.
        in_content: names the input's bytes: how many, and a hash.
        fingerprint: see `Settings.fingerprint`.
        content: names the bytes of an output that is up to date.
        is_finished: the output is there and stays as it is.
        memory: bytes that are needed, an estimate.
        notes: what was decided, a line each.
    """

    source: Source
    header: Header
    target: Target
    path: Path | None
    preset: Preset
    format: str
    depth: Depth
    seed: int
    frames: int | None = None
    temperature: Chosen | None = None
    temperature_map: str | None = None
    sampling: Sampling | None = None
    branch: str | None = None
    degradation: dict[str, Any] | None = None
    model: dict[str, Any] | None = None
    restore: float | None = None
    limit: bool | None = None
    in_content: str | None = None
    fingerprint: str | None = None
    content: str | None = None
    is_finished: bool = False
    memory: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def needs_network(self) -> bool:
        """Whether a side grows, or none changes and the model is one that is named to repair: for one factor, or before one."""
        repairs = self.preset.before is not None or self.preset.encoder.name == FIXED_SCALE
        size, target = Size(*self.header.size), self.target.size
        return grows(size, target) or (repairs and size == target)

    @property
    def pixels(self) -> int:
        """Output pixels, of all pictures."""
        return self.target.size.h * self.target.size.w * (self.frames or 1)


def grows(size: tuple[int, int], target: tuple[int, int]) -> bool:
    """Whether a side of `target` is longer than that of `size`."""
    return target[0] > size[0] or target[1] > size[1]


@dataclass
class Record:
    """What happened to one input: what its job says, and what was found out meanwhile.

    Attributes:
        input: as it was named.
        status: planned (a dry run), done, skipped or failed.
        output: the file, or "-".
        in_size: (width, height) as shown, after the EXIF orientation.
        out_size: (width, height).
        scale_x: output width over input width.
        scale_y: output height over input height.
        depth: bits per sample of the output: 8, 16 or 32f.
        device: where the network ran.
        precision: it ran in.
        tile: width x height of the encoder's tiles.
        tile_retries: tiles cut in four for want of memory.
        fp32_fallback: tiles computed again in float32.
        temperature_origin: as asked, from the preset, or published policy.
        selection: percent of the output's pixels that each branch answered.
        lr_psnr: dB between the reduced result and the input, where consistency was asked for.
        seconds: without loading the model.
        content: names the output's bytes but for the name itself.
        error: code, type, message and hint of a failure.
    """

    input: str
    status: Status
    output: str | None = None
    in_size: tuple[int, int] | None = None
    out_size: tuple[int, int] | None = None
    scale_x: float | None = None
    scale_y: float | None = None
    depth: str | None = None
    format: str | None = None
    model: dict[str, Any] | None = None
    device: str | None = None
    precision: str | None = None
    frames: int | None = None
    tile: str | None = None
    tile_retries: int = 0
    fp32_fallback: int = 0
    seed: int | None = None
    temperature: float | None = None
    temperature_origin: str | None = None
    temperature_map: str | None = None
    sampling: dict[str, Any] | None = None
    branch: str | None = None
    selection: dict[str, float] | None = None
    degradation: dict[str, Any] | None = None
    restore: float | None = None
    limit: bool | None = None
    lr_psnr: float | None = None
    seconds: float | None = None
    memory: int | None = None
    fingerprint: str | None = None
    in_content: str | None = None
    content: str | None = None
    notes: list[str] = field(default_factory=list)
    error: dict[str, Any] | None = None

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
        about = {
            "code": error.code,
            "type": type(error).__name__,
            "message": error.message,
            "hint": error.hint,
        }
        return Record(label, "failed", error=about)
