"""Small decoders with weights that make every input matter, and the plain forms that they must equal."""

import warnings
from itertools import pairwise
from typing import NamedTuple

import torch

from srcli.geometry import Axis, Box, Grid, Size, output_size
from srcli.models.decoders import DECODERS
from srcli.models.layers import grid_coord
from srcli.models.sr import Frame
from tests.reference import blend, ciaosr, hiif, liif, lit, lmf, lte, metasr, thera

DIM = 6


class Case(NamedTuple):
    """A decoder by name, its arguments and plain form; the gain of its weights, and the bound of float32's order of sums."""

    name: str
    arguments: dict
    plain: object
    gain: float = 1.4
    bound: float = 1e-5
    cell_clip: float | None = 4


LIT = {"base_dim": 8, "n_heads": 2, "hidden": (12, 10)}
LMF = {"depth": 3, "width": 8, "latent": 20}
LTE = {"hidden_dim": 16, "hidden": (20, 16)}
CASES = {
    "blend": Case("blend", {"width": 12, "hidden": (10, 8)}, blend.plain),
    "liif": Case("liif", {"hidden": (24, 20, 16)}, liif.plain),
    "liif, nearest": Case("liif", {"hidden": (24, 20), "local_ensemble": False}, liif.plain),
    "liif, no unfolding": Case("liif", {"hidden": (24, 20), "feat_unfold": False}, liif.plain),
    "liif, no cell": Case("liif", {"hidden": (24, 20), "cell_decode": False}, liif.plain),
    "metasr": Case("metasr", {"hidden": 24}, metasr.plain),
    "lte": Case("lte", LTE, lte.plain),
    "lte-plus": Case("lte-plus", LTE, lte.plain),
    "thera": Case("thera", {"n_components": 20}, thera.plain),
    "ciaosr": Case("ciaosr", {"hidden": (24, 20, 16)}, ciaosr.plain, bound=5e-5),  # no divisor in its softmax
    "lm-ciaosr": Case("lm-ciaosr", {**LMF, "hidden": 18, "window": 99}, ciaosr.plain_lm, 1, 2e-5),
    "hiif": Case("hiif", {"hidden_dim": 12, "levels": 4, "n_heads": 3}, hiif.plain, bound=2e-5),
    "lm-liif": Case("lm-liif", LMF, lmf.plain, 1),
    "lm-liif, depth 1": Case("lm-liif", LMF | {"depth": 1}, lmf.plain, 1),
    "lm-liif, raw features": Case("lm-liif", LMF | {"mod_input": False}, lmf.plain, 1),
    "lm-liif, nearest": Case("lm-liif", LMF | {"local_ensemble": False}, lmf.plain, 1),
    "lm-liif, bare": Case("lm-liif", LMF | {"feat_unfold": False, "cell_decode": False}, lmf.plain, 1),
    "lm-liif, published": Case("lm-liif", {}, lmf.plain, 1),
    "lm-lte": Case("lm-lte", LMF | {"hidden_dim": 12}, lmf.plain, 1),
    "lm-lte, latent's waves": Case("lm-lte", LMF | {"hidden_dim": 12, "mod_input": False}, lmf.plain, 1),
    "lm-lte, nearest": Case("lm-lte", LMF | {"hidden_dim": 12, "local_ensemble": False}, lmf.plain, 1),
    "lm-lte, published": Case("lm-lte", {}, lmf.plain, 1),
    "lit": Case("lit", LIT, lit.plain, cell_clip=None),
    "lit, 3x3": Case("lit", LIT | {"side": 3}, lit.plain, cell_clip=None),
    "lit, 1x1": Case("lit", LIT | {"side": 1}, lit.plain, cell_clip=None),
    "lit, no cell": Case("lit", LIT | {"side": 3, "cell": False}, lit.plain, cell_clip=None),
    "lit, ensemble": Case("lit", LIT | {"side": 5, "local_ensemble": True}, lit.plain, cell_clip=None),
    "lit, paper": Case("lit", LIT | {"side": 5, "variant": "paper"}, lit.plain, cell_clip=None),
    "lit, one layer": Case("lit", LIT | {"side": 3, "hidden": (9,)}, lit.plain, cell_clip=None),
    "clit-2": Case("lit", LIT | {"branches": 2, "side": 5}, lit.plain, cell_clip=None),
    "clit-3": Case("lit", LIT | {"branches": 3, "side": 3}, lit.plain, cell_clip=None),
    "clit-3, ensemble": Case(
        "lit", LIT | {"branches": 3, "side": 3, "local_ensemble": True}, lit.plain, cell_clip=None
    ),
    "clit-3, no attention": Case("lit", LIT | {"branches": 3, "attention": False}, lit.plain, cell_clip=None),
}


def filled(network, gain=1.4):
    """The network with weights that neither die nor explode."""
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 100
            parameter.normal_(0, gain / fan_in**0.5)
            if name.endswith("ln.weight"):  # HIIF's norms of keys and values
                parameter.add_(1)
            if name == "freq.weight" and gain > 1:  # within a turn or two, where float32 resolves angles
                parameter.mul_(0.5)
            if name == "components":  # Thera: some waves that the blur takes away, and angles as above
                parameter.mul_(5)
            if name == "k":
                parameter.fill_(1)
    return network


