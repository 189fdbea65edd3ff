"""Files of networks for one factor, as people share them: read safely, known by the package spandrel."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from srcli.config.presets import Part, Preset, Scales
from srcli.errors import ModelError, PresetError, ResourceError, WeightsError, first_line
from srcli.models import count_parameters
from srcli.models.decoders.blend import Blend
from srcli.models.decoders.native import OnNative
from srcli.models.encoders.fixed_scale import FixedScale, inner_features
from srcli.models.sr import ImplicitSR
from srcli.weights.checkpoint import load_into, read
from srcli.weights.files import FIXED_SCALE, SUFFIX
from srcli.weights.official import UNREADABLE, unpickled

PREFIX, DECODER = "encoder.", "decoder."  # of the keys in our files
PREFIXES = (PREFIX, "network.")  # the second of a network that was written as it is in memory
EXTRA = 'pip install "srcli[zoo]"'
PERMISSIVE = "MIT, Apache-2.0 or public domain (spandrel)"  # of an architecture's code, which the package has
OWN_TERMS = "its authors' own, perhaps non-commercial (spandrel_extra_arches)"


class UnknownNetworkError(WeightsError):
    """A network of an architecture that spandrel does not know."""


def load(preset: Preset, path: Path) -> tuple[ImplicitSR, Preset]:
    """The network in a file, and the preset with what the file says of it.

    Raises ResourceError (spandrel is not installed), ModelError (a pickle that holds code, an architecture that spandrel
    does not know, or a network that gives no colour picture), WeightsError (damaged).
    """
    state = read_state(path)
    if preset.decoder.name == "native":
        return network_of(state, preset, str(path))
    own = {key.removeprefix(DECODER): value for key, value in state.items() if key.startswith(DECODER)}
    body = {key: value for key, value in state.items() if not key.startswith(DECODER)}
    network, preset = network_of(_authors_keys(body), preset, str(path))
    load_into(network.decoder, own, where=str(path))
    return network, preset


def adopted(preset: Preset) -> ImplicitSR:
    """A network to train: the one in the file that the preset's encoder names, as it is, under the preset's decoder.

    Raises PresetError (no file is named, or the decoder adds to no native picture), and as `load`.
    """
    file = preset.encoder.args.get("file")
    if not file:
        raise PresetError(
            f"'{preset.name}' stands on a network for one factor.", hint="Name its file: --from FILE"
        )
    network, _ = network_of(read_state(Path(file)), preset, file)
    network.encoder.requires_grad_(requires_grad=False)
    decoder = network.decoder
    if isinstance(decoder, OnNative) and isinstance(decoder.decoder, Blend):
        # Beginning with nothing in the last layer it learns sooner than by a factor of nothing.
        for value in (*decoder.decoder.mlp.linears[-1].parameters(), decoder.factor):
            nn.init.constant_(value, float(value is decoder.factor))
    return network


def read_state(path: Path, *, trust_pickle: bool = False) -> dict[str, Tensor]:
    """The tensors in a file under their authors' keys; raises as `load`."""
    content = read(path) if path.suffix == SUFFIX else unpickled(path, trust_pickle=trust_pickle)
    spandrel = _spandrel(str(path))
    state = spandrel.canonicalize_state_dict(content) if isinstance(content, Mapping) else {}
    tensors = {str(key): value for key, value in state.items() if isinstance(value, Tensor)}
    if not tensors:
        raise _unknown(str(path))
    return _authors_keys(tensors)


def _authors_keys(state: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in PREFIXES:
        if all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def network_of(state: Mapping[str, Tensor], preset: Preset, where: str) -> tuple[ImplicitSR, Preset]:
    """As `load`, of tensors under their authors' keys; a decoder that the preset has on it is new."""
    from srcli.weights.build import decoder_on

    found = _described(state, where)
    name, plain = found.architecture.name, preset.decoder.name == "native"
    gain = preset.encoder.args.get("gain", 1.0)
    try:
        encoder = FixedScale(gain=gain, gives="picture" if plain else "both", descriptor=found)
    except UNREADABLE as error:
        raise WeightsError(f"{where} ({name}) cannot be run: {first_line(error)}.") from error
    network = ImplicitSR(encoder, decoder_on(encoder, preset))
    extra = type(found.architecture).__module__.startswith("spandrel_extra")
    preset = replace(
        preset, params=count_parameters(network), code_license=OWN_TERMS if extra else PERMISSIVE
    )
    if not plain:
        return network, preset
    encoder_part = Part(FIXED_SCALE, {"architecture": name, "factor": found.scale})
    scales = Scales((found.scale, found.scale))
    return network, replace(preset, title=f"{name} x{found.scale}", encoder=encoder_part, scales=scales)


def gain_of(network: ImplicitSR) -> float:
    """What its inner features are to be multiplied by to spread by about 1."""
    return float(f"{1 / inner_features(cast('FixedScale', network.encoder).descriptor).spread:.3g}")


def authors_state(network: ImplicitSR) -> dict[str, Tensor]:
    """Its tensors as `network_of` takes them."""
    return cast("FixedScale", network.encoder).network.state_dict()


def _described(state: Mapping[str, Tensor], where: str) -> Any:
    spandrel = _spandrel(where)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch, about how authors set their networks up
            found = spandrel.ModelLoader().load_from_state_dict(dict(state))
    except spandrel.UnsupportedModelError as error:
        raise _unknown(where) from error
    except UNREADABLE as error:
        raise WeightsError(
            f"{where} does not fit the network that it looks like: {first_line(error)}."
        ) from error
    colours = (found.input_channels, found.output_channels) == (3, 3)
    if found.purpose not in ("SR", "Restoration") or not colours:
        raise ModelError(
            f"{where} ({found.architecture.name}, {found.purpose}, {found.input_channels} channels to "
            f"{found.output_channels}) enlarges or restores no colour pictures."
        )
    return found


def _unknown(where: str) -> UnknownNetworkError:
    return UnknownNetworkError(
        f"{where} is of no architecture that spandrel knows.",
        hint=f"Networks of srcli's own are converted: srcli models import {where} --license SPDX",
    )


def _spandrel(where: str) -> Any:
    try:
        import spandrel
    except ImportError:
        raise ResourceError(
            f"{where} needs the package spandrel.", hint=f"Install the extra: {EXTRA}"
        ) from None
    with suppress(ImportError):  # who installs it wants its networks, with their terms
        import spandrel_extra_arches

        spandrel_extra_arches.install(ignore_duplicates=True)
    return spandrel
