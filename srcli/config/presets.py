"""Published models as data: typed settings read from TOML, and where they are looked for.

A preset names a network's parts with their constructors' arguments, and says all else that is known of it. Every section
is a frozen dataclass; its annotations are the schema, for TOML files and for the JSON inside weights files.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from srcli.config.plugins import preset_folders_of_plugins
from srcli.config.toml import frozen, read_section, read_toml
from srcli.errors import ModelError, PresetError, UsageError

DEFAULT_PRESET = "rlfn-native"
REAL_WORLD_PRESET = "real-best"  # for pictures that are damaged
SUCCESSORS = {  # of presets that leave the package, which are used themselves as long as their files are there
    "edsr-s-blend": DEFAULT_PRESET,
    "edsr-s-linf": "rlfn-linf-s",
    "edsr-baseline-linf-s": "rlfn-linf-s",
    "edsr-baseline-lit-s": "rlfn-lit-s",
}

MEANT = {  # what people type for a kind of model -> a preset of that kind
    "esrgan": "real-best", "waifu": "realesrgan-x4plus-anime-6b", "anime": "realesrgan-x4plus-anime-6b",
    "swin": "swinir-liif", "restore": "real-best", "photo": DEFAULT_PRESET, "fast": DEFAULT_PRESET,
    "default": DEFAULT_PRESET, "best": "real-best", "diffusion": "fplia-small",
}  # fmt: skip

Kind = Literal["regression", "flow", "latent-diffusion", "pixel-diffusion", "restoration"]
# By the name of a part, in presets and weights files that were written before these said their kind.
KINDS_BEFORE: dict[str, Kind] = {"linf": "flow", "idm": "pixel-diffusion", "lgcaa": "restoration"}

MOST_STEPS = 100_000  # that noise was trained with; there is a table of them
MOST_DB_LOST, MOST_SAMPLES_OFF = 0.01, 0.001  # to half precision that is taken without being asked for
RGB = tuple[float, float, float]


@dataclass(frozen=True)
class Part:
    """A part of a network: its name in the table of its kind, and its constructor's keyword arguments."""

    name: str
    args: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_plain(cls, value: Any, where: str) -> Part:
        """A part from a table with its name and arguments. Raises PresetError (it has no name)."""
        if not isinstance(value, dict) or not isinstance(value.get("name"), str):
            raise PresetError(f"{where}: needs a name.")
        return cls(value["name"], {key: frozen(item) for key, item in value.items() if key != "name"})


@dataclass(frozen=True)
class Pixels:
    """The network sees (x - mean) / std, x in [0, 1]; a single number stands for all three channels."""

    mean: RGB = (0.5, 0.5, 0.5)
    std: RGB = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Loss:
    """What computing in half precision loses beside fp32; `tests/benchmarks/models.py` measures it."""

    db_lost: float  # of PSNR, at the worst trained scale of x2, x3 and x4, on held-out photographs or on hostile pictures
    samples_off: float  # share of the photographs' samples that are more than one of 255 levels off
    accepted: bool = False  # though it is more than is lost unasked: of what a model paints nobody sees it

    @property
    def harmless(self) -> bool:
        return self.accepted or (self.db_lost <= MOST_DB_LOST and self.samples_off <= MOST_SAMPLES_OFF)

    @classmethod
    def from_plain(cls, value: Any, where: str) -> Loss | None:
        """Older files say yes or no: nothing was measured. Raises PresetError (neither that nor a table)."""
        if not isinstance(value, bool | dict):
            raise PresetError(f"{where}: must be a table of settings, got {value!r}.")
        return None if isinstance(value, bool) else read_section(cls, value, where)


