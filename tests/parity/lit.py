"""LIT and CLIT behind their golden files."""

from typing import Any

import torch
from torch import nn

from srcli.geometry import Grid, Size
from srcli.models.decoders.lit import LIT, stage_sizes
from srcli.models.layers import grid_coord
from srcli.models.sr import Frame, ImplicitSR
from tests.parity.golden import Golden, Method, Outputs, encoder_of


def build(args: dict[str, Any]) -> nn.Module:
    """An encoder with as many branches as the file says."""
    encoder = encoder_of(args)
    hidden = tuple(args["imnet_spec"]["args"]["hidden_list"])
    decoder = LIT(
        in_dim=encoder.out_dim, branches=args["imnet_num"], base_dim=args["base_dim"], n_heads=args["head"],
        side=2 * args["r"] + 1, hidden=hidden, attention=args["local_attn"], cell=args["is_cell"],
    )  # fmt: skip
    return ImplicitSR(encoder, decoder)


def run(network: ImplicitSR, golden: Golden) -> Outputs:
    """Every case by `render` and by `query`; its stages are given where training would draw them."""
    lr = golden.lr("lr_small" if "lr_small" in golden.arrays else "lr")
    size, feat, decoder = Size(*lr.shape[-2:]), network.encoder(lr), network.decoder
    for tag, case in golden.cases.items():
        target = Size(*case["target"])
        cell = torch.tensor([case.get("cell", [2 / target.h, 2 / target.w])])
        stages = tuple(Size(*stage) for stage in case.get("stage_sizes", [])[:-1])
        drawn = tag.startswith("train")
        assert drawn or "stage_sizes" not in case or stage_sizes(size, target, decoder.n_branches) == stages
        box = Frame.whole(lr, cell).box
        frame = Frame(size, box, cell, target, stages if drawn else None)
        prepared, grid = decoder.prepare(feat, lr, frame), Grid.of(size, target)
        rendered = decoder.render(prepared, grid).flatten(2).transpose(1, 2)
        yield f"pred_{tag}", rendered
        yield f"pred_{tag}", decoder.query(prepared, grid_coord(grid, lr))


LIT_METHOD = Method(build, run)
