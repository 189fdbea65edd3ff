"""Every operation of a degradation against an independent form of it."""

import io
import math

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from scipy import fft, ndimage, stats

from srcli.degradations import LUMA
from srcli.degradations.apply import blurred, resized, sharpened
from srcli.degradations.jpeg import CHROMA_TABLE, LUMA_TABLE, jpeg
from srcli.degradations.kernels import Blur, kernel
from srcli.degradations.noise import Noise, _counts, with_noise


def photo(h, w, seed=0):
    """Something smooth with edges, (h, w, 3) uint8."""
    small = np.random.default_rng(seed).integers(0, 256, (h // 6 + 1, w // 6 + 1, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((w, h), Image.Resampling.BICUBIC)).copy()


def tensor(pixels):
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255


def array(x):
    return x[0].permute(1, 2, 0).numpy()


# --- kernels ------------------------------------------------------------------------------------------------------


def test_a_gaussian_is_the_normal_density_on_the_pixels():
    blur = Blur("gaussian", 15, (2.5, 0.8), angle=0.7)
    turn = np.array([[math.cos(0.7), -math.sin(0.7)], [math.sin(0.7), math.cos(0.7)]])
    covariance = turn @ np.diag([2.5**2, 0.8**2]) @ turn.T
    x, y = np.meshgrid(np.arange(-7, 8), np.arange(-7, 8))
    density = stats.multivariate_normal([0, 0], covariance).pdf(np.stack([x, y], -1))
    np.testing.assert_allclose(kernel(blur)[3:18, 3:18], density / density.sum(), atol=1e-12)


@pytest.mark.parametrize("kind", ["generalised", "plateau"])
def test_other_bells_follow_their_formula_pixel_by_pixel(kind):
    blur = Blur(kind, 9, (1.4, 0.6), angle=-0.4, beta=1.7)
    inverse = np.linalg.inv(covariance_of(blur))
    slow = np.zeros((9, 9))
    for row in range(9):
        for col in range(9):
            at = np.array([col - 4, row - 4])
            q = at @ inverse @ at
            slow[row, col] = math.exp(-0.5 * q**1.7) if kind == "generalised" else 1 / (1 + q**1.7)
    got = kernel(blur)
    np.testing.assert_allclose(got[6:15, 6:15], slow / slow.sum(), atol=1e-12)
    assert got.sum() == pytest.approx(1)
    assert np.count_nonzero(got) <= 81  # zeros outside of the nine


def covariance_of(blur):
    c, s = math.cos(blur.angle), math.sin(blur.angle)
    turn = np.array([[c, -s], [s, c]])
    return turn @ np.diag(np.square(blur.sigma)) @ turn.T


def test_a_sinc_is_the_inverse_fourier_transform_of_a_disc():
    cutoff, size = 1.9, 13
    axis = (np.arange(800) + 0.5) / 800 * 2 * cutoff - cutoff
    u, v = np.meshgrid(axis, axis)
    disc = u**2 + v**2 <= cutoff**2
    cell = (2 * cutoff / 800) ** 2 / (2 * math.pi) ** 2
    slow = np.array([[np.cos(u[disc] * x + v[disc] * y).sum() * cell for x in (0, 1, 3)] for y in (0, 2, 6)])
    got = kernel(Blur("sinc", size, cutoff=cutoff))[4:17, 4:17]
    ratio = got[np.ix_([6, 8, 12], [6, 7, 9])] / slow
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=2e-2)  # a disc of squares; up to the sum of one
    assert got.sum() == pytest.approx(1)


def test_blur_reflects_the_border_as_scipy_does():
    pixels = photo(30, 25)
    blur = Blur("gaussian", 21, (3.0, 1.0), angle=0.5)
    slow = np.stack(
        [ndimage.correlate(c / 255, kernel(blur), mode="mirror") for c in pixels.transpose(2, 0, 1)]
    )
    np.testing.assert_allclose(blurred(tensor(pixels), blur)[0].numpy(), slow, atol=1e-5)


def test_pictures_smaller_than_the_kernel_can_be_blurred():
    pixels = photo(6, 1)[:4]
    blur = Blur("gaussian", 21, (3.0, 3.0))
    slow = np.stack(
        [ndimage.correlate(c / 255, kernel(blur), mode="mirror") for c in pixels.transpose(2, 0, 1)]
    )
    np.testing.assert_allclose(blurred(tensor(pixels), blur)[0].numpy(), slow, atol=1e-5)


# --- resize -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "flag", "size"),
    [
        ("bilinear", cv2.INTER_LINEAR, (17, 40)),
        ("bilinear", cv2.INTER_LINEAR, (55, 61)),
        ("bicubic", cv2.INTER_CUBIC, (17, 40)),
        ("bicubic", cv2.INTER_CUBIC, (55, 61)),
        ("area", cv2.INTER_AREA, (12, 16)),
    ],
)
def test_resizing_is_that_of_opencv(mode, flag, size):
    pixels = photo(36, 48)
    ours = array(resized(tensor(pixels), size, mode))
    theirs = cv2.resize(pixels.astype(np.float32) / 255, size[::-1], interpolation=flag)
    np.testing.assert_allclose(ours, theirs, atol=2e-5)


