"""LGCAA: attention that first mixes a window of neighbours, then the whole picture.

After "Local-Global Context-Aware Attention" (arXiv 2510.13649). Its formulas are not readable in the published paper
and no code is known: what follows is rebuilt from its prose, and whatever had to be inferred is a field of `LocalGlobal`.
With x the input of a transformer block's self-attention, already normalised by the block:

    q, k, v = projections of LN(x)
    l = softmax(scale * q/|q| k/|k|) v            within windows of neighbouring pixels
    g = attention(LN(l projected))                of all pixels, as usual
    y = MLP(LN(clamp(g)))
    result = pretrained self-attention(x) + gate * y, the gate 0 at first

Importing this imports parts of diffusers.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import Tensor, nn

from srcli.geometry import Size

Parts = Literal["both", "local", "global", "none"]
LOGIT_START, LOGIT_LARGEST = 10.0, 100.0  # of learnt scales; those of Swin V2
EPSILON = 1e-6  # of unit vectors


@dataclass(frozen=True)
class LocalGlobal:
    """What the paper leaves open, with what is taken unless said otherwise."""

    # "both", or for the ablation "local", "global", or "none": the pretrained self-attention, trained
    parts: Parts = "both"
    # side of the windows, which tile the feature grid; 0: all pixels (the literal reading)
    local_window: int = 8
    # "learned", one factor for each head; "paper": 1/sqrt(d), with which unit vectors give logits within 1/sqrt(d) of
    # 0 and nearly equal weights
    logit_scale: Literal["learned", "paper"] = "learned"
    # whether values have length one too; the prose says so once, the formula's list does not
    normalise_v: bool = False
    clamp: float = 1e4  # bound on the global attention's output, against overflow
    # whether that is normalised before the MLP; the paper's ablation has a row without
    merge_norm: bool = True
    # whether the pretrained attention stays, with a gated addition; else it is replaced outright
    residual_gate: bool = True
    mlp_ratio: int = 4  # width of the MLP's hidden layer, in widths of the features


class Looked(NamedTuple):
    """What the two attentions give, (B, N, C) each; None for one that is left out."""

    local: Tensor | None
    everywhere: Tensor | None


class LocalGlobalAttention(nn.Module):
    """Takes the place of a transformer block's self-attention, whose projections its own begin as copies of."""

    def __init__(self, pretrained: Attention, settings: LocalGlobal) -> None:
        super().__init__()
        if settings.parts == "none":
            raise ValueError("with no parts there is nothing to replace the attention by")
        dim = pretrained.query_dim
        self.settings = settings
        self.heads = pretrained.heads
        self.pretrained = pretrained if settings.residual_gate else None
        self.norm = nn.LayerNorm(dim)
        if settings.parts != "global":
            self.local = _Projections(pretrained)
            self.norm_local = nn.LayerNorm(dim)
            if settings.logit_scale == "learned":
                self.logit = nn.Parameter(torch.full((self.heads, 1, 1), math.log(LOGIT_START)))
        if settings.parts != "local":
            self.everywhere = _Projections(pretrained)
        self.norm_merged = nn.LayerNorm(dim) if settings.merge_norm else nn.Identity()
        self.mlp = nn.Sequential(
            nn.Linear(dim, settings.mlp_ratio * dim), nn.GELU(), nn.Linear(settings.mlp_ratio * dim, dim)
        )
        if settings.residual_gate:
            self.gate = nn.Parameter(torch.zeros(()))

    def forward(
        self,
        hidden_states: Tensor,  # the features, row by row
        encoder_hidden_states: Tensor | None = None,  # must be None, as in all self-attention
        attention_mask: Tensor | None = None,  # must be None; nothing is masked in pictures
        *,
        grid: Size,  # size of the UNet's canvas, in latent pixels; the level follows from N
    ) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        assert encoder_hidden_states is None
        assert attention_mask is None
        looked = self.looked(hidden_states, grid)
        merged = looked.local if looked.everywhere is None else looked.everywhere
        assert merged is not None
        bound = self.settings.clamp
        y = self.mlp(self.norm_merged(merged.clamp(-bound, bound)))
        return y if self.pretrained is None else self.pretrained(hidden_states) + self.gate * y

    def looked(self, x: Tensor, grid: Size) -> Looked:
        """The two attentions' outputs for the same input as `forward`."""
        x, local, everywhere = self.norm(x), None, None
        if self.settings.parts != "global":
            x = local = self.norm_local(self.mixed(x, level_grid(grid, x.shape[1])))
        if self.settings.parts != "local":
            q, k, v = self.everywhere(x, self.heads)
            everywhere = self.everywhere.joined(F.scaled_dot_product_attention(q, k, v))
        return Looked(local, everywhere)

    def mixed(self, x: Tensor, grid: Size) -> Tensor:
        """What the local attention gives for normalised features of a level, projected but not normalised again."""
        settings = self.settings
        side = settings.local_window or max(grid)
        window = Size(min(side, grid.h), min(side, grid.w))
        tokens, present = _windows(x, grid, window)
        q, k, v = self.local(tokens, self.heads)
        q, k = (F.normalize(each, dim=-1, eps=EPSILON) for each in (q, k))
        if settings.normalise_v:
            v = F.normalize(v, dim=-1, eps=EPSILON)
        scale = None  # 1/sqrt(d)
        if settings.logit_scale == "learned":
            q, scale = q * self.logit.clamp(max=math.log(LOGIT_LARGEST)).exp(), 1.0
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=present, scale=scale)
        return _unwindowed(self.local.joined(mixed), grid, window)


