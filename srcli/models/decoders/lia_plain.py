"""LIA point by point: the plain form, for scattered queries and for training; see `lia_grid` for the fast one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srcli.models.attention import Scattered, grown, window_maps
from srcli.models.decoders.lia_ablations import Ensemble
from srcli.models.layers import sample_nearest
from srcli.models.sr import Frame

if TYPE_CHECKING:
    from srcli.models.decoders.lia import LIA, LIAField

Look = Callable[[Tensor], tuple[list[Tensor], Tensor | None]]


def plain(lia: LIA, prepared: LIAField, names: Sequence[str], *, votes: bool) -> Look:
    """The function from coordinates (B, Q, 2) to features (B, Q, dim) of some branches, and their scores.

    `prepared`: see `LIA.prepare`. `votes`: whether there are scores.
    """
    if lia.attention == "liif":
        return _ensembles(lia, prepared, names, votes=votes)
    frame, order = prepared.frame, lia.keys(names, "qkvc" if votes else "qkv")
    window = grown(frame.box, lia.reach)
    rows: dict[str, tuple[Tensor, Tensor]] = {}
    asked = {stream: [key for key in keys if key.endswith("q")] for stream, keys in order.items()}
    for stream, keys in order.items():
        layers = [lia.convolution(key) for key in keys]
        maps = window_maps(prepared.streams[stream], frame.box, window, layers).flatten(0, 2).flatten(1)
        cut = len(asked[stream]) * lia.dim
        rows[stream] = maps[:, :cut], maps[:, cut:]

    def look(coord: Tensor) -> tuple[list[Tensor], Tensor | None]:
        near = Scattered.around(sample_nearest(coord, frame.size), coord, frame.size, window, lia.reach)
        seen: dict[str, Tensor] = {}
        for stream, keys in order.items():
            ask, others = asked[stream], keys[len(asked[stream]) :]
            queries, values = rows[stream]
            if ask:
                seen.update(zip(ask, near.bilinear(queries).split(lia.dim, dim=-1), strict=True))
            if others:
                windows = F.embedding(near.pixels, values).split(lia.dim, dim=-1)
                seen.update(zip(others, windows, strict=True))
        bias = near.bias(lia.position)
        features, confidence = [], []
        for name in names:
            q, k, v = (seen[lia.key(name, role)] for role in "qkv")
            # Repeated for each channel of a head: a product that broadcasts takes four times as long here.
            weights = near.weigh(q, k, bias).to(v.dtype).repeat_interleave(lia.dim // lia.n_heads, -1)
            features.append(_joined(lia, v * weights, lia.features[name], frame))
            if votes:
                trust = seen[lia.key(name, "c")]
                confidence.append(_joined(lia, trust * weights, lia.confidence[name], frame))
        return features, lia.scores(confidence) if votes else None

    return look


def _joined(lia: LIA, weighted: Tensor, layer: nn.Module, frame: Frame) -> Tensor:
    """A branch's linear layer at the weighted values (B, Q, area, dim): (B, Q, out)."""
    assert isinstance(layer, nn.Linear)
    out = F.linear(weighted.flatten(2), layer.weight[:, :-2].to(weighted.dtype))
    return out + lia.constant(layer, frame)[:, None].to(out.dtype)


def _ensembles(lia: LIA, prepared: LIAField, names: Sequence[str], *, votes: bool) -> Look:
    frame, firsts = prepared.frame, []
    for name in names:
        maps = torch.cat([prepared.streams[stream] for stream in lia.streams_of(name)], dim=1)
        parts = (lia.features, lia.confidence) if votes else (lia.features,)
        layers = [layer for layer in (part[name] for part in parts) if isinstance(layer, Ensemble)]
        firsts.append([(layer, layer.first(maps, frame)) for layer in layers])

    def look(coord: Tensor) -> tuple[list[Tensor], Tensor | None]:
        blends = [[layer(first, coord, frame) for layer, first in each] for each in firsts]
        scores = lia.scores([each[1] for each in blends]) if votes else None
        return [each[0] for each in blends], scores

    return look
