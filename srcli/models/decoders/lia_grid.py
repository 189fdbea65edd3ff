"""LIA on a grid: exact, and several times faster than asking point by point.

Queries are grouped by the LR pixel that they are nearest to, since these share a window. Weighted values go into a
linear layer, so a value passes it once per pixel and offset (`attention_grid`), for the confidence of every branch and
for the features of branches that win somewhere; the others' features and colours are never made. The map is worked
through in rectangles, so memory does not grow with the picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from srcli.geometry import Box
from srcli.models.attention import budget, seen_through, window_maps
from srcli.models.attention_grid import Maps, Piece, Table, parts_of, pieces
from srcli.models.sr import Grid

if TYPE_CHECKING:
    from srcli.models.decoders.lia import LIA, LIAField


class Layer(NamedTuple):
    """A linear layer on weighted values: (heads, area, d, out), and what it adds, (out,) float32."""

    weight: Tensor
    constant: Tensor


class Branch(NamedTuple):
    """A branch before a part of the picture: its padded maps and its layers."""

    name: str
    maps: Maps
    features: Layer
    trust: Tensor | None  # (heads, h * w, d), the map of confidence
    confidence: Layer | None


def rendered(lia: LIA, image: LIAField, grid: Grid, name: str) -> tuple[Tensor, Tensor | None]:
    """Colours (H, W, 3) without the skip of a branch or what is selected, and then scores (H, W, n), of one image."""
    names = (name,) if name in lia.branches else lia.branches
    votes = lia.selects and len(names) > 1
    out = torch.empty(*grid.size, 3, device=image.lr.device)
    scores = torch.empty(*grid.size, len(names), device=out.device) if votes else None
    layers = {each: _layers(lia, image, each, votes=votes) for each in names}
    for rows, cols, part in parts_of(grid, image.frame.size, budget(out).side):
        for at, colours, chosen in _part(lia, image, part, layers):
            out[rows, cols][at] = colours
            if scores is not None and chosen is not None:
                scores[rows, cols][at] = chosen
    return out, scores


def _layers(lia: LIA, image: LIAField, name: str, *, votes: bool) -> tuple[Layer, Layer | None]:
    def layer(module: nn.Module) -> Layer:
        assert isinstance(module, nn.Linear)
        weight = module.weight[:, :-2].unflatten(1, (lia.area, lia.n_heads, -1)).permute(2, 1, 3, 0)
        dtype = next(iter(image.streams.values())).dtype
        return Layer(weight.to(dtype).contiguous(), lia.constant(module, image.frame)[0])

    return layer(lia.features[name]), layer(lia.confidence[name]) if votes else None


Answer = tuple[tuple[Tensor, Tensor], Tensor, Tensor | None]


def _part(
    lia: LIA, image: LIAField, part: Grid, layers: dict[str, tuple[Layer, Layer | None]]
) -> Iterator[Answer]:
    """Rows and columns of a rectangle with their colours (.., 3) and scores (.., n)."""
    middles = [axis.nearest().index for axis in part]
    cells = Box(*(int(side[0]) for side in middles), *(int(side[-1]) + 1 for side in middles))
    box = cells.grow(lia.reach)
    maps = _maps(lia, image, tuple(layers), box, votes=any(trust for _, trust in layers.values()))
    branches = []
    for name, (features, confidence) in layers.items():
        q, k, v = (maps[lia.key(name, role)] for role in "qkv")
        stacked = Maps.of(torch.stack([q, k, v], dim=2), lia.n_heads)
        trust = None
        if confidence is not None:
            trust = Maps.of(maps[lia.key(name, "c")].unsqueeze(2), lia.n_heads).v
        branches.append(Branch(name, stacked, features, trust, confidence))
    rows, cols = (
        Table.of(axis, middle, edge, lia.reach, lia.position, number, own=False)
        for number, (axis, middle, edge) in enumerate(zip(part, middles, box[:2], strict=True))
    )
    walks = [pieces(branch.maps, rows, cols, lia.reach, lia.n_heads) for branch in branches]
    for group in zip(*walks, strict=True):
        selected, scores = _features(lia, branches, group)
        first = group[0]
        shown = None if scores is None else first.on_grid(scores)
        yield (first.rows[:, None], first.cols), first.on_grid(lia.colours(selected, image)), shown


def _maps(lia: LIA, image: LIAField, names: Sequence[str], box: Box, *, votes: bool) -> dict[str, Tensor]:
    """The convolutions that some branches need, by key: (h, w, dim), zero-padded to `box`."""
    maps: dict[str, Tensor] = {}
    seen = seen_through(box, image.frame.box)
    rows, cols = seen.relative_to(image.frame.box).slices
    for stream, keys in lia.keys(names, "qkvc" if votes else "qkv").items():
        feat = image.streams[stream][:, :, rows, cols]
        stacked = window_maps(feat, seen, box, [lia.convolution(key) for key in keys])[0]
        maps.update(zip(keys, stacked.unbind(2), strict=True))
    return maps


def _features(lia: LIA, branches: Sequence[Branch], group: Sequence[Piece]) -> tuple[Tensor, Tensor | None]:
    """What is selected (R * C, n * m, dim) in a rectangle of windows, and the scores."""
    if len(branches) == 1:
        return _projected(lia, branches[0], group[0]), None
    scores = lia.scores([_trusted(branch, piece) for branch, piece in zip(branches, group, strict=True)])
    winner = scores.argmax(-1)
    out = torch.empty(*winner.shape, lia.dim + (lia.gains is not None), device=winner.device)
    for number, (branch, piece) in enumerate(zip(branches, group, strict=True)):
        won = winner == number
        windows = won.any(1).nonzero()[:, 0]
        if len(windows):
            some = piece._replace(corner=piece.corner[windows], weights=piece.weights[:, windows])
            out[won] = _projected(lia, branch, some)[won[windows]]
    return out, scores


def _projected(lia: LIA, branch: Branch, piece: Piece) -> Tensor:
    features = branch.features
    projected = piece.project(branch.maps.v, branch.maps.width, features.weight) + features.constant
    return lia.with_gain(projected, branch.name)


def _trusted(branch: Branch, piece: Piece) -> Tensor:
    layer = branch.confidence
    assert branch.trust is not None
    assert layer is not None
    return piece.project(branch.trust, branch.maps.width, layer.weight) + layer.constant
