"""A rough perceptual distance in the features of SqueezeNet 1.1, for those who have its Caffe weights.

Unlike LPIPS nothing in it is fitted to people's judgement, and its backbone is another one: see
`srcli.metrics.classifiers.SqueezeNet`. Its values belong to no published figure.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srcli.errors import ModelError
from srcli.files import sha256
from srcli.metrics.backbones import folders

FILE = "squeezenet1_1-caffe-features.safetensors"
SHA256 = "d5de16ac4789b24d3c1d486a3b37373b893b982ec38e94f2630792ee1befb8d6"
SMALLEST = 35  # pixels of a side, below which its last layers have nothing to look at


def missing(**_: bool) -> str | None:
    """What keeps it from being measured, with what helps; None if nothing does."""
    if _locate() is not None:
        return None
    return (
        f"its backbone {FILE} is not here, and is not published for download. "
        f"If you have it: mkdir -p {folders()[0]} && cp {FILE} {folders()[0]}"
    )


def squeezenet(sr: NDArray[np.floating], hr: NDArray[np.floating]) -> float:
    """Distance of (h, w, 3) in [0, 1], the whole picture, in float32 on the CPU; 0 for equals.

    Raises:
        ModelError: the backbone is not here or is another file.
        ValueError: the picture is too small.
    """
    if min(sr.shape[:2]) < SMALLEST:
        raise ValueError(f"the picture's sides must have {SMALLEST} pixels at least")
    import torch

    with torch.inference_mode():
        pair = (torch.tensor(x, dtype=torch.float32).permute(2, 0, 1).unsqueeze(0) for x in (sr, hr))
        return float(_network()(*pair))


def _locate() -> Path | None:
    return next((folder / FILE for folder in folders() if (folder / FILE).is_file()), None)


@lru_cache(maxsize=1)
def _network() -> Any:
    from srcli.metrics.classifiers import load_classifier

    path = _locate()
    if path is None:
        raise ModelError(f"squeezenet cannot be measured: {missing()}")
    found = sha256(path)
    if found != SHA256:
        raise ModelError(
            f"{path} is not the file it should be: SHA-256 {found[:12]}.., expected {SHA256[:12]}.."
        )
    return load_classifier("squeezenet", path)
