"""Which engine a network needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from srcli.config.presets import DEFAULT_PRESET, Preset
from srcli.config.sampling import Sampling
from srcli.engine.device import choose_device
from srcli.engine.upscaler import Upscaler
from srcli.errors import UsageError
from srcli.models.sr import ImplicitSR, OutputGenerator


def open_engine(
    preset: str | Path = DEFAULT_PRESET,
    *,
    device: str = "auto",
    precision: str = "auto",
    tile: str | int = "auto",
    sampling: Sampling | None = None,
    branch: str | None = None,
    limit: bool | None = None,
) -> Upscaler:
    """The network of a preset's name, a preset file or a safetensors file, with its weights, in its engine.

    Args:
        preset: what to load.
        device: where to run.
        precision: of the arithmetic.
        tile: "auto", "none" or pixels.
        sampling: for diffusion models; None: as the preset says.
        branch: for decoders with several; None: what the decoder selects.
        limit: whether a native picture is kept within its limits; None: as the preset says.

    Raises:
        PresetError: an unknown name.
        ModelError: weights missing, refused, damaged or of another network.
        ResourceError: no such device.
        UsageError: a sampling or branch for a network that has none.
    """
    from srcli.weights.checkpoint import load

    choose_device(device)  # before seconds are spent on weights
    loaded = load(preset)
    return engine_for(
        loaded.network,
        loaded.preset,
        device=device,
        precision=precision,
        tile=tile,
        weights_sha256=loaded.sha256,
        sampling=sampling,
        branch=branch,
        limit=limit,
    )


def engine_for(
    network: ImplicitSR,
    preset: Preset,
    *,
    sampling: Sampling | None = None,
    branch: str | None = None,
    **options: Any,
) -> Upscaler:
    """The engine of a network in memory; `options` are those of `Upscaler`.

    Raises:
        UsageError: a sampling or branch for a network that has none.
    """
    if network.generator is None:
        if sampling is not None or branch is not None:
            raise UsageError(f"'{preset.name}' is no diffusion model.")
        return Upscaler(network, preset, **options)
    if preset.generator is not None and preset.generator.name == "lgcaa":
        from srcli.engine.restorer import Restorer

        if branch is not None:
            raise UsageError(f"'{preset.name}' has no branches.")
        return Restorer(network, preset, sampling=sampling, **options)
    if isinstance(network.generator, OutputGenerator):
        from srcli.engine.pixel_diffusion_upscaler import CanvasUpscaler

        if branch is not None:
            raise UsageError(f"'{preset.name}' has no branches.")
        return CanvasUpscaler(network, preset, sampling=sampling, **options)
    from srcli.engine.latent_diffusion_upscaler import LatentUpscaler

    return LatentUpscaler(network, preset, sampling=sampling, branch=branch, **options)
