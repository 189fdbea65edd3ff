"""What the comparisons of small FPLIA models share: a stage trained or found, and means over held-out photos."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

METRICS = ("psnr-y", "ssim", "spectrum", "gradient", "patches")


def arguments(about: str | None, out: str, weights: str) -> argparse.ArgumentParser:
    """The options that all of them have; `weights` says which are started from."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--weights", type=Path, required=True, help=weights)
    parser.add_argument("--photos", type=int, default=8)
    parser.add_argument("--out", type=Path, default=Path(out))
    return parser


def stage(
    variant: str, steps: int, changes: Mapping[str, str], init: Path, out: Path, args: argparse.Namespace
) -> Path:
    """The weights of one stage of the recipe, trained or found.

    Of `init` is taken what has a place in the network with the same shape; the rest of the network is new. Branches add to the
    bilinear image, as published, since not every way to join them can add to a native picture.
    """
    import torch

    from srcli.train.loop import train
    from srcli.train.recipe import find_recipe, read_recipe
    from srcli.weights.build import build
    from srcli.weights.checkpoint import read, save_state

    length = {
        "decoder.skip": '"bilinear"',
        "optim.steps": str(steps),
        "optim.seed": "0",
        "validation.every": "1000000",
        "validation.photos": "0",
    }
    recipe = read_recipe(find_recipe("fplia"), {**changes, **length}, variant)
    torch.manual_seed(0)
    state = build(recipe.preset).state_dict()
    shared = {k: v for k, v in read(init).items() if k in state and state[k].shape == v.shape}
    start = out.with_name(f"{out.name} from.safetensors")
    save_state(start, state | shared, recipe.preset)
    train(recipe, args.data, out, init=start)
    return out / "last.safetensors"


def measured(weights: Path, args: argparse.Namespace, branch: str | None = None) -> dict[str, float]:
    """Means over the held-out photos at x4, protocol rgb/1."""
    from srcli.data.benchmarks import Benchmark
    from srcli.data.photos import load_photos
    from srcli.engine.load import load_upscaler
    from srcli.evaluate.models import Network
    from srcli.evaluate.run import evaluate
    from srcli.train.validation import centre_crops

    held_out = load_photos(args.data, smallest=24, held_out=("007", "050")).held_out
    crops = centre_crops(held_out, args.photos, 192)
    found = evaluate(
        [Network(load_upscaler(weights, device="cpu", branch=branch))],
        [Benchmark("held-out", "rgb", arrays=crops)],
        (4.0,),
        metrics=METRICS,
    )
    return {name: sum(row.metrics[name] for row in found.rows) / len(found.rows) for name in METRICS}
