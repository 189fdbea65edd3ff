"""What a GPU makes of every method, in one short run: under eight minutes on a data-centre card.

    python tests/benchmarks/gpu.py [--device cuda] [--only NAME ...] [--quick]

A line per preset that needs no sampler, with random weights: megapixels of output per second at x4, fp32 and bf16, and the
most memory. Of the default's encoder: milliseconds for equal tiles as they are, from a CUDA graph, and compiled. `--quick`
takes one small picture, one repetition and two presets, to see that the script runs.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from srcli.config.presets import DEFAULT_PRESET, load_preset
from srcli.engine.load import upscaler_for
from srcli.weights.build import build

NAMES = [
    DEFAULT_PRESET, "edsr-baseline-blend", "edsr-baseline-liif", "edsr-baseline-lte", "edsr-baseline-lm-liif",
    "edsr-baseline-metasr", "edsr-baseline-linf", "edsr-baseline-lit", "edsr-baseline-clit3", "edsr-baseline-hiif",
    "edsr-baseline-ciaosr", "edsr-baseline-thera-air", "rdn-liif", "swinir-liif", "rrdb-linf",
]  # fmt: skip


def seconds(run: Callable[[], object], repeat: int, device: torch.device) -> float:
    """Median wall seconds after a call that warms up."""
    found = []
    for _ in range(repeat + 1):
        began = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize()
        found.append(time.perf_counter() - began)
    return statistics.median(found[1:])


def methods(names: list[str], side: int, repeat: int, device: torch.device) -> None:
    """A line for each."""
    lr = torch.rand(1, 3, side, side)
    for name in names:
        preset, told = load_preset(name), []
        for precision in ("fp32", "bf16"):
            upscaler = upscaler_for(build(preset), preset, device=str(device), precision=precision)
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            taken = seconds(lambda upscaler=upscaler: upscaler.upscale(lr, 4), repeat, device)
            peak = torch.cuda.max_memory_allocated() >> 20 if device.type == "cuda" else 0
            told.append(f"{precision} {(4 * side) ** 2 / 1e6 / taken:8.2f} MP/s {peak:6d} MiB")
        print(f"{name:26}" + "   ".join(told), flush=True)


@torch.inference_mode()
def tiles(side: int, repeat: int, device: torch.device, *, compiled: bool) -> None:
    """Of the default's encoder, ways of running equal tiles."""
    encoder = build(load_preset(DEFAULT_PRESET)).encoder.eval().to(device, memory_format=torch.channels_last)
    tile = torch.rand(1, 3, side, side, device=device).contiguous(memory_format=torch.channels_last)
    ways: dict[str, Callable[[], object]] = {"as it is": lambda: encoder(tile)}
    if device.type == "cuda":
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            encoder(tile)  # sets up what a graph cannot
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            encoder(tile)
        ways["CUDA graph"] = graph.replay
    if compiled:
        faster = torch.compile(encoder)
        ways["compiled"] = lambda: faster(tile)
    for precision in ("fp32", "bf16"):
        for way, run in ways.items():
            if precision == "bf16" and way == "CUDA graph":
                continue  # it was captured in fp32
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
                taken = seconds(run, repeat, device)
            print(f"tile of {side}x{side}, {precision}, {way:12} {1000 * taken:8.2f} ms", flush=True)


def main() -> None:
    """Both."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--only", nargs="+", default=NAMES)
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    device = torch.device(args.device)
    side, repeat = (24, 1) if args.quick else (512, 5)
    methods(args.only[:2] if args.quick else args.only, side, repeat, device)
    tiles(side, repeat, device, compiled=not args.quick)


if __name__ == "__main__":
    main()
