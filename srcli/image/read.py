"""Reading: upright samples at the file's depth, their colour space, and the file's metadata."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, cast

import numpy as np

from srcli.errors import ImageError
from srcli.image.colour import CodePoints, LookUpProfile, Profile, read_profile
from srcli.image.decode import Decoded, comes_in_bands, decode, decode_bands
from srcli.image.formats import Depth
from srcli.image.metadata import Metadata, read_metadata, read_tiff_metadata
from srcli.image.probe import MAX_PIXELS, TURNED, Inspection, check_pixels, inspect
from srcli.image.samples import F32, Samples, Spool, depth_of, to_float
from srcli.image.source import Origin, Source, open_source

STRIP_ROWS = 256


@dataclass(frozen=True, eq=False)
class Image:
    """A picture as it was read.

    Samples keep the depth and the encoding of the file, so that nothing is lost and memory stays small; `strip`
    gives rows in the working space.

    Attributes:
        pixels: (h, w, c) uint8, uint16 or float32; c is 1 (gray) or 3 (RGB). Colour under full transparency has
            been replaced by the nearest visible one.
        alpha: (h, w) of the same type, 0 is transparent; None without transparency.
        format: png, jpg, webp, tiff, avif, gif, bmp, ppm, tga, ico or heic.
        profile: the colour space of the file (for CMYK, of the file, not of `pixels`); None means sRGB.
        metadata: EXIF, XMP, IPTC and dots per inch.
        notes: what was lost or changed in reading, a line each.
        bits: of a sample in the file.
    """

    pixels: Samples
    alpha: Samples | None = None
    format: str = "png"
    profile: Profile | LookUpProfile | None = None
    metadata: Metadata = field(default_factory=Metadata)
    notes: tuple[str, ...] = ()
    bits: int = 8

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.pixels.shape[0], self.pixels.shape[1]

    @property
    def kind(self) -> Literal["gray", "rgb"]:
        """Gray (one channel) or rgb."""
        return "gray" if self.pixels.shape[2] == 1 else "rgb"

    @property
    def depth(self) -> Depth:
        """8, 16 or 32f."""
        return depth_of(self.pixels)

    @cached_property
    def alpha_constant(self) -> float | None:
        """The alpha value in [0, 1] if it is the same everywhere; None if it varies or there is none."""
        if self.alpha is None or not bool((self.alpha == self.alpha.flat[0]).all()):
            return None
        first = float(self.alpha.flat[0])
        return first if self.alpha.dtype == np.float32 else first / np.iinfo(self.alpha.dtype).max

    def strip(self, top: int, bottom: int) -> F32:
        """Rows [top, bottom) as float32 (n, w, 3), RGB, sRGB-encoded; gray is repeated three times.

        Values lie in [0, 1], but for float files and colours outside sRGB.
        """
        rows = self.pixels[top:bottom]
        values = self.profile.to_working(rows) if isinstance(self.profile, Profile) else to_float(rows)
        return np.repeat(values, 3, axis=2) if values.shape[2] == 1 else values

    def alpha_strip(self, top: int, bottom: int) -> F32:
        """Rows [top, bottom) of alpha as float32 (n, w) in [0, 1]; ones without transparency."""
        if self.alpha is None:
            return np.ones((bottom - top, self.size[1]), np.float32)
        return np.clip(to_float(self.alpha[top:bottom]), 0, 1)


def read_image(
    origin: Origin | Source | str,
    *,
    frames: str | int = "error",
    max_pixels: int = MAX_PIXELS,
    name: str | None = None,
    in_memory: int | None = None,
    folder: Path | None = None,
) -> Image:
    """Read a picture: PNG, JPEG, WebP, TIFF, AVIF, GIF, BMP, PPM, TGA, ICO and HEIC.

    Args:
        origin: a path, or the content itself.
        frames: of a file with several pictures: "error" and "all" refuse, "first", or a number counted from 1;
            `read_animation` reads all.
        max_pixels: larger pictures are refused on their header.
        name: what to call it in messages; the path by default.
        in_memory: a picture of more bytes is decoded a few rows at a time into a file without a name, if its kind
            allows (`comes_in_bands`); None is no limit.
        folder: where that file lies; None for the system's place.

    Raises:
        NothingToDoError: the file does not exist.
        ImageError: it is no image, empty, cut off, damaged, too large, or of a kind we do not read.
        ResourceError: the disk is full.
    """
    with open_source(Path(origin) if isinstance(origin, str) else origin, name) as source:
        found = inspect(source, "error" if frames == "all" else frames)
        check_pixels(found.header, max_pixels, source.name)
        if in_memory is not None and found.header.nbytes > in_memory and comes_in_bands(source, found):
            return _read_in_bands(source, found, in_memory, folder)
        return image_of(source, found, decode(source, found))


def image_of(source: Source, found: Inspection, decoded: Decoded) -> Image:
    """A picture from its decoded samples: upright, with its colour space and metadata."""
    metadata, notes = _metadata(source, found)
    notes = decoded.notes + notes
    if decoded.pixels.dtype == np.float32:
        _check_range(decoded.pixels.min(), decoded.pixels.max(), source.name, notes)
    pixels, alpha = decoded.pixels, decoded.alpha
    if not decoded.upright:
        pixels = _turn(pixels, found.header.orientation)
        alpha = None if alpha is None else _turn(alpha, found.header.orientation)
    pixels, profile = _in_colour(pixels, decoded.kind, found.colour, notes)
    if alpha is not None:
        pixels = bleed(pixels, alpha)
    return Image(pixels, alpha, source.format, profile, metadata, tuple(notes), found.header.bits)


def _read_in_bands(source: Source, found: Inspection, most: int, folder: Path | None) -> Image:
    """As `read_image`, for a picture that is neither turned nor transparent."""
    metadata, more = _metadata(source, found)
    spool: Spool | None = None
    profile: Profile | LookUpProfile | None = None
    notes, colour = list[str](), list[str]()
    low, high = np.float32(np.inf), np.float32(-np.inf)
    for decoded in decode_bands(source, found, most):
        if decoded.pixels.dtype == np.float32:  # NaN stays NaN in both
            low, high = np.minimum(low, decoded.pixels.min()), np.maximum(high, decoded.pixels.max())
        colour.clear()  # every band says the same
        pixels, profile = _in_colour(decoded.pixels, decoded.kind, found.colour, colour)
        if spool is None:
            notes = [*decoded.notes, *more]
            spool = Spool((*found.header.size, pixels.shape[2]), pixels.dtype, folder, in_memory=0)
        spool.append(pixels)
    assert spool is not None
    if spool.dtype == np.float32:
        _check_range(low, high, source.name, notes)
    pixels = cast(Samples, spool)
    return Image(pixels, None, source.format, profile, metadata, (*notes, *colour), found.header.bits)


def _metadata(source: Source, found: Inspection) -> tuple[Metadata, list[str]]:
    if found.page is not None:
        return read_tiff_metadata(found.page.tags), []
    assert found.picture is not None
    metadata, notes = read_metadata(source, found.picture)
    return replace(metadata, cicp=found.colour if isinstance(found.colour, CodePoints) else None), notes


def _check_range(low: np.float32, high: np.float32, name: str, notes: list[str]) -> None:
    """Refuse NaN and Inf, and mention floats that are not in [0, 1]."""
    if not np.isfinite([low, high]).all():
        what = f"{name} holds NaN or infinite values."
        raise ImageError(what, hint="Repair it in the program it comes from.")
    if low < 0 or high > 1:
        notes.append(f"float values from {low:.4g} to {high:.4g}; 0 is taken as black and 1 as white")


def _turn(samples: Samples, orientation: int) -> Samples:
    """Samples (h, w, ...) as they are to be seen; EXIF 2.32, tag 274."""
    if orientation in TURNED:
        samples = np.swapaxes(samples, 0, 1)
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    return np.ascontiguousarray(samples)


def bleed(pixels: Samples, alpha: Samples) -> Samples:
    """Pixels (h, w, c) in which every fully transparent pixel (`alpha` 0) has the colour of the nearest visible one.

    What lies under transparency is often black or white; a network or a filter would draw it into the edge.
    """
    hidden = alpha == 0
    if not hidden.any() or hidden.all():
        return pixels
    import cv2

    _, nearest = cv2.distanceTransformWithLabels(
        hidden.view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    visible = ~hidden
    colours = np.zeros((int(nearest.max()) + 1, pixels.shape[2]), pixels.dtype)
    colours[nearest[visible]] = pixels[visible]
    filled = pixels.copy()
    filled[hidden] = colours[nearest[hidden]]
    return filled


def _in_colour(
    pixels: Samples, kind: str, described: bytes | CodePoints | None, notes: list[str]
) -> tuple[Samples, Profile | LookUpProfile | None]:
    """Gray or RGB samples and the colour space of the file; look-up profiles are converted to sRGB here."""
    profile = None
    if isinstance(described, CodePoints):
        notes.append(f"HDR colours ({described.name}) pass through as they are, with their tag where it fits")
    elif described:
        try:
            profile = read_profile(described)
        except ValueError as error:
            notes.append(f"the colour profile is left out: {error}")
    if kind == "cmyk":
        return _from_cmyk(pixels, profile, notes)
    if profile is None:
        return pixels, None
    name = f"profile '{profile.name}'"
    if kind == "gray" and isinstance(profile, Profile) and profile.space == "rgb":
        if profile.is_srgb:
            return pixels, None
        notes.append(f"gray pixels with the RGB {name} are treated as RGB")
        return np.repeat(pixels, 3, axis=2), profile
    if profile.space != kind:
        notes.append(f"the {profile.space} {name} does not fit {kind} pixels; left out")
        return pixels, None
    if isinstance(profile, LookUpProfile):
        notes.append(f"the {name} works by tables: its colours pass through sRGB")
        return _by_tables(pixels, profile), profile
    return pixels, profile


def _from_cmyk(
    pixels: Samples, profile: Profile | LookUpProfile | None, notes: list[str]
) -> tuple[Samples, LookUpProfile | None]:
    if isinstance(profile, LookUpProfile) and profile.space == "cmyk":
        bits = 8 if pixels.dtype == np.uint8 else 16
        notes.append(f"CMYK is converted to sRGB at {bits} bits through '{profile.name}'")
        return _by_tables(pixels, profile), profile
    if profile is not None:
        notes.append(f"the {profile.space} profile '{profile.name}' does not fit CMYK pixels; left out")
    notes.append("CMYK without a profile is converted to sRGB by the plain formula; colours may be off")
    return _by_tables(pixels, None), None


def _by_tables(pixels: Samples, profile: LookUpProfile | None) -> Samples:
    """Samples in sRGB (floats at 16 bits); without a profile, inks as (1 - ink) (1 - black)."""
    out = np.empty((*pixels.shape[:2], 3), np.uint8 if pixels.dtype == np.uint8 else np.uint16)
    white = np.iinfo(out.dtype).max
    for top in range(0, len(pixels), STRIP_ROWS):
        rows = pixels[top : top + STRIP_ROWS]
        if rows.dtype == np.float32:
            rows = np.rint(np.clip(rows, 0, 1) * 65535).astype(np.uint16)
        if profile is None:
            light = white - rows.astype(np.uint32)
            out[top : top + STRIP_ROWS] = (light[..., :3] * light[..., 3:] + white // 2) // white
        else:
            out[top : top + STRIP_ROWS] = profile.to_srgb(rows)
    return out
