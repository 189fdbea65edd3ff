"""Sizes, boxes and coordinates: the one place that decides where an output pixel looks.

Everything here is plain Python and NumPy. Coordinates follow Chen et al., "Learning Continuous Image
Representation with Local Implicit Image Function" (CVPR 2021): an axis of n pixels spans [-1, 1], pixel i has
its centre at (-1 + 1/n) + (2/n) i. The order inside a pair is (vertical, horizontal). All tables are float32 and
computed for the whole axis in a fixed order of operations, so that a tile reads the same numbers as the image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]

SMALLEST_TILE = 32  # LR pixels of a side
EPSILON = 1e-6  # the ensemble's shift and clamp, LIIF
SIDES = (-1, 1)  # the two neighbours per axis, in the ensemble's order
COPIES = 8  # flips and rotations of a picture, itself among them
ROTATIONS = (0, 3, 5, 6)  # those of them without a flip


class Size(NamedTuple):
    """Height and width in pixels."""

    h: int
    w: int


class Box(NamedTuple):
    """A half-open rectangle of pixels: rows [top, bottom), columns [left, right)."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def size(self) -> Size:
        return Size(self.bottom - self.top, self.right - self.left)

    def grow(self, margin: int, inside: Size | None = None) -> Box:
        """The box with `margin` more pixels on every side, clipped to an image of size `inside` if there is one."""
        wider = Box(self.top - margin, self.left - margin, self.bottom + margin, self.right + margin)
        return wider if inside is None else wider.shared(Box(0, 0, *inside))

    def shared(self, other: Box) -> Box:
        """The pixels that two boxes share."""
        low = max(self.top, other.top), max(self.left, other.left)
        return Box(*low, min(self.bottom, other.bottom), min(self.right, other.right))

    def relative_to(self, outer: Box) -> Box:
        """The same pixels counted from the corner of `outer`."""
        return Box(
            self.top - outer.top, self.left - outer.left, self.bottom - outer.top, self.right - outer.left
        )

    @property
    def slices(self) -> tuple[slice, slice]:
        return slice(self.top, self.bottom), slice(self.left, self.right)


def output_size(size: Size, scale: float | tuple[float, float]) -> Size:
    """Size of an image enlarged by `scale` (one factor, or vertical and horizontal).

    Each side is `round(side * scale)`, half to even as Python rounds, and at least one pixel. Raises ValueError (a
    factor is not a positive finite number).
    """
    factors = scale if isinstance(scale, tuple) else (scale, scale)
    for factor in factors:
        if not (math.isfinite(factor) and factor > 0):
            raise ValueError(f"scale must be a positive finite number, got {factor}")
    return Size(max(1, round(size.h * factors[0])), max(1, round(size.w * factors[1])))


