"""Thera's field as the paper writes it: nearest LR pixel, one sine for every wave and output pixel, decay, sum, skip."""

import torch
from torch import Tensor

from srcli.models.decoders.thera import Thera


def plain(decoder: Thera, feat: Tensor, lr: Tensor, coord: Tensor, cell: Tensor) -> Tensor:
    """Colours (B, Q, 3) at coord (B, Q, 2) with cell (B, 2)."""
    size = torch.tensor(feat.shape[-2:], dtype=coord.dtype)
    places = (coord + 1) / 2 * size  # LR pixels from the border
    index = (places + 1e-6 * size).floor().minimum(size - 1)  # what is halfway is the later one
    t = (cell * size / 2).prod(-1).reshape(-1, 1, 1)
    nearest = (index[..., 0] * size[1] + index[..., 1]).long()
    own = lr.flatten(2).transpose(1, 2).gather(1, nearest.unsqueeze(-1).expand(-1, -1, 3))
    return field(decoder, feat, nearest, places - index - 0.5, t) + decoder.bias + own


def field(decoder: Thera, feat: Tensor, nearest: Tensor, offset: Tensor, t: Tensor) -> Tensor:
    """The field (B, Q, 3) of the LR pixels of flat index (B, Q) at offset (B, Q, 2) from their centres, blurred by t."""
    parameters = decoder.out_conv(feat.flatten(2).transpose(1, 2))
    at = parameters.gather(1, nearest.unsqueeze(-1).expand(-1, -1, parameters.shape[-1]))
    *colours, phase = at.chunk(4, dim=-1)
    heights = torch.exp(-decoder.components.square().sum(0) * decoder.k * t)
    waves = torch.sin(offset @ decoder.components + phase) * heights
    return torch.stack([(colour * waves).sum(-1) for colour in colours], dim=-1)
