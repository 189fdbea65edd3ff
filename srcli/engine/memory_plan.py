"""What restoring a picture would take, before anything is loaded: tiles, memory of every stage, arithmetic."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from srcli.config.base_models import locate_base
from srcli.config.presets import Part, Preset, parse_preset
from srcli.config.sampling import Sampling
from srcli.engine.diffusion import plan_tiles
from srcli.engine.footprint import Cost, cost, parameter_bytes, without_content
from srcli.errors import ResourceError
from srcli.geometry import Size
from srcli.models.latent_restorer import Condition, LatentRestorer, assemble

SHARE = 0.8  # of the free memory that is planned with
PICTURES = 5  # copies of the output in float32 that are held at once: enlarged, latents' picture, sum, result
SMALLEST = 16  # latent pixels of a tile's side
BATCH_ON_GPU = 4


@dataclass(frozen=True)
class MemoryPlan:
    """What restoring one picture takes."""

    size: Size  # of the sample, in latent pixels
    tile: int | None  # side of the generator's tiles; None: the whole sample
    batch: int  # tiles predicted together
    tiles: int  # how many there are
    vae_tile: int | None  # side of the auto-encoder's tiles in latent pixels; None: the whole sample
    weights: int  # bytes of all parameters
    stages: Mapping[str, int]  # bytes that each stage needs beside them
    flops: int  # of the whole

    @property
    def peak(self) -> int:
        """Bytes at the worst moment."""
        return self.weights + max(self.stages.values())

    def lines(self, speed: float | None = None) -> list[str]:
        """For people; with `speed`, operations per second, a time."""

        def side(n: int | None) -> str:
            return "one piece" if n is None else f"tiles of {n}x{n} latents"

        memory = ", ".join(f"{name} {amount / 1e9:.2f} GB" for name, amount in self.stages.items())
        lines = [
            f"canvas of {self.size.w}x{self.size.h} latents, denoised in {self.tiles} {side(self.tile)}"
            if self.tile is not None
            else f"canvas of {self.size.w}x{self.size.h} latents, denoised in one piece",
            f"auto-encoder in {side(self.vae_tile)}",
            f"memory: {self.peak / 1e9:.2f} GB at most: weights {self.weights / 1e9:.2f} GB, beside them {memory}",
        ]
        time = "" if speed is None else f", at least {_duration(self.flops / speed)} on this machine"
        return [*lines, f"arithmetic: {self.flops / 1e12:.3g} TFLOP{time}"]


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def plan_memory(
    preset: Preset,  # a latent restorer; its base models need not be here
    target: Size,  # size of the output
    sampling: Sampling,  # how it is sampled
    *,
    tile: str | int = "auto",  # "auto", "none" for one piece, or a side in latent pixels
    free: int,  # bytes, weights included
    calls: int | None = None,  # of the generator for one sample; None: all of `sampling`
    batch: int = 1,  # tiles predicted together
) -> MemoryPlan:
    """Plan a picture, with tiles as large as memory allows and no larger than the preset's.

    Raises:
        ResourceError: not even the smallest tiles fit.
    """
    assert preset.diffusion is not None
    model = _Blank.of(preset)
    multiple, factor = model.network.generator.multiple_of, model.network.decoder.factor
    size = Size(*(-(-side // (factor * multiple)) * multiple for side in target))
    fixed = PICTURES * size.h * size.w * factor**2 * 12
    room = int(free * SHARE) - model.weights - fixed
    wanted = {"auto": preset.diffusion.tile, "none": None}.get(str(tile), tile)
    shared = preset.diffusion.overlap or model.network.generator.context

    def least(kind: str, sides: list[int | None], batch: int = 1) -> tuple[int | None, Cost]:
        for side in sides:
            pixels = min(max(size), side) if side is not None else None
            found = model.cost(kind, size if pixels is None else Size(pixels, pixels), batch)
            if found.peak <= room or (side is not None and side == sides[-1] == wanted):
                return (None if side is None or side >= max(size) else side), found
        raise _too_large(f"{kind} of '{preset.name}'", found.peak + model.weights + fixed, free)

    side, one = least(
        "generator", _halves(wanted, explicit=isinstance(wanted, int) and tile != "auto"), batch
    )
    vae_side, decode = least("decoder", [None, *_halves(min(2 * preset.diffusion.tile, max(size)))])
    _, encode = least("encoder", [vae_side])
    count = len(plan_tiles(size, side, shared, multiple).boxes)
    pieces = len(plan_tiles(size, vae_side, shared).boxes)
    passes = 1 if pieces == 1 else 2
    tokens = model.tokens()
    total = (calls or sampling.calls) * count * one.flops // batch + count * tokens.flops
    stages = {"tokens": tokens, "encoder": encode, "generator": one, "decoder": decode}
    peaks = {name: fixed + found.peak for name, found in stages.items()}
    flops = sampling.average * (total + pieces * passes * (encode.flops + decode.flops))
    return MemoryPlan(size, side, batch, count, vae_side, model.weights, peaks, flops)


def _too_large(what: str, needed: int, free: int) -> ResourceError:
    return ResourceError(
        f"the {what} needs {needed / 1e9:.1f} GB of memory even in the smallest tiles, and {free / 1e9:.1f} GB can be "
        "had.",
        hint="Choose a smaller output, another device, or close other programs.",
    )


def _halves(side: Any, *, explicit: bool = False) -> list[int | None]:
    """A side and its halves, down to the smallest; only itself where it was asked for."""
    if side is None or explicit:
        return [side]
    sides = [int(side)]
    while sides[-1] // 2 >= SMALLEST:
        sides.append(sides[-1] // 2)
    return list(sides)


class _Blank:
    """A network without content, and what its parts cost."""

    def __init__(self, preset: Preset) -> None:
        self.mode = without_content()
        with torch.device("meta"):
            network = assemble(preset).eval()
        with self.mode:
            self.network: LatentRestorer = network.to_empty(device="cpu")
        self.weights = parameter_bytes(self.network)
        self.known: dict[tuple[str, Size, int], Cost] = {}

    @staticmethod
    def of(preset: Preset) -> _Blank:
        """That of a preset, made once."""
        return _blank(without_bases(preset).to_json())

    def cost(self, kind: str, side: Size, batch: int) -> Cost:
        """Of "encoder" or "decoder" (pixels to latents, and back) or "generator", on a sample of that size."""
        key = (kind, side, batch)
        if key not in self.known:
            with self.mode:
                self.known[key] = cost(self._call(kind, side, batch))
        return self.known[key]

    def tokens(self) -> Cost:
        """Of what looks at the LR picture of a tile."""
        with self.mode:
            return cost(
                lambda: self.network.generator.condition(self.network.encoder, torch.empty(1, 3, 128, 128))
            )

    def _call(self, kind: str, size: Size, batch: int) -> Callable[[], Any]:
        network = self.network
        factor, channels = network.decoder.factor, network.generator.channels
        pixels = (batch, 3, size.h * factor, size.w * factor)

        def denoise() -> Any:
            tokens = network.generator.condition(network.encoder, torch.empty(batch, 3, 16, 16))
            noisy = torch.empty(batch, channels, *size)
            condition = Condition(torch.empty(pixels), tokens, torch.empty_like(noisy))
            return network.generator(noisy, torch.zeros(batch), condition)

        calls: dict[str, Callable[[], Any]] = {
            "encoder": lambda: network.decoder.encode(torch.empty(pixels)),
            "decoder": lambda: network.decoder.decode(torch.empty(batch, channels, *size)),
            "generator": denoise,
        }
        return calls[kind]


@lru_cache(maxsize=4)
def _blank(text: str) -> _Blank:
    return _Blank(parse_preset(json.loads(text), name="blank"))


def without_bases(preset: Preset) -> Preset:
    """The preset with the settings of its base models in their place; the published ones where they are not here."""

    def settings(part: Part, key: str, subfolder: str) -> Part:
        base = str(part.args.get("base", "dino-vitb16" if part.name == "dino" else ""))
        if not base:
            return part
        folder = locate_base(base)
        path = None if folder is None else folder / subfolder / "config.json"
        found = None if path is None or not path.is_file() else _config(path)
        return Part(part.name, {**part.args, "base": "", **({key: found} if found else {})})

    assert preset.generator is not None
    encoder = settings(preset.encoder, "vit", "") if preset.encoder.name == "dino" else preset.encoder
    return replace(
        preset,
        encoder=encoder,
        decoder=settings(preset.decoder, "vae", "vae"),
        generator=settings(preset.generator, "unet", "unet"),
        folder=None,
    )


def _config(path: Path) -> dict[str, Any]:
    """The settings in a folder of diffusers or transformers, without what is not the network's."""
    table = json.loads(path.read_text("utf-8"))
    return {key: value for key, value in table.items() if not key.startswith("_") and value is not None}
