"""CiaoSR and LM-CiaoSR as the papers and releases say it: sample, concatenate, MLPs; cross-scale attention by pasting.

The weights are read from our decoders; nothing of its arithmetic is.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from srcli.models.decoders.ciaosr import CiaoSR
from srcli.models.decoders.cross_scale import CrossScaleAttention
from srcli.models.decoders.lm_ciaosr import LMCiaoSR
from tests.reference.lmf import render_mlp
from tests.reference.sampling import centres, nearest, neighbours, relative_cell, size_of, skip, unfold


def cross_scale(attention: CrossScaleAttention, feat: Tensor) -> Tensor:
    """Weighted 6x6 patches pasted into an image of twice the size, then a convolution of stride 2."""
    h, w = feat.shape[-2:]
    even = F.pad(feat, (0, w % 2, 0, h % 2), mode="reflect")
    match, assembly = attention.conv_match_1(even), attention.conv_assembly(even)
    half = attention.conv_match_2(F.interpolate(even, scale_factor=0.5, mode="bilinear"))
    images = []
    for m, e, r in zip(match, assembly, half, strict=True):
        keys = F.unfold(r[None], 3, padding=1)[0].t()
        keys = keys / keys.norm(dim=1, keepdim=True).clamp(min=1e-4)
        scores = F.conv2d(m[None], keys.unflatten(1, (-1, 3, 3)), padding=1)
        patches = F.unfold(e[None], 6, padding=2, stride=2)[0].t().unflatten(1, (-1, 6, 6))
        images.append(F.conv_transpose2d((10 * scores).softmax(1), patches, stride=2, padding=2))
    return (attention.down(torch.cat(images)) / 6)[:, :, :h, :w]


def plain(
    decoder: CiaoSR, feat: Tensor, lr: Tensor, coord: Tensor, cell: Tensor, wide: Tensor | None = None
) -> Tensor:
    """Colours (B, Q, 3) at coord (B, Q, 2) with cell (B, 2); `wide` are the cross-scale features if known."""
    h, w = feat.shape[-2:]
    grid = centres(h, w).permute(2, 0, 1).expand(len(feat), -1, -1, -1)
    around = unfold(feat)
    values = torch.cat([around, cross_scale(decoder.cs_attn, feat) if wide is None else wide], dim=1)
    query = nearest(around, coord)
    rel = relative_cell(feat, coord, cell)
    keys, answers = [], []
    for y, x in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
        step = (1 - cell) / (size_of(feat) - 1)
        at = coord + torch.tensor([y, x]) * step.unsqueeze(1) + 1e-6
        at = at.clamp(-1 + 1e-6, 1 - 1e-6)
        seen = [(coord - nearest(grid, at)) * size_of(feat), rel]
        key, value = nearest(around, at), nearest(values, at)
        keys.append(key * decoder.imnet_k(torch.cat([key, *seen], dim=-1)))
        answers.append(value * decoder.imnet_v(torch.cat([value, *seen], dim=-1)))
    share = (query.unsqueeze(2) @ torch.stack(keys, dim=-1)).softmax(-1)
    mixed = (share @ torch.stack(answers, dim=2)).squeeze(2)
    return decoder.imnet_q(mixed) + skip(lr, coord)


def lm_latent(decoder: LMCiaoSR, feat: Tensor, cell: Tensor, wide: Tensor) -> Tensor:
    """The latent of LM-CiaoSR (B, C, h, w) with the cross-scale features given."""
    b, c, h, w = feat.shape
    around = unfold(feat).permute(0, 2, 3, 1)
    view = around.reshape(b, h, w, 3, 3, c)  # the release's own view of channels that lie otherwise
    query, rel = decoder.prenet_q(around), (cell * size_of(feat)).view(-1, 1, 1, 2).expand(b, h, w, 2)
    keys, values = [], []
    for x, y in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
        top, left = (y + 1) // 2, (x + 1) // 2
        key = view[..., top : top + 2, left : left + 2, :].reshape(b, h, w, 4 * c)
        value = torch.cat([key, wide.permute(0, 2, 3, 1)], dim=-1)
        seen = [torch.tensor([-x / h, -y / w]).expand(b, h, w, 2), rel]
        keys.append(key * decoder.imnet_k(torch.cat([key, *seen], dim=-1)))
        values.append(value * decoder.imnet_v(torch.cat([value, *seen], dim=-1)))
    share = torch.einsum("bhwc,vbhwc->vbhw", query, torch.stack(keys)).softmax(0)
    mixed = torch.einsum("vbhw,vbhwc->bhwc", share, torch.stack(values))
    return decoder.hypernet_q(mixed).permute(0, 3, 1, 2)


def plain_lm(
    decoder: LMCiaoSR, feat: Tensor, lr: Tensor, coord: Tensor, cell: Tensor, wide: Tensor | None = None
) -> Tensor:
    """Colours (B, Q, 3) of LM-CiaoSR at coord (B, Q, 2) with cell (B, 2)."""
    wide = cross_scale(decoder.cs_attn, feat) if wide is None else wide
    latent = lm_latent(decoder, feat, cell, wide)
    colour = skip(lr, coord)
    for at, offset, weight in neighbours(feat, coord):
        said = nearest(latent, at)
        x = torch.cat([said[..., 2 * decoder.depth * decoder.width :], offset], dim=-1)
        colour = colour + weight * render_mlp(decoder, x, said)
    return colour
