"""What enlarging or restoring a picture would take: tiles, memory of every stage, arithmetic, time.

A network's memory and arithmetic are found without either: it runs on tensors that have no content. Every operation's
results are counted while they live, as torch frees them in earnest; what a kernel needs inside one is not seen.
Parameters and inputs are counted if they are made inside.
"""

from __future__ import annotations

import json
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from srcli.config.base_models import base_of, locate_base
from srcli.config.presets import Diffusion, Part, Preset, parse_preset
from srcli.config.sampling import Sampling
from srcli.engine.device import autocast
from srcli.engine.diffusion import plan_tiles
from srcli.engine.upscaler import Upscaler
from srcli.errors import ResourceError
from srcli.geometry import Size, output_size
from srcli.weights.build import assemble

if TYPE_CHECKING:
    from srcli.models.latent_restorer import LatentRestorer

SHARE = 0.8  # of the free memory that is planned with
PICTURES = 5  # copies of the output in float32 that are held at once: enlarged, latents' picture, sum, result
SMALLEST = 16  # latent pixels of a tile's side
SPEED_SIDE = 768  # of the matrices whose product tells how fast a processor is
SAMPLE = 64  # side of the picture whose enlarging is timed
PROBE = 48  # of the one whose encoding is


class Cost(NamedTuple):
    """What a call takes."""

    peak: int  # bytes of results that live at once at most, beside what was there before
    flops: int  # of products of matrices and convolutions; a multiplication and an addition are two


class _Live(TorchDispatchMode):
    """Counts the bytes of results that live, now and at most."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.most = 0
        self.seen: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        for each in tree_leaves((args, kwargs)):
            if isinstance(each, Tensor):  # parameters and such, of which the result may be a view
                self.seen.add(each.untyped_storage())
        result = func(*args, **(kwargs or {}))
        for each in tree_leaves(result):
            if isinstance(each, Tensor):
                self._count(each.untyped_storage())
        return result

    def _count(self, storage: Any) -> None:
        if storage in self.seen:
            return
        self.seen.add(storage)
        size = storage.nbytes()
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._gone, size).atexit = False

    def _gone(self, size: int) -> None:
        self.now -= size


def cost(call: Callable[[], Any]) -> Cost:
    """What a call takes that makes its own inputs; run inside `without_content`."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter, _Live() as live:
        before = live.now
        result = call()
        peak = live.most - before
        del result
    return Cost(peak, counter.get_total_flops())


def without_content() -> FakeTensorMode:
    """Inside, tensors have a shape and a type, and no content; networks are made at once."""
    return FakeTensorMode(allow_non_fake_inputs=True)


def parameter_bytes(network: nn.Module) -> int:
    """Bytes of parameters and buffers."""
    tensors = [*network.parameters(), *network.buffers()]
    return sum(t.numel() * t.element_size() for t in tensors)


def speed(device: torch.device) -> float:
    """Floating-point operations per second that a product of matrices reaches on a device, measured now."""
    a = torch.rand(SPEED_SIDE, SPEED_SIDE, device=device)

    def seconds() -> float:
        began = time.perf_counter()
        float((a @ a).sum())
        return time.perf_counter() - began

    seconds()
    return 2 * SPEED_SIDE**3 / min(seconds() for _ in range(3))


