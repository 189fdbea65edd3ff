"""Write reduced.json from the golden folder: `python -m tests.parity.reduce METHOD ...` (all in it by default).

Inputs and weights follow from seeds and names, so a handful of pixels, mean and standard deviation of the small
cases suffice to check a method without the folder.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from tests.parity.golden import read_golden, read_keys

REDUCED = Path(__file__).with_name("reduced.json")
PIXELS = 12
LARGEST = 18000  # samples of a case, to be quick
SEEDS = (0, 3, 7)  # of the LR inputs


def reduced(name: str) -> dict[str, Any]:
    """What test_reduced needs of a method."""
    keys, golden = read_keys(name), read_golden(name)
    entry = {key: keys.get(key, {}) for key in ("args", "gain_rules", "n_params", "weights_sha256")}
    grids = [
        tag for tag, case in golden.cases.items() if "target" in case
    ]  # scattered queries follow from no seed
    pictures = {
        array: tag for tag in grids for array in (f"pred_{tag}", f"pred_t0_{tag}") if array in golden.arrays
    }
    pictures = {array: tag for array, tag in pictures.items() if golden.arrays[array].size <= LARGEST}
    tags = list(dict.fromkeys(pictures.values()))
    entry["cases"] = {tag: golden.cases[tag] for tag in tags}
    entry["inputs"], entry["outputs"] = {}, {}
    for array, values in golden.arrays.items():
        if array.startswith("lr"):
            entry["inputs"][array] = {"seed": seed_of(values), "shape": values.shape}
        elif not golden.cases or array in pictures:
            index = np.random.default_rng(0).choice(values.size, PIXELS, replace=False)
            picked = [float(f"{value:.9g}") for value in values.reshape(-1)[index]]
            entry["outputs"][array] = {
                "index": index.tolist(),
                "value": picked,
                "mean": float(values.mean(dtype=np.float64)),
                "std": float(values.std(dtype=np.float64)),
            }
    return entry


def seed_of(values: np.ndarray) -> int:
    """The seed that an LR input follows from."""
    drawn = {seed: np.random.default_rng(seed).random(values.shape) for seed in SEEDS}
    return next(seed for seed, again in drawn.items() if (again.astype(np.float32) == values).all())


def main(names: list[str]) -> None:
    """Replace the entries `names`, all by default."""
    content = json.loads(REDUCED.read_text())
    for name in names or list(content["methods"]):
        content["methods"][name] = reduced(name)
    lines = ",\n".join(
        f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in content["methods"].items()
    )
    provenance = json.dumps(content["provenance"])
    REDUCED.write_text(f'{{"provenance": {provenance},\n"methods": {{\n{lines}\n}}}}\n')


if __name__ == "__main__":
    main(sys.argv[1:])
