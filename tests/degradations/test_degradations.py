"""Degradations as a whole: numbers within their ranges, the same picture for the same numbers."""

import json
import math
from dataclasses import asdict

import numpy as np
import pytest
import torch

from srcli.degradations.apply import degrade
from srcli.degradations.draw import draw, numbered
from srcli.degradations.presets import DEGRADATIONS, find_degradation
from srcli.errors import UsageError
from srcli.geometry import Size
from tests.degradations.test_operations import photo


@pytest.fixture(scope="module", params=sorted(DEGRADATIONS))
def ranges(request):
    return DEGRADATIONS[request.param]


@pytest.fixture(scope="module")
def drawn(ranges):
    return [draw(ranges, numbered(1, i)) for i in range(2000)]


def share(values):
    return np.mean([bool(v) for v in values])


def test_every_number_is_within_its_range_and_reaches_both_ends(ranges, drawn):
    for which in ("first", "second"):
        stage, rounds = getattr(ranges, which), [getattr(d, which) for d in drawn]
        bells = [r.blur for r in rounds if r.blur and r.blur.kind != "sinc"]
        of = {
            kind: [r.noise.strength for r in rounds if r.noise.kind == kind]
            for kind in ("gaussian", "poisson")
        }
        for values, (low, high) in (
            ([b.sigma[0] for b in bells], stage.sigma),
            ([b.beta for b in bells if b.kind == "generalised"], stage.beta_generalised),
            ([b.beta for b in bells if b.kind == "plateau"], stage.beta_plateau),
            ([r.factor for r in rounds], stage.resize),
            (of["gaussian"], stage.gaussian),
            (of["poisson"], stage.poisson),
            ([r.jpeg for r in rounds], stage.jpeg),
        ):
            assert low <= min(values) < low + 0.05 * (high - low)
            assert high - 0.05 * (high - low) < max(values) <= high


def test_shares_are_those_asked_for(ranges, drawn):
    near = {"abs": 0.04}  # nearly four deviations of 2000 draws of one half
    rounds = [d.first for d in drawn]
    up, down, keep = (
        share(f(r.factor) for r in rounds) for f in (lambda x: x > 1, lambda x: x < 1, lambda x: x == 1)
    )
    assert (up, down, keep) == pytest.approx(ranges.first.up_down_keep, **near)
    assert share(d.second.blur for d in drawn) == pytest.approx(ranges.second.blur, **near)
    assert share(r.noise.kind == "gaussian" for r in rounds) == pytest.approx(0.5, **near)
    assert share(r.noise.gray for r in rounds) == pytest.approx(0.4, **near)
    assert share(r.blur.kind == "sinc" for r in rounds) == pytest.approx(0.1, **near)
    assert share(d.sinc for d in drawn) == pytest.approx(0.8, **near)
    assert share(d.jpeg_last for d in drawn) == pytest.approx(0.5, **near)
    assert share(d.untouched for d in drawn) == pytest.approx(ranges.untouched, abs=0.008)
    bells = [r.blur for r in rounds if r.blur.kind != "sinc"]
    for kind, of_one, of_two in (
        ("gaussian", 0.45, 0.25),
        ("generalised", 0.12, 0.03),
        ("plateau", 0.12, 0.03),
    ):
        same = share(b.kind == kind and b.sigma[0] == b.sigma[1] for b in bells)
        other = share(b.kind == kind and b.sigma[0] != b.sigma[1] for b in bells)
        assert (same, other) == pytest.approx((of_one, of_two), **near)
    assert {b.size for b in bells} == set(range(7, 22, 2))
    for d in drawn:
        for blur in (d.first.blur, d.sinc):
            if blur and blur.kind == "sinc":
                low = math.pi / 5 if blur.size >= 13 and blur is not d.sinc else math.pi / 3
                assert low <= blur.cutoff <= math.pi


def test_a_picture_is_a_function_of_seed_and_number(ranges):
    hr = torch.from_numpy(photo(64, 48))

    def make(seed, index):
        return degrade(hr, draw(ranges, numbered(seed, index)), Size(16, 12))[0]

    first = make(0, 3)
    for other in range(3):
        make(0, other)  # whatever else is made
    assert torch.equal(first, make(0, 3))
    assert not torch.equal(first, make(0, 4))
    assert not torch.equal(first, make(1, 3))
    assert draw(ranges, numbered(0, 3)) == draw(ranges, numbered(0, 3))
    assert json.loads(json.dumps(asdict(draw(ranges, numbered(0, 3)))))["preset"] == ranges.name


@pytest.mark.parametrize("size", [Size(48, 48), Size(13, 29)])
def test_pictures_of_any_size_come_out_at_theirs_and_still_show_the_same(ranges, size):
    hr = torch.from_numpy(photo(3 * size.h, 3 * size.w))
    small = torch.nn.functional.interpolate(hr.permute(2, 0, 1)[None].float(), size=list(size), mode="area")[
        0
    ]
    alike = []
    for index in range(9):
        lr, target = degrade(hr, draw(ranges, numbered(0, index)), size)
        assert lr.shape == (*size, 3)
        assert lr.dtype == target.dtype == torch.uint8
        assert target.shape == hr.shape
        assert torch.equal(target, hr) != ranges.sharpen
        alike.append(np.corrcoef(lr.permute(2, 0, 1).flatten(), small.flatten())[0, 1])
    assert np.median(alike) > 0.5


def test_milder_ranges_are_milder():
    hr = torch.from_numpy(photo(96, 96))

    def loss(name):
        made = [degrade(hr, draw(DEGRADATIONS[name], numbered(0, i)), Size(96, 96))[0] for i in range(15)]
        return np.mean([(lr.float() - hr.float()).square().mean() for lr in made])

    assert loss("realesrgan-stablesr") < 0.8 * loss("realesrgan")


def test_untouched_pictures_are_only_resized():
    ranges = DEGRADATIONS["realesrgan-stablesr"]
    index = next(i for i in range(1000) if draw(ranges, numbered(0, i)).untouched)
    flat = torch.full((40, 40, 3), 77, dtype=torch.uint8)
    lr, _ = degrade(flat, draw(ranges, numbered(0, index)), Size(10, 10))
    assert (lr == 77).all()


def test_unknown_names_get_a_suggestion():
    with pytest.raises(UsageError, match="Did you mean 'realesrgan'"):
        find_degradation("real-esrgan")


@pytest.mark.gpu
def test_a_gpu_makes_nearly_the_same_picture(ranges):
    hr = torch.from_numpy(photo(64, 64))
    for index in range(4):
        what = draw(ranges, numbered(0, index))
        cpu, gpu = (degrade(hr.to(d), what, Size(16, 16))[0].cpu().float() for d in ("cpu", "cuda"))
        assert (cpu - gpu).abs().median() <= 1  # JPEG steps may turn a rounding into several levels
