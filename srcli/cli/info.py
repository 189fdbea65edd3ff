"""`srcli info`: what a picture or a model is, and what enlarging it would take."""

from __future__ import annotations

from json import dumps
from pathlib import Path
from typing import Any

import typer

from srcli.cli import options
from srcli.cli.command import argument, option, single
from srcli.cli.console import print_error
from srcli.config.presets import DEFAULT_PRESET
from srcli.errors import as_ours

FAILED = 1
WEIGHTS = (".safetensors", ".pth", ".pt", ".ckpt")


def info(
    files: list[Path] = argument("Pictures, or weights files.", "FILE..."),
    scale: str | None = option("Also say what enlarging by this factor would take.", "-s FACTOR"),
    model: str = option("The model for that.", "-m NAME|FILE", default=DEFAULT_PRESET),
    json: options.Json = False,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    tile: options.Tile = "auto",
) -> None:
    """Show what a picture or a weights file is, and what enlarging it would take.

    Times are extrapolated from a small picture that is enlarged first. Exit code 1 if a file cannot be read.
    """
    estimate = None
    if scale is not None:
        from srcli.batch.sizes import parse_scale
        from srcli.engine.memory_plan import Estimate

        estimate = Estimate(
            parse_scale(scale), options.current(model), device=device, precision=precision, tile=tile
        )
    found, failed = [], False
    for path in files:
        try:
            facts = _weights(path) if path.suffix in WEIGHTS else _picture(path)
            if estimate and "width" in facts:
                facts |= estimate.of(facts["height"], facts["width"])
        except Exception as error:
            print_error(as_ours(error))
            failed = True
            continue
        found.append(facts)
        if not json:
            _print(facts)
    if json:
        print(dumps(found, indent=2))
    if failed:
        raise typer.Exit(FAILED)


def _picture(path: Path) -> dict[str, Any]:
    from srcli.image.probe import probe

    header = probe(path)
    height, width = header.size
    return {
        "file": str(path),
        "bytes": path.stat().st_size,
        "format": header.format,
        "width": width,
        "height": height,
        **{name: getattr(header, name) for name in ("depth", "bits", "kind", "alpha", "frames")},
        "profile": header.profile,
        "orientation": header.orientation,
        "made": _made(path),
    }


def _made(path: Path) -> str | None:
    """How srcli made a picture, in a line; None for another's."""
    from srcli.batch.provenance import read_provenance

    made = read_provenance(path)
    if made is None:
        return None
    parts = [(made.get("model") or {}).get("name", "resized")]
    if "in_size" in made and "out_size" in made:
        parts.append(f"x{made['out_size'][0] / made['in_size'][0]:.3g}")
    parts += [f"{name} {made[name]:g}" for name in ("temperature", "seed") if name in made]
    parts += [f"from {made['in_size'][0]}x{made['in_size'][1]}"] if "in_size" in made else []
    return f"by srcli: {', '.join(parts)}"


def _weights(path: Path) -> dict[str, Any]:
    from srcli.files import sha256
    from srcli.weights.description import looked_into
    from srcli.weights.files import resolve

    preset = looked_into(resolve(path))
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
        "data": preset.training.data,
        "sha256": sha256(path),
    }


def _print(facts: dict[str, Any]) -> None:
    from srcli.resources import in_words

    print(facts["file"])
    for name, value in facts.items():
        if name == "file" or value is None:
            continue
        if isinstance(value, bool):
            value = "yes" if value else "no"
        print(f"  {name:15} {in_words(value) if name == 'bytes' else value}")


app = single(info)
