"""Peak memory and CPU time of writing large pictures whose rows come in bands, each format in its own process.

    python -m tests.benchmarks.gigapixel [FORMAT:MEGAPIXELS:LEVEL ...]

The picture is a smooth one with noise of a few levels, 10,000 pixels wide; memory is what the process takes beyond
what it had with everything imported, and the bytes that the file holds go to a temporary one.
"""

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

import numpy as np

WIDTH, ROWS = 10_000, 100
RUNS = ["png:1000:6", "png:1000:1", "tiff:1000:1", "tiff:1500:0", "jpg:100:6", "webp:100:6", "avif:20:6"]


def bands(height: int) -> Iterator[np.ndarray]:
    y, x = np.mgrid[:ROWS, :WIDTH]
    smooth = np.stack([128 + 60 * np.sin(x / (37 + 5 * c)) * np.cos(y / 23) for c in range(3)], -1)
    first = (smooth + np.random.default_rng(0).integers(-6, 7, (ROWS, WIDTH, 3))).astype(np.uint8)
    for i in range(height // ROWS):
        yield np.roll(first, 37 * i, axis=1)


def write(name: str, megapixels: int, level: int) -> None:
    import PIL.Image

    from srcli.image.read import Image
    from srcli.image.vips import libvips
    from srcli.image.write import plan_output

    assert PIL.Image
    libvips()
    height = megapixels * 10**6 // WIDTH
    rows = bands(height)
    first = next(rows)  # what makes the picture is not counted
    image = Image(first)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    plan = plan_output(image, (height, WIDTH), output_format=name, compress_level=level)
    with tempfile.TemporaryFile() as file:
        started = time.process_time()
        plan.write(file, bands(height))
        seconds = time.process_time() - started
        size = file.seek(0, 2)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(
        f"{name:5} {megapixels:5} {level:5} {peak / 1024:8.0f} {seconds / megapixels:10.3f} {size / 2**20:9.0f}"
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["one"]:
        write(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    else:
        print("format   MP level peak MiB  CPU s/MP  file MiB", flush=True)
        for run in sys.argv[1:] or RUNS:
            subprocess.run(
                [sys.executable, "-m", "tests.benchmarks.gigapixel", "one", *run.split(":")], check=True
            )
