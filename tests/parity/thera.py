"""Thera behind its golden files: the authors' checkpoints by their own rule, and what our networks make of them."""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from srcli.geometry import Grid, Size
from srcli.models.layers import grid_coord
from srcli.models.sr import Frame, ImplicitSR
from tests.parity.golden import Golden
from tests.reference import thera as reference

MEAN = (0.4488, 0.4371, 0.4040)
ENC, SAME, ROUNDED = 3e-6, 1e-5, 2e-4  # largest differences


def filled(keys: Iterable[list[Any]], gain_rules: list[tuple[str, float]]) -> dict[str, np.ndarray]:
    """The arrays of a checkpoint, by the authors' paths and layouts."""
    return {name: _fill(name, tuple(shape), gain_rules) for name, shape, *_ in keys}


def _fill(name: str, shape: tuple[int, ...], gain_rules: list[tuple[str, float]]) -> np.ndarray:
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    noise = np.random.default_rng(seed).standard_normal(shape)
    if name == "k":
        values = 0.06 + 0.003 * noise
    elif name == "components":
        values = 16 * noise
    elif name.endswith("/scale"):
        values = 1 + 0.05 * noise
    elif len(shape) >= 2:
        gain = next(gain for pattern, gain in gain_rules if re.search(pattern, name))
        values = noise * gain / np.sqrt(np.prod(shape[:-1]))
    else:
        values = 0.05 * noise
    return np.asarray(values, np.float32)


def nested(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The same as nested dictionaries, as Flax has them."""
    tree: dict[str, Any] = {}
    for path, value in arrays.items():
        *folders, last = path.split("/")
        at = tree
        for folder in folders:
            at = at.setdefault(folder, {})
        at[last] = value
    return tree


def run(network: ImplicitSR, golden: Golden) -> Iterator[tuple[str, Tensor, float]]:
    """Ours for every array, and how far it may be from theirs, in standard deviations.

    The direct form takes distances as they do, from float32 coordinates, and is as close as they are; distances of
    `render` are exact, and those of `query` come from float32 coordinates of another range.
    """
    lr = golden.lr(mean=MEAN)
    size, feat, decoder = Size(*lr.shape[-2:]), network.encoder(lr), network.decoder
    yield "enc", feat, ENC
    for tag, case in golden.cases.items():
        target, t = Size(*case["target"]), torch.tensor(case["t"])
        cell = 2 * t.sqrt() / torch.tensor([size])
        prepared = decoder.prepare(feat, lr, Frame.whole(lr, cell, target))
        grid = Grid.of(size, target)
        queried = decoder.query(prepared, grid_coord(grid, lr)).transpose(1, 2).unflatten(2, target)
        for picture in (decoder.render(prepared, grid), queried):
            yield f"sr_{tag}", picture * 0.5 + torch.tensor(MEAN).reshape(3, 1, 1), ROUNDED
        nearest, offset = as_they_do(size, target)
        field = reference.field(decoder, feat, nearest, offset, t.reshape(1, 1, 1))
        yield f"out_{tag}", field.transpose(1, 2).unflatten(2, target), SAME


def as_they_do(size: Size, target: Size) -> tuple[Tensor, Tensor]:
    """Flat index (1, Q) of the nearest LR pixel, and distance (1, Q, 2) from it, by the authors' float32 coordinates."""
    index, offset = [], []
    for n, wanted in zip(size, target, strict=True):
        own, asked = (np.linspace(-0.5 + 0.5 / k, 0.5 - 0.5 / k, k).astype(np.float32) for k in (n, wanted))
        place = asked * np.float32(n) + np.float32((n - 1) / 2)
        nearest = np.clip(np.floor(place + np.float32(0.5)), 0, n - 1).astype(np.int64)
        index.append(torch.from_numpy(nearest))
        offset.append(torch.from_numpy((asked - own[nearest]) * np.float32(n)))
    rows, cols = torch.meshgrid(*index, indexing="ij")
    distance = torch.stack(torch.meshgrid(*offset, indexing="ij"), dim=-1)
    return (rows * size.w + cols).reshape(1, -1), distance.reshape(1, -1, 2)
