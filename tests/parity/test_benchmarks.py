"""Figures and files of real benchmarks, from the folder SRCLI_BENCH; skipped where a set is not there."""

import os
from pathlib import Path

import numpy as np
import pytest

from srcli.data.benchmarks import find_spec, locate, open_benchmark
from srcli.data.reduce import matlab_bicubic
from srcli.evaluate.models import open_model
from srcli.evaluate.rows import means
from srcli.evaluate.run import evaluate
from srcli.geometry import Size

ROOT = Path(__file__).resolve().parents[2]
BENCH = Path(os.environ.get("SRCLI_BENCH", ROOT.parent / "shared/bench"))


def opened(name):
    if locate(find_spec(name), [BENCH]) is None:
        pytest.skip(f"no {name} in {BENCH}")
    return open_benchmark(name, BENCH)


@pytest.mark.parametrize(
    ("protocol", "expected"),
    [("classic-y", {2: 33.64, 3: 30.39, 4: 28.42}), ("liif-benchmark", {2: 33.67, 3: 30.40, 4: 28.43})],
)
def test_bicubic_on_set5_gives_the_known_figures(protocol, expected):
    found = evaluate(
        [open_model("bicubic")], [opened("Set5")], expected, protocol=protocol, metrics=["psnr-y"]
    )
    assert not found.failures
    for mean in means(found.rows):
        assert mean.images == 5
        assert mean.row.lr == "given"
        assert mean.row.metrics["psnr-y"] == pytest.approx(expected[mean.row.scale], abs=0.01)


@pytest.mark.parametrize(("name", "scale"), [("Set5", 2), ("Set5", 3), ("Set5", 4), ("Set14", 4)])
def test_matlab_bicubic_is_bit_for_bit_the_given_lr(name, scale):
    pictures = opened(name)
    for item in pictures.items(scale):
        pair = pictures.load(item, scale, "pillow-bicubic")
        made = matlab_bicubic(pair.hr, Size(*pair.lr.shape[:2]))
        np.testing.assert_array_equal(made, pair.lr, err_msg=item.name)
