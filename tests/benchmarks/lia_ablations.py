"""What FPLIA's tables of ablations put in the place of its attention and of its choice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srcli.models.decoders.lia import BRANCHES, LIA, LIAField, Look, Rendered
from srcli.models.layers import bilinear_grid, conv, gather, grid_coord, sample_neighbours
from srcli.models.sr import Frame, Grid


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


class AblatedLIA(LIA):
    """`attention` "liif" puts LIIF's four neighbours in the place of FPAM, which `render` does not speed up.

    `select`: "channel" chooses a branch for each channel of a pixel; "concat" and "sft" do not choose: a linear layer on
    all branches, or the first one scaled and shifted by the others.
    """

    def __init__(
        self,
        *,
        in_dim: int,
        perc_dim: int = 0,
        branches: tuple[str, ...] = tuple(BRANCHES),
        dim: int = 256,
        n_heads: int = 8,
        radius: int = 3,
        hidden: tuple[int, ...] = (256, 256, 256, 256),
        attention: Literal["fpam", "liif"] = "fpam",
        select: Literal["pixel", "channel", "concat", "sft"] = "pixel",
    ) -> None:
        self.select, self.attention = select, attention
        sizes = {"dim": dim, "n_heads": n_heads, "radius": radius, "hidden": hidden}
        super().__init__(in_dim=in_dim, perc_dim=perc_dim, branches=branches, **sizes)
        count = len(self.branches)
        if attention == "liif":
            self.halo = 3
            dims = {name: dim * len(set(BRANCHES[name])) for name in self.branches}
            self.features = nn.ModuleDict({name: Ensemble(dims[name], dim) for name in self.branches})
            if self.selects:
                self.confidence = nn.ModuleDict({name: Ensemble(dims[name], dim) for name in self.branches})
        if self.selects and select == "channel":
            self.vote[2] = nn.Linear(count * dim, count * dim)
        if count > 1 and not self.selects:
            self.merge = nn.Linear(count * dim, dim) if select == "concat" else Modulation(count, dim)

    @property
    def selects(self) -> bool:
        return super().selects and self.select in ("pixel", "channel")

    @property
    def score_shape(self) -> tuple[int, ...]:
        return (len(self.branches), self.dim) if self.select == "channel" else super().score_shape

    def scores(self, votes: Sequence[Tensor]) -> Tensor:
        return super().scores(votes).unflatten(-1, self.score_shape)

    def mixed(self, features: Sequence[Tensor], scores: Tensor | None, noise: Tensor | None) -> Tensor:
        if scores is None and len(features) > 1:
            return self.merge(torch.cat([*features], dim=-1))
        if scores is None or self.select == "pixel":
            return super().mixed(features, scores, noise)
        return (torch.stack([*features], -2) * self.share(scores, noise, -2).to(features[0].dtype)).sum(-2)

    def look(self, prepared: LIAField, names: Sequence[str], *, votes: bool) -> Look:
        if self.attention == "fpam":
            return super().look(prepared, names, votes=votes)
        frame, firsts = prepared.frame, []
        for name in names:
            maps = torch.cat([prepared.streams[stream] for stream in dict.fromkeys(BRANCHES[name])], dim=1)
            layers: list[Any] = [self.features[name], *([self.confidence[name]] if votes else [])]
            firsts.append([(layer, layer.first(maps, frame)) for layer in layers])

        def look(coord: Tensor) -> tuple[list[Tensor], Tensor | None]:
            blends = [[layer(first, coord, frame) for layer, first in each] for each in firsts]
            return [each[0] for each in blends], self.scores([each[1] for each in blends]) if votes else None

        return look

    def render_chosen(self, prepared: LIAField, grid: Grid, name: str = "selected") -> Rendered:
        coord = grid_coord(grid, prepared.lr).expand(len(prepared.lr), -1, -1)
        names = (name,) if name in self.branches else self.branches
        features, scores = self.look(prepared, names, votes=self.selects and len(names) > 1)(coord)
        colours = (
            self.colours(self.mixed(features, scores, None), prepared).transpose(1, 2).unflatten(2, grid.size)
        )
        if scores is not None:
            scores = scores.transpose(1, 2).unflatten(2, grid.size) if self.select == "pixel" else None
        return Rendered(colours + bilinear_grid(prepared.lr, grid), scores)
