"""Reading and writing by libvips: files are read once from top to bottom and written as rows come, without its cache."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import numpy as np

from srcli.errors import ResourceError
from srcli.image.png import encode_png
from srcli.image.samples import Raster, Samples
from srcli.image.source import Source

LOADERS = {"png": "png", "jpg": "jpeg", "webp": "webp", "avif": "heif", "tiff": "tiff"}
INTEGERS = {"uchar": "u1", "char": "i1", "ushort": "u2", "short": "i2", "uint": "u4", "int": "i4"}
DTYPES = INTEGERS | {"float": "f4"}
THREADS = 4
BAND_BYTES = 8 << 20


@cache
def libvips() -> Any:
    """The module pyvips, imported by the first picture that needs it, without its cache of operations."""
    import pyvips

    pyvips.cache_set_max(0)
    pyvips.concurrency_set(min(os.cpu_count() or 1, THREADS))
    return pyvips


def reason_of(error: Exception) -> str:
    """The last line of a message of libvips."""
    return str(error).strip().splitlines()[-1].strip()


@contextmanager
def _opened(source: Source, page: int) -> Iterator[Any]:
    """An image whose header is read; what libvips refuses inside is a ValueError."""
    vips = libvips()
    try:
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
        yield picture
    except vips.Error as error:
        raise ValueError(reason_of(error)) from error


def decode_rows(source: Source, page: int = 0, most: int = BAND_BYTES) -> Iterator[Samples]:
    """Samples (n, w, channels) from top to bottom as the file stores them, palettes expanded.

    Args:
        source: of a format in `LOADERS`.
        page: of a TIFF.
        most: bytes of rows at once.

    Raises:
        ValueError: libvips cannot read it: it is cut off, damaged, or of a kind it does not know.
    """
    with _opened(source, page) as picture:
        region = libvips().Region.new(picture)  # rows in order from this thread, as sequential access needs
        dtype, row = np.dtype(DTYPES[picture.format]), (picture.width, picture.bands)
        step = max(1, min(most, BAND_BYTES) // (row[0] * row[1] * dtype.itemsize))
        for top in range(0, picture.height, step):
            rows = min(step, picture.height - top)
            yield np.frombuffer(region.fetch(0, top, row[0], rows), dtype).reshape(rows, *row)


def decode_whole(source: Source, page: int = 0) -> Samples:
    """As `decode_rows`, all at once: (h, w, channels)."""
    with _opened(source, page) as picture:
        return to_samples(picture)


def to_samples(picture: Any) -> Samples:
    """Samples (h, w, channels) of an image."""
    return np.atleast_3d(picture.numpy())


def embed(picture: Any, about: dict[str, bytes | None]) -> list[str]:
    """Give an image of one's own its "icc-profile", "exif" and "xmp"; the kinds that its file is to keep."""
    keep = ["icc"]  # without a list libvips would write an EXIF block of its own
    for name, data in about.items():
        if data is not None:
            picture.set_type(libvips().GValue.blob_type, f"{name}-data", data)
            keep.append(name.removesuffix("-profile"))
    return keep


def encode_rows(
    raster: Raster,
    saver: str,
    write: Callable[[bytes], Any],
    *,
    about: dict[str, bytes | None] | None = None,
    cmyk: bool = False,
    **options: Any,
) -> None:
    """Encode a picture while its rows come, in another thread; libvips gets them through a pipe, as PNG without compression.

    Args:
        raster: uint8 or uint16.
        saver: jpeg, webp or heif.
        write: takes the bytes of the file, in pieces from front to back.
        about: icc-profile, exif (libvips writes it anew) and xmp to embed.
        cmyk: whether the four channels are inks.
        **options: of libvips' saver.

    Raises:
        ResourceError: the encoder refuses the picture. What the rows and `write` raise passes through.
    """
    vips, failed = libvips(), list[BaseException]()
    reading, writing = os.pipe()

    def take(data: Any) -> int:
        try:
            write(bytes(data))
        except BaseException as error:  # exceptions cannot pass through libvips, which calls this
            failed.append(error)
            return -1
        return len(data)

    def run() -> None:
        source, target = vips.SourceCustom(), vips.TargetCustom()
        source.on_read(lambda most: os.read(reading, most))
        target.on_write(take)
        try:
            picture = vips.Image.pngload_source(source, access="sequential", fail_on="error").copy()
            picture = picture.copy(interpretation="cmyk") if cmyk else picture
            keep = embed(picture, about or {})
            getattr(picture, f"{saver}save_target")(target, keep="|".join(keep), **options)
        finally:
            os.close(reading)

    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(run)
        try:
            encode_png(partial(_feed, writing), raster, level=0)
        except _ClosedError:
            pass  # the saver has ended early; its error, raised below, gives the reason
        finally:
            os.close(writing)
        try:
            job.result()
        except vips.Error as error:
            if failed:
                raise failed[0] from None
            reason = f"the {saver} encoder failed: {reason_of(error)}."
            raise ResourceError(reason, hint="Try --format png.") from error


class _ClosedError(Exception):
    """Nobody reads on."""


def _feed(pipe: int, data: bytes) -> None:
    rest = memoryview(data)
    try:
        while rest:
            rest = rest[os.write(pipe, rest) :]
    except OSError as error:
        raise _ClosedError from error
