"""FPLIA's ablations in miniature: attention, selection and branches, each decoder finetuned alike.

    python tests/benchmarks/fplia_ablations.py --data photos/ --weights c/last.safetensors [--steps 100] [--out runs/fplia-ablations]

`--weights` are those of the stage before (`--recipe fplia --variant short-diffusion`); a decoder starts from what it
shares with them. Held-out photos at x4, protocol rgb/1. A run that was interrupted is continued.
"""

from __future__ import annotations

import re

from fplia_runs import METRICS, arguments, measured, stage
from lia_ablations import AblatedLIA

from srcli.models.decoders import DECODERS

LIIF = {"decoder.attention": '"liif"'}
CASES = {
    "FPAM and FPSM, all branches, a choice for every pixel": {},
    "neither: LIIF's ensemble, joined by a linear layer": LIIF | {"decoder.select": '"concat"'},
    "FPAM only: joined by a linear layer": {"decoder.select": '"concat"'},
    "FPSM only: LIIF's ensemble, a choice for every pixel": LIIF,
    "a choice for every channel": {"decoder.select": '"channel"'},
    "the first branch scaled and shifted by the others": {"decoder.select": '"sft"'},
    "branch f": {"decoder.branches": '["f"]'},
    "branch p": {"decoder.branches": '["p"]'},
    "branch pf": {"decoder.branches": '["pf"]'},
    "branch fp": {"decoder.branches": '["fp"]'},
    "branches f and p": {"decoder.branches": '["f", "p"]'},
}


def main() -> None:
    """Train, measure, print."""
    DECODERS["lia"] = AblatedLIA
    parser = arguments(__doc__, "runs/fplia-ablations", "of the stage short-diffusion")
    parser.add_argument("--steps", type=int, default=100)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    print("| decoder | " + " | ".join(METRICS) + " |")
    print("|---|" + "---|" * len(METRICS))
    for label, changes in CASES.items():
        out = args.out / re.sub(r"[^\w+-]+", "-", label)
        values = measured(stage("short-finetune", args.steps, changes, args.weights, out, args), args)
        print(f"| {label} | " + " | ".join(f"{values[name]:.3f}" for name in METRICS) + " |", flush=True)


if __name__ == "__main__":
    main()
