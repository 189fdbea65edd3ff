"""Samples cut on the device are those of the CPU sampler, but for which pixels of a crop are asked for."""

import numpy as np
import pytest
import torch
from scipy import stats

from srcli.data.device_sampler import DeviceSampler, make_sampler
from srcli.data.photos import Photo
from srcli.data.samples import Sampler, SampleSettings, batch_rng
from srcli.errors import UsageError
from tests.data.test_samples import picture

PHOTOS = [
    Photo(str(i), str(i), picture(h, w, seed=i)) for i, (h, w) in enumerate([(90, 70), (61, 120), (80, 80)])
]
TINY = {"patch": 12, "queries": 40, "scales": (1.0, 4.0)}


def crops(sampler, seed, step, count, scales):
    """The HR crops that the CPU sampler cuts."""
    return [sampler._crop(sampler.cut(batch_rng(seed, step, n), scales)) for n in range(count)]


@pytest.mark.parametrize("around", [1, 3])
@pytest.mark.parametrize("shrink", [0.0, 0.6, 1.0])
def test_patches_are_those_of_pillow_and_colours_those_of_their_crop(shrink, around):
    settings = SampleSettings(**TINY, shrink=shrink, around=around)
    cpu, device = Sampler(PHOTOS, settings), DeviceSampler(PHOTOS, settings, "cpu")
    for step in range(6):
        a, b = (s.draw(5, step, range(4)) for s in (cpu, device))
        assert torch.equal(a.lr, b.lr)
        assert torch.equal(a.cell, b.cell)
        assert [x.shape for x in a[:4]] == [x.shape for x in b[:4]]
        assert [x.dtype for x in a[:4]] == [x.dtype for x in b[:4]]
        for n, hr in enumerate(crops(cpu, 5, step, 4, settings.scales)):
            side = hr.shape[0]
            iy, ix = np.rint((b.coord[n].numpy().T + 1) * side / 2 - 0.5).astype(int)
            assert len({*zip(iy.tolist(), ix.tolist(), strict=True)}) == 40  # without replacement
            reach = around // 2
            framed = np.pad(hr, ((reach, reach), (reach, reach), (0, 0)), mode="edge")
            for q in (0, 17, 39):
                expected = framed[iy[q] : iy[q] + around, ix[q] : ix[q] + around].reshape(-1, 3)
                np.testing.assert_array_equal(np.rint(b.hr[n, q].numpy().reshape(-1, 3) * 255), expected)


def test_coordinates_are_in_the_arithmetic_of_the_cpu_sampler():
    settings = SampleSettings(patch=7, queries=49, scales=(1, 1), shrink=0)
    a, b = (
        s.draw(0, 0, range(2)) for s in (Sampler(PHOTOS, settings), DeviceSampler(PHOTOS, settings, "cpu"))
    )
    for x, y in zip(a.coord, b.coord, strict=True):  # all 49 pixels, in another order
        assert {*map(tuple, x.tolist())} == {*map(tuple, y.tolist())}


def test_pixels_are_asked_for_evenly_and_in_another_way_each_step():
    sampler = DeviceSampler(PHOTOS, SampleSettings(patch=6, queries=9, scales=(1, 1), shrink=0), "cpu")
    count = np.zeros((6, 6))
    for step in range(150):
        coord = sampler.draw(0, step, range(4)).coord
        iy, ix = (torch.round((coord[..., k] + 1) * 3 - 0.5).long().flatten().numpy() for k in (0, 1))
        np.add.at(count, (iy, ix), 1)
    assert count.sum() == 150 * 4 * 9
    assert stats.chisquare(count.ravel()).pvalue > 0.001


def test_a_sample_is_the_same_however_a_step_is_split():
    settings = SampleSettings(**TINY, dither=True)
    sampler = DeviceSampler(PHOTOS, settings, "cpu")
    whole, part = sampler.draw(1, 3, range(5)), sampler.draw(1, 3, range(3, 5))
    assert whole.cell[3:, 0].min() > whole.cell[:, 0].min()  # the largest crop is in the first part
    for a, b in zip(whole[:4], part[:4], strict=True):
        assert torch.equal(a[3:], b)


