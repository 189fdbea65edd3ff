"""What LGCAA adds to a picture: the outputs of its local and its global attention, as maps.

The picture is enlarged, its latents get some noise, and the generator runs once, on the whole picture. Every LGCAA of
its UNet is drawn on its own grid: how long its outputs are at each place, or how much they resemble those at a point.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from srcli.engine.device import arithmetic
from srcli.engine.features import Source
from srcli.engine.noise import CanvasNoise
from srcli.engine.restorer import Restorer
from srcli.errors import UsageError
from srcli.evaluate.attention import STYLE
from srcli.geometry import F32, Size
from srcli.models.latent_restorer import Condition
from srcli.models.lgcaa import LocalGlobalAttention, Looked, level_grid
from srcli.models.noise_schedule import alphas_cumprod

LARGEST = 1 << 16  # latent pixels; all of a picture is looked at in one piece


@dataclass(frozen=True, eq=False)
class AttentionMap:
    """One LGCAA's outputs.

    Attributes:
        name: its place in the UNet.
        local: (h, w) of its local attention; None where there is none.
        everywhere: the same of its global attention.
    """

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
    """The outputs of every LGCAA, from the UNet's first to its last.

    Args:
        restorer: with LGCAA in its UNet.
        source: the picture.
        target: size that it is enlarged to.
        at: (x, y) in pixels of the picture; None for lengths instead of resemblance (cosines).
        noise: which step of training it is, as a share of them: 0 for none, 1 for nothing but noise.
        seed: of the noise.

    Raises:
        UsageError: no LGCAA, a point outside, or a picture that is too large.
    """
    network = restorer.network
    blocks = {n: m for n, m in network.generator.unet.named_modules() if isinstance(m, LocalGlobalAttention)}
    if not blocks:
        raise UsageError(f"'{restorer.preset.name}' has no LGCAA in its UNet.")
    size = Size(*source.size)
    if at is not None and not all(-0.5 <= p <= n - 0.5 for p, n in zip(at, (size.w, size.h), strict=True)):
        raise UsageError(f"the point {at[0]:g},{at[1]:g} is outside the {size.w}x{size.h} picture.")
    if target.h * target.w > LARGEST * network.decoder.factor**2:
        raise UsageError(
            "the picture is too large to look at in one piece.", hint="Give a crop, or a lower --scale."
        )
    enlarged = restorer.enlarged(source, target)
    seen: dict[str, tuple[Tensor, Size]] = {}
    hooks = [
        module.register_forward_pre_hook(_keep(seen, name), with_kwargs=True)
        for name, module in blocks.items()
    ]
    try:
        with arithmetic(restorer.device, "fp32"):
            _run(restorer, enlarged.lr, enlarged.picture, noise, seed)
            found = {name: _outputs(blocks[name], *seen[name]) for name in sorted(blocks, key=_place)}
    finally:
        for hook in hooks:
            hook.remove()
    share = None if at is None else ((at[1] + 0.5) / size.h, (at[0] + 0.5) / size.w)
    inside = Size(*enlarged.picture.shape[-2:])
    if share is not None:  # the enlarged picture is padded
        share = (share[0] * target.h / inside.h, share[1] * target.w / inside.w)
    return [
        _map(name, looked, seen[name][1], seen[name][0].shape[1], share) for name, looked in found.items()
    ]


def _outputs(block: LocalGlobalAttention, x: Tensor, canvas: Size) -> Looked:
    """As `block.looked`, the local one before it is normalised: after that all are equally long."""
    looked = block.looked(x, canvas)
    if looked.local is None:
        return looked
    return looked._replace(local=block.mixed(block.norm(x), level_grid(canvas, x.shape[1])))


def _place(name: str) -> tuple[int, str]:
    """The order in which a UNet runs its blocks."""
    return ("down_blocks", "mid_block", "up_blocks").index(name.split(".")[0]), name


def _keep(seen: dict[str, tuple[Tensor, Size]], name: str) -> Any:
    def hook(module: Any, args: tuple[Tensor], kwargs: dict[str, Any]) -> None:
        seen[name] = args[0], kwargs["grid"]

    return hook


def _run(restorer: Restorer, lr: Tensor, picture: Tensor, noise: float, seed: int) -> None:
    network, device = restorer.network, restorer.device
    lr, picture = lr.to(device), picture.to(device)
    latent = network.decoder.encode(picture)
    kept = alphas_cumprod(restorer.diffusion)
    step = min(int(noise * len(kept)), len(kept) - 1)
    canvas = Size(*latent.shape[-2:])
    drawn = CanvasNoise(seed, latent.shape[1], canvas, device)(0)
    noisy = kept[step].sqrt() * latent + (1 - kept[step]).sqrt() * drawn
    tokens = network.generator.condition(network.encoder, lr)
    network.generator(noisy, torch.tensor([step], device=device), Condition(picture, tokens, latent))


def _map(
    name: str, looked: Looked, canvas: Size, tokens: int, share: tuple[float, float] | None
) -> AttentionMap:
    grid = level_grid(canvas, tokens)

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


def picture(
    source: Source, maps: Sequence[AttentionMap], *, title: str, at: tuple[float, float] | None = None
) -> bytes:
    """A PNG: the photo, and below it one column for each LGCAA with its local and its global map."""
    size = Size(*source.size)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(1 + 2.2 * max(len(maps), 2), 6.6), layout="constrained")
        FigureCanvasAgg(figure)
        figure.suptitle(title)
        grid = figure.add_gridspec(3, len(maps))
        photo = figure.add_subplot(grid[0, :])
        photo.imshow(np.clip(source.strip(0, size.h), 0, 1))
        if at is not None:
            photo.plot(at[0], at[1], "+", color="white", ms=10, mew=1.5)
        photo.set_axis_off()
        for column, each in enumerate(maps):
            for row, (kind, values) in enumerate(
                (("local", each.local), ("global", each.everywhere)), start=1
            ):
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
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()


def _short(name: str) -> str:
    """``down 0.1`` for ``down_blocks.0.attentions.1.transformer_blocks.0.attn1``."""
    parts = name.split(".")
    numbers = ".".join(part for part in parts[:4] if part.isdigit())
    return f"{parts[0].split('_')[0]} {numbers}".strip()
