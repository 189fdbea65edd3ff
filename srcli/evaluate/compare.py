"""What `compare` shows: differences of pictures in numbers, or one picture enlarged by several models.

`contact_sheet` draws it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from srcli.data.reduce import pillow_bicubic
from srcli.errors import UsageError
from srcli.evaluate.rows import finite, json_text
from srcli.evaluate.tables import columns_text
from srcli.geometry import Size, output_size
from srcli.image.read import read_image
from srcli.image.samples import quantise
from srcli.metrics import METRICS, Metric, Protocol, Scene, find_protocol, measure
from srcli.metrics.distributions import channel_distances
from srcli.metrics.psnr import psnr

if TYPE_CHECKING:
    from srcli.evaluate.models import Draw, Model

U8 = NDArray[np.uint8]
DEFAULT_METRICS = ("psnr", "psnr-y", "ssim", "spectrum", "hist-w1")
SHAPE_TOLERANCE = 0.02  # relative difference of width / height that rounding of sizes may explain
BINS = 64  # of a histogram
PROTOCOL = "rgb"


class Crop(NamedTuple):
    """A part of a picture, in its pixels from the top left."""

    x: int
    y: int
    w: int
    h: int


@dataclass(frozen=True)
class Picture:
    """A picture to look at: its label, pixels (h, w, 3) in 8-bit sRGB, and what was changed in reading."""

    label: str
    pixels: U8
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.pixels.shape[0], self.pixels.shape[1]


@dataclass(frozen=True)
class Measured:
    """How far the picture labelled `of` is from that labelled `to`, taken as the truth.

    `values` are those of metrics, `histograms` the Wasserstein-1 distances of red, green and blue in 8-bit levels.
    """

    of: str
    to: str
    values: dict[str, float]
    histograms: tuple[float, float, float]


def load_picture(path: Path, label: str | None = None) -> Picture:
    """A file as 8-bit sRGB, what is transparent on white.

    Raises NothingToDoError (no such file), ImageError (it cannot be read).
    """
    image = read_image(path, frames="first")
    rgb = image.strip(0, image.size[0])
    notes = list(image.notes)
    if image.alpha is not None:
        alpha = image.alpha_strip(0, image.size[0])[..., None]
        rgb = rgb * alpha + (1 - alpha)
        notes.append("transparency is shown on white")
    if image.depth != "8":
        notes.append(f"{image.depth}-bit values are compared at 8 bits")
    pixels = quantise(np.clip(rgb, 0, 1).astype(np.float32), "8")
    return Picture(label or path.name, pixels.astype(np.uint8), tuple(notes))


def distinct_labels(pictures: Sequence[Picture], paths: Sequence[Path]) -> list[Picture]:
    """The pictures with labels that differ: their paths where file names are alike, A, B, C where paths are too."""
    names = [p.label for p in pictures]
    named = [str(path) if names.count(n) > 1 else n for n, path in zip(names, paths, strict=True)]
    final = [f"{n} ({'ABC'[i]})" if named.count(n) > 1 else n for i, n in enumerate(named)]
    return [replace(p, label=n) for p, n in zip(pictures, final, strict=True)]


def same_size(a: Picture, b: Picture) -> tuple[Picture, Picture]:
    """Both at the size of the larger; the smaller is enlarged by bicubic interpolation, with a note.

    Raises UsageError if their aspect ratios differ: they cannot show the same scene.
    """
    if a.size == b.size:
        return a, b
    shapes = [p.size[1] / p.size[0] for p in (a, b)]
    if abs(shapes[0] / shapes[1] - 1) > SHAPE_TOLERANCE:
        raise UsageError(
            f"{_described(a)} and {_described(b)} have different shapes.", hint="Crop them alike first."
        )
    target = max(a.size, b.size)
    return _enlarged(a, target), _enlarged(b, target)


def check_sizes(pictures: Iterable[Picture], reference: Picture) -> None:
    """Raise UsageError if a picture's size is not that of the reference."""
    for picture in pictures:
        if picture.size != reference.size:
            raise UsageError(
                f"{_described(picture)} and the reference {_described(reference)} have different sizes.",
                hint="Metrics need equal sizes; leave the reference out to look only.",
            )


def _described(picture: Picture) -> str:
    return f"{picture.label} ({picture.size[1]}x{picture.size[0]})"


