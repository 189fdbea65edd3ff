"""Metrics and LR making against the official functions: `metrics.npz` and `.json` of the golden folder."""

import json

import numpy as np
import pytest

from srcli.data.reduce import cropped_to_scale, reduce_by
from srcli.geometry import Size
from srcli.metrics import METRICS, Scene, find_protocol
from srcli.metrics.distributions import diversity
from tests.parity.golden import GOLDEN

pytestmark = pytest.mark.skipif(
    not (GOLDEN / "metrics.npz").exists(), reason=f"no golden numbers in {GOLDEN}"
)

# key of the file: protocol, metric, tolerance. PSNR is stored as float32 of values around 30: 1e-5 is 5 ulp.
MEASURED = {
    "psnr_plain": ("rgb+float", "psnr", 1e-5),
    "psnr_div2k": ("liif-div2k", "psnr", 1e-5),
    "psnr_benchmark": ("liif-benchmark", "psnr-y", 1e-5),
    "ssim_clit": ("liif-benchmark", "ssim-clit", 1e-6),
    "ssim_linf": ("linf", "ssim-linf", 1e-6),
}


def golden():
    with np.load(GOLDEN / "metrics.npz") as file:
        arrays = dict(file)
    return arrays, json.loads((GOLDEN / "metrics.json").read_text())["cases"]


def scales(cases):
    return {tag: case for tag, case in cases.items() if isinstance(case, dict)}


def picture(array):
    return np.ascontiguousarray(array.reshape(array.shape[-3:]).transpose(1, 2, 0))


def test_every_stored_figure_is_reproduced():
    arrays, cases = golden()
    checked = 0
    for tag, case in scales(cases).items():
        h, w = case["hr_crop"]
        for key, expected in case["on_stored_8bit"].items():
            protocol, metric, tolerance = MEASURED[key]
            scene = Scene(
                picture(arrays[f"up_{tag}"]),
                picture(arrays["hr"])[:h, :w],
                float(tag.removeprefix("s")),
                find_protocol(protocol),
            )
            assert METRICS[metric].measure(scene) == pytest.approx(expected, abs=tolerance), (tag, key)
            checked += 1
    assert checked == sum(len(case["on_stored_8bit"]) for case in scales(cases).values()) > 0


def test_lr_is_made_bit_for_bit():
    arrays, cases = golden()
    hr = picture(arrays["hr"])
    for tag, case in scales(cases).items():
        crop, lr_size = cropped_to_scale(hr, float(tag.removeprefix("s")))
        assert crop.shape[:2] == tuple(case["hr_crop"])
        assert lr_size == Size(*case["lr"])
        np.testing.assert_array_equal(
            reduce_by("pillow-bicubic", crop, lr_size), picture(arrays[f"lr_{tag}"])
        )


def test_diversity_is_reproduced():
    arrays, cases = golden()
    assert diversity(arrays["samples"]) == pytest.approx(cases["diversity"], abs=1e-4)  # stored as float32
