"""Weights of networks and runs, compared bit for bit."""

import torch
from safetensors.torch import load_file


def weights_of(network):
    """A copy of all its tensors."""
    return {key: value.clone() for key, value in network.state_dict().items()}


def equal(one, other):
    """Whether two tables hold the same tensors."""
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def same_weights(one, other, name="last.safetensors"):
    """Whether two runs have the same file of weights."""
    return equal(*(load_file(run / name) for run in (one, other)))
