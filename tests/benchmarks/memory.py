"""What runs are said to take and what they take, and what a preset's [cost] says of memory, fitted to that.

    python tests/benchmarks/memory.py rlfn-native real-best [--sizes 450x300 900x600 --scale 4]

Sizes are to be small enough for one tile. Memory is that of whole processes, at most.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from srcli.batch.loading import PARAMETER, Model, network_memory
from srcli.config.presets import load_preset
from srcli.geometry import Size
from tests.benchmarks.batches import photo

WATCHED = """if True:
    import resource, subprocess, sys
    subprocess.run(sys.argv[1:])
    print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def outcome(words: list[str]) -> tuple[dict, int]:
    """The record of a run of `srcli upscale`, and the process's bytes at most."""
    command = [sys.executable, "-m", "srcli", "upscale", *words, "-q", "--json", "--device", "cpu"]
    # A process inherits the peak of the one that starts it, so a small one does that.
    *said, peak = subprocess.check_output([sys.executable, "-c", WATCHED, *command], text=True).splitlines()
    return json.loads("\n".join(said)), int(peak) * 1024


def main() -> None:
    """A line for each size, and one for the preset."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+")
    parser.add_argument("--sizes", nargs="+", default=["450x300", "900x600"], metavar="WxH")
    parser.add_argument("--scale", default="4")
    args = parser.parse_args()
    for name in args.models:
        model, held = Model(load_preset(name)), []
        for text in args.sizes:
            width, height = map(int, text.split("x"))
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, "photo.png")
                photo(height, width).save(path)
                words = [str(path), "-s", args.scale, "-m", name]
                said, peak = outcome([*words, "--dry-run"])[0]["memory"], outcome(words)[1]
            beside = said - network_memory(model, Size(height, width), None)
            held.append((width * height, peak - beside - PARAMETER * (model.preset.params or 0)))
            print(f"{name} {text}: said {said / 1e6:.0f} MB, taken {peak / 1e6:.0f}", flush=True)
        each, fixed = np.polyfit(*zip(*held, strict=True), 1)
        print(f"{name}: memory = [{fixed / 1e6:.0f}, {each:.0f}]", flush=True)


if __name__ == "__main__":
    main()