@dataclass(frozen=True)
class MemoryPlan:
    """What restoring one picture takes."""

    size: Size  # of the sample, in latent pixels
    tile: int | None  # side of the generator's tiles; None: the whole sample
    tiles: int
    vae_tile: int | None  # side of the auto-encoder's tiles in latent pixels; None: the whole sample
    weights: int  # bytes of all parameters
    stages: Mapping[str, int]  # bytes that each stage needs beside them
    flops: int

    @property
    def peak(self) -> int:
        """Bytes at the worst moment."""
        return self.weights + max(self.stages.values())

    def lines(self, speed: float | None = None) -> list[str]:
        """For people; with `speed`, operations per second, a time."""

        def pieces(side: int | None, count: str = "") -> str:
            return "one piece" if side is None else f"{count}tiles of {side}x{side} latents"

        memory = ", ".join(f"{name} {amount / 1e9:.2f} GB" for name, amount in self.stages.items())
        time = "" if speed is None else f", at least {_duration(self.flops / speed)} on this machine"
        return [
            f"canvas of {self.size.w}x{self.size.h} latents, denoised in {pieces(self.tile, f'{self.tiles} ')}",
            f"auto-encoder in {pieces(self.vae_tile)}",
            f"memory: {self.peak / 1e9:.2f} GB at most: weights {self.weights / 1e9:.2f} GB, beside them {memory}",
            f"arithmetic: {self.flops / 1e12:.3g} TFLOP{time}",
        ]


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def plan_memory(
    preset: Preset,  # a latent restorer; its base models need not be here
    target: Size,
    sampling: Sampling,
    *,
    tile: str | int = "auto",  # "auto", "none" for one piece, or a side in latent pixels
    free: int,  # bytes, weights included
    calls: int | None = None,  # of the generator for one sample; None: all of `sampling`
) -> MemoryPlan:
    """Plan a picture, with tiles as large as memory allows and no larger than the preset's; else ResourceError."""
    assert preset.diffusion is not None
    # Only what the network is made of, so that presets that are sampled otherwise share an outline.
    noise = Diffusion(train_steps=preset.diffusion.train_steps, prediction=preset.diffusion.prediction)
    model = _outline(replace(without_bases(preset), diffusion=noise).to_json())
    multiple, factor = model.network.generator.multiple_of, model.network.decoder.factor
    size = Size(*(-(-side // (factor * multiple)) * multiple for side in target))
    fixed = PICTURES * size.h * size.w * factor**2 * 12
    room = int(free * SHARE) - model.weights - fixed
    wanted = None if tile == "none" else preset.diffusion.tile if tile == "auto" else int(tile)
    shared = preset.diffusion.overlap or model.network.generator.context

    def least(kind: str, sides: list[int | None]) -> tuple[int | None, Cost]:
        for side in sides:
            pixels = None if side is None else min(max(size), side)
            found = model.cost(kind, size if pixels is None else Size(pixels, pixels))
            if found.peak <= room or (side is not None and side == sides[-1] == wanted):
                return (None if side is None or side >= max(size) else side), found
        needed = found.peak + model.weights + fixed
        raise ResourceError(
            f"the {kind} of '{preset.name}' needs {needed / 1e9:.1f} GB of memory even in the smallest tiles, and "
            f"{free / 1e9:.1f} GB can be had.",
            hint="Choose a smaller output, another device, or close other programs.",
        )

    side, one = least("generator", _halves(preset.diffusion.tile) if tile == "auto" else [wanted])
    vae_side, decode = least("decoder", [None, *_halves(min(2 * preset.diffusion.tile, max(size)))])
    _, encode = least("encoder", [vae_side])
    tokens = model.cost("tokens", Size(128, 128))
    count = len(plan_tiles(size, side, shared, multiple).boxes)
    pieces = len(plan_tiles(size, vae_side, shared).boxes)
    passes = 1 if pieces == 1 else 2
    stages = {"tokens": tokens, "encoder": encode, "generator": one, "decoder": decode}
    peaks = {name: fixed + found.peak for name, found in stages.items()}
    sampled = count * ((calls or sampling.calls) * one.flops + tokens.flops)
    flops = sampling.average * (sampled + pieces * passes * (encode.flops + decode.flops))
    return MemoryPlan(size, side, count, vae_side, model.weights, peaks, flops)


def _halves(side: int) -> list[int | None]:
    return [side, *(_halves(side // 2) if side // 2 >= SMALLEST else [])]


class Outline:
    """A restorer whose tensors have no content, and what its parts cost."""

    def __init__(self, preset: Preset) -> None:
        self.mode = without_content()
        with torch.device("meta"):
            network = assemble(preset).eval()
        with self.mode:
            self.network: LatentRestorer = network.to_empty(device="cpu")
        self.weights = parameter_bytes(self.network)
        self.known: dict[tuple[str, Size], Cost] = {}

    def cost(self, kind: str, size: Size) -> Cost:
        """Of "encoder", "decoder" or "generator" on a sample of that size, or of "tokens" on an LR picture of it."""
        if (kind, size) not in self.known:
            with self.mode:
                self.known[kind, size] = cost(stage(self.network, kind, size))
        return self.known[kind, size]


def stage(network: LatentRestorer, kind: str, size: Size) -> Callable[[], Any]:
    """The call of a part of a restorer, with inputs that it makes itself; see `Outline.cost`."""
    from srcli.models.latent_restorer import Condition  # with diffusers, which other networks do without

    factor, channels = network.decoder.factor, network.generator.channels
    pixels = (1, 3, size.h * factor, size.w * factor)

    def tokens(*lr: int) -> Tensor:
        return network.generator.condition(network.encoder, torch.empty(1, 3, *lr))

    def denoise() -> Tensor:
        seen = tokens(16, 16)
        noisy = torch.empty(1, channels, *size)
        condition = Condition(torch.empty(pixels), seen, torch.empty_like(noisy))
        return network.generator(noisy, torch.zeros(1), condition)

    calls: dict[str, Callable[[], Any]] = {
        "encoder": lambda: network.decoder.encode(torch.empty(pixels)),
        "decoder": lambda: network.decoder.decode(torch.empty(1, channels, *size)),
        "generator": denoise,
        "tokens": lambda: tokens(*size),
    }
    return calls[kind]


@lru_cache(maxsize=4)
def _outline(text: str) -> Outline:
    return Outline(parse_preset(json.loads(text), name="outline"))


def without_bases(preset: Preset) -> Preset:
    """The preset with the settings of its base models in their place; the published ones where they are not here."""

    def settings(part: Part, key: str, subfolder: str) -> Part:
        if not (base := base_of(part)):
            return part
        args: dict[str, Any] = {**part.args, "base": ""}
        folder = locate_base(base)
        if folder is not None and (path := folder / subfolder / "config.json").is_file():
            table = json.loads(path.read_text("utf-8"))
            # diffusers and transformers keep notes in it, which begin so.
            args[key] = {k: v for k, v in table.items() if not k.startswith("_") and v is not None}
        return Part(part.name, args)

    assert preset.generator is not None
    encoder = settings(preset.encoder, "vit", "") if preset.encoder.name == "dino" else preset.encoder
    return replace(
        preset,
        encoder=encoder,
        decoder=settings(preset.decoder, "vae", "vae"),
        generator=settings(preset.generator, "unet", "unet"),
        folder=None,
    )


class Estimate:
    """A model whose enlarging by `scale` has been timed on this machine; `running` is that of `Upscaler.from_preset`."""

    def __init__(self, scale: float, model: str, **running: str) -> None:
        self.scale = scale
        self.upscaler = Upscaler.from_preset(model, **running)
        lr = torch.rand(1, 3, SAMPLE, SAMPLE)
        self.upscaler.upscale(lr, scale)
        began = time.perf_counter()
        self.upscaler.upscale(lr, scale)
        self.seconds_per_pixel = (time.perf_counter() - began) / SAMPLE**2

    def of(self, height: int, width: int) -> dict[str, Any]:
        """Size of the result, tiles, and seconds in proportion to pixels, for a picture of that size."""
        target = output_size(Size(height, width), self.scale)
        tile = self.upscaler.tile_for(Size(height, width))
        return {
            "output width": target.w,
            "output height": target.h,
            "tile": f"{tile.w}x{tile.h}",
            "tiles": -(-height // tile.h) * -(-width // tile.w),
            "seconds, about": round(self.seconds_per_pixel * height * width, 1),
            "device": str(self.upscaler.device),
        }


def seconds_for(upscaler: Upscaler, sizes: Iterable[Size]) -> float:
    """About how long encoding pictures (h, w) of these sizes takes, margins of tiles included, by the time of a small one."""
    encoder = upscaler.network.encoder
    x = torch.zeros(1, 3, PROBE, PROBE, device=upscaler.device).contiguous(memory_format=torch.channels_last)
    for _ in range(2):  # the first one sets up
        began = time.perf_counter()
        with autocast(upscaler.device, upscaler.precision):
            float(encoder(x).sum())
        seconds = time.perf_counter() - began
    pixels = 0
    for size in sizes:
        tile = upscaler.tile_for(size)
        read = [
            side + 2 * upscaler.halo * (-(-side // step) - 1) for side, step in zip(size, tile, strict=True)
        ]
        pixels += read[0] * read[1]
    return pixels * seconds / PROBE**2
