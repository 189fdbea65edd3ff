"""Evaluation: how good models are, by named protocols, one row per picture.

The names below are loaded on first use: tables, statistics and published figures need no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from srcli.evaluate.cache import RowCache
    from srcli.evaluate.models import Draw, Model, Network, Result, distinct_names, open_model
    from srcli.evaluate.pictures import score_pictures
    from srcli.evaluate.ranks import Ranks, joined_ranks
    from srcli.evaluate.run import Evaluation, Failure, evaluate

_HOMES = {
    "Draw": "models",
    "Evaluation": "run",
    "Failure": "run",
    "Model": "models",
    "Network": "models",
    "Ranks": "ranks",
    "Result": "models",
    "RowCache": "cache",
    "distinct_names": "models",
    "evaluate": "run",
    "joined_ranks": "ranks",
    "open_model": "models",
    "score_pictures": "pictures",
}

__all__ = [
    "Draw",
    "Evaluation",
    "Failure",
    "Model",
    "Network",
    "Ranks",
    "Result",
    "RowCache",
    "distinct_names",
    "evaluate",
    "joined_ranks",
    "open_model",
    "score_pictures",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"srcli.evaluate.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'srcli.evaluate' has no attribute {name!r}")
