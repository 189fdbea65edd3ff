"""Colour that a file describes without an ICC profile: gAMA, cHRM and cICP in PNG, nclx in AVIF and HEIC.

Rec. ITU-T H.273 has the numbers, W3C PNG (Third Edition) the chunks and which of them counts, ISO/IEC 23008-12 the
box. What they describe becomes an ICC profile, so that it is converted, shown and kept like one; only PQ and HLG,
which no matrix profile can say, pass through with their numbers.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from srcli.image import icc, png
from srcli.image.curves import SRGB, Power
from srcli.image.source import Source, kept_position

Primaries = tuple[float, ...]  # x and y of red, green, blue, white

D65, ILLUMINANT_C = (0.3127, 0.3290), (0.310, 0.316)
PRIMARIES: dict[int, tuple[str, Primaries]] = {
    1: ("BT.709", (0.64, 0.33, 0.30, 0.60, 0.15, 0.06, *D65)),
    4: ("BT.470 M", (0.67, 0.33, 0.21, 0.71, 0.14, 0.08, *ILLUMINANT_C)),
    5: ("BT.601 625", (0.64, 0.33, 0.29, 0.60, 0.15, 0.06, *D65)),
    6: ("BT.601 525", (0.630, 0.340, 0.310, 0.595, 0.155, 0.070, *D65)),
    7: ("SMPTE 240M", (0.630, 0.340, 0.310, 0.595, 0.155, 0.070, *D65)),
    8: ("generic film", (0.681, 0.319, 0.243, 0.692, 0.145, 0.049, *ILLUMINANT_C)),
    9: ("BT.2020", (0.708, 0.292, 0.170, 0.797, 0.131, 0.046, *D65)),
    11: ("DCI-P3", (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.314, 0.351)),
    12: ("Display P3", (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, *D65)),
    22: ("EBU 3213", (0.630, 0.340, 0.295, 0.605, 0.155, 0.077, *D65)),
}
BT709 = Power(1 / 0.45, 1 / 1.099, 0.099 / 1.099, 1 / 4.5, 0.081)
TRANSFERS = {
    **dict.fromkeys((1, 6, 11, 12, 14, 15), BT709),
    4: Power(2.2),
    5: Power(2.8),
    7: Power(1 / 0.45, 1 / 1.1115, 0.1115 / 1.1115, 1 / 4, 0.0912),
    8: Power(1.0),
    13: SRGB,
    17: Power(2.6),
}
HDR = {16: "PQ", 18: "HLG"}
USUAL_GAMMA = (0.45, 0.46)  # 1 / 2.2, which writers of sRGB put into gAMA


class CodePoints(NamedTuple):
    """Numbers of H.273 for a picture that no ICC profile can describe."""

    primaries: int
    transfer: int

    @property
    def name(self) -> str:
        """For people."""
        return f"{PRIMARIES.get(self.primaries, ('unknown primaries', ()))[0]} {HDR[self.transfer]}"


def read_colour(source: Source, embedded: bytes | None, *, gray: bool) -> bytes | CodePoints | None:
    """What a file says about its colours: an ICC profile (its own, or one made of other words), or PQ and HLG.

    Args:
        source: of any format.
        embedded: its ICC profile.
        gray: whether its pixels are.
    """
    with kept_position(source.stream):
        if source.format == "png":
            return _of_png(source, embedded, gray)
        if source.format not in ("avif", "heic"):
            return embedded
        source.stream.seek(0)
        head = source.stream.read(1 << 16)
    at = head.find(b"colrnclx")
    if embedded or at < 0 or at + 12 > len(head):
        return embedded
    primaries, transfer = struct.unpack_from(">HH", head, at + 8)
    return _of_numbers(primaries, transfer, gray)


def _of_png(source: Source, embedded: bytes | None, gray: bool) -> bytes | CodePoints | None:
    """Section 4.3: cICP counts before iCCP, that before sRGB, and that before gAMA and cHRM."""
    found = png.colour_chunks(source.stream)
    points = found.get(b"cICP", b"")
    if len(points) == 4 and _is_known(points[0], points[1]):
        return _of_numbers(points[0], points[1], gray)
    if embedded or b"sRGB" in found:
        return embedded
    gamma = struct.unpack(">I", found[b"gAMA"])[0] / 1e5 if len(found.get(b"gAMA", b"")) == 4 else 0.0
    places = struct.unpack(">8I", found[b"cHRM"]) if len(found.get(b"cHRM", b"")) == 32 else ()
    x = tuple(value / 1e5 for value in (*places[2:], *places[:2]))  # the file begins with white
    usual = not gamma or USUAL_GAMMA[0] < gamma < USUAL_GAMMA[1]
    if not 0.05 < gamma < 20 and not x:
        return None
    curve = SRGB if usual else Power(1 / gamma)
    name = "PNG primaries" * bool(x) + " and " * bool(x and not usual) + f"gamma {gamma:.5g}" * (not usual)
    return _profile(name, curve, x or PRIMARIES[1][1], gray)


def _is_known(primaries: int, transfer: int) -> bool:
    return transfer in HDR or (primaries in PRIMARIES and transfer in TRANSFERS)


def _of_numbers(primaries: int, transfer: int, gray: bool) -> bytes | CodePoints | None:
    if transfer in HDR:
        return CodePoints(primaries, transfer)
    if not _is_known(primaries, transfer):  # 2 is "unspecified"
        return None
    (name, places), curve = PRIMARIES[primaries], TRANSFERS[transfer]
    return _profile(name if curve is SRGB else f"{name} with transfer {transfer}", curve, places, gray)


@lru_cache(maxsize=16)
def _profile(name: str, curve: Power, places: Primaries, gray: bool) -> bytes | None:
    """A profile, None where it would be sRGB's or cannot be."""
    try:
        matrix = None if gray else _to_xyz(places)
    except (ValueError, np.linalg.LinAlgError):
        return None
    same = matrix is None or np.abs(matrix - icc.SRGB_TO_XYZ).max() < 0.002
    return None if same and curve is SRGB else icc.build_profile(name, curve, matrix)


def _to_xyz(places: Primaries) -> NDArray[np.float64]:
    """Columns of linear RGB to XYZ under D50, adapted from the white by Bradford (ICC.1:2022, annex E)."""
    x, y = np.array(places[::2]), np.array(places[1::2])
    if y.min() <= 0:
        raise ValueError("primaries that are no colours")
    xyz = np.stack([x / y, np.ones(4), (1 - x - y) / y])
    colours, white = xyz[:, :3], xyz[:, 3]
    colours = colours * np.linalg.solve(colours, white)
    bradford = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    adapt = np.linalg.inv(bradford) @ np.diag((bradford @ np.array(icc.D50)) / (bradford @ white)) @ bradford
    matrix = adapt @ colours
    if not np.isfinite(matrix).all() or abs(np.linalg.det(matrix)) < 1e-4 or np.abs(matrix).max() > 1.9:
        raise ValueError("degenerate primaries")
    return np.asarray(matrix, np.float64)
