"""The table of metrics, each with its unit and direction.

To add a metric: write a function of a `Scene` and a line in `METRICS`.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from srcli.config.plugins import Registry
from srcli.errors import ImageError, UsageError, suggest
from srcli.metrics.backbones import missing as missing_backbone
from srcli.metrics.distributions import gradient_ratio, histogram_distance, patch_distance, spectral_distance
from srcli.metrics.iqa import NOTICE as IQA_NOTICE
from srcli.metrics.iqa import iqa
from srcli.metrics.iqa import missing as missing_iqa
from srcli.metrics.niqe import missing as missing_niqe
from srcli.metrics.niqe import niqe, niqe_srcli
from srcli.metrics.perceptual import dists, lpips, missing_squeezenet, squeezenet
from srcli.metrics.protocol import PROTOCOLS, Protocol, Scene, find_protocol
from srcli.metrics.psnr import psnr, shaved
from srcli.metrics.sets import NETWORK
from srcli.metrics.sets import NOTICE as SETS_NOTICE
from srcli.metrics.ssim import ms_ssim, ssim, ssim_padded

Need = Literal["hr", "lr", "samples", "set"]


@dataclass(frozen=True)
class Metric:
    """A number that says how good a result is."""

    name: str
    measure: Callable[[Scene], float]  # its value; raises ValueError for a picture that it is not defined for
    unit: str  # "dB", "levels" (of 8 bit), or "" for a number without unit
    higher_is_better: bool
    about: str
    needs: frozenset[Need] = frozenset({"hr"})  # what it needs besides the result
    decimals: int = 4  # how it is printed
    # None, or what is missing to measure it and the command that helps; `asked=True` also tries slow imports
    missing: Callable[..., str | None] = lambda **_: None
    notice: str | None = None  # a line above every table that has it
    kept: bool = True  # whether values of earlier runs may be used; not if files of the user decide them

    @property
    def title(self) -> str:
        """Name, unit and direction, as tables have it."""
        unit = f" {self.unit}" if self.unit else ""
        return f"{self.name}{unit} {'↑' if self.higher_is_better else '↓'}"

    def best(self, values: Sequence[float]) -> float:
        return max(values) if self.higher_is_better else min(values)


Measure = Callable[[Scene], float]


def _of_pair(function: Callable[..., float], **more: object) -> Measure:
    return lambda scene: function(scene.sr, scene.hr, **more)


def _of_result(function: Callable[..., float], **more: object) -> Measure:
    return lambda scene: function(scene.sr, **more)


def _ssim_luma(scene: Scene) -> float:
    return ssim(*(shaved(y, scene.luma_shave) for y in (scene.sr_luma, scene.hr_luma)))


_SSIM_FORMS: dict[str, Measure] = {
    "linf": _of_pair(ssim), "clit": _of_pair(ssim_padded), "classic": _ssim_luma,
}  # fmt: skip


def _lr_psnr(scene: Scene) -> float:
    if scene.lr is None or scene.reduce is None:
        raise ValueError("there is no LR picture to compare with, or it is not known how it was made")
    return psnr(scene.reduce(scene.sr_8bit, scene.lr.shape[:2]) / 255, scene.lr / 255)


def _hist_w1_lr(scene: Scene) -> float:
    if scene.lr is None:
        raise ValueError("there is no LR picture to compare with")
    return histogram_distance(scene.sr_8bit, scene.lr)


def _no_picture(scene: Scene, of: str) -> float:
    raise ValueError(f"it is a property of {of}, not of one")


def _missing_inception(*, asked: bool = False) -> str | None:
    problem = missing_backbone(NETWORK, "torch_fidelity", asked=asked)
    return problem and problem.replace("pip install torch_fidelity", 'pip install "srcli[eval]"')


_NONE: frozenset[Need] = frozenset()
_LR: frozenset[Need] = frozenset({"lr"})
_SET: frozenset[Need] = frozenset({"hr", "set"})
_LPIPS = {"lpips": "alex", "lpips-vgg": "vgg", "lpips-squeeze": "squeeze"}
_IQA = {"musiq": "0 to 100", "clipiqa": "a fraction", "maniqa": "a fraction"}
_ONE, _ALL = (
    partial(_no_picture, of=of) for of in ("several results for one picture", "all results of a benchmark")
)
METRICS: Registry[Metric] = Registry("metric", Metric, {
    metric.name: metric
    for metric in (
        Metric("psnr", lambda s: psnr(s.sr, s.hr, shave=s.rgb_shave),
               "dB", True, "RGB, border and rounding by the protocol", decimals=2),
        Metric("psnr-y", lambda s: psnr(s.sr_luma, s.hr_luma, shave=s.luma_shave),
               "dB", True, "BT.601 studio luma, border and rounding by the protocol", decimals=2),
        Metric("ssim", lambda s: _SSIM_FORMS[s.protocol.ssim](s), "", True, "in the form that the protocol names"),
        Metric("ssim-y", _ssim_luma, "", True, "on luma, windows inside the picture, border removed"),
        Metric("ssim-linf", _of_pair(ssim), "", True, "RGB, windows inside the picture, no border removed"),
        Metric("ssim-clit", _of_pair(ssim_padded), "", True, "RGB, zero padding, float32, no border removed"),
        Metric("ms-ssim", _of_pair(ms_ssim), "", True, "five scales, RGB"),
        Metric("lr-psnr", _lr_psnr,
               "dB", True, "consistency: the 8-bit result, reduced as the LR was, against the LR", _LR, 2),
        Metric("spectrum", _of_pair(spectral_distance),
               "dB", False, "distance of radial power spectra of luma", decimals=3),
        Metric("gradient", _of_pair(gradient_ratio),
               "", True, "energy of luma's gradient over that of the truth; 1 is as sharp", decimals=3),
        Metric("patches", _of_pair(patch_distance),
               "levels", False, "sliced Wasserstein distance of small patches of luma in three bands", decimals=3),
        Metric("hist-w1", lambda s: histogram_distance(s.sr_8bit, s.truth),
               "levels", False, "distance of histograms", decimals=3),
        Metric("hist-w1-lr", _hist_w1_lr, "levels", False, "distance of histograms, to the LR", _LR, 3),
        Metric("niqe-srcli", _of_result(niqe_srcli),
               "", False, "without reference, against our own photographs: no published figure", _NONE, 3),
        Metric("niqe", _of_result(niqe),
               "", False, "without reference, against the published statistics, which you bring", _NONE, 3,
               missing=missing_niqe, kept=False),
        *(Metric(name, _of_pair(lpips, net=net),
                 "", False, f"LPIPS 0.1, {net}, the whole picture", missing=partial(missing_backbone, net, "lpips"))
          for name, net in _LPIPS.items()),
        Metric("dists", _of_pair(dists),
               "", False, "DISTS at the picture's own size", missing=partial(missing_backbone, "vgg", "torchvision")),
        Metric("squeezenet", _of_pair(squeezenet),
               "", False, "features of SqueezeNet (Caffe), unweighted; not LPIPS, no published figure",
               missing=missing_squeezenet),
        *(Metric(name, _of_result(iqa, name=name),
                 "", True, f"without reference, {span}", _NONE, missing=missing_iqa, notice=f"{name}: {IQA_NOTICE}")
          for name, span in _IQA.items()),
        Metric("diversity", _ONE,
               "levels", True, "deviation over several seeds, 0 for a model that draws nothing",
               frozenset({"samples"}), 2),
        Metric("fid", _ALL, "", False, "distance of the set of results to the set of truths", _SET,
               missing=_missing_inception, notice=SETS_NOTICE),
        Metric("kid", _ALL, "", False, "the same by a kernel, without bias for small sets", _SET,
               missing=_missing_inception, notice=SETS_NOTICE),
    )
})  # fmt: skip

DEFAULT = ("psnr", "psnr-y", "ssim", "lr-psnr")
OPTIONAL = ("lpips",)  # added to the default where their backbones are present


def find_metrics(names: Iterable[str]) -> list[Metric]:
    """The metrics of these names in order, each once; underscores stand for hyphens. UsageError for unknown ones."""
    found = {}
    for word in names:
        name = word.strip().lower().replace("_", "-")
        if name not in METRICS:
            raise UsageError(f"unknown metric '{word}'.", hint=suggest(name, METRICS))
        found[name] = METRICS[name]
    check_niqe(found)
    return list(found.values())


def measure(scene: Scene, metrics: Iterable[Metric], where: str) -> dict[str, float]:
    """The value of each metric; ImageError if one is not defined for this picture, or is NaN."""
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
    "DEFAULT", "METRICS", "OPTIONAL", "PROTOCOLS", "Metric", "Protocol", "Scene", "find_metrics", "find_protocol",
    "measure",
]  # fmt: skip
