"""Samples per second of every recipe, beside the most that the machine's arithmetic allows, and the share of data.

    python tests/benchmarks/training.py [--device cpu] [--only NAME ...] [--variant short] [--batch 16] [--steps 5]
        [--threads 1] [--on-device] [--set key=value ...]

Operations are counted (products of matrices and convolutions, forwards and backwards, two for a multiplication with
its addition); what the machine can do is measured as the rate of a 3x3 convolution of 256 channels or of a product of
matrices in the recipe's precision, whichever is faster, at its best. Their quotient is the floor: faster than that a step
cannot be without other arithmetic. On a CPU all seconds are those of its threads (waiting ones spin: `--threads 1`). Data are made and waited for before each step here, as with `--workers 0`; the share is
data / (data + step). Photos are noise, weights random; neither changes a time. Each recipe runs in its own process.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

PHOTOS, SIDE = 16, 640
CHANNELS, PLANE, IMAGES = 256, 48, 4  # of the convolution: wide ones are the fastest
MATRIX = 1024  # its side


def clock(
    run: Callable[[], object],
    repeat: int,
    device: str,
    of: Callable[[list[float]], float] = statistics.median,
) -> float:
    """Seconds, the median, after a first call that is not counted; on a CPU those of its threads."""
    import torch

    now, seconds = time.process_time if device == "cpu" else time.perf_counter, []
    for _ in range(repeat + 1):
        begin = now()
        run()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        seconds.append(now() - begin)
    return of(seconds[1:])


def most_operations(device: str, precision: str) -> float:
    """Operations per second of forward and backward passes of a convolution, or of a product of matrices."""
    import torch

    kind = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32)
    layer = torch.nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1).to(
        device, kind, memory_format=torch.channels_last
    )
    x = torch.randn(IMAGES, CHANNELS, PLANE, PLANE, device=device, dtype=kind, requires_grad=True)
    x = x.to(memory_format=torch.channels_last)
    operations = 3 * 2 * 9 * CHANNELS**2 * PLANE**2 * IMAGES
    convolution = operations / clock(lambda: layer(x).sum().backward(), 5, device, min)
    a, b = (torch.randn(MATRIX, MATRIX, device=device, dtype=kind, requires_grad=True) for _ in range(2))
    product = 3 * 2 * MATRIX**3 / clock(lambda: (a @ b).sum().backward(), 5, device, min)
    return max(convolution, product)


def measure(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """One recipe."""
    import numpy as np
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from srcli.data.device_sampler import make_sampler
    from srcli.data.photos import Photo
    from srcli.processes import Ranks
    from srcli.train.batch_loader import BatchLoader
    from srcli.train.recipe import find_recipe, read_recipe
    from srcli.train.trainer import Trainer

    torch.set_num_threads(args.threads)
    changes = dict(pair.split("=", 1) for pair in args.set)
    recipe = read_recipe(
        find_recipe(name), changes, args.variant if has_variant(name, args.variant) else None
    )
    recipe = replace(recipe, data=replace(recipe.data, on_device=args.on_device))
    if args.batch:
        recipe = replace(recipe, optim=replace(recipe.optim, batch=args.batch))
    device = torch.device(args.device)
    rng = np.random.default_rng(0)
    photos = [Photo(str(i), str(i), rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8)) for i in range(PHOTOS)]
    trainer, ranks = Trainer(recipe, device), Ranks()
    loader = BatchLoader(recipe, make_sampler(photos, recipe.data, device), ranks, pinned=False)
    parts = loader.step(0)
    with FlopCounterMode(display=False) as counter:
        trainer.train_step(*parts)
    samples = recipe.optim.batch * recipe.optim.accumulate
    steps = iter(range(1, 1000))
    data = clock(lambda: loader.step(next(steps)), args.steps, args.device)
    step = clock(lambda: trainer.train_step(*parts), args.steps, args.device)
    rate = most_operations(args.device, trainer.precision)
    return {
        "batch": samples,
        "precision": trainer.precision,
        "operations": counter.get_total_flops() / samples,
        "rate": rate,
        "speed": samples / (data + step),
        "share": data / (data + step),
    }


def has_variant(name: str, variant: str | None) -> bool:
    """Whether a recipe has it; the others are measured as they are."""
    import tomllib

    from srcli.train.recipe import find_recipe

    return variant in tomllib.loads(find_recipe(name).read_text("utf-8")).get("variant", {})


def in_process(name: str, words: list[str]) -> dict[str, Any]:
    """`measure` in a fresh process."""
    command = [sys.executable, __file__, *words, "--case", name]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def report(args: argparse.Namespace, words: list[str]) -> None:
    """One table."""
    from rich.console import Console
    from rich.table import Table

    title = f"training on {args.device}, {args.threads} threads, median of {args.steps} steps"
    table = Table(
        "recipe", "batch", "", "GFLOP / sample", "TFLOP/s at most", "floor, samples/s", "samples/s", "of floor",
        "data", title=title,
    )  # fmt: skip
    for path in sorted((ROOT / "presets/recipes").glob("*.toml")):
        if (args.only and path.stem not in args.only) or path.stem == "adopt":  # which needs a network
            continue
        found = in_process(path.stem, words)
        floor = found["rate"] / found["operations"]
        print(path.stem, json.dumps(found), file=sys.stderr, flush=True)  # recipes may take minutes each
        table.add_row(
            path.stem, str(found["batch"]), found["precision"], f"{found['operations'] / 1e9:.2f}",
            f"{found['rate'] / 1e12:.3f}", f"{floor:.1f}", f"{found['speed']:.1f}",
            f"{found['speed'] / floor:.0%}", f"{found['share']:.1%}",
        )  # fmt: skip
    Console(width=120).print(table)


def main() -> None:
    """Parse, then measure one recipe or report on all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", nargs="*", help="names of recipes")
    parser.add_argument("--variant", help="of the recipes that have it")
    parser.add_argument("--batch", type=int, help="instead of the recipe's")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of the CPU")
    parser.add_argument("--on-device", action="store_true", help="photos in the device's memory")
    parser.add_argument("--set", nargs="*", default=[], help="settings, as srcli train --set")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.case:
        print(json.dumps(measure(args.case, args)))
    else:
        report(args, sys.argv[1:])


if __name__ == "__main__":
    main()
