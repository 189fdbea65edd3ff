"""Learning from a teacher that looks at eight turned and mirrored copies, and from the true colours."""

from __future__ import annotations

import torch
from torch import Tensor

from srcli.data.samples import Batch
from srcli.geometry import COPIES, Size, dihedral_size
from srcli.models.sr import ImplicitSR
from srcli.objectives.stage import Kept, Objective
from srcli.weights.checkpoint import load


def self_ensemble(*, teacher: str | None = None, share: float = 0.9) -> tuple[Objective, ...]:
    """Mean squared error to a mix of the true colours and of what a teacher makes of them as a self-ensemble.

    The mean of a network over the eight turned and mirrored copies of its input (Timofte et al., "Seven ways to improve
    example-based single image super resolution", CVPR 2016) is closer than one pass, at eight times the time. A network that
    is trained towards that mean keeps some of it for nothing; and the mean is far less noisy than true colours, so that
    few steps are enough. Needs presets with mean and standard deviation 0.5. What the teacher says of samples that come
    again (`data.pool`) is computed once.

    Args:
        teacher: a preset with weights that are here, or a weights file, which there is no doing without; as a rule the
            weights that the run begins with.
        share: of the teacher in the mix, from 0 to 1.

    Raises:
        ValueError: a share outside 0 to 1, no teacher, or one that sees other pixels.
        SrcliError: the teacher is unknown, or its weights are not here.
    """
    if not 0 <= share <= 1:
        raise ValueError("share is a number from 0 to 1")
    if teacher is None:
        raise ValueError("a preset or weights file that teaches is needed: objective.teacher")
    loaded, kept = load(teacher), Kept()
    if set(sum(loaded.preset.mean_std, ())) != {0.5}:
        raise ValueError(f"{teacher} sees pixels with another mean and standard deviation than 0.5")
    guide = loaded.network.requires_grad_(requires_grad=False)

    def loss(network: ImplicitSR, batch: Batch) -> Tensor:
        guide.to(batch.lr.device)
        (seen,) = kept(batch, lambda which: (turned_mean(guide, _part(batch, which)),))
        target = share * seen + (1 - share) * batch.hr.float()
        prediction = network(batch.lr, batch.coord, batch.cell, batch.stages)
        return (prediction.float() - target).square().mean()

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


def _part(batch: Batch, which: list[int] | slice) -> Batch:
    return batch.with_each(lambda value: value[which])
