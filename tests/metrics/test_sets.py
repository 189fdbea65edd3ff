"""FID and KID against slow forms and torchmetrics, and how `eval` brings them about."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import linalg

from srcli.errors import ModelError, UsageError
from srcli.evaluate.run import picture_key, with_set_metrics
from srcli.evaluate.scoring import score_pictures
from srcli.metrics import find_metrics
from srcli.metrics.backbones import BACKBONES
from srcli.metrics.sets import frechet_distance, inception_features, kernel_distance


def drawn(seed, n, d, shift=0.0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + shift


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 999), st.integers(2, 30), st.integers(2, 30), st.integers(1, 12))
def test_fid_equals_the_formula_with_a_matrix_root(seed, n, m, d):
    a, b = drawn(seed, n, d), drawn(seed + 1, m, d, 0.5)
    s, t = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (a, b))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # singular products have inexact roots
        root = np.trace(np.real(linalg.sqrtm(linalg.sqrtm(s) @ t @ linalg.sqrtm(s))))
    direct = np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(s) + np.trace(t) - 2 * root
    assert frechet_distance(a, b) == pytest.approx(direct, abs=2e-4 * (np.trace(s) + np.trace(t)))


def test_fid_of_a_shifted_set_is_the_shift_squared():
    a = drawn(3, 40, 8)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a, a + 2.0) == pytest.approx(8 * 4.0)


def test_kid_equals_a_double_loop():
    a, b = drawn(0, 5, 4), drawn(1, 7, 4, 0.3)

    def k(x, y):
        return (x @ y / 4 + 1) ** 3

    same_a = np.mean([k(a[i], a[j]) for i in range(5) for j in range(5) if i != j])
    same_b = np.mean([k(b[i], b[j]) for i in range(7) for j in range(7) if i != j])
    across = np.mean([k(x, y) for x in a for y in b])
    assert kernel_distance(a, b) == pytest.approx(same_a + same_b - 2 * across)


class Means(torch.nn.Module):
    """Features that need no weights: means of 4x4 blocks of red and green."""

    num_features = 32

    def forward(self, x):
        return torch.nn.functional.adaptive_avg_pool2d(x[:, :2].float() / 255, 4).flatten(1)


def test_both_agree_with_torchmetrics():
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.kid import KernelInceptionDistance

    rng = np.random.default_rng(0)
    sr, hr = (torch.from_numpy(rng.integers(0, high, (12, 3, 16, 16), np.uint8)) for high in (200, 256))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the size of its buffers
        metrics = [
            FrechetInceptionDistance(feature=Means(), input_img_size=(3, 16, 16)),
            KernelInceptionDistance(feature=Means(), subsets=1, subset_size=12),
        ]
        values = []
        for metric in metrics:
            metric.set_dtype(torch.float64)
            metric.update(sr, real=False)
            metric.update(hr, real=True)
            values.append(metric.compute())
    features = [Means()(x).double().numpy() for x in (sr, hr)]
    assert frechet_distance(*features) == pytest.approx(float(values[0]), rel=1e-3)
    assert kernel_distance(*features) == pytest.approx(float(values[1][0]), rel=1e-3)


@pytest.mark.parametrize("count", [6, 1])
def test_every_row_of_a_set_carries_the_sets_value(tmp_path, count):
    rng = np.random.default_rng(5)
    for side in ("sr", "hr"):
        (tmp_path / side).mkdir()
        for number, picture in enumerate(rng.integers(0, 256, (count, 12, 12, 3), np.uint8)):
            Image.fromarray(picture).save(tmp_path / side / f"{number}.png")
    rows = score_pictures(tmp_path / "sr", tmp_path / "hr", None, metrics=["psnr"]).rows
    a, b = drawn(0, count, 4), drawn(1, count, 4)  # in place of Inception's features
    features = {picture_key(row): pair for row, *pair in zip(rows, a, b, strict=True)}
    metrics = find_metrics(["fid", "psnr", "kid"])
    if count == 1:
        with pytest.raises(UsageError, match="at least two pictures"):
            with_set_metrics(rows, features, metrics)
        return
    for row, plain in zip(with_set_metrics(rows, features, metrics), rows, strict=True):
        expected = {
            "fid": frechet_distance(a, b),
            "psnr": plain.metrics["psnr"],
            "kid": kernel_distance(a, b),
        }
        assert list(row.metrics.items()) == list(expected.items())


def test_without_weights_the_command_that_gets_them_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("SRCLI_MODELS_DIR", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert "srcli models pull metrics" in find_metrics(["fid"])[0].missing(asked=True)
    with pytest.raises(ModelError, match=BACKBONES["inception"].file):
        inception_features(np.zeros((8, 8, 3), np.uint8))
