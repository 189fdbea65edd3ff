"""From a file's colours to the working space (sRGB-encoded, not limited to [0, 1]) and back.

Matrix and gray profiles are computed here in float from their tags, so 16-bit files keep 16 bits and colours
outside sRGB survive as values below 0 or above 1. Profiles made of look-up tables (CMYK among them) go through
LittleCMS, in libvips, at 16 bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from srcli.image import icc
from srcli.image.curves import SRGB, Curve
from srcli.image.quantise import F32, Samples, to_float
from srcli.image.vips import from_samples, libvips, reason_of, to_samples, with_profile

F64 = NDArray[np.float64]

# Well below half a level of 8 bits: profiles that call themselves sRGB differ by less.
SRGB_TOLERANCE = 0.0015
WHITE_TOLERANCE = 0.005


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

    @cached_property
    def inverse(self) -> F64:
        """Linear sRGB to linear RGB of this space."""
        assert self.matrix is not None
        return np.asarray(np.linalg.inv(self.matrix), np.float64)

    def to_working(self, samples: Samples) -> F32:
        """Working-space floats (n, w, c) of samples (n, w, c) of any depth."""
        if self.is_srgb:
            return to_float(samples)
        linear = np.stack(
            [self._linear(samples[..., i], curve) for i, curve in enumerate(self.curves)], axis=-1
        )
        return SRGB.encode(linear if self.matrix is None else _mix(linear, self.matrix))

    def from_working(self, rows: F32) -> F32:
        """Device values (n, w, c), white at 1, of working-space rows (n, w, c); may leave [0, 1]."""
        if self.is_srgb:
            return rows
        linear = SRGB.decode(rows)
        if self.matrix is not None:
            linear = _mix(linear, self.inverse)
        return np.stack([curve.encode(linear[..., i]) for i, curve in enumerate(self.curves)], axis=-1)

    def _linear(self, samples: Samples, curve: Curve) -> F32:
        if samples.dtype == np.float32:
            return curve.decode(samples)
        return _table(curve, samples.dtype)[samples]


@lru_cache(maxsize=16)
def _table(curve: Curve, dtype: np.dtype[Any]) -> F32:
    """Linear light of every integer sample."""
    levels = np.iinfo(dtype).max
    return curve.decode(np.arange(levels + 1) / levels).astype(np.float32)


def _mix(linear: F32, matrix: F64) -> F32:
    """`matrix` applied to each pixel, one fixed order of operations whatever the shape."""
    m = matrix.astype(np.float32)
    r, g, b = linear[..., 0], linear[..., 1], linear[..., 2]
    return np.stack([m[i, 0] * r + m[i, 1] * g + m[i, 2] * b for i in range(3)], axis=-1)


@dataclass(frozen=True, eq=False)
class LookUpProfile:
    """A colour space described by tables, converted by LittleCMS (relative colorimetric, black point).

    Attributes:
        name: for people.
        data: the profile as in the file.
        space: cmyk or rgb.
    """

    name: str
    data: bytes
    space: Literal["cmyk", "rgb"]

    def to_srgb(self, samples: Samples) -> Samples:
        """Colours (n, w, 3) in sRGB of samples (n, w, 4 or 3), uint8 or uint16 as they are."""
        picture = from_samples(samples, self.interpretation(samples), self.data)
        return to_samples(picture.icc_transform("srgb", embedded=True, depth=8 * samples.itemsize, **INTENT))

    def from_srgb(self, rows: Samples, dtype: np.dtype[Any]) -> Samples:
        """Samples (n, w, 4 or 3) of type uint8 or uint16, of sRGB (n, w, 3), uint8 or uint16.

        Raises:
            ValueError: the profile works in one direction only.
        """
        if not self.is_writable:
            raise ValueError(f"the profile '{self.name}' cannot be written to")
        picture = from_samples(rows, "rgb16" if rows.itemsize == 2 else "srgb", None)
        picture = with_profile(picture.icc_import(input_profile="srgb", **INTENT), self.data)
        return to_samples(picture.icc_export(depth=8 * dtype.itemsize, **INTENT))

    @cached_property
    def is_writable(self) -> bool:
        """Whether the profile has tables back from colour to its own values: those of scanners have none."""
        picture = with_profile(from_samples(np.zeros((1, 1, 3), np.float32), "lab", None), self.data)
        try:
            to_samples(picture.icc_export(depth=8, **INTENT))
        except libvips().Error:
            return False
        return True

    def interpretation(self, samples: Samples) -> str:
        """The word of libvips for the samples."""
        return "cmyk" if self.space == "cmyk" else "rgb16" if samples.itemsize == 2 else "srgb"


INTENT = {"intent": "relative", "black_point_compensation": True}


def read_profile(data: bytes) -> Profile | LookUpProfile:
    """The colour space an embedded ICC profile describes.

    Raises:
        ValueError: it is damaged, or of a kind that pixels of an RGB, gray or CMYK file cannot have.
    """
    found = icc.parse_profile(data)
    name = found.name or "unnamed profile"
    if found.curves:
        matrix = None if found.to_xyz is None else _to_srgb(found.to_xyz)
        return Profile(name, data, found.curves, matrix)
    if found.space in ("cmyk", "rgb"):
        profile = LookUpProfile(name, data, "cmyk" if found.space == "cmyk" else "rgb")
        try:  # so that a bad table is found now
            profile.to_srgb(np.zeros((1, 1, 4 if found.space == "cmyk" else 3), np.uint8))
        except libvips().Error as error:
            raise ValueError(f"LittleCMS refuses it ({reason_of(error)})") from error
        return profile
    raise ValueError(f"profiles of {found.space} are not supported")


def _to_srgb(to_xyz: F64) -> F64:
    """Linear RGB to linear sRGB; white goes to white exactly where it does so but for the tags' 16 bits."""
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
    if space == "gray":
        data = icc.build_profile("Gray with sRGB curve", SRGB, None)
    elif name == "srgb":
        data = icc.build_profile("sRGB", SRGB, icc.SRGB_TO_XYZ)
    else:
        data = icc.build_profile("Display P3", SRGB, icc.P3_TO_XYZ)
    profile = read_profile(data)
    assert isinstance(profile, Profile)
    return profile


def luma(rows: F32) -> F32:
    """Gray (n, w, 1) of working-space rows (n, w, 3 or 1), with the weights of Rec. 709."""
    if rows.shape[-1] == 1:
        return rows
    r, g, b = rows[..., 0], rows[..., 1], rows[..., 2]
    # Written around green, so that R = G = B comes out exactly.
    return (g + np.float32(0.2126) * (r - g) + np.float32(0.0722) * (b - g))[..., None]
