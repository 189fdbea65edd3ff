"""Protocols, which define how a figure is measured, and scenes: a result beside its truth.

A protocol is named and versioned, and every table prints its name. It says whether results are rounded to 8 bit, how
much border is left out, how luma is computed, which form of SSIM is used, and how an LR picture is made where none is
given. Appending ``+8bit`` or ``+float`` to a name changes the rounding alone: 8-bit is what people get, float is what
most papers print.
"""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from srcli.errors import UsageError, suggest
from srcli.metrics.psnr import luma_of

U8 = NDArray[np.uint8]
F64 = NDArray[np.float64]
Reduce = Callable[[U8, tuple[int, int]], U8]  # a picture and the (height, width) to reduce it to

SSIM_FORMS = {
    "linf": "RGB, windows inside the picture, no border removed",
    "clit": "RGB, a window around every pixel, zero padding, no border removed",
    "classic": "luma, windows inside the picture, border removed",
}


@dataclass(frozen=True)
class Protocol:
    """How results are measured."""

    name: str
    about: str  # where it comes from, in a few words
    headline: str  # the metric that its papers report first
    version: int = 1  # raised whenever a number would change
    rounded: bool = False  # results are rounded to 8 bit first
    # PSNR leaves out this many pixels more than the scale (rounded up); None leaves out nothing
    rgb_border: int | None = 0
    luma_border: int | None = 0  # the same for PSNR on luma
    rounded_luma: bool = False  # luma itself is rounded to 8 bit
    ssim: Literal["linf", "clit", "classic"] = "linf"  # a key of `SSIM_FORMS`
    # how LR is made where no LR file is given
    reduction: Literal["pillow-bicubic", "matlab-bicubic"] = "pillow-bicubic"
    crops: bool = True  # finished results may have the size of the HR picture cropped to whole LR pixels

    @property
    def label(self) -> str:
        """Name and version, as printed."""
        return f"{self.name}/{self.version}"

    def describe(self) -> str:
        values = "rounded to 8 bit" if self.rounded else "float, not rounded"
        luma = "luma rounded to 8 bit" if self.rounded_luma else "luma as float"
        return (
            f"{self.label} ({self.about}): results {values}; psnr RGB, border {_words(self.rgb_border)}; "
            f"psnr-y {luma}, border {_words(self.luma_border)}; ssim {SSIM_FORMS[self.ssim]}; "
            f"mean of per-image values; LR made by {self.reduction} where none is given"
        )


def border(extra: int | None, scale: float) -> int:
    """Pixels that are left out on every side: `extra` more than the scale, rounded up."""
    return 0 if extra is None else math.ceil(scale - 1e-9) + extra


def _words(extra: int | None) -> str:
    return "0" if extra is None else f"ceil(scale) + {extra}" if extra else "ceil(scale)"


PROTOCOLS = {
    p.name: p
    for p in (
        Protocol("liif-benchmark", "Set5, Set14, B100, Urban100 in the LIIF family", "psnr-y"),
        Protocol("liif-div2k", "DIV2K in the LIIF family", "psnr", rgb_border=6, luma_border=6),
        Protocol(
            "classic-y", "fixed-scale papers", "psnr-y",
            rounded=True, rounded_luma=True, ssim="classic", reduction="matlab-bicubic",
        ),
        Protocol("rgb", "what people see", "psnr", rounded=True, rgb_border=None, luma_border=None, crops=False),
        Protocol("linf", "LINF's table of generative models", "psnr"),
        Protocol("fplia", "FPLIA: psnr on DIV2K, psnr-y elsewhere", "psnr-y", rgb_border=6, ssim="clit"),
        Protocol(
            "real-isr",
            "real-world sets; the papers state neither colour space nor border, so read psnr and psnr-y", "psnr",
            rounded=True, rgb_border=None, luma_border=None, crops=False,
        ),
    )
}  # fmt: skip


def find_protocol(name: str) -> Protocol:
    """The protocol called `name`, perhaps with ``+8bit`` or ``+float`` appended. Raises UsageError."""
    plain, plus, values = name.strip().lower().replace("_", "-").partition("+")
    if plain not in PROTOCOLS:
        raise UsageError(f"unknown protocol '{name}'.", hint=suggest(plain, PROTOCOLS))
    protocol = PROTOCOLS[plain]
    if plus and values not in ("8bit", "float"):
        raise UsageError(
            f"unknown protocol '{name}'.", hint=f"After the plus sign: {plain}+8bit or {plain}+float."
        )
    rounded = values == "8bit" if plus else protocol.rounded
    if rounded == protocol.rounded:
        return protocol
    luma = protocol.rounded_luma and rounded
    return dataclasses.replace(protocol, name=f"{plain}+{values}", rounded=rounded, rounded_luma=luma)


@dataclass(frozen=True)
class Scene:
    """One result and what belongs to it."""

    result: NDArray[np.floating] | U8  # (H, W, 3), float in [0, 1] (values outside are clamped) or 8-bit
    truth: U8  # (H, W, 3) 8-bit
    scale: float  # HR pixels per LR pixel; decides the border
    protocol: Protocol  # how to measure
    lr: U8 | None = None  # (h, w, 3) 8-bit, None where there is none
    reduce: Reduce | None = None  # how that LR came to be, for metrics that repeat it; None where unknown

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
        return self.truth / 255

    @cached_property
    def sr_luma(self) -> F64:
        return luma_of(self.sr, rounded=self.protocol.rounded_luma)

    @cached_property
    def hr_luma(self) -> F64:
        return luma_of(self.hr, rounded=self.protocol.rounded_luma)

    @property
    def rgb_shave(self) -> int:
        """Border in pixels that PSNR leaves out."""
        return border(self.protocol.rgb_border, self.scale)

    @property
    def luma_shave(self) -> int:
        """Border in pixels that PSNR on luma leaves out."""
        return border(self.protocol.luma_border, self.scale)
