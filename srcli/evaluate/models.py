"""What is evaluated: networks, the classic interpolations, and either of them averaged over eight views."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from srcli.engine import Upscaler
from srcli.evaluate.cost import Cost, measured
from srcli.evaluate.reference import printed_name
from srcli.geometry import Size
from srcli.presets import Preset

U8 = NDArray[np.uint8]

INTERPOLATIONS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


class Draw(NamedTuple):
    """How a result is drawn, for models that draw: temperature and seed of the noise, steps of the sampler."""

    temperature: float | None = None
    seed: int | None = None
    steps: int | None = None


@dataclass(frozen=True)
class Result:
    """An enlarged picture: pixels (H, W, 3), float32 in [0, 1] or 8-bit, and what it took."""

    pixels: NDArray[np.float32] | U8
    cost: Cost = field(default_factory=Cost)


class Model(Protocol):
    """Something that enlarges pictures and can be named.

    Attributes:
        name: in tables.
        family: regression, flow, diffusion, real-world or interpolation.
        params: number of parameters, None if it has none.
        device: where it runs.
        precision: its arithmetic.
        weights: SHA-256 of its weights, None if it has none.
        printed: method and encoder as published tables call them, None if they do not.
    """

    name: str
    family: str
    params: int | None
    device: str | None
    precision: str | None
    weights: str | None
    printed: tuple[str, str | None] | None

    @property
    def identity(self) -> str | None:
        """Equal for models that give equal results; None for one whose results must not be kept."""

    def draws(self, temperatures: Sequence[float], seeds: Sequence[int], steps: Sequence[int]) -> list[Draw]:
        """The results asked for; a single empty `Draw` for a model that draws nothing."""

    def enlarge(self, lr: U8, size: Size, draw: Draw) -> Result:
        """The LR picture (h, w, 3) at `size`."""


@dataclass
class Interpolation:
    """Pillow's resize on 8-bit pictures."""

    name: str
    family: str = "interpolation"
    params: int | None = None
    device: str | None = "cpu"
    precision: str | None = None
    weights: str | None = None
    printed: tuple[str, str | None] | None = None

    @property
    def identity(self) -> str | None:
        """The name says everything."""
        return f"pillow {self.name}"

    def draws(self, *_: object) -> list[Draw]:
        """One result."""
        return [Draw()]

    def enlarge(self, lr: U8, size: Size, draw: Draw) -> Result:
        """The picture at `size`, 8-bit."""
        start = time.perf_counter()
        image = Image.fromarray(lr).resize((size.w, size.h), INTERPOLATIONS[self.name])
        return Result(np.asarray(image), Cost(time.perf_counter() - start))


class Network:
    """A network behind an `Upscaler`."""

    def __init__(self, upscaler: Upscaler, name: str | None = None) -> None:
        self.upscaler = upscaler
        self.name = name or upscaler.preset.name
        self.family = family_of(upscaler.preset)
        self.params: int | None = sum(p.numel() for p in upscaler.network.parameters())
        self.device: str | None = str(upscaler.device)
        self.precision: str | None = upscaler.precision
        self.weights = upscaler.weights_sha256
        self.printed: tuple[str, str | None] | None = printed_name(upscaler.preset)

    @property
    def identity(self) -> str | None:
        """Weights, settings and arithmetic; None for weights that are in no file."""
        if self.weights is None:
            return None
        exact = self.upscaler.network.encoder.exact
        parts = (
            self.weights,
            self.upscaler.preset.to_json(),
            self.upscaler.precision,
            self.upscaler.device.type,
            "any tile" if exact else str(self.upscaler.tile),
        )
        return hashlib.blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()

    def draws(self, temperatures: Sequence[float], seeds: Sequence[int], steps: Sequence[int]) -> list[Draw]:
        """One result: these networks draw nothing."""
        return [Draw()]

    def enlarge(self, lr: U8, size: Size, draw: Draw) -> Result:
        """The picture at `size`, float in [0, 1]."""
        x = torch.tensor(lr).permute(2, 0, 1).unsqueeze(0).float() / 255
        with measured(self.upscaler.network, self.upscaler.device) as cost:
            sr = self.upscaler.upscale(x, size=size)
        return Result(sr[0].permute(1, 2, 0).numpy(), cost)


class SelfEnsemble:
    """A model's mean over the eight flips and rotations of its input (Timofte et al., 2016)."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.name = f"{model.name}+tta"
        self.family, self.params, self.weights = model.family, model.params, model.weights
        self.device, self.precision = model.device, model.precision
        self.printed: tuple[str, str | None] | None = None  # the published figures are without it

    @property
    def identity(self) -> str | None:
        """That of the model, marked."""
        inner = self.model.identity
        return None if inner is None else f"{inner} tta"

    def draws(self, temperatures: Sequence[float], seeds: Sequence[int], steps: Sequence[int]) -> list[Draw]:
        """Those of the model."""
        return self.model.draws(temperatures, seeds, steps)

    def enlarge(self, lr: U8, size: Size, draw: Draw) -> Result:
        """The mean of the eight results, float in [0, 1]."""
        total = np.zeros((*size, 3))
        costs = []
        for turns in range(4):
            for mirrored in (False, True):
                view = np.rot90(lr[:, ::-1] if mirrored else lr, turns)
                turned = Size(size.w, size.h) if turns % 2 else size
                result = self.model.enlarge(np.ascontiguousarray(view), turned, draw)
                back = np.rot90(as_float(result.pixels), -turns)
                total += back[:, ::-1] if mirrored else back
                costs.append(result.cost)
        return Result((total / 8).astype(np.float32), _sum(costs))


def _sum(costs: list[Cost]) -> Cost:
    def total(part: str) -> float | None:
        values = [getattr(cost, part) for cost in costs]
        return None if None in values else sum(values)

    peaks = [cost.memory for cost in costs if cost.memory is not None]
    seconds = sum(cost.seconds for cost in costs)
    return Cost(seconds, total("encode"), total("generate"), total("decode"), max(peaks, default=None))


def as_float(pixels: NDArray[np.float32] | U8) -> NDArray[np.float32]:
    """Pixels in [0, 1]."""
    if pixels.dtype == np.uint8:
        return pixels.astype(np.float32) / np.float32(255)
    return pixels.astype(np.float32, copy=False)


def family_of(preset: Preset) -> str:
    """The family a preset belongs to, for groups and colours."""
    return "flow" if preset.decoder.name.startswith("linf") else "regression"


def open_model(
    name: str, *, device: str = "auto", precision: str = "auto", tile: str | int = "auto", tta: bool = False
) -> Model:
    """The interpolation, preset or weights file called `name`.

    Raises:
        PresetError: an unknown name.
        ModelError: weights missing, refused or damaged.
        ResourceError: no such device.
    """
    model: Model
    if name in INTERPOLATIONS:
        model = Interpolation(name, printed=("Bicubic", None) if name == "bicubic" else None)
    else:
        model = Network(Upscaler.from_preset(name, device=device, precision=precision, tile=tile))
    return SelfEnsemble(model) if tta else model


def distinct_names(models: Sequence[Model]) -> None:
    """Give models of one name (two weights files of one preset) names that differ.

    The first digits of their weights are appended.
    """
    names = [model.name for model in models]
    for model in models:
        if names.count(model.name) > 1 and model.weights is not None:
            model.name = f"{model.name}@{model.weights[:8]}"


__all__ = [
    "INTERPOLATIONS",
    "Draw",
    "Interpolation",
    "Model",
    "Network",
    "Result",
    "SelfEnsemble",
    "as_float",
    "distinct_names",
    "open_model",
]
