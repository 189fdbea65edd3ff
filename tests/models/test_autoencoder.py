"""The perceptual auto-encoder and the encoders that use it."""

import dataclasses
from dataclasses import replace

import pytest
import torch

from srcli.config.presets import Part
from srcli.errors import PresetError
from srcli.models import make
from srcli.models.autoencoder import AutoEncoder, Sizes
from srcli.models.encoders import ENCODERS

SMALL = Sizes((8, 16, 16), 1, (16, 8), 1, groups=4)
LOCAL = replace(SMALL, attention=False, norm="pixel")


def small_fidelity() -> Part:
    return Part("edsr", {"n_resblocks": 1, "n_feats": 6, "mean_shift": False})


def test_published_sizes_have_the_published_parameters():
    with torch.device("meta"):
        network = AutoEncoder(Sizes())
    assert sum(p.numel() for p in network.perc_encoder.parameters()) == 22_351_238
    assert network.out_dim == 128
    assert network.factor == 4


@pytest.mark.parametrize("sizes", [SMALL, LOCAL])
def test_latents_and_features_lie_on_the_grid_of_the_lr_image(sizes):
    torch.manual_seed(0)
    network = AutoEncoder(sizes).eval()
    with torch.no_grad():
        mean, logvar = network.moments(torch.rand(2, 3, 20, 28) * 2 - 1)
        features = network.decode(mean)
    assert mean.shape == logvar.shape == (2, 3, 5, 7)
    assert features.shape == (2, 8, 5, 7)


def test_a_plain_auto_encoder_has_no_variance():
    network = AutoEncoder(replace(SMALL, variational=False))
    mean, logvar = network.moments(torch.zeros(1, 3, 8, 8))
    assert mean.shape == (1, 3, 2, 2)
    assert logvar is None


def test_strided_convolutions_begin_with_the_first_pixel():
    network = AutoEncoder(replace(SMALL, widths=(8, 8), groups=8))
    halved = network.perc_encoder.down[0].downsample
    x = torch.randn(1, 8, 6, 6)
    patch = torch.zeros(8, 3, 3)
    patch[:, :, :2] = x[0, :, 2:5, 4:6]  # the last column of the output reads one column of zeros
    by_hand = (halved.conv.weight * patch).sum((1, 2, 3)) + halved.conv.bias
    torch.testing.assert_close(halved(x)[0, :, 1, 2], by_hand)


@torch.no_grad()
def test_features_normalised_by_pixel_depend_on_the_halo_and_on_no_more():
    torch.manual_seed(0)
    network = AutoEncoder(LOCAL).eval()
    z = torch.randn(1, 3, 3, 40)
    changed = z.clone()
    changed[..., 20:] += torch.randn(1, 3, 3, 20)
    before, after = network.decode(z), network.decode(changed)
    reach = network.halo
    assert torch.equal(before[..., : 20 - reach], after[..., : 20 - reach])
    assert not torch.equal(before[..., 20 - reach], after[..., 20 - reach])
    tile = network.decode(z[..., : 10 + reach])
    torch.testing.assert_close(tile[..., :10], before[..., :10], rtol=0, atol=1e-6)


@torch.no_grad()
def test_features_normalised_by_group_depend_on_the_whole_picture():
    torch.manual_seed(0)
    network = AutoEncoder(SMALL).eval()
    z = torch.randn(1, 3, 3, 64)
    changed = z.clone()
    changed[..., 60:] += 10
    assert not torch.allclose(network.decode(z)[..., 0], network.decode(changed)[..., 0], atol=1e-4)
    assert not network.local


@torch.no_grad()
def test_perception_puts_the_latent_behind_the_image():
    torch.manual_seed(0)
    part = Part("perception", {"fidelity": {"name": "edsr", **small_fidelity().args}, "autoencoder": {}})
    sizes = {"widths": [8, 16], "resblocks": 1, "decoder_widths": [16, 8], "decoder_resblocks": 1}
    part.args["autoencoder"] = {**sizes, "attention": False, "norm": "pixel"}
    encoder = make(ENCODERS, "encoder", part, "test").eval()
    lr, z = torch.randn(1, 3, 6, 5), torch.randn(1, 3, 6, 5)
    features = encoder(torch.cat([lr, z], dim=1))
    assert features.shape == (1, encoder.out_dim, 6, 5) == (1, 14, 6, 5)
    assert torch.equal(features[:, :6], encoder.fidelity(lr))
    assert torch.equal(features[:, 6:], encoder.autoencoder.decode(z))
    assert encoder.halo == max(encoder.fidelity.halo, encoder.autoencoder.halo)
    assert encoder.exact


@torch.no_grad()
def test_a_network_of_windows_gives_features_on_the_grid_of_the_image():
    swinir = {"name": "swinir", "embed_dim": 8, "depths": [2], "n_heads": 2, "window": 4, "out_channels": 5}
    part = Part("perception", {"fidelity": swinir, "autoencoder": dataclasses.asdict(LOCAL)})
    encoder = make(ENCODERS, "encoder", part, "test").eval()
    assert encoder.multiple_of == 4
    assert not encoder.exact
    assert encoder(torch.randn(1, 6, 7, 6)).shape == (1, 5 + 8, 7, 6)


def test_perception_refuses_a_network_that_it_does_not_know():
    part = Part("perception", {"fidelity": {"name": "rrdb"}, "autoencoder": {}})
    with pytest.raises(PresetError, match="edsr, rdn, rlfn, swinir"):
        make(ENCODERS, "encoder", part, "test")


def test_perception_refuses_a_native_picture_of_a_network_without_one():
    edsr = {"name": "edsr", "n_resblocks": 1, "n_feats": 8}
    part = Part("perception", {"fidelity": edsr, "autoencoder": dataclasses.asdict(LOCAL)})
    with pytest.raises(PresetError, match="'edsr' come without a native picture"):
        make(ENCODERS, "encoder", part, "test", gives="both")


def test_groups_must_divide_the_widths():
    with pytest.raises(ValueError, match="multiples of the 4 groups"):
        AutoEncoder(replace(SMALL, widths=(10, 16)))
