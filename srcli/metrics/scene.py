"""What a metric may look at: one result beside its truth, as a protocol sees them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from srcli.geometry import Size
from srcli.metrics.protocol import Protocol, border
from srcli.metrics.psnr import luma_of

U8 = NDArray[np.uint8]
F64 = NDArray[np.float64]
Reduce = Callable[[U8, Size], U8]


@dataclass(frozen=True)
class Scene:
    """One result and what belongs to it.

    Attributes:
        result: (H, W, 3), float in [0, 1] (values outside are clamped) or 8-bit.
        truth: (H, W, 3) 8-bit.
        scale: HR pixels per LR pixel; decides the border.
        protocol: how to measure.
        lr: (h, w, 3) 8-bit, None where there is none.
        reduce: how that LR came to be, for metrics that repeat it; None where unknown.
    """

    result: NDArray[np.floating] | U8
    truth: U8
    scale: float
    protocol: Protocol
    lr: U8 | None = None
    reduce: Reduce | None = None

    @cached_property
    def sr(self) -> F64:
        """The result in [0, 1], rounded to 8 bit if the protocol says so."""
        if self.protocol.rounded:
            return self.sr_8bit / 255
        if self.result.dtype == np.uint8:
            return self.result / 255
        sr = self.result.astype(np.float64)
        return np.clip(sr, 0, 1, out=sr)

    @cached_property
    def sr_8bit(self) -> U8:
        """The result as people get it, in 8 bit."""
        if self.result.dtype == np.uint8:
            return self.result  # type: ignore[return-value]
        return np.rint(np.clip(self.result, 0, 1) * 255).astype(np.uint8)

    @cached_property
    def hr(self) -> F64:
        """The truth in [0, 1]."""
        return self.truth / 255

    @cached_property
    def sr_luma(self) -> F64:
        """Luma (H, W) of the result."""
        return luma_of(self.sr, rounded=self.protocol.rounded_luma)

    @cached_property
    def hr_luma(self) -> F64:
        """Luma (H, W) of the truth."""
        return luma_of(self.hr, rounded=self.protocol.rounded_luma)

    @property
    def rgb_shave(self) -> int:
        """Border in pixels that PSNR leaves out."""
        return border(self.protocol.rgb_border, self.scale)

    @property
    def luma_shave(self) -> int:
        """Border in pixels that PSNR on luma leaves out."""
        return border(self.protocol.luma_border, self.scale)
