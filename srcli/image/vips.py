"""libvips within our rules: files are read once, from top to bottom, and written as rows come; nothing is cached."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from queue import Full, Queue
from threading import Event
from typing import Any

import numpy as np

from srcli.errors import ResourceError
from srcli.image.png import encode_png
from srcli.image.quantise import Samples
from srcli.image.raster import Raster
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
        return to_samples(_opened(source, page)[0])
    except libvips().Error as error:
        raise ValueError(reason_of(error)) from error


def from_samples(samples: Samples, interpretation: str, icc: bytes | None) -> Any:
    """An image of samples (h, w, channels), with a profile."""
    height, width, channels = samples.shape
    form = next(name for name, code in DTYPES.items() if np.dtype(code) == samples.dtype)
    data = np.ascontiguousarray(samples).tobytes()
    picture = libvips().Image.new_from_memory(data, width, height, channels, form)
    picture = picture.copy(interpretation=interpretation)
    return picture if icc is None else with_profile(picture, icc)


def with_profile(picture: Any, icc: bytes) -> Any:
    """The image with an ICC profile."""
    picture = picture.copy()
    picture.set_type(libvips().GValue.blob_type, "icc-profile-data", icc)
    return picture


def to_samples(picture: Any) -> Samples:
    """Samples (h, w, channels) of an image."""
    shape = picture.height, picture.width, picture.bands
    return np.frombuffer(picture.write_to_memory(), DTYPES[picture.format]).reshape(shape)


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


def encode_rows(
    raster: Raster,
    saver: str,
    write: Callable[[bytes], Any],
    *,
    icc: bytes | None = None,
    exif: bytes | None = None,
    xmp: bytes | None = None,
    cmyk: bool = False,
    **options: Any,
) -> None:
    """Encode a picture while its rows come: they are asked for in this thread, and encoded in another.

    libvips takes rows from a file format only: they go to it as PNG without compression.

    Args:
        raster: uint8 or uint16.
        saver: jpeg, webp or heif.
        write: takes the bytes of the file, in pieces from front to back.
        icc: a profile to embed.
        exif: without the prefix of JPEG; libvips writes it anew.
        xmp: a packet.
        cmyk: whether the four channels are inks.
        **options: of libvips' saver.

    Raises:
        ResourceError: the encoder refuses the picture. What the rows and `write` raise passes through.
    """
    vips, feed, failed = libvips(), _Feed(), list[BaseException]()

    def take(data: Any) -> int:
        try:
            write(bytes(data))
        except BaseException as error:  # nothing may leave a function that libvips calls
            failed.append(error)
            return -1
        return len(data)

    def run() -> None:
        source, target = vips.SourceCustom(), vips.TargetCustom()
        source.on_read(feed.read)
        target.on_write(take)
        try:
            picture = vips.Image.pngload_source(source, access="sequential", fail_on="error").copy()
            if cmyk:
                picture = picture.copy(interpretation="cmyk")
            keep = ["icc"]  # or EXIF would be made of nothing
            for name, data in (("icc-profile", icc), ("exif", exif and b"Exif\0\0" + exif), ("xmp", xmp)):
                if data is not None:
                    picture.set_type(vips.GValue.blob_type, f"{name}-data", data)
                    keep.append(name.removesuffix("-profile"))
            getattr(picture, f"{saver}save_target")(target, keep="|".join(keep), **options)
        finally:
            feed.closed.set()

    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(run)
        try:
            with suppress(_ClosedError):
                encode_png(feed, raster, level=0)  # type: ignore[arg-type]  # it writes, and does nothing else
        finally:
            feed.end()
        try:
            job.result()
        except vips.Error as error:
            if failed:
                raise failed[0] from None
            raise ResourceError(
                f"the {saver} encoder failed: {reason_of(error)}.", hint="Try --format png."
            ) from error


class _ClosedError(Exception):
    """Nobody reads on."""


class _Feed:
    """A stream that one thread writes and another reads, a few pieces behind."""

    def __init__(self) -> None:
        self.closed = Event()
        self._pieces: Queue[bytes] = Queue(4)
        self._rest = memoryview(b"")

    def write(self, data: bytes) -> None:
        while not self.closed.is_set():
            try:
                return self._pieces.put(data, timeout=0.2)
            except Full:
                pass
        raise _ClosedError

    def writelines(self, pieces: Iterator[bytes]) -> None:
        for piece in pieces:
            self.write(piece)

    def end(self) -> None:
        """What was written is all, or as far as it came."""
        with suppress(_ClosedError):
            self.write(b"")

    def read(self, most: int) -> bytes:
        if not self._rest:
            self._rest = memoryview(self._pieces.get())
            if not self._rest:
                self._pieces.put(b"")  # asked again, it says so again
        piece, self._rest = self._rest[:most], self._rest[most:]
        return bytes(piece)
