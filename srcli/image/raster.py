"""Samples that come in bands, from top to bottom, so that a picture need not fit into memory to be written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from srcli.image.quantise import Samples


@dataclass(frozen=True, eq=False)
class Raster:
    """A picture to be encoded; it can be gone through once.

    Attributes:
        shape: (H, W, channels).
        dtype: of the samples.
        bands: rows (n, W, channels) of any heights, H in all.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    bands: Iterable[Samples]

    @staticmethod
    def of(pixels: Samples) -> Raster:
        """A picture (H, W, c) that is in memory."""
        height, width, channels = pixels.shape
        return Raster((height, width, channels), pixels.dtype, (pixels,))

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return self.shape[1] * self.shape[2] * self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of all samples."""
        return self.shape[0] * self.row_bytes

    def blocks(self, step: int) -> Iterator[Samples]:
        """All rows in blocks of `step`, the last one shorter; the same ones however the bands were cut.

        Raises:
            ValueError: a band of another width or type, or too few or too many rows.
        """
        held: list[Samples] = []
        count = 0
        for band in self._checked():
            rest = band
            while count + len(rest) >= step:
                cut = step - count
                yield np.concatenate([*held, rest[:cut]]) if held else rest[:cut]
                held, count, rest = [], 0, rest[cut:]
            if len(rest):
                held.append(rest)
                count += len(rest)
        if held:
            yield np.concatenate(held)

    def whole(self) -> Samples:
        """All of it in memory."""
        if isinstance(self.bands, tuple) and len(self.bands) == 1:
            return next(self._checked())
        pixels = np.empty(self.shape, self.dtype)
        top = 0
        for band in self._checked():
            pixels[top : top + len(band)] = band
            top += len(band)
        return pixels

    def _checked(self) -> Iterator[Samples]:
        height, *row = self.shape
        rows = 0
        for band in self.bands:
            rows += len(band)
            if list(band.shape[1:]) != row or band.dtype != self.dtype or rows > height:
                raise ValueError(
                    f"expected {self.shape} {self.dtype}, got {band.shape} {band.dtype} after {rows - len(band)} rows"
                )
            yield band
        if rows < height:
            raise ValueError(f"expected {height} rows, got {rows}")
