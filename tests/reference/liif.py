"""LIIF as the paper says it: unfold, sample, concatenate, MLP, four times; weights from our decoder."""

import torch
from torch import Tensor

from srcli.models.decoders.liif import LIIF
from tests.reference.sampling import centres, nearest, neighbours, relative_cell, size_of, unfold


def plain(decoder: LIIF, feat: Tensor, lr: Tensor, coord: Tensor, cell: Tensor) -> Tensor:
    """Colours (B, Q, 3) at coord (B, Q, 2) with cell (B, 2)."""
    feat = unfold(feat) if decoder.feat_unfold else feat

    def answer(at: Tensor, distance: Tensor) -> Tensor:
        seen = [nearest(feat, at), distance]
        if decoder.cell_decode:
            seen.append(relative_cell(feat, coord, cell))
        return decoder.imnet(torch.cat(seen, dim=-1))

    if decoder.local_ensemble:
        return sum(weight * answer(at, d) for at, d, weight in neighbours(feat, coord))
    grid = centres(*feat.shape[-2:]).permute(2, 0, 1).expand(len(feat), -1, -1, -1)
    return answer(coord, (coord - nearest(grid, coord)) * size_of(feat))