def test_a_crop_with_fewer_pixels_than_queries_gives_them_all():
    settings = SampleSettings(patch=6, queries=50, scales=(1.0, 1.6), shrink=0)
    batch = DeviceSampler(PHOTOS, settings, "cpu").draw(0, 0, range(6))
    for coord, cell in zip(batch.coord, batch.cell, strict=True):
        side = round(2 / float(cell[0]))
        assert len({*map(tuple, coord.tolist())}) == min(50, side * side)
        assert coord.abs().max() < 1


def test_blocks_and_dither_are_those_of_the_settings():
    settings = SampleSettings(patch=12, around=3, block=9, scales=(1, 2), shrink=0)
    batch = DeviceSampler(PHOTOS, settings, "cpu").draw(0, 0, range(3))
    assert batch.hr.shape == (3, 9, 9, 3)
    for n, hr in enumerate(crops(Sampler(PHOTOS, settings), 0, 0, 3, (1, 2))):
        squares = batch.hr[n].reshape(3, 3, 3, 3, 3).permute(0, 2, 1, 3, 4).reshape(9, 9, 3) * 255
        top, left = np.rint((batch.coord[n, 0].numpy() + 1) * len(hr) / 2 - 0.5).astype(int) - 1
        np.testing.assert_array_equal(squares.round().numpy(), hr[top : top + 9, left : left + 9])
    plain = SampleSettings(**TINY, shrink=0)
    noisy = SampleSettings(**TINY, shrink=0, dither=True)
    a, b = (DeviceSampler(PHOTOS, s, "cpu").draw(0, 0, range(20)).hr.numpy() for s in (plain, noisy))
    assert stats.kstest(((b - a) * 255 + 0.5).flatten(), "uniform").pvalue > 0.001


def test_all_samples_of_a_batch_can_share_a_scale():
    for kind in (Sampler, lambda *a: DeviceSampler(*a, "cpu")):
        sampler = kind(PHOTOS, SampleSettings(**TINY, scale_per="batch", shrink=0))
        cells = [sampler.draw(0, step, range(3)).cell for step in range(4)]
        assert all((c == c[0, 0]).all() for c in cells)
        assert len({float(c[0, 0]) for c in cells}) > 1


def test_both_samplers_degrade_alike():
    settings = SampleSettings(**TINY, degradation="realesrgan")
    a, b = (
        s.draw(0, 0, range(3)) for s in (Sampler(PHOTOS, settings), DeviceSampler(PHOTOS, settings, "cpu"))
    )
    assert torch.equal(a.lr, b.lr)
    bicubic = Sampler(PHOTOS, SampleSettings(**TINY)).draw(0, 0, range(3))
    assert not torch.equal(a.lr, bicubic.lr)
    with pytest.raises(UsageError, match="realesrgan-seesr"):
        Sampler(PHOTOS, SampleSettings(degradation="realesrgan-sesr"))


def test_the_setting_chooses_the_sampler():
    assert type(make_sampler(PHOTOS, SampleSettings(), "cpu")) is Sampler
    chosen = make_sampler(PHOTOS, SampleSettings(on_device=True), "cpu")
    assert type(chosen) is DeviceSampler
    assert chosen.pixels.shape == (sum(p.pixels.size for p in PHOTOS) // 3, 3)
    assert chosen.draw(0, 0, range(2)).lr.shape == (2, 3, 48, 48)


@pytest.mark.gpu
def test_a_gpu_cuts_the_same_samples():
    settings = SampleSettings(**TINY, dither=True)
    a, b = (DeviceSampler(PHOTOS, settings, d).draw(0, 0, range(4)) for d in ("cpu", "cuda"))
    assert torch.equal(a.lr, b.lr.cpu())
    order_a, order_b = (x.coord.cpu()[0].numpy() for x in (a, b))
    assert {*map(tuple, order_a.tolist())} == {*map(tuple, order_b.tolist())}
