"""Animations: all pictures of a PNG, WebP, GIF or AVIF file as they are shown, with their timing, and back.

Pictures are read whole, after disposal and blending, and written whole: every moment of the output shows what that
moment of the input showed. Encoders store only what changes, where their format can.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from srcli.errors import ImageError, ResourceError
from srcli.files import atomic_write
from srcli.image.encode import PROVENANCE_KEY, XMP_KEY, metadata_options, with_provenance
from srcli.image.gif import gif_options, with_palette
from srcli.image.header import MAX_PIXELS, check_pixels, inspect
from srcli.image.ifd import write_exif
from srcli.image.pillow import BROKEN, damaged, own_rules
from srcli.image.pixels import check_png, decode_frame
from srcli.image.quantise import Samples
from srcli.image.read import Image, image_of
from srcli.image.source import Origin, Source, open_source
from srcli.image.write import OutputPlan

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

SHORTEST = 100.0  # milliseconds that stand for "as fast as possible" in files that give no duration


@dataclass(frozen=True)
class Timing:
    """When pictures are shown.

    Attributes:
        durations: milliseconds of each.
        loop: how many times all of them are shown; 0 is for ever.
    """

    durations: tuple[float, ...]
    loop: int = 0


@dataclass(frozen=True, eq=False)
class Animation:
    """Pictures of one size and kind, and their timing."""

    frames: tuple[Image, ...]
    timing: Timing


def read_animation(origin: Origin, *, max_pixels: int = MAX_PIXELS, name: str | None = None) -> Animation:
    """Read all pictures of an animation, or the one of a file that holds a single one.

    Args:
        origin: a path, or the content itself.
        max_pixels: animations with more pixels, all pictures together, are refused on their header.
        name: what to call it in messages; the path by default.

    Raises:
        NothingToDoError: the file does not exist.
        ImageError: it is no animation, too large, cut off, damaged, or of a kind we do not read.
    """
    with open_source(origin, name) as source:
        found = inspect(source, "all")
        check_pixels(found.header, max_pixels, source.name, count=found.header.frames)
        picture = found.picture
        if picture is None or found.header.frames == 1:
            raise ImageError(f"{source.name} is no animation.")
        if found.header.depth != "8" and source.format != "avif":
            raise ImageError(
                f"{source.name} is an animation of 16 bits, of which only the first picture can be read.",
                hint="Use --frames first.",
            )
        if source.format == "png":
            check_png(source)
        frames, durations = [], []
        for index in range(_first(picture), found.header.frames):
            try:
                with own_rules():
                    picture.seek(index)
                    grown = replace(found.header, size=(picture.height, picture.width))  # by a GIF's picture
                    check_pixels(grown, max_pixels, source.name, count=found.header.frames)
                    decoded = decode_frame(source, picture)
            except BROKEN as error:
                raise damaged(source, error) from error
            durations.append(float(picture.info.get("duration") or 0) or SHORTEST)
            frames.append(image_of(source, found, decoded))
        loop = _loop(source, picture)
    return Animation(
        _alike(frames, _notes(source, picture, found.header.depth)), Timing(tuple(durations), loop)
    )


def _first(picture: Picture) -> int:
    """An animated PNG may begin with a picture for programs that show no animations."""
    return 1 if getattr(picture, "default_image", False) else 0


def _notes(source: Source, picture: Picture, depth: str) -> list[str]:
    notes = []
    if _first(picture):
        notes.append("the still picture before the animation is left out")
    if depth != "8":
        notes.append("an animation of more than 8 bits is read at 8 bits")
    if source.format == "avif":
        notes.append("how often an AVIF animation repeats cannot be read: for ever is assumed")
    return notes


def _loop(source: Source, picture: Picture) -> int:
    """GIF counts repetitions after the first time, and says nothing for none; PNG and WebP count all times."""
    if source.format == "gif":
        repeats = picture.info.get("loop")
        return 1 if repeats is None else 0 if repeats == 0 else int(repeats) + 1
    return int(picture.info.get("loop", 0))


def _alike(frames: Sequence[Image], notes: Sequence[str]) -> tuple[Image, ...]:
    """Pictures of one kind: with transparency if one has it, in colour if one is."""
    rgb = any(frame.kind == "rgb" for frame in frames)
    clear = any(frame.alpha is not None for frame in frames)

    def same(frame: Image) -> Image:
        pixels, alpha = frame.pixels, frame.alpha
        if rgb and frame.kind == "gray":
            pixels = np.repeat(pixels, 3, axis=2)
        if clear and alpha is None:
            alpha = np.full(pixels.shape[:2], 255, np.uint8)
        return replace(frame, pixels=pixels, alpha=alpha, notes=tuple(dict.fromkeys((*frame.notes, *notes))))

    return tuple(same(frame) for frame in frames)


# --- writing ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class AnimationPlan:
    """How an animation will be written.

    Attributes:
        still: how each picture is made; from `plan_output`.
        timing: of the pictures.
    """

    still: OutputPlan
    timing: Timing

    def write(
        self,
        target: Path | BinaryIO,
        bands: Iterable[Samples],
        *,
        provenance: Mapping[str, Any] | None = None,
    ) -> list[str]:
        """Write the file, whole or not at all; returns notes on what could not be kept.

        Args:
            target: a path (replaced if it exists), or a binary stream.
            bands: rows of samples of the first picture, then of the next, and so on.
            provenance: what made the animation.

        Raises:
            ResourceError: the folder is not writable, the disk is full, or the encoder fails.
        """
        data, notes = self._encoded(list(self._frames(bands)), provenance)
        if isinstance(target, Path):
            with atomic_write(target) as stream:
                stream.write(data)
        else:
            target.write(data)
        return notes

    def _frames(self, bands: Iterable[Samples]) -> Iterator[Samples]:
        height, parts, rows = self.still.size[0], list[Samples](), 0
        for band in bands:
            parts.append(band)
            rows += len(band)
            assert rows <= height  # a band belongs to one picture
            if rows == height:
                yield np.concatenate(parts)
                parts, rows = [], 0
        assert not parts

    def _encoded(
        self, frames: Sequence[Samples], provenance: Mapping[str, Any] | None
    ) -> tuple[memoryview, list[str]]:
        from PIL import Image as Pictures

        form, encoding = self.still.format.name, self.still.encoding
        pictures = [Pictures.fromarray(f[..., 0] if f.shape[2] == 1 else f) for f in frames]
        options, notes = self._options(form, None if encoding.strip else provenance)
        if form == "gif":
            pictures = [with_palette(picture) for picture in pictures]
        stream = io.BytesIO()
        try:
            with own_rules():
                pictures[0].save(stream, form.upper(), save_all=True, append_images=pictures[1:], **options)
        except BROKEN as error:
            raise ResourceError(f"the {form} encoder failed: {error}.", hint="Try --format png.") from error
        return stream.getbuffer(), notes

    def _options(self, form: str, provenance: Mapping[str, Any] | None) -> tuple[dict[str, Any], list[str]]:
        """Pillow's options for saving, and notes."""
        from PIL.PngImagePlugin import PngInfo

        encoding, timing, notes = self.still.encoding, self.timing, list[str]()
        options: dict[str, Any] = {"duration": list(timing.durations), "loop": timing.loop}
        if self.still.icc is not None and form != "gif":
            options["icc_profile"] = self.still.icc
        if form == "png":
            text = PngInfo()
            if provenance:
                text.add_itxt(PROVENANCE_KEY, json.dumps(dict(provenance), sort_keys=True))
            if encoding.metadata.xmp is not None:
                text.add_itxt(XMP_KEY, encoding.metadata.xmp.decode("utf-8", "replace"))
            if encoding.metadata.exif is not None:
                options["exif"] = write_exif(encoding.metadata.exif)
            return options | {
                "pnginfo": text,
                "compress_level": encoding.compress_level,
                "disposal": 0,
                "blend": 0,  # pixels replace those before, transparent ones as well
                "default_image": False,
            }, notes
        if form == "gif":
            about, notes = gif_options(encoding.metadata, provenance, PROVENANCE_KEY, alpha=self.still.alpha)
            return about | self._gif_timing(), notes
        kept, more = with_provenance(encoding.metadata, provenance)
        about, lost = metadata_options(form, kept)
        options |= about | {"quality": 100 if encoding.lossless else encoding.quality}
        if form == "webp":
            options |= {"lossless": encoding.lossless, "allow_mixed": False}
        else:
            options["duration"] = _rounded(timing.durations, 1)
            options["subsampling"] = ":".join("444" if encoding.lossless else encoding.chroma)
            if timing.loop:
                notes.append("how often an AVIF animation repeats cannot be written")
        return options, notes + more + lost

    def _gif_timing(self) -> dict[str, Any]:
        """GIF counts hundredths of seconds."""
        options: dict[str, Any] = {"duration": _rounded(self.timing.durations, 10)}
        if self.timing.loop != 1:
            options["loop"] = max(0, self.timing.loop - 1)
        return options


def _rounded(durations: Sequence[float], unit: int) -> list[int]:
    """Whole units of milliseconds; what rounding takes from one picture goes to the next."""
    ends = np.round(np.cumsum(durations) / unit)
    return [int(step) * unit for step in np.diff(ends, prepend=0)]
