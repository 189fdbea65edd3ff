"""Transfer curves between device values and linear light, both in [0, 1], and their inverses."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
Floats = TypeVar("Floats", bound=NDArray[Any])  # float32 or float64; the result has the same type


@dataclass(frozen=True)
class Power:
    """(a x + b)^g + e at and above d, c x + f below; ICC's parametric curve with all seven numbers.

    Outside [0, 1] it goes on: above 1 by the same formula, below 0 mirrored, so that colours beyond the gamut
    survive a round trip (as scRGB does for sRGB's curve).
    """

    g: float
    a: float = 1.0
    b: float = 0.0
    c: float = 0.0
    d: float = 0.0
    e: float = 0.0
    f: float = 0.0

    def decode(self, x: Floats) -> Floats:
        """Linear light of device values."""
        size = np.abs(x)
        y = np.power(np.maximum(size * self.a + self.b, 0), self.g) + self.e
        if self.d > 0:
            y = np.where(size >= self.d, y, size * self.c + self.f)
        return np.copysign(y, x).astype(x.dtype, copy=False)

    def encode(self, y: Floats) -> Floats:
        """Device values of linear light."""
        size = np.abs(y)
        x = (np.power(np.maximum(size - self.e, 0), 1 / self.g) - self.b) / self.a
        if self.d > 0:
            below = (size - self.f) / self.c if self.c else np.zeros_like(size)
            x = np.where(size >= self.split, x, below)
        return np.copysign(np.maximum(x, 0), y).astype(y.dtype, copy=False)

    @property
    def split(self) -> float:
        """Linear light at which the inverse changes from the straight part to the power."""
        return float(max(self.a * self.d + self.b, 0.0) ** self.g + self.e)


@dataclass(frozen=True, eq=False)
class Table:
    """Evenly spaced samples with straight lines between them; clamped outside [0, 1]."""

    values: F64

    @cached_property
    def places(self) -> F64:
        """Device values of the samples."""
        return np.linspace(0, 1, len(self.values))

    @cached_property
    def rising(self) -> F64:
        """The samples, made non-decreasing: noise in measured curves must not break the inverse."""
        return np.maximum.accumulate(self.values)

    def decode(self, x: Floats) -> Floats:
        """Linear light of device values."""
        return np.interp(x, self.places, self.rising).astype(x.dtype, copy=False)

    def encode(self, y: Floats) -> Floats:
        """Device values of linear light."""
        return np.interp(y, self.rising, self.places).astype(y.dtype, copy=False)


Curve = Power | Table

SRGB = Power(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)  # IEC 61966-2-1
