"""Losses: their interface, those of colours at the batch's coordinates, LINF's two stages, and distillation."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from srcli.data.samples import Batch
from srcli.errors import PresetError
from srcli.geometry import COPIES, Size, dihedral_size
from srcli.metrics.classifiers import load_classifier
from srcli.metrics.psnr import LUMA
from srcli.models.decoders.linf import unfolded
from srcli.models.decoders.native import OnNative
from srcli.models.decoders.thera import Thera
from srcli.models.layers import pixels_around
from srcli.models.sr import Frame, GenerativeDecoder, ImplicitSR
from srcli.weights.checkpoint import load

Objective = Callable[[ImplicitSR, Batch], Tensor]


class TrainingLoss:
    """An objective with state, a discriminator or a measurement of its own; calling it gives the loss.

    `discriminator`: a network that is trained against this loss, in the same steps and with an optimiser of its own.
    """

    discriminator: nn.Module | None = None
    discriminator_from: int = 0  # the step at which the discriminator begins

    def begin(self, network: ImplicitSR, step: int, steps: int) -> None:
        """Called before every step `step` of `steps`, to set what follows a schedule."""

    def __call__(self, network: ImplicitSR, batch: Batch) -> Tensor:
        raise NotImplementedError

    def discriminator_loss(self) -> Tensor:
        """The discriminator's loss on the batch of the last call."""
        raise NotImplementedError

    def measure(self, network: ImplicitSR, pairs: Sequence[tuple[Tensor, Tensor]]) -> dict[str, float] | None:
        """How good the network is at what this stage trains, in dB, larger is better; None: measure whole results.

        `pairs`: normalised LR (1, 3, h, w) and HR (1, 3, H, W) of held-out pictures at the largest scale of
        `validation.scales`.
        """
        return None


class FeatureCache:
    """Outputs of frozen parts, computed once for samples that are used again (those with numbers)."""

    def __init__(self) -> None:
        self.known: dict[int, tuple[Tensor, ...]] = {}

    def __call__(
        self, batch: Batch, compute: Callable[[list[int] | slice], tuple[Tensor, ...]]
    ) -> tuple[Tensor, ...]:
        """The outputs for a batch; `compute` is called with the indices of those that are missing, or a whole slice."""
        numbers = batch.numbers
        if numbers is None:
            return compute(slice(None))
        new = [i for i, number in enumerate(numbers) if number not in self.known]
        if new:
            found = compute(new)
            for place, i in enumerate(new):
                self.known[numbers[i]] = tuple(part[place].clone() for part in found)
        parts = zip(*(self.known[number] for number in numbers), strict=True)
        return tuple(torch.stack(part) for part in parts)


PUBLISHED = "vgg19-dcbb9e9d.pth"


def classifier(backbone: str, weights: str | None) -> nn.Module:
    """The distance of a perceptual loss. Raises PresetError (no file is named), ModelError (missing or wrong file)."""
    if weights is None:
        own = f"It is torchvision's {PUBLISHED}"
        other = f"Its Caffe weights are not published; --set objective.backbone=vgg19 takes torchvision's {PUBLISHED}"
        raise PresetError(
            f"the perceptual loss needs the file of {backbone}: --set objective.weights=FILE.",
            hint=f"{own if backbone == 'vgg19' else other}, or do without: --set objective.perceptual=0",
        )
    return load_classifier(backbone, Path(weights))


