"""From a file's colours to the working space (sRGB-encoded, not limited to [0, 1]) and back.

Matrix and gray profiles are computed here in float from their tags, so 16-bit files keep 16 bits and colours
outside sRGB survive as values below 0 or above 1. Profiles made of look-up tables (CMYK among them) go through
LittleCMS, in libvips, at 16 bits. What gAMA, cHRM and cICP in PNG or nclx in AVIF and HEIC say becomes an ICC
profile, so that it is converted, shown and kept like one; only PQ and HLG, which no matrix profile can say, pass
through with their numbers.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np

from srcli.image import icc
from srcli.image.icc import F64, PRIMARIES, SRGB, TRANSFERS, Curve, Power
from srcli.image.png import find_chunks
from srcli.image.samples import F32, Samples, to_float
from srcli.image.source import Source
from srcli.image.vips import embed, libvips, reason_of, to_samples

SRGB_TOLERANCE = 0.0015  # below half a level of 8 bits: profiles that call themselves sRGB differ by less
WHITE_TOLERANCE = 0.005
USUAL_GAMMA = (0.45, 0.46)  # 1 / 2.2, which writers of sRGB put into gAMA
COLOUR_CHUNKS = (b"gAMA", b"cHRM", b"sRGB", b"cICP")
HDR = {16: "PQ", 18: "HLG"}
INTENT = {"intent": "relative", "black_point_compensation": True}


class CodePoints(NamedTuple):
    """Numbers of H.273 for a picture that no ICC profile can describe."""

    primaries: int
    transfer: int

    @property
    def name(self) -> str:
        """For people."""
        return f"{PRIMARIES.get(self.primaries, ('unknown primaries', ()))[0]} {HDR[self.transfer]}"


@dataclass(frozen=True, eq=False)
class Profile:
    """A colour space with curves to linear light: three and a matrix for RGB, one for gray.

    Attributes:
        name: for people.
        data: the profile as in the file, to be embedded again.
        curves: three or one.
        matrix: (3, 3), linear RGB of this space to linear sRGB; None for gray.
    """

    name: str
    data: bytes
    curves: tuple[Curve, ...]
    matrix: F64 | None

    @property
    def space(self) -> Literal["rgb", "gray"]:
        """The kind of pixels it describes."""
        return "gray" if self.matrix is None else "rgb"

    @cached_property
    def is_srgb(self) -> bool:
        """Whether it is sRGB (or gray with sRGB's curve) within `SRGB_TOLERANCE`; such pixels are left alone."""
        x = np.linspace(0, 1, 257)
        if any(np.abs(SRGB.encode(curve.decode(x)) - x).max() > SRGB_TOLERANCE for curve in self.curves):
            return False
        return self.matrix is None or bool(np.abs(self.matrix - np.eye(3)).max() < SRGB_TOLERANCE)

    def to_working(self, samples: Samples) -> F32:
        """Working-space floats (n, w, c) of samples (n, w, c) of any depth."""
        if self.is_srgb:
            return to_float(samples)
        each = zip(np.moveaxis(samples, -1, 0), self.curves, strict=True)
        if samples.dtype == np.float32:
            linear = [curve.decode(values) for values, curve in each]
        else:
            linear = [_table(curve, samples.dtype)[values] for values, curve in each]
        return SRGB.encode(_mix(np.stack(linear, axis=-1), self.matrix))

    def from_working(self, rows: F32) -> F32:
        """Device values (n, w, c), white at 1, of working-space rows (n, w, c); may leave [0, 1]."""
        if self.is_srgb:
            return rows
        matrix = None if self.matrix is None else np.asarray(np.linalg.inv(self.matrix), np.float64)
        linear = _mix(SRGB.decode(rows), matrix)
        return np.stack([curve.encode(linear[..., i]) for i, curve in enumerate(self.curves)], axis=-1)


@lru_cache(maxsize=16)
def _table(curve: Curve, dtype: np.dtype[Any]) -> F32:
    """Linear light of every integer sample."""
    levels = np.iinfo(dtype).max
    return curve.decode(np.arange(levels + 1) / levels).astype(np.float32)


def _mix(linear: F32, matrix: F64 | None) -> F32:
    """`matrix` applied to each pixel, one fixed order of operations whatever the shape."""
    if matrix is None:
        return linear
    m = matrix.astype(np.float32)
    r, g, b = linear[..., 0], linear[..., 1], linear[..., 2]
    return np.stack([m[i, 0] * r + m[i, 1] * g + m[i, 2] * b for i in range(3)], axis=-1)


@dataclass(frozen=True, eq=False)
class LookUpProfile:
    """A colour space described by tables, converted by LittleCMS (relative colorimetric, black point)."""

    name: str
    data: bytes
    space: Literal["cmyk", "rgb"]

    def to_srgb(self, samples: Samples) -> Samples:
        """Colours (n, w, 3) in sRGB of samples (n, w, 4 or 3), uint8 or uint16 as they are."""
        kind = "cmyk" if self.space == "cmyk" else "rgb16" if samples.itemsize == 2 else "srgb"
        picture = self._marked(libvips().Image.new_from_array(samples, interpretation=kind))
        return to_samples(picture.icc_transform("srgb", embedded=True, depth=8 * samples.itemsize, **INTENT))

    def from_srgb(self, rows: Samples, dtype: np.dtype[Any]) -> Samples:
        """Samples (n, w, 4 or 3) of type uint8 or uint16, of sRGB (n, w, 3), uint8 or uint16; see `is_writable`."""
        kind = "rgb16" if rows.itemsize == 2 else "srgb"
        picture = libvips().Image.new_from_array(rows, interpretation=kind)
        picture = picture.icc_import(input_profile="srgb", **INTENT)
        return to_samples(self._marked(picture).icc_export(depth=8 * dtype.itemsize, **INTENT))

    @cached_property
    def is_writable(self) -> bool:
        """Whether the profile has tables back from colour to its own values: those of scanners have none."""
        black = libvips().Image.new_from_array(np.zeros((1, 1, 3), np.float32), interpretation="lab")
        try:
            to_samples(self._marked(black).icc_export(depth=8, **INTENT))
        except libvips().Error:
            return False
        return True

    def _marked(self, picture: Any) -> Any:
        copied = picture.copy()
        embed(copied, {"icc-profile": self.data})
        return copied


def read_profile(data: bytes) -> Profile | LookUpProfile:
    """The colour space an embedded ICC profile describes.

    Raises:
        ValueError: it is damaged, or of a kind that pixels of an RGB, gray or CMYK file cannot have.
    """
    found = icc.parse_profile(data)
    name = found.name or "unnamed profile"
    if found.curves:
        return Profile(name, data, found.curves, None if found.to_xyz is None else _to_srgb(found.to_xyz))
    if found.space not in ("cmyk", "rgb"):
        raise ValueError(f"profiles of {found.space} are not supported")
    profile = LookUpProfile(name, data, "cmyk" if found.space == "cmyk" else "rgb")
    try:  # so that a bad table is found now
        profile.to_srgb(np.zeros((1, 1, 4 if found.space == "cmyk" else 3), np.uint8))
    except libvips().Error as error:
        raise ValueError(f"LittleCMS refuses it ({reason_of(error)})") from error
    return profile


def _to_srgb(to_xyz: F64) -> F64:
    """Linear RGB to linear sRGB; white maps to white exactly, unless it is off by more than the tags' rounding."""
    matrix = np.linalg.inv(icc.SRGB_TO_XYZ) @ to_xyz
    white = matrix.sum(axis=1)
    if np.abs(white - 1).max() < WHITE_TOLERANCE:
        matrix = matrix / white[:, None]
    if abs(np.linalg.det(matrix)) < 1e-6:
        raise ValueError("the profile's primaries are degenerate")
    return matrix


@lru_cache(maxsize=8)
def standard_profile(name: Literal["srgb", "p3"], space: Literal["rgb", "gray"]) -> Profile:
    """The profile of sRGB or Display P3 (which share their curve), or of gray with that curve."""
    matrix = icc.P3_TO_XYZ if name == "p3" else icc.SRGB_TO_XYZ
    title = "Gray with sRGB curve" if space == "gray" else "Display P3" if name == "p3" else "sRGB"
    profile = read_profile(icc.build_profile(title, SRGB, None if space == "gray" else matrix))
    assert isinstance(profile, Profile)
    return profile


def luma(rows: F32) -> F32:
    """Gray (n, w, 1) of working-space rows (n, w, 3 or 1), with the weights of Rec. 709."""
    if rows.shape[-1] == 1:
        return rows
    r, g, b = rows[..., 0], rows[..., 1], rows[..., 2]
    # Written around green, so that R = G = B comes out exactly.
    return (g + np.float32(0.2126) * (r - g) + np.float32(0.0722) * (b - g))[..., None]


def read_colour(source: Source, embedded: bytes | None, *, gray: bool) -> bytes | CodePoints | None:
    """The colours of a file: an ICC profile (its own, or one made from other tags), or code points of PQ and HLG."""
    if source.format == "png":
        with source.keeping_position():
            return _of_chunks(find_chunks(source.stream, *COLOUR_CHUNKS), embedded, gray)
    if source.format not in ("avif", "heic") or embedded:
        return embedded
    head = source.head()
    at = head.find(b"colrnclx")
    if at < 0 or at + 12 > len(head):
        return None
    primaries, transfer = struct.unpack_from(">HH", head, at + 8)
    return _of_numbers(primaries, transfer, gray)


def _of_chunks(found: dict[bytes, bytes], embedded: bytes | None, gray: bool) -> bytes | CodePoints | None:
    """PNG, section 4.3: cICP counts before iCCP, that before sRGB, and that before gAMA and cHRM."""
    if len(points := found.get(b"cICP", b"")) == 4:
        primaries, transfer = points[:2]
        if transfer in HDR or (primaries in PRIMARIES and transfer in TRANSFERS):
            return _of_numbers(primaries, transfer, gray)
    if embedded or b"sRGB" in found:
        return embedded
    gamma = int.from_bytes(found[b"gAMA"], "big") / 1e5 if len(found.get(b"gAMA", b"")) == 4 else 0.0
    stored = struct.unpack(">8I", found[b"cHRM"]) if len(found.get(b"cHRM", b"")) == 32 else ()
    x = tuple(value / 1e5 for value in (*stored[2:], *stored[:2]))  # the file begins with white
    usual = not gamma or USUAL_GAMMA[0] < gamma < USUAL_GAMMA[1]
    if not 0.05 < gamma < 20 and not x:
        return None
    name = "PNG primaries" * bool(x) + " and " * bool(x and not usual) + f"gamma {gamma:.5g}" * (not usual)
    return icc.made_profile(name, SRGB if usual else Power(1 / gamma), x or icc.BT709_PRIMARIES, gray=gray)


def _of_numbers(primaries: int, transfer: int, gray: bool) -> bytes | CodePoints | None:
    if transfer in HDR:
        return CodePoints(primaries, transfer)
    return icc.coded_profile(primaries, transfer, gray=gray)
