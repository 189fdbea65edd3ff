"""FPLIA's ablations in miniature: branches, attention and selection, each decoder finetuned alike.

    python tests/benchmarks/fplia_ablations.py --data photos/ --weights c/last.safetensors [--steps 100] [--out runs/fplia-ablations]

`--weights` are those of the stage before (`--recipe fplia --variant short-diffusion`); a decoder starts from what it
shares with them. Held-out photos at x4, protocol rgb/1. A run that was interrupted is continued.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

METRICS = ("psnr-y", "ssim", "spectrum", "gradient", "patches")
CASES = {
    "all four branches, FPAM, a choice for every pixel": {},
    "branch f": {"decoder.branches": '["f"]'},
    "branch p": {"decoder.branches": '["p"]'},
    "branch pf": {"decoder.branches": '["pf"]'},
    "branch fp": {"decoder.branches": '["fp"]'},
    "branches f and p": {"decoder.branches": '["f", "p"]'},
    "LIIF's ensemble for FPAM": {"decoder.attention": '"liif"'},
    "a choice for every channel": {"decoder.select": '"channel"'},
    "joined by a linear layer": {"decoder.select": '"concat"'},
    "scaled and shifted": {"decoder.select": '"sft"'},
}


def finetuned(label: str, changes: Mapping[str, str], args: argparse.Namespace) -> Path:
    """The weights of one decoder, trained or found."""
    from srcli.models import build
    from srcli.recipe import find_recipe, read_recipe
    from srcli.train import train
    from srcli.weights import read
    from srcli.weights.checkpoint import save_state

    length = {
        "optim.steps": str(args.steps),
        "optim.seed": "0",
        "validation.every": "1000000",
        "validation.photos": "0",
    }
    recipe = read_recipe(find_recipe("fplia"), {**changes, **length}, "short-finetune")
    out = args.out / re.sub(r"[^\w+-]+", "-", label)
    own = {key: value.shape for key, value in build(recipe.preset).state_dict().items()}
    shared = {key: value for key, value in read(args.weights).items() if own.get(key) == value.shape}
    init = args.out / "init" / f"{out.name}.safetensors"
    save_state(init, shared, recipe.preset)
    train(recipe, args.data, out, init=init)
    return out / "last.safetensors"


def measured(weights: Path, args: argparse.Namespace) -> dict[str, float]:
    """Means over the held-out photos."""
    from srcli.data.benchmarks import Benchmark
    from srcli.data.photos import load_photos
    from srcli.engine import open_engine
    from srcli.evaluate.models import Network
    from srcli.evaluate.run import evaluate
    from srcli.train.validation import centre_crops

    held_out = load_photos(args.data, smallest=24, held_out=("007", "050")).held_out
    crops = centre_crops(held_out, args.photos, 192)
    found = evaluate(
        [Network(open_engine(weights, device="cpu"))],
        [Benchmark("held-out", "rgb", arrays=crops)],
        (4.0,),
        metrics=METRICS,
    )
    return {name: sum(row.metrics[name] for row in found.rows) / len(found.rows) for name in METRICS}


def main() -> None:
    """Train, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--photos", type=int, default=8)
    parser.add_argument("--out", type=Path, default=Path("runs/fplia-ablations"))
    args = parser.parse_args()
    print("| decoder | " + " | ".join(METRICS) + " |")
    print("|---|" + "---|" * len(METRICS))
    for label, changes in CASES.items():
        values = measured(finetuned(label, changes, args), args)
        print(f"| {label} | " + " | ".join(f"{values[name]:.3f}" for name in METRICS) + " |", flush=True)


if __name__ == "__main__":
    main()