class _Projections(nn.Module):
    """Copies of an attention's four linear maps."""

    def __init__(self, pretrained: Attention) -> None:
        super().__init__()
        assert pretrained.to_k is not None
        assert pretrained.to_v is not None
        assert pretrained.to_out is not None
        maps: list[Any] = [pretrained.to_q, pretrained.to_k, pretrained.to_v, pretrained.to_out[0]]
        self.to_q, self.to_k, self.to_v, self.to_out = map(_copied, maps)

    def forward(self, x: Tensor, heads: int) -> tuple[Tensor, ...]:
        """Queries, keys and values (B, heads, N, d) of (B, N, C)."""
        return tuple(
            each(x).unflatten(-1, (heads, -1)).transpose(1, 2) for each in (self.to_q, self.to_k, self.to_v)
        )

    def joined(self, x: Tensor) -> Tensor:
        return self.to_out(x.transpose(1, 2).flatten(2))


def _copied(linear: nn.Linear) -> nn.Linear:
    copy = nn.Linear(linear.in_features, linear.out_features, bias=linear.bias is not None)
    copy.load_state_dict(linear.state_dict())
    return copy.to(linear.weight.dtype)


def level_grid(canvas: Size, tokens: int) -> Size:
    """The size of the UNet's level of so many tokens, each half as large, rounded up; ValueError for none."""
    level = canvas
    while level.h * level.w > tokens:
        level = Size(-(-level.h // 2), -(-level.w // 2))
    if level.h * level.w != tokens:
        raise ValueError(f"no level of a canvas of {canvas.h}x{canvas.w} has {tokens} tokens")
    return level


def _windows(x: Tensor, grid: Size, window: Size) -> tuple[Tensor, Tensor | None]:
    """Tokens by window (B * windows, window pixels, C), and which are there (B * windows, 1, 1, pixels); None: all."""
    down, across = (-side % step for side, step in zip(grid, window, strict=True))
    cut = _cut(F.pad(x.unflatten(1, grid), (0, 0, 0, across, 0, down)), window)
    if not (down or across):
        return cut, None
    there = F.pad(x.new_ones(1, *grid, 1), (0, 0, 0, across, 0, down)) > 0
    return cut, _cut(there.expand(len(x), -1, -1, -1), window).transpose(1, 2).unsqueeze(1)


def _cut(x: Tensor, window: Size) -> Tensor:
    """(B, h, w, C) -> (B * windows, pixels, C)."""
    cut = x.unflatten(2, (-1, window.w)).unflatten(1, (-1, window.h)).transpose(2, 3)
    return cut.flatten(0, 2).flatten(1, 2)


def _unwindowed(tokens: Tensor, grid: Size, window: Size) -> Tensor:
    """The inverse of `_windows`: (B, N, C)."""
    rows, columns = (-(-side // step) for side, step in zip(grid, window, strict=True))
    x = tokens.unflatten(1, window).unflatten(0, (-1, rows, columns)).transpose(2, 3)
    return x.flatten(3, 4).flatten(1, 2)[:, : grid.h, : grid.w].flatten(1, 2)


class _GridBlind(AttnProcessor2_0):  # type: ignore[misc]  # diffusers is not followed
    """Cross-attention that is handed the canvas's size like its neighbour, and has no use for it."""

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        grid: Size | None = None,
    ) -> Tensor:
        return super().__call__(attn, hidden_states, encoder_hidden_states, attention_mask, temb)


def transformer_blocks(unet: nn.Module) -> Iterator[tuple[str, BasicTransformerBlock]]:
    """The transformer blocks of a UNet or ControlNet of diffusers, with their names, in its order."""
    return ((name, each) for name, each in unet.named_modules() if isinstance(each, BasicTransformerBlock))


def place(unet: nn.Module, settings: LocalGlobal) -> None:
    """Put LGCAA in the place of every self-attention; with parts "none" all stays as it is.

    From then on the UNet wants `cross_attention_kwargs={"grid": Size}`.
    """
    if settings.parts == "none":
        return
    for _, block in list(transformer_blocks(unet)):
        block.attn1 = LocalGlobalAttention(block.attn1, settings)
        block.attn2.set_processor(_GridBlind())


def attention_parameters(unet: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters of all self- and cross-attention, LGCAA's included, by name: what the paper trains of the UNet."""
    return {
        f"{block}.{name}": parameter
        for block, module in transformer_blocks(unet)
        for name, parameter in module.named_parameters()
        if name.startswith(("attn1.", "attn2."))
    }