@dataclass(frozen=True)
class Engine:
    """How the whole image is run."""

    halo: int | None = None  # LR pixels of context around a tile, instead of what the parts declare
    # the largest trained scale; beyond it the decoder is shown the cell of that scale. None: never.
    cell_clip: float | None = None
    # whether a window-based encoder gets a full extra window when none is missing ("always", as the published test
    # code does) or only what is missing ("needed")
    window_padding: Literal["always", "needed"] = "needed"
    limit: bool = False  # keep a native picture within what its input bears out, see `srcli.models.limiter`
    # give a native picture those of its input, for networks that restore and shift colours
    low_frequencies: bool = False
    # megabytes that a tile may take on a CPU, instead of what the encoder declares
    tile_memory: int | None = None
    # what bf16 loses on a CPU; "auto" computes in it where that is harmless and the CPU has instructions for it
    cpu_bf16: Loss | None = None
    advice: str | None = None  # one line for people who use this model


@dataclass(frozen=True)
class Scales:
    """Range of scales seen in training, lowest and highest."""

    trained: tuple[float, float] = (1.0, 4.0)


@dataclass(frozen=True)
class Weights:
    """Where the trained parameters are."""

    # name of our safetensors file in a folder of models, or a path relative to the preset's own file;
    # `{preset}.safetensors` by default
    file: str | None = None
    sha256: str | None = None  # hash of that file, where it is known beforehand
    url: str | None = None  # where the authors publish theirs; nothing is fetched without being asked
    mirrors: tuple[str, ...] = ()  # further links to the same file
    download_sha256: str | None = None  # hash of what the links give, where it is known
    # bytes of what the links give, or of `file` where there is no link; roughly, as published
    size: int | None = None
    license: str = "unstated"  # SPDX identifier of the weights (not of the code), or "unstated"
    note: str | None = None  # why there is no link, for example

    @property
    def links(self) -> tuple[str, ...]:
        """The link and its mirrors; empty where nothing is published."""
        return () if self.url is None else (self.url, *self.mirrors)


@dataclass(frozen=True)
class Training:
    """How the weights were made: the recipe's name and the photos."""

    recipe: str | None = None  # name of the recipe
    # the photos, those that taught its teachers and the judges of its losses included
    data: str | None = None
    open_data: bool = False  # whether all of them are photographs under open licences
    degradation: str | None = None  # what LR went through, where it was not bicubic reduction
    # whether they fall short of what they were trained for; people are told when they use them
    experimental: bool = False


@dataclass(frozen=True)
class Reported:
    """One figure of a paper: `psnr` in RGB, `psnr_y` on luma, both in dB."""

    benchmark: str
    scale: float
    psnr: float | None = None
    psnr_y: float | None = None
    ssim: float | None = None
    lpips: float | None = None
    temperature: float | None = None
    source: str | None = None


@dataclass(frozen=True)
class Cost:
    """Seconds per megapixel of output at x4, and memory on a CPU; `models.py` and `memory.py` in `tests/benchmarks` measure."""

    cpu: float | None = None  # of one core
    gpu: float | None = None  # of a GPU; None where none has been at hand
    machine: str | None = None  # what they were measured on
    # megabytes whatever the size, and bytes per LR pixel of a tile, beside torch and the weights
    memory: tuple[float, float] | None = None
    features: float = 0.0  # bytes per LR pixel of a row of several tiles, whose features are kept


@dataclass(frozen=True)
class Temperature:
    """Factor on the noise of a generative decoder."""

    default: float | None = None  # where nothing is recorded by scale; None where nothing is recorded at all
    # scale -> temperature; values in between are interpolated
    scales: dict[str, float] = field(default_factory=dict)


Sampler = Literal["ddim", "ddpm", "dpm++", "dpm++-sde", "unipc", "euler"]


@dataclass(frozen=True)
class Official:
    """How the authors sample."""

    sampler: Sampler = "ddim"  # theirs
    steps: int = 200  # as they count them
    skip: int = 1  # steps at the noisy end that their code leaves out
    eta: float = 1.0  # share of fresh noise in each step of DDIM
    # their code pads each side to a multiple of it, by a whole one where none is missing; 1: never
    window: int = 1


