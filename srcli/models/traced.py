"""Grids and frames for a network that is exported: sizes are tensors, and the tables of `geometry` operations on them.

The same float32 arithmetic in the same order, so that ties fall as they do there; float64 for bicubic taps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from srcli.geometry import EPSILON, SHARP, SIDES, Lerp, Near, Taps
from srcli.models.sr import Frame


def _centres(place: Tensor, n: Tensor) -> Tensor:
    """Coordinates of pixels `place` of an axis of n."""
    n = n.double()
    return (2 / n).float() * place.float() + (-1 + 1 / n).float()


def _table(kind: Any, *columns: Tensor) -> Any:
    return kind(*columns)


@dataclass(frozen=True)
class TracedAxis:
    """As `geometry.Axis`, of tables that are tensors."""

    lr: Tensor  # pixels of the whole LR axis, int64 without dimensions, as all here
    hr: Tensor
    start: Tensor  # first HR pixel asked for
    length: int  # how many
    origin: Tensor
    patch = 1

    @property
    def place(self) -> Tensor:
        return torch.arange(self.length, device=self.lr.device) + self.start

    @property
    def centres(self) -> Tensor:
        return _centres(self.place, self.hr)

    def patches(self, patch: int) -> TracedAxis:
        if patch != 1:
            raise NotImplementedError("patches of output pixels")
        return self

    def neighbours(self) -> Near:
        p, lr = self.centres, self.lr.float()
        index, distance = [], []
        for side in SIDES:
            shifted = (p + (side / self.lr.double() + EPSILON).float()).clamp(-1 + EPSILON, 1 - EPSILON)
            index.append(torch.round(((shifted + 1) * lr - 1) / 2).long())
            distance.append((p - _centres(index[-1], self.lr)) * lr)
        return _table(Near, torch.stack(index) - self.origin, torch.stack(distance))

    def nearest(self) -> Near:
        p, lr = self.centres, self.lr.float()
        index = torch.round(((p + 1) * lr - 1) / 2).clamp(min=0).minimum(lr - 1).long()
        return _table(Near, index - self.origin, (p - _centres(index, self.lr)) * lr)

    def lerp(self) -> Lerp:
        lr = self.lr.float()
        x = (((self.centres + 1) * lr - 1) / 2).clamp(min=0).minimum(lr - 1)
        low = x.floor().long()
        high = (low + 1).minimum(self.lr - 1)
        return _table(Lerp, low - self.origin, high - self.origin, x - low.float())

    def bicubic(self, factor: int) -> Taps:
        old = self.lr * factor
        step = old.double() / self.hr.double()
        stretch = step.clamp(min=1)
        centre = (self.place.double() + 0.5) * step - 0.5
        taps = cast("int", ((4 * stretch).floor().long() + 1).item())
        torch._check(taps > 1)
        index = torch.ceil(centre - 2 * stretch - 1e-9).unsqueeze(1) + torch.arange(taps)
        x, a = ((index - centre.unsqueeze(1)) / stretch).abs(), SHARP
        near, far = ((a + 2) * x - (a + 3)) * x * x + 1, (((x - 5) * x + 8) * x - 4) * a
        weight = torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))
        weight = weight / weight.sum(1, keepdim=True)
        inside = index.long().clamp(min=0).minimum(old - 1)
        return _table(Taps, inside - self.origin * factor, weight.float())


class TracedGrid(NamedTuple):
    """As `geometry.Grid`."""

    rows: TracedAxis
    cols: TracedAxis

    @property
    def size(self) -> tuple[int, int]:
        return self.rows.length, self.cols.length

    def patches(self, patch: int) -> TracedGrid:
        return TracedGrid(self.rows.patches(patch), self.cols.patches(patch))


@dataclass(frozen=True)
class TracedFrame(Frame):
    """A frame whose `size` and `target` are tensors (2,)."""

    size: Tensor  # type: ignore[assignment]
    target: Tensor  # type: ignore[assignment]

    @property
    def scale(self) -> Tensor:  # type: ignore[override]
        return (self.target.double() / self.size.double()).max().float()

    @property
    def rel_cell(self) -> Tensor:
        return self.cell * self.size.float()
