"""What enlarging costs beside an older version, in one run: the rows of a table, each with its share of the older cost.

    git worktree add --detach ../older fa13e61
    python tests/benchmarks/speed.py --against ../older [--rows x4 file ...] [--repeat 5]

Both versions take turns, one thread each; the figures are medians of CPU seconds, which other programs change little, and
of wall seconds for rows that are about them. Engine and decoders are timed inside a process that has enlarged once; the
others are whole processes, start and files included. `lit` and `linf` stand against the plain form in `tests/reference`,
which has torch's ordinary memory, as the authors' scripts have; ours keeps what it frees, as the command does.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

FEW = 200  # small files

ENGINE = """
import torch
from srcli.engine.upscaler import Upscaler
try:
    from srcli.resources import keep_freed_memory
    keep_freed_memory()
except ImportError:
    pass
upscaler = Upscaler.from_preset(device="cpu", precision={precision!r})
lr = torch.rand(1, 3, {side}, {side}, generator=torch.Generator().manual_seed(0))
lr = torch.nn.functional.avg_pool2d(torch.nn.functional.pad(lr, (2,) * 4, mode="reflect"), 5, 1)
def run():
    upscaler.upscale(lr, {scale})
"""
DECODER = """
import torch
from srcli.resources import keep_freed_memory
from tests.benchmarks.decoders import make
if {form!r} != "plain":
    keep_freed_memory()
mode = torch.inference_mode()
mode.__enter__()
run = make({name!r}, {form!r}, {side}, 4, "cpu", 1)
"""
TURNS = """
import resource, sys, time
def look():
    return time.process_time(), time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_minflt
run()
for _ in sys.stdin:
    before = look()
    run()
    print(*(b - a for a, b in zip(before, look())), flush=True)
"""


class Cost(NamedTuple):
    """Of one run."""

    cpu: float
    wall: float
    faults: float


def environment(checkout: Path, threads: int = 1) -> dict[str, str]:
    """In which a checkout's package is the one that is imported, compiled once as an installed one is."""
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    compiled = str(Path(tempfile.gettempdir(), "srcli-speed-compiled"))
    own = {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": str(threads), "PYTHONPYCACHEPREFIX": compiled}
    return {**kept, **own}


def inside(checkout: Path, code: str) -> Callable[[], Cost]:
    """`run()` of some code, in a process that stays."""
    process = subprocess.Popen(
        [sys.executable, "-c", code + TURNS],
        env=environment(checkout),
        cwd=checkout,  # where `-c` looks first
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def once() -> Cost:
        process.stdin.write("\n")
        process.stdin.flush()
        return Cost(*map(float, process.stdout.readline().split()))

    return once


def whole(checkout: Path, words: Sequence[object], threads: int = 1) -> Callable[[], Cost]:
    """`srcli upscale` with some words."""

    def once() -> Cost:
        began = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "srcli", "upscale", *map(str, words), "--overwrite", "-q"],
            env=environment(checkout, threads),
            cwd=checkout,
            stdout=subprocess.DEVNULL,
        )
        _, status, used = os.wait4(process.pid, 0)
        assert os.waitstatus_to_exitcode(status) == 0, words
        return Cost(used.ru_utime + used.ru_stime, time.perf_counter() - began, used.ru_minflt)

    return once


def less(large: Callable[[], Cost], small: Callable[[], Cost]) -> Callable[[], Cost]:
    """What one case costs beyond another."""
    return lambda: Cost(*(a - b for a, b in zip(large(), small(), strict=True)))


class Row(NamedTuple):
    """What is compared: `of` is the figure of a cost that counts, for `size` units of work."""

    title: str
    unit: str
    target: str
    of: str
    size: float
    old: Callable[[], Cost]
    new: Callable[[], Cost]


def engine_row(name: str, against: Path) -> Row:
    """`x4`, or `x4-auto`."""
    scale = float(name.partition("-")[0][1:])
    precision = "auto" if name.endswith("-auto") else "fp32"
    side = round(1000 / scale)
    code = ENGINE.format(precision=precision, side=side, scale=scale)
    target = {"x4": "0.32", "x4-auto": "0.20", "x2-auto": "0.16", "x1.5-auto": "0.16"}.get(name, "")
    cases = inside(against, code), inside(ROOT, code)
    return Row(f"engine, {name}", "CPU s/MP", target, "cpu", (side * scale) ** 2 / 1e6, *cases)


