"""Losses of colours at the batch's coordinates: regression, and LINF's two stages."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from srcli.data.samples import Batch
from srcli.errors import PresetError
from srcli.models.decoders.linf import unfolded
from srcli.models.sr import Frame, GenerativeDecoder, ImplicitSR
from srcli.train.distillation import Teacher
from srcli.train.loss import Objective, classifier


def l1(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error of colours (B, Q, 3) in the normalised domain."""
    return (prediction.float() - target.float()).abs().mean()


def colour_l1() -> tuple[Objective, ...]:
    """Mean absolute error of the colours at the batch's coordinates."""

    def loss(network: ImplicitSR, batch: Batch) -> Tensor:
        return l1(network(batch.lr, batch.coord, batch.cell, batch.stages), batch.hr)

    return (loss,)


def colour_l2() -> tuple[Objective, ...]:
    """Mean squared error of the colours at the batch's coordinates, which is what PSNR measures."""

    def loss(network: ImplicitSR, batch: Batch) -> Tensor:
        prediction = network(batch.lr, batch.coord, batch.cell, batch.stages)
        return (prediction.float() - batch.hr.float()).square().mean()

    return (loss,)


def perceptual_l1(
    *,
    l1: float = 1.0,
    perceptual: float = 0.02,
    backbone: Literal["vgg19", "squeezenet"] = "squeezenet",
    weights: str | None = None,
) -> tuple[Objective, ...]:
    """Mean absolute error of the colours, and the perceptual distance of the square block that they form.

    Needs `data.block`, and a preset with mean and standard deviation 0.5.

    Args:
        l1: weight of the mean absolute error, in the normalised domain.
        perceptual: weight of the perceptual distance.
        backbone: whose features that compares.
        weights: the backbone's file, needed unless `perceptual` is 0.

    Raises:
        ValueError: a weight below 0.
        PresetError: no file.
        ModelError: the file is not here or is something else.
    """
    if min(l1, perceptual) < 0:
        raise ValueError("weights of losses are at least 0")
    judge = classifier(backbone, weights) if perceptual else None

    def loss(network: ImplicitSR, batch: Batch) -> Tensor:
        sr = network(batch.lr, batch.coord, batch.cell, batch.stages).float()
        pictures = (_pictures(colours, 1) for colours in (sr, batch.hr))
        error = (sr - batch.hr).abs().mean()
        return l1 * error + (perceptual * judge.to(sr.device)(*pictures) if judge else 0)

    return (loss,)


def nll() -> tuple[Objective, ...]:
    """Mean over queries of the negative log-density of the residual, LINF's first stage; not divided by its entries."""

    def loss(network: ImplicitSR, batch: Batch) -> Tensor:
        return _asked(network, batch).negative_log_density()

    return (loss,)


def linf_stage_2(
    *,
    nll: float = 5e-4,
    l1: float = 1.0,
    perceptual: float = 0.0,
    backbone: Literal["vgg19", "squeezenet"] = "vgg19",
    weights: str | None = None,
    temperature: float = 0.8,
    loss: Literal["steps", "joint"] = "steps",
    teacher: str | None = None,
    share: float = 0.9,
) -> tuple[Objective, ...]:
    """LINF's second stage: the density, and the colours at temperature 0.

    Args:
        nll: weight of the negative log-density.
        l1: weight of the mean absolute error of the colours at temperature 0.
        perceptual: weight of the perceptual distance of a sample; needs `data.block`.
        backbone: whose features the distance compares: "vgg19", as the authors, or "squeezenet".
        weights: the backbone's file.
        temperature: of the sample that the perceptual distance sees; pixels are those of a preset with mean and
            standard deviation 0.5.
        loss: "steps" gives the density an optimiser step of its own, as the authors' code does; "joint" is one weighted
            sum, as the paper writes it.
        teacher: a preset or weights file whose self-ensemble (see `Teacher`) the colours at temperature 0 aim at.
        share: of the teacher in that aim, from 0 to 1; the rest is the true colours.

    Raises:
        ValueError: a weight below 0, or what `Teacher` refuses.
        PresetError: a perceptual loss without the backbone's file.
        ModelError: the file is not here or is something else.
    """
    if min(nll, l1, perceptual) < 0:
        raise ValueError("weights of losses are at least 0")
    judge = classifier(backbone, weights) if perceptual else None
    guide = Teacher(teacher, share) if teacher else None

    def density(network: ImplicitSR, batch: Batch) -> Tensor:
        return nll * _asked(network, batch).negative_log_density()

    def colours(network: ImplicitSR, batch: Batch) -> Tensor:
        return picture_losses(_asked(network, batch), aim(batch))

    def both(network: ImplicitSR, batch: Batch) -> Tensor:
        asked = _asked(network, batch)
        return nll * asked.negative_log_density() + picture_losses(asked, aim(batch))

    def aim(batch: Batch) -> Tensor:
        return _by_channel(batch.hr if guide is None else guide.aim(batch))

    def picture_losses(asked: _Asked, target: Tensor) -> Tensor:
        decoder, prepared, coord, hr = asked
        total = l1 * (decoder.sample(prepared, coord) - target).abs().mean()
        if judge is not None:
            noise = temperature * torch.randn(hr.shape, device=hr.device)
            sr = decoder.sample(prepared, coord, noise)
            pictures = (_pictures(patches, decoder.patch) for patches in (sr, hr))
            total = total + perceptual * judge.to(hr.device)(*pictures)
        return total

    return (density, colours) if loss == "steps" else (both,)


class _Asked(NamedTuple):
    """A generative decoder, what it prepared for a batch, and the batch's patches in the order of its noise."""

    decoder: GenerativeDecoder
    prepared: Any
    coord: Tensor
    hr: Tensor  # (B, Q, 3 n^2)

    def negative_log_density(self) -> Tensor:
        """Mean over the queries, in nats."""
        return -self.decoder.log_density(self.prepared, self.coord, self.hr).mean()


def _asked(network: ImplicitSR, batch: Batch) -> _Asked:
    decoder = network.decoder
    if not isinstance(decoder, GenerativeDecoder):
        raise PresetError(
            "This objective needs a decoder that gives a distribution.", hint='decoder.name = "linf"'
        )
    pixels = 1 if batch.hr.ndim == 3 else batch.hr.shape[2]
    if pixels != decoder.patch**2:
        raise PresetError(
            f"The decoder's patches of {decoder.patch}x{decoder.patch} pixels need samples of that size.",
            hint=f"data.around = {decoder.patch}",
        )
    prepared = decoder.prepare(network.encoder(batch.lr), batch.lr, Frame.whole(batch.lr, batch.cell))
    return _Asked(decoder, prepared, batch.coord, _by_channel(batch.hr))


def _by_channel(colours: Tensor) -> Tensor:
    """Patches (B, Q, 3 n^2) in the order of the noise, from colours (B, Q, n^2, 3), or (B, Q, 3)."""
    return colours if colours.ndim == 3 else colours.transpose(2, 3).flatten(2)


def _pictures(patches: Tensor, patch: int) -> Tensor:
    """Pictures (B, 3, side, side) in [0, 1] from the patches (B, Q, 3 n^2) of a block, see `SampleSettings.block`."""
    side = math.isqrt(patches.shape[1])
    if side * side != patches.shape[1]:
        raise PresetError(
            "A perceptual loss looks at pictures, not at random pixels.", hint="Set data.block."
        )
    return unfolded(patches.unflatten(1, (side, side)), patch) * 0.5 + 0.5
