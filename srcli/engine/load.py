"""Which engine a network needs."""

from pathlib import Path
from typing import Any

from srcli.config.presets import DEFAULT_PRESET, Preset
from srcli.config.sampling import Sampling
from srcli.engine.chain import check_first
from srcli.engine.device import choose_device
from srcli.engine.upscaler import Upscaler
from srcli.errors import UsageError
from srcli.models.sr import ImplicitSR, SelectiveDecoder


def load_upscaler(
    preset: str | Path | Preset = DEFAULT_PRESET, *, device: str = "auto", **options: Any
) -> Upscaler:
    """The network of a preset, its name, its file or a safetensors file, with its weights, in its engine.

    Raises UsageError, PresetError (an unknown name), ModelError (weights missing, refused, damaged or of another
    network) and ResourceError (no such device). `options` are those of `upscaler_for`.
    """
    from srcli.weights.checkpoint import load

    choose_device(device)  # before seconds are spent on weights
    loaded = load(preset)
    upscaler = upscaler_for(
        loaded.network, loaded.preset, device=device, weights_sha256=loaded.sha256, **options
    )
    if loaded.preset.before is not None:
        running = {key: options[key] for key in ("precision", "tile") if key in options}
        upscaler.before = load_upscaler(loaded.preset.before, device=device, **running)
        check_first(upscaler.before, upscaler)
    return upscaler


def upscaler_for(
    network: ImplicitSR,
    preset: Preset,
    *,
    sampling: Sampling | None = None,  # of diffusion models; None: as the preset says
    branch: str | None = None,  # of decoders with several; None: what the decoder selects
    **options: Any,  # of `Upscaler`
) -> Upscaler:
    """The engine of a network in memory; UsageError for a sampling or branch that it does not have."""
    decoder = network.decoder
    if network.generator is None and (sampling is not None or branch is not None):
        raise UsageError(f"'{preset.name}' is no diffusion model.")
    if branch is not None and not isinstance(decoder, SelectiveDecoder):
        raise UsageError(f"The decoder of '{preset.name}' has no branches.")
    if isinstance(decoder, SelectiveDecoder) and branch not in (None, *decoder.branches):
        raise UsageError(f"The decoder of '{preset.name}' has no branch '{branch}'.")
    if network.generator is None:
        return Upscaler(network, preset, **options)
    if network.generator.kind == "restoration":
        from srcli.engine.restorer import Restorer

        return Restorer(network, preset, sampling=sampling, **options)
    if network.generator.kind == "pixel-diffusion":
        from srcli.engine.diffusion_upscaler import PixelDiffusionUpscaler

        return PixelDiffusionUpscaler(network, preset, sampling=sampling, **options)
    from srcli.engine.latent_diffusion_upscaler import LatentDiffusionUpscaler

    return LatentDiffusionUpscaler(network, preset, sampling=sampling, branch=branch, **options)
