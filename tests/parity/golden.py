"""Golden numbers as they lie in a folder: per method the official key list, inputs, cases and outputs."""

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from srcli.models.encoders import ENCODERS
from srcli.models.sr import Encoder
from tests.parity.fill import digest, fill

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = Path(os.environ.get("SRCLI_GOLDEN", ROOT.parent / "shared/golden/dev"))
KEYS = Path(os.environ.get("SRCLI_GOLDEN_KEYS", ROOT.parent / "shared/golden/keys"))

UNUSED = ("sub_mean.", "add_mean.")  # parameters that the rule leaves as they are; buffers it leaves, too


@dataclass(frozen=True)
class Golden:
    """One method's file: `arrays` holds inputs and outputs, `cases` what each tag asks for."""

    arrays: Mapping[str, np.ndarray]
    cases: Mapping[str, Any]

    def lr(self, name: str = "lr", mean: float | tuple[float, ...] = 0.5, std: float = 0.5) -> Tensor:
        """The LR input (1, 3, h, w), normalised."""
        mean = torch.tensor(mean).reshape(-1, 1, 1)
        return (torch.from_numpy(self.arrays[name]) - mean) / std


Outputs = Iterator[tuple[str, Tensor]]


@dataclass(frozen=True)
class Method:
    """How one golden file is reproduced.

    Attributes:
        build: our network from the official constructor arguments ({} where the key file has none).
        run: pairs of an array's name and our value for it, in the layout of the file; a name may come twice.
        name: official name of one of our keys.
        inputs: beginnings of the names of arrays that are not outputs.
        tolerance: largest difference, times max(1, standard deviation).
        special: other tolerances, by a part of the array's name.
        own: keys of ours that the authors do not store.
    """

    build: Callable[[dict[str, Any]], nn.Module]
    run: Callable[[Any, Golden], Outputs]
    name: Callable[[str], str] = lambda key: key.removeprefix("decoder.")
    inputs: tuple[str, ...] = ("lr",)
    tolerance: float = 1e-5
    special: Mapping[str, float] = field(default_factory=dict)
    own: tuple[str, ...] = ()

    def bound(self, array: str, std: float) -> float:
        """Largest difference allowed in an array of this name and standard deviation."""
        tolerance = next((value for part, value in self.special.items() if part in array), self.tolerance)
        return tolerance * max(1, std)


def read_golden(name: str) -> Golden:
    """The file of a method in GOLDEN."""
    cases = json.loads((GOLDEN / f"{name}.json").read_text()).get("cases", {})
    with np.load(GOLDEN / f"{name}.npz") as file:  # multi-scale rendering by a table is not ours
        arrays = {key: value for key, value in file.items() if not re.search("_cmsr|^modmean_", key)}
    return Golden(arrays, {tag: case for tag, case in cases.items() if "table" not in case})


def read_keys(name: str) -> dict[str, Any]:
    """The key file of a method in KEYS."""
    return json.loads((KEYS / f"{name}.json").read_text())


def encoder_of(args: dict[str, Any]) -> Encoder:
    """Our encoder for the official `encoder_spec`."""
    return ENCODERS[args["encoder_spec"]["name"].removesuffix("-baseline")]()


def filled(
    method: Method, args: dict[str, Any], gain_rules: list[tuple[str, float]]
) -> tuple[nn.Module, str]:
    """Our network with the golden weights, and their checksum."""
    network = method.build(args).eval()
    parameters = {key for key, _ in network.named_parameters()}
    state = network.state_dict()
    weights = {}
    for key, value in state.items():
        name = method.name(key) if key not in method.own else key
        if key in parameters and not any(part in name for part in UNUSED):
            weights[name] = fill(name, tuple(value.shape), gain_rules)
            state[key] = torch.from_numpy(weights[name])
    network.load_state_dict(state)
    return network, digest(weights)
