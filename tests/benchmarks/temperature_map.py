"""Is one temperature everywhere as good as less noise on flat areas and more in texture, at the same PSNR?

    python tests/benchmarks/temperature_map.py MODEL FOLDER [SCALE] [METRIC,..]

MODEL is a generative preset or weights file, FOLDER holds HR pictures or a benchmark. For some temperatures of
`--temperature-map auto` the uniform temperature of the same mean PSNR is found, and the metrics of both are printed,
mean over pictures; then what `--consistency` does to the same results.
"""

import sys
from pathlib import Path

import numpy as np

from srcli.data.benchmarks import open_folder
from srcli.data.reduce import REDUCTIONS
from srcli.engine.temperature_map import temperature_map
from srcli.engine.upscaler import Upscaler
from srcli.geometry import Size
from srcli.image.back_projection import Projection
from srcli.metrics import Scene, find_metrics, find_protocol, measure

TEMPERATURES = (0.4, 0.6, 0.8)
GRID = np.linspace(0, 1.2, 13)  # uniform temperatures that are measured; between them PSNR is interpolated
SEEDS = (0, 1)


class Strips:
    """An 8-bit picture as an engine reads it."""

    def __init__(self, pixels):
        self.pixels = pixels.astype(np.float32) / 255
        self.size = Size(*pixels.shape[:2])

    def strip(self, top, bottom):
        return self.pixels[top:bottom]


class Shot:
    """One picture with its mean and, for each seed, its direction and the map's factor."""

    def __init__(self, upscaler, pair, scale, metrics):
        self.pair, self.scale, self.metrics = pair, scale, metrics
        source, target = Strips(pair.lr), Size(*pair.hr.shape[:2])
        parts = [list(upscaler.affine(source, target, seed=seed)) for seed in SEEDS]
        self.mean = np.concatenate([mean for mean, _ in parts[0]])
        self.directions = [np.concatenate([direction for _, direction in part]) for part in parts]
        self.factor = temperature_map("auto").rows(source, target, 0, target.h)[..., None]
        self.projection, self.lr = Projection(source.size, target), source.pixels

    def values(self, temperature, *, metrics=None, mapped=False, consistent=False):
        """Metrics, mean over the seeds."""
        found = []
        metrics = metrics or self.metrics
        for direction in self.directions:
            sr = self.mean + np.float32(temperature) * direction * (self.factor if mapped else 1)
            if consistent:
                sr = self.projection.consistent(sr, self.lr)
            reduce = REDUCTIONS[self.pair.reduction]
            scene = Scene(sr, self.pair.hr, self.scale, find_protocol("rgb"), self.pair.lr, reduce)
            found.append(list(measure(scene, metrics, self.pair.name).values()))
        return np.mean(found, axis=0)


def main():
    model, folder = sys.argv[1], Path(sys.argv[2])
    scale = float(sys.argv[3]) if len(sys.argv) > 3 else 4.0
    names = sys.argv[4].split(",") if len(sys.argv) > 4 else ["ssim", "spectrum", "niqe-srcli"]
    metrics = find_metrics(["psnr", "lr-psnr", *names])
    benchmark = open_folder(folder)
    pairs = [benchmark.load(item, scale, "pillow-bicubic") for item in benchmark.items(scale)]
    upscaler = Upscaler.from_preset(model)
    shots = [Shot(upscaler, pair, scale, metrics) for pair in pairs]

    def mean(temperature, **how):
        return np.mean([shot.values(temperature, **how) for shot in shots], axis=0)

    def show(label, temperature, values):
        cells = "".join(f"{value:12.4f}" for value in values)
        print(f"{label:24}{temperature:8.3f}{cells}", flush=True)

    heads = "".join(f"{m.name + (' +' if m.higher_is_better else ' -'):>12}" for m in metrics)
    print(f"{model} on {folder} x{scale:g}, {len(shots)} pictures, {len(SEEDS)} seeds")
    print(f"{'':24}{'t':>8}{heads}")
    uniform = [mean(t, metrics=metrics[:1])[0] for t in GRID]
    show("mean", 0, mean(0))
    show("mean, consistent", 0, mean(0, consistent=True))
    for temperature in TEMPERATURES:
        values = mean(temperature, mapped=True)
        same = float(np.interp(-values[0], -np.array(uniform), GRID))  # PSNR falls along the dial
        show("map", temperature, values)
        show("uniform, same psnr", same, mean(same))
        show("uniform, consistent", same, mean(same, consistent=True))


if __name__ == "__main__":
    main()
