"""FPLIA with other parts: an extractor and a generator are exchanged by configuration, and trained alike.

    python tests/benchmarks/fplia_parts.py --data photos/ --weights b/last.safetensors [--steps 200 200 100] [--out runs/fplia-parts]

`--weights` are those of the auto-encoder's stage (`--recipe fplia --variant short-autoencoder`), of which everything but
the extractor is taken. Then follow extractor and branch f, generator, and decoder, for `--steps` each. Held-out photos at
x4, protocol rgb/1: what is selected, and luma PSNR of branch f. A run that was interrupted is continued.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from pathlib import Path

from fplia_runs import METRICS, arguments, measured, stage

EDSR = '{name = "edsr", n_resblocks = 8, n_feats = 64, mean_shift = false}'
RDN = '{name = "rdn", n_feats = 64, n_blocks = 4, n_layers = 4, growth = 32}'
KIM = (
    '{name = "kim", condition_dim = 3, widths = [64, 96, 128], layers = 1, attention = [false, false, true],'
    " head_dim = 32, groups = 8}"
)
PAIRS = {
    "EDSR, FPLIA's UNet": {"encoder.fidelity": EDSR, "generator.condition_dim": "64"},
    "RDN, Kim's UNet": {"encoder.fidelity": RDN, "generator": KIM},
}
NEW = '["encoder.autoencoder.", "decoder.mlp.", "decoder.norm.", "generator."]'  # what the first stage leaves alone


def without_extractor(weights: Path, out: Path) -> Path:
    """The weights, apart from those of the extractor."""
    from safetensors.torch import save_file

    from srcli.weights.checkpoint import read

    kept = {k: v for k, v in read(weights).items() if not k.startswith(("encoder.fidelity.", "generator."))}
    save_file(kept, out)
    return out


def trained(label: str, changes: Mapping[str, str], args: argparse.Namespace) -> Path:
    """The weights of the last stage."""
    out = args.out / re.sub(r"[^\w+-]+", "-", label)
    one, two, three = args.steps
    start = without_extractor(args.weights, args.out / "start.safetensors")
    first = stage("short", one, {**changes, "optim.freeze": NEW}, start, out.with_name(f"{out.name} 1"), args)
    pool = {"data.pool": "2000", "optim.warmup": "50"}
    second = stage("short-diffusion", two, {**changes, **pool}, first, out.with_name(f"{out.name} 2"), args)
    return stage("short-finetune", three, changes, second, out.with_name(f"{out.name} 3"), args)


def parameters(weights: Path) -> tuple[int, int]:
    """Of the extractor and of the generator."""
    from srcli.models import count_parameters
    from srcli.weights.build import build
    from srcli.weights.files import resolve

    network = build(resolve(weights))
    assert network.generator is not None
    return count_parameters(network.encoder.get_submodule("fidelity")), count_parameters(network.generator)


def main() -> None:
    """Train, measure, print."""
    parser = arguments(__doc__, "runs/fplia-parts", "of the stage short-autoencoder")
    parser.add_argument("--steps", type=int, nargs=3, default=(200, 200, 100))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    print("| extractor, generator | parameters | " + " | ".join(METRICS) + " | psnr-y of f |")
    print("|---|---|" + "---|" * len(METRICS) + "---|")
    for label, changes in PAIRS.items():
        weights = trained(label, changes, args)
        values, faithful = measured(weights, args), measured(weights, args, "f")["psnr-y"]
        cells = [f"{values[name]:.3f}" for name in METRICS]
        sizes = ", ".join(f"{count:,}" for count in parameters(weights))
        print(f"| {label} | {sizes} | " + " | ".join(cells) + f" | {faithful:.3f} |", flush=True)


if __name__ == "__main__":
    main()
