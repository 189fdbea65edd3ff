"""FPLIA's regression part behind its golden files."""

from typing import Any

import numpy as np
import torch
from torch import nn

from srcli.geometry import Grid, Size
from srcli.models.decoders.lia import LIA
from srcli.models.encoders import ENCODERS
from srcli.models.layers import grid_coord
from srcli.models.sr import Frame, ImplicitSR
from srcli.weights.official_fplia import PATHS, lia_names
from tests.parity.golden import Golden, Method, Outputs

OFFICIAL = lia_names()
# The norm divides features with a standard deviation of 0.16, and rounding in sums of 12,544 terms with them.
TOLERANCE = 3e-5
MOST_TIES = 2e-3  # share of pixels whose choice may hang on rounding


def official_name(key: str) -> str:
    """What the authors call a key of LIA's."""
    module, _, leaf = key.rpartition(".")
    if module.startswith("mlp."):
        return f"imnet_de.{key.removeprefix('mlp.')}"
    if module.startswith("position."):
        return f"pb_encoder.{key.removeprefix('position.')}"
    return f"{OFFICIAL[module]}.{leaf}"


def name_of_stage(key: str) -> str:
    """The same for a checkpoint of the first stage, with its encoder."""
    part, _, rest = key.partition(".")
    return f"fid_encoder.{rest}" if part == "encoder" else f"lia.{official_name(rest)}"


def build_stage(args: dict[str, Any]) -> nn.Module:
    """The first stage: an encoder and the branch f."""
    encoder = ENCODERS["edsr"]()
    return ImplicitSR(encoder, LIA(in_dim=encoder.out_dim, branches=("f",)))


def run_stage(network: ImplicitSR, golden: Golden) -> Outputs:
    """Every case by `render`, and the small ones by `query`, which is slow."""
    lr = golden.lr()
    feat = network.encoder(lr)
    for tag, case in golden.cases.items():
        target = Size(*case["target"])
        frame = Frame.whole(lr, torch.tensor([case["cell"]]), target)
        prepared, grid = network.decoder.prepare(feat, lr, frame), Grid.of(frame.size, target)
        yield f"pred_{tag}", network.decoder.render(prepared, grid).flatten(2).transpose(1, 2)
        if target.h * target.w <= 2000:
            yield f"pred_{tag}", network.decoder.query(prepared, grid_coord(grid, lr))


def run_branches(decoder: LIA, golden: Golden) -> Outputs:
    """Scores, choices, what is selected, and the branches, from features that follow from seeds."""
    lr = golden.lr()
    size = Size(*lr.shape[-2:])
    feat = torch.cat([drawn(31, 64, size), drawn(32, 128, size)], dim=1)
    for tag, case in golden.cases.items():
        target = Size(*case["target"])
        prepared = decoder.prepare(feat, lr, Frame.whole(lr, torch.tensor([case["cell"]]), target))
        grid = Grid.of(size, target)
        colours, scores = decoder.render_chosen(prepared, grid)
        assert scores is not None
        images = [decoder.render_chosen(prepared, grid, name).colours for name in decoder.branches]
        logits = golden.arrays[f"logits_{tag}"]
        theirs = torch.from_numpy(golden.arrays[f"choice_{tag}"]).long().reshape(scores[:, 0].shape)
        choice, flipped = settled(scores, theirs, TOLERANCE * max(1.0, float(logits.std())))
        print(f"{tag}: {int(flipped.sum())} of {flipped.numel()} choices within the bound fell otherwise")
        assert flipped.float().mean() <= MOST_TIES
        for number, image in enumerate(images):
            colours = torch.where((flipped & (choice == number)).unsqueeze(1), image, colours)
        yield f"blend_pred_{tag}", colours.flatten(2).transpose(1, 2)
        yield f"logits_{tag}", scores.flatten(2).transpose(1, 2)
        yield f"choice_{tag}", choice.flatten(1).to(torch.uint8)
        if f"fid_pred_{tag}" in golden.arrays:
            for name, image in zip(decoder.branches, images, strict=True):
                yield f"{PATHS[name]}_pred_{tag}", image.flatten(2).transpose(1, 2)


def settled(scores: torch.Tensor, theirs: torch.Tensor, bound: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The choices (B, H, W) by scores (B, branches, H, W), and where the authors' counts in place of ours.

    That is where two scores are so close that errors within the bound in both may have turned their order.
    """
    ours = scores.argmax(1)
    margin = scores.amax(1) - scores.gather(1, theirs.unsqueeze(1))[:, 0]
    flipped = (ours != theirs) & (margin <= 2 * bound)
    return torch.where(flipped, theirs, ours), flipped


def drawn(seed: int, channels: int, size: Size) -> torch.Tensor:
    """A map of features (1, channels, h, w)."""
    values = np.random.default_rng(seed).standard_normal((1, channels, *size))
    return torch.from_numpy(values.astype(np.float32))


FPLIA_STAGE = Method(build_stage, run_stage, name_of_stage)
FPLIA_BRANCHES = Method(
    lambda args: LIA(in_dim=192, perc_dim=128),
    run_branches,
    official_name,
    tolerance=TOLERANCE,
    own=("temperature",),
)
