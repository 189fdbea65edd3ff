"""Which engine a network needs."""

from pathlib import Path
from typing import Any

from srcli.config.presets import DEFAULT_PRESET, Preset
from srcli.config.sampling import Sampling
from srcli.engine.device import choose_device
from srcli.engine.upscaler import Upscaler
from srcli.errors import UsageError
from srcli.models.sr import ImplicitSR, SelectiveDecoder


def load_upscaler(
    preset: str | Path = DEFAULT_PRESET,  # what to load
    *,
    device: str = "auto",  # where to run
    precision: str = "auto",  # of the arithmetic
    tile: str | int = "auto",  # "auto", "none" or pixels
    sampling: Sampling | None = None,  # for diffusion models; None: as the preset says
    branch: str | None = None,  # for decoders with several; None: what the decoder selects
    limit: bool | None = None,  # whether a native picture is kept within its limits; None: as the preset says
) -> Upscaler:
    """The network of a preset's name, a preset file or a safetensors file, with its weights, in its engine.

    Raises:
        PresetError: an unknown name.
        ModelError: weights missing, refused, damaged or of another network.
        ResourceError: no such device.
        UsageError: a sampling or branch for a network that has none.
    """
    from srcli.weights.checkpoint import load

    choose_device(device)  # before seconds are spent on weights
    loaded = load(preset)
    return upscaler_for(
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


def upscaler_for(
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
    decoder = network.decoder
    if network.generator is None and (sampling is not None or branch is not None):
        raise UsageError(f"'{preset.name}' is no diffusion model.")
    if branch is not None and not isinstance(decoder, SelectiveDecoder):
        raise UsageError(f"The decoder of '{preset.name}' has no branches.")
    if isinstance(decoder, SelectiveDecoder) and branch is not None and branch not in decoder.branches:
        raise UsageError(f"The decoder of '{preset.name}' has no branch '{branch}'.")
    if network.generator is None:
        return Upscaler(network, preset, **options)
    if network.generator.kind == "restoration":
        from srcli.engine.restorer import Restorer

        return Restorer(network, preset, sampling=sampling, **options)
    if network.generator.kind == "pixel-diffusion":
        from srcli.engine.pixel_diffusion_upscaler import PixelDiffusionUpscaler

        return PixelDiffusionUpscaler(network, preset, sampling=sampling, **options)
    from srcli.engine.latent_diffusion_upscaler import LatentDiffusionUpscaler

    return LatentDiffusionUpscaler(network, preset, sampling=sampling, branch=branch, **options)
