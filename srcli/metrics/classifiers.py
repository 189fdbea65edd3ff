"""ImageNet classifiers as functions of a picture: the features that perceptual losses and distances compare.

Written out, so that a loss in training needs no other package: SqueezeNet 1.1 (Iandola et al., 2016,
https://arxiv.org/abs/1602.07360) and VGG19 (Simonyan and Zisserman, ICLR 2015, https://arxiv.org/abs/1409.1556), with
the keys of torchvision.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srcli.errors import WeightsError
from srcli.weights.official import read_foreign

CAFFE_MEAN = (123.68, 116.779, 103.939)  # red, green, blue, of 255
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
STAGES = (1, 4, 7, 9, 10, 11, 12)  # of SqueezeNet, that a distance compares
VGG19 = (
    64,
    64,
    0,
    128,
    128,
    0,
    256,
    256,
    256,
    256,
    0,
    512,
    512,
    512,
    512,
    0,
    512,
    512,
    512,
    512,
)  # 0: pooling


class Fire(nn.Module):
    """SqueezeNet's block: a narrow 1x1 convolution, then 1x1 and 3x3 side by side."""

    def __init__(self, in_dim: int, narrow: int, wide: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(in_dim, narrow, 1)
        self.expand1x1 = nn.Conv2d(narrow, wide, 1)
        self.expand3x3 = nn.Conv2d(narrow, wide, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_dim, h, w) -> (B, 2 * wide, h, w)."""
        narrow = F.relu(self.squeeze(x))
        return F.relu(torch.cat([self.expand1x1(narrow), self.expand3x3(narrow)], dim=1))


class SqueezeNet(nn.Module):
    """Distance of pictures in the features of SqueezeNet 1.1, after seven of its layers.

    Features are scaled to length one at every pixel; their squared differences are summed over channels, averaged over
    pixels, and summed over layers. This is the bare form of LPIPS, without weights learnt from people's judgement and
    with a backbone trained in Caffe: its values are not those of LPIPS.
    """

    def __init__(self) -> None:
        super().__init__()
        pool = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.features = nn.Sequential(
            *(nn.Conv2d(3, 64, 3, 2), nn.ReLU(), pool, Fire(64, 16, 64), Fire(128, 16, 64), pool),
            *(Fire(128, 32, 128), Fire(256, 32, 128), pool),
            *(Fire(256, 48, 192), Fire(384, 48, 192), Fire(384, 64, 256), Fire(512, 64, 256)),
        )

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Distance of pictures (B, 3, h, w) in [0, 1], mean over the batch; sides of at least 35 pixels."""
        total = a.new_zeros(())
        a, b = (self._as_trained(x) for x in (a, b))
        for index, layer in enumerate(self.features):
            a, b = layer(a), layer(b)
            if index in STAGES:
                total = total + (_unit(a) - _unit(b)).square().sum(1).mean()
        return total

    @staticmethod
    def _as_trained(x: Tensor) -> Tensor:
        return (x * 255 - x.new_tensor(CAFFE_MEAN).reshape(3, 1, 1)).flip(1)  # blue, green, red


class VGG(nn.Module):
    """Mean squared difference of VGG19's features at conv5_4, before its ReLU: LINF's perceptual loss."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        in_dim = 3
        for width in VGG19:
            layers += [nn.Conv2d(in_dim, width, 3, padding=1), nn.ReLU()] if width else [nn.MaxPool2d(2)]
            in_dim = width or in_dim
        self.features = nn.Sequential(*layers[:-1])

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Distance of pictures (B, 3, h, w) in [0, 1], mean over the batch; sides of at least 16 pixels."""
        mean, std = (a.new_tensor(v).reshape(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
        a, b = (self.features((x - mean) / std) for x in (a, b))
        return (a - b).square().mean()


def _unit(features: Tensor) -> Tensor:
    return features / (features.square().sum(1, keepdim=True).sqrt() + 1e-10)


CLASSIFIERS: dict[str, type[nn.Module]] = {"squeezenet": SqueezeNet, "vgg19": VGG}


def load_classifier(name: str, path: Path) -> nn.Module:
    """The distance called `name` with the weights of a file, ready for use: nothing in it is trained.

    Args:
        name: a key of CLASSIFIERS.
        path: torchvision's `.pth`, or the same keys as `.safetensors`; those of the classifying layers are ignored.

    Raises:
        ModelError: no such file, or one of something else.
    """
    network = CLASSIFIERS[name]()
    state = read_foreign(path).state
    try:
        network.load_state_dict({key: value for key, value in state.items() if key.startswith("features.")})
    except RuntimeError as error:
        raise WeightsError(f"{path} is no {name}: {str(error).splitlines()[1].strip()}") from None
    return network.eval().requires_grad_(requires_grad=False)
