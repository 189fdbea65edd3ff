"""Pictures side by side: contact sheets of labelled cells, and an HTML page with a slider."""

from __future__ import annotations

import base64
import html
import io
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from string import Template

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from srcli import __version__
from srcli.evaluate.compare import (
    BINS,
    PROTOCOL,
    Crop,
    Grid,
    GridResult,
    Measured,
    Picture,
    cut,
    difference,
    histograms,
    resized,
)
from srcli.evaluate.pareto import axis
from srcli.metrics import find_protocol

U8 = NDArray[np.uint8]
CHANNELS = "red", "green", "blue"
MARGIN, GAP, TEXT, LINE = 16, 8, 14, 22
INK, PAPER, MARK = (30, 30, 30), (255, 255, 255), (230, 40, 40)
LEAST, WIDEST = 200, 640  # of a cell, in pixels
LARGEST, WHOLE = 400, 480  # width of a grid's cell, and of the whole picture above it
PLOT, PAGE_PLOT = (260, 120), (320, 140)  # of a histogram, in pixels
LINES = ((0, 114, 178), (213, 94, 0), (0, 0, 0))  # colours of histograms, one per picture


@dataclass(frozen=True)
class Cell:
    """A picture (h, w, 3), 8-bit, with a caption below it."""

    pixels: U8
    caption: str = ""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width with the caption, in pixels."""
        h, w = self.pixels.shape[:2]
        return h + (LINE if self.caption else 0), max(w, _width(self.caption))


def sheet(
    rows: Sequence[Sequence[Cell | None]],
    *,
    heads: Sequence[str] = (),
    sides: Sequence[str] = (),
    above: Cell | None = None,
    footer: Sequence[str] = (),
) -> U8:
    """Cells in rows and columns, (H, W, 3); None leaves a place empty.

    `heads` are titles over the columns, `sides` before the rows, `footer` lines below; `above` is a cell over all.
    """
    side = max(map(_width, sides)) + GAP if sides else 0
    columns = itertools.zip_longest(*rows)
    widths = [max((cell.size[1] for cell in column if cell), default=0) for column in columns]
    widths = [max(width, *map(_width, heads[i : i + 1]), 0) for i, width in enumerate(widths)]
    heights = [max((cell.size[0] for cell in row if cell), default=0) for row in rows]
    first, broad = (above.size[0] + 2 * GAP, above.size[1]) if above else (0, 0)
    head = LINE if any(heads) else 0
    below = len(footer) * LINE + GAP if footer else 0
    inner = max(side + sum(widths) + GAP * (len(widths) - 1), broad, *map(_width, footer), 1)
    total = first + head + sum(heights) + GAP * len(rows) + below
    paper = Image.new("RGB", (inner + 2 * MARGIN, total + 2 * MARGIN), PAPER)
    draw = ImageDraw.Draw(paper)
    if above:
        _paste(paper, draw, above, MARGIN, MARGIN)
    y = MARGIN + first
    lefts = [MARGIN + side + sum(widths[:i]) + GAP * i for i in range(len(widths))]
    for x, text in zip(lefts, heads, strict=False):
        _write(draw, x, y, text)
    y += head
    for n, (row, height) in enumerate(zip(rows, heights, strict=True)):
        for text in sides[n : n + 1]:
            _write(draw, MARGIN, y + max(height - LINE, 0) // 2, text)
        for x, cell in zip(lefts, row, strict=False):
            if cell is not None:
                _paste(paper, draw, cell, x, y)
        y += height + GAP
    for text in footer:
        _write(draw, MARGIN, y, text)
        y += LINE
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
        heights = np.sqrt(s[channel] / high) * (h - 6)  # the root shows rare values beside frequent ones
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
    """Pictures of one size in a row, (H, W, 3), with their labels, and a row of enlarged parts for each crop.

    `plots` are a last row, the histograms of red, green and blue; `captions` are lines below everything.
    """
    h, w = panels[0][1].shape[:2]
    width = min(max(w, LEAST), WIDEST)
    size = max(1, round(width * h / w)), width
    whole = [marked(p, crops, width) if crops else fitted(p, size) if w > width else p for _, p in panels]
    rows: list[list[Cell | None]] = [[Cell(pixels) for pixels in whole]]
    for crop in crops:
        zoom = max(1, width // crop.w)
        larger = (crop.h * zoom, crop.w * zoom), Image.Resampling.NEAREST
        rows.append([Cell(resized(cut(pixels, crop), *larger), f"{zoom}x") for _, pixels in panels])
    if plots:
        rows.append([Cell(plot, f"{name} histogram") for plot, name in zip(plots, CHANNELS, strict=True)])
    return sheet(rows, heads=[label for label, _ in panels], footer=captions)


def _paste(paper: Image.Image, draw: ImageDraw.ImageDraw, cell: Cell, x: int, y: int) -> None:
    paper.paste(Image.fromarray(np.ascontiguousarray(cell.pixels)), (x, y))
    if cell.caption:
        _write(draw, x, y + cell.pixels.shape[0] + 2, cell.caption)


def _write(draw: ImageDraw.ImageDraw, x: int, y: int, text: str) -> None:
    draw.text((x, y), text, fill=INK, font=_font())


@cache
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(TEXT)


def _width(text: str) -> int:
    return round(_font().getlength(text)) if text else 0


# --- grids -------------------------------------------------------------------------------------------------------


def draw_grid(grid: Grid, photo: U8, crop: Crop, name: str) -> U8:
    """A figure (H, W, 3): the whole picture with the crop framed, then rows for input, models and original."""
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
    """(height, width) of the widest crop, between LEAST and LARGEST: all others are resized to it."""
    widest = max(shown.pixels.shape[1] for line in grid.results.values() for shown in line if shown)
    width = min(max(widest, LEAST), LARGEST)
    return max(1, round(width * crop.h / crop.w)), width


def _cell(shown: GridResult, size: tuple[int, int]) -> Cell:
    caption = f"{shown.psnr:.2f} dB" if shown.psnr is not None else f"{shown.size[1]}x{shown.size[0]}"
    return Cell(fitted(shown.pixels, size), caption)


def enlarged_pictures(grid: Grid) -> list[Picture]:
    """Results of a grid of one scale as pictures of one size, with input and original."""
    found = [
        Picture(f"{name} {shown.column.head}" if len(grid.columns) > 1 else name, shown.pixels)
        for name, line in grid.results.items()
        for shown in line
        if shown
    ]
    size = found[0].size
    found.append(Picture("input", resized(grid.inputs[0], size, Image.Resampling.NEAREST)))
    if grid.original is not None:
        found.append(Picture("original", fitted(grid.original, size)))
    return found


# --- pages -------------------------------------------------------------------------------------------------------

PAGE = Template(Path(__file__).with_name("compare.html").read_text("utf-8"))


def page(pictures: Sequence[Picture], numbers: Sequence[Measured]) -> str:
    """A self-contained HTML page for pictures of one size; it opens with the first two left and right.

    `numbers` fill a table; histograms are drawn for the first three pictures.
    """
    a, b, *more = pictures
    shown, gain = difference(a.pixels, b.pixels)
    names = [html.escape(picture.label) for picture in pictures]
    choices = [
        "".join(f"<option{' selected' * (n == at)}>{name}</option>" for n, name in enumerate(names))
        for at in (0, 1)
    ]
    return PAGE.substitute(
        title=" and ".join(names[:2]) if not more else f"{', '.join(names[:-1])} and {names[-1]}",
        gain=gain,
        width=a.size[1],
        left=names[0],
        right=names[1],
        names="&#10;".join(names),
        lefts=choices[0],
        rights=choices[1],
        first=_data(a.pixels),
        second=_data(b.pixels),
        more="".join(f'<img class="more" alt="" hidden src="{_data(picture.pixels)}">\n' for picture in more),
        difference=_data(shown),
        numbers=_numbers(numbers),
        histograms=_plots(pictures[:3]),
        notes="".join(f"<p>{html.escape(note)}</p>\n" for p in pictures for note in p.notes),
        version=__version__,
    )


def png(pixels: U8) -> bytes:
    """The PNG file of a picture (h, w, 3) or (h, w)."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG")
    return buffer.getvalue()


