"""How batches and huge pictures behave: `python tests/benchmarks/batches.py huge|many|workers`.

huge      one gigapixel from 46 million pixels: peak resident memory, and the file read back by libvips.
many      a folder of 100,000 small files: time to the first result, memory from there on, and how right the time left was.
workers   many small pictures by one process with one thread, one with two, and two with one: pictures per second.

Run on an idle machine; everything is made in a temporary folder (--folder to choose, --keep to look at it).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from PIL import Image

ALARM = 20  # percent that the time left may be off


class Run:
    """A run of `srcli upscale`, watched from outside.

    Attributes:
        events: (seconds, line) of what it printed.
        memory: (seconds, MB) once a second.
        peak: MB.
    """

    def __init__(self, words: list[str], *, threads: int = 1, seconds: float = 1e9) -> None:
        self.events: list[tuple[float, str]] = []
        self.memory: list[tuple[float, int]] = []
        self.peak = 0
        began = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "srcli", "upscale", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        )
        reader = threading.Thread(target=self._read, args=(process, began))
        reader.start()
        while process.poll() is None:
            self._look(process.pid, time.monotonic() - began)
            if time.monotonic() - began > seconds:
                process.terminate()
            time.sleep(1)
        reader.join()
        self.seconds, self.code = time.monotonic() - began, process.returncode

    def _read(self, process: subprocess.Popen[str], began: float) -> None:
        self.events.extend((time.monotonic() - began, line.rstrip()) for line in process.stdout)

    def _look(self, pid: int, now: float) -> None:
        try:
            status = Path(f"/proc/{pid}/status").read_text("ascii").splitlines()
        except OSError:
            return
        known = dict(line.split(":", 1) for line in status if ":" in line)
        if "VmRSS" in known:
            self.memory.append((now, int(known["VmRSS"].split()[0]) // 1024))
            self.peak = int(known["VmHWM"].split()[0]) // 1024


def photo(height: int, width: int) -> Image.Image:
    """Noise of several sizes, which compresses like a photograph."""
    rng = np.random.default_rng(0)
    total = np.zeros((height, width, 3), np.float32)
    for size in (4, 16, 64, 256):
        noise = rng.random((height // size + 2, width // size + 2, 3), dtype=np.float32)
        for channel in range(3):
            large = Image.fromarray(noise[..., channel]).resize((width, height), Image.Resampling.BICUBIC)
            total[..., channel] += np.asarray(large) * size**0.5
    total -= total.min()
    return Image.fromarray((total / total.max() * 255).astype(np.uint8))


def huge(folder: Path, options: argparse.Namespace) -> None:
    photo(5552, 8288).save(folder / "in.jpg", quality=92)
    words = [
        str(folder / "in.jpg"),
        "--megapixels",
        options.megapixels,
        "-f",
        options.format,
        "--device",
        "cpu",
    ]
    run = Run([*words, "-o", str(folder / "out/"), "-m", options.model, "--progress", "plain"])
    print(f"exit code {run.code}, {run.seconds:.0f} s, peak resident memory {run.peak} MB")
    import pyvips

    (output,) = (folder / "out").iterdir()
    picture = pyvips.Image.new_from_file(str(output), access="sequential", fail_on="warning")
    print(f"{picture.width}x{picture.height}, mean {picture.avg():.2f}, {output.stat().st_size / 1e6:.0f} MB")


def many(folder: Path, options: argparse.Namespace) -> None:
    picture = photo(8, 8)
    for i in range(options.count):
        place = folder / "in" / f"{i // 1000:03d}" / f"{i:06d}.png"
        if i % 30_000 == 0:  # file systems limit the names of one file
            place.parent.mkdir(parents=True, exist_ok=True)
            picture.save(place)
            first = place
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            os.link(first, place)
    words = [str(folder / "in"), "-r", "-s", "2", "-m", options.model, "-o", str(folder / "out/")]
    run = Run([*words, "--device", "cpu", "--jsonl", "--progress", "json"], seconds=options.seconds)
    results = [now for now, line in run.events if line.startswith('{"input"')]
    after = [amount for now, amount in run.memory if now > results[0]]
    print(f"first of {options.count} results after {results[0]:.1f} s; {len(results)} in {run.seconds:.0f} s")
    print(f"resident memory from {min(after)} to {max(after)} MB")
    for now, line in run.events:
        event = json.loads(line) if line.startswith('{"event"') else {}
        if event.get("file", 0) >= options.count / 50:
            total = (options.count - event["file"]) * (results[-1] - now) / (len(results) - event["file"])
            off = 100 * (event["seconds_left"] / total - 1)
            print(
                f"after 2 %: {event['seconds_left']:.0f} s left were told, {total:.0f} s by the rate until the end"
            )
            print(f"{off:+.0f} %{'' if abs(off) <= ALARM else ': TOO FAR OFF'}")
            return
    print("2 % were not reached: give --seconds more, or --count less")


def workers(folder: Path, options: argparse.Namespace) -> None:
    (folder / "in").mkdir()
    whole = photo(960, 1280)
    for i in range(options.pictures):
        whole.crop((i, i, i + 200, i + 150)).save(folder / "in" / f"{i:03d}.png")
    base = [str(folder / "in"), "-s", "3", "-m", options.model, "--device", "cpu", "--overwrite", "--jsonl"]
    rates = {}
    for name, count, threads in (("1 x 1", 1, 1), ("1 x 2", 1, 2), ("2 x 1", 2, 1)):
        times = []
        for _ in range(options.repeat):
            run = Run([*base, "-o", str(folder / "out/"), "--workers", str(count)], threads=threads)
            ends = [now for now, line in run.events if line.startswith('{"input"')]
            times.append((len(ends) - count) / (ends[-1] - ends[count - 1]))  # without loading the network
        rates[name] = max(times)
        print(
            f"{name} (processes x threads): {rates[name]:.2f} pictures/s, {rates[name] / rates['1 x 1']:.2f}x"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("huge", "many", "workers"))
    parser.add_argument("--model", default="edsr-baseline-blend")
    parser.add_argument("--megapixels", default="1000")
    parser.add_argument("--format", default="png")
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--pictures", type=int, default=60)
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=options.folder, prefix="batches-"))
    try:
        {"huge": huge, "many": many, "workers": workers}[options.what](folder, options)
    finally:
        if not options.keep:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
