"""What a loss may be: a plain callable, or a stage of training that knows where it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from srcli.data.samples import Batch
from srcli.errors import PresetError
from srcli.metrics.classifiers import load_classifier
from srcli.models.sr import ImplicitSR

Objective = Callable[[ImplicitSR, Batch], Tensor]


class Stage:
    """A loss with more to it than a formula; calling it gives the loss, as with every objective.

    Attributes:
        opponent: a network that is trained against this loss, in the same steps and with an optimiser of its own.
        opponent_from: the step at which that begins.
    """

    opponent: nn.Module | None = None
    opponent_from: int = 0

    def begin(self, network: ImplicitSR, step: int, steps: int) -> None:
        """Called before every step `step` of `steps`: what follows a schedule is set here."""

    def __call__(self, network: ImplicitSR, batch: Batch) -> Tensor:
        """The loss of a batch."""
        raise NotImplementedError

    def opponent_loss(self) -> Tensor:
        """The opponent's loss on the batch of the last call."""
        raise NotImplementedError

    def measure(self, network: ImplicitSR, pairs: Sequence[tuple[Tensor, Tensor]]) -> dict[str, float] | None:
        """How good the network is at what this stage trains, larger is better, in dB; None: measure it as a whole.

        Args:
            network: the averaged weights, in evaluation.
            pairs: LR (1, 3, h, w) and HR (1, 3, H, W) of held-out pictures at the largest scale of `validation.scales`,
                normalised.
        """
        return None


class Kept:
    """What frozen parts say of samples: computed anew, or once for each sample that comes again."""

    def __init__(self) -> None:
        self.known: dict[int, tuple[Tensor, ...]] = {}

    def __call__(
        self, batch: Batch, compute: Callable[[list[int] | slice], tuple[Tensor, ...]]
    ) -> tuple[Tensor, ...]:
        """What `compute` gives for all samples of a batch; it is told which of them to compute."""
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
    """The distance that a perceptual loss is, see `load_classifier`.

    Raises:
        PresetError: no file is named.
        ModelError: it is not here or is something else.
    """
    if weights is None:
        own = f"It is torchvision's {PUBLISHED}"
        other = f"Its Caffe weights are not published; --set objective.backbone=vgg19 takes torchvision's {PUBLISHED}"
        raise PresetError(
            f"the perceptual loss needs the file of {backbone}: --set objective.weights=FILE.",
            hint=f"{own if backbone == 'vgg19' else other}, or do without: --set objective.perceptual=0",
        )
    return load_classifier(backbone, Path(weights))


def luma_psnr(sr: Tensor, hr: Tensor, border: int) -> float:
    """PSNR in dB of the luma of (1, 3, h, w) in [-1, 1], without a border; sums of 65.738 R + 129.057 G + 25.064 B."""
    weight = torch.tensor([65.738, 129.057, 25.064], device=hr.device).view(1, 3, 1, 1) / 256
    error = ((sr.float().clamp(-1, 1) - hr.float()) / 2 * weight).sum(1)
    inside = error[:, border:-border, border:-border]
    return float(-10 * inside.square().mean().log10())


__all__ = ["Batch", "ImplicitSR", "Kept", "Objective", "Stage", "luma_psnr"]
