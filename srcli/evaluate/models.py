"""What is evaluated: networks, the classic interpolations, and self-ensembles of either."""

from __future__ import annotations

import hashlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from srcli.config.presets import Preset
from srcli.config.sampling import Sampling, is_sampled
from srcli.config.temperature import choose, is_generative
from srcli.engine.branch_map import Selection
from srcli.engine.load import load_upscaler
from srcli.engine.normalised_image import TensorSource
from srcli.engine.request import RenderRequest
from srcli.engine.upscaler import Upscaler
from srcli.evaluate.cost import Cost, measured
from srcli.evaluate.published import published_kind, published_name
from srcli.evaluate.rows import digest
from srcli.geometry import COPIES, Size, self_ensemble
from srcli.weights.build import has_plugins
from srcli.weights.files import resolve

U8 = NDArray[np.uint8]

INTERPOLATIONS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


class Draw(NamedTuple):
    """Temperature and seed of the noise and steps of the sampler behind one result; None where a model has none."""

    temperature: float | None = None
    seed: int | None = None
    steps: int | None = None


@dataclass(frozen=True)
class Result:
    """An enlarged picture: pixels (H, W, 3), float32 in [0, 1] or 8-bit, and its cost.

    `choices`, if they are counted, are the pixels of each branch by what the picture shows there.
    """

    pixels: NDArray[np.float32] | U8
    cost: Cost = field(default_factory=Cost)
    choices: dict[str, dict[str, int]] | None = None


class Model(ABC):
    """Something that enlarges pictures and can be named.

    Attributes:
        name: in tables.
        family: regression, flow, diffusion, real-world or interpolation.
        params: number of parameters, None if it has none.
        device: where it runs.
        precision: fp32, fp16 or bf16; None for an interpolation.
        weights: SHA-256 of its weights, None if it has none.
        published_as: method and encoder as published tables call them, None if they do not.
        published_kind: the same for this kind of network, whatever its size; None for an interpolation.
        limit: whether the limiter is on; None for a model without one.
    """

    name: str
    family: str = "interpolation"
    params: int | None = None
    device: str | None = "cpu"
    precision: str | None = None
    weights: str | None = None
    published_as: tuple[str, str | None] | None = None
    published_kind: tuple[str | None, str | None] | None = None
    limit: bool | None = None

    @property
    @abstractmethod
    def identity(self) -> str | None:
        """A key for caches, equal for models that give equal results; None for results that must not be cached."""

    @abstractmethod
    def draws(
        self, scale: float, temperatures: Sequence[float], seeds: Sequence[int], steps: Sequence[int]
    ) -> list[Draw]:
        """The results to make at a scale; a single empty `Draw` for a deterministic model."""

    @abstractmethod
    def enlarge(self, lr: U8, size: Size, draw: Draw) -> Result:
        """The LR picture (h, w, 3) at `size`, float in [0, 1] or 8-bit."""


