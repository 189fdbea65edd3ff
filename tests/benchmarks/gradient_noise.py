"""How noisy one step's gradient is, for several ways to spend the same arithmetic: patches, samples, queries.

    python tests/benchmarks/gradient_noise.py --data photos/ [--recipe edsr-baseline-blend] [--init FILE]
        [--cases 48x16x2304,32x36x1536,..] [--steps 8] [--threads 1]

A case is the side of the LR patches, samples of a step, and queries of a sample. The noise is the variance of the
gradient over independent steps, summed over all parameters; once the loss falls slowly, it is what the length of a run
is spent on, and noise times seconds says what a case costs for the same progress. Both are given relative to the first
case. Weights do not move; use trained ones, because untrained networks have gradients of another kind.
"""

import argparse
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
CASES = "48x16x2304,48x16x9216,48x32x2304,32x36x1536,24x64x576"


def measure(options: argparse.Namespace, case: str) -> tuple[float, float]:
    """Variance of the gradient, and seconds of a step."""
    import torch

    from srcli.processes import Ranks
    from srcli.train.recipe import find_recipe, read_recipe
    from srcli.train.run import prepare

    side, batch, queries = case.split("x")
    still = {"optim.lr": "1e-30", "optim.lr_end": "1e-30", "optim.clip": "0"}  # and the gradient as it is
    recipe = read_recipe(
        find_recipe(options.recipe),
        still | {"data.patch": side, "optim.batch": batch, "data.queries": queries},
    )
    run = prepare(
        recipe, options.data, Path("nowhere"), torch.device("cpu"), Ranks(),
        init=options.init, resume="no", notify=lambda _line: None, force=True,
    )  # fmt: skip
    parameters, rows, begin = run.trainer.parameters, [], 0.0
    for step in range(options.steps + 1):
        if step == 1:  # the first one warms up
            rows, begin = [], time.perf_counter()
        run.trainer.train_step(*run.loader.step(step))
        rows.append(torch.cat([p.grad.flatten() for p in parameters if p.grad is not None]))
    seconds = (time.perf_counter() - begin) / options.steps
    return float(torch.stack(rows).var(0).sum()), seconds


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, action="append", required=True)
    parser.add_argument("--recipe", default="edsr-baseline-blend")
    parser.add_argument("--init", type=Path)
    parser.add_argument("--cases", default=CASES)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    if options.steps < 2:
        parser.error("--steps: a variance needs two")
    import torch

    torch.set_num_threads(options.threads)
    print("| patch x samples x queries | noise | seconds | noise x seconds |\n|---|---|---|---|", flush=True)
    first: tuple[float, float] | None = None
    for case in options.cases.split(","):
        found = measure(options, case)
        first = first or found
        noise, seconds = found[0] / first[0], found[1] / first[1]
        print(f"| {case} | {noise:.2f} | {seconds:.2f} | {noise * seconds:.2f} |", flush=True)
