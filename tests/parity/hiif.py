"""HIIF behind its golden file: whole images, calls of some rows, and scattered queries."""

from typing import Any

import torch
from torch import nn

from srcli.geometry import Grid, Size
from srcli.models.decoders import DECODERS
from srcli.models.layers import grid_coord
from srcli.models.sr import Frame, ImplicitSR
from tests.parity.golden import Golden, Method, Outputs, encoder_of


def build(args: dict[str, Any]) -> nn.Module:
    """An encoder and the decoder."""
    encoder = encoder_of(args)
    decoder = DECODERS["hiif"](in_dim=encoder.out_dim, hidden_dim=args["hidden_dim"], n_heads=args["blocks"])
    return ImplicitSR(encoder, decoder)


def run(network: ImplicitSR, golden: Golden) -> Outputs:
    """Every case by `render`, where it is a grid, and by `query`, call after call."""
    lr, decoder = golden.lr(), network.decoder
    size, feat = Size(*lr.shape[-2:]), network.encoder(lr)
    for tag, case in golden.cases.items():
        cell = torch.tensor([case["cell"]])
        if f"coord_{tag}" in golden.arrays:
            coord = torch.from_numpy(golden.arrays[f"coord_{tag}"])
            answer = decoder.query(decoder.prepare(feat, lr, Frame.whole(lr, cell)), coord.flatten(1, 2))
            yield f"pred_{tag}", answer.unflatten(1, coord.shape[1:3]).permute(0, 3, 1, 2)
            continue
        target = Size(*case["target"])
        decoder.rows_per_call = case.get("rows_per_chunk")
        prepared, grid = decoder.prepare(feat, lr, Frame.whole(lr, cell, target)), Grid.of(size, target)
        yield f"pred_{tag}", decoder.render(prepared, grid)
        calls = grid_coord(grid, lr).split(target.w * (decoder.rows_per_call or target.h), dim=1)
        answer = torch.cat([decoder.query(prepared, call) for call in calls], dim=1)
        yield f"pred_{tag}", answer.unflatten(1, target).permute(0, 3, 1, 2)


HIIF = Method(build, run, inputs=("lr", "coord"))
