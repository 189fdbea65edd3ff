"""Seconds per megapixel of output at x4, for every model that comes with the package, measured in one run.

    python tests/benchmarks/models.py [--device cpu] [--side 192] [--repeat 5] [--only NAME ...]

On a CPU: CPU seconds of one thread, so that other programs on the machine matter little. On a GPU: wall seconds. The
median of several; the ratio is to the first model. Prints the lines for each preset's [cost].
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
SCALE = 4


def seconds(name: str, device: str, side: int, repeat: int) -> float:
    """Median seconds per megapixel of output."""
    import torch

    from srcli import Upscaler

    upscaler = Upscaler.from_preset(name, device=device)
    lr = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    now = time.process_time if device == "cpu" else time.perf_counter
    found = []
    for _ in range(repeat + 1):
        start = now()
        upscaler.upscale(lr, SCALE)  # gives a tensor on the CPU, so a GPU has finished
        found.append((now() - start) / (side * SCALE) ** 2 * 1e6)
    return statistics.median(found[1:])  # the first one warms up


def main() -> None:
    """Print a line for each model."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--side", type=int, default=192)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--only", nargs="*", default=[])
    args = parser.parse_args()
    import torch

    from srcli.config.presets import DEFAULT_PRESET, list_presets
    from srcli.weights.files import is_bundled

    torch.set_num_threads(1)
    names = args.only or sorted(
        (p.name for p in list_presets() if is_bundled(p)), key=lambda n: (n != DEFAULT_PRESET, n)
    )
    first = None
    for name in names:
        found = seconds(name, args.device, args.side, args.repeat)
        first = first or found
        kind = "cpu" if args.device == "cpu" else "gpu"
        print(f"{name:24}  {found / first:6.2f} x   [cost] {kind} = {found:.3g}", flush=True)


if __name__ == "__main__":
    main()
