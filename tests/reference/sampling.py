"""The primitives of the LIIF family, one formula after another: pixel centres, sampling, ensemble, unfolding."""

import torch
import torch.nn.functional as F
from torch import Tensor

from srcli.geometry import Size


def lr_size(scale: float | tuple[float, float]) -> Size:
    """Sides of an LR image that a plain form, which is slow, is asked to enlarge."""
    return Size(7, 9) if isinstance(scale, tuple) or scale < 8 else Size(3, 4)


def centres(h: int, w: int) -> Tensor:
    """Pixel centres (h, w, 2), order (y, x)."""
    axes = [(-1 + 1 / n) + (2 / n) * torch.arange(n).float() for n in (h, w)]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)


def queries(h: int, w: int) -> Tensor:
    """Pixel centres (1, h*w, 2) in row-major order."""
    return centres(h, w).reshape(1, -1, 2)


def nearest(maps: Tensor, coord: Tensor) -> Tensor:
    """(B, C, h, w) at coord (B, Q, 2) -> (B, Q, C)."""
    at = coord.flip(-1).unsqueeze(1)
    return F.grid_sample(maps, at, mode="nearest", align_corners=False)[:, :, 0].transpose(1, 2)


def skip(lr: Tensor, coord: Tensor) -> Tensor:
    """Bilinear interpolation with border padding, (B, 3, h, w) -> (B, Q, 3)."""
    at = coord.flip(-1).unsqueeze(1)
    sampled = F.grid_sample(lr, at, mode="bilinear", padding_mode="border", align_corners=False)
    return sampled[:, :, 0].transpose(1, 2)


def unfold(feat: Tensor) -> Tensor:
    """3x3 neighbourhoods with zero padding, (B, C, h, w) -> (B, 9C, h, w)."""
    b, _, h, w = feat.shape
    return F.unfold(feat, 3, padding=1).view(b, -1, h, w)


def size_of(maps: Tensor) -> Tensor:
    return torch.tensor(maps.shape[-2:]).float()


def neighbours(maps: Tensor, coord: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Shifted coordinates, distances (one LR pixel is 2) and ensemble weights (B, Q, 1) of the four neighbours."""
    h, w = maps.shape[-2:]
    grid = centres(h, w).permute(2, 0, 1).expand(len(maps), -1, -1, -1)
    shifted, distances, areas = [], [], []
    for y, x in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
        at = coord.clone()
        at[..., 0] += y / h + 1e-6
        at[..., 1] += x / w + 1e-6
        at.clamp_(-1 + 1e-6, 1 - 1e-6)
        distance = (coord - nearest(grid, at)) * size_of(maps)
        shifted.append(at)
        distances.append(distance)
        areas.append((distance[..., 0] * distance[..., 1]).abs() + 1e-9)
    total = torch.stack(areas).sum(0)
    weights = [(area / total).unsqueeze(-1) for area in reversed(areas)]
    return list(zip(shifted, distances, weights, strict=True))


def relative_cell(maps: Tensor, coord: Tensor, cell: Tensor) -> Tensor:
    """Cell (B, 2) for every query (B, Q, 2), where one LR pixel is 2."""
    return (cell * size_of(maps)).unsqueeze(1).expand(len(maps), coord.shape[1], 2)