@dataclass(frozen=True)
class Diffusion:
    """The noise that a generator was trained with, and how it is sampled by default."""

    train_steps: int = 1000  # steps of training
    beta_start: float = 0.0015  # variance of the noise that the first one adds
    beta_end: float = 0.0155  # and the last one
    # whether the variances in between ("linear") or their roots ("scaled_linear") grow evenly
    beta_schedule: Literal["scaled_linear", "linear"] = "scaled_linear"
    # what the generator gives: the noise or the velocity
    prediction: Literal["epsilon", "v_prediction"] = "epsilon"
    # whether the sampled picture lies in [-1, 1], so that estimates of it are clipped (by ddim and ddpm)
    clip: bool = False
    sampler: Sampler = "dpm++"  # default
    steps: int = 20  # default number of calls of the generator
    eta: float = 0.0  # default share of fresh noise, for ddim
    # whether sampling can begin near the input: with the enlarged picture and some noise
    near_input: bool = False
    fidelity: float = 0.0  # default of `Sampling.fidelity`, for such models
    # side of the tiles of a sample that is cut; the engine chooses less where memory is short
    tile: int = 128
    # sample pixels that neighbouring tiles share; None: a quarter of the tile, or what the generator wants
    overlap: int | None = None
    # how `upscale` gives results the colours of their input by default, see `srcli.image.colour_transfer`
    colour_fix: Literal["none", "adain", "wavelet", "lowpass"] = "none"
    official: Official = Official()  # how the authors sample

    def __post_init__(self) -> None:
        if not 1 <= self.train_steps <= MOST_STEPS:
            raise ValueError(f"train_steps must be 1 to {MOST_STEPS:,}, got {self.train_steps}.")


@dataclass(frozen=True)
class Preset:
    """A model that can be named."""

    name: str  # what the user types; the file's stem
    title: str  # the name in print
    encoder: Part
    decoder: Part
    # what the network is, which decides how it is run. Where a file does not say, a generator means latent-diffusion,
    # a section [temperature] flow, and neither of them regression.
    kind: Kind = "regression"
    purpose: str | None = None  # what it is for, in a few words
    before: str | None = None  # a model that keeps the size and is run first, on the input: its name or file
    weights: Weights = Weights()
    params: int | None = None  # parameters of the network, all parts
    paper: str | None = None  # link to the paper
    origin: str | None = None  # link to the authors' code
    code_license: str | None = None  # SPDX identifier of the authors' code
    pixels: Pixels = Pixels()
    engine: Engine = Engine()
    scales: Scales = Scales()
    training: Training = Training()
    reported: tuple[Reported, ...] = ()
    cost: Cost = Cost()
    temperature: Temperature | None = None
    generator: Part | None = None
    diffusion: Diffusion | None = None
    folder: Path | None = None  # where the preset's file is; None for one read from a weights file

    @property
    def weights_file(self) -> str:
        return self.weights.file or f"{self.name}.safetensors"

    @property
    def mean_std(self) -> tuple[RGB, RGB]:
        """Of the pixel normalisation, each (r, g, b)."""
        return self.pixels.mean, self.pixels.std

    def to_dict(self) -> dict[str, Any]:
        """The preset as nested plain values, in the shape of its TOML file, without what is unset."""
        plain: dict[str, Any] = _set_values(dataclasses.asdict(dataclasses.replace(self, folder=None)))
        if self.kind == _kind_before(self):
            del plain["kind"]
        parts = {"encoder": self.encoder, "decoder": self.decoder, "generator": self.generator}
        for key, part in parts.items():
            if part is not None:  # its arguments as they are: an empty list there has a meaning
                plain[key] = {"name": part.name, **part.args}
        return plain

    def to_json(self) -> str:
        """The preset as JSON, for the metadata of a weights file; `parse_preset` reads it back."""
        return json.dumps(self.to_dict(), ensure_ascii=False)


def parse_preset(table: Mapping[str, Any], *, name: str, where: str | None = None) -> Preset:
    """A preset from nested plain values, as read from TOML or JSON.

    `table`: the settings; its own `name`, if any, wins over `name`. `where`: what messages call the place that the
    table came from; the name by default. Raises PresetError (a key that does not belong, is missing, or has a value of
    another type).
    """
    where = where or name
    if "folder" in table:
        raise PresetError(f"unknown key 'folder' in {where}.")
    known = {key: value for key, value in table.items() if key != "cmsr"}  # older weights files have it
    preset = read_section(Preset, {"name": name, **known}, where)
    return preset if "kind" in table else dataclasses.replace(preset, kind=_kind_before(preset))


