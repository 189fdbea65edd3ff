"""Weights files: where they are, what they hold, and how published ones become ours.

`store` finds files and hashes them without torch, `checkpoint` reads and writes, `official` understands the files
that authors publish, `install` makes ours of them, `download` fetches them. No other module touches a checkpoint.
"""

from __future__ import annotations

from srcli.weights.checkpoint import Loaded, load, load_into, own_state, read, save
from srcli.weights.store import find, locate, resolve

__all__ = [
    "Loaded",
    "find",
    "load",
    "load_into",
    "locate",
    "own_state",
    "read",
    "resolve",
    "save",
]
