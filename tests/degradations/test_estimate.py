"""What is measured of a damaged picture, against what was done to it."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from srcli.degradations.estimate import SMALLEST, Damage, judge, measure
from srcli.geometry import Size
from tests.helpers import hostile


def leaves(side=512, seed=0):
    """Overlapping discs of all sizes, a model of natural pictures, reduced by 2: (side / 2, side / 2, 3) in [0, 1]."""
    rng = np.random.default_rng(seed)
    picture = np.zeros((side, side, 3), np.uint8)
    for _ in range(1500):
        radius = int(4 / rng.uniform(0.03, 1) ** 1.2)
        at = tuple(int(v) for v in rng.integers(0, side, 2))
        cv2.circle(picture, at, radius, [int(v) for v in rng.integers(10, 245, 3)], -1, cv2.LINE_AA)
    return cv2.resize(picture, (side // 2, side // 2), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def damage_of(pixels, cover=None):
    alpha = None if cover is None else lambda top, bottom: cover[top:bottom]
    return measure(lambda top, bottom: pixels[top:bottom], Size(*pixels.shape[:2]), alpha)


def noisy(pixels, levels, seed=1):
    noise = np.random.default_rng(seed).normal(0, levels / 255, pixels.shape[:2])[..., None]
    return np.clip(pixels + noise, 0, 1).astype(np.float32)


def jpeg(pixels, quality):
    file = io.BytesIO()
    Image.fromarray(np.rint(pixels * 255).astype(np.uint8)).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file)).astype(np.float32) / 255


@pytest.mark.parametrize("levels", [1, 4, 12])
def test_noise_is_what_was_added(levels):
    ramp = np.linspace(0.3, 0.7, 192, dtype=np.float32)[None, :, None] * np.ones((160, 1, 3), np.float32)
    found = damage_of(noisy(ramp, levels))
    assert found.detail == pytest.approx(levels, rel=0.05)
    assert found.noise == pytest.approx(levels, rel=0.25)  # of the quietest blocks
    assert found.coarse_noise == pytest.approx(levels / 2, rel=0.35)  # a mean of four


@pytest.mark.parametrize("width", [0.8, 1.2, 2.0])
def test_blur_grows_as_documented_with_what_was_done(width):
    bars = np.zeros((128, 160, 3), np.float32)
    bars[:, 20:60] = bars[30:90, 100:140] = 0.8
    assert damage_of(cv2.GaussianBlur(bars, (0, 0), width)).blur == pytest.approx(
        (width**2 + 0.6) ** 0.5, rel=0.03
    )


def test_blocks_rise_as_quality_falls_wherever_the_grid_lies():
    clean = leaves()
    found = [damage_of(p).blocks for p in (clean, jpeg(clean, 60), jpeg(clean, 15), jpeg(clean, 15)[3:, 5:])]
    assert found[0] < 0.15
    assert found[0] < found[1] < found[2]
    assert found[3] == pytest.approx(found[2], rel=0.1)


def test_clean_pictures_are_told_from_damaged_ones():
    for seed in range(3):
        clean = leaves(seed=seed)
        soft = cv2.GaussianBlur(clean, (0, 0), 1.1)
        assert judge(damage_of(clean)).pick == "clean"
        for damaged in (jpeg(noisy(soft, 8), 50), noisy(clean, 15), jpeg(noisy(clean, 6), 25)):
            verdict = judge(damage_of(damaged))
            assert verdict.pick == "real"
            assert 0.5 <= verdict.confidence <= 1


def test_what_is_rendered_is_clean_however_odd_its_figures():
    for number in range(0, 24, 2):
        page = hostile.text(np.random.default_rng([33, number]), 640, smooth=True)[:400, :400]
        damage = damage_of(page.astype(np.float32) / 255)
        assert damage is None or judge(damage).pick == "clean"


def test_small_pieces_of_text_are_clean_and_noise_and_blocks_are_not():
    """Text everywhere leaves nothing quiet to measure noise on."""
    for side in (96, 160, 240):
        pages = [hostile.text(np.random.default_rng([side, k]), side, smooth=True) for k in range(20)]
        seen = [damage_of(page.astype(np.float32) / 255) for page in pages]
        assert sum(found is not None and judge(found).pick == "real" for found in seen) <= 1
    noise = np.random.default_rng(1).normal(0, 12 / 255, (256, 256, 3))
    assert judge(damage_of((leaves() + noise).clip(0, 1).astype(np.float32))).pick == "real"


def test_what_is_transparent_is_not_looked_at():
    clean, cover = leaves(), np.ones((256, 256), np.float32)
    cover[:, 150:] = 0
    dirty = clean.copy()
    dirty[:, 150:] = np.random.default_rng(2).random((256, 106, 3))
    seen, alone = damage_of(dirty, cover), damage_of(clean, cover)
    assert seen.noise == alone.noise
    assert seen.blur == alone.blur
    assert damage_of(dirty, np.zeros_like(cover)) is None


def test_pictures_of_every_shape_are_measured_or_said_to_be_too_small():
    rng = np.random.default_rng(3)
    for h, w in ((1, 1), (SMALLEST - 1, 500), (SMALLEST, SMALLEST), (33, 47), (40, 1500), (700, 70)):
        found = damage_of(rng.random((h, w, 3), dtype=np.float32))
        assert (found is None) == (min(h, w) < SMALLEST)
    for level in (0.0, 0.5, 1.0):  # nothing in it: clipped, or without noise and edges
        found = damage_of(np.full((64, 64, 3), level, np.float32))
        assert found is None or judge(found).looks in ("clean", "damaged")


def test_figures_far_from_all_that_was_fitted_give_a_verdict():
    for value in (0.0, 1e9):
        assert 0.5 <= judge(Damage(value, value, value, value, max(value, 1e-3))).confidence <= 1
