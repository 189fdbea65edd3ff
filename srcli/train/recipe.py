"""Training recipes: typed settings read from TOML, with changes from the command line.

A recipe describes a network as a preset does, or names a preset (`preset = "rdn-liif"`), and adds how it is trained. Its
settings are as a rule the published ones; a table `[variant.NAME]` holds the settings that another way of training
changes. Unknown keys are errors with a suggestion.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from srcli.config.plugins import preset_folders_of_plugins
from srcli.config.presets import Part, Preset, load_preset, parse_preset, preset_folders
from srcli.config.toml import read_section, read_toml
from srcli.data.samples import SampleSettings
from srcli.data.scale_schedule import ScaleSchedule
from srcli.errors import PresetError, suggest

# Sections of a preset about itself and its own weights.
NOT_INHERITED = ("name", "params", "weights", "training", "reported", "cost")


@dataclass(frozen=True)
class OptimSettings:
    """Optimiser, learning rate and length."""

    steps: int = 10000  # length of the run, which the schedules refer to
    batch: int = 16  # samples of one pass, in each process
    # passes of each process for one step; a step has processes * accumulate * batch samples
    accumulate: int = 1
    lr: float = 1e-3  # learning rate after the warm-up
    lr_start: float = 0.0  # where the warm-up begins
    lr_end: float = 1e-6  # where a cosine ends
    decay: Literal["cosine", "steps"] = "cosine"  # "cosine", or "steps": `factor` at every milestone
    milestones: tuple[int, ...] = ()  # steps at which the learning rate falls
    factor: float = 0.5  # what it is multiplied by there
    betas: tuple[float, float] = (0.9, 0.99)  # of the optimiser
    # Adam; AdamW, which pulls weights towards zero by `decay_weights`; or AdamW with its state in 8 bits, which needs
    # the package bitsandbytes
    optimiser: Literal["adam", "adamw", "adamw-8bit"] = "adam"
    decay_weights: float = 0.01  # the share of the learning rate by which AdamW shrinks weights in a step
    warmup: int = 300  # steps in which the learning rate rises
    clip: float = 1.0  # largest norm of the gradient; 0 leaves it as it is
    ema: float = 0.999  # decay of the averaged weights, which are the result; 0 takes the last ones
    # of the passes; weights, their average and the optimiser stay fp32. "auto" is bf16 on processors that have it,
    # else fp32.
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "fp32"
    # hand the network to torch.compile; "graph" also captures CUDA graphs
    compile: Literal["off", "default", "graph"] = "off"
    # beginnings of the names of parameters that stay as they are, such as "encoder."
    freeze: tuple[str, ...] = ()
    seed: int = 0  # of weights and samples


@dataclass(frozen=True)
class ScheduleSettings:
    """Scales over the run."""

    scales: str = ""  # see `srcli.data.scale_schedule`; empty draws uniformly from `data.scales`
    # for a cumulative schedule, the share of the steps at which each group joins
    joins: tuple[float, ...] = ()


@dataclass(frozen=True)
class InitSettings:
    """What a new run takes from the weights given with --init: everything, or only the encoder."""

    take: Literal["whole", "encoder"] = "whole"


@dataclass(frozen=True)
class ValidationSettings:
    """How often, at which scales, and on how many centre crops of held-out photos PSNR is measured."""

    every: int = 1000
    scales: tuple[float, ...] = (2, 3, 4)
    photos: int = 24
    crop: int = 240


@dataclass(frozen=True)
class Recipe:
    """A training run as data: the network (as in a preset) and how it is trained.

    `objective`: what is minimised: a name of `srcli.train.objectives`, and its settings.
    """

    preset: Preset
    data: SampleSettings = field(default_factory=SampleSettings)
    held_out: tuple[str, ...] = ()  # photographs kept for validation besides those a hash of the name chooses
    split_shards: bool = False  # each process reads its own share of the files that are given, instead of all
    objective: Part = Part("l1")  # noqa: RUF009 - an immutable value
    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)
    optim: OptimSettings = field(default_factory=OptimSettings)  # optimiser, learning rate, length
    init: InitSettings = field(default_factory=InitSettings)  # what is taken from weights to start from
    validation: ValidationSettings = field(default_factory=ValidationSettings)
    overfit: int = (
        0  # train on so many samples over and over, to test that the network learns at all; 0: on all
    )

    @property
    def scale_schedule(self) -> ScaleSchedule:
        """Which scales each step sees. Raises UsageError (the setting describes none)."""
        low, high = self.data.scales
        return ScaleSchedule.parse(self.schedule.scales or f"uniform {low}:{high}", self.schedule.joins)

    def resolved(self) -> dict[str, Any]:
        """Every setting with its value, for the run's record."""
        return {
            "network": self.preset.to_dict(),
            "held_out": list(self.held_out),
            "split_shards": self.split_shards,
            "data": asdict(self.data),
            "objective": {"name": self.objective.name, **self.objective.args},
            "schedule": asdict(self.schedule),
            "optim": asdict(self.optim),
            "init": asdict(self.init),
            "validation": asdict(self.validation),
            "overfit": self.overfit,
        }


