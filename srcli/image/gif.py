"""GIF: 256 colours a picture, transparency of one bit, provenance as a comment."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

    from srcli.image.metadata import Metadata

VISIBLE = 128  # of 255: from there on a pixel is shown
CLEAR = 255  # the colour that is transparent


def with_palette(picture: Picture) -> Picture:
    """At most 256 colours of its own; 255 and a transparent one where it has transparency."""
    from PIL import Image

    if picture.mode == "L":
        return picture
    if picture.mode == "RGB":
        return picture.quantize(256)
    alpha = np.asarray(picture)[..., -1]
    coloured = picture.convert("RGB").quantize(CLEAR)
    indices = np.where(alpha < VISIBLE, np.uint8(CLEAR), np.asarray(coloured))
    result = Image.fromarray(indices, "P")
    palette = (coloured.getpalette() or [])[: 3 * CLEAR]
    result.putpalette(palette + [0] * (768 - len(palette)))
    return result


def gif_options(
    kept: Metadata, provenance: Mapping[str, Any] | None, key: str, *, alpha: bool
) -> tuple[dict[str, Any], list[str]]:
    """Pillow's options for saving, and notes on what is lost."""
    options: dict[str, Any] = {"optimize": False}
    if alpha:
        options |= {"transparency": CLEAR, "disposal": 2}
    if provenance:
        options["comment"] = json.dumps({key: dict(provenance)}, sort_keys=True).encode("ascii")
    notes = ["gif holds 256 colours a picture"]
    if kept.exif is not None or kept.xmp is not None or kept.iptc is not None:
        notes.append("gif has no place for EXIF, XMP and IPTC; they are left out")
    return options, notes
