"""Evaluation: how good models are, by named protocols, one row per picture."""

from __future__ import annotations

from srcli.evaluate.cache import RowCache
from srcli.evaluate.models import Draw, Model, Network, Result, distinct_names, open_model
from srcli.evaluate.ranks import Ranks, joined_ranks
from srcli.evaluate.run import Evaluation, Failure, evaluate, score_pictures

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
