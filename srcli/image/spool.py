"""Rows that wait for others: in memory where they are few, else in a file without a name."""

from __future__ import annotations

import tempfile
import threading
import weakref
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from srcli.files import write_error

IN_MEMORY = 256 << 20  # bytes


class Spool:
    """An array that is filled from top to bottom and read in strips.

    Args:
        shape: (H, W) or (H, W, channels).
        dtype: of the samples.
        folder: on whose disk large ones are kept; None for the system's place.
        in_memory: bytes up to which it is kept in memory.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        folder: Path | None,
        *,
        in_memory: int = IN_MEMORY,
    ) -> None:
        self.shape = shape
        self.dtype = dtype
        self.folder = folder
        self._row = int(np.prod(shape[1:])) * dtype.itemsize
        self._filled = 0
        self._rows: NDArray[Any] | None = None
        self._file: BinaryIO | None = None
        self._lock = threading.Lock()
        if self._row * shape[0] <= in_memory:
            self._rows = np.empty(shape, dtype)
            return
        try:
            self._file = tempfile.TemporaryFile(dir=folder, prefix=".srcli-", buffering=0)  # noqa: SIM115
        except OSError as error:
            raise write_error(folder or tempfile.gettempdir(), error) from error
        weakref.finalize(self, self._file.close)

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        """Rows of a slice without a step, like an array's."""
        top, bottom, _ = rows.indices(self.shape[0])
        return self.read(top, bottom)

    def append(self, rows: NDArray[Any]) -> None:
        """The next rows.

        Raises:
            ResourceError: the disk is full.
        """
        top, self._filled = self._filled, self._filled + len(rows)
        if self._rows is not None:
            self._rows[top : self._filled] = rows
            return
        assert self._file is not None
        data = np.ascontiguousarray(rows, self.dtype).data.cast("B")
        try:
            with self._lock:
                self._file.seek(top * self._row)
                while data:
                    data = data[self._file.write(data) :]
        except OSError as error:
            raise write_error(self.folder or tempfile.gettempdir(), error) from error

    def read(self, top: int, bottom: int) -> NDArray[Any]:
        """Rows [top, bottom)."""
        if self._rows is not None:
            return self._rows[top:bottom]
        assert self._file is not None
        rows = np.empty((bottom - top, *self.shape[1:]), self.dtype)
        data = rows.data.cast("B")
        with self._lock:
            self._file.seek(top * self._row)
            while data:
                count = self._file.readinto(data)  # type: ignore[attr-defined]  # a raw file
                assert count, "rows are read that were not written"
                data = data[count:]
        return rows
