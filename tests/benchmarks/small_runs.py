"""Small networks trained alike, for comparisons in miniature: a table of luma PSNR on held-out photos."""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

SCALES = (2, 4, 6, 12)
SMALL = {
    "encoder.name": "edsr", "encoder.n_resblocks": "4", "encoder.n_feats": "16", "data.patch": "12",
    "data.queries": "144", "data.shrink": "0.3", "data.scales": "[1.0, 4.0]", "optim.batch": "8",
    "optim.lr": "1e-3", "optim.lr_end": "1e-5", "optim.decay": '"cosine"', "optim.milestones": "[]",
    "optim.warmup": "30", "optim.clip": "1.0", "optim.ema": "0.99", "validation.every": "1000000",
    "validation.scales": str(list(SCALES)), "validation.photos": "12", "validation.crop": "240",
}  # fmt: skip
ON_EDSR = {  # the encoder of edsr-baseline-blend, which stays as it is: only decoders are compared
    "encoder.n_resblocks": "16",
    "encoder.n_feats": "64",
    "encoder.mean_shift": "false",
    "pixels.mean": "0.5",
    "pixels.std": "0.5",
    "init.take": '"encoder"',
    "optim.freeze": '["encoder."]',
}
SMALL_LIT = {
    "decoder.base_dim": "16",
    "decoder.n_heads": "2",
    "decoder.side": "5",
    "decoder.hidden": "[64, 64]",
}


def arguments(about: str | None, out: str, *, steps: int = 400, seeds: int = 3) -> argparse.Namespace:
    """The options that all comparisons have."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--steps", type=int, default=steps)
    parser.add_argument("--seeds", type=int, default=seeds)
    parser.add_argument("--out", type=Path, default=Path(out))
    return parser.parse_args()


def measure(
    decoder: str, label: str, changes: Mapping[str, str], seed: int, args: argparse.Namespace
) -> dict[str, float]:
    """Train one small network, or go on with it; its PSNR by scale."""
    from srcli.train.loop import train
    from srcli.train.recipe import read_recipe
    from srcli.weights.files import find, resolve

    folder = args.out / "recipes"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"small-{decoder}.toml"
    path.write_text(
        f'title = "Small {decoder}"\n[encoder]\nname = "edsr"\n[decoder]\nname = "{decoder}"\n', "utf-8"
    )
    length = {"optim.steps": str(args.steps), "optim.seed": str(seed)}
    out = args.out / re.sub(r"[^\w.+-]+", " ", f"{decoder} {label} {seed}").strip()
    init = find(resolve("edsr-baseline-blend")) if "init.take" in changes else None
    train(read_recipe(path, SMALL | changes | length), args.data, out, init=init)
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text("utf-8").splitlines()]
    return next(line["validation"] for line in reversed(lines) if line.get("validation"))


def print_table(cases: Iterable[tuple[str, str, Mapping[str, str]]], args: argparse.Namespace) -> None:
    """Mean and deviation over seeds of every case: decoder, label, settings."""
    print("| network | case | " + " | ".join(f"x{s}" for s in SCALES) + " |")
    print("|---|---|" + "---|" * len(SCALES))
    for decoder, label, changes in cases:
        runs = [measure(decoder, label, changes, seed, args) for seed in range(args.seeds)]
        cells = []
        for scale in SCALES:
            values = [run[f"psnr-y x{scale}"] for run in runs]
            spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.2f}{spread}")
        print(f"| {decoder} | {label} | " + " | ".join(cells) + " |", flush=True)
