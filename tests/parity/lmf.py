"""LM-LIIF and LM-LTE behind their golden files: predictions and latents."""

from typing import Any

import torch
from torch import nn

from srcli.geometry import Grid, Size
from srcli.models.decoders import DECODERS
from srcli.models.layers import grid_coord
from srcli.models.sr import Frame, ImplicitSR
from tests.parity.golden import Golden, Method, Outputs, encoder_of

SWITCHES = ("local_ensemble", "feat_unfold", "cell_decode", "mod_input", "hidden_dim")
TOLERANCES = {"mod_": 1e-5}


def modulated(decoder: str) -> Method:
    """An encoder with LM-LIIF or LM-LTE."""

    def build(args: dict[str, Any]) -> nn.Module:
        encoder = encoder_of(args)
        ours = {key: args[key] for key in SWITCHES if key in args}
        if decoder == "lm-lte":
            ours.pop("cell_decode", None)  # its phases always see the cell
        render, (latent,) = args["imnet_spec"]["args"], args["hypernet_spec"]["args"]["hidden_list"]
        ours |= {"depth": render["hidden_depth"], "width": render["hidden_dim"], "latent": latent}
        return ImplicitSR(encoder, DECODERS[decoder](in_dim=encoder.out_dim, **ours))

    return Method(build, run, tolerance=2e-5, special=TOLERANCES)


def run(network: ImplicitSR, golden: Golden) -> Outputs:
    """Every case, with what else the file holds of it."""
    lr, decoder = golden.lr(), network.decoder
    size, feat = Size(*lr.shape[-2:]), network.encoder(lr)
    for tag, case in golden.cases.items():
        target = Size(*case["target"])
        grid = Grid.of(size, target)
        prepared = decoder.prepare(feat, lr, Frame.whole(lr, torch.tensor([case["cell"]]), target))
        yield f"pred_{tag}", decoder.render(prepared, grid).flatten(2).transpose(1, 2)
        yield f"pred_{tag}", decoder.query(prepared, grid_coord(grid, lr))
        if f"mod_{tag}" in golden.arrays:
            top, bottom, left, right = case["mod_crop"]
            yield f"mod_{tag}", prepared.latent[:, top:bottom, left:right].permute(0, 3, 1, 2)
