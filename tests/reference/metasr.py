"""MetaSR as the LIIF authors run it: a map of 3 x 9C numbers is predicted for each query; weights from our decoder."""

import torch
from torch import Tensor

from srcli.models.decoders.metasr import MetaSR
from tests.reference.sampling import centres, nearest, size_of, unfold


def plain(decoder: MetaSR, feat: Tensor, lr: Tensor, coord: Tensor, cell: Tensor) -> Tensor:
    """Colours (B, Q, 3) at coord (B, Q, 2) with cell (B, 2)."""
    feat = unfold(feat)
    h, w = feat.shape[-2:]
    corners = centres(h, w)
    corners[..., 0] -= 1 / h
    corners[..., 1] -= 1 / w
    corner = coord - cell.unsqueeze(1) / 2
    at = (corner + 1e-6).clamp(-1 + 1e-6, 1 - 1e-6)
    grid = corners.permute(2, 0, 1).expand(len(feat), -1, -1, -1)
    distance = (corner - nearest(grid, at)) * (size_of(feat) / 2)
    height = (cell[:, :1] * (h / 2)).unsqueeze(1).expand(len(feat), coord.shape[1], 1)
    maps = decoder.imnet(torch.cat([distance, height], dim=-1)).unflatten(-1, (-1, 3))
    return (nearest(feat, at).unsqueeze(-2) @ maps).squeeze(-2)
