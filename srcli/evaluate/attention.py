"""Attention as pictures, for `explain`: windows of LIT and CLIT at a point, and maps of every LGCAA in a UNet.

For the maps the picture is enlarged, its latents get some noise, and the generator runs once, on the whole picture.
Each LGCAA is drawn on its own grid: the norm of its outputs at each place, or their cosine similarity to those at a
point.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from srcli.engine.device import autocast
from srcli.engine.noise import SampleNoise
from srcli.engine.normalised_image import NormalisedImage
from srcli.engine.request import Source
from srcli.engine.restorer import Restorer
from srcli.engine.upscaler import Upscaler
from srcli.errors import UsageError
from srcli.evaluate.plots import file_of
from srcli.geometry import F32, Box, Size, nearest_index
from srcli.models.latent_restorer import Condition
from srcli.models.lgcaa import LocalGlobalAttention, Looked, level_grid
from srcli.models.noise_schedule import alphas_cumprod
from srcli.models.sr import Frame, NativeEncoder, pixel_cell

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = "#D55E00", "#0072B2", "#009E73"  # of branches, from Okabe and Ito's palette
MARGIN = 3  # LR pixels of the photo around the largest window
STYLE: dict[Any, Any] = {"font.size": 8}
LARGEST = 1 << 16  # latent pixels: the generator sees a picture in one piece


@dataclass(frozen=True, eq=False)
class Window:
    """How one branch weighs its surroundings.

    `size`: of the branch's map, which covers the picture. `point`: (y, x) on that map, where pixels have their
    centres at whole numbers. `centre`: (row, column) of the pixel in the middle of the window. `weights`: (heads,
    side, side), which add up to one for each head.
    """

    size: Size
    point: tuple[float, float]
    centre: tuple[int, int]
    weights: F32


def attention_windows(
    upscaler: Upscaler, source: Source, at: tuple[float, float], target: Size
) -> list[Window]:
    """The attention of a LIT or CLIT at a point: a window for each branch that takes part at the scale of `target`.

    The point `at` is (x, y) in pixels of the picture, whose centres are at whole numbers; only the surroundings that
    its colour depends on are read. Raises UsageError (a network without attention windows, or a point outside the
    picture).
    """
    encoder, decoder = upscaler.network.encoder, cast("Any", upscaler.network.decoder.alone)
    on_native = decoder is not upscaler.network.decoder  # whose picture has no windows
    if not decoder.has_windows:
        raise UsageError(
            f"'{upscaler.preset.name}' has no attention windows.", hint="Choose a LIT or CLIT with --model."
        )
    mean, std = (torch.tensor(v, device=upscaler.device) for v in upscaler.preset.mean_std)
    pixels = NormalisedImage(source, mean, std, encoder.multiple_of, repeat_edge=encoder.repeat_edge)
    size = pixels.inside
    _check_inside(at, size)
    row, column = (min(max(round(place), 0), n - 1) for place, n in zip(at[::-1], size, strict=True))
    near = Box(row, column, row + 1, column + 1).grow(decoder.halo + 1, size)
    # Features near the point are those of the whole picture: enough context, and the same window grid.
    multiple = math.lcm(encoder.multiple_of, encoder.tile_multiple)
    wide = _whole_windows(near.grow(upscaler.halo, pixels.size), multiple)
    rows, cols = near.relative_to(wide).slices
    point = np.array([(2 * place + 1) / n - 1 for place, n in zip(at[::-1], size, strict=True)], np.float32)
    coord = torch.from_numpy(point).reshape(1, 1, 2)
    cell = pixel_cell(size, target, cell_clip=upscaler.preset.engine.cell_clip).to(upscaler.device)
    with autocast(upscaler.device, upscaler.precision):
        network = encoder.features if on_native and isinstance(encoder, NativeEncoder) else encoder
        feat = network(pixels.box(wide))[:, :, rows, cols]
        prepared = decoder.prepare(feat, pixels.box(near), Frame(size, near, cell, target))
        weights = decoder.attention_at(prepared, coord.to(upscaler.device))
    return [
        _window(stage.size, point, one[0, 0].float().cpu().numpy())
        for stage, one in zip(prepared.stages, weights, strict=True)
    ]


def _check_inside(at: tuple[float, float], size: Size) -> None:
    if not all(-0.5 <= place <= side - 0.5 for place, side in zip(at, (size.w, size.h), strict=True)):
        raise UsageError(f"the point {at[0]:g},{at[1]:g} is outside the {size.w}x{size.h} picture.")


def _whole_windows(box: Box, multiple: int) -> Box:
    """The box enlarged to corners on multiples, for encoders that work on windows."""
    top, left = (side // multiple * multiple for side in (box.top, box.left))
    bottom, right = (math.ceil(side / multiple) * multiple for side in (box.bottom, box.right))
    return Box(top, left, bottom, right)


def _window(size: Size, point: F32, weights: F32) -> Window:
    y, x = (float((p + 1) * n / 2 - 0.5) for p, n in zip(point, size, strict=True))
    row, column = (int(nearest_index(point[i : i + 1], n).clip(0, n - 1)[0]) for i, n in enumerate(size))
    return Window(size, (y, x), (row, column), weights)


def windows_picture(source: Source, windows: Sequence[Window], *, title: str, dpi: int = 120) -> bytes:
    """A PNG: the photo around the point with the windows outlined, and the weights of every branch and head."""

    def draw() -> Figure:
        heads = len(windows[0].weights)
        size = 2.6 + 1.25 * heads, 0.5 + max(2.4, 1.45 * len(windows))
        figure = Figure(figsize=size, layout="constrained")
        figure.suptitle(title)
        parts: Any = figure.subfigures(1, 2, width_ratios=(2.4, 1.25 * heads))
        shown, weighed = parts
        _draw_photo(shown.subplots(), source, windows)
        grid = weighed.subplots(len(windows), heads, squeeze=False)
        for number, (window, axes) in enumerate(zip(windows, grid, strict=True)):
            for head, ax in enumerate(axes):
                _draw_weights(ax, window, head, COLOURS[number % len(COLOURS)])
            axes[0].set_ylabel(f"branch {number + 1}\n{window.size.w}x{window.size.h}")
        return figure

    return file_of(draw, dpi=dpi, style=STYLE)


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
        down, along, reach = lr.h / window.size.h, lr.w / window.size.w, window.weights.shape[-1] / 2
        top, left = (place + 0.5 - reach for place in window.centre)
        corner = left * along - 0.5, top * down - 0.5
        colour = COLOURS[number % len(COLOURS)]
        ax.add_patch(Rectangle(corner, 2 * reach * along, 2 * reach * down, fill=False, ec=colour, lw=1.5))
    ax.plot(first.point[1], first.point[0], "+", color="white", mec="white", ms=9, mew=1.5)
    ax.set(xlim=(box.left - 0.5, box.right - 0.5), ylim=(box.bottom - 0.5, box.top - 0.5))
    ax.tick_params(length=2)


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


# --- LGCAA -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class AttentionMap:
    """The map (h, w) of one LGCAA's local and of its global attention; `name` is its place in the UNet."""

    name: str
    local: F32 | None
    everywhere: F32 | None


