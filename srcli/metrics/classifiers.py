"""ImageNet classifiers as functions of a picture: the features that perceptual losses and distances compare.

SqueezeNet 1.1 (Iandola et al., 2016, https://arxiv.org/abs/1602.07360) and VGG19 (Simonyan and Zisserman, ICLR 2015,
https://arxiv.org/abs/1409.1556), as torchvision builds them.
"""

from pathlib import Path

from torch import Tensor, nn

from srcli.errors import ModelError, WeightsError
from srcli.metrics.backbones import import_problem
from srcli.weights.official import read_foreign

CAFFE_MEAN = (123.68, 116.779, 103.939)  # red, green, blue, of 255
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
STAGES = (1, 4, 7, 9, 10, 11, 12)  # of SqueezeNet, that a distance compares
CONV5_4 = 35  # layers of VGG19 up to it


class SqueezeNet(nn.Module):
    """Distance of pictures in the features of SqueezeNet 1.1, after seven of its layers.

    Features are scaled to length one at every pixel; their squared differences are summed over channels, averaged over
    pixels, and summed over layers. This is the bare form of LPIPS, without weights learnt from people's judgement and
    with a backbone trained in Caffe: its values are not those of LPIPS.
    """

    def __init__(self) -> None:
        super().__init__()
        from torchvision.models import squeezenet1_1  # type: ignore[import-untyped]

        self.features: nn.Sequential = squeezenet1_1().features

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Distance of pictures (B, 3, h, w) in [0, 1], mean over the batch; sides of at least 35 pixels."""
        total = a.new_zeros(())
        mean = a.new_tensor(CAFFE_MEAN).reshape(3, 1, 1)
        a, b = ((x * 255 - mean).flip(1) for x in (a, b))  # blue, green, red
        for index, layer in enumerate(self.features):
            a, b = layer(a), layer(b)
            if index in STAGES:
                total = total + (_unit(a) - _unit(b)).square().sum(1).mean()
        return total


class VGG(nn.Module):
    """Mean squared difference of VGG19's features at conv5_4, before its ReLU: LINF's perceptual loss."""

    def __init__(self) -> None:
        super().__init__()
        from torchvision.models.vgg import cfgs, make_layers  # type: ignore[import-untyped]

        # vgg19() would draw 0.5 GB of classifying layers too.
        self.features = make_layers(cfgs["E"])[:CONV5_4]

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

    `path`: torchvision's `.pth`, or the same keys as `.safetensors`; those of the classifying layers are ignored.
    Raises ModelError (no such file, or one of something else; torchvision cannot be imported).
    """
    if problem := import_problem("torchvision"):
        raise ModelError(f"{name}: {problem}")
    network = CLASSIFIERS[name]()
    state = read_foreign(path).state
    try:
        network.load_state_dict({key: value for key, value in state.items() if key.startswith("features.")})
    except RuntimeError as error:
        raise WeightsError(f"{path} is no {name}: {str(error).splitlines()[1].strip()}") from None
    return network.eval().requires_grad_(requires_grad=False)
