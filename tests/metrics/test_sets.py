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
from srcli.evaluate import scoring as scored
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


@pytest.fixture
def seen(monkeypatch):
    """Features of known meaning in place of Inception's."""

    def features_of(scene):
        return tuple(x.reshape(-1, 3)[:4].ravel() / 255.0 for x in (scene.sr_8bit, scene.truth))

    monkeypatch.setattr(scored, "features_of", features_of)
    return features_of


def folders(tmp_path, count):
    rng = np.random.default_rng(5)
    pixels = {side: rng.integers(0, 256, (count, 12, 12, 3), np.uint8) for side in ("sr", "hr")}
    for side, pictures in pixels.items():
        (tmp_path / side).mkdir()
        for number, picture in enumerate(pictures):
            Image.fromarray(picture).save(tmp_path / side / f"{number}.png")
    return pixels


@pytest.mark.usefixtures("seen")
def test_every_row_of_a_set_carries_the_sets_value(tmp_path):
    pixels = folders(tmp_path, 6)
    found = score_pictures(tmp_path / "sr", tmp_path / "hr", None, metrics=["fid", "psnr", "kid"])
    a, b = (x.reshape(6, -1, 3)[:, :4].reshape(6, -1) / 255.0 for x in (pixels["sr"], pixels["hr"]))
    for row in found.rows:
        assert list(row.metrics) == ["fid", "psnr", "kid"]
        assert row.metrics["fid"] == pytest.approx(frechet_distance(a, b))
        assert row.metrics["kid"] == pytest.approx(kernel_distance(a, b))
    assert len({row.metrics["psnr"] for row in found.rows}) == 6


@pytest.mark.usefixtures("seen")
def test_a_set_of_one_picture_has_no_fid(tmp_path):
    folders(tmp_path, 1)
    with pytest.raises(UsageError, match="at least two pictures"):
        score_pictures(tmp_path / "sr", tmp_path / "hr", None, metrics=["fid"])


def test_without_weights_the_command_that_gets_them_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("SRCLI_MODELS_DIR", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert "srcli models pull metrics" in find_metrics(["fid"])[0].missing(asked=True)
    with pytest.raises(ModelError, match=BACKBONES["inception"].file):
        inception_features(np.zeros((8, 8, 3), np.uint8))
