"""Samples of a generative network: noise belongs to the output, and the temperature is a factor."""

import numpy as np
import pytest
import torch

from srcli.engine.noise import patch_noise
from srcli.engine.normalised_image import TensorSource
from srcli.errors import UsageError
from srcli.geometry import Box, Grid, Size, output_size
from srcli.models.sr import Frame
from tests.helpers.presets import BLEND, WIDE, tiny_engine
from tests.helpers.presets import noise_picture as photo
from tests.helpers.rendering import rows

LINF = {"name": "linf", "hidden_dim": 8, "hidden": [12]}
DECODERS = {
    "pixels": LINF,
    "patches": {**LINF, "patch": 3},
    "official": {**LINF, "patch": 3, "protocol": "official"},
    "regression": BLEND,
}
every_patch = pytest.mark.parametrize("kind", ["pixels", "patches"])


def upscaler(kind, **options):
    return tiny_engine(kind, encoder=WIDE, decoder=DECODERS[kind], **options)


@every_patch
@pytest.mark.parametrize("scale", [1.7, 3, (2.5, 4.0), 0.7])
def test_tile_size_never_changes_a_sample(kind, scale):
    lr = photo(61, 119)
    samples = [upscaler(kind, tile=t).upscale(lr, scale, temperature=0.8, seed=5) for t in ("none", 48, 97)]
    assert torch.equal(samples[0], samples[1])
    assert torch.equal(samples[0], samples[2])


def test_images_do_not_depend_on_those_before():
    lr, other = photo(20, 20), photo(31, 17, seed=1)
    sr = upscaler("patches")
    first = sr.upscale(lr, 3, temperature=0.8, seed=2)
    sr.upscale(other, 2, temperature=0.8, seed=9)
    sr.upscale(other, 4)
    assert torch.equal(sr.upscale(lr, 3, temperature=0.8, seed=2), first)


@pytest.mark.parametrize("kind", ["pixels", "patches", "official"])
@pytest.mark.parametrize(
    ("tau", "size", "scale"), [(0.1, (20, 23), 3.3), (1.7, (200, 190), 1.3)]
)  # two bands
def test_mean_plus_temperature_times_direction_is_a_direct_sample(kind, tau, size, scale):
    lr, target = photo(*size), output_size(Size(*size), scale)
    sr = upscaler(kind)
    parts = list(sr.affine(TensorSource(lr), target, seed=4))
    mean, direction = (np.concatenate(column) for column in zip(*parts, strict=True))
    assert mean.shape == direction.shape == (*target, 3)
    assert mean.dtype == direction.dtype == np.float32
    # A direct sample: the temperature inside the noise, one call for the whole image.
    decoder, grid = sr.network.decoder, Grid.of(Size(*size), target)
    noise = torch.from_numpy(patch_noise(4, grid.patches(decoder.patch), decoder.noise_channels))[None]
    x = (lr - 0.5) / 0.5
    with torch.inference_mode():
        frame = Frame.of_grid(x, target)
        prepared = decoder.prepare(sr.network.encoder(x), x, frame)
        at_once, away = decoder.render_affine(prepared, grid, tau * noise)
    direct = ((at_once + away)[0].permute(1, 2, 0) * 0.5 + 0.5).numpy()
    bound = 1e-5 * max(1, direct.std())
    assert np.abs(mean + tau * direction - direct).max() <= bound
    assert np.abs(rows(sr, lr, target, temperature=tau, seed=4) - direct).max() <= bound


def test_temperature_zero_is_the_mean_and_seeds_differ():
    lr = photo(15, 15)
    sr = upscaler("patches")
    mean = sr.upscale(lr, 2)
    assert torch.equal(sr.upscale(lr, 2, temperature=0.0, seed=3), mean)
    with torch.inference_mode():
        plain = (sr.network.render((lr - 0.5) / 0.5, Size(30, 30)) * 0.5 + 0.5).clamp(0, 1)
    torch.testing.assert_close(mean, plain, atol=2e-6, rtol=0)
    one, two = (sr.upscale(lr, 2, temperature=0.5, seed=seed) for seed in (0, 1))
    assert not torch.equal(one, two)
    assert not torch.equal(one, mean)


def test_every_patch_has_noise_of_its_own_that_is_standard_normal():
    patches = Grid.of(Size(4, 4), Size(60, 90)).patches(3)
    noise = patch_noise(7, patches, 27)
    assert noise.shape == (27, 20, 30)
    assert abs(noise.mean()) < 0.03
    assert abs(noise.std() - 1) < 0.03
    flat = noise.reshape(27, -1).T
    assert len(np.unique(flat, axis=0)) == len(flat)
    neighbours = [noise[:, 1:] * noise[:, :-1], noise[:, :, 1:] * noise[:, :, :-1], noise[1:] * noise[:-1]]
    assert all(abs(product.mean()) < 0.03 for product in neighbours)
    assert abs((noise * patch_noise(8, patches, 27)).mean()) < 0.03


def test_noise_of_a_part_is_part_of_the_noise_whatever_the_size_of_the_image():
    whole = patch_noise(1, Grid.of(Size(9, 9), Size(30, 36)).patches(3), 27)
    box = Grid.of(Size(20, 20), Size(300, 500), Box(12, 6, 27, 33)).patches(3)
    assert np.array_equal(patch_noise(1, box, 27), whole[:, 4:9, 2:11])


def test_a_network_without_a_distribution_takes_no_temperature():
    sr = upscaler("regression")
    assert not sr.generative
    assert upscaler("pixels").generative
    with pytest.raises(UsageError, match="no temperature"):
        sr.upscale(photo(8, 8), 2, temperature=0.5)
    with pytest.raises(UsageError, match="no temperature"):
        sr.affine(TensorSource(photo(8, 8)), Size(16, 16), seed=0)


@pytest.mark.parametrize(
    "wrong",
    [{"temperature": t} for t in (-0.1, float("nan"), float("inf"))] + [{"seed": -1}, {"seed": 1 << 64}],
    ids=str,
)
def test_temperatures_and_seeds_that_are_none_are_refused(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        upscaler("pixels").upscale(photo(8, 8), 2, **{"temperature": 0.5, **wrong})


def test_half_precision_gives_nearly_the_same_sample():
    lr = photo(16, 16)
    exact = upscaler("patches").upscale(lr, 2, temperature=0.5, seed=1)
    rough = upscaler("patches", precision="bf16").upscale(lr, 2, temperature=0.5, seed=1)
    assert 0 < (rough - exact).abs().mean() < 0.01
