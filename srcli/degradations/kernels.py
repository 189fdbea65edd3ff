"""Blur kernels of the Real-ESRGAN degradation (Wang et al., ICCVW 2021): six bells and a circular low pass.

The bells are functions of q(x) = x^T S^-1 x, with S = R diag(sigma_x^2, sigma_y^2) R^T and R the rotation by an angle.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

FULL = 21  # side of every kernel, smaller ones in the middle of zeros


@dataclass(frozen=True)
class Blur:
    """A kernel as numbers."""

    kind: str  # gaussian, generalised, plateau or sinc
    size: int  # odd side in pixels, outside of which the kernel is zero
    sigma: tuple[float, float] = (0.0, 0.0)  # widths in pixels along the kernel's own two axes; not of a sinc
    angle: float = 0.0  # rotation in radians, from columns towards rows
    beta: float = 1.0  # shape of a generalised or plateau kernel
    cutoff: float = 0.0  # of a sinc, in radians per pixel


def kernel(blur: Blur) -> F64:
    """The kernel (21, 21), of sum 1."""
    if blur.kind == "sinc":
        inner = _sinc(blur.size, blur.cutoff)
    elif blur.kind == "plateau":
        inner = 1 / (_quadratic(blur) ** blur.beta + 1)
    else:
        inner = np.exp(-(_quadratic(blur) ** blur.beta) / 2)  # a beta of 1 is a Gaussian
    return np.pad(inner / inner.sum(), (FULL - blur.size) // 2)


def _offsets(size: int) -> tuple[F64, F64]:
    """Rows and columns of a kernel's pixels, from its middle."""
    axis = np.arange(size, dtype=np.float64) - size // 2
    return axis[:, None], axis[None, :]


def _quadratic(blur: Blur) -> F64:
    y, x = _offsets(blur.size)
    c, s = math.cos(blur.angle), math.sin(blur.angle)
    along, across = c * x + s * y, c * y - s * x
    return (along / blur.sigma[0]) ** 2 + (across / blur.sigma[1]) ** 2


def _sinc(size: int, cutoff: float) -> F64:
    """What is left of a point when all frequencies above `cutoff`, in any direction, are gone."""
    from scipy.special import j1

    y, x = _offsets(size)
    radius = np.hypot(y, x)
    radius[size // 2, size // 2] = 1  # any number; the limit is set below
    values: F64 = cutoff * j1(cutoff * radius) / (2 * math.pi * radius)
    values[size // 2, size // 2] = cutoff**2 / (4 * math.pi)
    return values
