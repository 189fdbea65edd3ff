"""A renderer whose results take their colours from the input again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from srcli.geometry import Size
from srcli.image.colour_transfer import ColourFix, fixed, shift

STRIP_ROWS = 256


class Recoloured:
    """Results of another renderer with the colours of their input.

    Attributes:
        note: how far the last result's means were from the input's, before and after.
    """

    def __init__(self, renderer: Any, fix: ColourFix) -> None:
        self.renderer = renderer
        self.fix = fix
        self.note: str | None = None

    def rows(
        self, source: Any, target: Size, *, report: Callable[[float], None] | None = None
    ) -> Iterator[np.ndarray]:
        """See `srcli.batch.draw.Renderer`; the whole result is held in memory."""
        sr = np.empty((*target, 3), np.float32)
        top = 0
        for rows in self.renderer.rows(source, target, report=report):
            sr[top : top + len(rows)] = rows
            top += len(rows)
        lr = np.asarray(source.strip(0, source.size[0]), np.float32)
        before = shift(sr.clip(0, 1), lr)
        sr = fixed(sr, lr, self.fix)
        self.note = (
            f"colour fix {self.fix.about()}: mean of red, green, blue off by {_levels(before)} of 255, "
            f"then by {_levels(shift(sr.clip(0, 1), lr))}"
        )
        for first in range(0, target.h, STRIP_ROWS):
            yield sr[first : first + STRIP_ROWS]


def _levels(values: tuple[float, float, float]) -> str:
    return ", ".join(f"{value:+.2f}" for value in values)
