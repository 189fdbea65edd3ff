"""Files of networks for one factor, as people share them: read safely, known by the package spandrel."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from srcli.config.presets import Part, Preset, Scales
from srcli.errors import ModelError, ResourceError, WeightsError, first_line
from srcli.models import count_parameters
from srcli.models.decoders.native import Native
from srcli.models.encoders.fixed_scale import FixedScale
from srcli.models.sr import ImplicitSR
from srcli.weights.checkpoint import read
from srcli.weights.files import FIXED_SCALE, SUFFIX
from srcli.weights.official import UNREADABLE, unpickled

PREFIX = "encoder."  # of the keys in files that `models import` wrote
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
    return network_of(read_state(path), preset, str(path))


def read_state(path: Path, *, trust_pickle: bool = False) -> dict[str, Tensor]:
    """The tensors in a file under their authors' keys; raises as `load`."""
    content = read(path) if path.suffix == SUFFIX else unpickled(path, trust_pickle=trust_pickle)
    spandrel = _spandrel(str(path))
    state = spandrel.canonicalize_state_dict(content) if isinstance(content, Mapping) else {}
    tensors = {str(key): value for key, value in state.items() if isinstance(value, Tensor)}
    if not tensors:
        raise _unknown(str(path))
    inside = all(key.startswith(PREFIX) for key in tensors)
    return {key.removeprefix(PREFIX): value for key, value in tensors.items()} if inside else tensors


def network_of(state: Mapping[str, Tensor], preset: Preset, where: str) -> tuple[ImplicitSR, Preset]:
    """As `load`, of tensors under their authors' keys."""
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
    name = found.architecture.name
    colours = (found.input_channels, found.output_channels) == (3, 3)
    if found.purpose not in ("SR", "Restoration") or not colours:
        raise ModelError(
            f"{where} ({name}, {found.purpose}, {found.input_channels} channels to {found.output_channels}) enlarges or "
            "restores no colour pictures."
        )
    try:
        encoder = FixedScale(descriptor=found)
    except UNREADABLE as error:
        raise WeightsError(f"{where} ({name}) cannot be run: {first_line(error)}.") from error
    network = ImplicitSR(encoder, Native(in_dim=encoder.out_dim))
    return network, replace(
        preset,
        title=f"{name} x{found.scale}",
        encoder=Part(FIXED_SCALE, {"architecture": name, "factor": found.scale}),
        scales=Scales((found.scale, found.scale)),
        params=count_parameters(network),
        code_license=OWN_TERMS
        if type(found.architecture).__module__.startswith("spandrel_extra")
        else PERMISSIVE,
    )


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
