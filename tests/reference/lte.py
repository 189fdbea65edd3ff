"""LTE and LTE+ as the paper says them: sample amplitude and frequency, cosine and sine, MLP; four times."""

import math

import torch
from torch import Tensor

from srcli.models.decoders.lte import LTE, LTEPlus
from tests.reference.sampling import nearest, neighbours, relative_cell, skip


def plain(decoder: LTE, feat: Tensor, lr: Tensor, coord: Tensor, cell: Tensor) -> Tensor:
    """Colours (B, Q, 3) at coord (B, Q, 2) with cell (B, 2)."""
    amplitude, frequency = decoder.coef(feat), decoder.freq(feat)
    phase = decoder.phase(relative_cell(feat, coord, cell))
    colour = skip(lr, coord)
    for at, distance, weight in neighbours(feat, coord):
        freq = nearest(frequency, at)
        if isinstance(decoder, LTEPlus):
            vertical, horizontal = freq.chunk(2, dim=-1)
        else:
            vertical, horizontal = freq[..., 0::2], freq[..., 1::2]
        angle = math.pi * (vertical * distance[..., :1] + horizontal * distance[..., 1:] + phase)
        seen = nearest(amplitude, at) * torch.cat([angle.cos(), angle.sin()], dim=-1)
        colour = colour + weight * _mlp(decoder, seen)
    return colour


def _mlp(decoder: LTE, x: Tensor) -> Tensor:
    if isinstance(decoder, LTEPlus):
        return decoder.layers(x.transpose(1, 2).unsqueeze(-1)).squeeze(-1).transpose(1, 2)
    return decoder.imnet(x)
