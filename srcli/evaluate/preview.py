"""A small part of a picture enlarged by one model or by several, side by side, before a run over the whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil
from pathlib import Path

import numpy as np

from srcli.errors import SrcliError, UsageError
from srcli.evaluate.compare import U8, Column, Crop, enlarge_all, load_picture
from srcli.evaluate.contact_sheet import WHOLE, Cell, marked, sheet
from srcli.evaluate.models import open_model

SIDE = 256  # of the part, in pixels of the output
CONTEXT = 24  # pixels around the part that networks see
ACROSS = 4  # parts in a row


def most_detailed(photo: U8, side: int) -> tuple[int, int]:
    """Left and top of the square of `side` pixels with the most detail: sums of the steps between neighbours."""
    gray = photo.mean(-1, dtype=np.float32)
    steps = np.zeros_like(gray)
    steps[:, 1:] += np.abs(np.diff(gray, axis=1))
    steps[1:] += np.abs(np.diff(gray, axis=0))
    # An integral image: the sum over any square is four look-ups.
    sums = np.pad(steps, ((1, 0), (1, 0))).cumsum(0, np.float64).cumsum(1)
    inside = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    top, left = np.unravel_index(int(inside.argmax()), inside.shape)
    return int(left), int(top)


def preview(
    path: Path,
    models: Sequence[str],
    scale: Callable[[tuple[int, int]], float],
    *,
    at: tuple[int, int] | None = None,
    device: str = "auto",
    precision: str = "auto",
    report: Callable[[str], None] = lambda _line: None,
) -> U8:
    """A sheet (H, W, 3) of one part of a picture, by bicubic interpolation and by each model, below the whole of it.

    Args:
        path: of the picture.
        models: presets or weights files; one of several that cannot be opened is reported and left out.
        scale: the factor for a picture of (height, width).
        at: the middle of the part, x and y in pixels of the picture; by default, where most detail is.
        device: as for `Upscaler`.
        precision: as for `Upscaler`.
        report: called with a line about each model.

    Raises:
        UsageError: `at` lies outside.
    """
    picture = load_picture(path)
    photo, (h, w) = picture.pixels, picture.size
    factor = scale(picture.size)
    side = min(max(1, ceil(SIDE / factor)), h, w)
    if at is None:
        left, top = most_detailed(photo, side)
    elif 0 <= at[0] < w and 0 <= at[1] < h:
        left, top = min(max(at[0] - side // 2, 0), w - side), min(max(at[1] - side // 2, 0), h - side)
    else:
        raise UsageError(f"--preview {at[0]},{at[1]} lies outside of {w}x{h} pixels.")
    x, y = max(left - CONTEXT, 0), max(top - CONTEXT, 0)
    near = photo[y : top + side + CONTEXT, x : left + side + CONTEXT]
    cells = []
    for name in ("bicubic", *models):
        try:
            model = open_model(name, device=device, precision=precision)
            report(f"{model.name} x{factor:.3g}")
            grid = enlarge_all(near, [model], [Column(factor)], Crop(left - x, top - y, side, side))
        except SrcliError as error:
            if len(models) == 1:
                raise
            report(f"{name} is left out: {error}")
            continue
        (shown,) = grid.results[model.name]
        assert shown is not None
        cells.append(Cell(shown.pixels, model.name))
    rows = [cells[i : i + ACROSS] for i in range(0, len(cells), ACROSS)]
    whole = Cell(
        marked(photo, [Crop(left, top, side, side)], WHOLE), f"{picture.label} {w}x{h}, x{factor:.3g}"
    )
    return sheet(rows, above=whole)
