"""Training samples: an LR patch, random positions of its HR crop, and their colours.

The wrapper of Chen et al. (LIIF, CVPR 2021): a random real scale, an HR crop of round(patch * scale), its 8-bit
Pillow bicubic reduction to patch x patch, flips and transposition, and as many random pixels of the crop as the
patch has. Every batch is a function of (seed, step), so that a run can be resumed anywhere.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from srcli.data.benchmarks import read_rgb, write_png
from srcli.data.photos import U8, Photo
from srcli.data.reduce import pillow_bicubic
from srcli.degradations.apply import degrade
from srcli.degradations.draw import Degradation, draw, numbered
from srcli.degradations.presets import Ranges, find_degradation
from srcli.errors import ExistsError, ImageError, NothingToDoError, ResourceError, UsageError
from srcli.files import atomic_write
from srcli.geometry import Size, centres, dihedral

Range = tuple[float, float]
WHOLE_STEP = (1 << 32) - 1  # the number of the random numbers that all samples of a step share


@dataclass(frozen=True)
class SampleSettings:
    """How samples are cut."""

    patch: int = 48  # side of the LR patch in pixels
    queries: int = 2304  # HR pixels drawn per sample
    scales: Range = (1.0, 4.0)  # smallest and largest scale, drawn uniformly
    # side of the patch of HR pixels given around every query, odd; 3 for LINF with 3x3 patches
    around: int = 1
    # side in HR pixels of a square of each crop whose patches, side by side, are the queries, instead of random ones;
    # for losses that look at pictures. 0 for random queries.
    block: int = 0
    # add noise of half a level to HR colours, so that a density has no grid of 8-bit levels to fall onto
    dither: bool = False
    # whether each sample has a scale of its own, or all of a batch share one
    scale_per: Literal["sample", "batch"] = "sample"
    shrink: float = 0.3  # share of the crops taken from a reduced photo, which hides traces of JPEG
    shrink_to: float = 2.0  # the strongest such reduction
    degradation: str = "bicubic"  # how LR is made: bicubic, or a name of `srcli.degradations`
    # keep all photos on the device and cut samples there, see `srcli.data.device_sampler`
    on_device: bool = False
    # side in pixels to which the whole crop is resized as a picture beside its queries, for networks that also encode
    # HR; 0: no picture
    picture: int = 0
    # number of different samples, so that what is computed from them can be cached; 0: all are new
    pool: int = 0

    @property
    def ranges(self) -> Ranges | None:
        """What degradations are drawn from; None for bicubic. Raises UsageError (an unknown name)."""
        return None if self.degradation == "bicubic" else find_degradation(self.degradation)


def degraded(hr: U8, size: Size, ranges: Ranges | None, rng: np.random.Generator) -> tuple[U8, U8]:
    """LR of `size` and HR (H, W, 3), which may be sharpened; without ranges, LR is Pillow's bicubic."""
    if ranges is None:
        return pillow_bicubic(hr, size), hr
    lr, hr_shown = degrade(torch.tensor(hr), draw(ranges, rng), size)
    return lr.numpy(), hr_shown.numpy()


class Batch(NamedTuple):
    """One step's data: lr (B, 3, p, p) and hr (B, Q, 3) in [0, 1], coord (B, Q, 2), cell (B, 2).

    With `SampleSettings.around` above 1, hr is (B, Q, around^2, 3), rows before columns, the crop's edge repeated beyond
    it. `stages` is `Frame.stages`, for a cascade whose stages are not those that the scale would have. With
    `SampleSettings.picture`, `picture` is (B, 3, n, n) in [0, 1]. `numbers` identify samples that are used again.
    """

    lr: Tensor
    hr: Tensor
    coord: Tensor
    cell: Tensor
    stages: tuple[Size, ...] | None = None
    picture: Tensor | None = None
    numbers: tuple[int, ...] | None = None

    def with_each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """The batch with every tensor changed, as in `batch.with_each(Tensor.pin_memory)`."""
        lr, hr, coord, cell = map(change, (self.lr, self.hr, self.coord, self.cell))
        picture = None if self.picture is None else change(self.picture)
        return self._replace(lr=lr, hr=hr, coord=coord, cell=cell, picture=picture)

    def pieces(self, count: int) -> Iterator[Batch]:
        """The batch in `count` equal pieces, in order."""
        if count == 1:
            yield self
            return
        size = len(self.lr) // count
        for first in range(0, len(self.lr), size):
            part = slice(first, first + size)
            yield self.with_each(lambda value, part=part: value[part])._replace(  # type: ignore[misc]
                numbers=self.numbers and self.numbers[part]
            )


