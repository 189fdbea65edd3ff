"""Thera: every LR pixel is a small field of sine waves, blurred by the heat equation to the size of an output pixel.

Becker et al., "Thera: Aliasing-Free Arbitrary-Scale Super-Resolution with Neural Heat Fields", TMLR 2025,
https://arxiv.org/abs/2311.17643. Where the paper and the authors' code differ, the code counts.

At offset d (y, x) from the centre of the nearest LR pixel the field is sum_k M_k sin(c_k.d + phi_k) exp(-|c_k|^2 kappa t).
Frequencies c and kappa are the network's, colours M and phases phi the pixel's; t is the area of an output pixel in LR
pixels. With A_k = M_k e_k cos phi_k and B_k = M_k e_k sin phi_k, e_k the decay, a picture is a product of A and B with
small tables of sines and cosines: exact up to rounding, and no sine for a wave and pixel.
"""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srcli.geometry import F32, I64, Axis
from srcli.models.layers import AtOnce, gather, grouped, no_autocast, take, tensor
from srcli.models.sr import Decoder, Frame, Grid

FADED = 1e-9  # of a wave's height; what is left is no level of any picture
HELD = AtOnce(1 << 22, 1 << 26)  # numbers of A and B: 16 MiB, 256 MiB


Field = tuple[Tensor, Tensor, Frame]  # features and LR pixels: fields are made band by band


