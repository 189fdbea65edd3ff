"""LIT's ablations in miniature: tables 3 (parts) and 4 (window) of Chen et al., CVPR 2023, on a small decoder.

    python tests/benchmarks/lit_ablations.py --data photos/ [--steps 1500] [--seeds 3] [--out runs/lit-ablations]

All have the encoder of edsr-baseline-blend, which stays as it is. "full" has windows of 7x7. The paper's gaps are 0.02 to
0.15 dB after 1,000 epochs: read ours beside the spread over seeds. Luma PSNR of held-out photos, in dB. A run that was
interrupted is continued.
"""

from small_runs import ON_EDSR, SMALL_LIT, arguments, print_table

FULL = SMALL_LIT | ON_EDSR | {"decoder.side": "7"}
CASES = {
    "full": {},
    "-a, no attention": {"decoder.attention": "false"},
    "-c, no cell": {"decoder.cell": "false"},
    "+e, local ensemble": {"decoder.local_ensemble": "true"},
    "window 3x3": {"decoder.side": "3"},
    "window 5x5": {"decoder.side": "5"},
    "window 9x9": {"decoder.side": "9"},
}

if __name__ == "__main__":
    print_table(
        (("lit", label, FULL | changes) for label, changes in CASES.items()),
        arguments(__doc__, "runs/lit-ablations", steps=1500),
    )
