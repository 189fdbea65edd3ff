"""Plain form against fast form of every decoder, and the default preset against plain EDSR-baseline-LIIF.

    python tests/benchmarks/decoders.py [--device cpu] [--lr 128] [--scale 4] [--repeat 5]
        [--threads 1] [--only NAME ...]

Every case runs in a process of its own, so that its peak memory is its own: the most above what weights and inputs
take. Times are medians. Weights are random, which changes no time. The plain form decodes 30,000 queries at once,
of LIT 10,000, of HIIF all, and unfolds the features for each such chunk, as the authors' evaluation does. On a busy machine trust
the CPU seconds of one thread: waiting threads spin.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

PLAIN_CHUNK, WINDOW_CHUNK = 30_000, 10_000
# What is timed, and which decoder it is with which options.
DECODERS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in ("liif", "metasr", "lte", "lte-plus", "lm-liif", "lm-lte", "lit")},
    "clit-3": ("lit", {"branches": 3}),
    "ciaosr": ("ciaosr", {}),
    "hiif": ("hiif", {}),
    "linf": ("linf", {}),
    "linf-unweighted": ("linf", {"ensemble": "fourier-unweighted"}),
    "linf-local": ("linf", {"ensemble": "local"}),
    "linf-3x3": ("linf", {"patch": 3}),
    "thera": ("thera", {}),
    "thera-512": ("thera", {"n_components": 512}),
}
PRESET, OLD = "EDSR 8x64 + blend", "EDSR-baseline + liif, plain"  # whole networks


def plain_form(name: str) -> Callable:
    """The plain form of a decoder."""
    from tests.reference import ciaosr, hiif, liif, linf, lit, lmf, lte, metasr, thera

    forms = {"liif": liif, "metasr": metasr, "lte": lte, "lte-plus": lte, "lm-liif": lmf, "lm-lte": lmf}
    forms |= {"lit": lit, "ciaosr": ciaosr, "hiif": hiif, "linf": linf, "thera": thera}
    return forms[DECODERS[name][0]].plain


def make(name: str, form: str, size: int, scale: float, device: str, threads: int) -> Callable:
    """What is timed: a function without arguments."""
    import torch

    from srcli.geometry import Grid, Size, output_size
    from srcli.models.decoders import DECODERS as TABLE
    from srcli.models.encoders import ENCODERS
    from srcli.models.layers import grid_coord
    from srcli.models.sr import Frame, ImplicitSR
    from tests.reference.ciaosr import cross_scale
    from tests.reference.linf import centres

    torch.manual_seed(0)
    torch.set_num_threads(threads)
    lr = torch.randn(1, 3, size, size, device=device).to(memory_format=torch.channels_last)
    target = output_size(Size(size, size), scale)
    frame, grid = Frame.of_grid(lr, target), Grid.of(Size(size, size), target)
    coord = grid_coord(grid, lr)

    def plainly(decoder: torch.nn.Module, plain: Callable, feat: torch.Tensor) -> torch.Tensor:
        chunk = WINDOW_CHUNK if "lit" in name else PLAIN_CHUNK
        chunk = coord.shape[1] if name == "hiif" else chunk  # HIIF's answer depends on all queries of a call
        shared = (cross_scale(decoder.cs_attn, feat),) if name == "ciaosr" else ()
        return torch.cat([plain(decoder, feat, lr, c, frame.cell, *shared) for c in coord.split(chunk, 1)], 1)

    if name == PRESET:
        encoder = ENCODERS["edsr"](n_resblocks=8, n_feats=64, mean_shift=False)
        network = ImplicitSR(encoder, TABLE["blend"](in_dim=64)).to(device, memory_format=torch.channels_last)
        return lambda: network.render(lr, target)
    if name == OLD:
        encoder, decoder = ENCODERS["edsr"]().to(device), TABLE["liif"](in_dim=64).to(device)
        return lambda: plainly(decoder, plain_form("liif"), encoder(lr.contiguous()))
    table_name, options = DECODERS[name]
    untyped: Any = TABLE[table_name]
    decoder = untyped(in_dim=64, **options).to(device)
    if table_name == "linf":
        coord = centres(target, decoder.patch).to(device)
    feat = torch.randn(1, 64, size, size, device=device).to(memory_format=torch.channels_last)
    if form == "plain":
        feat = feat.contiguous()
        return lambda: plainly(decoder, plain_form(name), feat)
    feat = feat.to(torch.bfloat16 if form == "bf16" else torch.float32)
    return lambda: decoder.render(decoder.prepare(feat, lr, frame), grid)


def measure(run: Callable, repeat: int, device: str) -> dict[str, float]:
    """Median seconds (wall and CPU) and peak MiB above the start."""
    import torch

    def peak() -> float:
        if device == "cuda":
            return torch.cuda.max_memory_allocated() / 2**20
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    walls, cpus, before = [], [], peak()
    with torch.inference_mode():
        for _ in range(repeat + 1):  # the first one warms up
            wall, cpu = time.perf_counter(), time.process_time()
            run()
            if device == "cuda":
                torch.cuda.synchronize()
            walls.append(time.perf_counter() - wall)
            cpus.append(time.process_time() - cpu)
    seconds = statistics.median(walls[1:]), statistics.median(cpus[1:])
    return {"wall": seconds[0], "cpu": seconds[1], "peak": peak() - before}


def in_process(name: str, form: str, args: argparse.Namespace) -> dict[str, float]:
    """`measure` in a fresh process."""
    options = [f"--{key}={getattr(args, key)}" for key in ("device", "lr", "scale", "repeat", "threads")]
    command = [sys.executable, __file__, "--case", name, form, *options]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def report(args: argparse.Namespace) -> None:
    """One table."""
    from rich.console import Console
    from rich.table import Table

    title = (
        f"{args.lr}x{args.lr} x{args.scale:g}, {args.device}, {args.threads} threads, median of {args.repeat}"
    )
    table = Table("", "seconds", "times faster", "CPU seconds", "times less", "MiB", title=title)
    pairs = [([(name, form) for form in ("plain", "fp32", "bf16")]) for name in DECODERS]
    pairs.append([(OLD, ""), (PRESET, "")])
    for cases in pairs:
        if args.only and not any(cases[0][0].startswith(name) for name in args.only):
            continue
        first = None
        for name, form in cases:
            result = in_process(name, form, args)
            first = first or result
            row = [f"{name} {form}"]
            for clock in ("wall", "cpu"):
                row += [f"{result[clock]:.3f}", f"{first[clock] / result[clock]:.2f}"]
            table.add_row(*row, f"{result['peak']:.0f}")
        table.add_section()
    Console().print(table)


def main() -> None:
    """Parse, then measure one case or report on all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--lr", type=int, default=128, help="side of the LR image")
    parser.add_argument("--scale", type=float, default=4)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of the CPU")
    parser.add_argument("--only", nargs="*", help="beginnings of names")
    parser.add_argument("--case", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.case:
        run = make(*args.case, args.lr, args.scale, args.device, args.threads)
        print(json.dumps(measure(run, args.repeat, args.device)))
    else:
        report(args)


if __name__ == "__main__":
    main()