def attention_maps(
    restorer: Restorer,
    source: Source,
    target: Size,
    *,
    at: tuple[float, float] | None = None,
    noise: float = 0.25,
    seed: int = 0,
) -> list[AttentionMap]:
    """Maps of every LGCAA on a picture enlarged to `target`, from the UNet's first to its last.

    Values are cosine similarities to the outputs at the point `at`, (x, y) in pixels of the picture, or norms of the
    outputs without a point. `noise` is the noise step as a share: 0 for a clean latent, 1 for pure noise. Raises
    UsageError (no LGCAA, a point outside, or a picture that is too large).
    """
    network = restorer.network
    blocks = {n: m for n, m in network.generator.unet.named_modules() if isinstance(m, LocalGlobalAttention)}
    if not blocks:
        raise UsageError(f"'{restorer.preset.name}' has no LGCAA in its UNet.")
    size = Size(*source.size)
    if at is not None:
        _check_inside(at, size)
    if target.h * target.w > LARGEST * network.decoder.factor**2:
        raise UsageError(
            "the picture is too large to look at in one piece.", hint="Give a crop, or a lower --scale."
        )
    enlarged = restorer.enlarged(source, target)
    seen: dict[str, tuple[Tensor, Size]] = {}
    names = {module: name for name, module in blocks.items()}

    def keep(module: Any, args: tuple[Tensor], kwargs: dict[str, Any]) -> None:
        seen[names[module]] = args[0], kwargs["grid"]

    with ExitStack() as hooks, autocast(restorer.device, "fp32"):
        for module in blocks.values():
            hooks.callback(module.register_forward_pre_hook(keep, with_kwargs=True).remove)
        _run(restorer, enlarged.lr, enlarged.picture, noise, seed)
        found = {name: _outputs(blocks[name], *seen[name]) for name in sorted(blocks, key=_place)}
    share = None
    if at is not None:
        h, w = enlarged.picture.shape[-2:]  # padded
        share = (at[1] + 0.5) / size.h * target.h / h, (at[0] + 0.5) / size.w * target.w / w
    return [
        _map(n, looked, level_grid(seen[n][1], seen[n][0].shape[1]), share) for n, looked in found.items()
    ]


