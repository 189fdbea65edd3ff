"""The adversary of the auto-encoder: a PatchGAN, which judges patches of a picture, and its hinge losses.

Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks" (CVPR 2017); hinge losses and the
normalisation by batches as in latent diffusion's auto-encoders.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class PatchGAN(nn.Module):
    """Pictures (B, 3, h, w) to judgements (B, 1, h', w') of overlapping patches, larger for real ones.

    Args:
        width: channels of the first layer.
        layers: layers of stride 2; pictures need sides of 3 * 2^layers.
    """

    def __init__(self, width: int = 64, layers: int = 3) -> None:
        super().__init__()
        stack: list[nn.Module] = [nn.Conv2d(3, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        channels = width
        for number in range(1, layers + 1):
            wider = width * min(2**number, 8)
            stride = 2 if number < layers else 1
            stack += [
                nn.Conv2d(channels, wider, 4, stride=stride, padding=1, bias=False),
                nn.BatchNorm2d(wider),
                nn.LeakyReLU(0.2),
            ]
            channels = wider
        self.layers = nn.Sequential(*stack, nn.Conv2d(channels, 1, 4, padding=1))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0, 0.02)
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.weight, 1, 0.02)

    def forward(self, pictures: Tensor) -> Tensor:
        """See the class."""
        return self.layers(pictures)


def adversary_loss(real: Tensor, made: Tensor) -> Tensor:
    """Hinge loss of the judge: real above 1, made below -1."""
    return (F.relu(1 - real).mean() + F.relu(1 + made).mean()) / 2


def generator_loss(made: Tensor) -> Tensor:
    """What the maker of pictures minimises: their judgements, negative."""
    return -made.mean()
