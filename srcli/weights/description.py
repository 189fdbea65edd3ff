"""What is known of a model, for machines: size, licences, data, figures, and the base models that it stands on."""

from pathlib import Path
from typing import Any

from srcli.config.base_models import base_names, bases_of, load_base, locate_base
from srcli.config.presets import Preset
from srcli.config.temperature import choose
from srcli.weights.files import FIXED_SCALE, allows_commercial_use, find, is_bundled, locate


def looked_into(preset: Preset) -> Preset:
    """The preset with what the weights alone of a network for one factor say: architecture, factor, parameters.

    Raises as `srcli.weights.fixed_scale.load`.
    """
    if preset.encoder.name != FIXED_SCALE or preset.encoder.args:
        return preset
    from srcli.weights import fixed_scale  # brings torch

    return fixed_scale.load(preset, find(preset))[1]


def describe(preset: Preset) -> dict[str, Any]:
    """What `list --json` says about a model; `size` is in bytes, of the weights file or of what is published."""
    path = locate(preset)
    return {
        "name": preset.name,
        "title": preset.title,
        "purpose": preset.purpose,
        "bundled": is_bundled(preset),
        "available": path is not None,
        "published": bool(preset.weights.links),
        "params": preset.params,
        "size": preset.weights.size if path is None else path.stat().st_size,
        "license": preset.weights.license,
        "code_license": preset.code_license,
        "scales": list(preset.scales.trained),
        "data": preset.training.data,
        "open_data": preset.training.open_data,
        "psnr_y": {
            bench: {f"{row.scale:g}": row.psnr_y for row in preset.reported if row.benchmark == bench}
            for bench in dict.fromkeys(row.benchmark for row in preset.reported if row.psnr_y is not None)
        },
        "cpu_seconds_per_megapixel": preset.cost.cpu,
        "gpu_seconds_per_megapixel": preset.cost.gpu,
        "experimental": preset.training.experimental,
        "encoder": preset.encoder.name,
        "decoder": preset.decoder.name,
        "generator": None if preset.generator is None else preset.generator.name,
        "bases": _bases_of(preset),
        "paper": preset.paper,
        "origin": preset.origin,
        "path": None if path is None else str(path),
    }


def allowed(found: str, wanted: str | None) -> bool:
    """Whether a licence is the one that is wanted; "commercial" is any that allows commercial use, None any at all."""
    if wanted is None:
        return True
    if wanted == "commercial":
        return allows_commercial_use(found)
    return found.lower() == wanted.lower()


def _bases_of(preset: Preset) -> list[dict[str, Any]]:
    """The base models that a preset stands on, for machines; those that it names as folders have no more to tell."""
    found = []
    for name in bases_of(preset):
        folder = locate_base(name) if name in base_names() else Path(name)
        about: dict[str, Any] = {"name": name, "path": None if folder is None else str(folder)}
        if name in base_names():
            base = load_base(name)
            about |= {"repository": base.repository, "size": base.size, "license": base.license}
        found.append(about)
    return found


def part(name: str, args: dict[str, Any]) -> str:
    """A part of a network with its arguments: ``edsr (n_feats 64, n_resblocks 16)``."""
    settings = ", ".join(
        f"{key} {list(value) if isinstance(value, tuple) else value}" for key, value in args.items()
    )
    return f"{name} ({settings})" if settings else name


def temperatures(preset: Preset) -> str | None:
    """What --temperature auto is: ``0.8 at x4, 0.32 at x8 (published policy)``."""
    own = preset.temperature
    scales = sorted({2.0, 4.0, 8.0, *map(float, own.scales if own is not None else ())})
    chosen = [choose(preset, scale) for scale in scales]
    known = [f"{c.value:.3g} at x{scale:g}" for c, scale in zip(chosen, scales, strict=True) if c is not None]
    return f"{', '.join(known)} ({chosen[0].origin})" if chosen[0] is not None else None