def _enlarged(picture: Picture, size: tuple[int, int]) -> Picture:
    if picture.size == size:
        return picture
    pixels = resized(picture.pixels, size, Pillow.Resampling.BICUBIC)
    note = f"{_described(picture)} is enlarged to {size[1]}x{size[0]} by bicubic interpolation"
    return Picture(f"{picture.label} (bicubic)", pixels, (*picture.notes, note))


def resized(pixels: U8, size: tuple[int, int], kernel: Pillow.Resampling) -> U8:
    """(h, w, 3) at `size` (H, W)."""
    if pixels.shape[:2] == size:
        return pixels
    return np.asarray(Pillow.fromarray(pixels).resize((size[1], size[0]), kernel))


# --- numbers ------------------------------------------------------------------------------------------------------


def measured(a: Picture, truth: Picture, metrics: Iterable[Metric], protocol: Protocol) -> Measured:
    """How far `a` is from `truth`.

    Raises UsageError (a metric looks at more than two pictures), ImageError (a metric is not defined for these).
    """
    scene = Scene(a.pixels, truth.pixels, 1.0, protocol)
    metrics = list(metrics)
    for metric in metrics:
        if metric.needs - {"hr"}:
            raise UsageError(f"{metric.name} cannot be measured between two pictures.")
    values = measure(scene, metrics, f"{a.label} and {truth.label}")
    return Measured(a.label, truth.label, values, channel_distances(a.pixels, truth.pixels))


def difference(a: U8, b: U8) -> tuple[U8, int]:
    """|a - b| made visible, and the power of two that it was multiplied by.

    The factor lets the largest thousandth of the values just clip.
    """
    distance = np.abs(a.astype(np.int16) - b)
    high = float(np.quantile(distance, 0.999))
    gain = 1
    while gain < 128 and high * gain * 2 <= 255:
        gain *= 2
    return np.minimum(distance * gain, 255).astype(np.uint8), gain


def histograms(pixels: U8) -> NDArray[np.float64]:
    """Share of the pixels (3, 64) per channel and group of four levels."""
    counts = [np.bincount(channel.ravel() >> 2, minlength=BINS) for channel in np.moveaxis(pixels, 2, 0)]
    return np.array(counts) / pixels[..., 0].size


# --- crops --------------------------------------------------------------------------------------------------------