def tile_shape(
    size: Size,
    halo: int,
    multiple: int,
    *,
    tile: str | int,
    bytes_per_pixel: int,
    free: int,
    strip_bytes: int = 0,
) -> Size:
    """Sides of the encoder's tiles, without the halo, of an LR image that is padded to `multiple` as tiles are.

    `tile`: "none" for the whole image, a number of pixels, or "auto": of all tiles that `free` bytes hold, and whose
    features, `strip_bytes` for each pixel of a row of tiles, take no more, those that read the fewest pixels twice.
    """
    if tile == "none":
        return size
    if isinstance(tile, int):
        side = max(multiple, math.ceil(tile / multiple) * multiple)
        return Size(min(side, size.h), min(side, size.w))
    pixels = max(free // bytes_per_pixel, (SMALLEST_TILE + 2 * halo) ** 2)
    highest = max(free // (strip_bytes * size.w) if strip_bytes else size.h, SMALLEST_TILE)
    choices = []
    for columns in range(1, 1 + math.ceil(size.w / max(SMALLEST_TILE, math.isqrt(pixels) - 2 * halo))):
        width = _share(size.w, columns, multiple)
        wide = width + min(columns - 1, 2) * halo  # a margin ends at the picture's border
        inner = min(highest, pixels // wide - 2 * halo) // multiple * multiple  # with two margins
        for rows in (1, 2, max(3, math.ceil(size.h / max(multiple, inner)))):
            height = max(_share(size.h, rows, multiple), min(SMALLEST_TILE, size.h))
            if height <= highest and (height + (rows - 1) * halo) * wide <= pixels:
                break
        read = (size.h + 2 * halo * (rows - 1)) * (size.w + 2 * halo * (columns - 1))
        choices.append((read, height, width))
    _, height, width = min(choices)
    return Size(height, width)


def _share(side: int, count: int, multiple: int) -> int:
    """One of `count` equal parts of a side, up to a multiple."""
    return min(side, math.ceil(side / count / multiple) * multiple)


def spans(length: int, step: int, first: int = 0) -> list[tuple[int, int]]:
    """[first, length) in pieces of `step`, the last one shorter."""
    return [(start, min(start + step, length)) for start in range(first, length, step)]


def starts(size: int, side: int, overlap: int) -> list[int]:
    """Where pieces of `side` pixels that share `overlap` begin on an axis; the last one ends with the axis."""
    last = max(size - side, 0)
    return [*range(0, last, side - overlap), last]


def mirrored(start: int, stop: int, length: int, *, repeat_edge: bool) -> I64:
    """Which of `length` pixels stand at places [start, stop) of an axis that goes on mirrored, however far."""
    last = 2 * length - 1 if repeat_edge else max(2 * length - 2, 1)
    index = np.arange(start, stop) % (last + repeat_edge)
    return np.where(index < length, index, last - index)


@lru_cache(maxsize=64)
def centres(n: int, patch: int = 1) -> F32:
    """Centres of an axis of n pixels in [-1, 1], in LIIF's float32 arithmetic.

    `patch`: an odd number; the middle pixels of the ceil(n / patch) patches that cover the axis from its start. That of
    the last may lie half a patch beyond the end, and so may its coordinate.
    """
    step, first = np.float32(2 / n), np.float32(-1 + 1 / n)
    table = step * np.arange(patch // 2, n + patch // 2, patch, dtype=np.float32) + first
    table.flags.writeable = False
    return table


def nearest_index(p: F32, n: int) -> I64:
    """Index (unclipped) of the pixel of an n-pixel axis nearest to p, ties to even, as grid_sample computes it."""
    one, two = np.float32(1), np.float32(2)
    return np.rint(((p + one) * np.float32(n) - one) / two).astype(np.int64)


class Near(NamedTuple):
    """For each query of an axis the LR pixels it reads, and how far it is from them: (n,), or (2, n) for an ensemble."""

    index: I64  # type: ignore[assignment]  # hides tuple.index
    distance: F32  # in units of half an LR pixel: one LR pixel is 2


@lru_cache(maxsize=64)
def neighbours(lr: int, hr: int, patch: int = 1) -> Near:
    """Ensemble neighbours of every pixel of an hr-pixel axis on an lr-pixel axis (LIIF, eq. 4)."""
    p = centres(hr, patch)
    index = np.empty((2, len(p)), np.int64)
    distance = np.empty((2, len(p)), np.float32)
    for v, side in enumerate(SIDES):
        shifted = p + np.float32(side / lr + EPSILON)
        shifted = np.clip(shifted, np.float32(-1 + EPSILON), np.float32(1 - EPSILON))
        index[v] = nearest_index(shifted, lr)
        distance[v] = (p - centres(lr)[index[v]]) * np.float32(lr)
    index.flags.writeable = distance.flags.writeable = False
    return Near(index, distance)


@lru_cache(maxsize=64)
def nearest(lr: int, hr: int, patch: int = 1) -> Near:
    """Nearest LR pixel of every pixel of an hr-pixel axis, without the ensemble's shift."""
    p = centres(hr, patch)
    index = np.clip(nearest_index(p, lr), 0, lr - 1)
    distance = (p - centres(lr)[index]) * np.float32(lr)
    return Near(index, distance)


class Lerp(NamedTuple):
    """Linear interpolation on an axis with border padding: lower index, upper index, weight of the upper; (n,)."""

    low: I64
    high: I64
    weight: F32


@lru_cache(maxsize=64)
def lerp(lr: int, hr: int, patch: int = 1) -> Lerp:
    """Bilinear taps of every pixel of an hr-pixel axis on an lr-pixel axis, border padding."""
    one, two = np.float32(1), np.float32(2)
    x = ((centres(hr, patch) + one) * np.float32(lr) - one) / two
    x = np.clip(x, np.float32(0), np.float32(lr - 1))
    low = np.floor(x).astype(np.int64)
    high = np.minimum(low + 1, lr - 1)
    return Lerp(low, high, (x - low.astype(np.float32)).astype(np.float32))


class Taps(NamedTuple):
    """For each query of an axis the samples it reads and their weights, both (n, taps); samples may come twice."""

    index: I64  # type: ignore[assignment]  # hides tuple.index
    weight: F32


SHARP = -0.75  # of Keys' kernel; on held-out photographs better than Pillow's -0.5 below x4, and equal beyond


def cubic(x: NDArray[np.float64], a: float) -> NDArray[np.float64]:
    """Keys' kernel, in Pillow's order of operations."""
    x = np.abs(x)
    near, far = ((a + 2) * x - (a + 3)) * x * x + 1, (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


@lru_cache(maxsize=64)
def bicubic(old: int, new: int, a: float = SHARP) -> Taps:
    """Antialiased taps of every pixel of a `new`-pixel axis on an `old`-pixel axis, by Keys' cubic kernel.

    Half-pixel centres; the kernel is stretched where the axis shrinks; beyond the border the last sample repeats.
    Weights add up to one, and taps that weigh nothing everywhere are left out: of equal axes one is left.
    """
    step = old / new
    stretch = max(step, 1.0)
    centre = (np.arange(new) + 0.5) * step - 0.5
    offsets = np.arange(math.floor(4 * stretch) + 1)
    index = np.ceil(centre - 2 * stretch - 1e-9).astype(np.int64)[:, None] + offsets
    weight = cubic((index - centre[:, None]) / stretch, a)
    weight /= weight.sum(axis=1, keepdims=True)
    used = np.abs(weight).max(axis=0) > 1e-9
    taps = Taps(np.clip(index[:, used], 0, old - 1), weight[:, used].astype(np.float32))
    taps.index.flags.writeable = taps.weight.flags.writeable = False
    return taps


@dataclass(frozen=True)
class Axis:
    """HR pixels [start, stop) of one axis of the output, and the LR axis they read from."""

    lr: int  # pixels of the whole LR axis
    hr: int  # pixels of the whole HR axis
    start: int  # first HR pixel asked for
    stop: int  # one past the last
    origin: int = 0  # LR pixel at which the tensor at hand begins; indices are returned relative to it
    # HR pixels that are answered together; where it is not 1, `start`, `stop` and all tables are those of patches,
    # and a patch looks from its middle pixel
    patch: int = 1

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def scale(self) -> float:
        return self.hr / self.lr

    def patches(self, patch: int) -> Axis:
        """The patches of `patch` pixels that cover these pixels; the first begins with the axis."""
        return replace(self, start=self.start // patch, stop=-(-self.stop // patch), patch=patch)

    @property
    def centres(self) -> F32:
        """Coordinates (n,) of the pixels in [-1, 1] of the whole axis."""
        return centres(self.hr, self.patch)[self.start : self.stop]

    def neighbours(self) -> Near:
        """The two ensemble neighbours of each pixel, (2, n)."""
        return self._part(neighbours(self.lr, self.hr, self.patch))

    def nearest(self) -> Near:
        return self._part(nearest(self.lr, self.hr, self.patch))

    def _part(self, table: Near) -> Near:
        part = (..., slice(self.start, self.stop))
        return Near(table.index[part] - self.origin, table.distance[part])

    def lerp(self) -> Lerp:
        table = lerp(self.lr, self.hr, self.patch)
        part = slice(self.start, self.stop)
        return Lerp(table.low[part] - self.origin, table.high[part] - self.origin, table.weight[part])

    def bicubic(self, factor: int) -> Taps:
        """Taps of each pixel on an axis of `factor` samples per LR pixel, (n, taps)."""
        table = bicubic(self.lr * factor, self.hr)
        part = slice(self.start, self.stop)
        return Taps(table.index[part] - self.origin * factor, table.weight[part])

    def source(self, halo: int) -> tuple[int, int]:
        """LR pixels [first, last) that these HR pixels need when the decoder looks `halo` pixels around."""
        index = nearest(self.lr, self.hr, self.patch).index
        return max(int(index[self.start]) - halo, 0), min(int(index[self.stop - 1]) + halo + 1, self.lr)


class Grid(NamedTuple):
    """A rectangle of HR pixels: its rows and its columns."""

    rows: Axis
    cols: Axis

    @staticmethod
    def of(lr: Size, hr: Size, box: Box | None = None, origin: tuple[int, int] = (0, 0)) -> Grid:
        """The HR pixels of `box` (all of them by default); `origin` is the corner of the LR tensor at hand."""
        box = Box(0, 0, *hr) if box is None else box
        return Grid(
            Axis(lr.h, hr.h, box.top, box.bottom, origin[0]), Axis(lr.w, hr.w, box.left, box.right, origin[1])
        )

    def patches(self, patch: int) -> Grid:
        """The patches of patch x patch pixels that cover the rectangle."""
        return Grid(self.rows.patches(patch), self.cols.patches(patch))

    @property
    def size(self) -> Size:
        return Size(len(self.rows), len(self.cols))


def dihedral(pixels: NDArray[Any], which: int) -> NDArray[Any]:
    """One of the `COPIES` flips and rotations of (h, w, c) pixels; bits: rows, columns, transposition (last)."""
    if which & 1:
        pixels = pixels[::-1]
    if which & 2:
        pixels = pixels[:, ::-1]
    if which & 4:
        pixels = pixels.transpose(1, 0, 2)
    return np.ascontiguousarray(pixels)


def dihedral_size(size: Size, which: int) -> Size:
    """The size of `dihedral` of a picture."""
    return Size(size.w, size.h) if which & 4 else size


def dihedral_back(pixels: NDArray[Any], which: int) -> NDArray[Any]:
    """The picture whose `dihedral` these pixels are; a view."""
    if which & 4:
        pixels = pixels.transpose(1, 0, 2)
    return pixels[:: -1 if which & 1 else 1, :: -1 if which & 2 else 1]


def self_ensemble(
    enlarge: Callable[[NDArray[Any], Size], NDArray[Any]],  # gives a copy at a size
    pixels: NDArray[Any],  # the picture
    target: Size,  # size of the result
    dtype: DTypeLike = np.float32,  # that is summed in
    copies: Sequence[int] = range(COPIES),
) -> NDArray[Any]:
    """The mean (H, W, 3) of what `enlarge` makes of the `copies` of a picture (h, w, 3), each turned back."""
    total = np.zeros((*target, 3), dtype)
    for which in copies:
        total += dihedral_back(enlarge(dihedral(pixels, which), dihedral_size(target, which)), which)
    total /= len(copies)
    return total