def luma_psnr(sr: Tensor, hr: Tensor, border: int) -> float:
    """PSNR in dB of the luma of (1, 3, h, w) in [-1, 1], leaving out a border of so many pixels."""
    weight = torch.tensor(LUMA, dtype=torch.float32, device=hr.device).view(1, 3, 1, 1)
    error = ((sr.float().clamp(-1, 1) - hr.float()) / 2 * weight).sum(1)
    inside = error[:, border:-border, border:-border]
    return float(-10 * inside.square().mean().log10())


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
    l1: float = 1.0,  # weight of the mean absolute error, in the normalised domain
    perceptual: float = 0.02,  # weight of the perceptual distance
    backbone: Literal["vgg19", "squeezenet"] = "squeezenet",  # whose features that compares
    weights: str | None = None,  # the backbone's file, needed unless `perceptual` is 0
) -> tuple[Objective, ...]:
    """Mean absolute error of the colours, and the perceptual distance of the square block that they form.

    Needs `data.block`, and a preset with mean and standard deviation 0.5. Raises as `classifier`.
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
        return _query(network, batch).negative_log_density()

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
    teacher: str | None = None,  # whose self-ensemble is part of the target, see `Teacher`
    share: float = 0.9,
) -> tuple[Objective, ...]:
    """LINF's second stage: the density, and the colours at temperature 0.

    `nll`, `l1`, `perceptual`: weights of the negative log-density, of the absolute error of the colours at temperature
    0, and of the perceptual distance of a sample at `temperature`, which needs `data.block`. `loss`: "steps" gives the
    density an optimiser step of its own, as the authors' code does; "joint" is one weighted sum, as the paper writes
    it. Raises ValueError (a weight below 0), and as `Teacher` and `classifier`.
    """
    if min(nll, l1, perceptual) < 0:
        raise ValueError("weights of losses are at least 0")
    judge = classifier(backbone, weights) if perceptual else None
    ensemble = Teacher(teacher, share) if teacher else None

    def density(network: ImplicitSR, batch: Batch) -> Tensor:
        return nll * _query(network, batch).negative_log_density()

    def colours(network: ImplicitSR, batch: Batch) -> Tensor:
        return picture_losses(_query(network, batch), target(batch))

    def both(network: ImplicitSR, batch: Batch) -> Tensor:
        query = _query(network, batch)
        return nll * query.negative_log_density() + picture_losses(query, target(batch))

    def target(batch: Batch) -> Tensor:
        return _by_channel(batch.hr if ensemble is None else ensemble.target(batch))

    def picture_losses(query: _Query, target: Tensor) -> Tensor:
        decoder, prepared, coord, hr = query
        total = l1 * (decoder.sample(prepared, coord) - target).abs().mean()
        if judge is not None:
            noise = temperature * torch.randn(hr.shape, device=hr.device)
            sr = decoder.sample(prepared, coord, noise)
            pictures = (_pictures(patches, decoder.patch) for patches in (sr, hr))
            total = total + perceptual * judge.to(hr.device)(*pictures)
        return total

    return (density, colours) if loss == "steps" else (both,)


def field_l1(*, variation: float = 1e-4) -> tuple[Objective, ...]:
    """Thera's loss: mean absolute error of colours in [0, 1], and `variation` times the mean slope of the sharp field.

    Needs presets with standard deviation 0.5; slopes are per LR pixel.
    """

    def loss(network: ImplicitSR, batch: Batch) -> Tensor:
        decoder, lr = network.decoder, batch.lr
        frame = Frame.whole(lr, batch.cell)
        prepared = decoder.prepare(network.encoder(lr), lr[:, :3], frame)
        error = l1(decoder.query(prepared, batch.coord), batch.hr) / 2
        factor, field, made = torch.ones(()), decoder, prepared
        if isinstance(decoder, OnNative):
            factor, field, made = decoder.factor.abs(), decoder.decoder, prepared[0]
        if not isinstance(field, Thera):
            raise PresetError("This objective needs a field to differentiate.", hint='decoder.name = "thera"')
        sharp = replace(frame, cell=torch.zeros_like(batch.cell))
        return error + variation * factor * field.gradient((*made[:2], sharp), batch.coord).abs().mean()

    return (loss,)


class _Query(NamedTuple):
    """A query of a generative decoder: what it prepared, the coordinates, and HR patches in the order of its noise."""

    decoder: GenerativeDecoder
    prepared: Any
    coord: Tensor
    hr: Tensor  # (B, Q, 3 n^2)

    def negative_log_density(self) -> Tensor:
        """Mean over the queries, in nats."""
        return -self.decoder.log_density(self.prepared, self.coord, self.hr).mean()


def _query(network: ImplicitSR, batch: Batch) -> _Query:
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
    return _Query(decoder, prepared, batch.coord, _by_channel(batch.hr))


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


class Teacher:
    """The self-ensemble of a trained network as a target; samples that are used again are computed once.

    The mean of a network over the eight turned and mirrored copies of its input (Timofte et al., "Seven ways to improve
    example-based single image super resolution", CVPR 2016) is closer to the truth than one pass, at eight times the
    time. A network that is trained towards that mean keeps some of the gain at no cost; and the mean is far less noisy
    than true colours, so that few steps are enough. `share`: weight of the teacher in the target, from 0 to 1; the rest
    is the true colours. Raises ValueError (another share, or a teacher whose mean and deviation are not 0.5), SrcliError
    (it is unknown, or not here).
    """

    def __init__(self, model: str, share: float) -> None:
        if not 0 <= share <= 1:
            raise ValueError("share is a number from 0 to 1")
        loaded = load(model)
        if set(sum(loaded.preset.mean_std, ())) != {0.5}:
            raise ValueError(f"{model} sees pixels with another mean and standard deviation than 0.5")
        self.network = loaded.network.requires_grad_(requires_grad=False)
        self.share, self.kept = share, FeatureCache()

    def target(self, batch: Batch) -> Tensor:
        """The mix of the teacher's and the true colours, in the shape of `batch.hr`: (B, Q, 3), or (B, Q, n^2, 3)."""
        self.network.to(batch.lr.device)
        (seen,) = self.kept(batch, lambda which: (self._seen(batch.with_each(lambda value: value[which])),))
        return self.share * seen + (1 - self.share) * batch.hr.float()

    def _seen(self, batch: Batch) -> Tensor:
        if batch.hr.ndim == 3:
            return self_ensemble_mean(self.network, batch)
        pixel = batch.cell[:, None, None]
        at = pixels_around(batch.coord, batch.cell, math.isqrt(batch.hr.shape[2]))
        coord = at.maximum(pixel / 2 - 1).minimum(1 - pixel / 2)  # beyond the picture, the edge's pixels
        pixels = batch._replace(coord=coord.flatten(1, 2), hr=batch.hr.flatten(1, 2))
        return self_ensemble_mean(self.network, pixels).unflatten(1, batch.hr.shape[1:3])


def self_ensemble(*, teacher: str | None = None, share: float = 0.9) -> tuple[Objective, ...]:
    """Mean squared error to a mix of the true colours and a teacher's, see `Teacher`."""
    if teacher is None:
        raise ValueError("a preset or weights file that teaches is needed: objective.teacher")
    ensemble = Teacher(teacher, share)

    def loss(network: ImplicitSR, batch: Batch) -> Tensor:
        prediction = network(batch.lr, batch.coord, batch.cell, batch.stages)
        return (prediction.float() - ensemble.target(batch)).square().mean()

    return (loss,)


@torch.no_grad()
def self_ensemble_mean(network: ImplicitSR, batch: Batch) -> Tensor:
    """The mean of a network's colours (B, Q, 3) over eight turned and mirrored copies of LR, in fp32.

    Not `geometry.self_ensemble`, which turns whole results back: here coordinates are turned along with LR.
    """
    total = torch.zeros_like(batch.hr, dtype=torch.float32)
    for turn in range(COPIES):
        total += network(*turned(batch, turn)).float()
    return total / COPIES


def turned(batch: Batch, turn: int) -> tuple[Tensor, Tensor, Tensor, tuple[Size, ...] | None]:
    """LR, coordinates, cell and stages of the same positions in a turned copy, as `dihedral` turns a picture."""
    lr, coord, cell, stages = batch.lr, batch.coord, batch.cell, batch.stages
    if turn & 1:
        lr, coord = lr.flip(-2), coord * coord.new_tensor([-1, 1])
    if turn & 2:
        lr, coord = lr.flip(-1), coord * coord.new_tensor([1, -1])
    if turn & 4:
        lr, coord, cell = lr.transpose(-1, -2), coord.flip(-1), cell.flip(-1)
    stages = stages and tuple(dihedral_size(stage, turn) for stage in stages)
    return lr, coord, cell, stages