def parse_crop(text: str) -> Crop:
    """A crop from ``x,y,w,h``; anything else is a UsageError."""
    try:
        x, y, w, h = (int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--crop takes x,y,w,h in whole pixels, got '{text}'.") from None
    if x < 0 or y < 0 or w < 1 or h < 1:
        raise UsageError(f"--crop {text}: x and y start at 0, w and h at 1.")
    return Crop(x, y, w, h)


def check_crop(crop: Crop, size: tuple[int, int]) -> None:
    """Raise UsageError for a crop that leaves a picture of `size` (h, w)."""
    if crop.x + crop.w > size[1] or crop.y + crop.h > size[0]:
        raise UsageError(
            f"--crop {crop.x},{crop.y},{crop.w},{crop.h} leaves the picture of {size[1]}x{size[0]} pixels."
        )


def cut(pixels: U8, crop: Crop, size: tuple[int, int] | None = None) -> U8:
    """The crop's pixels; if the crop was chosen on a picture of `size` (h, w), the corresponding part."""
    y, x = (1.0, 1.0) if size is None else (pixels.shape[0] / size[0], pixels.shape[1] / size[1])
    top, left = round(crop.y * y), round(crop.x * x)
    bottom, right = round((crop.y + crop.h) * y), round((crop.x + crop.w) * x)
    return pixels[top : max(bottom, top + 1), left : max(right, left + 1)]


# --- one picture by several models -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Column:
    """What one column shows: results of `scale` times the LR, at a temperature for models that draw noise.

    The LR is the picture, or the picture reduced by `downscale`.
    """

    scale: float
    downscale: float | None = None
    temperature: float | None = None

    @property
    def head(self) -> str:
        """What stands over the column."""
        temperature = "" if self.temperature is None else f" t={self.temperature:g}"
        return f"x{self.scale:g}{temperature}"


@dataclass(frozen=True)
class GridResult:
    """One result of a grid: the pixels of its crop, and (height, width) and PSNR in dB of the whole.

    `psnr` is None without an original of that size.
    """

    model: str
    column: Column
    pixels: U8
    size: tuple[int, int]
    psnr: float | None


@dataclass(frozen=True)
class Grid:
    """Everything a figure shows: the LR crop and the results of each column, and the crop of the original.

    Results are by model, then by column; None where a column differs in the temperature alone, for a model without
    one. `original` is None where nothing was reduced.
    """

    columns: list[Column]
    inputs: list[U8]
    results: dict[str, list[GridResult | None]]
    original: U8 | None


def enlarge_all(
    photo: U8,
    models: Sequence[Model],
    columns: Sequence[Column],
    crop: Crop,
    *,
    seed: int = 0,
    report: Callable[[str, Column], None] | None = None,
) -> Grid:
    """Results of every model (a row each) in every column for a photo (h, w, 3), cut to a crop in its pixels.

    `seed` is that of the noise; `report` is called before every result. Raises UsageError (temperatures, but no model
    draws noise).
    """
    size = photo.shape[:2]
    draws = [_draw(model, columns[0], seed).temperature is not None for model in models]
    if any(c.temperature is not None for c in columns) and not any(draws):
        raise UsageError(
            "temperatures change nothing: none of these models draws noise.", hint="Drop --temps."
        )
    lrs = {c.downscale: _reduced(photo, c.downscale) for c in columns}
    results: dict[str, list[GridResult | None]] = {}
    for model in models:
        line: list[GridResult | None] = []
        for n, column in enumerate(columns):
            same = n > 0 and column == replace(columns[0], temperature=column.temperature)
            if same and _draw(model, column, seed).temperature is None:
                line.append(None)
                continue
            if report:
                report(model.name, column)
            line.append(_result(photo, lrs[column.downscale], model, column, crop, seed))
        results[model.name] = line
    reference = cut(photo, crop) if any(c.downscale is not None for c in columns) else None
    inputs = [cut(lrs[c.downscale], crop, size) for c in columns]
    return Grid(list(columns), inputs, results, reference)


def _draw(model: Model, column: Column, seed: int) -> Draw:
    temperatures = [] if column.temperature is None else [column.temperature]
    return model.draws(column.scale, temperatures, [seed], [])[0]


def _reduced(photo: U8, factor: float | None) -> U8:
    if factor is None:
        return photo
    return pillow_bicubic(photo, output_size(Size(*photo.shape[:2]), 1 / factor))


def _result(photo: U8, lr: U8, model: Model, column: Column, crop: Crop, seed: int) -> GridResult:
    whole = Size(*photo.shape[:2])
    back = column.downscale == column.scale
    target = whole if back else output_size(Size(*lr.shape[:2]), column.scale)
    pixels = model.enlarge(lr, target, _draw(model, column, seed)).pixels
    scene = Scene(pixels, photo, column.scale, find_protocol(PROTOCOL))
    value = psnr(scene.sr, scene.hr, shave=scene.rgb_shave) if back else None
    return GridResult(model.name, column, cut(scene.sr_8bit, crop, whole), (target.h, target.w), value)


def numbers_text(numbers: list[Measured], protocol: str, size: tuple[int, int], *, json: bool) -> str:
    """What was measured on pictures of `size` (height, width), as a table or as JSON."""
    if json:
        plain = [finite(asdict(m)) for m in numbers]
        return json_text({"protocol": protocol, "width": size[1], "height": size[0], "measured": plain})
    names = list(numbers[0].values)
    lines = [
        [f"{m.of} to {m.to}", *(f"{m.values[n]:.{METRICS[n].decimals}f}" for n in names)] for m in numbers
    ]
    head = [METRICS[name].title for name in names]
    return f"protocol {protocol}, {size[1]}x{size[0]}\n" + columns_text(["pictures", *head], lines)


def results_text(grid: Grid, *, json: bool) -> str:
    """Every result of a grid with its size and PSNR, as a table or as JSON."""
    cells = [shown for line in grid.results.values() for shown in line if shown]
    if json:
        plain = [
            finite(
                {
                    "model": s.model,
                    **asdict(s.column),
                    "width": s.size[1],
                    "height": s.size[0],
                    "psnr": s.psnr,
                }
            )
            for s in cells
        ]
        return json_text({"protocol": find_protocol("rgb").label, "results": plain})
    lines = [
        [s.model, s.column.head, f"{s.size[1]}x{s.size[0]}", "-" if s.psnr is None else f"{s.psnr:.2f}"]
        for s in cells
    ]
    return columns_text(["model", "column", "size", "psnr dB ↑"], lines)
