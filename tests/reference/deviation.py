"""How far a fast form is from the plain one."""

from collections.abc import Sequence

import torch
from torch import Tensor


def deviation(value: Tensor, expected: Tensor) -> float:
    """The largest difference, in units of the expected values' spread where that is more than 1."""
    assert (value.shape, value.dtype) == (expected.shape, expected.dtype)
    apart = (value - expected).detach().abs().max()
    return float(apart) / max(1, float(expected.detach().std()))


def gradient_deviation(fast: Tensor, slow: Tensor, wanted: Sequence[Tensor]) -> float:
    """The largest difference of gradients, in units of the tensor's largest where that is more than 1."""
    direction = torch.randn_like(slow)
    ours, theirs = (torch.autograd.grad(form, wanted, direction) for form in (fast, slow))
    largest = [gradient.abs().max() for gradient in theirs]
    assert min(largest) > 0
    apart = [(a - b).abs().max() / m.clamp(min=1) for a, b, m in zip(ours, theirs, largest, strict=True)]
    return float(torch.stack(apart).max())
