"""What measuring costs beside enlarging: PSNR and SSIM as a share of inference, over the pictures of a benchmark.

    python tests/benchmarks/metrics.py [--data DIR] [--bench B100] [--scale 4] [--limit 20] [--model edsr-baseline-blend]

CPU seconds of one thread, so that other programs on the machine matter little; the median over pictures of the ratio.
Without --data, pictures of 481x321 with random values stand in for the benchmark: neither cost depends on them.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


def pairs(args: argparse.Namespace) -> list:
    """(HR, LR) pixels."""
    import numpy as np

    from srcli.data.benchmarks import open_benchmarks
    from srcli.data.reduce import REDUCTIONS
    from srcli.geometry import Size

    if args.data:
        (bench,) = open_benchmarks([args.bench], args.data)
        items = bench.items(args.scale)[: args.limit]
        return [(p.hr, p.lr) for p in (bench.load(item, args.scale, "pillow-bicubic") for item in items)]
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (320, 480, 3), np.uint8) for _ in range(args.limit)]
    reduce = REDUCTIONS["pillow-bicubic"]
    return [(hr, reduce(hr, Size(round(320 / args.scale), round(480 / args.scale)))) for hr in pictures]


def main() -> None:
    """Print both and their ratio."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path)
    parser.add_argument("--bench", default="B100")
    parser.add_argument("--scale", type=float, default=4)
    parser.add_argument("--limit", type=int, default=20)
    parser.add_argument("--model", default="edsr-baseline-blend")
    args = parser.parse_args()
    import torch

    from srcli import Upscaler
    from srcli.geometry import Size
    from srcli.metrics import Scene, find_metrics, find_protocol

    torch.set_num_threads(1)
    upscaler = Upscaler.from_preset(args.model, device="cpu")
    metrics, protocol = find_metrics(["psnr", "ssim"]), find_protocol("liif-benchmark")
    inference, measuring = [], []
    for number, (hr, lr) in enumerate(pairs(args)):
        x = torch.tensor(lr).permute(2, 0, 1).unsqueeze(0) / 255
        start = time.process_time()
        sr = upscaler.upscale(x, size=Size(*hr.shape[:2]))[0].permute(1, 2, 0).numpy()
        middle = time.process_time()
        scene = Scene(sr, hr, args.scale, protocol)
        for metric in metrics:
            metric.measure(scene)
        if number:  # the first one warms up
            inference.append(middle - start)
            measuring.append(time.process_time() - middle)
    share = statistics.median(m / i for m, i in zip(measuring, inference, strict=True))
    print(
        f"{len(inference)} pictures, x{args.scale:g}, {args.model}: enlarging {statistics.median(inference):.3f} s,"
    )
    print(f"PSNR and SSIM {statistics.median(measuring):.4f} s, {share:.1%} of it (CPU seconds, one thread)")


if __name__ == "__main__":
    main()
