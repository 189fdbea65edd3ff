"""What results are measured with: one table of metrics, each with its unit and which way is better.

To add a metric: write a function of a `Scene` and a line in `METRICS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from srcli.errors import ImageError, UsageError, suggest
from srcli.geometry import Size
from srcli.metrics.backbones import missing as missing_backbone
from srcli.metrics.detail import gradient_ratio, patch_distance
from srcli.metrics.distributions import histogram_distance, spectral_distance
from srcli.metrics.iqa import NOTICE as IQA_NOTICE
from srcli.metrics.iqa import iqa
from srcli.metrics.iqa import missing as missing_iqa
from srcli.metrics.niqe import missing as missing_niqe
from srcli.metrics.niqe import niqe, niqe_srcli
from srcli.metrics.perceptual import dists, lpips, missing_squeezenet, squeezenet
from srcli.metrics.protocol import PROTOCOLS, Protocol, find_protocol
from srcli.metrics.psnr import psnr, shaved
from srcli.metrics.scene import Scene
from srcli.metrics.sets import NETWORK
from srcli.metrics.sets import NOTICE as SETS_NOTICE
from srcli.metrics.ssim import ms_ssim, ssim, ssim_padded

Need = Literal["hr", "lr", "samples", "set"]


@dataclass(frozen=True)
class Metric:
    """A number that says how good a result is.

    Attributes:
        name: as typed.
        measure: its value; raises ValueError for a picture that it is not defined for.
        unit: "dB", "levels" (of 8 bit), or "" for a number without unit.
        higher_is_better: its direction.
        about: one line.
        needs: what it looks at besides the result.
        decimals: how it is printed.
        missing: None, or what it lacks here and the command that helps; looks harder with `asked=True`.
        notice: what is printed above every table that has it.
        kept: whether its values may be taken from earlier runs; not where files of the user decide them.
    """

    name: str
    measure: Callable[[Scene], float]
    unit: str
    higher_is_better: bool
    about: str
    needs: frozenset[Need] = frozenset({"hr"})
    decimals: int = 4
    missing: Callable[..., str | None] = lambda **_: None
    notice: str | None = None
    kept: bool = True

    @property
    def title(self) -> str:
        """Name, unit and direction, as tables have it."""
        unit = f" {self.unit}" if self.unit else ""
        return f"{self.name}{unit} {'↑' if self.higher_is_better else '↓'}"

    def best(self, values: Sequence[float]) -> float:
        """The best of some values."""
        return max(values) if self.higher_is_better else min(values)


def _ssim_luma(scene: Scene) -> float:
    return ssim(*(shaved(y, scene.luma_shave) for y in (scene.sr_luma, scene.hr_luma)))


_SSIM_FORMS: dict[str, Callable[[Scene], float]] = {
    "linf": lambda s: ssim(s.sr, s.hr),
    "clit": lambda s: ssim_padded(s.sr, s.hr),
    "classic": _ssim_luma,
}


def _given_lr(scene: Scene) -> NDArray[np.uint8]:
    if scene.lr is None:
        raise ValueError("there is no LR picture to compare with")
    return scene.lr


def _lr_psnr(scene: Scene) -> float:
    if scene.lr is None or scene.reduce is None:
        raise ValueError("there is no LR picture to compare with, or it is not known how it was made")
    return psnr(scene.reduce(scene.sr_8bit, Size(*scene.lr.shape[:2])) / 255, scene.lr / 255)


def _lpips(scene: Scene, net: str) -> float:
    return lpips(scene.sr, scene.hr, net=net)


def _iqa(scene: Scene, name: str) -> float:
    return iqa(scene.sr, name)


def _no_picture(scene: Scene, of: str) -> float:
    raise ValueError(f"it is a property of {of}, not of one")


def _missing_inception(*, asked: bool = False) -> str | None:
    problem = missing_backbone(NETWORK, "torch_fidelity", asked=asked)
    return problem and problem.replace("pip install torch_fidelity", 'pip install "srcli[eval]"')


_NONE: frozenset[Need] = frozenset()
_LR: frozenset[Need] = frozenset({"lr"})

METRICS = {
    metric.name: metric
    for metric in (
        Metric(
            "psnr",
            lambda s: psnr(s.sr, s.hr, shave=s.rgb_shave),
            "dB", True, "RGB, border and rounding by the protocol", decimals=2,
        ),
        Metric(
            "psnr-y",
            lambda s: psnr(s.sr_luma, s.hr_luma, shave=s.luma_shave),
            "dB", True, "BT.601 studio luma, border and rounding by the protocol", decimals=2,
        ),
        Metric("ssim", lambda s: _SSIM_FORMS[s.protocol.ssim](s), "", True, "in the form that the protocol names"),
        Metric("ssim-y", _ssim_luma, "", True, "on luma, windows inside the picture, border removed"),
        Metric("ssim-linf", _SSIM_FORMS["linf"], "", True, "RGB, windows inside the picture, no border removed"),
        Metric("ssim-clit", _SSIM_FORMS["clit"], "", True, "RGB, zero padding, float32, no border removed"),
        Metric("ms-ssim", lambda s: ms_ssim(s.sr, s.hr), "", True, "five scales, RGB"),
        Metric(
            "lr-psnr", _lr_psnr,
            "dB", True, "consistency: the 8-bit result, reduced as the LR was, against the LR", _LR, 2,
        ),
        Metric(
            "spectrum", lambda s: spectral_distance(s.sr, s.hr),
            "dB", False, "distance of radial power spectra of luma", decimals=3,
        ),
        Metric(
            "gradient", lambda s: gradient_ratio(s.sr, s.hr),
            "", True, "energy of luma's gradient over that of the truth; 1 is as sharp", decimals=3,
        ),
        Metric(
            "patches", lambda s: patch_distance(s.sr, s.hr),
            "levels", False, "sliced Wasserstein distance of small patches of luma in three bands", decimals=3,
        ),
        Metric(
            "hist-w1", lambda s: histogram_distance(s.sr_8bit, s.truth),
            "levels", False, "distance of histograms", decimals=3,
        ),
        Metric(
            "hist-w1-lr", lambda s: histogram_distance(s.sr_8bit, _given_lr(s)),
            "levels", False, "distance of histograms, to the LR", _LR, 3,
        ),
        Metric(
            "niqe-srcli", lambda s: niqe_srcli(s.sr),
            "", False, "without reference, against our own photographs: no published figure", _NONE, 3,
        ),
        Metric(
            "niqe", lambda s: niqe(s.sr),
            "", False, "without reference, against the published statistics, which you bring", _NONE, 3,
            missing=missing_niqe, kept=False,
        ),
        *(
            Metric(
                name, partial(_lpips, net=net),
                "", False, f"LPIPS 0.1, {net}, the whole picture", missing=partial(missing_backbone, net, "lpips"),
            )
            for name, net in (("lpips", "alex"), ("lpips-vgg", "vgg"), ("lpips-squeeze", "squeeze"))
        ),
        Metric(
            "dists", lambda s: dists(s.sr, s.hr),
            "", False, "DISTS at the picture's own size", missing=partial(missing_backbone, "vgg", "torchvision"),
        ),
        Metric(
            "squeezenet", lambda s: squeezenet(s.sr, s.hr),
            "", False, "features of SqueezeNet (Caffe), unweighted; not LPIPS, no published figure",
            missing=missing_squeezenet,
        ),
        *(
            Metric(
                name, partial(_iqa, name=name),
                "", True, about, _NONE, 4, missing=missing_iqa, notice=f"{name}: {IQA_NOTICE}",
            )
            for name, about in (
                ("musiq", "without reference, 0 to 100"),
                ("clipiqa", "without reference, a fraction"),
                ("maniqa", "without reference, a fraction"),
            )
        ),
        Metric(
            "diversity", partial(_no_picture, of="several results for one picture"),
            "levels", True, "deviation over several seeds, 0 for a model that draws nothing",
            frozenset({"samples"}), 2,
        ),
        *(
            Metric(
                name, partial(_no_picture, of="all results of a benchmark"),
                "", False, about, frozenset({"hr", "set"}), missing=_missing_inception, notice=SETS_NOTICE,
            )
            for name, about in (
                ("fid", "distance of the set of results to the set of truths"),
                ("kid", "the same by a kernel, without bias for small sets"),
            )
        ),
    )
}  # fmt: skip

DEFAULT = ("psnr", "psnr-y", "ssim", "lr-psnr")
OPTIONAL = ("lpips",)  # join the default where what they need is present


def find_metrics(names: Iterable[str]) -> list[Metric]:
    """The metrics called so, in that order, each once; an underscore stands for a hyphen.

    Raises:
        UsageError: an unknown name.
    """
    found = {}
    for word in names:
        name = word.strip().lower().replace("_", "-")
        if name not in METRICS:
            raise UsageError(f"unknown metric '{word}'.", hint=suggest(name, METRICS))
        found[name] = METRICS[name]
    check_niqe(found)
    return list(found.values())


def measure(scene: Scene, metrics: Iterable[Metric], where: str) -> dict[str, float]:
    """The value of each metric.

    Raises:
        ImageError: one is not defined for this picture, or is not a number.
    """
    values = {}
    for metric in metrics:
        try:
            value = metric.measure(scene)
        except ValueError as error:
            raise ImageError(f"{metric.name} of {where}: {error}.") from error
        if math.isnan(value):
            raise ImageError(f"{metric.name} of {where} is not a number (NaN).")
        values[metric.name] = value
    return values


def check_niqe(names: Iterable[str]) -> None:
    """Raise UsageError for both kinds of NIQE together: they look alike and cannot be compared."""
    if {"niqe", "niqe-srcli"} <= set(names):
        raise UsageError(
            "niqe and niqe-srcli are different scales and never stand in one table.", hint="Choose one."
        )


__all__ = [
    "DEFAULT",
    "METRICS",
    "OPTIONAL",
    "PROTOCOLS",
    "Metric",
    "Protocol",
    "Scene",
    "find_metrics",
    "find_protocol",
    "measure",
]
