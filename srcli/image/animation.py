"""Animations: all pictures of a PNG, WebP, GIF or AVIF file as they are shown, with their timing, and back.

Pictures are read whole, after disposal and blending, and written whole: every moment of the output shows what that
moment of the input showed. Encoders store only what changes, where their format can.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from srcli.errors import ImageError
from srcli.files import atomic_write
from srcli.image.decode import DEEP_ANIMATION, check_png, decode_frame
from srcli.image.encode import about_options, gif_options, picture_of, png_texts, save_picture, with_palette
from srcli.image.metadata import with_provenance
from srcli.image.probe import MAX_PIXELS, check_pixels, inspect, pillow
from srcli.image.read import Image, image_of
from srcli.image.samples import Samples
from srcli.image.source import Origin, Source, open_source
from srcli.image.write import OutputPlan

SHORTEST = 100.0  # milliseconds that stand for "as fast as possible" in files that give no duration


@dataclass(frozen=True)
class Timing:
    """Milliseconds that each picture is shown, and how often all of them repeat; 0 is for ever."""

    durations: tuple[float, ...]
    loop: int = 0


@dataclass(frozen=True, eq=False)
class Animation:
    """Pictures of one size and kind, and their timing."""

    frames: tuple[Image, ...]
    timing: Timing


def read_animation(
    origin: Origin | Source, *, max_pixels: int = MAX_PIXELS, name: str | None = None
) -> Animation:
    """Read all pictures of an animation.

    Arguments and errors are those of `read_image`; `max_pixels` is of all pictures together.
    """
    with open_source(origin, name) as source:
        found = inspect(source, "all")
        header, picture = found.header, found.picture
        check_pixels(header, max_pixels, source.name, count=header.frames)
        if picture is None or header.frames == 1:
            raise ImageError(f"{source.name} is no animation.")
        if header.depth != "8" and source.format != "avif":
            raise ImageError(f"{source.name} {DEEP_ANIMATION}", hint="Use --frames first.")
        if source.format == "png":
            check_png(source)
        # An animated PNG may begin with a picture for programs that show no animations.
        first = int(getattr(picture, "default_image", False))
        frames, durations = list[Image](), list[float]()
        for index in range(first, header.frames):
            with pillow(source):
                picture.seek(index)
                # A frame can enlarge a GIF's canvas.
                now = replace(header, size=(picture.height, picture.width))
                check_pixels(now, max_pixels, source.name, count=header.frames)
                decoded = decode_frame(source, picture)
            durations.append(float(picture.info.get("duration") or 0) or SHORTEST)
            frames.append(image_of(source, found, decoded))
    notes = ["the still picture before the animation is left out"] * first
    if header.depth != "8":
        notes.append("an animation of more than 8 bits is read at 8 bits")
    if source.format == "avif":
        notes.append("how often an AVIF animation repeats cannot be read: for ever is assumed")
    loop = picture.info.get("loop")
    if source.format == "gif":  # counts repetitions after the first time, and has no entry for none
        loop = 1 if loop is None else int(loop) + 1 if loop else 0
    return Animation(_alike(frames, notes), Timing(tuple(durations), int(loop or 0)))


def _alike(frames: Sequence[Image], notes: Sequence[str]) -> tuple[Image, ...]:
    """The pictures alike: with transparency if one has it, in colour if one is."""
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


@dataclass(frozen=True, eq=False)
class AnimationPlan:
    """How an animation will be written: each picture as `plan_output` says, and when it is shown."""

    still: OutputPlan
    timing: Timing

    def write(
        self,
        target: Path | BinaryIO,
        bands: Iterable[Samples],
        *,
        provenance: Mapping[str, Any] | None = None,
    ) -> list[str]:
        """As `OutputPlan.write`; `bands` are rows of samples of the first picture, then of the next, and so on."""
        name = self.still.format.name
        pictures = [picture_of(frame) for frame in self._frames(bands)]
        options, notes = self._options(name, None if self.still.encoding.strip else provenance)
        if name == "gif":
            pictures = [with_palette(picture) for picture in pictures]
        data = save_picture(pictures[0], name, options | {"save_all": True, "append_images": pictures[1:]})
        if isinstance(target, Path):
            with atomic_write(target) as file:
                file.write(data)
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

    def _options(self, name: str, provenance: Mapping[str, Any] | None) -> tuple[dict[str, Any], list[str]]:
        """Pillow's options for saving, and notes."""
        encoding, timing = self.still.encoding, self.timing
        options: dict[str, Any] = {"duration": list(timing.durations), "loop": timing.loop}
        if name == "gif":  # it counts hundredths of seconds, and repetitions after the first time
            about, notes = gif_options(encoding, provenance)
            loop = {} if timing.loop == 1 else {"loop": max(0, timing.loop - 1)}
            return about | loop | {"duration": _rounded(timing.durations, 10)}, notes
        if name == "png":
            options |= {"disposal": 0, "blend": 0}  # pixels replace those before, transparent ones as well
            options |= {"default_image": False, "compress_level": encoding.compress_level}
            texts, notes = png_texts(encoding.metadata, provenance)
            return options | about_options(encoding) | {"pnginfo": _text_chunks(texts)}, notes
        kept, notes = with_provenance(encoding.metadata, provenance)
        options |= about_options(replace(encoding, metadata=kept))
        options["quality"] = 100 if encoding.lossless else encoding.quality  # of lossless WebP, the effort
        if name == "webp":
            return options | {"lossless": encoding.lossless, "allow_mixed": False}, notes
        options["duration"] = _rounded(timing.durations, 1)
        options["subsampling"] = ":".join("444" if encoding.lossless else encoding.chroma)
        return options, ["how often an AVIF animation repeats cannot be written"] * bool(timing.loop) + notes


def _text_chunks(texts: Mapping[str, str]) -> Any:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    for keyword, text in texts.items():
        info.add_itxt(keyword, text)
    return info


def _rounded(durations: Sequence[float], unit: int) -> list[int]:
    """Whole units of milliseconds; what rounding takes from one picture goes to the next."""
    ends = np.round(np.cumsum(durations) / unit)
    return [int(step) * unit for step in np.diff(ends, prepend=0)]
