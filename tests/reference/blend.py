"""Blend: the formula of the class, at every neighbour; weights from our decoder."""

from torch import Tensor

from srcli.models.decoders.blend import Blend
from tests.reference.sampling import nearest, neighbours, size_of, skip


def plain(decoder: Blend, feat: Tensor, lr: Tensor, coord: Tensor, cell: Tensor) -> Tensor:
    """Colours (B, Q, 3) at coord (B, Q, 2) with cell (B, 2)."""
    first = decoder.project(feat)
    own = decoder.cell(cell * size_of(feat) / 2).unsqueeze(1)
    mixed = sum(
        weight * (nearest(first, at) + decoder.offset(distance / 2) + own).relu()
        for at, distance, weight in neighbours(feat, coord)
    )
    return decoder.mlp(mixed) + skip(lr, coord)
