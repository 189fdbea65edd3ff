"""A network for one factor made one for any: a small decoder on its own picture and features, and whether that pays.

The network stays as it is. What the decoder adds begins at nothing and is learned at all scales; in the end it is compared
with the network alone on photographs that are held out, and kept only where it is worth something and harms nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, cast

import torch

from srcli.config.presets import Part, Scales, Weights
from srcli.errors import PresetError, WeightsError
from srcli.models.decoders.native import OnNative
from srcli.models.sr import ImplicitSR, NativeEncoder
from srcli.train.recipe import Recipe
from srcli.train.validation import METRIC
from srcli.weights.checkpoint import save
from srcli.weights.files import FIXED_SCALE, find, fixed_scale_preset, resolve
from srcli.weights.fixed_scale import authors_state, gain_of, network_of, read_state

if TYPE_CHECKING:
    from srcli.train.run import Run

HARM = 0.01  # dB that may be lost at the network's own factor
WORTH = 0.02  # dB that the others must gain in the mean


def adopting(recipe: Recipe, model: str) -> Recipe:
    """The recipe on the network that `model` names: a file, an imported one, or one on the Hub.

    Raises PresetError (the recipe's encoder is another), WeightsError (a network that keeps the size, or that spandrel
    does not know again once it is in memory), and as `srcli.weights.fixed_scale.load`.
    """
    if recipe.preset.encoder.name != FIXED_SCALE:
        raise PresetError(
            f"recipe '{recipe.preset.training.recipe}' has an encoder of its own; --from is for one that adopts.",
            hint="Take --recipe adopt, or start from weights of the recipe's network: --init",
        )
    source = resolve(model)
    if source.encoder.name != FIXED_SCALE:
        raise PresetError(
            f"'{source.name}' is a network of srcli's own, for which recipes have an encoder.",
            hint="Train it further with its own recipe: --init",
        )
    path = find(source)
    plain, about = network_of(read_state(path), fixed_scale_preset(path), str(path))
    encoder = cast("NativeEncoder", plain.encoder)
    if encoder.factor == 1:
        raise WeightsError(f"{path} keeps the size; there is nothing to learn for other scales.")
    _check_remembered(plain, path)
    args = {**about.encoder.args, "file": str(path.absolute()), "gain": gain_of(plain)}
    preset = replace(
        recipe.preset,
        name=f"{source.name}-adopted",
        title=f"{about.title} for any scale",
        encoder=Part(FIXED_SCALE, args),
        scales=Scales(recipe.data.scales),
        weights=Weights(license=source.weights.license),
        code_license=about.code_license,
    )
    scales = tuple(sorted({*recipe.validation.scales, float(encoder.factor)}))
    return replace(recipe, preset=preset, validation=replace(recipe.validation, scales=scales))


@torch.no_grad()
def _check_remembered(network: ImplicitSR, path: Path) -> None:
    """What is written is the network in memory; it must be known again from there."""
    again, _ = network_of(authors_state(network), fixed_scale_preset(path), str(path))
    noise = torch.rand(1, 3, 16, 16)
    if not torch.equal(network.encoder(noise), again.encoder(noise)):
        raise WeightsError(f"{path} cannot be written again as it is, so it cannot be adopted.")


@torch.no_grad()
def settle(run: Run, out: Path, notify: Callable[[str], None]) -> None:
    """Keep what was trained, or write the network as it was in its place, and say which; of other recipes nothing.

    The run itself can be continued either way.
    """
    preset, network = run.recipe.preset, run.trainer.average
    if preset.encoder.name != FIXED_SCALE:
        return
    (out / "best.safetensors").unlink(missing_ok=True)  # chosen without this check
    if not run.validation.sets:
        notify("warning: no photo is held out, so nobody knows whether this is better than the network alone")
        return
    assert isinstance(network.decoder, OnNative)
    factor = network.decoder.factor
    learned = factor.clone()
    trained = run.validate()
    factor.zero_()
    alone = run.validation.measure(network, run.trainer.device)
    factor.copy_(learned)
    gains = {name: trained[name] - alone[name] for name in alone if name.startswith(METRIC)}
    own = gains.pop(f"{METRIC} x{preset.encoder.args['factor']:g}")
    elsewhere = fmean(gains.values())
    told = ", ".join(f"{name.removeprefix(METRIC).strip()} {gain:+.3f}" for name, gain in gains.items())
    notify(f"held out, against the network alone: {own:+.3f} dB at its own factor; {told}")
    if own >= -HARM and elsewhere >= WORTH:
        return
    why = f"it loses more than {HARM} dB there" if own < -HARM else f"others gain less than {WORTH} dB"
    notify(f"dropped, no success: {why}; last.safetensors is the network as it was")
    file = Path(preset.encoder.args["file"])
    plain, about = network_of(read_state(file), fixed_scale_preset(file), str(file))
    about = replace(about, name=preset.name, weights=preset.weights, training=run.trainer.preset.training)
    save(out / "last.safetensors", plain, about)
