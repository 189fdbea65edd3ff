"""libvips within our rules: files are read once, from top to bottom; nothing is cached; errors are ours."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np

from srcli.image.quantise import Samples
from srcli.image.source import Source

LOADERS = {"png": "png", "jpg": "jpeg", "webp": "webp", "avif": "heif", "tiff": "tiff", "gif": "gif"}
DTYPES = {
    "uchar": "u1",
    "char": "i1",
    "ushort": "u2",
    "short": "i2",
    "uint": "u4",
    "int": "i4",
    "float": "f4",
}
THREADS = 4
BAND_BYTES = 8 << 20


@cache
def libvips() -> Any:
    """The module pyvips, imported by the first picture that needs it, without its cache of operations."""
    import pyvips

    pyvips.cache_set_max(0)
    pyvips.concurrency_set(min(os.cpu_count() or 1, THREADS))
    return pyvips


def decode_rows(source: Source, page: int = 0) -> Iterator[Samples]:
    """Samples (n, w, channels) from top to bottom as the file stores them, palettes expanded.

    Args:
        source: of a format in `LOADERS`.
        page: of a TIFF.

    Raises:
        ValueError: libvips cannot read it: it is cut off, damaged, or of a kind it does not know.
    """
    vips = libvips()
    try:
        picture, dtype = _opened(source, page)
        region = vips.Region.new(picture)  # row by row in this thread: several would ask out of order
        step = max(1, BAND_BYTES // (picture.width * picture.bands * dtype.itemsize))
        for top in range(0, picture.height, step):
            rows = min(step, picture.height - top)
            data = region.fetch(0, top, picture.width, rows)
            yield np.frombuffer(data, dtype).reshape(rows, picture.width, picture.bands)
    except vips.Error as error:
        raise ValueError(reason_of(error)) from error


def decode_whole(source: Source, page: int = 0) -> Samples:
    """As `decode_rows`, all at once: (h, w, channels)."""
    try:
        picture, dtype = _opened(source, page)
        shape = picture.height, picture.width, picture.bands
        return np.frombuffer(picture.write_to_memory(), dtype).reshape(shape)
    except libvips().Error as error:
        raise ValueError(reason_of(error)) from error


def reason_of(error: Exception) -> str:
    """The last of the lines that libvips has to say."""
    return str(error).strip().splitlines()[-1].strip()


def _opened(source: Source, page: int) -> tuple[Any, np.dtype[Any]]:
    """An image whose header is read, and the type of its samples."""
    vips = libvips()
    if isinstance(source.origin, bytes):
        origin = vips.Source.new_from_memory(source.origin)
    else:
        origin = vips.Source.new_from_file(os.fsencode(source.origin))
    load = getattr(vips.Image, f"{LOADERS[source.format]}load_source")
    options = {"page": page} if source.format == "tiff" else {}
    # Stricter than "truncated": libtiff leaves black what it has no decoder for.
    picture = load(origin, access="sequential", fail_on="error", **options)
    if picture.format not in DTYPES:
        raise ValueError(f"samples of type {picture.format}")
    return picture, np.dtype(DTYPES[picture.format])