# --- noise --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gray", [False, True])
def test_gaussian_noise_has_the_deviation_asked_for(gray):
    flat = torch.full((1, 3, 100, 100), 0.5)
    added = (with_noise(flat, Noise("gaussian", 12.0, gray, key=5)) - flat)[0]
    assert stats.kstest((added[0] * 255 / 12).flatten().numpy(), "norm").pvalue > 0.001
    same = torch.equal(added[0], added[1])
    assert same == gray
    if not gray:
        assert abs(np.corrcoef(added[0].flatten(), added[1].flatten())[0, 1]) < 0.04


def test_poisson_noise_is_counted_photons():
    # Values 51 and 102 of 255 make two levels: a white pixel has 2 photons.
    flat = torch.full((1, 3, 60, 120), 102 / 255)
    flat[..., 60:] = 51 / 255
    noisy = with_noise(flat, Noise("poisson", 0.1, gray=False, key=11))
    for left, value in ((0, 102), (60, 51)):
        rate = value * 2 / 255
        added = (noisy - flat)[..., left : left + 60].flatten().double()
        counts = (added / 0.1 + value / 255) * 2
        assert (counts - counts.round()).abs().max() < 1e-4
        expected = stats.poisson(rate).pmf(range(5)) * counts.numel()
        seen = np.bincount(counts.round().long(), minlength=5)[:5]
        assert stats.chisquare(seen[:4], expected[:4] / expected[:4].sum() * seen[:4].sum()).pvalue > 0.001


def test_poisson_noise_of_a_photo_has_the_spread_of_its_values():
    pixels = photo(120, 120)
    x = tensor(pixels) * 0.5 + 0.25
    levels = (x * 255).round()
    photons = 2 ** math.ceil(math.log2(len(np.unique(levels))))
    noisy = with_noise(x, Noise("poisson", 1.0, gray=False, key=2))
    # Photons spread by the root of their number; the rounding of the picture to levels is part of the difference.
    spread = (noisy - x) / (levels / 255 / photons).sqrt()
    assert float(spread.std()) == pytest.approx(1, abs=0.02)
    assert float(spread.mean()) == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize("photons", [1, 2, 64, 256])
def test_the_table_of_photons_is_the_poisson_distribution(photons):
    table = _counts(photons, torch.device("cpu"))
    for level in (0, 1, 77, 255):
        parts = (table[level] - (level << 32)).numpy() / 2**32
        expected = stats.poisson(level * photons / 255).cdf(np.arange(len(parts)))
        np.testing.assert_allclose(parts, expected, atol=1e-9)
        assert parts[-1] > 1 - 1e-9


def test_gray_poisson_noise_comes_from_luma_and_is_one_for_all_channels():
    x = tensor(photo(40, 40)) * 0.4 + 0.3
    added = with_noise(x, Noise("poisson", 0.5, gray=True, key=3)) - x
    assert (added[:, 0] - added[:, 1]).abs().max() < 1e-6
    luma = (x * torch.tensor(LUMA).view(1, 3, 1, 1)).sum(1)
    levels = (luma * 255).round()
    photons = 2 ** math.ceil(math.log2(len(levels.unique())))
    counts = (added[:, 0] / 0.5 + levels / 255) * photons
    assert (counts - counts.round()).abs().max() < 2e-3  # float32 differences times 256 photons


