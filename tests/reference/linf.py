"""LINF as the paper says it: four neighbours, cosine and sine, MLP; then one flow layer after another, solved."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from srcli.models.decoders.linf import LINF
from srcli.models.flow import Flow
from tests.reference.sampling import nearest, neighbours, relative_cell, skip


def condition(
    decoder: LINF, feat: Tensor, coord: Tensor, cell: Tensor
) -> Tensor | list[tuple[Tensor, Tensor]]:
    """What the flow is told (B, Q, channels) at coord (B, Q, 2) with cell (B, 2); "local": weight and condition of four."""
    amplitude, frequency = decoder.coef(feat), decoder.freq(feat)
    phase = decoder.phase(relative_cell(feat, coord, cell))
    seen, weights = [], []
    for at, distance, weight in neighbours(feat, coord):
        vertical, horizontal = nearest(frequency, at).chunk(2, dim=-1)
        angle = math.pi * (vertical * distance[..., :1] + horizontal * distance[..., 1:] + phase)
        seen.append(nearest(amplitude, at) * torch.cat([angle.cos(), angle.sin()], dim=-1))
        weights.append(weight)
    if decoder.ensemble == "local":
        return [(weight, _mlp(decoder, one)) for weight, one in zip(weights, seen, strict=True)]
    if decoder.ensemble == "local-condition":
        return sum(weight * _mlp(decoder, one) for weight, one in zip(weights, seen, strict=True))
    if decoder.ensemble == "fourier":
        seen = [weight * one for weight, one in zip(weights, seen, strict=True)]
    return _mlp(decoder, torch.cat(seen, dim=-1))


def _mlp(decoder: LINF, x: Tensor) -> Tensor:
    return decoder.layers(x.transpose(1, 2).unsqueeze(-1)).squeeze(-1).transpose(1, 2)


def _scale_and_shift(flow: Flow, given: Tensor, layer: int) -> tuple[Tensor, Tensor]:
    raw, shift = given[..., 2 * flow.dim * layer : 2 * flow.dim * (layer + 1)].chunk(2, dim=-1)
    return 1 / (1 + torch.exp(-raw - 2)) + 1e-4, shift


def to_noise(flow: Flow, x: Tensor, given: Tensor) -> Tensor:
    """Data (n, dim) to noise, in double."""
    h, given = x.double(), given.double()
    for i, layer in enumerate(flow.linears):
        scale, shift = _scale_and_shift(flow, given, i)
        h = scale * (h @ layer._weight.double().T + layer.bias.double()) + shift
    return h @ flow.last._weight.double().T + flow.last.bias.double()


def to_data(flow: Flow, z: Tensor, given: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
    """Noise (..., dim) to data: a linear system for every layer."""

    def undone(layer: torch.nn.Module, h: Tensor) -> Tensor:
        weight, bias = layer._weight.to(dtype), layer.bias.to(dtype)
        return torch.linalg.solve(weight, (h - bias).unsqueeze(-1)).squeeze(-1)

    h, given = undone(flow.last, z.to(dtype)), given.to(dtype)
    for i in reversed(range(len(flow.linears))):
        scale, shift = _scale_and_shift(flow, given, i)
        h = undone(flow.linears[i], (h - shift) / scale)
    return h


def averaged(
    flow: Flow, z: Tensor, given: Tensor | list[tuple[Tensor, Tensor]], dtype: torch.dtype = torch.float64
) -> Tensor:
    """Noise to data by one flow, or by the weighted mean of the outputs of four (eq. 8)."""
    if isinstance(given, Tensor):
        return to_data(flow, z, given, dtype)
    return sum(weight.to(dtype) * to_data(flow, z, one, dtype) for weight, one in given)


def centres(size: tuple[int, int], patch: int) -> Tensor:
    """Coordinates (1, rows * columns, 2) of the middle pixels of patches, on the grid continued beyond the image."""
    axes = [
        (-1 + 1 / n) + (2 / n) * (patch * torch.arange(-(-n // patch)).float() + patch // 2) for n in size
    ]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(1, -1, 2)


def picture(
    decoder: LINF, feat: Tensor, lr: Tensor, target: tuple[int, int], cell: Tensor, noise: Tensor
) -> Tensor:
    """Colours (B, 3, H, W) with noise (B, 3 n^2, rows, columns), temperature included."""
    side = decoder.patch
    at = centres(target, side).expand(len(lr), -1, -1)
    given = condition(decoder, feat, at, cell)
    x = averaged(decoder.imnet, noise.flatten(2).transpose(1, 2), given).float()
    padded = tuple(side * count for count in noise.shape[-2:])
    folded = F.fold(x.transpose(1, 2), padded, side, stride=side)[..., : target[0], : target[1]]
    pixels = centres(target, 1).expand(len(lr), -1, -1)
    return folded + skip(lr, pixels).transpose(1, 2).reshape(folded.shape)


def plain(decoder: LINF, feat: Tensor, lr: Tensor, coord: Tensor, cell: Tensor) -> Tensor:
    """Residuals of patches (B, Q, 3 n^2) around coord (B, Q, 2) at temperature 0, as the authors' code computes them."""
    given = condition(decoder, feat, coord, cell)
    z = feat.new_zeros(*coord.shape[:-1], decoder.imnet.dim)
    return averaged(decoder.imnet, z, given, torch.float32)
