"""Scale schedules in miniature: four of them on a small LIT, and two on a small LIIF, equal steps, several seeds.

    python tests/benchmarks/schedules.py --data photos/ [--steps 400] [--seeds 3] [--out runs/schedules]

The published gaps (Chen et al., CVPR 2023: cumulative above uniform 1:4 at x6 to x12 and not below alternate at x2 to
x4, by 0.04 to 0.06 dB) come from networks and times a thousand times as large: here the spread over seeds is printed
beside the means, so that nobody reads more into them than there is. Luma PSNR of held-out photos, in dB. A run that
was interrupted is continued.
"""

from small_runs import SMALL_LIT, arguments, print_table

SCHEDULES = ("uniform 1:4", "uniform 1:12", "alternate 1:4|4:12", "cumulative 1:4|4:12")
CASES = [
    *(("lit", schedule, SMALL_LIT) for schedule in SCHEDULES),
    *(("liif", schedule, {"decoder.hidden": "[64, 64]"}) for schedule in (SCHEDULES[0], SCHEDULES[3])),
]

if __name__ == "__main__":
    print_table(
        ((d, label, settings | {"schedule.scales": f'"{label}"'}) for d, label, settings in CASES),
        arguments(__doc__, "runs/schedules"),
    )
