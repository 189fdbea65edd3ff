"""Throw damaged files at srcli, and count tracebacks, dead processes, hangs and memory.

    python tests/fuzz/run.py [--count 100000] [--kind png --kind tiff] [--first 0]

Mutant N of a kind is always the same file: `--kind png --first 1234 --count 1` repeats one, `--save FILE` writes it.
Every kind has a process of its own, which is replaced when it dies or hangs. An audit hook in it ends the process if a
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
    """What happened to the mutants of one kind."""

    kind: str
    tried: int = 0
    accepted: int = 0
    slowest: tuple[float, int] = (0.0, 0)
    peak: int = 0
    problems: Counter[str] = field(default_factory=Counter)
    examples: dict[str, int] = field(default_factory=dict)

    def add(self, problem: str, number: int) -> None:
        """One more problem."""
        self.problems[problem] += 1
        self.examples.setdefault(problem, number)


def serve(kind: str, first: int, last: int, pipe: Connection) -> None:
    """Try mutants [first, last) and send (number, accepted, problem, seconds, peak) for each."""
    os.environ["OMP_NUM_THREADS"] = "1"
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
    from tests.fuzz.mutants import seeds
    from tests.fuzz.targets import attempt

    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        seeds(kind)
        sys.addaudithook(_forbid)
        pipe.send(None)
        for number in range(first, last):
            started, accepted, problem = time.monotonic(), False, ""
            signal.setitimer(
                signal.ITIMER_PROF, HANG
            )  # nobody handles it: it ends the process, wherever it is
            try:
                accepted = attempt(kind, number, Path(folder))
            except BaseException as error:
                frames = [f for f in traceback.extract_tb(error.__traceback__) if "srcli" in f.filename]
                where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
                problem = f"{type(error).__name__} at {where}: {str(error)[:80]}"
            signal.setitimer(signal.ITIMER_PROF, 0)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            pipe.send((number, accepted, problem, time.monotonic() - started, peak))


def _forbid(event: str, _arguments: tuple[object, ...]) -> None:
    if event in FORBIDDEN:
        os._exit(77)


def fuzz(kind: str, first: int, last: int, *, until: float = float("inf")) -> Found:
    """Try mutants [first, last) of a kind, or as many as fit in until the clock (monotonic) says `until`."""
    found, context = Found(kind), multiprocessing.get_context("spawn")
    number = first
    while number < last and time.monotonic() < until:
        ours, theirs = context.Pipe()
        process = context.Process(target=serve, args=(kind, number, last, theirs), daemon=True)
        process.start()
        theirs.close()
        number = _listen(found, ours, process, number, until)
        process.kill()
        process.join()
    return found


def _listen(found: Found, pipe: Connection, process: object, number: int, until: float) -> int:
    """The number to go on with."""
    if not pipe.poll(120) or pipe.recv() is not None:
        raise RuntimeError("the process did not start")
    while time.monotonic() < until:
        if not pipe.poll(DEAD):
            found.add(f"hangs for {DEAD:g} s", number)
            found.tried += 1
            return number + 1
        try:
            number, accepted, problem, seconds, peak = pipe.recv()
        except EOFError:
            process.join()
            if process.exitcode == 0:  # it has done all
                return 1 << 62
            hangs = process.exitcode == -signal.SIGPROF
            found.add(f"takes {HANG:g} s" if hangs else f"dies with exit code {process.exitcode}", number)
            found.tried += 1
            return number + 1
        found.tried += 1
        found.accepted += accepted
        found.slowest, found.peak = max(found.slowest, (seconds, number)), max(found.peak, peak)
        if problem:
            found.add(problem, number)
        number += 1
        if peak > MEMORY:
            found.add(f"takes more than {MEMORY >> 20} MiB", number - 1)
            return number
    return number


def main() -> int:
    """Print a line per kind, and every problem with the number of its first mutant."""
    from tests.fuzz.mutants import KINDS, mutant

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=100_000, help="mutants in all")
    parser.add_argument("--kind", action="append", choices=KINDS)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--save", type=Path, help="write the first mutant here and stop")
    words = parser.parse_args()
    kinds = words.kind or KINDS
    if words.save:
        words.save.write_bytes(mutant(kinds[0], words.first))
        return 0
    each, bad, total = -(-words.count // len(kinds)), 0, 0
    for kind in kinds:
        started = time.monotonic()
        found = fuzz(kind, words.first, words.first + each)
        total += found.tried
        print(
            f"{kind:12} {found.tried:7} tried, {found.accepted:6} accepted, "
            f"slowest {found.slowest[0]:5.2f} s (--first {found.slowest[1]}), "
            f"peak {found.peak >> 20:5} MiB, {sum(found.problems.values())} problems, "
            f"{time.monotonic() - started:.0f} s",
            flush=True,
        )
        for problem, count in found.problems.most_common():
            print(f"    {count} x {problem} (--kind {kind} --first {found.examples[problem]})", flush=True)
        bad += sum(found.problems.values())
    print(f"{total} mutants, {bad} problems", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
