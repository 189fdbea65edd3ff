"""Noise that belongs to the output: a function of the seed and of the patch's row and column, and of nothing else.

Each row of patches has a generator of its own, keyed by (seed, row), that is read from the first column on. So the
tile, the band, the order of images and the device never change which picture a seed means, and no more noise is
held than is being used. Philox: Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from srcli.errors import UsageError
from srcli.geometry import Grid, Size


def checked_seed(seed: int) -> int:
    """The seed; UsageError if it is negative or needs more than 64 bits."""
    if not 0 <= seed < 1 << 64:
        raise UsageError(f"A seed is a whole number from 0 to 2^64 - 1, got {seed}.")
    return seed


def patch_noise(seed: int, patches: Grid, channels: int, *, stream: int = 0) -> NDArray[np.float32]:
    """Standard normal (channels, rows, columns) of a rectangle of patches, independent between streams."""
    rows, cols = patches.rows, patches.cols
    out = np.empty((channels, len(rows), len(cols)), np.float32)
    counter = np.array([0, 0, 0, stream], np.uint64)
    for place, row in enumerate(range(rows.start, rows.stop)):
        bits = np.random.Philox(key=np.array([seed, row], np.uint64), counter=counter)
        drawn = np.random.Generator(bits).standard_normal((cols.stop, channels), np.float32)
        out[:, place] = drawn[cols.start :].T
    return out


@dataclass(frozen=True)
class SampleNoise:
    """The noise of a sample, and of every step that adds some: see `srcli.engine.diffusion.denoise`."""

    seed: int  # which sample
    channels: int  # of the sample
    size: Size  # of the sample; a larger one begins with the same noise
    device: torch.device | str = "cpu"  # where the noise is wanted

    def __call__(self, step: int) -> Tensor:
        """Standard normal (1, channels, H, W) float32: of the sample at 0, of the n-th step at n."""
        drawn = patch_noise(self.seed, Grid.of(self.size, self.size), self.channels, stream=step)
        return torch.from_numpy(drawn)[None].to(self.device)
