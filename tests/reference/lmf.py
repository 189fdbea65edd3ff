"""LM-LIIF and LM-LTE as the paper and the release say them: unfold, sample, concatenate, one query after another.

The weights are read from our decoders; nothing of their arithmetic is. Cell (B, 2) is the target's, `render_cell` the
one the render side sees where that differs (multi-scale rendering).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from srcli.models.decoders.lmf import LMLIIF, LMLTE
from srcli.models.decoders.modulated import Modulated


def centres(n: int) -> Tensor:
    return (2 / n) * torch.arange(n) + (-1 + 1 / n)


def nearest(maps: Tensor, coord: Tensor) -> Tensor:
    """(B, C, h, w) at coord (B, Q, 2) -> (B, Q, C)."""
    at = coord.flip(-1).unsqueeze(1)
    return F.grid_sample(maps, at, mode="nearest", align_corners=False)[:, :, 0].transpose(1, 2)


def skip(lr: Tensor, coord: Tensor) -> Tensor:
    at = coord.flip(-1).unsqueeze(1)
    sampled = F.grid_sample(lr, at, mode="bilinear", padding_mode="border", align_corners=False)
    return sampled[:, :, 0].transpose(1, 2)


def latent_map(decoder: Modulated, feat: Tensor, cell: Tensor) -> Tensor:
    """The output of the latent MLP at every LR pixel, (B, C, h, w)."""
    b, _, h, w = feat.shape
    rel = cell * torch.tensor([h, w])
    if isinstance(decoder, LMLTE):
        amplitude, frequency = decoder.coef(feat), decoder.freq(feat)
        angle = frequency[:, 0::2] + frequency[:, 1::2] + decoder.phase(rel)[:, :, None, None]
        seen = amplitude * torch.cat([torch.cos(math.pi * angle), torch.sin(math.pi * angle)], dim=1)
    else:
        assert isinstance(decoder, LMLIIF)
        seen = feat
        if decoder.feat_unfold:
            seen = F.unfold(feat, 3, padding=1).view(b, -1, h, w)
        if decoder.cell_decode:
            seen = torch.cat([seen, rel[:, :, None, None].expand(b, 2, h, w)], dim=1)
    return decoder.hypernet(seen.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def render_mlp(decoder: Modulated, x: Tensor, latent: Tensor) -> Tensor:
    """x (B, Q, c) through the modulated layers with latents (B, Q, C)."""
    depth, width = decoder.depth, decoder.width
    for k in range(depth):
        scale = latent[..., k * width : (k + 1) * width]
        shift = latent[..., (depth + k) * width : (depth + k + 1) * width]
        x = torch.relu((1 + scale) * decoder.imnet.linears[k](x) + shift)
    return decoder.imnet.linears[depth](x)


def plain(
    decoder: Modulated,
    feat: Tensor,
    lr: Tensor,
    coord: Tensor,
    cell: Tensor,
    render_cell: Tensor | None = None,
) -> Tensor:
    """Colours (B, Q, 3) at coord (B, Q, 2) with cell (B, 2)."""
    b, _, h, w = feat.shape
    size = torch.tensor([h, w])
    rel = (cell if render_cell is None else render_cell) * size
    rel = rel.expand(b, 2).unsqueeze(1).expand(b, coord.shape[1], 2)
    latent = latent_map(decoder, feat, cell)
    units = 2 * decoder.depth * decoder.width
    grid = torch.stack(torch.meshgrid(centres(h), centres(w), indexing="ij")).to(feat).expand(b, -1, -1, -1)

    def answer(at: Tensor) -> tuple[Tensor, Tensor]:
        own, offset = nearest(latent, at), (coord - nearest(grid, at)) * size
        if isinstance(decoder, LMLTE):
            if decoder.mod_input:
                amplitude, frequency = own[..., units:].chunk(2, dim=-1)
                phase = decoder.imphase(rel)
            else:
                amplitude, frequency = nearest(decoder.coef(feat), at), nearest(decoder.freq(feat), at)
                phase = decoder.phase(rel)
            angle = frequency[..., 0::2] * offset[..., :1] + frequency[..., 1::2] * offset[..., 1:] + phase
            x = amplitude * torch.cat([torch.cos(math.pi * angle), torch.sin(math.pi * angle)], dim=-1)
        else:
            assert isinstance(decoder, LMLIIF)
            code = own[..., units:] if decoder.mod_input else nearest(feat, at)
            x = torch.cat([code, offset] + ([rel] if decoder.cell_decode else []), dim=-1)
        return render_mlp(decoder, x, own), offset

    if decoder.local_ensemble:
        answers, areas = [], []
        for side_y in (-1, 1):
            for side_x in (-1, 1):
                shift = torch.tensor([side_y / h + 1e-6, side_x / w + 1e-6])
                colour, offset = answer((coord + shift).clamp(-1 + 1e-6, 1 - 1e-6))
                answers.append(colour)
                areas.append((offset[..., 0] * offset[..., 1]).abs() + 1e-9)
        total = sum(areas)
        sr = sum(c * (a / total)[..., None] for c, a in zip(answers, reversed(areas), strict=True))
    else:
        sr, _ = answer(coord)
    return sr + skip(lr, coord) if isinstance(decoder, LMLTE) else sr
