"""LM-CiaoSR: CiaoSR's attention between neighbours once per LR pixel, its colours from a modulated 16-wide MLP.

He and Jin, "Latent Modulated Function for Computational Optimal Continuous Image Representation" (CVPR 2024), with
the cross-scale attention of CiaoSR. State-dict keys are those of the authors' release, but for the render MLP.
"""

from collections.abc import Iterator
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from srcli.geometry import SIDES
from srcli.models.decoders.cross_scale import CrossScaleAttention
from srcli.models.decoders.modulated import LatentField, OffsetModulated
from srcli.models.layers import MLP, AtOnce, last_linear, linear
from srcli.models.sr import Frame

CHUNK = AtOnce(1 << 11, 1 << 16)  # LR pixels, some 16 kB each


class LMCiaoSR(OffsetModulated):
    """734,998 parameters for 64 channels; bilinear skip, in training too (the release leaves it out there).

    `hidden`, `latent`: units of the hidden layers of queries, keys and values, and of the latent MLP. `depth`, `width`:
    hidden layers of the render MLP, and their units.
    """

    UPSTREAM_KEYS = ((r"^imnet_q\.", "decoder.imnet."),)
    local = False
    skip = True
    cell_decode = False

    def __init__(
        self,
        *,
        in_dim: int,
        hidden: int = 256,
        depth: int = 8,
        width: int = 16,
        latent: int = 288,
        window: int = 48,  # LR pixels of a side of the cross-scale attention's windows
    ) -> None:
        super().__init__(in_dim=2 * width + 2, depth=depth, width=width, local_ensemble=True)
        if window < 1:
            raise ValueError(f"window must be at least 1, got {window}")
        key_dim, value_dim = 4 * in_dim, 5 * in_dim
        self.window = window
        self.note = f"attention spans windows of {window}x{window} LR pixels, counted from the top left"
        self.cs_attn = CrossScaleAttention(in_dim)
        self.prenet_q = MLP(9 * in_dim, [hidden], key_dim)
        self.imnet_k = MLP(key_dim + 4, [hidden], key_dim)
        self.imnet_v = MLP(value_dim + 4, [hidden], value_dim)
        self.hypernet_q = MLP(value_dim, [latent], 2 * depth * width + 2 * width)

    def prepare(self, feat: Tensor, lr: Tensor, frame: Frame) -> LatentField:
        b, _, h, w = feat.shape
        wide = self._wide(feat).to(feat.dtype).permute(0, 2, 3, 1)
        around = F.pad(feat, (1, 1, 1, 1)).permute(0, 2, 3, 1)
        step = max(1, CHUNK.on(feat.device) // (b * w))
        parts = []
        for top in range(0, h, step):
            bottom = min(top + step, h)
            surroundings = around[:, top : bottom + 2].unfold(1, 3, 1).unfold(2, 3, 1).flatten(3)
            parts.append(self._latent(surroundings, wide[:, top:bottom], frame))
        latent = torch.cat(parts, dim=1)
        return LatentField(latent, latent[..., 2 * self.depth * self.width :], lr, frame)

    def _latent(self, surroundings: Tensor, wide: Tensor, frame: Frame) -> Tensor:
        """Latent (B, rows, w, *) from the 3x3 surroundings (B, rows, w, 9C) and the cross-scale features."""
        query = _answer(self.prenet_q, surroundings)
        # The release reads its 9C unfolded channels, C by 3x3, as 3x3 by C; the weights are trained that way.
        view = surroundings.unflatten(-1, (3, 3, -1))
        logits, values = [], []
        for (t, down), (left, right) in product(enumerate(SIDES), repeat=2):
            key = view[..., t : t + 2, left : left + 2, :].flatten(-3)
            value = torch.cat([key, wide], dim=-1)
            # A quarter of a pixel at most: the offset of half a pixel is divided by the size once more.
            offset = [-right / frame.size.h, -down / frame.size.w]
            seen = torch.cat(
                [frame.rel_cell.new_tensor([offset]).expand_as(frame.rel_cell), frame.rel_cell], -1
            )
            keys = key * _answer(self.imnet_k, key, seen)
            logits.append((keys * query).float().sum(-1))
            values.append(value * _answer(self.imnet_v, value, seen))
        share = torch.stack(logits).softmax(0).to(query.dtype).unsqueeze(-1)
        mixed = sum(value * part for value, part in zip(values, share, strict=True))
        first, second = self.hypernet_q.linears
        return last_linear(second, linear(first, mixed, relu=True))

    def _wide(self, feat: Tensor) -> Tensor:
        """Cross-scale features (B, C, h, w), window by window with a pixel of context where there is one."""
        size = feat.shape[-2:]
        if size.numel() <= self.window**2:
            return self.cs_attn(feat)
        wide = torch.empty_like(feat, dtype=torch.float32)
        for (top, bottom), (left, right) in product(*(_windows(side, self.window) for side in size)):
            above, before = max(top - 1, 0), max(left - 1, 0)
            seen = self.cs_attn(feat[:, :, above : bottom + 1, before : right + 1])
            inside = seen[:, :, top - above : bottom - above, left - before : right - before]
            wide[:, :, top:bottom, left:right] = inside
        return wide


def _answer(mlp: MLP, x: Tensor, seen: Tensor | None = None) -> Tensor:
    """A hidden layer and the last at x (B, rows, w, *), with what all pixels see (B, 4) behind it."""
    first, second = mlp.linears
    weight: Tensor = first.weight[:, : x.shape[-1]]
    constant: Tensor = first.bias
    if seen is not None:
        constant = F.linear(seen, first.weight[:, x.shape[-1] :], first.bias)[:, None, None]
    return linear(second, (F.linear(x, weight.to(x.dtype)) + constant.to(x.dtype)).relu_())


def _windows(size: int, side: int) -> Iterator[tuple[int, int]]:
    """As many whole windows as fit an axis, at least one; the last takes what is left."""
    count = max(1, size // side)
    for i in range(count):
        yield i * side, (i + 1) * side if i < count - 1 else size
