"""LINF behind its golden files: density, sampling, and the borders as its authors have them."""

import re
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srcli.geometry import Grid, Size
from srcli.models.decoders import DECODERS
from srcli.models.decoders.linf import LINF, LINFField
from srcli.models.sr import Frame, ImplicitSR
from tests.parity.golden import Golden, Method, Outputs, encoder_of
from tests.reference.sampling import centres, skip


def build(args: dict[str, Any]) -> nn.Module:
    """Our network for the official arguments."""
    encoder = encoder_of(args)
    decoder = DECODERS["linf"](
        in_dim=encoder.out_dim,
        patch=args.get("patch_size", 1),
        hidden_dim=args["hidden_dim"],
        hidden=(args["hidden_dim"],) * args["num_layer"],
        flow_layers=args["flow_layers"],
        protocol="official",
    )
    return ImplicitSR(encoder, decoder)


def official_centres(target: Size, patch: int) -> Tensor:
    """Where the authors' patches look (rows, columns, 2): coordinates, padded with zeros to whole patches."""
    if patch == 1:
        return centres(*target)
    down, right = (patch - side % patch for side in target)
    return F.pad(centres(*target), (0, 0, 0, right, 0, down))[patch // 2 :: patch, patch // 2 :: patch]


def run(network: ImplicitSR, golden: Golden) -> Outputs:
    """Every output of the file; images by `render` and `render_affine`, and from scattered patches."""
    lr, decoder = golden.lr(), network.decoder
    assert isinstance(decoder, LINF)
    for tag, case in golden.cases.items():
        size, target = Size(*lr.shape[-2:]), Size(*case["target"])
        frame, grid = Frame.whole(lr, torch.tensor([case["cell"]]), target), Grid.of(size, target)
        prepared = decoder.prepare(network.encoder(lr), lr, frame)
        at = official_centres(target, decoder.patch)
        arrays = {
            name.removesuffix(f"_{tag}"): torch.from_numpy(values)
            for name, values in golden.arrays.items()
            if name.endswith(f"_{tag}")
        }
        yield f"pred_t0_{tag}", decoder.render(prepared, grid)
        if "centres" in arrays:
            yield f"centres_{tag}", at
        if decoder.patch == 1:
            queried = decoder.query(prepared, at.reshape(1, -1, 2))
            yield f"pred_t0_{tag}", queried.transpose(1, 2).reshape(1, 3, *target)
        yield from samples(decoder, prepared, grid, at, arrays, tag)
        yield from densities(decoder, prepared, at, arrays, tag)


def samples(
    decoder: LINF, prepared: LINFField, grid: Grid, at: Tensor, arrays: dict[str, Tensor], tag: str
) -> Outputs:
    """Images from the file's noise, at the temperatures that its names say."""
    rows, cols = at.shape[:2]
    covered = grid.patches(decoder.patch).size
    for name in arrays:
        match = re.fullmatch(r"(pred|fold)_tau([\d.]+)", name)
        if not match:
            continue
        tau, z = float(match[2]), arrays["z"]
        if match[1] == "fold":  # with the patches that are cropped, and without the bilinear image
            condition = decoder.conditions(prepared, at.reshape(1, -1, 2))[0].condition
            x = decoder.imnet.mean(prepared.inverse, condition)
            x = x + tau * decoder.imnet.direction(prepared.inverse, condition, z[None])
            side = decoder.patch
            folded = F.fold(x.transpose(1, 2), (rows * side, cols * side), side, stride=side)
            yield f"{name}_{tag}", folded
            continue
        noise = z.reshape(1, rows, cols, -1).permute(0, 3, 1, 2)[:, :, : covered.h, : covered.w]
        mean, direction = decoder.render_affine(prepared, grid, noise)
        yield f"{name}_{tag}", mean + tau * direction


def densities(decoder: LINF, prepared: LINFField, at: Tensor, arrays: dict[str, Tensor], tag: str) -> Outputs:
    """Noise and log-density of the file's images, or of its residual patches."""
    coord = at.reshape(1, -1, 2)
    condition = decoder.conditions(prepared, coord)[0].condition
    if "affine_head" in arrays:
        yield f"affine_head_{tag}", condition[0, : len(arrays["affine_head"])]
    if "gt_patch" in arrays:
        residual = arrays["gt_patch"].flatten(2).transpose(1, 2)
    elif "gt" in arrays:
        gt = arrays["gt"].flatten(2).transpose(1, 2)
        residual = gt - skip(prepared.lr, coord)
        yield f"log_p_{tag}", decoder.log_density(prepared, coord, gt)[0]
    else:
        return
    z, log_p = decoder.imnet(residual, condition)
    yield f"fwd_z_{tag}", z[0]
    yield f"log_p_{tag}", log_p[0]


LINF_METHOD = Method(
    build,
    run,
    inputs=("lr", "z_", "gt_"),
    tolerance=2e-5,  # the authors solve linear systems in float32
)
