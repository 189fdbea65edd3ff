"""Figures as papers print them: models down, scales or temperatures across, one crop of every result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from srcli.errors import UsageError
from srcli.evaluate.compare import Crop, cut, resized
from srcli.evaluate.contact_sheet import LEAST, Cell, fitted, marked, sheet
from srcli.evaluate.models import Draw, Model
from srcli.geometry import Size, output_size
from srcli.image.resize import pillow_bicubic_uint8
from srcli.metrics import Scene, find_protocol
from srcli.metrics.psnr import psnr

U8 = NDArray[np.uint8]
LARGEST = 400  # width of a cell, in pixels
WHOLE = 480  # width of the whole picture
PROTOCOL = "rgb"


@dataclass(frozen=True)
class Column:
    """What one column shows.

    Attributes:
        scale: results are this many times the LR.
        downscale: the picture is first reduced by this; None takes it as the LR.
        temperature: of models that draw noise.
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
class Shown:
    """One result of a grid.

    Attributes:
        model: its name.
        column: its column.
        pixels: the crop, at the size of the result.
        size: (height, width) of the whole result.
        psnr: in dB over the whole picture, None without an original of that size.
    """

    model: str
    column: Column
    pixels: U8
    size: tuple[int, int]
    psnr: float | None


Report = Callable[[str, Column], None]


@dataclass(frozen=True)
class Grid:
    """Everything a figure shows.

    Attributes:
        columns: from left to right.
        inputs: the LR crop of each column.
        results: by model, then by column; None where a model draws nothing and the column only changes the noise.
        original: the crop of the picture itself, None without --downscale.
    """

    columns: list[Column]
    inputs: list[U8]
    results: dict[str, list[Shown | None]]
    original: U8 | None


def enlarge_all(
    photo: U8,
    models: Sequence[Model],
    columns: Sequence[Column],
    crop: Crop,
    *,
    seed: int = 0,
    report: Report | None = None,
) -> Grid:
    """Results of every model in every column, cut to the crop.

    Args:
        photo: (h, w, 3), 8-bit.
        models: one row each.
        columns: see `Column`.
        crop: in pixels of `photo`.
        seed: of the noise.
        report: told before every result.

    Raises:
        UsageError: temperatures for models that all draw nothing.
    """
    size = photo.shape[:2]
    if any(c.temperature is not None for c in columns) and not any(
        _draws(m, columns[0], seed) for m in models
    ):
        raise UsageError(
            "temperatures change nothing: none of these models draws noise.", hint="Drop --temps."
        )
    lrs = {c.downscale: _reduced(photo, c.downscale) for c in columns}
    results: dict[str, list[Shown | None]] = {}
    for model in models:
        line: list[Shown | None] = []
        for n, column in enumerate(columns):
            same = n > 0 and column == _without_noise(columns[0], column)
            if same and not _draws(model, column, seed):
                line.append(None)
                continue
            if report:
                report(model.name, column)
            line.append(_result(photo, lrs[column.downscale], model, column, crop, seed))
        results[model.name] = line
    reference = cut(photo, crop) if any(c.downscale is not None for c in columns) else None
    inputs = [cut(lrs[c.downscale], crop, size) for c in columns]
    return Grid(list(columns), inputs, results, reference)


def _without_noise(first: Column, column: Column) -> Column:
    """The first column, at this one's temperature."""
    return Column(first.scale, first.downscale, column.temperature)


def _draws(model: Model, column: Column, seed: int) -> bool:
    return _draw(model, column, seed).temperature is not None


def _draw(model: Model, column: Column, seed: int) -> Draw:
    temperatures = [] if column.temperature is None else [column.temperature]
    return model.draws(column.scale, temperatures, [seed], [])[0]


def _reduced(photo: U8, factor: float | None) -> U8:
    if factor is None:
        return photo
    return pillow_bicubic_uint8(photo, output_size(Size(*photo.shape[:2]), 1 / factor))


def _result(photo: U8, lr: U8, model: Model, column: Column, crop: Crop, seed: int) -> Shown:
    whole = Size(*photo.shape[:2])
    back = column.downscale == column.scale
    target = whole if back else output_size(Size(*lr.shape[:2]), column.scale)
    pixels = model.enlarge(lr, target, _draw(model, column, seed)).pixels
    scene = Scene(pixels, photo, column.scale, find_protocol(PROTOCOL))
    value = psnr(scene.sr, scene.hr, shave=scene.rgb_shave) if back else None
    return Shown(model.name, column, cut(scene.sr_8bit, crop, whole), (target.h, target.w), value)


def draw_grid(grid: Grid, photo: U8, crop: Crop, name: str) -> U8:
    """The figure, (H, W, 3): the whole picture with the crop framed, then input, models and original."""
    size = _cell_size(grid, crop)
    rows: list[list[Cell | None]] = [
        [Cell(resized(part, size, Image.Resampling.NEAREST)) for part in grid.inputs],
        *(
            [None if shown is None else _cell(shown, size) for shown in line]
            for line in grid.results.values()
        ),
    ]
    sides = ["input", *grid.results]
    if grid.original is not None:
        rows.append([Cell(fitted(grid.original, size)), *[None] * (len(grid.columns) - 1)])
        sides.append("original")
    whole = (crop.w, crop.h) == (photo.shape[1], photo.shape[0])
    above = None if whole else Cell(marked(photo, [crop], WHOLE), name)
    footer = [f"PSNR in dB over the whole picture, protocol {find_protocol(PROTOCOL).label}"]
    known = any(shown and shown.psnr is not None for line in grid.results.values() for shown in line)
    heads = [c.head for c in grid.columns]
    return sheet(rows, heads=heads, sides=sides, above=above, footer=footer if known else ())


def _cell_size(grid: Grid, crop: Crop) -> tuple[int, int]:
    """The size of the largest crop, within reason: smaller ones are enlarged to it."""
    widest = max(shown.pixels.shape[1] for line in grid.results.values() for shown in line if shown)
    width = min(max(widest, LEAST), LARGEST)
    return max(1, round(width * crop.h / crop.w)), width


def _cell(shown: Shown, size: tuple[int, int]) -> Cell:
    caption = f"{shown.psnr:.2f} dB" if shown.psnr is not None else f"{shown.size[1]}x{shown.size[0]}"
    return Cell(fitted(shown.pixels, size), caption)
