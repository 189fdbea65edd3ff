"""Samples: their types, conversion between floats and integers (rounded once), and pictures in bands of rows."""

from __future__ import annotations

import math
import tempfile
import threading
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srcli.files import write_error
from srcli.image.formats import Depth

F32 = NDArray[np.float32]
Samples = NDArray[Any]  # uint8, uint16 or float32
DTYPES: dict[Depth, np.dtype[Any]] = {"8": np.dtype("u1"), "16": np.dtype("u2"), "32f": np.dtype("f4")}
IN_MEMORY = 256 << 20  # bytes of a spool


def depth_of(samples: Samples) -> Depth:
    """The depth a sample type stands for."""
    return next(depth for depth, dtype in DTYPES.items() if dtype == samples.dtype)


def to_float(samples: Samples) -> F32:
    """Samples as float32 with 1 for white; a copy. Float samples are taken as they are."""
    if samples.dtype == np.float32:
        return samples.copy()
    return samples.astype(np.float32) / np.float32(np.iinfo(samples.dtype).max)


def quantise(values: F32, depth: Depth, *, noise: F32 | None = None) -> Samples:
    """Samples of `depth` from floats: clamped to [0, 1], rounded half to even. 32f is returned unclamped.

    `noise` of the same shape, in units of one level, is added before rounding; see `dither_noise`.
    """
    if depth == "32f":
        return values.astype(np.float32)
    dtype = DTYPES[depth]
    top = np.float32(np.iinfo(dtype).max)
    levels = np.clip(values, np.float32(0), np.float32(1)) * top
    if noise is not None:
        levels = np.clip(levels + noise, np.float32(0), top)
    return np.rint(levels, out=levels).astype(dtype)


def dither_noise(shape: tuple[int, int, int], *, top: int = 0) -> F32:
    """Uniform noise in [-0.5, 0.5) for rows `top`, `top` + 1, ... of an image; shape is (rows, width, channels).

    Each row has its own counter-based stream, so a picture does not depend on how it was cut into bands.
    """
    rows = (np.random.Philox(key=top + i) for i in range(shape[0]))
    noise = np.stack([np.random.Generator(row).random(shape[1:], dtype=np.float32) for row in rows])
    return noise - np.float32(0.5)


def stretched(samples: NDArray[Any], white: int) -> Samples:
    """Samples whose white is `white`, scaled to 16 bits."""
    return ((samples.astype(np.uint32) * 65535 + white // 2) // white).clip(0, 65535).astype(np.uint16)


@dataclass(frozen=True, eq=False)
class Raster:
    """A picture (H, W, channels) to be encoded: `bands` of rows (n, W, channels), gone through once."""

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    bands: Iterable[Samples]

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return self.shape[1] * self.shape[2] * self.dtype.itemsize

    def blocks(self, step: int) -> Iterator[Samples]:
        """All rows in blocks of `step`, the last one shorter; the same ones however the bands were cut."""
        held, count, total = list[Samples](), 0, 0
        for band in self.bands:
            total += len(band)
            if band.shape[1:] != self.shape[1:] or band.dtype != self.dtype or total > self.shape[0]:
                before = f"{band.shape} {band.dtype} after {total - len(band)} rows"
                raise ValueError(f"expected {self.shape} {self.dtype}, got {before}")
            rest = band
            while count + len(rest) >= step:
                cut = step - count
                yield np.concatenate([*held, rest[:cut]]) if held else rest[:cut]
                held, count, rest = [], 0, rest[cut:]
            if len(rest):
                held.append(rest)
                count += len(rest)
        if total < self.shape[0]:
            raise ValueError(f"expected {self.shape[0]} rows, got {total}")
        if held:
            yield np.concatenate(held)

    def whole(self) -> Samples:
        """All of it in memory."""
        pixels = np.empty(self.shape, self.dtype)
        for i, block in enumerate(self.blocks(64)):
            pixels[64 * i : 64 * i + 64] = block
        return pixels


class Spool:
    """An array (H, W) or (H, W, channels) that is filled from top to bottom and read in strips.

    Beyond `in_memory` bytes it is a file without a name on the disk of `folder`; None for the system's place.
    """

    def __init__(
        self, shape: tuple[int, ...], dtype: np.dtype[Any], folder: Path | None, *, in_memory: int = IN_MEMORY
    ) -> None:
        self.shape, self.dtype, self.folder = shape, dtype, folder
        self._row = math.prod(shape[1:]) * dtype.itemsize
        self._filled, self._lock = 0, threading.Lock()
        self._rows = np.empty(shape, dtype) if self._row * shape[0] <= in_memory else None
        if self._rows is None:
            try:
                self._file = tempfile.TemporaryFile(dir=folder, prefix=".srcli-", buffering=0)  # noqa: SIM115
            except OSError as error:
                raise write_error(folder or tempfile.gettempdir(), error) from error
            weakref.finalize(self, self._file.close)

    def append(self, rows: NDArray[Any]) -> None:
        """The next rows; ResourceError where the disk is full."""
        top, self._filled = self._filled, self._filled + len(rows)
        if self._rows is not None:
            self._rows[top : self._filled] = rows
            return
        data = np.ascontiguousarray(rows, self.dtype).data.cast("B")
        try:
            with self._lock:
                self._file.seek(top * self._row)
                while data:
                    data = data[self._file.write(data) :]
        except OSError as error:
            raise write_error(self.folder or tempfile.gettempdir(), error) from error

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        """Rows of a slice without a step, like an array's."""
        top, bottom, _ = rows.indices(self.shape[0])
        if self._rows is not None:
            return self._rows[top:bottom]
        found = np.empty((bottom - top, *self.shape[1:]), self.dtype)
        with self._lock:
            self._file.seek(top * self._row)
            rest = found.data.cast("B")
            while rest:
                count = self._file.readinto(rest)
                assert count, "rows are read that were not written"
                rest = rest[count:]
        return found
