"""Latents that need no training, against scipy's cosine transform."""

import numpy as np
import torch
from scipy.fft import dctn

from srcli.models.cosines import Cosines


def picture(h=12, w=8, seed=0):
    return torch.rand(2, 3, h, w, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_gray_latents_are_scipys_cosines_times_their_gain():
    gray = picture()[:, :1].expand(-1, 3, -1, -1)
    made = Cosines(0, luma=4, chroma=2, rise=6.0, scaling=2.0)
    latent = made.encode(gray)
    assert latent.shape == (2, 16, 3, 2)
    kept = [(i, j) for i in range(4) for j in range(4) if i + j < 4]
    for y in range(3):
        for x in range(2):
            square = gray[1, 0, 4 * y : 4 * y + 4, 4 * x : 4 * x + 4].numpy()
            waves = dctn(square.astype(np.float64), norm="ortho") / 4  # of a constant: that constant
            wanted = [2 * np.sqrt(1 + 6 * (i + j)) * waves[i, j] for i, j in kept]
            assert np.allclose(latent[1, :10, y, x].numpy(), wanted, atol=1e-5)
    assert float(latent[:, 10:].abs().max()) < 1e-5  # gray has no chroma


def test_nothing_is_lost_where_all_frequencies_are_kept():
    made = Cosines(0, luma=7, chroma=7)
    assert made.channels == 48
    assert torch.allclose(made.decode(made.encode(picture())), picture(), atol=1e-5)


def test_what_is_kept_comes_back_as_it_was():
    made = Cosines(0)
    latent = torch.randn(2, made.channels, 3, 2, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(made.encode(made.decode(latent)), latent, atol=1e-4)
    mean, deviation = made.moments(picture())
    assert torch.equal(mean, made.encode(picture()))
    assert not bool(deviation.any())


def test_it_has_nothing_to_store():
    assert Cosines(0).state_dict() == {}
