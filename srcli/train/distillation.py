"""Learning from a teacher that looks at eight turned and mirrored copies, and from the true colours."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from srcli.data.samples import Batch
from srcli.geometry import COPIES, Size, dihedral_size
from srcli.models.layers import pixels_around
from srcli.models.sr import ImplicitSR
from srcli.train.loss import Kept, Objective
from srcli.weights.checkpoint import load


class Teacher:
    """What a trained network makes of samples as a self-ensemble; of those that come again it is asked once.

    The mean of a network over the eight turned and mirrored copies of its input (Timofte et al., "Seven ways to improve
    example-based single image super resolution", CVPR 2016) is closer than one pass, at eight times the time. A network that
    is trained towards that mean keeps some of it for nothing; and the mean is far less noisy than true colours, so that
    few steps are enough.

    Args:
        model: a preset with weights that are here, or a weights file.
        share: of the teacher in what is aimed at, from 0 to 1; the rest is the true colours.

    Raises:
        ValueError: a share outside 0 to 1, or a teacher that sees other pixels than with mean and deviation 0.5.
        SrcliError: the teacher is unknown, or its weights are not here.
    """

    def __init__(self, model: str, share: float) -> None:
        if not 0 <= share <= 1:
            raise ValueError("share is a number from 0 to 1")
        loaded = load(model)
        if set(sum(loaded.preset.mean_std, ())) != {0.5}:
            raise ValueError(f"{model} sees pixels with another mean and standard deviation than 0.5")
        self.network = loaded.network.requires_grad_(requires_grad=False)
        self.share, self.kept = share, Kept()

    def aim(self, batch: Batch) -> Tensor:
        """The mix of the teacher's and the true colours, in the shape of `batch.hr`: (B, Q, 3), or (B, Q, n^2, 3)."""
        self.network.to(batch.lr.device)
        (seen,) = self.kept(batch, lambda which: (self._seen(batch.with_each(lambda value: value[which])),))
        return self.share * seen + (1 - self.share) * batch.hr.float()

    def _seen(self, batch: Batch) -> Tensor:
        if batch.hr.ndim == 3:
            return turned_mean(self.network, batch)
        pixel = batch.cell[:, None, None]
        at = pixels_around(batch.coord, batch.cell, math.isqrt(batch.hr.shape[2]))
        coord = at.maximum(pixel / 2 - 1).minimum(1 - pixel / 2)  # the edge's where there are none
        pixels = batch._replace(coord=coord.flatten(1, 2), hr=batch.hr.flatten(1, 2))
        return turned_mean(self.network, pixels).unflatten(1, batch.hr.shape[1:3])


def self_ensemble(*, teacher: str | None = None, share: float = 0.9) -> tuple[Objective, ...]:
    """Mean squared error to a mix of the true colours and of what a teacher makes of them as a self-ensemble.

    Needs presets with mean and standard deviation 0.5. What the teacher says of samples that come again (`data.pool`)
    is computed once.

    Args:
        teacher: see `Teacher`; there is no doing without.
        share: of the teacher in the mix, from 0 to 1.

    Raises:
        ValueError, SrcliError: no teacher, or as `Teacher` raises.
    """
    if teacher is None:
        raise ValueError("a preset or weights file that teaches is needed: objective.teacher")
    guide = Teacher(teacher, share)

    def loss(network: ImplicitSR, batch: Batch) -> Tensor:
        prediction = network(batch.lr, batch.coord, batch.cell, batch.stages)
        return (prediction.float() - guide.aim(batch)).square().mean()

    return (loss,)


@torch.no_grad()
def turned_mean(network: ImplicitSR, batch: Batch) -> Tensor:
    """The mean of a network's colours (B, Q, 3) over eight turned and mirrored copies of LR, in fp32."""
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
