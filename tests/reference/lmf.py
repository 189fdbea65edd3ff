"""LM-LIIF and LM-LTE as the paper and the release say them: unfold, sample, concatenate, modulate; four times.

The weights are read from our decoders; nothing of their arithmetic is.
"""

import math

import torch
from torch import Tensor

from srcli.models.decoders.lmf import LMLTE
from srcli.models.decoders.modulated import Modulated
from tests.reference.sampling import centres, nearest, neighbours, relative_cell, size_of, skip, unfold


def latent_map(decoder: Modulated, feat: Tensor, cell: Tensor) -> Tensor:
    """The output of the latent MLP at every LR pixel, (B, C, h, w)."""
    b, _, h, w = feat.shape
    rel = cell * size_of(feat)
    if isinstance(decoder, LMLTE):
        amplitude, frequency = decoder.coef(feat), decoder.freq(feat)
        angle = frequency[:, 0::2] + frequency[:, 1::2] + decoder.phase(rel)[:, :, None, None]
        seen = amplitude * torch.cat([torch.cos(math.pi * angle), torch.sin(math.pi * angle)], dim=1)
    else:
        seen = unfold(feat) if decoder.feat_unfold else feat
        if decoder.cell_decode:
            seen = torch.cat([seen, rel[:, :, None, None].expand(b, 2, h, w)], dim=1)
    return decoder.hypernet(seen.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def render_mlp(decoder: Modulated, x: Tensor, latent: Tensor) -> Tensor:
    """x (B, Q, c) through the layers as modulated by the latents (B, Q, C) of the pixels read."""
    depth, width = decoder.depth, decoder.width
    for k in range(depth):
        scale = latent[..., k * width : (k + 1) * width]
        shift = latent[..., (depth + k) * width : (depth + k + 1) * width]
        x = torch.relu((1 + scale) * decoder.imnet.linears[k](x) + shift)
    return decoder.imnet.linears[depth](x)


def render_input(
    decoder: Modulated, feat: Tensor, latent: Tensor, at: Tensor, offset: Tensor, rel: Tensor
) -> Tensor:
    """What the render MLP is given: (B, Q, c) for LR pixels at `at`, seen from `offset`, with relative cell `rel`."""
    code = nearest(latent, at)[..., 2 * decoder.depth * decoder.width :]
    if not isinstance(decoder, LMLTE):
        code = code if decoder.mod_input else nearest(feat, at)
        return torch.cat([code, offset] + ([rel] if decoder.cell_decode else []), dim=-1)
    if decoder.mod_input:
        amplitude, frequency = code.chunk(2, dim=-1)
        phase = decoder.imphase(rel)
    else:
        amplitude, frequency = nearest(decoder.coef(feat), at), nearest(decoder.freq(feat), at)
        phase = decoder.phase(rel)
    angle = frequency[..., 0::2] * offset[..., :1] + frequency[..., 1::2] * offset[..., 1:] + phase
    return amplitude * torch.cat([torch.cos(math.pi * angle), torch.sin(math.pi * angle)], dim=-1)


def plain(decoder: Modulated, feat: Tensor, lr: Tensor, coord: Tensor, cell: Tensor) -> Tensor:
    """Colours (B, Q, 3) at coord (B, Q, 2) with cell (B, 2)."""
    latent = latent_map(decoder, feat, cell)
    rel = relative_cell(feat, coord, cell)
    if decoder.local_ensemble:
        read = neighbours(feat, coord)
    else:
        grid = centres(*feat.shape[-2:]).permute(2, 0, 1).expand(len(feat), -1, -1, -1)
        read = [(coord, (coord - nearest(grid, coord)) * size_of(feat), torch.ones(1))]
    colour = skip(lr, coord) if isinstance(decoder, LMLTE) else torch.zeros(1)
    for at, offset, weight in read:
        x = render_input(decoder, feat, latent, at, offset, rel)
        colour = colour + weight * render_mlp(decoder, x, nearest(latent, at))
    return colour
