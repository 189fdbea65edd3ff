"""DPACM: what keeps the condition of a ControlNet close to the picture that is wanted.

After arXiv 2510.13649. The light network that turns the enlarged LR picture into the ControlNet's condition is asked
for a picture as well, by one convolution on top; that picture's colours are compared with the truth's as
distributions (Wasserstein-1) and by a perceptual distance. The ControlNet and the UNet get no gradient from it.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from srcli.geometry import Size


class Terms(NamedTuple):
    """What DPACM adds to the loss, before its weights: means over the batch."""

    wasserstein: Tensor
    perceptual: Tensor


def wasserstein_1(a: Tensor, b: Tensor) -> Tensor:
    """Wasserstein-1 distance (B, C) of the distributions of values in (B, C, ..), of as many values each.

    In one dimension the cheapest transport keeps the order, so that it is the mean difference of sorted values.
    """
    a, b = (x.flatten(2).float().sort(dim=-1).values for x in (a, b))
    return (a - b).abs().mean(-1)


def terms(
    view: Tensor, hr: Tensor, *, distance: Callable[[Tensor, Tensor], Tensor] | None = None, side: int = 128
) -> Terms:
    """DPACM's two terms for a view (B, 3, h, w) of the condition and the truth (B, 3, H, W), both in [-1, 1].

    The truth is reduced by area to the view's size, which the paper leaves open. `distance`: of pictures in [0, 1],
    enlarged to `side` pixels at least; None: 0.
    """
    hr = F.interpolate(hr, size=view.shape[-2:], mode="area")
    distribution = wasserstein_1(view, hr).mean()
    if distance is None:
        return Terms(distribution, view.new_zeros(()))
    size = Size(*view.shape[-2:])
    factor = max(1.0, side / min(size))
    shown = [round(length * factor) for length in size]
    pair = (F.interpolate(x.float(), size=shown, mode="bilinear") / 2 + 0.5 for x in (view, hr))
    return Terms(distribution, distance(*pair))
