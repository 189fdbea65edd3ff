"""Random numbers by position: SplitMix64, evenly and normally distributed, independent between keys."""

import numpy as np
import torch
from scipy import stats

from srcli.degradations.counter import bits, mixed, normal, uniform

KEYS = torch.tensor([3, 4, 1 << 60])


def test_the_first_numbers_are_those_of_splitmix64():
    # The published first outputs for the state 0, and for 1234567 from the reference implementation's test.
    golden = torch.tensor(0x9E3779B97F4A7C15 - (1 << 64))
    first = [int(mixed(golden * i)) % (1 << 64) for i in (1, 2, 3)]
    assert first == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert int(mixed(torch.tensor(1234567) + golden)) % (1 << 64) == 6457827717110365317
    assert bits(torch.tensor([0]), 2).tolist() == [[0xE220A839, 0x6E789E6A]]


def test_a_stream_depends_on_its_key_alone():
    together = bits(KEYS, 50)
    for key, row in zip(KEYS, together, strict=True):
        assert torch.equal(bits(key[None], 20)[0], row[:20])


def test_uniform_numbers_are_uniform_and_never_0_or_1():
    drawn = uniform(KEYS, 20000)
    assert drawn.min() > 0
    assert drawn.max() < 1
    for row in drawn.numpy():
        assert stats.kstest(row, "uniform").pvalue > 0.001
    assert abs(np.corrcoef(drawn.numpy())[0, 1]) < 0.03
    assert abs(np.corrcoef(drawn[0, 1:], drawn[0, :-1])[0, 1]) < 0.03


def test_normal_numbers_are_normal():
    drawn = normal(KEYS, 20001).numpy()
    assert drawn.shape == (3, 20001)
    for row in drawn:
        assert stats.kstest(row, "norm").pvalue > 0.001
    assert abs(np.corrcoef(drawn[0, :10000], drawn[0, 10001:])[0, 1]) < 0.04  # the two halves of each pair
