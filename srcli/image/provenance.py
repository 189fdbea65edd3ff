"""What a file says about having been made by srcli."""

from __future__ import annotations

from typing import Any

from srcli.errors import ImageError
from srcli.image import tiff
from srcli.image.encode import PROVENANCE_KEY
from srcli.image.header import Inspection, inspect
from srcli.image.metadata import parse_provenance, read_provenance_xmp
from srcli.image.source import Origin, open_source


def read_provenance(origin: Origin) -> dict[str, Any] | None:
    """The provenance that `OutputPlan.write` stored in a file; None if there is none. Reads the header only.

    A file that is no image (any more) has none: nobody can say how it was made.

    Raises:
        NothingToDoError: the file does not exist.
    """
    try:
        with open_source(origin) as source:
            return _stored(inspect(source, "first"))
    except ImageError:
        return None


def _stored(found: Inspection) -> dict[str, Any] | None:
    if found.page is not None:
        entry = found.page.tags.entries.get(tiff.XMP)
        return read_provenance_xmp(entry.data) if entry else None
    assert found.picture is not None
    text, packet = found.picture.info.get(PROVENANCE_KEY), found.picture.info.get("xmp")
    if isinstance(text, str):
        return parse_provenance(text)
    comment = found.picture.info.get("comment")
    if isinstance(comment, bytes):  # of a GIF
        stored = (parse_provenance(comment.decode("latin-1")) or {}).get(PROVENANCE_KEY)
        return stored if isinstance(stored, dict) else None
    return read_provenance_xmp(packet) if isinstance(packet, bytes) else None
