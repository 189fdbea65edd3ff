"""Back-projection against the plain definition: the nearest picture that Pillow's bicubic reduces to the input."""

import numpy as np
import pytest
from PIL import Image

from srcli.geometry import Size
from srcli.image.back_projection import Projection
from srcli.image.resize import resize


def noise(h, w, seed, *, low=0.45, high=0.55):
    return np.random.default_rng(seed).uniform(low, high, (h, w, 3)).astype(np.float32)


@pytest.mark.parametrize(
    ("size", "target"),
    [
        (Size(6, 7), Size(24, 28)),
        (Size(9, 8), Size(23, 31)),
        (Size(10, 12), Size(11, 12)),
        (Size(5, 5), Size(5, 20)),
    ],
    ids=str,
)
def test_a_result_reduces_to_the_input(size, target):
    lr, sr = noise(*size, 1), noise(*target, 2)
    made = Projection(size, target).consistent(sr, lr)
    assert np.abs(resize(sr, size) - lr).max() > 0.05
    assert np.abs(resize(made, size) - lr).max() < 1e-4  # a few rounds of damped steps, in float32
    assert made.min() >= 0
    assert made.max() <= 1


def test_the_reduction_is_that_of_pillow():
    size, target = Size(7, 9), Size(30, 33)
    sr = noise(*target, 3)
    planes = [
        np.asarray(Image.fromarray(sr[..., c]).resize((size.w, size.h), Image.Resampling.BICUBIC))
        for c in range(3)
    ]
    assert np.abs(Projection(size, target).reduced(sr) - np.stack(planes, -1)).max() < 1e-6


def test_no_smaller_change_makes_the_result_consistent():
    """Against the least-squares solution that a dense pseudo-inverse gives."""
    size, target = Size(4, 3), Size(10, 7)
    lr, sr = noise(*size, 4), noise(*target, 5)
    made = Projection(size, target).consistent(sr, lr)
    units = np.eye(target.h * target.w, dtype=np.float32).reshape(*target, -1)
    dense = resize(units, size).reshape(size.h * size.w, -1).astype(np.float64)
    rest = (lr - resize(sr, size)).reshape(-1, 3)
    nearest = sr + (np.linalg.pinv(dense) @ rest).reshape(*target, 3)
    assert nearest.min() > 0  # so that clamping plays no part
    assert nearest.max() < 1
    assert np.abs(made - nearest).max() < 1e-3


def test_a_consistent_result_is_left_as_it_is():
    size, target = Size(6, 6), Size(15, 15)
    lr = noise(*size, 6)
    projection = Projection(size, target)
    once = projection.consistent(noise(*target, 7), lr)
    assert np.abs(projection.consistent(once, lr) - once).max() < 1e-4


def test_psnr_is_of_the_rounded_result():
    size, target = Size(8, 8), Size(16, 16)
    lr, sr = noise(*size, 8), noise(*target, 9)
    projection = Projection(size, target)
    shown = np.rint(sr * 255) / 255
    expected = -10 * np.log10(np.mean((resize(shown.astype(np.float32), size).astype(np.float64) - lr) ** 2))
    assert projection.psnr(sr, lr, levels=255) == pytest.approx(expected, abs=1e-4)
    made = projection.consistent(sr, lr)
    assert projection.psnr(made, lr) > 90 > projection.psnr(made, lr, levels=255) > 55  # what 8 bits allow