def _outputs(block: LocalGlobalAttention, x: Tensor, size: Size) -> Looked:
    """As `block.looked`, but the local one before its normalisation, which makes all norms equal."""
    looked = block.looked(x, size)
    if looked.local is None:
        return looked
    return looked._replace(local=block.mixed(block.norm(x), level_grid(size, x.shape[1])))


def _place(name: str) -> tuple[int, str]:
    """The order in which a UNet runs its blocks."""
    return ("down_blocks", "mid_block", "up_blocks").index(name.split(".")[0]), name


def _run(restorer: Restorer, lr: Tensor, picture: Tensor, noise: float, seed: int) -> None:
    network, device = restorer.network, restorer.device
    lr, picture = lr.to(device), picture.to(device)
    latent = network.decoder.encode(picture)
    alphas = alphas_cumprod(restorer.diffusion)
    step = min(int(noise * len(alphas)), len(alphas) - 1)
    drawn = SampleNoise(seed, latent.shape[1], Size(*latent.shape[-2:]), device)(0)
    noisy = alphas[step].sqrt() * latent + (1 - alphas[step]).sqrt() * drawn
    tokens = network.generator.condition(network.encoder, lr)
    network.generator(noisy, torch.tensor([step], device=device), Condition(picture, tokens, latent))


def _map(name: str, looked: Looked, grid: Size, share: tuple[float, float] | None) -> AttentionMap:
    def drawn(output: Tensor | None) -> F32 | None:
        if output is None:
            return None
        x = output[0].float()
        if share is None:
            return x.norm(dim=-1).reshape(grid).cpu().numpy()
        row, column = (min(int(part * n), n - 1) for part, n in zip(share, grid, strict=True))
        like = x[row * grid.w + column]
        return torch.cosine_similarity(x, like[None], dim=-1).reshape(grid).cpu().numpy()

    return AttentionMap(name, drawn(looked.local), drawn(looked.everywhere))


def maps_picture(
    source: Source, maps: Sequence[AttentionMap], *, title: str, at: tuple[float, float] | None = None
) -> bytes:
    """A PNG: the photo, and below it one column for each LGCAA with its local and its global map."""

    def draw() -> Figure:
        figure = Figure(figsize=(1 + 2.2 * max(len(maps), 2), 6.6), layout="constrained")
        figure.suptitle(title)
        grid = figure.add_gridspec(3, len(maps))
        photo = figure.add_subplot(grid[0, :])
        photo.imshow(np.clip(source.strip(0, source.size[0]), 0, 1))
        if at is not None:
            photo.plot(at[0], at[1], "+", color="white", ms=10, mew=1.5)
        photo.set_axis_off()
        for column, each in enumerate(maps):
            for row, kind, values in ((1, "local", each.local), (2, "global", each.everywhere)):
                ax = figure.add_subplot(grid[row, column])
                if values is None:
                    ax.set_axis_off()
                    continue
                low, high = (-1, 1) if at is not None else (float(np.min(values)), float(np.max(values)))
                ax.imshow(values, cmap="RdBu_r" if at is not None else "magma", vmin=low, vmax=high)
                ax.set(xticks=[], yticks=[])
                ax.set_title(f"{kind}, {low:.2g} to {high:.2g}", fontsize=7)
                if row == 1:
                    ax.set_xlabel(_short(each.name), fontsize=6)
        return figure

    return file_of(draw, dpi=120, style=STYLE)


def _short(name: str) -> str:
    """``down 0.1`` for ``down_blocks.0.attentions.1.transformer_blocks.0.attn1``."""
    parts = name.split(".")
    numbers = ".".join(part for part in parts[:4] if part.isdigit())
    return f"{parts[0].split('_')[0]} {numbers}".strip()
