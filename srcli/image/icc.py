"""ICC profiles of matrix and gray spaces: their curves, the few tags that describe them, read and written.

ICC.1:2022 (profile version 4.4); version 2 profiles differ only in their text tags. `coded_profile` makes one of the
numbers of Rec. ITU-T H.273 (cICP, nclx), `made_profile` of any primaries and curve (cHRM, gAMA).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
Floats = TypeVar("Floats", bound=NDArray[Any])  # float32 or float64; the result has the same type
Primaries = tuple[float, ...]  # chromaticities x and y of red, green, blue, white


@dataclass(frozen=True)
class Power:
    """(a x + b)^g + e at and above d, c x + f below; ICC's parametric curve with all seven numbers.

    Outside [0, 1] it goes on: above 1 by the same formula, below 0 mirrored, so that colours beyond the gamut
    survive a round trip (as scRGB does for sRGB's curve).
    """

    g: float
    a: float = 1.0
    b: float = 0.0
    c: float = 0.0
    d: float = 0.0
    e: float = 0.0
    f: float = 0.0

    def decode(self, x: Floats) -> Floats:
        """Linear light of device values."""
        size = np.abs(x)
        y = np.power(np.maximum(size * self.a + self.b, 0), self.g) + self.e
        if self.d > 0:
            y = np.where(size >= self.d, y, size * self.c + self.f)
        return np.copysign(y, x).astype(x.dtype, copy=False)

    def encode(self, y: Floats) -> Floats:
        """Device values of linear light."""
        size = np.abs(y)
        x = (np.power(np.maximum(size - self.e, 0), 1 / self.g) - self.b) / self.a
        if self.d > 0:
            split = float(max(self.a * self.d + self.b, 0.0) ** self.g + self.e)
            x = np.where(size >= split, x, (size - self.f) / self.c if self.c else np.zeros_like(size))
        return np.copysign(np.maximum(x, 0), y).astype(y.dtype, copy=False)


class Table:
    """Evenly spaced samples with straight lines between them; clamped outside [0, 1]."""

    def __init__(self, values: F64) -> None:
        self.places = np.linspace(0, 1, len(values))
        self.rising = np.maximum.accumulate(values)  # noise in measured curves must not break the inverse

    def decode(self, x: Floats) -> Floats:
        """Linear light of device values."""
        return np.interp(x, self.places, self.rising).astype(x.dtype, copy=False)

    def encode(self, y: Floats) -> Floats:
        """Device values of linear light."""
        return np.interp(y, self.rising, self.places).astype(y.dtype, copy=False)


Curve = Power | Table
SRGB = Power(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)  # IEC 61966-2-1
BT709 = Power(1 / 0.45, 1 / 1.099, 0.099 / 1.099, 1 / 4.5, 0.081)
SMPTE240 = Power(1 / 0.45, 1 / 1.1115, 0.1115 / 1.1115, 1 / 4, 0.0912)

D50 = (0.9642, 1.0, 0.8249)
# Columns of linear RGB to XYZ under the D50 of the profile connection space, Bradford-adapted from D65.
SRGB_TO_XYZ: F64 = np.array(
    [[0.4360747, 0.3850649, 0.1430804], [0.2225045, 0.7168786, 0.0606169], [0.0139322, 0.0971045, 0.7141733]]
)
P3_TO_XYZ: F64 = np.array(
    [[0.5151187, 0.2919778, 0.1571035], [0.2411892, 0.6922441, 0.0665668], [-0.0010505, 0.0418791, 0.7840713]]
)
BRADFORD: F64 = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
RGB_CURVES, RGB_COLUMNS = (b"rTRC", b"gTRC", b"bTRC"), (b"rXYZ", b"gXYZ", b"bXYZ")
SPACES = {b"RGB ": "rgb", b"GRAY": "gray", b"CMYK": "cmyk"}

D65, ILLUMINANT_C = (0.3127, 0.3290), (0.310, 0.316)
BT709_PRIMARIES = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06, *D65)
SMPTE_PRIMARIES = (0.630, 0.340, 0.310, 0.595, 0.155, 0.070, *D65)
PRIMARIES: dict[int, tuple[str, Primaries]] = {
    1: ("BT.709", BT709_PRIMARIES),
    4: ("BT.470 M", (0.67, 0.33, 0.21, 0.71, 0.14, 0.08, *ILLUMINANT_C)),
    5: ("BT.601 625", (0.64, 0.33, 0.29, 0.60, 0.15, 0.06, *D65)),
    6: ("BT.601 525", SMPTE_PRIMARIES),
    7: ("SMPTE 240M", SMPTE_PRIMARIES),
    8: ("generic film", (0.681, 0.319, 0.243, 0.692, 0.145, 0.049, *ILLUMINANT_C)),
    9: ("BT.2020", (0.708, 0.292, 0.170, 0.797, 0.131, 0.046, *D65)),
    11: ("DCI-P3", (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.314, 0.351)),
    12: ("Display P3", (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, *D65)),
    22: ("EBU 3213", (0.630, 0.340, 0.295, 0.605, 0.155, 0.077, *D65)),
}
TRANSFERS = dict.fromkeys((1, 6, 11, 12, 14, 15), BT709) | {7: SMPTE240, 13: SRGB}
TRANSFERS |= {4: Power(2.2), 5: Power(2.8), 8: Power(1.0), 17: Power(2.6)}


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
    curves: tuple[Curve, ...] = ()
    to_xyz: F64 | None = None


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
        name = _text(tags.get(b"desc", b""))
        if space == "gray" and b"kTRC" in tags:
            return Description(name, space, (_curve(tags[b"kTRC"]),))
        if space == "rgb" and tags.keys() >= {*RGB_CURVES, *RGB_COLUMNS}:
            curves = tuple(_curve(tags[key]) for key in RGB_CURVES)
            columns = [np.array(_fixed(tags[key], 8, 3)) for key in RGB_COLUMNS]
            return Description(name, space, curves, np.stack(columns, axis=1))
        return Description(name, space)
    except (struct.error, IndexError) as error:
        raise ValueError(f"damaged ICC profile ({error})") from error


def _tags(icc: bytes) -> dict[bytes, bytes]:
    (count,) = struct.unpack_from(">I", icc, 128)
    if count > 1000:
        raise ValueError("damaged ICC profile (too many tags)")
    rows = [struct.unpack_from(">4sII", icc, 132 + 12 * i) for i in range(count)]
    return {name: icc[offset : offset + size] for name, offset, size in rows}


def _fixed(data: bytes, offset: int, n: int) -> list[float]:
    """Numbers of type s15Fixed16."""
    return [value / 65536 for value in struct.unpack_from(f">{n}i", data, offset)]


def _curve(tag: bytes) -> Curve:
    """A curveType (10.6) or parametricCurveType (10.18)."""
    if tag[:4] == b"curv":
        (count,) = struct.unpack_from(">I", tag, 8)
        values = struct.unpack_from(f">{count}H", tag, 12)
        if count > 1:
            return Table(np.array(values, dtype=np.float64) / 65535)
        curve = Power(values[0] / 256 if count else 1.0)
    elif tag[:4] == b"para":
        (form,) = struct.unpack_from(">H", tag, 8)
        if form > 4:
            raise ValueError(f"unknown parametric curve {form}")
        curve = _parametric(form, _fixed(tag, 12, (1, 3, 4, 5, 7)[form]))
    else:
        raise ValueError(f"unknown curve type {tag[:4]!r}")
    if curve.g <= 0:
        raise ValueError("degenerate curve")
    return curve


def _parametric(form: int, p: list[float]) -> Power:
    """The five function types as one: (ax + b)^g + e above d, cx + f below."""
    if form == 0:
        return Power(p[0])
    if p[1] == 0:
        raise ValueError("degenerate parametric curve")
    if form < 3:
        lift = p[3] if form == 2 else 0.0
        return Power(p[0], p[1], p[2], 0.0, -p[2] / p[1], lift, lift)
    return Power(*p)


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
    text = name.encode("ascii") + b"\0"
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + bytes(4 + 4 + 2 + 1 + 67),
        b"cprt": b"text\0\0\0\0No copyright, use freely\0",
        b"wtpt": _xyz_tag(D50),
    }
    if curve == Power(curve.g):
        trc = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(curve.g * 256))
    else:
        table = np.rint(curve.decode(np.linspace(0, 1, 4096)) * 65535).astype(">u2")
        trc = b"curv\0\0\0\0" + struct.pack(">I", len(table)) + table.tobytes()
    if to_xyz is None:
        tags[b"kTRC"] = trc
    else:
        for place, curve_tag, column in zip(RGB_COLUMNS, RGB_CURVES, to_xyz.T, strict=True):
            tags |= {place: _xyz_tag(column), curve_tag: trc}
    listing, body, placed = b"", b"", dict[bytes, bytes]()
    for key, data in tags.items():
        if data not in placed:  # the three curves share one block
            placed[data] = struct.pack(">II", 132 + 12 * len(tags) + len(body), len(data))
            body += data + bytes(-len(data) % 4)
        listing += key + placed[data]
    head = bytearray(128)
    head[8:24] = b"\x02\x40\0\0mntr" + (b"GRAY" if to_xyz is None else b"RGB ") + b"XYZ "
    head[24:40] = struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp"
    head[68:80] = _xyz_tag(D50)[8:]
    head[:4] = struct.pack(">I", 132 + len(listing) + len(body))
    return bytes(head) + struct.pack(">I", len(tags)) + listing + body


def _xyz_tag(values: Any) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(float(value) * 65536) for value in values))


def coded_profile(primaries: int, transfer: int, *, gray: bool) -> bytes | None:
    """A profile of numbers of H.273; None where they are unknown (2 is "unspecified") or say sRGB."""
    if primaries not in PRIMARIES or transfer not in TRANSFERS:
        return None
    (name, chromaticities), curve = PRIMARIES[primaries], TRANSFERS[transfer]
    name = name if curve is SRGB else f"{name} with transfer {transfer}"
    return made_profile(name, curve, chromaticities, gray=gray)


@lru_cache(maxsize=16)
def made_profile(name: str, curve: Power, chromaticities: Primaries, *, gray: bool) -> bytes | None:
    """A profile of a curve and primaries; None where it would be sRGB's, or cannot be."""
    try:
        matrix = None if gray else _to_xyz(chromaticities)
    except (ValueError, np.linalg.LinAlgError):
        return None
    same = matrix is None or np.abs(matrix - SRGB_TO_XYZ).max() < 0.002
    return None if same and curve is SRGB else build_profile(name, curve, matrix)


def _to_xyz(chromaticities: Primaries) -> F64:
    """Columns of linear RGB to XYZ under D50, adapted from the white by Bradford (annex E)."""
    x, y = np.array(chromaticities[::2]), np.array(chromaticities[1::2])
    if y.min() <= 0:
        raise ValueError("chromaticities that are no colours")
    xyz = np.stack([x / y, np.ones(4), (1 - x - y) / y])
    colours, white = xyz[:, :3], xyz[:, 3]
    colours = colours * np.linalg.solve(colours, white)
    adapt = np.linalg.inv(BRADFORD) @ np.diag((BRADFORD @ np.array(D50)) / (BRADFORD @ white)) @ BRADFORD
    matrix: F64 = adapt @ colours
    if not np.isfinite(matrix).all() or abs(np.linalg.det(matrix)) < 1e-4 or np.abs(matrix).max() > 1.9:
        raise ValueError("degenerate primaries")
    return matrix