class Cut(NamedTuple):
    """One sample's place: which photo, and which square of `source` pixels in it.

    Reduced to `side` pixels and turned as `dihedral` does, the square is HR; LR has `SampleSettings.patch` pixels.
    """

    photo: int
    side: int
    source: int
    top: int
    left: int
    turn: int


def batch_rng(seed: int, step: int, rank: int = 0) -> np.random.Generator:
    """The random numbers of one step: counter-based, so that step n is the same however it was reached."""
    return np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, rank, step]))


class Sampler:
    """Draws batches from photos, in proportion to their pixels. Raises UsageError (settings that contradict)."""

    def __init__(self, photos: Sequence[Photo], settings: SampleSettings) -> None:
        if settings.around % 2 == 0 or settings.block % settings.around:
            raise UsageError("data.around is odd, and divides data.block.")
        if settings.block > round(settings.patch * settings.scales[0]):
            raise UsageError(f"data.block of {settings.block} pixels does not fit into the smallest crops.")
        self.photos = photos
        self.settings = settings
        self.ranges = settings.ranges
        areas = np.array([p.pixels.shape[0] * p.pixels.shape[1] for p in photos], dtype=np.float64)
        self.share = np.cumsum(areas) / areas.sum()

    def draw(self, seed: int, step: int, numbers: Sequence[int], scales: Range | None = None) -> Batch:
        """Samples of a step by their numbers; each has random numbers of its own, however the step is split.

        `scales`: smallest and largest of this step; a photo that is too small for a scale gives the largest it can.
        """
        low, high = scales or self.settings.scales
        if self.settings.scale_per == "batch":
            low = high = float(batch_rng(seed, step, WHOLE_STEP).uniform(low, high))
        return self._make([batch_rng(seed, step, number) for number in numbers], (low, high))

    def _make(self, rngs: Sequence[np.random.Generator], scales: Range) -> Batch:
        parts = zip(*(self._sample(rng, scales) for rng in rngs), strict=True)
        lr, hr, coord, cell, *more = (torch.from_numpy(np.stack(part)) for part in parts)
        picture = more[0].permute(0, 3, 1, 2).float() / 255 if more else None
        return Batch(lr.permute(0, 3, 1, 2).float() / 255, hr.float() / 255, coord, cell, picture=picture)

    def cut(self, rng: np.random.Generator, scales: Range) -> Cut:
        """The place of the next sample."""
        settings = self.settings
        photo = int(np.searchsorted(self.share, rng.random()))  # in proportion to its pixels
        height, width = self.photos[photo].pixels.shape[:2]
        room = min(height, width)
        low, high = (min(scale, room / settings.patch) for scale in scales)  # as far as the photo allows
        side = source = round(settings.patch * rng.uniform(low, high))
        if rng.random() < settings.shrink:
            source = min(round(side * rng.uniform(1.0, settings.shrink_to)), room)
        top, left = (int(rng.integers(length - source + 1)) for length in (height, width))
        return Cut(photo, side, source, top, left, int(rng.integers(8)))

    def _sample(self, rng: np.random.Generator, scales: Range) -> tuple[np.ndarray, ...]:
        settings = self.settings
        hr = self._crop(self.cut(rng, scales))
        lr, hr = degraded(hr, Size(settings.patch, settings.patch), self.ranges, rng)
        side = hr.shape[0]
        iy, ix = self._block(side, rng) if settings.block else self._scattered(side, rng)
        coord = np.stack([centres(side)[iy], centres(side)[ix]], axis=-1)
        colours: np.ndarray = hr[iy, ix] if settings.around == 1 else _patches(hr, iy, ix, settings.around)
        if settings.dither:
            colours = colours + rng.random(colours.shape, np.float32) - np.float32(0.5)
        picture = [pillow_bicubic(hr, Size(settings.picture, settings.picture))] if settings.picture else []
        return lr, colours, coord, np.full(2, 2 / side, np.float32), *picture

    def _scattered(self, side: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        wanted = self.settings.queries
        chosen = rng.choice(side * side, min(wanted, side * side), replace=False, shuffle=False)
        if chosen.size < wanted:  # scales just below 1 offer fewer pixels than queries
            chosen = np.concatenate([chosen, rng.choice(side * side, wanted - chosen.size)])
        return np.divmod(chosen, side)

    def _block(self, side: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Rows and columns of the middle pixels of patches that fill a smaller square."""
        around, block = self.settings.around, self.settings.block
        top, left = (int(v) for v in rng.integers(side - block + 1, size=2))
        middles = np.arange(around // 2, block, around)
        iy, ix = np.meshgrid(top + middles, left + middles, indexing="ij")
        return iy.ravel(), ix.ravel()

    def _crop(self, cut: Cut) -> U8:
        pixels = self.photos[cut.photo].pixels
        crop = pixels[cut.top : cut.top + cut.source, cut.left : cut.left + cut.source]
        if cut.source != cut.side:
            crop = pillow_bicubic(crop, Size(cut.side, cut.side))
        return dihedral(crop, cut.turn)


def _patches(hr: U8, iy: np.ndarray, ix: np.ndarray, around: int) -> U8:
    steps = np.arange(around) - around // 2
    rows, cols = (np.clip(at[:, None] + steps, 0, len(hr) - 1) for at in (iy, ix))
    return hr[rows[:, :, None], cols[:, None, :]].reshape(len(iy), -1, 3)


HR_FOLDER, LR_FOLDER, RECORD = "gt", "lq", "degradations.jsonl"
HR_SIDE, LR_SIDE = 512, 128


@dataclass(frozen=True)
class PairPlan:
    """One pair before it is made: its name, its photograph, the crop's corner, and its degradation."""

    name: str
    photograph: Path
    top: int
    left: int
    degradation: Degradation

    def line(self, seed: int) -> str:
        facts = {"name": self.name, "photograph": self.photograph.name, "top": self.top, "left": self.left}
        return json.dumps({**facts, "seed": seed, "degradation": asdict(self.degradation)})


def plan_pairs(photographs: Sequence[Path], ranges: Ranges, *, count: int, seed: int) -> list[PairPlan]:
    """`count` crops spread evenly over photographs, with all their numbers drawn from (seed, number of the pair).

    HR is not sharpened, whatever the ranges say: that is for training. Raises NothingToDoError (no photograph),
    ImageError (one cannot be read, or is smaller than a crop).
    """
    if not photographs:
        raise NothingToDoError("there is no photograph to cut pairs from.")
    each, more = divmod(count, len(photographs))
    plans: list[PairPlan] = []
    for place, path in enumerate(photographs):
        crops = each + (place < more)
        if not crops:
            break
        height, width = read_rgb(path).shape[:2]
        if min(height, width) < HR_SIDE:
            raise ImageError(f"{path} of {width}x{height} pixels is too small for crops of {HR_SIDE}.")
        for number in range(crops):
            rng = numbered(seed, len(plans))
            top, left = (int(rng.integers(side - HR_SIDE + 1)) for side in (height, width))
            degradation = replace(draw(ranges, rng), sharpen=False)
            plans.append(PairPlan(f"{path.stem}_{number:02d}", path, top, left, degradation))
    return plans


def make_pairs(
    plans: Sequence[PairPlan], output: Path, *, seed: int, overwrite: bool = False
) -> Iterator[Path]:
    """Write pairs as `<output>/gt/<name>.png` and `<output>/lq/<name>.png` with a record of them; yields LR files.

    After an interruption, the next call continues. Raises ExistsError (other pairs are there, without `overwrite`),
    ImageError (a photograph cannot be read), ResourceError (a file cannot be written).
    """
    record = "".join(plan.line(seed) + "\n" for plan in plans)
    try:
        for folder in (HR_FOLDER, LR_FOLDER):
            (output / folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResourceError(f"cannot make folders in {output}: {error.strerror}.") from error
    path = output / RECORD
    if not overwrite and path.exists() and path.read_text("utf-8") != record:
        raise ExistsError(
            f"{output} holds pairs that were made otherwise.", hint="--overwrite replaces them."
        )
    with atomic_write(path) as stream:
        stream.write(record.encode())
    if overwrite:
        _remove_others(output, {plan.name for plan in plans})
    photograph: tuple[Path, U8] | None = None
    for plan in plans:
        high, low = (output / folder / f"{plan.name}.png" for folder in (HR_FOLDER, LR_FOLDER))
        if low.exists() and high.exists() and not overwrite:
            continue
        if photograph is None or photograph[0] != plan.photograph:
            photograph = plan.photograph, read_rgb(plan.photograph)
        hr = photograph[1][plan.top : plan.top + HR_SIDE, plan.left : plan.left + HR_SIDE]
        lr, _ = degrade(torch.from_numpy(hr.copy()), plan.degradation, Size(LR_SIDE, LR_SIDE))
        write_png(high, hr)
        write_png(low, lr.numpy())
        yield low


def _remove_others(output: Path, names: set[str]) -> None:
    for folder in (HR_FOLDER, LR_FOLDER):
        for path in (output / folder).glob("*.png"):
            if path.stem not in names:
                path.unlink()
