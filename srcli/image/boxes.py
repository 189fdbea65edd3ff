"""The boxes of an AVIF file as libheif writes it, with what libvips cannot hand over: EXIF as it is, and nclx.

ISO/IEC 14496-12, section 8.11 (items and their places) and ISO/IEC 23008-12 (properties).
"""

from __future__ import annotations

import struct

from srcli.image.cicp import CodePoints

MATRIX = 6  # what the samples were multiplied by: BT.601's
PLACES = b"\x44\x40"  # of an item: 4 bytes each for offset, length and base


def completed(data: bytes, exif: bytes | None, points: CodePoints | None) -> bytes:
    """The file with an EXIF block in the place of its own one, and with an nclx box for its first picture.

    Raises:
        ValueError: it is laid out in another way.
    """
    out = bytearray(data)
    at = out.find(b"colrnclx") + 8
    if points is not None and at > 8:
        struct.pack_into(">HH", out, at, *points)
    elif points is not None:
        _add_property(out, struct.pack(">4sHHHB", b"nclx", *points, MATRIX, 0x80))
    if exif is not None:
        item = out.find(b"\0\0Exif", out.find(b"iinf")) - 2
        if item < 0:
            raise ValueError("no EXIF item")
        block = bytes(4) + exif
        for at in _places(out):
            if out[at : at + 2] == out[item : item + 2]:
                struct.pack_into(">I", out, at + 4, len(out) + 8)
                struct.pack_into(">I", out, at + 14, len(block))
        out += struct.pack(">I4s", len(block) + 8, b"mdat") + block
    return bytes(out)


def _places(out: bytearray) -> range:
    """Where the entries of the table of places begin: item, source, base, one extent with offset and length."""
    at = out.find(b"iloc") + 4
    if at < 4 or out[at] != 0 or out[at + 4 : at + 6] != PLACES:
        raise ValueError("an unknown table of places")
    (count,) = struct.unpack_from(">H", out, at + 6)
    return range(at + 8, at + 8 + 18 * count, 18)


def _add_property(out: bytearray, colour: bytes) -> None:
    """Put a colr box behind the properties and give it to the first item."""
    box = struct.pack(">I4s", len(colour) + 8, b"colr") + colour
    ipco, ipma, iprp, meta = (out.find(name) - 4 for name in (b"ipco", b"ipma", b"iprp", b"meta"))
    if min(ipco, ipma, iprp, meta) < 0 or out[ipma + 8] != 0 or out[ipma + 11] & 1:
        raise ValueError("an unknown table of properties")
    end = ipco + _size(out, ipco)
    at, number = ipco + 8, 1
    while at < end:
        at, number = at + _size(out, at), number + 1
    count = ipma + 18  # after the version, the number of entries, and the first item's number
    out[count] += 1
    out.insert(count + out[count], number)
    out[end:end] = box
    for start, more in ((ipco, len(box)), (ipma + len(box), 1), (iprp, len(box) + 1), (meta, len(box) + 1)):
        struct.pack_into(">I", out, start, _size(out, start) + more)
    for place in _places(out):
        struct.pack_into(">I", out, place + 4, struct.unpack_from(">I", out, place + 4)[0] + len(box) + 1)


def _size(out: bytearray, start: int) -> int:
    return int.from_bytes(out[start : start + 4], "big")
