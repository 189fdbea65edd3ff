"""Local cross-scale attention: a query between pixels weighs the window of pixels around it, once per head.

Chen et al., "Cascaded Local Implicit Transformer for Arbitrary-Scale Super-Resolution" (CVPR 2023), eq. 3 to 6. The
values of a window are not summed: each is multiplied by its weight and all of them go into a linear layer. That layer
is linear in the values, so on a grid they pass it once per pixel, offset and head, and the queries that share a
window only weigh the results (`attention_grid`). The position bias is a sum of one term per axis, hence two small
tables. Maps are cut and padded with zeros so that every window is whole: beyond an image keys and values are zero and
still take their share of the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srcli.geometry import F32, I64, Box, Size, centres
from srcli.models.layers import Sample, tensor

# 2 ** linspace(0, 10, 16) - 1 as float32 gave it to the authors. Phases reach 7000 rad: a last bit here would show.
FREQUENCIES = (
    0.0, 0.587401032, 1.51984215, 3.0, 5.34960461, 9.07936954, 15.0, 24.3984222, 39.3174629, 63.0, 100.593658,
    160.269852, 255.0, 405.374756, 644.079407, 1023.0,
)  # fmt: skip
PUBLISHED_FREQUENCIES = tuple(2.0**level for level in range(10))  # eq. 6


class Budget(NamedTuple):
    """What is worked on at once."""

    side: int  # pixels of a map each way, on a grid
    queries: int  # of a grid
    windows: int  # of a grid
    projected: int  # bytes of projected values, on a grid
    gathered: int  # bytes of the values of scattered queries' windows


CPU = Budget(96, 2048, 120, 3 << 20, 32 << 20)  # activations stay in the cache
GPU = Budget(768, 1 << 16, 1 << 12, 256 << 20, 1 << 30)


def budget(like: Tensor) -> Budget:
    """The budget on the device of `like`."""
    return CPU if like.device.type == "cpu" else GPU


class PositionBias(nn.Module):
    """Bias of a window's pixel for each head, from its offset: a linear layer on sines and cosines, per axis."""

    def __init__(self, n_heads: int, frequencies: Sequence[float] = FREQUENCIES) -> None:
        super().__init__()
        self.frequencies = frequencies
        self.proj = nn.Linear(4 * len(frequencies), n_heads)

    def along(self, offset: Tensor, axis: int) -> Tensor:
        """An axis' term, 0's with the layer's bias: offset (...) to the query, a pixel is 2, -> (..., heads)."""
        n = len(self.frequencies)
        with torch.autocast(offset.device.type, enabled=False):  # half precision would cost whole turns
            angle = offset.unsqueeze(-1) * offset.new_tensor(self.frequencies)
            of_sin, of_cos = self.proj.weight.float().unflatten(1, (2, 2, n))[:, :, axis].unbind(1)
            bias = self.proj.bias.float() if axis == 0 else None
            return F.linear(angle.sin(), of_sin, bias) + F.linear(angle.cos(), of_cos)


def window_offsets(p: Tensor, centre: Tensor, size: int, reach: int) -> Tensor:
    """Offsets (..., 2 * reach + 1) of p (...) from the pixels around the one at `centre`, where a pixel is 2."""
    steps = torch.arange(-reach, reach + 1, dtype=torch.float32, device=p.device) * (2 / size)
    return (p.unsqueeze(-1) - (centre.unsqueeze(-1) + steps)) * size


class Taps(NamedTuple):
    """Linear interpolation with zeros outside: for n places their lower pixel and two weights, all (n,)."""

    low: I64  # -1 .. size - 1
    weight_low: F32
    weight_high: F32


def zero_taps(p: F32, size: int) -> Taps:
    """Taps of coordinates p (n,) on an axis of `size` pixels, as grid_sample computes them."""
    x = ((p + np.float32(1)) * np.float32(size) - np.float32(1)) / np.float32(2)
    low = np.floor(x)
    high = x - low
    index = low.astype(np.int64)
    return Taps(index, (1 - high) * (index >= 0), high * (index < size - 1))


def present_in(box: Box, lr: Size, size: Size) -> Box:
    """The pixels of a map of `size`, resampled from an LR map, for which `box` of the LR map suffices."""
    edges = []
    for first, last, n, m in ((box.top, box.bottom, lr.h, size.h), (box.left, box.right, lr.w, size.w)):
        low = zero_taps(centres(m), n).low
        known = np.flatnonzero((np.maximum(low, 0) >= first) & (np.minimum(low + 1, n - 1) < last))
        edges.append((int(known[0]), int(known[-1]) + 1) if len(known) else (0, 0))
    (top, bottom), (left, right) = edges
    return Box(top, left, bottom, right)


def resample(maps: Tensor, box: Box, lr: Size, size: Size, part: Box) -> Tensor:
    """Pixels `part` of a map of `size`, bilinear with zeros outside the image; `maps` is the LR map of `box`."""
    out = maps
    axes = (
        (2, box.top, lr.h, size.h, part.top, part.bottom),
        (3, box.left, lr.w, size.w, part.left, part.right),
    )
    for dim, origin, n, m, start, stop in axes:
        low, weight_low, weight_high = zero_taps(centres(m)[start:stop], n)
        shape = [1, 1, 1, 1]
        shape[dim] = stop - start
        last = out.shape[dim] - 1
        at = tensor(np.clip(low - origin, 0, last), maps), tensor(np.clip(low + 1 - origin, 0, last), maps)
        weights = (tensor(w, maps).to(maps.dtype).reshape(shape) for w in (weight_low, weight_high))
        below, above = (out.index_select(dim, index) * w for index, w in zip(at, weights, strict=True))
        out = below + above
    return out


