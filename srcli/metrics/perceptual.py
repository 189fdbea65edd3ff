"""Distances in the features of a classifier: LPIPS and DISTS, fitted to human judgements, and a plain one of SqueezeNet.

Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric" (CVPR 2018), version 0.1,
computed by the authors' package `lpips`; Ding et al., "Image Quality Assessment: Unifying Structure and Texture
Similarity" (2020), by `torchmetrics`. Their own weights come with the packages, the backbones from checked files.
Values of `squeezenet`, for those who have its Caffe weights, belong to no published figure.
"""

import re
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srcli.errors import ModelError
from srcli.files import sha256
from srcli.metrics.backbones import BACKBONES, as_torch_home, checked, folders, import_problem

SQUEEZENET = "squeezenet1_1-caffe-features.safetensors"
SQUEEZENET_SHA256 = "d5de16ac4789b24d3c1d486a3b37373b893b982ec38e94f2630792ee1befb8d6"
SMALLEST = 35  # pixels of a side, below which SqueezeNet's last layers have no output


def lpips(sr: NDArray[np.floating], hr: NDArray[np.floating], *, net: str = "alex") -> float:
    """LPIPS of (h, w, 3) in [0, 1], on the whole picture, in float32 on the CPU; 0 for equals.

    Papers use the backbone `alex`; others are vgg and squeeze. Raises ModelError (the backbone is not here or is
    another file, or the package cannot be imported).
    """
    return _distance(lpips_network(net), sr * 2 - 1, hr * 2 - 1)


def dists(sr: NDArray[np.floating], hr: NDArray[np.floating]) -> float:
    """DISTS of (h, w, 3) in [0, 1] at their own size, in float32 on the CPU; 0 for equals. Raises ModelError."""
    return _distance(_dists_network(), sr, hr)


def _distance(network: Any, a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    import torch

    with torch.inference_mode():
        pair = (torch.tensor(x, dtype=torch.float32).permute(2, 0, 1).unsqueeze(0) for x in (a, b))
        return float(network(*pair))


@lru_cache(maxsize=1)
def _dists_network() -> Any:
    path = checked("vgg")
    if problem := import_problem("torchvision") or import_problem("torchmetrics"):
        raise ModelError(f"dists: {problem}")
    from torchmetrics.functional.image.dists import DISTSNetwork

    with as_torch_home(path):
        return DISTSNetwork().eval()


@lru_cache(maxsize=3)
def lpips_network(net: str) -> Any:
    """LPIPS of (B, 3, h, w) in [-1, 1], on the CPU: (B, 1, 1, 1). Nothing in it is trained. Raises ModelError."""
    import torch

    path = checked(net)
    if problem := import_problem("lpips"):
        raise ModelError(f"lpips: {problem}")
    from lpips import LPIPS

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package still says `pretrained=`, which torchvision deprecates
        network = LPIPS(net=net, pnet_rand=True, verbose=False)
    published = torch.load(path, map_location="cpu", weights_only=True)
    own = network.net.state_dict()
    try:
        # slice2.3.weight is features.3.weight of the classifier
        network.net.load_state_dict({key: published[re.sub(r"^slice\d+", "features", key)] for key in own})
    except (KeyError, RuntimeError) as error:
        fits = f"does not fit the backbone {BACKBONES[net].file} of LPIPS"
        raise ModelError(f"{path} {fits}: {error}.") from error
    return network.eval().requires_grad_(requires_grad=False)


def squeezenet(sr: NDArray[np.floating], hr: NDArray[np.floating]) -> float:
    """Distance of (h, w, 3) in [0, 1] in float32 on the CPU; 0 for equals. Raises ModelError, ValueError (too small)."""
    if min(sr.shape[:2]) < SMALLEST:
        raise ValueError(f"the picture's sides must have {SMALLEST} pixels at least")
    return _distance(squeezenet_network(), sr, hr)


def missing_squeezenet(**_: bool) -> str | None:
    """Why `squeezenet` cannot be measured, and what helps; None if it can."""
    if _squeezenet_file() is not None:
        return None
    return (
        f"its backbone {SQUEEZENET} is not here, and is not published for download. "
        f"If you have it: mkdir -p {folders()[0]} && cp {SQUEEZENET} {folders()[0]}"
    )


def _squeezenet_file() -> Path | None:
    return next((folder / SQUEEZENET for folder in folders() if (folder / SQUEEZENET).is_file()), None)


@lru_cache(maxsize=1)
def squeezenet_network() -> Any:
    """`SqueezeNet` with the Caffe weights; ModelError without them."""
    from srcli.metrics.classifiers import load_classifier

    path = _squeezenet_file()
    if path is None:
        raise ModelError(f"squeezenet cannot be measured: {missing_squeezenet()}")
    found = sha256(path)
    if found != SQUEEZENET_SHA256:
        raise ModelError(
            f"{path} is not the file it should be: SHA-256 {found[:12]}.., expected {SQUEEZENET_SHA256[:12]}.."
        )
    return load_classifier("squeezenet", path)
