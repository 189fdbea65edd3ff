"""What is asked of an `Upscaler` for one picture, and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from srcli.config.sampling import Sampling
from srcli.geometry import Size

if TYPE_CHECKING:
    from srcli.engine.latent_diffusion_upscaler import Latent
    from srcli.engine.temperature_map import TemperatureMap

Report = Callable[[float], None]
Scores = Callable[[int, np.ndarray], None]


class Source(Protocol):
    """An image that gives its rows: `size`, and `strip(top, bottom)` as float32 (rows, w, 3) in [0, 1]."""

    @property
    def size(self) -> tuple[int, int]: ...  # height and width

    def strip(self, top: int, bottom: int) -> np.ndarray: ...


@dataclass(frozen=True)
class RenderRequest:
    """How a picture is enlarged."""

    temperature: float | None = None  # factor on a generative network's noise; 0 and None give the mean
    temperature_map: TemperatureMap | None = None  # a further factor for every pixel of the output
    seed: int = 0  # which sample, of networks that draw noise; see `srcli.engine.noise`
    sampling: Sampling | None = None  # of a diffusion model, how; None: as `Upscaler.sampling` says
    latent: Latent | None = None  # sampled before, in the place of a new one of a latent diffusion model
    # Called with the top of every band and the scores (n, rows, W) of a decoder's branches; the highest is chosen.
    scores: Scores | None = None
    report: Report | None = None  # called with the finished share in [0, 1]
    as_bytes: bool = False  # rows may come rounded to 8 bits from the device, which copies a quarter


@dataclass
class RenderStats:
    """What happened while rows were drawn; complete after the last one."""

    tile: Size | None = None  # that the image was encoded in; of a restorer, in latents
    tiles: int = 0
    sample_tile: Size | None = None  # that a diffusion model's sample was cut in; None: it was not cut
    tile_retries: int = 0  # how often tiles had to be smaller, or fewer at a time, for want of memory
    fp32_fallbacks: int = 0  # tiles and predictions computed again in float32
    lr_psnr: float | None = None  # dB of the reduced result, if projected back; None: it equals the image
    notes: list[str] = field(default_factory=list)  # how exact tiles were, and what was done again
    told: set[str] = field(default_factory=set)  # what has been warned of

    def take(self, other: RenderStats) -> None:
        """Add what happened to another result that this one is made of; tiles and notes are those of the last."""
        self.tile, self.tiles, self.sample_tile = other.tile, other.tiles, other.sample_tile
        self.tile_retries += other.tile_retries
        self.fp32_fallbacks += other.fp32_fallbacks
        self.lr_psnr, self.notes = other.lr_psnr, list(other.notes)


PLAIN = RenderRequest()


class Rendered(NamedTuple):
    """Rows from top to bottom, float32 (n, W, 3) around [0, 1] or uint8, and what happened."""

    rows: Iterator[np.ndarray]
    stats: RenderStats


def part_of(report: Report | None, start: float, stop: float) -> Report | None:
    """What takes the finished share of a part that goes from `start` to `stop` of the whole."""
    return None if report is None else lambda share: report(start + share * (stop - start))