class Interpolation(Model):
    """Pillow's resize on 8-bit pictures."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.published_as = ("Bicubic", None) if name == "bicubic" else None

    @property
    def identity(self) -> str | None:
        return f"pillow {self.name}"

    def draws(self, *_: object) -> list[Draw]:
        return [Draw()]

    def enlarge(self, lr: U8, size: Size, draw: Draw) -> Result:
        start = time.perf_counter()
        image = Image.fromarray(lr).resize((size.w, size.h), INTERPOLATIONS[self.name])
        return Result(np.asarray(image), Cost(time.perf_counter() - start))


class Render(NamedTuple):
    """What all temperatures of one picture and seed share, float32 (H, W, 3) each: mean + temperature * direction."""

    mean: NDArray[np.float32]
    direction: NDArray[np.float32]
    cost: Cost


class Network(Model):
    """A network behind an `Upscaler`, called as its preset by default; `selection` counts which branch answers where."""

    def __init__(self, upscaler: Upscaler, name: str | None = None, *, selection: bool = False) -> None:
        self.upscaler = upscaler
        self.selection = selection and upscaler.selects
        self.sampling = upscaler.sampling
        self.limit = upscaler.limits if upscaler.preset.engine.limit else None
        self.name = f"{name or upscaler.preset.name}{'+no-limit' if self.limit is False else ''}"
        self.family = family_of(upscaler.preset)
        self.params = sum(p.numel() for p in upscaler.network.parameters())
        self.device, self.precision = str(upscaler.device), upscaler.precision
        self.weights = upscaler.weights_sha256
        self.published_as = published_name(upscaler.preset)
        self.published_kind = published_kind(upscaler.preset)
        self._picture: tuple[str, Size] | None = None
        self._renders: dict[int, Render] = {}

    @property
    def identity(self) -> str | None:
        """Weights, settings and precision; None for weights in no file, code of a plug-in, or where choices are counted."""
        preset = self.upscaler.preset
        if self.weights is None or self.selection or has_plugins(preset):
            return None
        # With an exact encoder all tiles give the same bits: their size is no part of the key.
        exact = self.upscaler.network.encoder.exact
        parts = (
            self.weights,
            replace(self.upscaler.preset, temperature=None).to_json(),  # rows say which one they had
            self.upscaler.precision,
            self.upscaler.device.type,
            "any tile" if exact and self.sampling is None else str(self.upscaler.tile),
            *(["no limit"] if self.limit is False else []),
            *([] if self.sampling is None else [f"{replace(self.sampling, steps=1)}", self.name]),
        )
        return hashlib.blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()

    def draws(
        self, scale: float, temperatures: Sequence[float], seeds: Sequence[int], steps: Sequence[int]
    ) -> list[Draw]:
        if self.sampling is not None:
            counts = steps or (self.sampling.steps,)
            return [Draw(None, seed, count) for count in counts for seed in seeds or (0,)]
        chosen = choose(self.upscaler.preset, scale)
        if chosen is None or not self.upscaler.generative:
            return [Draw()]
        return [Draw(t, seed) for t in temperatures or (chosen.value,) for seed in seeds or (0,)]

    def enlarge(self, lr: U8, size: Size, draw: Draw) -> Result:
        """As `Model.enlarge`.

        What all temperatures share is rendered once per picture and seed; each of them is charged its full cost, which
        a single result would have taken.
        """
        if draw.temperature is not None:
            render = self._render(lr, size, draw.seed or 0)
            sr = render.mean + np.float32(draw.temperature) * render.direction
            return Result(np.clip(sr, 0, 1, out=sr), render.cost)
        x = _tensor(lr)
        if self.sampling is not None:
            return self._sampled(TensorSource(x), size, draw, self.sampling)
        with measured(self.upscaler.network, self.upscaler.device) as cost:
            upscaled = self.upscaler.upscale(x, size=size)
        return Result(upscaled[0].permute(1, 2, 0).numpy(), cost)

    def _sampled(self, source: TensorSource, size: Size, draw: Draw, sampling: Sampling) -> Result:
        engine = self.upscaler
        selection = Selection(size, engine.branches) if self.selection else None
        request = RenderRequest(
            seed=draw.seed or 0,
            sampling=replace(sampling, steps=draw.steps or sampling.steps),
            scores=None if selection is None else selection.add,
        )
        with measured(engine.network, engine.device) as cost:
            sr = np.concatenate(list(engine.upscale_rows(source, size, request).rows))
        choices = None if selection is None else selection.counts_by_kind(source)
        return Result(np.clip(sr, 0, 1, out=sr), cost, choices)

    def _render(self, lr: U8, size: Size, seed: int) -> Render:
        """Mean and direction; those of the last picture are kept for every seed."""
        picture = digest(lr), size
        if self._picture != picture:
            self._picture, self._renders = picture, {}
        if seed not in self._renders:
            source = TensorSource(_tensor(lr))
            with measured(self.upscaler.network, self.upscaler.device) as cost:
                parts = list(self.upscaler.affine(source, size, seed=seed))
            known = next(iter(self._renders.values()), None)  # every seed has the same mean: held once
            mean = np.concatenate([part for part, _ in parts]) if known is None else known.mean
            self._renders[seed] = Render(mean, np.concatenate([part for _, part in parts]), cost)
        return self._renders[seed]


def _tensor(lr: U8) -> torch.Tensor:
    return torch.tensor(lr).permute(2, 0, 1).unsqueeze(0).float() / 255


class SelfEnsemble(Model):
    """A model's mean over flips and rotations of its input (Timofte et al., 2016); `copies` are numbers of `dihedral`."""

    def __init__(self, model: Model, copies: Sequence[int] = range(COPIES)) -> None:
        self.model, self.copies = model, copies
        self.mark = "tta" if len(copies) == COPIES else f"tta{len(copies)}"
        self.name = f"{model.name}+{self.mark}"
        self.family, self.params, self.weights = model.family, model.params, model.weights
        self.device, self.precision, self.limit = model.device, model.precision, model.limit
        # Not `published_as`: those figures are without self-ensemble.
        self.published_kind = model.published_kind

    @property
    def identity(self) -> str | None:
        inner = self.model.identity
        return None if inner is None else f"{inner} {self.mark}"

    def draws(self, *wanted: Any) -> list[Draw]:
        return self.model.draws(*wanted)

    def enlarge(self, lr: U8, size: Size, draw: Draw) -> Result:
        costs = []

        def enlarged(copy: U8, goal: Size) -> NDArray[np.float32]:
            result = self.model.enlarge(copy, goal, draw)
            costs.append(result.cost)
            return as_float(result.pixels)

        total = self_ensemble(enlarged, lr, size, np.float64, self.copies)
        return Result(total.astype(np.float32), Cost.combined(costs, sum))


