"""HIIF as its description says it: sample, concatenate, normalise, and attend over all queries of the call.

The weights are read from our decoder; nothing of its arithmetic is.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from srcli.models.decoders.hiif import HIIF
from srcli.models.linear_attention import Attention
from tests.reference.sampling import nearest, neighbours, relative_cell, size_of, skip


def bits(decoder: HIIF, feat: Tensor, distance: Tensor) -> list[Tensor]:
    """Which half, quarter, .. of the LR pixel each query lies in: (B, Q, 2) for every level."""
    beside = (1 / size_of(feat)) - distance / 2
    local = torch.where(distance > 0, distance / 2, beside)
    return [((local - 1e-9).clamp(0, 1) * 2 ** (n + 1)).floor() % 2 for n in range(decoder.levels)]


def attend(block: Attention, x: Tensor) -> Tensor:
    """Linear attention over the queries (B, Q, width) of one call."""
    b, n, _ = x.shape
    q, k, v = block.qkv_proj(x).view(b, n, block.n_heads, -1).chunk(3, dim=-1)
    k, v = block.kln(k), block.vln(v)
    out = torch.einsum("bnhi,bhij->bnhj", q, torch.einsum("bnhi,bnhj->bhij", k, v)) / n
    return block.proj2(F.gelu(block.proj1(out.reshape(b, n, -1) + x))) + x


def plain(decoder: HIIF, feat: Tensor, lr: Tensor, coord: Tensor, cell: Tensor) -> Tensor:
    """Colours (B, Q, 3) at coord (B, Q, 2) of one call, with cell (B, 2)."""
    maps = decoder.freq(feat)
    around = neighbours(feat, coord)
    place = bits(decoder, feat, around[0][1])
    areas = [(distance / 2).prod(-1, keepdim=True).abs() + 1e-9 for _, distance, _ in around]
    weights = [area / sum(areas) for area in reversed(areas)]
    seen = [weight * nearest(maps, at) for weight, (at, *_) in zip(weights, around, strict=True)]
    x = torch.cat([*seen, relative_cell(feat, coord, cell), place[0]], dim=-1)
    for level, layer in enumerate(decoder.fc_layers):
        x = x if level == 0 else torch.cat([x, place[level]], dim=-1)
        x = layer.fc2(F.gelu(layer.fc1(layer.norm(x))))
        if level == 0:
            x = attend(decoder.conv1, attend(decoder.conv0, x))
    return x + skip(lr, coord)
