"""Back-projection: the picture nearest to a result that reduces to the given LR picture.

With D the antialiased bicubic reduction of `srcli.image` (Pillow's), x + D^T (D D^T)^-1 (lr - D x) is the orthogonal
projection of x onto the pictures that reduce to lr: no other change that achieves it is smaller. D is separable, so
that D D^T is a banded matrix per axis and one step is enough where iterative back-projection (Irani and Peleg, 1991)
needs many; a few more make up for colours that are clamped.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srcli.geometry import Size
from srcli.image.resize import taps

F32 = NDArray[np.float32]

ROUNDS = 12  # one or two do, unless much of the picture is black or white
CLOSE = 2e-5  # in a colour; far below what 16 bits can tell after reduction
DAMPING = 1e-4  # keeps D D^T invertible at scales just above 1, where D hardly passes the finest pattern


class Projection:
    """Moves pictures of `target` size to the nearest ones that reduce to a picture of `size`."""

    def __init__(self, size: Size, target: Size) -> None:
        self.down = _Axis(target.h, size.h)
        self.across = _Axis(target.w, size.w)

    def reduced(self, sr: F32) -> F32:
        """(H, W, 3) reduced to (h, w, 3), in float."""
        return _turned(self.across.reduced(_turned(self.down.reduced(sr))))

    def consistent(self, sr: F32, lr: F32) -> F32:
        """The picture (H, W, 3) in [0, 1] near `sr` that reduces to `lr` (h, w, 3).

        Exact but for what clamping to [0, 1] undoes.
        """
        sr = np.clip(sr, 0, 1)
        for _ in range(ROUNDS):
            rest = lr - self.reduced(sr)
            if np.abs(rest).max() < CLOSE:
                break
            spread = _turned(self.across.spread(_turned(self.down.spread(rest))))
            np.clip(sr + spread, 0, 1, out=sr)  # which moves it away again: hence several rounds
        return sr

    def psnr(self, sr: F32, lr: F32, *, levels: int | None = None) -> float:
        """DB between `sr`, rounded to 1 / levels and reduced, and `lr`; infinite for equals."""
        shown = np.clip(sr, 0, 1)
        if levels is not None:
            shown = np.rint(shown * np.float32(levels)) / np.float32(levels)
        error = float(np.mean((self.reduced(shown).astype(np.float64) - lr) ** 2))
        return math.inf if error == 0 else -10 * math.log10(error)


class _Axis:
    """The reduction of the first axis from `long` to `short` samples."""

    def __init__(self, long: int, short: int) -> None:
        from scipy.sparse import csr_array, eye_array
        from scipy.sparse.linalg import splu

        found = taps(long, short, "bicubic")
        start = np.arange(short + 1) * found.index.shape[1]
        shape = (short, long)
        matrix = csr_array((found.weight.ravel(), found.index.ravel(), start), shape=shape, copy=True)
        matrix.sum_duplicates()  # taps beyond the border repeat its last sample with weight 0
        self.matrix: Any = matrix
        self.transposed: Any = matrix.T.tocsr()
        wide = matrix.astype(np.float64)
        self.factors: Any = splu((wide @ wide.T + DAMPING * eye_array(short)).tocsc())

    def reduced(self, x: F32) -> F32:
        """(long, ..) to (short, ..)."""
        flat = self.matrix @ np.ascontiguousarray(x).reshape(len(x), -1)
        return np.asarray(flat, np.float32).reshape(-1, *x.shape[1:])

    def spread(self, rest: F32) -> F32:
        """The smallest (long, ..) that reduces to `rest` (short, ..)."""
        flat = self.factors.solve(np.ascontiguousarray(rest, np.float64).reshape(len(rest), -1))
        wide = self.transposed @ flat.astype(np.float32)
        return np.asarray(wide, np.float32).reshape(-1, *rest.shape[1:])


def _turned(x: F32) -> F32:
    return x.swapaxes(0, 1)
