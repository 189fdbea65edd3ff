"""Throw damaged files at srcli, and count tracebacks, dead processes, hangs and memory.

    python tests/fuzz/run.py [--count 20000] [--kind png --kind tiff] [--first 0]

Mutant N of a kind is always the same file: `--kind png --first 1234 --count 1` repeats one, `--save FILE` writes it.
The kinds take turns in one process, which is replaced when it dies or hangs. An audit hook in it ends the process if a
file makes it start a program or open a socket. The exit code is 0 if nothing was found.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

HANG = 10.0  # seconds of the processor for one file
DEAD = 300.0  # seconds without a word; the machine may be busy
MEMORY = 1 << 30  # bytes resident, the interpreter and torch included
ADDRESSES = 24 << 30  # the machine itself shall survive
FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "socket.connect")


@dataclass
class Found:
    """What happened to the mutants: how many were tried and accepted, by kind, and what went wrong."""

    tried: Counter[str] = field(default_factory=Counter)
    accepted: Counter[str] = field(default_factory=Counter)
    slowest: tuple[float, str] = (0.0, "")
    peak: int = 0
    problems: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, problem: str, which: str) -> None:
        """One more problem."""
        self.problems[problem] += 1
        self.examples.setdefault(problem, which)


def turn(kinds: Sequence[str], number: int) -> tuple[str, int]:
    """The kind and the number within it of mutant `number` of several kinds that take turns."""
    return kinds[number % len(kinds)], number // len(kinds)


def serve(kinds: Sequence[str], first: int, last: int, pipe: Connection) -> None:
    """Try mutants [first, last) and send (accepted, problem, seconds, peak) for each."""
    os.environ["OMP_NUM_THREADS"] = "1"
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
    from tests.fuzz.mutants import seeds
    from tests.fuzz.targets import accepts, attempt

    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for kind in kinds:
            seeds(kind)
        accepts(
            "png", seeds("png")[0], Path(folder)
        )  # imports torch, which looks for its libraries by a program
        sys.addaudithook(_forbid)
        pipe.send(None)
        for number in range(first, last):
            started, accepted, problem = time.monotonic(), False, ""
            signal.setitimer(
                signal.ITIMER_PROF, HANG
            )  # nobody handles it: it ends the process, wherever it is
            try:
                accepted = attempt(*turn(kinds, number), Path(folder))
            except BaseException as error:
                frames = [f for f in traceback.extract_tb(error.__traceback__) if "srcli" in f.filename]
                where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
                problem = f"{type(error).__name__} at {where}: {str(error)[:200]}"
            signal.setitimer(signal.ITIMER_PROF, 0)
            pipe.send((accepted, problem, time.monotonic() - started, _peak()))


def _peak() -> int:
    """The most memory that this process held, in bytes; `ru_maxrss` would count that of the process which started it."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def _forbid(event: str, _arguments: tuple[object, ...]) -> None:
    if event in FORBIDDEN:
        os._exit(77)


def fuzz(kinds: Sequence[str], first: int, last: int, *, until: float = float("inf")) -> Found:
    """Try mutants [first, last) of kinds that take turns, or as many as fit in until the clock (monotonic) says so."""
    found, context = Found(), multiprocessing.get_context("spawn")
    number = first
    while number < last and time.monotonic() < until:
        ours, theirs = context.Pipe()
        process = context.Process(target=serve, args=(kinds, number, last, theirs), daemon=True)
        process.start()
        theirs.close()
        number = _listen(found, ours, process, kinds, number, last, until)
        process.kill()
        process.join()
    return found


def _listen(
    found: Found,
    pipe: Connection,
    process: object,
    kinds: Sequence[str],
    number: int,
    last: int,
    until: float,
) -> int:
    """The number to go on with."""
    if not pipe.poll(DEAD) or pipe.recv() is not None:
        raise RuntimeError("the process did not start")
    while number < last and time.monotonic() < until:
        kind, index = turn(kinds, number)
        which = f"--kind {kind} --first {index}"
        found.tried[kind] += 1
        number += 1
        if not pipe.poll(DEAD):
            found.add(f"hangs for {DEAD:g} s", which)
            return number
        try:
            accepted, problem, seconds, peak = pipe.recv()
        except EOFError:
            process.join()
            hangs = process.exitcode == -signal.SIGPROF
            found.add(f"takes {HANG:g} s" if hangs else f"dies with exit code {process.exitcode}", which)
            return number
        found.accepted[kind] += accepted
        found.slowest, found.peak = max(found.slowest, (seconds, which)), max(found.peak, peak)
        if problem:
            found.add(problem, which)
        if peak > MEMORY:
            found.add(f"takes more than {MEMORY >> 20} MiB", which)
            return number
    return number


def main() -> int:
    """Print a line per kind, and every problem with its first mutant."""
    from tests.fuzz.mutants import KINDS, PICTURES, mutant

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=20_000, help="mutants in all")
    parser.add_argument("--kind", action="append", choices=KINDS, help="pictures of every kind by default")
    parser.add_argument("--first", type=int, default=0, help="number of the first of each kind")
    parser.add_argument("--save", type=Path, help="write the first mutant here and stop")
    words = parser.parse_args()
    kinds = words.kind or PICTURES
    if words.save:
        words.save.write_bytes(mutant(kinds[0], words.first))
        return 0
    started, first = time.monotonic(), words.first * len(kinds)
    found = fuzz(kinds, first, first + words.count)
    for kind in kinds:
        print(f"{kind:12} {found.tried[kind]:7} tried, {found.accepted[kind]:6} accepted")
    for problem, count in found.problems.most_common():
        print(f"    {count} x {problem} ({found.examples[problem]})")
    print(
        f"{found.tried.total()} mutants, {found.problems.total()} problems, peak {found.peak >> 20} MiB, "
        f"slowest {found.slowest[0]:.2f} s ({found.slowest[1]}), {time.monotonic() - started:.0f} s"
    )
    return 1 if found.problems else 0


if __name__ == "__main__":
    sys.exit(main())
