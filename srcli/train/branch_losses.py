"""One branch of a network that has several, asked without the others; FPLIA's first stage, which trains one alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from srcli.data.samples import Batch
from srcli.errors import PresetError
from srcli.geometry import Box, Grid, Size
from srcli.models.encoders.perception import Perception
from srcli.models.layers import grid_coord
from srcli.models.sr import Frame, ImplicitSR, pixel_cell
from srcli.train.loss import Objective, Stage, luma_psnr

FIDELITY = "f"


def fidelity() -> tuple[Objective, ...]:
    """Mean squared error of LIA's branch f at the batch's coordinates; no latent is seen.

    FPLIA (arXiv 2606.21910) trains the extractor and this branch first. Written from the paper.
    """
    return (_Fidelity(),)


class _Fidelity(Stage):
    """See `fidelity`."""

    def __call__(self, network: ImplicitSR, batch: Batch) -> Tensor:
        """The loss of a batch."""
        feat = faithful(network, batch.lr)
        prepared = network.decoder.prepare(feat, batch.lr, Frame.whole(batch.lr, batch.cell))
        colours = answers(network, prepared, batch.coord, (FIDELITY,))[FIDELITY]
        return (colours - batch.hr).square().mean()

    def measure(self, network: ImplicitSR, pairs: Sequence[tuple[Tensor, Tensor]]) -> dict[str, float] | None:
        """PSNR of luma of the branch at the size of HR."""
        values = [
            luma_psnr(
                decoded(network, lr, faithful(network, lr), Size(*hr.shape[-2:]), FIDELITY), hr, border=4
            )
            for lr, hr in pairs
        ]
        return {"psnr-y of branch f x4": sum(values) / len(values)}


def faithful(network: ImplicitSR, lr: Tensor) -> Tensor:
    """Features of lr (B, 3, h, w) with zeros where those of a latent would be.

    Raises:
        PresetError: the network does not look at LR and a latent.
    """
    if not isinstance(network.encoder, Perception):
        raise PresetError("This objective needs FPLIA's encoder.", hint='encoder.name = "perception"')
    return network.encoder.beside(lr)


def perceived(network: ImplicitSR, lr: Tensor, z: Tensor) -> Tensor:
    """Features of a latent (B, z, h, w), not normalised, and of LR (B, 3, h, w) what branch p needs, or zeros."""
    feat, encoder = autoencoder_of(network).decode(z), network.encoder
    if isinstance(encoder, Perception) and encoder.out_dim > encoder.feat_dim:  # the native picture
        return encoder.beside(lr, feat)
    return F.pad(feat, (0, 0, 0, 0, encoder.out_dim - feat.shape[1], 0))


def autoencoder_of(network: ImplicitSR) -> Any:
    """The network's auto-encoder.

    Raises:
        PresetError: it has none.
    """
    found = getattr(network.encoder, "autoencoder", None)
    if found is None:
        raise PresetError(
            "This objective needs an encoder with an auto-encoder.", hint='encoder.name = "perception"'
        )
    return found


def picture_of(batch: Batch) -> Tensor:
    """The batch's pictures.

    Raises:
        PresetError: it has none.
    """
    if batch.picture is None:
        raise PresetError(
            "This objective encodes HR pictures.", hint="Set data.picture, as a rule four times data.patch."
        )
    return batch.picture


def decoded(
    network: ImplicitSR, lr: Tensor, feat: Tensor, target: Size, branch: str, box: Box | None = None
) -> Tensor:
    """Pictures (B, 3, H, W) of features (B, C, h, w) at the size `target`, or that box of them, float32."""
    cell = pixel_cell(Size(*lr.shape[-2:]), target).to(lr.device).expand(len(lr), 2)
    prepared = network.decoder.prepare(feat, lr, Frame.whole(lr, cell))
    grid = Grid.of(Size(*lr.shape[-2:]), target, box)
    coord = grid_coord(grid, lr).expand(len(lr), -1, -1)
    colours = answers(network, prepared, coord, (branch,))[branch]
    return colours.transpose(1, 2).unflatten(2, tuple(grid.size))


def answers(network: ImplicitSR, prepared: Any, coord: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
    """Colours (B, Q, 3) in float32 by the names of LIA's branches; "" is a decoder without branches.

    Raises:
        PresetError: a branch of a decoder that has none.
    """
    decoder: Any = network.decoder
    if tuple(names) == ("",):
        return {"": decoder.query(prepared, coord).float()}
    if not hasattr(decoder, "answers"):
        raise PresetError("This objective needs a decoder with branches.", hint='decoder.name = "lia"')
    return decoder.answers(prepared, coord, names)
