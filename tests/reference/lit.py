"""LIT and CLIT as the paper says them: every window gathered, every value weighed; weights from our decoder."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from srcli.geometry import Size
from srcli.models.decoders.lit import LIT, stage_sizes
from tests.reference.sampling import centres, nearest, neighbours, queries, size_of, skip


def position_bias(decoder: LIT, offsets: Tensor) -> Tensor:
    """(.., 2) -> (.., heads); by the release's frequencies, or by those of eq. 6."""
    table = 2.0 ** torch.linspace(0, 10, 16) - 1
    if decoder.pb_encoder.proj.in_features == 40:
        table = 2.0 ** torch.arange(10)
    angles = torch.cat([offsets[..., :1] * table, offsets[..., 1:] * table], dim=-1)
    return decoder.pb_encoder.proj(torch.cat([angles.sin(), angles.cos()], dim=-1))


def bilinear(maps: Tensor, coord: Tensor) -> Tensor:
    """(B, C, h, w) at coord (B, Q, 2) -> (B, Q, C), zeros outside."""
    at = coord.flip(-1).unsqueeze(1)
    return F.grid_sample(maps, at, mode="bilinear", align_corners=False)[:, :, 0].transpose(1, 2)


def attention(decoder: LIT, q: Tensor, keys: Tensor, coord: Tensor, pixels: Tensor) -> Tensor:
    """Weights (B, Q, area, heads) of window pixels at (B, Q, area, 2) by q (B, Q, C) and the map of keys."""
    heads, (b, n, area, _) = decoder.n_heads, pixels.shape
    k = nearest(keys, pixels.flatten(1, 2)).reshape(b, n, area, heads, -1)
    products = (k * q.reshape(b, n, 1, heads, -1)).sum(-1) / k.shape[-1] ** 0.5
    offsets = (coord.unsqueeze(2) - pixels) * size_of(keys)
    return (products + position_bias(decoder, offsets)).softmax(2)


def branch(decoder: LIT, i: int, feat: Tensor, coord: Tensor, cell: Tensor) -> Tensor:
    """Colours (B, Q, 3) of one branch from its map of features."""
    h, w = feat.shape[-2:]
    r = decoder.reach
    steps = [torch.linspace(-r, r, 2 * r + 1) * (2 / n) for n in (h, w)]
    window = torch.stack(torch.meshgrid(*steps, indexing="ij"), dim=-1).reshape(-1, 2)
    grid = centres(h, w).permute(2, 0, 1).expand(len(feat), -1, -1, -1)
    values = decoder.conv_vs[i](feat)

    def answer(where: Tensor) -> Tensor:
        pixels = nearest(grid, where).unsqueeze(2) + window
        v = nearest(values, pixels.flatten(1, 2)).reshape(*pixels.shape[:3], decoder.n_heads, -1)
        if decoder.attention:
            read = nearest if decoder.local_ensemble else bilinear
            q, keys = read(decoder.conv_qs[i](feat), where), decoder.conv_ks[i](feat)
            v = v * attention(decoder, q, keys, coord, pixels).unsqueeze(-1)
        seen = [v.flatten(2)]
        if decoder.cell:
            seen.append((cell * size_of(feat)).unsqueeze(1).expand(len(feat), coord.shape[1], 2))
        return decoder.imnets[i](torch.cat(seen, dim=-1))

    if decoder.local_ensemble:
        return sum(weight * answer(at) for at, _, weight in neighbours(feat, coord))
    return answer(coord)


def cascade(
    decoder: LIT, feat: Tensor, lr: Tensor, coord: Tensor, cell: Tensor, stages: Sequence[Size]
) -> Tensor:
    """Colours (B, Q, 3); `stages` are the sizes that the stages before the last one reach."""
    first = decoder.conv_ch(feat)
    out = branch(decoder, 0, first, coord, cell)
    for i, (h, w) in enumerate(stages, start=1):
        enlarged = bilinear(first, queries(h, w).expand(len(feat), -1, -1))
        enlarged = enlarged.transpose(1, 2).reshape(len(feat), -1, h, w)
        out = branch(decoder, i, enlarged, coord, cell) + 0.75 * out
    return out + skip(lr, coord)


def plain(decoder: LIT, feat: Tensor, lr: Tensor, coord: Tensor, cell: Tensor) -> Tensor:
    """Colours (B, Q, 3) at coord (B, Q, 2) with cell (B, 2), by the stages of the first image's scale."""
    target = Size(*(round(2 / side) for side in cell[0].tolist()))
    stages = stage_sizes(Size(*feat.shape[-2:]), target, decoder.n_branches)
    return cascade(decoder, feat, lr, coord, cell, stages)