def decoder_row(name: str) -> Row:
    """Plain form against fast form, of one version."""
    which, side, target = {"lit": ("lit", 48, "1/25"), "linf": ("linf-3x3", 128, "1/4")}[name]
    cases = (inside(ROOT, DECODER.format(name=which, form=form, side=side)) for form in ("plain", "fp32"))
    return Row(f"{which}, {side}x{side} to x4, of plain form", "CPU s", target, "cpu", 1, *cases)


def file_row(name: str, against: Path, folder: Path) -> Row:
    """Of whole processes."""
    from tests.benchmarks.batches import photo

    auto, size = ([] if name.endswith("-auto") else ["--precision", "fp32"]), 1.0
    threads, of, unit, target = 1, "cpu", "CPU s", ""
    older: list[object] = []
    if name.startswith(("png", "wall", "faults")):
        picture = folder / "512.png"
        photo(512, 512).save(picture)
        words: list[object] = [picture, "-s", 4, "-o", folder / "out.png", *auto]
        title, target = f"512x512 to x4 PNG, {name}", "0.44" if name == "png-auto" else "0.53"
        if name == "wall-auto":
            threads, of, unit, target = 2, "wall", "s on two cores", ""
        if name == "faults":
            of, unit, size, target = "faults", "minor faults/MP beyond 20x20's", 4.1879, "0.12"
    elif name == "jpeg-auto":
        picture = folder / "12MP.jpg"
        photo(3000, 4000).save(picture, quality=92)
        words, older = [picture, "-s", 2, "-o", folder / "out.jpg"], ["-m", "edsr-s-blend"]
        title, target = "12 MP JPEG to x2 JPEG", "0.36"
    else:
        (folder / "many").mkdir(exist_ok=True)
        large = photo(64, 64 + FEW)
        for i in range(FEW):
            large.crop((i, 0, i + 32, 32)).save(folder / "many" / f"{i}.png")
        words = [folder / "many", "-s", 2, "-o", f"{folder / 'out'}/"]
        title, of, unit, target = f"{FEW} files of 32x32 to x2", "wall", "s", "0.63"
        if name == "files-2":
            words, title, target = [*words, "--workers", 2], f"{title}, two workers", ""
        elif name == "files-cpu":
            of, unit, target = "cpu", "CPU s", ""
    cases = whole(against, [*words, *older], threads), whole(ROOT, words, threads)
    if name == "faults":
        photo(20, 20).save(folder / "20.png")
        small = [folder / "20.png", *words[1:]]
        cases = less(cases[0], whole(against, small)), less(cases[1], whole(ROOT, small))
    return Row(title, unit, target, of, size, *cases)


ENGINES = [f"x{scale}{kind}" for scale in ("4", "2", "1.5") for kind in ("", "-auto")]
FILES = ["png", "png-auto", "wall-auto", "faults", "jpeg-auto", "files", "files-cpu", "files-2"]
ROWS = [*ENGINES, *FILES, "lit", "linf"]


def measure(row: Row, repeat: int) -> None:
    """Print a row."""
    turns = [[getattr(once(), row.of) for once in (row.old, row.new)] for _ in range(repeat)]
    old, new = (statistics.median(each) / row.size for each in zip(*turns, strict=True))
    share = statistics.median(b / a for a, b in turns)
    goal = f"   (target {row.target})" if row.target else ""
    print(f"{row.title:42} {old:10.4g} -> {new:10.4g} {row.unit}: {share:.3f}{goal}", flush=True)


def main() -> None:
    """The rows asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--against", type=Path, required=True, metavar="CHECKOUT", help="an older version")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=ROWS, metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args()
    against = args.against.resolve()
    with tempfile.TemporaryDirectory() as temporary:
        for name in args.rows:
            if name in ENGINES:
                row = engine_row(name, against)
            elif name in FILES:
                row = file_row(name, against, Path(temporary))
            else:
                row = decoder_row(name)
            measure(row, 1 if name == "jpeg-auto" else args.repeat)


if __name__ == "__main__":
    main()
