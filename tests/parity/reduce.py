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


def reduced(name: str, seeds: dict[str, int]) -> dict[str, Any]:
    """What test_reduced needs of a method; `seeds` names the generator of each input array."""
    keys, golden = read_keys(name), read_golden(name)
    entry = {key: keys.get(key, {}) for key in ("args", "gain_rules", "n_params", "weights_sha256")}
    tags = [tag for tag in golden.cases if golden.arrays[f"pred_{tag}"].size <= LARGEST]
    entry["cases"] = {tag: golden.cases[tag] for tag in tags}
    entry["inputs"], entry["outputs"] = {}, {}
    for array, values in golden.arrays.items():
        if array in seeds:
            again = np.random.default_rng(seeds[array]).random(values.shape).astype(np.float32)
            assert (again == values).all(), f"{name}: {array} does not follow from seed {seeds[array]}"
            entry["inputs"][array] = {"seed": seeds[array], "shape": values.shape}
        elif not golden.cases or array.removeprefix("pred_") in tags:
            index = np.random.default_rng(0).choice(values.size, PIXELS, replace=False)
            picked = [float(f"{value:.9g}") for value in values.reshape(-1)[index]]
            entry["outputs"][array] = {
                "index": index.tolist(),
                "value": picked,
                "mean": float(values.mean(dtype=np.float64)),
                "std": float(values.std(dtype=np.float64)),
            }
    return entry


def main(names: list[str]) -> None:
    """Replace the entries `names`, all by default."""
    seeds = {"lr": 0, "lr_small": 3, "lr_tiny": 7, "lr_odd": 7}
    content = json.loads(REDUCED.read_text())
    for name in names or list(content["methods"]):
        content["methods"][name] = reduced(name, seeds)
    lines = ",\n".join(
        f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in content["methods"].items()
    )
    provenance = json.dumps(content["provenance"])
    REDUCED.write_text(f'{{"provenance": {provenance},\n"methods": {{\n{lines}\n}}}}\n')


if __name__ == "__main__":
    main(sys.argv[1:])
