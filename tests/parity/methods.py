"""Which of our networks stands behind which golden file. A new method is one entry of METHODS."""

from typing import Any

import torch
from torch import Tensor, nn

from srcli.geometry import Grid, Size
from srcli.models.decoders import DECODERS
from srcli.models.encoders import ENCODERS
from srcli.models.layers import grid_coord, window_pad
from srcli.models.sr import Frame, ImplicitSR
from tests.parity.ciaosr import CIAOSR, LM_CIAOSR
from tests.parity.fplia import FPLIA_BRANCHES, FPLIA_STAGE
from tests.parity.golden import Golden, Method, Outputs, encoder_of
from tests.parity.hiif import HIIF
from tests.parity.linf import LINF_METHOD
from tests.parity.lit import LIT_METHOD
from tests.parity.lmf import modulated

# Official arguments that we call the same.
SWITCHES = ("local_ensemble", "feat_unfold", "cell_decode", "hidden_dim")


def classic(decoder: str) -> Any:
    """Builder of an encoder with one of LIIF, MetaSR, LTE, LTE+."""

    def build(args: dict[str, Any]) -> nn.Module:
        encoder = encoder_of(args)
        ours = {key: value for key, value in args.items() if key in SWITCHES}
        if "imnet_spec" in args:
            ours["hidden"] = tuple(args["imnet_spec"]["args"]["hidden_list"])
        return ImplicitSR(encoder, DECODERS[decoder](in_dim=encoder.out_dim, **ours))

    return build


def run_encoder(encoder: nn.Module, golden: Golden) -> Outputs:
    """Features of every LR image in the file."""
    for name in golden.arrays:
        if name.startswith("lr"):
            yield name.replace("lr", "feat"), encoder(golden.lr(name))


def run_decoder(network: ImplicitSR, golden: Golden) -> Outputs:
    """Every case through `render` and through `query`, as a list of queries."""
    for tag, case in golden.cases.items():
        for image in both_ways(network, golden.lr(), Size(*case["target"]), torch.tensor([case["cell"]])):
            yield f"pred_{tag}", image.flatten(2).transpose(1, 2)


def run_grid_decoder(network: ImplicitSR, golden: Golden) -> Outputs:
    """Every case through `render` and through `query`, as an image."""
    for tag, case in golden.cases.items():
        for image in both_ways(network, golden.lr(), Size(*case["target"]), torch.tensor([case["cell"]])):
            yield f"pred_{tag}", image


def run_window(network: ImplicitSR, golden: Golden) -> Outputs:
    """Every case on the LR image padded to windows, cropped."""
    for tag, case in golden.cases.items():
        lr = window_pad(golden.lr(), network.encoder.multiple_of, always=True)
        assert list(lr.shape[-2:]) == case["padded_lr"]
        target = Size(*case["padded_target"])
        cell = torch.tensor([[2 / target.h, 2 / target.w]]) * case["cell_factor"]
        h, w = case["cropped"]
        for image in both_ways(network, lr, target, cell):
            yield f"pred_{tag}", image[:, :, :h, :w]


def both_ways(network: ImplicitSR, lr: Tensor, target: Size, cell: Tensor) -> list[Tensor]:
    """Images (1, 3, H, W) by `render` and by `query`."""
    h, w = lr.shape[-2:]
    grid = Grid.of(Size(h, w), target)
    prepared = network.decoder.prepare(network.encoder(lr), lr, Frame.whole(lr, cell, target))
    rendered = network.decoder.render(prepared, grid)
    queried = network.decoder.query(prepared, grid_coord(grid, lr))
    return [rendered, queried.transpose(1, 2).reshape(rendered.shape)]


def bare(encoder: str) -> Method:
    """An encoder alone."""
    return Method(lambda args: ENCODERS[encoder](), run_encoder)


METHODS: dict[str, Method] = {
    "ciaosr": CIAOSR,
    "clit2": LIT_METHOD,
    "clit3": LIT_METHOD,
    "enc_edsr_baseline": bare("edsr"),
    "enc_rdn_b": bare("rdn"),
    "enc_rrdb": bare("rrdb"),
    "enc_swinir": bare("swinir"),
    "fplia_fpam_fpsm": FPLIA_BRANCHES,
    "fplia_lia": FPLIA_STAGE,
    "hiif": HIIF,
    "liif": Method(classic("liif"), run_decoder),
    "liif_nocell": Method(classic("liif"), run_decoder),
    "liif_noensemble": Method(classic("liif"), run_decoder),
    "liif_nounfold": Method(classic("liif"), run_decoder),
    "linf": LINF_METHOD,
    "linf_patch": LINF_METHOD,
    "linf_patch_rrdb": LINF_METHOD,
    "lit": LIT_METHOD,
    "lm_ciaosr": LM_CIAOSR,
    "lm_liif": modulated("lm-liif"),
    "lm_liif_depth8": modulated("lm-liif"),
    "lm_liif_noensemble": modulated("lm-liif"),
    "lm_liif_plain": modulated("lm-liif"),
    "lm_lte": modulated("lm-lte"),
    "lte": Method(classic("lte"), run_decoder),
    "lte_fast": Method(classic("lte-plus"), run_grid_decoder),
    "metasr": Method(classic("metasr"), run_decoder),
    "swinir_liif_window": Method(classic("liif"), run_window),
    "swinir_lte_window": Method(classic("lte"), run_window),
}
