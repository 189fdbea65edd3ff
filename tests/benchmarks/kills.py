"""kill -9 at 50 random moments of a batch of 200 files, the same command again each time.

    python tests/benchmarks/kills.py [--kills 50] [--files 200] [--workers 1] [--seed 0]

Every output that is there must be complete and right after every kill, what was finished must not be made again, and
after the last, undisturbed run nothing may be left but the outputs.
"""

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


def main() -> None:
    """Print a line per kill and the sums."""
    import torch

    from srcli.config.presets import parse_preset
    from srcli.weights.build import build
    from srcli.weights.checkpoint import save
    from tests.cli.test_upscale_killed import killed_again_and_again
    from tests.fuzz.mutants import PRESET

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    words = parser.parse_args()
    torch.manual_seed(0)
    preset = parse_preset(PRESET, name="tiny")
    with tempfile.TemporaryDirectory() as name:
        model = Path(name, "tiny.safetensors")
        save(model, build(preset), preset)
        middle, finished, left = killed_again_and_again(
            Path(name), model, words.kills, words.files, workers=words.workers, seed=words.seed, say=print
        )
    print(
        f"{words.kills} kills, {middle} of them in the middle of work, {finished} batches finished; all right."
    )
    print(f"Kills left {left} temporary files, which the runs after them removed.")


if __name__ == "__main__":
    main()