def as_float(pixels: NDArray[np.float32] | U8) -> NDArray[np.float32]:
    """Pixels as float32 in [0, 1]."""
    if pixels.dtype == np.uint8:
        return pixels.astype(np.float32) / np.float32(255)
    return pixels.astype(np.float32, copy=False)


def family_of(preset: Preset) -> str:
    """The family of a preset, which tables group by and plots colour by."""
    if is_sampled(preset):
        return "diffusion"
    return "flow" if is_generative(preset) else "regression"


def open_model(
    name: str,
    *,
    device: str = "auto",
    precision: str = "auto",
    tile: str | int = "auto",
    tta: Sequence[int] = (),
    sampling: Callable[[Preset], Sampling | None] | None = None,
    branch: str | None = None,
    selection: bool = False,
    limit: bool | None = None,
) -> Model:
    """The interpolation, preset or weights file called `name`; device, precision and tile are those of `Upscaler`.

    `tta` averages over these copies of `dihedral`. `sampling` gives the sampler of a preset, its own by default. With a
    `branch` of a decoder that has several, the model is called NAME/BRANCH; `selection` counts which branch answers
    where, for models that choose. `limit=False` turns the limiter off, and calls a model that has one NAME+no-limit.
    Raises PresetError (an unknown name), ModelError (weights missing, refused or
    damaged), ResourceError (no such device).
    """
    model: Model
    if name in INTERPOLATIONS:
        model = Interpolation(name)
    else:
        how = None if sampling is None else sampling(resolve(name))
        running: Any = {"device": device, "precision": precision, "tile": tile}
        engine = load_upscaler(name, **running, sampling=how, branch=branch, limit=limit)
        shown = None if branch is None else f"{engine.preset.name}/{branch}"
        model = Network(engine, shown, selection=selection)
    return SelfEnsemble(model, tta) if tta else model


def as_model(given: Model | Upscaler | str) -> Model:
    """The model that `evaluate` was given: open already, or by name. Raises as `open_model`."""
    if isinstance(given, Upscaler):
        return Network(given)
    return open_model(given) if isinstance(given, str) else given


def distinct_names(models: Sequence[Model]) -> None:
    """Append the first digits of their weights to models of one name (two weights files of one preset)."""
    names = [model.name for model in models]
    for model in models:
        if names.count(model.name) > 1 and model.weights is not None:
            model.name = f"{model.name}@{model.weights[:8]}"
