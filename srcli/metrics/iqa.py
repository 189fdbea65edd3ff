"""Metrics without reference that the package pyiqa computes: MUSIQ, CLIPIQA, MANIQA.

It is an extra of its own, because its licence (PolyForm Noncommercial 1.0.0) forbids commercial use; it fetches its
networks itself, on first use.
"""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srcli.errors import ModelError
from srcli.metrics.backbones import import_problem

NOTICE = "computed by pyiqa, under PolyForm Noncommercial 1.0.0: not for commercial use"


def missing(*, asked: bool = False) -> str | None:
    """Why these metrics cannot be measured; pyiqa is imported (seconds) only if a user `asked` for one."""
    if not asked:
        import importlib.util

        here = importlib.util.find_spec("pyiqa") is not None
        return None if here else 'it needs the extra: pip install "srcli[iqa]"'
    problem = import_problem("pyiqa")
    return None if problem is None else problem.replace("pip install pyiqa", 'pip install "srcli[iqa]"')


def iqa(rgb: NDArray[np.floating], name: str) -> float:
    """The value that pyiqa gives (h, w, 3) in [0, 1], as it is; ModelError without pyiqa or its network."""
    import torch

    x = torch.tensor(rgb, dtype=torch.float32).permute(2, 0, 1).unsqueeze(0)
    with torch.inference_mode():
        return float(_network(name)(x))


@lru_cache(maxsize=4)
def _network(name: str) -> Any:
    if problem := missing(asked=True):
        raise ModelError(f"{name}: {problem}")
    import pyiqa

    try:
        return pyiqa.create_metric(name, device="cpu")
    except OSError as error:  # it downloads here
        raise ModelError(f"pyiqa cannot get the network of {name}: {error}.") from error
