"""The rule that fills the networks behind the golden numbers: every weight follows from its key's name."""

import hashlib
import re
from collections.abc import Iterable, Mapping

import numpy as np


def fill(name: str, shape: tuple[int, ...], gain_rules: Iterable[tuple[str, float]]) -> np.ndarray:
    """Float32 weights of the entry `name`; the first rule whose pattern is found in the name gives the gain."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    noise = np.random.default_rng(seed).standard_normal(shape)
    last = name.rpartition(".")[2]
    if last == "_weight":  # linear layers of the flow stay near the identity
        values = np.eye(shape[0]) + 0.2 * noise / np.sqrt(shape[0])
    elif len(shape) >= 2:
        gain = next(gain for pattern, gain in gain_rules if re.search(pattern, name))
        values = noise * gain / np.sqrt(np.prod(shape[1:]))
    elif last == "weight" and noise.size == 1:  # slope of a PReLU
        values = 0.25 + 0.05 * noise
    elif last == "weight":  # a norm
        values = 1 + 0.05 * noise
    else:
        values = 0.05 * noise
    return values.astype(np.float32)


def digest(filled: Mapping[str, np.ndarray]) -> str:
    """Checksum of filled weights: names and little-endian float32 bytes in the order of names."""
    sha = hashlib.sha256()
    for name in sorted(filled):
        sha.update(name.encode())
        sha.update(np.ascontiguousarray(filled[name], dtype="<f4").tobytes())
    return sha.hexdigest()
