"""Rows kept from one run to the next, so that an evaluation can be stopped, continued and extended."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from srcli import __version__
from srcli.errors import ResourceError, UsageError
from srcli.evaluate.rows import Row
from srcli.files import atomic_write


def cache_folder() -> Path:
    """Where rows are kept: below `$SRCLI_CACHE_DIR` or the user's cache."""
    own = os.environ.get("SRCLI_CACHE_DIR")
    if own:
        return Path(own) / "eval"
    import platformdirs

    return Path(platformdirs.user_cache_dir("srcli", appauthor=False)) / "eval"


def row_key(*parts: object) -> str:
    """A name for everything that a row depends on; the program's version is one of the parts."""
    text = json.dumps([__version__, *map(str, parts)])
    return hashlib.blake2b(text.encode(), digest_size=20).hexdigest()


def digest(pixels: NDArray[np.uint8]) -> str:
    """A name for the pixels of a picture."""
    shape = repr(pixels.shape).encode()
    return hashlib.blake2b(shape + np.ascontiguousarray(pixels).data, digest_size=16).hexdigest()


class RowCache:
    """Rows in a folder, one small file each; a file that is damaged counts as absent."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or cache_folder()

    def get(self, key: str, metrics: Iterable[str]) -> Row | None:
        """The row with at least these metrics, in this order, or None."""
        row = self._read(key)
        wanted = list(metrics)
        if row is None or any(name not in row.metrics for name in wanted):
            return None
        return replace(row, metrics={name: row.metrics[name] for name in wanted})

    def put(self, key: str, row: Row) -> None:
        """Keep a row; metrics of an earlier one with the same key stay.

        A cache that cannot be written to (a full disk, a folder of somebody else) costs time, not results.
        """
        before = self._read(key)
        merged = {**(before.metrics if before else {}), **row.metrics}
        path = self._path(key)
        with suppress(ResourceError, OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as file:
                file.write(json.dumps(replace(row, metrics=merged).to_dict()).encode())

    def _read(self, key: str) -> Row | None:
        try:
            return Row.from_dict(json.loads(self._path(key).read_text("utf-8")))
        except (OSError, ValueError, AttributeError, UsageError):
            return None

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.json"
