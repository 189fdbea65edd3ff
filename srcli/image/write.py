"""Writing: plan the output file, convert rows to its samples, and encode them.

plan = plan_output(image, (H, W), output_format=None, bit_depth="keep", ...)
bands = (plan.band(rows, alpha_rows, top=top) for ...)      from top to bottom
plan.write(path, bands, provenance={"version": ...})
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from srcli.errors import UsageError
from srcli.files import atomic_write
from srcli.image.colour import LookUpProfile, Profile, luma, standard_profile
from srcli.image.encode import Encoding, encode
from srcli.image.formats import (
    AVIF_BITS,
    FORMATS,
    OPTIONS,
    Depth,
    Format,
    check_format_limits,
    depth_wanted,
    depths_of,
    find_format,
    format_of,
)
from srcli.image.metadata import MetadataPolicy, prepare
from srcli.image.probe import CHANNELS, Kind
from srcli.image.read import Image
from srcli.image.samples import DTYPES, F32, Raster, Samples, dither_noise, quantise

IccPolicy = Literal["keep", "srgb", "p3", "strip"]
BitDepth = Literal["keep", "8", "10", "12", "16", "32f"]

PIPE_BYTES = 64 << 20  # of a TIFF for a pipe are kept in memory, the rest on the disk
# Formats that are only read: what their pictures become.
SUCCESSORS = {"heic": "jpg", **dict.fromkeys(("gif", "bmp", "ppm", "tga", "ico"), "png")}


@dataclass(frozen=True, eq=False)
class OutputPlan:
    """How one output file of `size` (height, width) will be made, and notes on what is lost; from `plan_output`.

    `kind`, `depth` and `alpha` are what is stored; `profile` is the colour space to convert to, None for sRGB.
    """

    format: Format
    size: tuple[int, int]
    kind: Kind
    depth: Depth
    alpha: bool
    profile: Profile | LookUpProfile | None
    background: tuple[float, float, float]
    dither: bool
    encoding: Encoding
    notes: tuple[str, ...]

    @property
    def channels(self) -> int:
        """Samples per pixel, alpha included."""
        return CHANNELS[self.kind] + self.alpha

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the samples."""
        return DTYPES[self.depth]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape (H, W, channels) of the array that `write` expects."""
        return *self.size, self.channels

    @property
    def takes_bytes(self) -> bool:
        """Whether 8-bit RGB is stored as it comes, so that `band` takes rows that were rounded before."""
        same = self.profile is None or (isinstance(self.profile, Profile) and self.profile.is_srgb)
        return same and self.kind == "rgb" and self.depth == "8" and not self.dither

    def band(self, rows: F32 | Samples, alpha: F32 | None = None, *, top: int = 0) -> Samples:
        """Samples (n, W, channels) of working-space rows, in the colour space and depth of the file.

        Args:
            rows: (n, W, 3 or 1), RGB, sRGB-encoded, white at 1; or, see `takes_bytes`, uint8 with white at 255.
            alpha: (n, W) in [0, 1]; None is opaque.
            top: place of the first row in the output, for the dither.
        """
        cover = np.ones(rows.shape[:2], np.float32) if alpha is None else np.clip(alpha, 0, 1)
        if rows.dtype == np.uint8:
            return np.dstack([rows, quantise(cover, "8")]) if self.alpha else rows
        if self.kind == "gray":
            rows = luma(rows)
        if alpha is not None and not self.alpha:
            ground = np.array(self.background, np.float32)[None, None]
            ground = luma(ground) if self.kind == "gray" else ground
            rows = rows * cover[..., None] + ground * (1 - cover[..., None])
        if isinstance(self.profile, LookUpProfile):
            depth = self.depth if self.dither else "16"
            return self.profile.from_srgb(quantise(rows, depth, noise=self._noise(rows, top)), self.dtype)
        if self.profile is not None:
            rows = self.profile.from_working(rows)
        if self.alpha:
            rows = np.concatenate([rows, cover[..., None]], axis=2)
        return quantise(rows, self.depth, noise=self._noise(rows, top))

    def _noise(self, rows: F32, top: int) -> F32 | None:
        if not self.dither or self.depth == "32f":
            return None
        noise = dither_noise((rows.shape[0], rows.shape[1], rows.shape[2]), top=top)
        if self.alpha:
            noise[..., -1] = 0  # flat transparency must stay flat
        return noise

    def write(
        self,
        target: Path | BinaryIO,
        pixels: Samples | Iterable[Samples],
        *,
        provenance: Mapping[str, Any] | None = None,
    ) -> list[str]:
        """Write the file, whole or not at all; returns notes on metadata that could not be kept.

        PNG and TIFF are written as their rows come, with a few megabytes of memory; the file is the same.

        Args:
            target: a path (replaced if it exists), or a binary stream such as standard output.
            pixels: of `shape` and `dtype`; or bands of them (n, W, channels) from top to bottom.
            provenance: what made the picture; stored as JSON under the name srcli, in PNG as text, elsewhere
                in the XMP packet. Left out if the metadata is stripped.

        Raises:
            ResourceError: the folder is not writable, the disk is full.
            ValueError: samples of another shape or type.
        """
        if isinstance(target, Path):
            with atomic_write(target) as stream:
                return self.write(stream, pixels, provenance=provenance)
        if self.format.name == "tiff" and not target.seekable():  # TIFF's first bytes are written last
            with tempfile.SpooledTemporaryFile(PIPE_BYTES) as whole:
                notes = self.write(whole, pixels, provenance=provenance)  # type: ignore[arg-type]  # typeshed
                whole.seek(0)
                shutil.copyfileobj(whole, target)
            return notes
        bands = (pixels,) if isinstance(pixels, np.ndarray) else pixels
        raster = Raster(self.shape, self.dtype, bands)
        return encode(target, raster, self.format.name, self.encoding, provenance)


def plan_output(
    image: Image,
    size: tuple[int, int],
    *,
    output_format: str | None = None,
    bit_depth: BitDepth = "keep",
    icc: IccPolicy = "keep",
    metadata: MetadataPolicy = "keep",
    background: tuple[float, float, float] = (1.0, 1.0, 1.0),
    keep_alpha: bool = True,
    dither: bool = False,
    quality: int = 95,
    lossless: bool = False,
    chroma: Literal["444", "420"] = "444",
    compress_level: int = 6,
    max_bytes: int | None = None,
) -> OutputPlan:
    """Decide everything about an output file of `size` (height, width) before any work is done.

    Depth, profile and metadata are the source's unless said otherwise; what the format cannot hold is given up with a
    note. `output_format` None takes the source's, or PNG (TIFF for float) where that cannot hold the depth or alpha.
    `icc` srgb or p3 converts and embeds that, strip converts to sRGB and embeds nothing. `metadata` safe drops place,
    serial numbers, owner and maker notes. `background` is RGB in [0, 1]; `keep_alpha` False shows colours as they are.
    `max_bytes` takes the highest quality up to `quality` that fits. Raises UsageError, ResourceError (too large for it).
    """
    _check_numbers(quality, compress_level, background)
    wanted, has_alpha = depth_wanted(image.depth, bit_depth), image.alpha is not None and keep_alpha
    chosen, notes = choose_format(image.format, output_format, wanted, bit_depth, alpha=has_alpha)
    name, alpha = chosen.name, has_alpha and chosen.alpha
    check_format_limits(name, size)
    depth, bits = _stored_depth(image, chosen, wanted, bit_depth, notes)
    if has_alpha and not alpha:
        notes.append(f"{name} has no transparency: the picture is laid on the background colour")
    max_bytes = _bytes_wanted(max_bytes, name, lossless, notes)
    # libheif writes no gray, and Pillow, which writes AVIF of 8 bits, none with alpha.
    as_rgb = not chosen.gray or (name == "avif" and (alpha or lossless or depth != "8"))
    kind, profile, embedded = _colour(image, chosen, icc if chosen.icc else "strip", alpha, as_rgb, notes)
    if image.profile is not None and not chosen.icc:
        notes.append(f"{name} has no place for a colour profile: written as sRGB")
    if isinstance(profile, LookUpProfile) and depth == "32f":
        depth = "16"
        notes.append(f"'{profile.name}' works by tables: written with 16 bits")
    about, more = prepare(image.metadata, metadata, size)
    encoding = Encoding(
        quality=quality,
        lossless=lossless,
        chroma=chroma,
        compress_level=compress_level,
        metadata=about,
        strip=metadata == "strip",
        alpha=alpha,
        bits=bits,
        max_bytes=max_bytes,
        icc=embedded,
        profile_name=profile.name if profile else "sRGB",
        cmyk=kind == "cmyk",
    )
    return OutputPlan(
        chosen, size, kind, depth, alpha, profile, background, dither, encoding, (*notes, *more)
    )


def _bytes_wanted(most: int | None, name: str, lossless: bool, notes: list[str]) -> int | None:
    """The limit that holds for a format; notes say what is ignored."""
    if lossless and name == "jpg":
        notes.append("JPEG cannot be lossless; lossless is ignored")
    if most is None or not (lossless or name not in OPTIONS["max_bytes"][1]):
        return most
    notes.append(f"{'lossless ' * lossless}{name} has no quality to choose: max-bytes is ignored")
    return None


def _stored_depth(
    image: Image, chosen: Format, wanted: Depth, bit_depth: BitDepth, notes: list[str]
) -> tuple[Depth, int]:
    """The depth that is stored, and its bits in an AVIF."""
    depths = depths_of(chosen, image.format, bit_depth)
    depth = wanted if wanted in depths else depths[-1]
    if depth != wanted:
        notes.append(f"{chosen.name} cannot hold {wanted} bits: written with {depth}")
    return depth, 8 if depth == "8" else AVIF_BITS.get(bit_depth, 10 if image.bits == 10 else 12)


def _check_numbers(quality: int, compress_level: int, background: tuple[float, ...]) -> None:
    if not 1 <= quality <= 100:
        raise UsageError(f"quality must be from 1 to 100, got {quality}.")
    if not 0 <= compress_level <= 9:
        raise UsageError(f"compress level must be from 0 to 9, got {compress_level}.")
    if len(background) != 3 or not all(0 <= value <= 1 for value in background):
        raise UsageError(f"background must be three numbers from 0 to 1, got {background}.")


def choose_format(
    own: str, asked: str | None, depth: Depth, bit_depth: str = "keep", *, alpha: bool, animated: bool = False
) -> tuple[Format, list[str]]:
    """The format of an output of a source of format `own`, and a note if it is not what one would expect.

    A format that is `asked` for is taken; UsageError if there is none, or it cannot hold the pictures or `bit_depth`.
    """
    if animated:
        form = find_format(asked or own)
        if not form.animated:
            names = ", ".join(other.name for other in FORMATS.values() if other.animated)
            raise UsageError(f"{form.name} holds no animation.", hint=f"Formats that do: {names}.")
        return form, []
    if bit_depth in AVIF_BITS and (asked or own) != "avif":
        what = f"{asked or own} does not hold {bit_depth} bits."
        raise UsageError(what, hint="Use --bit-depth 16, or -f avif.")
    if asked is not None:
        return find_format(asked), []
    usual = FORMATS[SUCCESSORS.get(own, own)]
    if depth in depths_of(usual, own, bit_depth) and (usual.alpha or not alpha):
        return usual, []
    better = FORMATS["tiff" if depth == "32f" else "png"]
    reason = "transparency" if not usual.alpha and alpha else f"{depth} bits"
    return better, [f"{usual.name} cannot hold {reason}: written as {better.name}"]


def _colour(
    image: Image, chosen: Format, policy: IccPolicy, alpha: bool, as_rgb: bool, notes: list[str]
) -> tuple[Kind, Profile | LookUpProfile | None, bytes | None]:
    """What is stored (gray, rgb, cmyk), the space to convert to, and the profile to embed."""
    stored: Literal["gray", "rgb"] = "rgb" if image.kind == "rgb" or as_rgb else "gray"
    if policy == "strip" or image.metadata.cicp is not None:  # PQ and HLG are not converted
        return stored, None, None
    if policy in ("srgb", "p3"):
        standard = standard_profile("p3" if policy == "p3" else "srgb", stored)
        return stored, standard, standard.data
    profile = image.profile
    if profile is None:
        return stored, None, None
    if isinstance(profile, LookUpProfile):
        refused = _refusal(profile, chosen, alpha)
        if refused is None:
            return profile.space, profile, profile.data
        notes.append(f"{refused}: written as sRGB")
        srgb = standard_profile("srgb", "rgb")
        return "rgb", srgb, srgb.data
    if profile.space != stored:  # a gray profile where the format stores only RGB
        notes.append(f"{chosen.name} has no gray: '{profile.name}' is converted to sRGB")
        return stored, None, None
    return stored, profile, profile.data


def _refusal(profile: LookUpProfile, chosen: Format, alpha: bool) -> str | None:
    """Why an output cannot keep the colour space of a look-up profile; None if it can."""
    if not profile.is_writable:
        return f"the profile '{profile.name}' works in one direction only"
    if profile.space == "cmyk" and not chosen.cmyk:
        return f"{chosen.name} cannot hold CMYK"
    return "look-up profiles are not applied together with transparency" if alpha else None


def write_image(
    target: Path | str | BinaryIO,
    pixels: NDArray[Any] | Iterable[F32],
    *,
    size: tuple[int, int] | None = None,
    like: Image | None = None,
    provenance: Mapping[str, Any] | None = None,
    **options: Any,
) -> list[str]:
    """Write a picture held in memory, or its rows as they come; returns what was lost, a line each.

    Args:
        target: a path, whose ending names the format unless `output_format` does, or a binary stream.
        pixels: (H, W, c), sRGB; 1 gray, 2 gray and alpha, 3 RGB, 4 RGB and alpha; uint8, uint16, or floats in
            [0, 1] (written with the depth of `like`, else 16 bits where the format can). Or bands of rows (n, W, 3)
            from top to bottom, floats in [0, 1], such as `Upscaler.stream` gives.
        size: (H, W) of a picture that comes as rows.
        like: a source whose profile, metadata, depth and format are to be kept.
        provenance: see `OutputPlan.write`.
        **options: of `plan_output`.

    Raises:
        UsageError: a wrong option.
        ResourceError: the format cannot hold this size, or the file cannot be written.
        ValueError: rows without a size, or not as many as it says.
    """
    target = Path(target) if isinstance(target, str) else target
    if isinstance(target, Path) and (named := format_of(target)):
        options.setdefault("output_format", named.name)
    if not isinstance(pixels, np.ndarray):
        return _write_rows(target, pixels, size, like, provenance, options)
    samples = pixels[..., None] if pixels.ndim == 2 else pixels
    if samples.dtype not in (np.uint8, np.uint16):
        samples = samples.astype(np.float32)
    has_alpha = samples.shape[2] in (2, 4)
    whole = Image(samples[..., : samples.shape[2] - has_alpha], samples[..., -1] if has_alpha else None)
    source = whole
    if like is not None:
        profile = like.profile
        if isinstance(profile, Profile) and profile.space != whole.kind:
            profile = None
        source = replace(whole, format=like.format, profile=profile, metadata=like.metadata)
        options.setdefault("bit_depth", like.depth)
    elif whole.depth == "32f":
        options.setdefault("bit_depth", _deepest(options))
    plan = plan_output(source, whole.size, **options)

    def bands() -> Iterator[Samples]:
        for top in range(0, whole.size[0], 256):
            bottom = min(top + 256, whole.size[0])
            alpha = whole.alpha_strip(top, bottom) if has_alpha else None
            yield plan.band(whole.strip(top, bottom), alpha, top=top)

    return [*plan.notes, *plan.write(target, bands(), provenance=provenance)]


def _write_rows(
    target: Path | BinaryIO,
    rows: Iterable[F32],
    size: tuple[int, int] | None,
    like: Image | None,
    provenance: Mapping[str, Any] | None,
    options: dict[str, Any],
) -> list[str]:
    if size is None:
        raise ValueError("rows of a picture need its size=(height, width)")
    source = replace(like, alpha=None) if like else Image(np.zeros((1, 1, 3), np.float32))
    options.setdefault("bit_depth", like.depth if like else _deepest(options))
    plan = plan_output(source, size, **options)

    def bands() -> Iterator[Samples]:
        top = 0
        for band in rows:
            yield plan.band(band, top=top)
            top += len(band)

    return [*plan.notes, *plan.write(target, bands(), provenance=provenance)]


def _deepest(options: Mapping[str, Any]) -> Depth:
    depths = find_format(options.get("output_format") or "png").depths
    return "32f" if "32f" in depths else depths[-1]
