"""How a run is measured: by the code of `srcli eval`, on pictures that it is not trained on."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from srcli.data.benchmarks import Benchmark, write_png
from srcli.data.photos import U8, Photo
from srcli.data.reduce import cropped_to_scale, pillow_bicubic
from srcli.data.samples import batch_rng, degraded
from srcli.engine.load import upscaler_for
from srcli.engine.upscaler import Upscaler
from srcli.errors import ImageError, UsageError
from srcli.evaluate.models import Network
from srcli.evaluate.run import evaluate
from srcli.geometry import Size
from srcli.models.sr import ImplicitSR
from srcli.processes import Ranks
from srcli.train.losses import TrainingLoss
from srcli.train.recipe import Recipe

PROTOCOL = "liif-benchmark"  # luma PSNR of float pictures, border = scale, Pillow's bicubic
METRIC = "psnr-y"
SHOWN = 4  # pictures on the sheet of samples


class Validation:
    """The pictures that a run is measured on: centres of held-out photos, and benchmarks.

    A stage with a measurement of its own replaces all others. Raises UsageError (a scale at
    which the border of the protocol leaves nothing of a picture).
    """

    def __init__(
        self,
        recipe: Recipe,
        held_out: Sequence[Photo],
        benchmarks: Sequence[Benchmark] = (),
        stages: Sequence[TrainingLoss] = (),
    ) -> None:
        self.recipe, self.stages = recipe, stages
        self.crops = centre_crops(held_out, recipe.validation.photos, recipe.validation.crop)
        smallest = min((min(crop.shape[:2]) for crop in self.crops.values()), default=None)
        highest = max(recipe.validation.scales)
        if smallest is not None and smallest - 2 * math.ceil(highest) < highest:
            raise UsageError(
                f"held-out pictures of {smallest} pixels cannot be measured at x{highest:g}.",
                hint="Lower validation.scales, or raise validation.crop.",
            )
        own = [Benchmark("held-out", PROTOCOL, arrays=self.crops)] if self.crops else []
        self.sets = [*own, *benchmarks]
        self.whole = True  # whether the network can enlarge pictures yet

    def measure(self, network: ImplicitSR, device: torch.device, ranks: Ranks = Ranks()) -> dict[str, float]:  # noqa: B008
        """Mean PSNR in dB by scale (and set, other than the run's own); ImageError for what could not be measured."""
        if not self.sets:
            return {}
        for stage in self.stages:
            with torch.no_grad():
                own = stage.measure(network.eval(), self._pairs(device))
            if own is not None:
                self.whole = False
                return own
        found = evaluate(
            [Network(self._upscaler(network, device))],
            self.sets,
            self.recipe.validation.scales,
            metrics=[METRIC],
            temperatures=(0.0,),
            seeds=(0,),
            ranks=ranks,
        )
        for failure in found.failures:
            raise ImageError(f"validation of {failure.image} at x{failure.scale:g}: {failure.message}")
        values: dict[str, list[float]] = {}
        for row in found.rows:
            name = METRIC if row.benchmark == "held-out" else f"{row.benchmark} {METRIC}"
            values.setdefault(f"{name} x{row.scale:g}", []).append(row.metrics[METRIC])
        return {name: sum(each) / len(each) for name, each in values.items()}

    def write_samples(self, network: ImplicitSR, device: torch.device, path: Path) -> None:
        """A sheet as PNG, one row per picture at the largest scale: enlarged pixels, result, truth.

        Nothing is written for a network that cannot enlarge pictures yet.
        """
        if not self.whole:
            return
        upscaler = self._upscaler(network, device)
        scale = max(self.recipe.validation.scales)
        rows = []
        for crop in list(self.crops.values())[:SHOWN]:
            hr, size = cropped_to_scale(crop, scale)
            lr = pillow_bicubic(hr, size)
            whole = Size(*hr.shape[:2])
            at = [axis * n // m for axis, n, m in zip(np.indices(whole), size, whole, strict=True)]
            x = torch.from_numpy(lr.copy()).permute(2, 0, 1).unsqueeze(0).float() / 255
            sr = (upscaler.upscale(x, size=whole)[0].clamp(0, 1) * 255).round().to(torch.uint8)
            rows.append(np.concatenate([lr[at[0], at[1]], sr.permute(1, 2, 0).numpy(), hr], axis=1))
        if rows:
            width = min(row.shape[1] for row in rows)
            write_png(path, np.concatenate([row[:, :width] for row in rows]))

    def _pairs(self, device: torch.device) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """LR and HR of the held-out pictures, degraded like the training pictures, normalised."""
        mean, std = (torch.tensor(value).view(1, 3, 1, 1) for value in self.recipe.preset.mean_std)
        pairs = []
        for number, crop in enumerate(self.crops.values()):
            hr, size = cropped_to_scale(crop, max(self.recipe.validation.scales))
            pair = degraded(hr, size, self.recipe.data.ranges, batch_rng(0, number))
            whole = (torch.tensor(pixels).permute(2, 0, 1)[None] / 255 for pixels in pair)
            small, large = (((picture - mean) / std).to(device) for picture in whole)
            pairs.append((small, large))
        return pairs

    def _upscaler(self, network: ImplicitSR, device: torch.device) -> Upscaler:
        return upscaler_for(network, self.recipe.preset, device=str(device), precision="fp32")


def centre_crops(photos: Sequence[Photo], count: int, side: int) -> dict[str, U8]:
    """Up to `count` centre crops (side, side, 3), spread evenly over the photos, by name."""
    crops = {}
    for photo in photos[:: max(1, len(photos) // max(1, count))][:count]:
        h, w = photo.pixels.shape[:2]
        top, left = max(0, (h - side) // 2), max(0, (w - side) // 2)
        crops[photo.name] = np.ascontiguousarray(photo.pixels[top : top + side, left : left + side])
    return crops
