"""Grids and frames for a network that is exported: sizes are tensors, and the tables of `geometry` operations on them.

The same float32 arithmetic in the same order, so that ties fall as they do there. Where a table is computed in float64,
which runtimes on graphics processors lack, whole numbers keep what float32 cannot.
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
    n = n.float()
    return (2 / n) * place.float() + (1 - n) / n


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
            shifted = (p + (side / lr + EPSILON)).clamp(-1 + EPSILON, 1 - EPSILON)
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
        stretch = (old.float() / self.hr.float()).clamp(min=1)
        # A pixel's centre lies at `place` and `share` of a sample; those from `reach` before it on may have a weight.
        doubled, whole = (2 * self.place + 1) * old + self.hr, 2 * self.hr
        place = doubled // whole
        share = (doubled - place * whole).float() / whole.float()
        reach = (2 * old + self.hr - 1) // self.hr
        taps = cast("int", (2 * reach.clamp(min=2) + 2).item())
        torch._check(taps > 1)
        offset = torch.arange(taps) - reach.clamp(min=2)
        index = (place - 1).unsqueeze(1) + offset
        x, a = ((offset - share.unsqueeze(1)) / stretch).abs(), SHARP
        near, far = ((a + 2) * x - (a + 3)) * x * x + 1, (((x - 5) * x + 8) * x - 4) * a
        weight = torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))
        weight = weight / weight.sum(1, keepdim=True)
        inside = index.clamp(min=0).minimum(old - 1)
        return _table(Taps, inside - self.origin * factor, weight)


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
        return (self.target / self.size).max()

    @property
    def rel_cell(self) -> Tensor:
        return self.cell * self.size.float()
