"""`srcli info`: what a picture or a model is, and what enlarging it would take."""

from __future__ import annotations

import sys
from json import dumps
from pathlib import Path
from typing import Annotated, Any

import typer

from srcli.cli import options
from srcli.errors import SrcliError
from srcli.presets import DEFAULT_PRESET

SAMPLE = 64  # side of the picture whose enlarging is timed
FAILED = 1


def info(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Pictures, or weights files.")],
    scale: Annotated[
        float | None,
        typer.Option("--scale", "-s", min=0.01, help="Also say what enlarging by this factor would take."),
    ] = None,
    model: Annotated[str, typer.Option("--model", "-m", help="The model for that.")] = DEFAULT_PRESET,
    json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    tile: options.Tile = "auto",
) -> None:
    """Show size, depth, colour profile and more of pictures, or network and licence of weights files.

    Times are extrapolated from a small picture that is enlarged first. Exit code 1 if a file cannot be read.
    """
    estimate = None if scale is None else _Estimate(scale, model, device, precision, tile)
    found, failed = [], False
    for path in files:
        try:
            facts = _weights(path) if path.suffix == ".safetensors" else _picture(path)
            if estimate and "width" in facts:
                facts |= estimate.of(facts["height"], facts["width"])
        except SrcliError as error:
            failed = True
            print(f"error: {error}", file=sys.stderr)
            continue
        found.append(facts)
        if not json:
            _print(facts)
    if json:
        print(dumps(found, indent=2))
    if failed:
        raise typer.Exit(FAILED)


def _picture(path: Path) -> dict[str, Any]:
    from srcli.image import probe

    header = probe(path)
    height, width = header.size
    return {
        "file": str(path),
        "bytes": path.stat().st_size,
        "format": header.format,
        "width": width,
        "height": height,
        "depth": header.depth,
        "kind": header.kind,
        "alpha": header.alpha,
        "frames": header.frames,
        "profile": header.profile,
        "orientation": header.orientation,
    }


def _weights(path: Path) -> dict[str, Any]:
    from srcli.weights.store import resolve, sha256

    preset = resolve(path)
    return {
        "file": str(path),
        "bytes": path.stat().st_size,
        "format": "weights",
        "preset": preset.name,
        "title": preset.title,
        "encoder": preset.encoder.name,
        "decoder": preset.decoder.name,
        "parameters": preset.params,
        "license": preset.weights.license,
        "sha256": sha256(path),
    }


class _Estimate:
    """What enlarging would take, from one small run."""

    def __init__(self, scale: float, model: str, device: str, precision: str, tile: str) -> None:
        import time

        import torch

        from srcli.engine.upscaler import Upscaler

        self.scale = scale
        self.upscaler = Upscaler.from_preset(model, device=device, precision=precision, tile=tile)
        lr = torch.rand(1, 3, SAMPLE, SAMPLE)
        self.upscaler.upscale(lr, scale)
        began = time.perf_counter()
        self.upscaler.upscale(lr, scale)
        self.seconds_per_pixel = (time.perf_counter() - began) / SAMPLE**2

    def of(self, height: int, width: int) -> dict[str, Any]:
        from srcli.geometry import Size, output_size

        size = Size(height, width)
        target, tile = output_size(size, self.scale), self.upscaler.tile_for(size)
        return {
            "output width": target.w,
            "output height": target.h,
            "tile": f"{tile.w}x{tile.h}",
            "tiles": -(-height // tile.h) * -(-width // tile.w),
            "seconds, about": round(self.seconds_per_pixel * height * width, 1),
            "device": str(self.upscaler.device),
        }


def _print(facts: dict[str, Any]) -> None:
    from srcli.preflight import in_words

    print(facts["file"])
    for name, value in facts.items():
        if name == "file" or value is None:
            continue
        if isinstance(value, bool):
            value = "yes" if value else "no"
        print(f"  {name:15} {in_words(value) if name == 'bytes' else value}")
