"""What a pixel of the output is made of: the attention windows of LIT and CLIT at a point, and their picture."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from srcli.engine.device import arithmetic
from srcli.engine.features import Pixels, Source
from srcli.engine.upscaler import Upscaler
from srcli.errors import UsageError
from srcli.geometry import F32, Box, Size, nearest_index
from srcli.models.decoders.lit import LIT
from srcli.models.decoders.native import OnNative
from srcli.models.sr import Frame, NativeEncoder, pixel_cell

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = "#D55E00", "#0072B2", "#009E73"  # of branches; Okabe and Ito
MARGIN = 3  # LR pixels of the photo around the largest window
STYLE: dict[Any, Any] = {"font.size": 8, "svg.hashsalt": "srcli"}


@dataclass(frozen=True, eq=False)
class Window:
    """How one branch weighs its surroundings.

    Attributes:
        size: of the branch's map, which covers the picture.
        point: (y, x) on that map, where pixels have their centres at whole numbers.
        centre: (row, column) of the pixel in the middle of the window.
        weights: (heads, side, side), which add up to one for each head.
    """

    size: Size
    point: tuple[float, float]
    centre: tuple[int, int]
    weights: F32


def attention_windows(
    upscaler: Upscaler, source: Source, at: tuple[float, float], target: Size
) -> list[Window]:
    """The attention at a point, of every branch that takes part at the scale of `target`.

    Args:
        upscaler: a network with a LIT or CLIT decoder.
        source: the picture; only what the point's answer depends on is read.
        at: (x, y) in pixels of the picture, whose centres are at whole numbers.
        target: size of the output.

    Raises:
        UsageError: a network without attention windows, or a point outside the picture.
    """
    encoder, decoder = upscaler.network.encoder, upscaler.network.decoder
    added = isinstance(decoder, OnNative)  # to the native picture, which has no windows
    decoder = decoder.decoder if isinstance(decoder, OnNative) else decoder
    if not (isinstance(decoder, LIT) and decoder.attention):
        raise UsageError(
            f"'{upscaler.preset.name}' has no attention windows.", hint="Choose a LIT or CLIT with --model."
        )
    mean, std = (torch.tensor(v, device=upscaler.device) for v in upscaler.preset.mean_std)
    pixels = Pixels(source, mean, std, encoder.multiple_of, repeat_edge=encoder.repeat_edge)
    size = pixels.inside
    for place, side in zip(at, (size.w, size.h), strict=True):
        if not -0.5 <= place <= side - 0.5:
            raise UsageError(f"the point {at[0]:g},{at[1]:g} is outside the {size.w}x{size.h} picture.")
    row, column = (min(max(round(place), 0), n - 1) for place, n in zip(at[::-1], size, strict=True))
    near = Box(row, column, row + 1, column + 1).grow(decoder.halo + 1, size)
    multiple = math.lcm(encoder.multiple_of, encoder.tile_multiple)
    wide = _whole_windows(near.grow(upscaler.halo, pixels.size), multiple)
    rows, cols = near.relative_to(wide).slices
    point = np.array([(2 * place + 1) / n - 1 for place, n in zip(at[::-1], size, strict=True)], np.float32)
    coord = torch.from_numpy(point).reshape(1, 1, 2)
    cell = pixel_cell(size, target, cell_clip=upscaler.preset.engine.cell_clip).to(upscaler.device)
    with arithmetic(upscaler.device, upscaler.precision):
        network = encoder.features if added and isinstance(encoder, NativeEncoder) else encoder
        feat = network(pixels.box(wide))[:, :, rows, cols]
        prepared = decoder.prepare(feat, pixels.box(near), Frame(size, near, cell, target))
        weights = decoder.attention_at(prepared, coord.to(upscaler.device))
    return [
        _window(stage.size, point, one[0, 0].float().cpu().numpy())
        for stage, one in zip(prepared.stages, weights, strict=True)
    ]


def _whole_windows(box: Box, multiple: int) -> Box:
    """The box with its corners on multiples, for encoders that look at windows."""
    top, left = (side // multiple * multiple for side in (box.top, box.left))
    bottom, right = (math.ceil(side / multiple) * multiple for side in (box.bottom, box.right))
    return Box(top, left, bottom, right)


def _window(size: Size, point: F32, weights: F32) -> Window:
    y, x = (float((p + 1) * n / 2 - 0.5) for p, n in zip(point, size, strict=True))
    row, column = (int(nearest_index(point[i : i + 1], n).clip(0, n - 1)[0]) for i, n in enumerate(size))
    return Window(size, (y, x), (row, column), weights)


def picture(source: Source, windows: Sequence[Window], *, title: str, dpi: int = 120) -> bytes:
    """A PNG: the photo around the point with the windows outlined, and the weights of every branch and head.

    Args:
        source: the picture.
        windows: from `attention_windows`.
        title: a line above.
        dpi: dots per inch.
    """
    heads = len(windows[0].weights)
    with mpl.rc_context(STYLE):
        figure = Figure(
            figsize=(2.6 + 1.25 * heads, 0.5 + max(2.4, 1.45 * len(windows))), layout="constrained"
        )
        FigureCanvasAgg(figure)
        figure.suptitle(title)
        parts: Any = figure.subfigures(1, 2, width_ratios=(2.4, 1.25 * heads))
        shown, weighed = parts
        _draw_photo(shown.subplots(), source, windows)
        grid = weighed.subplots(len(windows), heads, squeeze=False)
        for number, (window, axes) in enumerate(zip(windows, grid, strict=True)):
            for head, ax in enumerate(axes):
                _draw_weights(ax, window, head, COLOURS[number % len(COLOURS)])
            axes[0].set_ylabel(f"branch {number + 1}\n{window.size.w}x{window.size.h}")
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def _draw_photo(ax: Axes, source: Source, windows: Sequence[Window]) -> None:
    """The photo in its own pixels, with every window's outline and a cross at the point."""
    lr, (first, *_) = Size(*source.size), windows
    side = first.weights.shape[-1]
    row, column = (min(max(place, 0), n - 1) for place, n in zip(first.centre, lr, strict=True))
    box = Box(row, column, row + 1, column + 1).grow(side // 2 + MARGIN, lr)
    rows, cols = box.slices
    crop = np.clip(source.strip(rows.start, rows.stop)[:, cols], 0, 1)
    ax.imshow(crop, extent=(box.left - 0.5, box.right - 0.5, box.bottom - 0.5, box.top - 0.5))
    for number, window in enumerate(windows):
        (down, along), reach = _scale(window.size, lr), window.weights.shape[-1] / 2
        top, left = (place + 0.5 - reach for place in window.centre)
        corner = left * along - 0.5, top * down - 0.5
        colour = COLOURS[number % len(COLOURS)]
        ax.add_patch(Rectangle(corner, 2 * reach * along, 2 * reach * down, fill=False, ec=colour, lw=1.5))
    ax.plot(first.point[1], first.point[0], "+", color="white", mec="white", ms=9, mew=1.5)
    ax.set(xlim=(box.left - 0.5, box.right - 0.5), ylim=(box.bottom - 0.5, box.top - 0.5))
    ax.tick_params(length=2)


def _scale(size: Size, lr: Size) -> tuple[float, float]:
    """LR pixels per pixel of a map, vertical and horizontal."""
    return lr.h / size.h, lr.w / size.w


def _draw_weights(ax: Axes, window: Window, head: int, colour: str) -> None:
    """One head's weights; brightest is the largest, and the cross is the point."""
    weights, (y, x) = window.weights[head], window.point
    reach = weights.shape[0] // 2
    ax.imshow(weights, cmap="magma", vmin=0, vmax=float(weights.max()))
    ax.plot(x - window.centre[1] + reach, y - window.centre[0] + reach, "+", color="white", ms=6, mew=1)
    ax.set_title(f"head {head + 1}, to {weights.max():.2f}", fontsize=7)
    ax.set(xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set(edgecolor=colour, linewidth=1.5)
