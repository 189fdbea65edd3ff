"""What FPLIA's tables of ablations put in the place of its attention and of its choice."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srcli.models.layers import conv, gather, sample_neighbours
from srcli.models.sr import Frame


class Ensemble(nn.Module):
    """A branch without attention, after LIIF: the four nearest pixels, blended by area behind one hidden layer.

    The hidden layer sees a neighbour's 3x3 features of each of its streams, the offset to it and the size of an HR
    pixel. The blend is of activations, so that one MLP can follow. `in_dim`: channels of its streams together.
    """

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(in_dim, out_dim, 3, padding=1)
        self.offset = nn.Linear(2, out_dim, bias=False)
        self.cell = nn.Linear(2, out_dim, bias=False)

    def first(self, maps: Tensor, frame: Frame) -> Tensor:
        """What all queries share: (B, in_dim, h, w) -> (B, out_dim, h, w)."""
        first = conv(self.project, maps)
        return first + self.cell(frame.rel_cell / 2)[:, :, None, None].to(first.dtype)

    def forward(self, first: Tensor, coord: Tensor, frame: Frame) -> Tensor:
        """The blend (B, Q, out_dim) at coord (B, Q, 2)."""
        samples, weights = sample_neighbours(coord, frame.size)
        origin, (h, w) = frame.box, frame.box.size
        out = torch.zeros((), dtype=first.dtype, device=first.device)
        for sample, weight in zip(samples, weights.unbind(-1), strict=True):
            down = (sample.index // frame.size.w - origin.top).clamp(0, h - 1)
            along = (sample.index % frame.size.w - origin.left).clamp(0, w - 1)
            offset = self.offset(sample.distance / 2).to(first.dtype)
            out = out + (gather(first, down * w + along) + offset).relu() * weight.unsqueeze(-1).to(
                first.dtype
            )
        return out


class Modulation(nn.Module):
    """The first branch's features scaled and shifted by those of all others (spatial feature transform)."""

    def __init__(self, count: int, dim: int) -> None:
        super().__init__()
        self.hidden = nn.Linear((count - 1) * dim, dim)
        self.scale = nn.Linear(dim, dim)
        self.shift = nn.Linear(dim, dim)

    def forward(self, features: Tensor) -> Tensor:
        """(.., count * dim) -> (.., dim)."""
        dim = self.shift.out_features
        first, others = features[..., :dim], features[..., dim:]
        hidden = F.silu(self.hidden(others))
        return first * (1 + self.scale(hidden)) + self.shift(hidden)
