"""Training recipes: typed settings read from TOML, with changes from the command line.

A recipe names a network as a preset does and adds how it is trained. Unknown keys are errors with a suggestion.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from srcli.data.samples import SampleSettings
from srcli.errors import PresetError, suggest
from srcli.presets import Preset, parse_preset

T = TypeVar("T")


@dataclass(frozen=True)
class OptimSettings:
    """Optimiser, schedule and length. `ema` is the decay of the averaged weights, `clip` the gradient norm."""

    steps: int = 10000
    batch: int = 16
    lr: float = 1e-3
    lr_end: float = 1e-6
    betas: tuple[float, float] = (0.9, 0.99)
    warmup: int = 300
    clip: float = 1.0
    ema: float = 0.999
    precision: str = "fp32"
    seed: int = 0


@dataclass(frozen=True)
class ValidationSettings:
    """How often, at which scales, and on how many centre crops of held-out photos PSNR is measured."""

    every: int = 1000
    scales: tuple[float, ...] = (2, 3, 4)
    photos: int = 24
    crop: int = 240


@dataclass(frozen=True)
class Recipe:
    """A training run as data: the network (as in a preset) and how it is trained."""

    preset: Preset
    data: SampleSettings = field(default_factory=SampleSettings)
    held_out: tuple[str, ...] = ()
    optim: OptimSettings = field(default_factory=OptimSettings)
    validation: ValidationSettings = field(default_factory=ValidationSettings)

    def resolved(self) -> dict[str, Any]:
        """Every setting with its value, for the run's record."""
        return {
            "network": self.preset.to_dict(),
            "held_out": list(self.held_out),
            "data": asdict(self.data),
            "optim": asdict(self.optim),
            "validation": asdict(self.validation),
        }


def read_recipe(path: Path, changes: Mapping[str, str] | None = None) -> Recipe:
    """A recipe from TOML, with `section.key` values replaced.

    Raises:
        PresetError: an unknown section or key, or a value of the wrong kind.
    """
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise PresetError(f"{path}: {error}.") from None
    for key, text in (changes or {}).items():
        *sections, name = key.split(".")
        place = table
        for section in sections:
            place = place.setdefault(section, {})
        try:
            place[name] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            place[name] = text
    data = dict(table.pop("data", {}))
    held_out = tuple(data.pop("held_out", ()))
    return Recipe(
        data=_section(SampleSettings, data, f"{path.name} [data]"),
        held_out=held_out,
        optim=_section(OptimSettings, table.pop("optim", {}), f"{path.name} [optim]"),
        validation=_section(ValidationSettings, table.pop("validation", {}), f"{path.name} [validation]"),
        preset=parse_preset(table, name=path.stem),
    )


def _section(kind: type[T], values: Mapping[str, Any], where: str) -> T:
    known = {f.name for f in fields(kind)}  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            raise PresetError(f"{where}: unknown key '{key}'.", hint=suggest(key, known))
    return kind(**{key: tuple(v) if isinstance(v, list) else v for key, v in values.items()})