def build(case, **more):
    """The decoder of a case's name."""
    name, arguments, _, gain, *_ = CASES[case]
    return filled(DECODERS[name](in_dim=DIM, **{**arguments, **more}), gain)


def inputs(h, w, batch=2):
    """Features and LR pixels."""
    torch.manual_seed(2)
    return torch.randn(batch, DIM, h, w), torch.randn(batch, 3, h, w)


def prepare(decoder, feat, lr, frame):
    """`prepare` without the word on scales beyond training."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return decoder.prepare(feat, lr, frame)


def check(decoder, scales=(1, 2, 3.3, (1.7, 4.6)), bound=1e-5):
    """The contract of every decoder of DIM features: a grid is answered as its points are, and parts as the whole is."""
    for scale in scales:
        check_points(decoder, scale, bound)
        check_parts(decoder, scale, bound)
    check_halo(decoder, 0.3, -0.8, 2.3)
    check_bfloat16(decoder)


def check_points(decoder, scale, bound):
    """`render` gives what `query` gives at the middles of pixels, with finite gradients for every parameter."""
    feat, lr = inputs(9, 11)
    target = output_size(Size(9, 11), scale)
    prepared, grid = prepare(decoder, feat, lr, Frame.of_grid(lr, target)), Grid.of(Size(9, 11), target)
    points = decoder.query(prepared, grid_coord(grid, lr).expand(len(lr), -1, -1))
    assert points.shape == (len(lr), target.h * target.w, 3)
    gradients = torch.autograd.grad(
        points.square().sum(), [p for p in decoder.parameters() if p.requires_grad]
    )
    assert all(gradient.isfinite().all() for gradient in gradients)
    with torch.no_grad():
        rendered = decoder.render(prepared, grid).flatten(2).mT
    torch.testing.assert_close(rendered, points.detach(), atol=bound, rtol=1e-5)


def check_parts(decoder, scale, bound):
    """Bands of a picture, and boxes with the decoder's halo around them, render as the whole."""
    h, w = size = Size(17, 14)
    feat, lr = inputs(h, w, batch=1)
    target = output_size(size, scale)
    frame = Frame.of_grid(lr, target)
    with torch.no_grad():
        prepared = prepare(decoder, feat, lr, frame)
        whole = decoder.render(prepared, Grid.of(size, target))
        for top, bottom in pairwise((0, target.h // 3, target.h)):
            band = decoder.render(prepared, Grid.of(size, target, Box(top, 0, bottom, target.w)))
            torch.testing.assert_close(band, whole[:, :, top:bottom], atol=bound, rtol=1e-6)
        if not decoder.local:
            return
        for box in (Box(target.h // 3, 0, target.h, target.w), Box(9, 7, target.h - 7, target.w - 5)):
            top, bottom = Axis(h, target.h, box.top, box.bottom).source(decoder.halo)
            left, right = Axis(w, target.w, box.left, box.right).source(decoder.halo)
            seen = (..., slice(top, bottom), slice(left, right))
            part = Frame(size, Box(top, left, bottom, right), frame.cell, target)
            grid = Grid.of(size, target, box, origin=(top, left))
            rendered = decoder.render(prepare(decoder, feat[seen], lr[seen], part), grid)
            # The kernels sum in an order of their own for every shape; the numbers summed are the same.
            torch.testing.assert_close(rendered, whole[..., *box.slices], atol=5e-6, rtol=1e-6)


def check_halo(decoder, y, x, scale):
    """The answer at (y, x), in [-1, 1], depends on no feature beyond the halo of a local decoder."""
    n = 17
    feat, lr = inputs(n, n, batch=1)
    feat.requires_grad_()
    prepared = prepare(decoder, feat, lr, Frame.of_grid(lr, output_size(Size(n, n), scale)))
    (gradient,) = torch.autograd.grad(decoder.query(prepared, torch.tensor([[[y, x]]])).sum(), feat)
    rows, cols = gradient[0].abs().sum(0).nonzero().T
    pixel = [min(int((at + 1) / 2 * n), n - 1) for at in (y, x)]
    if decoder.local:
        assert (rows - pixel[0]).abs().max() <= decoder.halo
        assert (cols - pixel[1]).abs().max() <= decoder.halo


def check_bfloat16(decoder):
    """Features of bfloat16, with and without autocast, give float32 colours nearby."""
    feat, lr = inputs(8, 8, batch=1)
    frame, grid = Frame.of_grid(lr, Size(26, 26)), Grid.of(Size(8, 8), Size(26, 26))
    with torch.no_grad():
        exact = decoder.render(decoder.prepare(feat, lr, frame), grid)
        for autocast in (True, False):
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                rough = decoder.render(decoder.prepare(feat.bfloat16(), lr, frame), grid)
            assert rough.dtype == torch.float32
            assert (rough - exact).square().mean().sqrt() < 0.05 * exact.std()
