"""Test pairs with a real-world degradation: crops of photographs, and what the training degradation makes of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from srcli.data.benchmarks import read_rgb
from srcli.data.photos import U8
from srcli.degradations.apply import degrade
from srcli.degradations.draw import Degradation, draw, numbered
from srcli.degradations.presets import Ranges
from srcli.errors import ExistsError, ImageError, NothingToDoError, ResourceError
from srcli.files import atomic_write
from srcli.geometry import Size

HR_FOLDER, LR_FOLDER, RECORD = "gt", "lq", "degradations.jsonl"
HR_SIDE, LR_SIDE = 512, 128


@dataclass(frozen=True)
class PairPlan:
    """One pair before it is made: its name, its photograph, the crop's corner, and what is done to it."""

    name: str
    photograph: Path
    top: int
    left: int
    degradation: Degradation

    def line(self, seed: int) -> str:
        """As recorded."""
        facts = {"name": self.name, "photograph": self.photograph.name, "top": self.top, "left": self.left}
        return json.dumps({**facts, "seed": seed, "degradation": asdict(self.degradation)})


def plan_pairs(photographs: Sequence[Path], ranges: Ranges, *, count: int, seed: int) -> list[PairPlan]:
    """`count` crops spread evenly over photographs, with all their numbers drawn from (seed, number of the pair).

    HR is not sharpened, whatever the ranges say: that is for training, and would change what is measured.

    Raises:
        NothingToDoError: there is no photograph.
        ImageError: one cannot be read, or is smaller than a crop.
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
    """Write pairs as `<output>/gt/<name>.png` and `<output>/lq/<name>.png`, and what was done to each.

    A call that was interrupted is continued.

    Yields:
        each LR file that was written.

    Raises:
        ExistsError: other pairs are there already, and `overwrite` is not given.
        ImageError: a photograph cannot be read.
        ResourceError: a file cannot be written.
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
        for target, pixels in ((high, hr), (low, lr.numpy())):
            with atomic_write(target) as stream:
                Image.fromarray(np.ascontiguousarray(pixels)).save(stream, "PNG")
        yield low


def _remove_others(output: Path, names: set[str]) -> None:
    """Pairs of an earlier call that are not made again."""
    for folder in (HR_FOLDER, LR_FOLDER):
        for path in (output / folder).glob("*.png"):
            if path.stem not in names:
                path.unlink()