def _kind_before(preset: Preset) -> Kind:
    if preset.generator is not None:
        return KINDS_BEFORE.get(preset.generator.name, "latent-diffusion")
    return KINDS_BEFORE.get(preset.decoder.name, "regression" if preset.temperature is None else "flow")


def load_preset(name: str | Path) -> Preset:
    """The preset at the path `name`, or of that name in `$SRCLI_PRESETS_DIR` or the package.

    Raises PresetError (no such preset, or a file that is none), ModelError (another has taken its place).
    """
    path = Path(name)
    if path.suffix == ".toml" or path.is_file():
        if not path.is_file():
            raise PresetError(f"preset file {path} does not exist.")
        return _read(path)
    for folders in (preset_folders, preset_folders_of_plugins):
        for folder in folders():
            found = folder / f"{name}.toml"
            if path.name == str(name) and found.is_file():
                return _read(found)
    if new := successor(name):
        raise ModelError(
            f"'{name}' has been replaced; its successor '{new}' is another network.", hint=f"Name it: {new}"
        )
    nearest = _nearest(str(name))
    known = f"Did you mean {', '.join(nearest[:-1])} or {nearest[-1]}? " if len(nearest) > 1 else ""
    raise PresetError(f"unknown preset '{name}'.", hint=f"{known}See: srcli models list --all")


def _nearest(name: str) -> list[str]:
    """Three presets: what the word stands for, then those that look alike."""
    names = sorted(preset_names())
    word = name.lower().replace("_", "-")
    meant = [preset for key, preset in MEANT.items() if key in word.replace("-", "")]

    def unlike(known: str) -> float:
        begins = known.partition("-")[0] == word.partition("-")[0]
        return -difflib.SequenceMatcher(None, word, known).ratio() - 0.3 * begins

    return [known for known in dict.fromkeys((*meant, *sorted(names, key=unlike))) if known in names][:3]


def successor(name: str | Path) -> str | None:
    """The preset that has taken the place of one that has left the package; None for any other name."""
    new = SUCCESSORS.get(str(name))
    known = preset_names() if new else set()
    return new if new in known and str(name) not in known and not Path(name).is_file() else None


def list_presets() -> list[Preset]:
    """All presets that can be named, by name; those of `$SRCLI_PRESETS_DIR` hide packaged ones, and these plug-ins'."""
    return [load_preset(name) for name in sorted(preset_names())]


def unsuitable(problem: str, suits: Callable[[Preset], bool], which: str, none: str) -> UsageError:
    """An error about an option that a preset has no use for; its hint lists the presets `which` ("that are") have."""
    names = [known.name for known in list_presets() if suits(known)]
    return UsageError(problem, hint=f"Presets {which}: {', '.join(names)}." if names else none)


def preset_folders() -> list[Path]:
    """The folders presets are looked for in: `$SRCLI_PRESETS_DIR` if set, then the package's."""
    own = os.environ.get("SRCLI_PRESETS_DIR")
    packaged = Path(__file__).parents[1] / "_presets"
    if not packaged.is_dir():  # an editable install
        packaged = Path(__file__).parents[2] / "presets"
    return [Path(own), packaged] if own else [packaged]


def preset_names() -> set[str]:
    """Names of all presets."""
    folders = (*preset_folders(), *preset_folders_of_plugins())
    return {path.stem for folder in folders for path in folder.glob("*.toml")}


def _read(path: Path) -> Preset:
    table = read_toml(path)
    if "name" in table:
        raise PresetError(f"unknown key 'name' in {path}: a preset is called what its file is called.")
    return dataclasses.replace(parse_preset(table, name=path.stem, where=str(path)), folder=path.parent)


def _set_values(value: Any) -> Any:
    if isinstance(value, dict):
        plain = {key: _set_values(item) for key, item in value.items()}
        return {key: item for key, item in plain.items() if item not in (None, {}, [])}
    return [_set_values(item) for item in value] if isinstance(value, list | tuple) else value
