"""Evaluation: how good models are, by named protocols, one row per picture: `evaluate`, and `means` of its rows."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from srcli.evaluate.rows import means
    from srcli.evaluate.run import evaluate

_PUBLIC = {"evaluate": "srcli.evaluate.run", "means": "srcli.evaluate.rows"}

__all__ = ["evaluate", "means"]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:  # on first use: the names of commands are listed without torch
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'srcli.evaluate' has no attribute {name!r}")
