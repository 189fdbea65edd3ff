"""CiaoSR and LM-CiaoSR behind their golden files; the keys of the first are those of its authors' framework."""

import re
from typing import Any

import torch
from torch import Tensor, nn

from srcli.geometry import Grid, Size
from srcli.models.decoders import DECODERS
from srcli.models.encoders import ENCODERS
from srcli.models.layers import grid_coord
from srcli.models.sr import Frame, ImplicitSR
from tests.parity import lmf
from tests.parity.golden import Golden, Method, Outputs

MEAN = (0.4488, 0.4371, 0.4040)
NAMES = (
    (r"^encoder\.head\.0\.", "conv_first."),
    (r"^encoder\.body\.16\.", "conv_after_body."),
    (r"^encoder\.body\.(\d+)\.body\.0\.", r"body.\1.conv1."),
    (r"^encoder\.body\.(\d+)\.body\.2\.", r"body.\1.conv2."),
    (r"^decoder\.", ""),
)


def build(_: dict[str, Any]) -> nn.Module:
    """EDSR-baseline without the mean shifts, and the decoder."""
    encoder = ENCODERS["edsr"](mean_shift=False)
    return ImplicitSR(encoder, DECODERS["ciaosr"](in_dim=encoder.out_dim))


def official(key: str) -> str:
    """The authors' name of one of our keys."""
    for pattern, name in NAMES:
        key = re.sub(pattern, name, key)
    return key


def run(network: ImplicitSR, golden: Golden) -> Outputs:
    """Every case by `render` and by `query`, and some cross-scale features."""
    for tag, case in golden.cases.items():
        odd = tag.endswith("_odd")
        lr = golden.lr("lr_odd" if odd else "lr", mean=MEAN, std=1.0)
        size, target = Size(*lr.shape[-2:]), Size(*case["target"])
        frame, grid = Frame.whole(lr, torch.tensor([case["cell"]]), target), Grid.of(size, target)
        prepared = network.decoder.prepare(network.encoder(lr), lr, frame)
        if odd and "nonlocal_odd" in golden.arrays:
            yield "nonlocal_odd", prepared.wide[:, :8]
        yield f"pred_{tag}", _rows(network.decoder.render(prepared, grid))
        yield f"pred_{tag}", network.decoder.query(prepared, grid_coord(grid, lr))


def _rows(image: Tensor) -> Tensor:
    return image.flatten(2).transpose(1, 2)


CIAOSR = Method(build, run, official)


def build_lm(args: dict[str, Any]) -> nn.Module:
    """An encoder and LM-CiaoSR."""
    encoder = ENCODERS[args["encoder"]["name"].removesuffix("-baseline")]()
    render, (latent,) = args["imnet_q"]["args"], args["hypernet_q"]["args"]["hidden_list"]
    (hidden,) = args["imnet_k"]["args"]["hidden_list"]
    ours = {
        "depth": render["hidden_depth"],
        "width": render["hidden_dim"],
        "latent": latent,
        "hidden": hidden,
    }
    return ImplicitSR(encoder, DECODERS["lm-ciaosr"](in_dim=encoder.out_dim, **ours))


def official_lm(key: str) -> str:
    """The authors' name of one of our keys."""
    return key.removeprefix("decoder.").replace("imnet.layers", "imnet_q.layers")


LM_CIAOSR = Method(build_lm, lmf.run, official_lm, tolerance=2e-5, special=lmf.TOLERANCES)