def _data(pixels: U8) -> str:
    return "data:image/png;base64," + base64.b64encode(png(pixels)).decode()


def _numbers(numbers: Sequence[Measured]) -> str:
    if not numbers:
        return ""
    names = list(numbers[0].values)
    head = "".join(f'<th scope="col">{axis(n).title}</th>' for n in names)
    rows = "".join(
        f"<tr><td>{html.escape(m.of)} to {html.escape(m.to)}</td>"
        + "".join(f"<td>{axis(n).number(m.values[n])}</td>" for n in names)
        + "</tr>\n"
        for m in numbers
    )
    return f'<h2>Numbers</h2>\n<table><tr><th scope="col">pictures</th>{head}</tr>\n{rows}</table>'


def _plots(pictures: Sequence[Picture]) -> str:
    """One plot per channel, a line per picture; the height is the root of the share of pixels."""
    shares = [histograms(p.pixels) for p in pictures]
    colours = ("#0072b2", "#d55e00", "#888888")
    w, h = PAGE_PLOT
    plots = []
    for channel, name in enumerate(CHANNELS):
        high = max(float(s[channel].max()) for s in shares)
        lines = ""
        for colour, s in zip(colours, shares, strict=False):
            heights = np.sqrt(s[channel] / high) * (h - 8)
            points = " ".join(f"{i * w / (BINS - 1):.1f},{h - 4 - v:.1f}" for i, v in enumerate(heights))
            lines += f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
        plots.append(f'<svg width="{w}" height="{h}" role="img" aria-label="{name} histogram">{lines}</svg>')
    key = ", ".join(
        f'<span style="color: {colour}">{html.escape(p.label)}</span>'
        for colour, p in zip(colours, pictures, strict=False)
    )
    return "".join(plots) + f"\n<p>Red, green and blue, dark to light; {key}</p>"
