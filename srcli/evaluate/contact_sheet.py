"""Sheets: labelled pictures in rows and columns, as one picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from srcli.evaluate.compare import BINS, Crop, cut, resized

U8 = NDArray[np.uint8]
MARGIN, GAP, TEXT = 16, 8, 14
INK, PAPER, MARK = (30, 30, 30), (255, 255, 255), (230, 40, 40)
LEAST, WIDEST = 200, 640  # of a cell, in pixels
PLOT = 260, 120  # of a histogram, in pixels
LINES = ((0, 114, 178), (213, 94, 0), (0, 0, 0))  # one colour per picture


@dataclass(frozen=True)
class Cell:
    """A picture (h, w, 3), 8-bit, with a line below it."""

    pixels: U8
    caption: str = ""


def sheet(
    rows: Sequence[Sequence[Cell | None]],
    *,
    heads: Sequence[str] = (),
    sides: Sequence[str] = (),
    above: Cell | None = None,
    footer: Sequence[str] = (),
) -> U8:
    """Cells in rows and columns, (H, W, 3).

    Args:
        rows: cells; None leaves a place empty.
        heads: a line over each column.
        sides: a line before each row.
        above: a picture over everything.
        footer: lines below everything.
    """
    columns = max(len(row) for row in rows)
    side = max((_width(text) for text in sides), default=-GAP) + GAP if sides else 0
    widths = [
        max([_cell_width(row[i]) for row in rows if i < len(row)] + [_width(t) for t in heads[i : i + 1]])
        for i in range(columns)
    ]
    heights = [max(_cell_height(cell) for cell in row) for row in rows]
    head = _line() if any(heads) else 0
    first = _cell_height(above) + 2 * GAP if above else 0
    below = len(footer) * _line() + GAP if footer else 0
    inner = max(side + sum(widths) + GAP * (columns - 1), _cell_width(above), *map(_width, footer), 1)
    total = first + head + sum(heights) + GAP * len(rows) + below
    paper = Image.new("RGB", (inner + 2 * MARGIN, total + 2 * MARGIN), PAPER)
    draw = ImageDraw.Draw(paper)
    if above:
        _paste(paper, draw, above, MARGIN, MARGIN)
    y = MARGIN + first
    lefts = [MARGIN + side + sum(widths[:i]) + GAP * i for i in range(columns)]
    for x, text in zip(lefts, heads, strict=False):
        _write(draw, x, y, text)
    y += head
    for n, (row, height) in enumerate(zip(rows, heights, strict=True)):
        if n < len(sides):
            _write(draw, MARGIN, y + max(height - _line(), 0) // 2, sides[n])
        for x, cell in zip(lefts, row, strict=False):
            if cell is not None:
                _paste(paper, draw, cell, x, y)
        y += height + GAP
    for text in footer:
        _write(draw, MARGIN, y, text)
        y += _line()
    return np.asarray(paper)


def marked(pixels: U8, crops: Sequence[Crop], width: int) -> U8:
    """The whole picture, at most `width` wide, with crops framed in red."""
    h, w = pixels.shape[:2]
    factor = min(width / w, 1.0)
    small = resized(pixels, (max(1, round(h * factor)), max(1, round(w * factor))), Image.Resampling.LANCZOS)
    image = Image.fromarray(small)
    draw = ImageDraw.Draw(image)
    for x, y, crop_w, crop_h in crops:
        right, bottom = round((x + crop_w) * factor), round((y + crop_h) * factor)
        draw.rectangle((round(x * factor), round(y * factor), right, bottom), outline=MARK, width=2)
    return np.asarray(image)


def histogram_plot(shares: Sequence[NDArray[np.float64]], channel: int) -> U8:
    """One channel's histograms over each other, a line per picture; the height is the root of the share."""
    w, h = PLOT
    image = Image.new("RGB", (w, h), (246, 246, 246))
    draw = ImageDraw.Draw(image)
    high = max(float(s[channel].max()) for s in shares)
    for colour, s in zip(LINES, shares, strict=False):
        heights = np.sqrt(s[channel] / high) * (h - 6)
        points = [(i * (w - 1) / (BINS - 1), h - 3 - v) for i, v in enumerate(heights)]
        draw.line(points, fill=colour, width=2)
    return np.asarray(image)


def fitted(pixels: U8, size: tuple[int, int]) -> U8:
    """The picture at `size` (H, W), enlarged by bicubic and reduced by Lanczos interpolation."""
    smaller = size[0] < pixels.shape[0]
    return resized(pixels, size, Image.Resampling.LANCZOS if smaller else Image.Resampling.BICUBIC)


def side_by_side(
    panels: Sequence[tuple[str, U8]],
    crops: Sequence[Crop],
    *,
    plots: Sequence[U8] = (),
    captions: Sequence[str] = (),
) -> U8:
    """Pictures of one size in a row, (H, W, 3), with a row of enlarged parts for each crop.

    Args:
        panels: labels and pictures.
        crops: parts to enlarge.
        plots: a last row, such as histograms.
        captions: lines below everything.
    """
    h, w = panels[0][1].shape[:2]
    width = min(max(w, LEAST), WIDEST)
    height = max(1, round(width * h / w))
    rows: list[list[Cell | None]] = []
    if crops:
        rows.append([Cell(marked(pixels, crops, width)) for _, pixels in panels])
    else:
        rows.append([Cell(fitted(pixels, (height, width)) if w > width else pixels) for _, pixels in panels])
    for crop in crops:
        zoom = max(1, width // crop.w)
        parts = [cut(pixels, crop) for _, pixels in panels]
        rows.append(
            [
                Cell(resized(p, (crop.h * zoom, crop.w * zoom), Image.Resampling.NEAREST), f"{zoom}x")
                for p in parts
            ]
        )
    if plots:
        rows.append(
            [
                Cell(plot, f"{name} histogram")
                for plot, name in zip(plots, ("red", "green", "blue"), strict=True)
            ]
        )
    return sheet(rows, heads=[label for label, _ in panels], footer=captions)


def _paste(paper: Image.Image, draw: ImageDraw.ImageDraw, cell: Cell, x: int, y: int) -> None:
    paper.paste(Image.fromarray(np.ascontiguousarray(cell.pixels)), (x, y))
    if cell.caption:
        _write(draw, x, y + cell.pixels.shape[0] + 2, cell.caption)


def _write(draw: ImageDraw.ImageDraw, x: int, y: int, text: str) -> None:
    draw.text((x, y), text, fill=INK, font=_font())


def _cell_width(cell: Cell | None) -> int:
    return 0 if cell is None else max(cell.pixels.shape[1], _width(cell.caption))


def _cell_height(cell: Cell | None) -> int:
    return 0 if cell is None else cell.pixels.shape[0] + (_line() if cell.caption else 0)


@cache
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(TEXT)


def _width(text: str) -> int:
    return round(_font().getlength(text)) if text else 0


def _line() -> int:
    return TEXT + 8