def read_recipe(path: Path, changes: Mapping[str, str] | None = None, variant: str | None = None) -> Recipe:
    """A recipe from TOML, with the settings of a variant, then `section.key` values, in place of its own.

    Raises PresetError (an unknown variant, section or key, or a wrong value), UsageError (no schedule of scales).
    """
    table = read_toml(path)
    variants = table.pop("variant", {})
    if variant is not None:
        if variant not in variants:
            known = suggest(variant, variants) if variants else "It has none."
            raise PresetError(f"unknown variant '{variant}' of {path.name}.", hint=known)
        table = _merged(table, variants[variant])
    for key, text in (changes or {}).items():
        _change(table, key, text)
    name = table.get("preset", path.stem)
    if "preset" in table:
        network = load_preset(table.pop("preset")).to_dict()
        table = _merged({key: value for key, value in network.items() if key not in NOT_INHERITED}, table)
    data = dict(table.pop("data", {}))
    held_out = data.pop("held_out", ())
    split = data.pop("split_shards", False)
    sections: dict[str, tuple[type, Any]] = {
        "data": (SampleSettings, data),
        **{name: (kind, table.pop(name, {})) for name, kind in _SECTIONS.items()},
    }
    parts: dict[str, Any] = {
        name: read_section(kind, values, f"{path.name} [{name}]") for name, (kind, values) in sections.items()
    }
    objective = _objective(table.pop("objective", {"name": "l1"}), path)
    preset = parse_preset(table, name=name, where=str(path))
    damage = parts["data"].degradation
    training = replace(preset.training, recipe=path.stem, degradation=None if damage == "bicubic" else damage)
    recipe = Recipe(
        held_out=tuple(held_out),
        split_shards=bool(split),
        objective=objective,
        preset=replace(preset, training=training),
        **parts,
    )
    _check(recipe, path)
    return recipe


_SECTIONS: dict[str, type] = {
    "schedule": ScheduleSettings,
    "optim": OptimSettings,
    "init": InitSettings,
    "validation": ValidationSettings,
}


def _check(recipe: Recipe, path: Path) -> None:
    optim = recipe.optim
    positive = {"steps": optim.steps, "batch": optim.batch, "accumulate": optim.accumulate, "lr": optim.lr}
    for name, value in positive.items():
        if value <= 0:
            raise PresetError(f"{path.name} [optim]: {name} must be positive, got {value:g}.")
    if not 0 <= optim.ema < 1:
        raise PresetError(f"{path.name} [optim]: ema is from 0 up to 1, got {optim.ema:g}.")
    if (optim.decay == "steps") != bool(optim.milestones):
        raise PresetError(f'{path.name} [optim]: milestones belong to decay = "steps", and it needs them.')
    if recipe.data.patch <= 0 or recipe.data.queries <= 0:
        raise PresetError(f"{path.name} [data]: patch and queries must be positive.")
    if recipe.validation.every <= 0 or not recipe.validation.scales:
        raise PresetError(f"{path.name} [validation]: it needs scales, and steps between measurements.")
    recipe.scale_schedule  # noqa: B018 - raises


def _objective(value: Any, path: Path) -> Part:
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        raise PresetError(f"{path.name} [objective]: needs a name.")
    args = {k: tuple(v) if isinstance(v, list) else v for k, v in value.items() if k != "name"}
    return Part(value["name"], args)


def _merged(table: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`table` with the values of `changes`; tables within are merged, except for parts with another name."""
    merged = dict(table)
    for key, value in changes.items():
        old = merged.get(key)
        merge = (
            isinstance(value, dict) and isinstance(old, dict) and value.get("name") in (None, old.get("name"))
        )
        merged[key] = _merged(old, value) if merge else value  # type: ignore[arg-type]
    return merged


def _change(table: dict[str, Any], key: str, text: str) -> None:
    *sections, name = key.split(".")
    for section in sections:
        table = table.setdefault(section, {})
        if not isinstance(table, dict):
            raise PresetError(f"'{section}' in {key} is no section.")
    try:
        table[name] = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        table[name] = text


def find_recipe(name: str) -> Path:
    """The file of a recipe, packaged, of `$SRCLI_PRESETS_DIR/recipes` or of a plug-in. Raises PresetError (there is none)."""
    folders = [*preset_folders(), *preset_folders_of_plugins()]
    known = {p.stem: p for folder in reversed(folders) for p in (folder / "recipes").glob("*.toml")}
    if name not in known:
        raise PresetError(f"unknown recipe '{name}'.", hint=suggest(name, known))
    return known[name]
