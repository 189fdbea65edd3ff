"""ICC profiles: the few tags that describe matrix and gray spaces, read and written.

ICC.1:2022 (profile version 4.4); version 2 profiles differ only in their text tags.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srcli.image.curves import Curve, Power, Table

F64 = NDArray[np.float64]

# Columns of linear RGB to XYZ under the D50 of the profile connection space, Bradford-adapted from D65.
SRGB_TO_XYZ: F64 = np.array(
    [
        [0.4360747, 0.3850649, 0.1430804],
        [0.2225045, 0.7168786, 0.0606169],
        [0.0139322, 0.0971045, 0.7141733],
    ]
)
P3_TO_XYZ: F64 = np.array(
    [
        [0.5151187, 0.2919778, 0.1571035],
        [0.2411892, 0.6922441, 0.0665668],
        [-0.0010505, 0.0418791, 0.7840713],
    ]
)
D50 = (0.9642, 1.0, 0.8249)
SPACES = {b"RGB ": "rgb", b"GRAY": "gray", b"CMYK": "cmyk"}


@dataclass(frozen=True)
class Description:
    """What the tags of a profile say.

    Attributes:
        name: its description, for people.
        space: rgb, gray, cmyk, or the four letters of another space.
        curves: three (red, green, blue) or one (gray) from device values to linear light; empty if the profile
            works by look-up tables.
        to_xyz: (3, 3), linear RGB to XYZ (D50); None unless there are three curves.
    """

    name: str
    space: str
    curves: tuple[Curve, ...]
    to_xyz: F64 | None


def parse_profile(icc: bytes) -> Description:
    """Read a profile's tags.

    Raises:
        ValueError: the bytes are no ICC profile, or a tag is damaged.
    """
    if len(icc) < 132 or icc[36:40] != b"acsp":
        raise ValueError("not an ICC profile")
    try:
        tags = _tags(icc)
        space = SPACES.get(icc[16:20], icc[16:20].decode("latin-1").strip())
        curves: tuple[Curve, ...] = ()
        to_xyz = None
        if space == "rgb" and all(
            key in tags for key in (b"rXYZ", b"gXYZ", b"bXYZ", b"rTRC", b"gTRC", b"bTRC")
        ):
            curves = tuple(_curve(tags[key]) for key in (b"rTRC", b"gTRC", b"bTRC"))
            to_xyz = np.stack([_xyz(tags[key]) for key in (b"rXYZ", b"gXYZ", b"bXYZ")], axis=1)
        elif space == "gray" and b"kTRC" in tags:
            curves = (_curve(tags[b"kTRC"]),)
        return Description(_text(tags.get(b"desc", b"")), space, curves, to_xyz)
    except (struct.error, IndexError) as error:
        raise ValueError(f"damaged ICC profile ({error})") from error


def _tags(icc: bytes) -> dict[bytes, bytes]:
    (count,) = struct.unpack_from(">I", icc, 128)
    if count > 1000:
        raise ValueError("damaged ICC profile (too many tags)")
    tags = {}
    for i in range(count):
        name, offset, size = struct.unpack_from(">4sII", icc, 132 + 12 * i)
        tags[name] = icc[offset : offset + size]
    return tags


def _fixed(data: bytes, offset: int, n: int) -> list[float]:
    """Numbers of type s15Fixed16."""
    return [value / 65536 for value in struct.unpack_from(f">{n}i", data, offset)]


def _xyz(tag: bytes) -> F64:
    return np.array(_fixed(tag, 8, 3))


def _curve(tag: bytes) -> Curve:
    kind = tag[:4]
    if kind == b"curv":
        (count,) = struct.unpack_from(">I", tag, 8)
        if count == 0:
            return Power(1.0)
        if count == 1:
            return _invertible(Power(struct.unpack_from(">H", tag, 12)[0] / 256))
        values = np.array(struct.unpack_from(f">{count}H", tag, 12), dtype=np.float64) / 65535
        return Table(values)
    if kind == b"para":
        (form,) = struct.unpack_from(">H", tag, 8)
        if form > 4:
            raise ValueError(f"unknown parametric curve {form}")
        return _invertible(_parametric(form, _fixed(tag, 12, (1, 3, 4, 5, 7)[form])))
    raise ValueError(f"unknown curve type {kind!r}")


def _invertible(curve: Power) -> Power:
    if curve.g <= 0:
        raise ValueError("degenerate curve")
    return curve


def _parametric(form: int, p: list[float]) -> Power:
    """The five function types of parametricCurveType (10.18) as one: (ax + b)^g + e above d, cx + f below."""
    if form == 0:
        return Power(p[0])
    g, a, b = p[:3]
    if a == 0:
        raise ValueError("degenerate parametric curve")
    if form == 1:
        return Power(g, a, b, 0.0, -b / a)
    if form == 2:
        return Power(g, a, b, 0.0, -b / a, p[3], p[3])
    c, d = p[3:5]
    return Power(g, a, b, c, d) if form == 3 else Power(g, a, b, c, d, p[5], p[6])


def _text(tag: bytes) -> str:
    """A text of version 2 (desc) or of version 4 (mluc, its first language)."""
    if tag[:4] == b"desc":
        (length,) = struct.unpack_from(">I", tag, 8)
        return tag[12 : 12 + length].split(b"\0")[0].decode("latin-1").strip()
    if tag[:4] == b"mluc" and len(tag) >= 28:
        length, offset = struct.unpack_from(">II", tag, 20)
        return tag[offset : offset + length].decode("utf-16-be", "replace").strip("\0 ")
    return ""


def build_profile(name: str, curve: Power, to_xyz: F64 | None) -> bytes:
    """A version 2 display profile: of RGB with matrix `to_xyz`, or of gray if that is None.

    Used to mark converted pictures; version 2 because every reader knows it. The curve is written as a table of
    4096 values (or as a gamma where it is one), so that readers without parametric curves see the same.
    """
    text = name.encode("ascii")
    desc = b"desc\0\0\0\0" + struct.pack(">I", len(text) + 1) + text + b"\0" + bytes(4 + 4 + 2 + 1 + 67)
    tags: dict[bytes, bytes] = {
        b"desc": desc,
        b"cprt": b"text\0\0\0\0No copyright, use freely\0",
        b"wtpt": _xyz_tag(D50),
    }
    if to_xyz is None:
        tags[b"kTRC"] = _curve_tag(curve)
    else:
        for letter, column in zip("rgb", to_xyz.T, strict=True):
            tags[letter.encode() + b"XYZ"] = _xyz_tag(column)
            tags[letter.encode() + b"TRC"] = _curve_tag(curve)
    return _assemble(b"GRAY" if to_xyz is None else b"RGB ", tags)


def _xyz_tag(values: Any) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(float(value) * 65536) for value in values))


def _curve_tag(curve: Power) -> bytes:
    if curve == Power(curve.g):
        return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(curve.g * 256))
    table = np.rint(curve.decode(np.linspace(0, 1, 4096)) * 65535).astype(">u2")
    return b"curv\0\0\0\0" + struct.pack(">I", len(table)) + table.tobytes()


def _assemble(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    offset = 132 + 12 * len(tags)
    table, body, placed = b"", b"", {}
    for name, data in tags.items():
        if data not in placed:  # the three curves share one block
            placed[data] = (offset + len(body), len(data))
            body += data + bytes(-len(data) % 4)
        table += struct.pack(">4sII", name, *placed[data])
    header = struct.pack(
        ">I4sI4s4s4s12s4s4sI4s4sQI3i4s44s",
        offset + len(body),
        b"\0\0\0\0",
        0x02400000,
        b"mntr",
        space,
        b"XYZ ",
        struct.pack(">6H", 2026, 1, 1, 0, 0, 0),
        b"acsp",
        b"\0\0\0\0",
        0,
        b"\0\0\0\0",
        b"\0\0\0\0",
        0,
        0,
        *(round(value * 65536) for value in D50),
        b"\0\0\0\0",
        bytes(44),
    )
    return header + struct.pack(">I", len(tags)) + table + body
