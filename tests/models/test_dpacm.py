"""DPACM's terms against scipy and by hand."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import wasserstein_distance

from srcli.models.dpacm import terms, wasserstein_1


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 40))
def test_wasserstein_1_equals_scipys_for_every_picture_and_channel(seed, n):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, 2, 3, n)).astype(np.float32)
    b = b * 2 + 0.3
    found = wasserstein_1(torch.from_numpy(a), torch.from_numpy(b))
    for i in range(2):
        for c in range(3):
            assert abs(float(found[i, c]) - wasserstein_distance(a[i, c], b[i, c])) < 1e-5


def test_wasserstein_1_moves_every_value_towards_its_rank():
    a = torch.tensor([[[0.9, 0.1, 0.5]]], requires_grad=True)
    wasserstein_1(a, torch.tensor([[[0.0, 1.0, 0.4]]])).sum().backward()
    assert a.grad is not None
    assert torch.allclose(a.grad, torch.tensor([[[-1.0, 1.0, 1.0]]]) / 3)


def test_the_truth_is_reduced_by_area_to_the_view():
    hr = torch.rand(1, 3, 8, 12) * 2 - 1
    means = hr.unflatten(3, (3, 4)).unflatten(2, (2, 4)).mean((3, 5))
    assert float(terms(means, hr).wasserstein) < 1e-6
    assert float(terms(means + 0.25, hr).wasserstein) - 0.25 < 1e-6


def test_the_perceptual_distance_sees_enlarged_pictures_in_0_to_1():
    seen = []

    def distance(a, b):
        seen.extend([a, b])
        return (a - b).abs().mean()

    view, hr = torch.full((1, 3, 4, 6), -1.0), torch.ones(1, 3, 16, 24)
    found = terms(view, hr, distance=distance, side=16)
    assert [tuple(x.shape[-2:]) for x in seen] == [(16, 24)] * 2
    assert float(found.perceptual) == 1.0
    assert float(terms(view, hr).perceptual) == 0.0