def test_black_gets_no_photons():
    black = torch.zeros(1, 3, 8, 8)
    assert torch.equal(with_noise(black, Noise("poisson", 3.0, gray=False, key=1)), black)


# --- JPEG ---------------------------------------------------------------------------------------------------------


def saved(pixels, quality):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, subsampling=2)
    return np.asarray(Image.open(buffer), dtype=np.float64)


@pytest.mark.parametrize("quality", [30, 50, 75, 90])
def test_jpeg_is_close_to_a_file(quality):
    colours, gray = photo(64, 80), photo(64, 80, seed=1)[..., :1]
    pixels = (0.2 * colours + 0.8 * gray).astype(np.uint8)  # as saturated as photos are
    ours = array(jpeg(tensor(pixels), quality)).astype(np.float64) * 255
    file = saved(pixels, quality)
    # Within 1.5 levels of luma: a file rounds steps, samples and colours. (It also interpolates chroma.)
    assert np.abs((ours - file) @ LUMA).mean() < 1.5
    losses = (np.abs((made - pixels) @ LUMA).mean() for made in (ours, file))
    assert next(losses) == pytest.approx(next(losses), rel=0.15)


def test_jpeg_of_gray_pictures_is_a_file_but_for_rounding():
    gray = np.repeat(photo(64, 64)[..., :1], 3, axis=2)
    # At 50 the steps are the table's own whole numbers.
    off = np.abs(array(jpeg(tensor(gray), 50)).astype(np.float64) * 255 - saved(gray, 50))
    assert np.mean(off > 1.01) < 0.15  # blocks that have a coefficient half-way between two steps
    assert np.median(off) < 0.5


@pytest.mark.parametrize("quality", [12.5, 61.3, 99.9])
def test_jpeg_equals_a_slow_form_with_scipy(quality):
    pixels = photo(21, 35)
    x = np.pad(pixels, ((0, 11), (0, 13), (0, 0)), mode="edge").astype(np.float64)
    r, g, b = x.transpose(2, 0, 1)
    y = 0.299 * r + 0.587 * g + 0.114 * b
    planes = [y - 128, (b - y) / 1.772, (r - y) / 1.402]
    planes[1:] = [p.reshape(16, 2, 24, 2).mean((1, 3)) for p in planes[1:]]
    factor = (5000 / quality if quality < 50 else 200 - 2 * quality) / 100
    for plane, table in zip(planes, (LUMA_TABLE, CHROMA_TABLE, CHROMA_TABLE), strict=True):
        steps = np.maximum(np.array(table) * factor, 1)
        for top in range(0, plane.shape[0], 8):
            for left in range(0, plane.shape[1], 8):
                block = plane[top : top + 8, left : left + 8]
                block[:] = fft.idctn(np.rint(fft.dctn(block, norm="ortho") / steps) * steps, norm="ortho")
    y = planes[0] + 128
    blue, red = (p.repeat(2, 0).repeat(2, 1) for p in planes[1:])
    slow = np.stack([y + 1.402 * red, y - 0.344136 * blue - 0.714136 * red, y + 1.772 * blue], -1)[:21, :35]
    ours = array(jpeg(tensor(pixels), quality)) * 255
    off = np.abs(ours - slow.clip(0, 255)) > 0.02
    assert off.mean() < 0.02  # a coefficient half-way between two steps may fall to either side


# --- sharpening ---------------------------------------------------------------------------------------------------


def test_sharpening_is_that_of_opencv_and_numpy():
    x = photo(70, 60).astype(np.float32) / 255
    soft = cv2.GaussianBlur(x, (51, 51), 0, borderType=cv2.BORDER_REFLECT_101)
    detail = x - soft
    mask = cv2.GaussianBlur(
        (np.abs(detail) * 255 > 10).astype(np.float32), (51, 51), 0, borderType=cv2.BORDER_REFLECT_101
    )
    slow = mask * np.clip(x + 0.5 * detail, 0, 1) + (1 - mask) * x
    ours = array(sharpened(tensor(photo(70, 60))))
    np.testing.assert_allclose(ours, slow, atol=1e-3)
    assert np.abs(ours - x).max() > 0.05