class Thera(Decoder):
    """Colour = field of the nearest LR pixel + its colour; 8,385 parameters by default on 64 channels.

    `n_components`: waves of a field: 32 ("air") or 512 ("plus", "pro"). `anisotropic`: blur each axis by its own scale,
    which the authors leave open; otherwise both by the mean area.
    """

    title, has_field = "Thera Air", True
    halo = 1  # between two LR pixels `srcli.geometry` takes the even one, here it is the later one
    bias: Tensor  # a constant colour; the published networks add the mean of their pixels

    def __init__(self, *, in_dim: int, n_components: int = 32, anisotropic: bool = False) -> None:
        super().__init__()
        self.anisotropic = anisotropic
        self.out_conv = nn.Linear(in_dim, 4 * n_components)  # M of red, green and blue, then phi
        length, turn = 16 * math.pi * torch.rand(n_components).sqrt(), 2 * math.pi * torch.rand(n_components)
        self.components = nn.Parameter(torch.stack([length * turn.sin(), length * turn.cos()]))
        self.k = nn.Parameter(torch.tensor(math.sqrt(math.log(4)) / (2 * math.pi**2)))
        self.register_buffer("bias", torch.zeros(3))

    def prepare(self, feat: Tensor, lr: Tensor, frame: Frame) -> Field:
        return feat, lr, frame

    def query(self, prepared: Field, coord: Tensor) -> Tensor:
        _, lr, frame = prepared
        matrix, angle, index = self._waves(prepared, coord)
        waves = angle.sin() * self.decay(frame).unsqueeze(1)
        return (matrix @ waves.unsqueeze(-1)).squeeze(-1) + self.bias + gather(lr, index).float()

    def gradient(self, prepared: Field, coord: Tensor) -> Tensor:
        """Derivative (B, Q, 3, 2) of the field by the place (y, x) in LR pixels; with a cell of 0, of the sharp field."""
        matrix, angle, _ = self._waves(prepared, coord)
        waves = angle.cos() * self.decay(prepared[2]).unsqueeze(1)
        return (matrix * waves.unsqueeze(-2)) @ self.components.T

    def decay(self, frame: Frame) -> Tensor:
        """Height (B, K) that the blur of an output pixel leaves of each wave."""
        t = (frame.rel_cell / 2).square()  # (B, 2), of each axis
        t = t if self.anisotropic else t.prod(-1, keepdim=True).sqrt()
        return torch.exp(-self.k * (self.components.square() * t.unsqueeze(-1)).sum(1))

    def _waves(self, prepared: Field, coord: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """M (B, Q, 3, K), angles (B, Q, K) and flat index (B, Q) of the nearest LR pixels of coord (B, Q, 2)."""
        feat, _, frame = prepared
        size = coord.new_tensor(frame.size)
        place = (coord + 1) * (size / 2)
        nearest = (place + 1e-6 * size).floor().clamp(min=0).minimum(size - 1)  # coordinates are rounded
        index = (nearest @ coord.new_tensor([frame.size.w, 1])).long()
        matrix, phase = _fields(gather(feat, index), self.out_conv.weight, self.out_conv.bias)
        with no_autocast(coord):
            return matrix, (place - nearest - 0.5) @ self.components + phase, index

    def render(self, prepared: Field, grid: Grid) -> Tensor:
        """As many LR rows at a time as memory allows. Raises ValueError (the images have different cells)."""
        feat, lr, frame = prepared
        decay = self.decay(replace(frame, cell=frame.one_cell[None]))[0]
        rows, cols = offsets(grid.rows)[0], offsets(grid.cols)[0]
        out = take(lr.permute(0, 2, 3, 1).float(), rows, cols).permute(0, 3, 1, 2) + self.bias[:, None, None]
        kept = decay > FADED
        weight, bias = (
            value.unflatten(0, (4, -1))[:, kept].flatten(0, 1)
            for value in (self.out_conv.weight, self.out_conv.bias)
        )
        whole = grid.rows.hr % grid.rows.lr == grid.cols.hr % grid.cols.lr == 0
        picture = (_repeated if whole else _rotated)(self.components[:, kept], grid)
        needed, columns = np.unique(rows), tensor(np.unique(cols), feat)
        step = max(1, HELD.on(feat.device) // (6 * len(columns) * max(1, int(kept.sum()))))
        for image, pixels in enumerate(feat.permute(0, 2, 3, 1)):
            for some in np.split(needed, range(step, len(needed), step)):
                near = pixels.index_select(0, tensor(some, feat)).index_select(1, columns)
                matrix, phase = _fields(near, weight, bias)
                waves = (matrix * decay[kept]).repeat(1, 1, 1, 2) * _both(phase.cos(), phase.sin()).unsqueeze(
                    -2
                )
                first, last = (int(at) for at in np.searchsorted(rows, [some[0], some[-1] + 1]))
                out[image, :, first:last] += picture(waves, first, last)
        return out


def _fields(feat: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """M (..., 3, K) and phi (..., K) of features (..., C), in float32: phases bear no less."""
    with no_autocast(feat):
        found = F.linear(feat.to(weight.dtype), weight, bias).unflatten(-1, (4, -1))
    return found[..., :3, :], found[..., 3, :]


def _both(first: Tensor, second: Tensor) -> Tensor:
    return torch.cat([first, second], dim=-1)


def offsets(axis: Axis) -> tuple[I64, F32]:
    """Nearest LR pixel of each pixel of an axis, and the distance from its centre in LR pixels, both (n,).

    In whole numbers: halfway between two LR pixels it is the later one, and equal distances are equal bits.
    """
    place = (2 * np.arange(axis.start, axis.stop) + 1) * axis.lr  # in 2 * hr-ths of an LR pixel
    index = place // (2 * axis.hr)
    distance = (place - (2 * index + 1) * axis.hr) / (2 * axis.hr)
    return index - axis.origin, distance.astype(np.float32)


def _repeated(components: Tensor, grid: Grid) -> Callable[[Tensor, int, int], Tensor]:
    """For whole scales: every LR pixel has the same distances, so that one table serves all; see `_rotated`."""
    sides = [axis.hr // axis.lr for axis in grid]
    down, right = (tensor(offsets(Axis(1, side, 0, side))[1], components) for side in sides)
    angle = (down[:, None, None] * components[0] + right[:, None] * components[1]).flatten(0, 1)
    table, left = _both(angle.sin(), angle.cos()).T, grid.cols.start % sides[1]

    def picture(waves: Tensor, first: int, last: int) -> Tensor:
        tiles = (waves.flatten(0, 2) @ table).unflatten(0, waves.shape[:3]).unflatten(-1, sides)
        top = (grid.rows.start + first) % sides[0]
        whole = tiles.permute(2, 0, 3, 1, 4).flatten(3).flatten(1, 2)
        return whole[:, top : top + last - first, left : left + len(grid.cols)]

    return picture


def _rotated(components: Tensor, grid: Grid) -> Callable[[Tensor, int, int], Tensor]:
    """For other scales: A and B are turned by the angle of an output row, then the pixels of a column share a product.

    What it gives makes of A and B (n, w, 3, 2K) of some LR rows the output rows [first, last) that are theirs, (3, rows, W).
    """
    (rows, down), (cols, right) = offsets(grid.rows), offsets(grid.cols)
    angle = tensor(down, components)[:, None, None] * components[0]
    cos, sin = angle.cos(), angle.sin()
    angle = tensor(right, components)[:, None] * components[1]
    columns, most, place = grouped(tensor(cols, components))
    table = components.new_zeros(len(columns) * most, 2 * components.shape[1])
    table = table.index_copy(0, place, _both(angle.sin(), angle.cos())).unflatten(0, (-1, most))

    def picture(waves: Tensor, first: int, last: int) -> Tensor:
        out = []
        for wave, count in zip(
            waves.unsqueeze(2), np.unique(rows[first:last], return_counts=True)[1], strict=True
        ):
            (a, b), part = wave.chunk(2, dim=-1), slice(first, first := first + count)
            c, s = cos[part], sin[part]
            turned = _both(a * c - b * s, a * s + b * c)  # (w, count, 3, 2K)
            seen = (table @ turned.flatten(1, 2).transpose(1, 2)).flatten(0, 1)[place]
            out.append(seen.unflatten(1, (-1, 3)).permute(2, 1, 0))
        return torch.cat(out, dim=1)

    return picture
