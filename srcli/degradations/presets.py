"""The published ranges of the Real-ESRGAN degradation, by name."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from srcli.errors import UsageError, suggest

Range = tuple[float, float]


@dataclass(frozen=True)
class Stage:
    """What one round of blur, resize, noise and JPEG is drawn from."""

    sigma: Range  # width of bells in pixels
    beta_generalised: Range  # shape of generalised Gaussians
    beta_plateau: Range  # shape of plateau kernels
    up_down_keep: tuple[float, float, float]  # probabilities of enlarging, reducing and keeping the size
    resize: Range  # smallest and largest factor
    gaussian: Range  # standard deviation in levels
    poisson: Range  # factor of Poisson noise
    jpeg: Range  # quality
    blur: float = 1.0  # probability that there is a blur
    sinc: float = 0.1  # probability that the blur is a sinc


@dataclass(frozen=True)
class Ranges:
    """A degradation of two rounds."""

    name: str  # what people type
    about: str  # whose numbers these are
    first: Stage  # on HR pixels
    # factors of its resize are relative to the final size; its JPEG comes before or after the final resize
    second: Stage
    sharpen: bool = True  # HR pictures are sharpened first
    untouched: float = 0.0  # share of the pictures that are only resized


_FIRST = (0.2, 0.7, 0.1)
_SECOND = (0.3, 0.4, 0.3)

DEGRADATIONS: Mapping[str, Ranges] = MappingProxyType({r.name: r for r in (
    Ranges(
        "realesrgan",
        "Wang et al., Real-ESRGAN, ICCVW 2021 (x4plus): the full range",
        Stage((0.2, 3), (0.5, 4), (1, 2), _FIRST, (0.15, 1.5), (1, 30), (0.05, 3), (30, 95)),
        Stage((0.2, 1.5), (0.5, 4), (1, 2), _SECOND, (0.3, 1.2), (1, 25), (0.05, 2.5), (30, 95), blur=0.8),
    ),
    Ranges(
        "realesrgan-stablesr",
        "Wang et al., StableSR, IJCV 2024: milder",
        Stage((0.2, 1.5), (0.5, 2), (1, 1.5), _FIRST, (0.3, 1.5), (1, 15), (0.05, 2), (60, 95)),
        Stage((0.2, 1), (0.5, 2), (1, 1.5), _SECOND, (0.6, 1.2), (1, 12), (0.05, 1), (60, 100), blur=0.5),
        untouched=0.01,
    ),
    Ranges(
        "realesrgan-seesr",
        "Wu et al., SeeSR, CVPR 2024, and Yang et al., PASD, ECCV 2024: milder, blur in full",
        Stage((0.2, 3), (0.5, 4), (1, 2), _FIRST, (0.3, 1.5), (1, 15), (0.05, 2), (60, 95)),
        Stage((0.2, 1.5), (0.5, 4), (1, 2), _SECOND, (0.6, 1.2), (1, 12), (0.05, 1), (60, 100), blur=0.5),
        sharpen=False,
    ),
)})  # fmt: skip


def find_degradation(name: str) -> Ranges:
    """The ranges called `name`. Raises UsageError (an unknown name)."""
    if name not in DEGRADATIONS:
        raise UsageError(f"unknown degradation '{name}'.", hint=suggest(name, [*DEGRADATIONS, "bicubic"]))
    return DEGRADATIONS[name]
