"""Pillow within our rules: our pixel limit instead of its own, no warnings, one kind of error."""

from __future__ import annotations

import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from PIL import Image, UnidentifiedImageError

from srcli.errors import ImageError
from srcli.image.source import Source

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

PLUGINS = {
    "png": ("PNG",),
    "jpg": ("JPEG", "MPO"),
    "gif": ("GIF",),
    "tiff": ("TIFF",),
    "webp": ("WEBP",),
    "avif": ("AVIF",),
    "bmp": ("BMP",),
    "ppm": ("PPM",),
    "heic": ("HEIF",),
    "tga": ("TGA",),
    "ico": ("ICO",),
}

# Everything Pillow's plugins have been seen to raise on damaged files.
BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    EOFError,
    IndexError,
    RuntimeError,
    KeyError,
    AssertionError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)

_lock = threading.Lock()
_users = 0
_undo = ExitStack()


@contextmanager
def own_rules() -> Iterator[None]:
    """Switch off Pillow's pixel limit and its warnings while any thread is inside.

    Ours is checked on the header, and what we refuse or give up is said once, as an error or a note.
    """
    global _users
    with _lock:
        if _users == 0:
            _undo.callback(setattr, Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
            Image.MAX_IMAGE_PIXELS = None
            _undo.enter_context(warnings.catch_warnings())
            warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                _undo.close()


def open_picture(source: Source) -> ImageFile:
    """A Pillow image with its header read, its pixels not yet.

    Raises:
        ImageError: the file is damaged, or .
    """
    if source.format == "heic":
        from pi_heif import register_heif_opener

        register_heif_opener()
    source.stream.seek(0)
    try:
        with own_rules():
            return Image.open(source.stream, formats=PLUGINS[source.format])
    except UnidentifiedImageError as error:
        raise damaged(source, "its header cannot be read") from error
    except BROKEN as error:
        raise damaged(source, error) from error


def damaged(source: Source, reason: object) -> ImageError:
    """The error for a file that begins like an image and does not hold one."""
    return ImageError(
        f"{source.name} is damaged or cut off ({source.format}: {reason}).", hint="Copy or download it again."
    )
