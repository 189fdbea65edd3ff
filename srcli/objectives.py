"""What training minimises."""

from __future__ import annotations

from torch import Tensor


def l1(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error of colours (B, Q, 3) in the normalised domain."""
    return (prediction.float() - target.float()).abs().mean()