def seen_through(window: Box, present: Box) -> Box:
    """What a 3x3 convolution needs to fill `window`, out of what is `present`."""
    return window.shared(present).grow(1).shared(present)


def zero_padded(maps: Tensor, box: Box, to: Box) -> Tensor:
    """A map (B, C, h, w) of `box` with zeros around it up to the box `to`."""
    return F.pad(maps, (box.left - to.left, to.right - box.right, box.top - to.top, to.bottom - box.bottom))


def window_maps(feat: Tensor, seen: Box, window: Box, layers: Sequence[nn.Conv2d]) -> Tensor:
    """3x3 convolutions of the features of `seen`, side by side, with zeros beyond the map: (B, h, w, layers, C)."""
    inside = window.shared(seen)
    feat = zero_padded(feat, seen, inside.grow(1)).contiguous(memory_format=torch.channels_last)
    weight = torch.cat([layer.weight for layer in layers]).contiguous(memory_format=torch.channels_last)
    bias = torch.cat([layer.bias for layer in layers if layer.bias is not None])
    maps = F.conv2d(feat, weight.to(feat.dtype), bias.to(feat.dtype))
    return zero_padded(maps, inside, window).permute(0, 2, 3, 1).unflatten(-1, (len(layers), -1))


class Scattered(NamedTuple):
    """Scattered queries before padded maps (B, h, w, ..): where their windows are."""

    coord: Tensor  # (B, Q, 2)
    centre: Tensor  # (B, Q, 2) pixels in the middle of the windows, from the edge of the whole map
    size: Size  # of the whole map
    box: Box  # the padded maps' place in it
    reach: int  # pixels of a window on each side of its middle

    @staticmethod
    def around(sample: Sample, coord: Tensor, size: Size, box: Box, reach: int) -> Scattered:
        """Queries at coord (B, Q, 2) with their windows around the pixels of `sample`."""
        rows = sample.index.div(size.w, rounding_mode="floor")
        return Scattered(coord, torch.stack([rows, sample.index % size.w], dim=-1), size, box, reach)

    @property
    def middle(self) -> Tensor:
        """(B, Q) flat indices of the pixels in the middle into the batch of maps."""
        return self._flat(*self.centre.unbind(-1))

    @property
    def pixels(self) -> Tensor:
        """(B, Q, side * side) flat indices of the windows' pixels into the batch of maps."""
        steps = torch.arange(-self.reach, self.reach + 1, device=self.coord.device)
        down = self.centre[..., :1] + steps
        along = self.centre[..., 1:] + steps
        return self._flat(down.unsqueeze(-1), along.unsqueeze(-2)).flatten(2)

    def offset(self, axis: int) -> Tensor:
        """(B, Q, side) offsets along an axis from the windows' pixels to the queries, where a pixel is 2."""
        n, p = self.size[axis], self.coord[..., axis]
        middle = tensor(centres(n), p)[self.centre[..., axis]]
        return window_offsets(p, middle, n, self.reach)

    def weights(self, q: Tensor, k: Tensor, bias: PositionBias) -> Tensor:
        """How queries q (B, Q, C) weigh their windows of keys (B * h * w, C): (B, Q, side * side, heads) float32."""
        return self.weigh(q, F.embedding(self.pixels, k), self.bias(bias))

    def bias(self, bias: PositionBias) -> Tensor:
        """The bias of each pixel of the windows: (B, Q, side * side, heads) float32."""
        down, along = bias.along(self.offset(0), 0), bias.along(self.offset(1), 1)
        return (down.unsqueeze(3) + along.unsqueeze(2)).flatten(2, 3)

    def weigh(self, q: Tensor, keys: Tensor, bias: Tensor) -> Tensor:
        """As `weights`, from the keys of the windows (B, Q, side * side, C) and their bias."""
        heads = bias.shape[-1]
        products = (keys * q.unsqueeze(2)).unflatten(-1, (heads, -1))
        logits = products.sum(-1, dtype=torch.float32) * (q.shape[-1] // heads) ** -0.5
        return (logits + bias).softmax(2)

    def bilinear(self, rows: Tensor) -> Tensor:
        """Padded maps as rows (B * h * w, C) at the queries, bilinear with zeros outside: (B, Q, C)."""
        place = [((self.coord[..., i] + 1) * n - 1) / 2 for i, n in enumerate(self.size)]
        low = [x.floor() for x in place]
        high = [x - below for x, below in zip(place, low, strict=True)]
        out = torch.zeros((), dtype=rows.dtype, device=rows.device)
        for y in (0, 1):
            for x in (0, 1):
                share = (high[0] if y else 1 - high[0]) * (high[1] if x else 1 - high[1])
                down, along = low[0].long() + y, low[1].long() + x
                h, w = self.size
                share = share * ((down >= 0) & (down < h) & (along >= 0) & (along < w))
                out = out + F.embedding(self._flat(down, along), rows) * share.unsqueeze(-1).to(rows.dtype)
        return out

    def _flat(self, down: Tensor, along: Tensor) -> Tensor:
        (h, w), shape = self.box.size, [-1] + [1] * (down.ndim - 1)
        first = torch.arange(len(down), device=down.device).view(shape) * (h * w)
        return first + (down - self.box.top) * w + (along - self.box.left)
