"""FID and KID: how far a set of results is from the set of true pictures, in the features of Inception-v3.

Heusel et al., "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium" (NeurIPS 2017);
Binkowski et al., "Demystifying MMD GANs" (ICLR 2018). The network, and how it resizes pictures, is that of the
package `torch-fidelity`; its weights come from a checked file.
"""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srcli.errors import ModelError
from srcli.metrics.backbones import checked, import_problem

F64 = NDArray[np.float64]
NETWORK = "inception"
NOTICE = "FID and KID: of whole pictures, resized to 299x299; FID of fewer than some thousand pictures is biased upwards"


def frechet_distance(a: F64, b: F64) -> float:
    """FID of features (n, d) and (m, d): |mean difference|² + tr(A + B - 2 (A B)^(1/2)) of their covariances.

    With A = X Xᵀ and B = Y Yᵀ, the trace of the root is the sum of the singular values of Xᵀ Y: no root is taken of
    a matrix that few pictures leave singular. ValueError for fewer than two pictures.
    """
    if min(len(a), len(b)) < 2:
        raise ValueError("it needs at least two pictures")
    x, y = _spread(a), _spread(b)
    root = np.linalg.svd(x @ y.T, compute_uv=False).sum()
    shift = a.mean(0) - b.mean(0)
    return float(shift @ shift + np.sum(x**2) + np.sum(y**2) - 2 * root)


def _spread(features: F64) -> F64:
    """A matrix (at most d rows, d) whose product with itself is the covariance."""
    centred = (features - features.mean(0)) / np.sqrt(len(features) - 1)
    if len(centred) <= centred.shape[1]:
        return centred
    return np.linalg.qr(centred).R


def kernel_distance(a: F64, b: F64) -> float:
    """KID of features (n, d) and (m, d): the unbiased squared MMD, kernel (x·y / d + 1)³; ValueError below two."""
    n, m, d = len(a), len(b), a.shape[1]
    if min(n, m) < 2:
        raise ValueError("it needs at least two pictures")
    within_a, within_b = ((x @ x.T / d + 1) ** 3 for x in (a, b))
    across = (a @ b.T / d + 1) ** 3
    same_a = (within_a.sum() - np.trace(within_a)) / (n * (n - 1))
    same_b = (within_b.sum() - np.trace(within_b)) / (m * (m - 1))
    return float(same_a + same_b - 2 * across.mean())


SET_METRICS = {"fid": frechet_distance, "kid": kernel_distance}


def inception_features(pixels: NDArray[np.uint8]) -> F64:
    """What Inception-v3 sees in (h, w, 3) 8-bit pixels: (2048,). Raises ModelError (weights or torch-fidelity)."""
    import torch

    x = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1).unsqueeze(0)
    with torch.inference_mode():
        features: NDArray[np.float32] = _network()(x)[0][0].numpy()
    return features.astype(np.float64)


@lru_cache(maxsize=1)
def _network() -> Any:
    path = checked(NETWORK)
    if problem := import_problem("torch_fidelity"):
        raise ModelError(f"fid, kid: {problem}")
    import torch
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    try:
        # Refuses pickles with code, which the package would run.
        torch.load(path, map_location="cpu", weights_only=True)
        return FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], str(path))
    except Exception as error:  # of any kind, with a damaged or foreign file
        raise ModelError(f"{path} holds no weights of Inception-v3: {error}.") from error
