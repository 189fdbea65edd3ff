"""RLFN equals its slow form, in tiles as in whole pictures; the release's layout gives the same picture."""

import pytest
import torch
import torch.nn.functional as F

from srcli.config.presets import load_preset
from srcli.models.encoders.rlfn import ESA, RLFN, scaled
from srcli.models.layers import fused_conv
from srcli.weights.official import rename


def body(**args):
    network = RLFN(n_feats=8, n_blocks=2, attention=4, gives="picture", **args).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, 0.2)
    return network


def plain_attention(esa, x):
    """The class in words: every cell of 6x6 pixels sees the 15x15 around it, those beyond the picture their neighbour's."""
    h, w = x.shape[-2:]
    near = esa.conv1(x)

    def cells(side):
        starts = [6 * k - 4 for k in range(-(-side // 6))]
        inside = [k for k, start in enumerate(starts) if start >= 0 and start + 15 <= side]
        return [starts[min(max(k, inside[0]), inside[-1])] for k in range(len(starts))]

    rows = [
        torch.cat(
            [esa.conv2(near[..., t : t + 15, a : a + 15]).amax((2, 3), keepdim=True) for a in cells(w)], 3
        )
        for t in cells(h)
    ]
    pooled = esa.conv3(F.pad(torch.cat(rows, 2), (1, 1, 1, 1), mode="replicate"))
    seen = F.interpolate(pooled, scale_factor=6, mode="bilinear")[..., :h, :w]
    return x * torch.sigmoid(esa.conv4(seen + esa.conv_f(near)))


@pytest.mark.parametrize("size", [(17, 24), (30, 41), (36, 18)])
def test_attention_equals_its_slow_form(size):
    esa, x = ESA(8, 4), torch.randn(1, 8, *size)
    torch.testing.assert_close(esa(x), plain_attention(esa, x), atol=1e-5, rtol=0)


def test_the_convolution_behind_the_shuffle_knows_no_phase():
    """Its weights are at the picture's resolution: what the body says, shuffled, then a plain convolution."""
    network, lr = body(refine=5), torch.rand(1, 3, 13, 18)
    before = network.upsampler[0](network.features(lr))
    picture = network.refine(F.leaky_relu(F.pixel_shuffle(before, 4), 0.05))
    torch.testing.assert_close(F.pixel_shuffle(network(lr), 4), picture, atol=1e-5, rtol=0)
    centred = body(refine=5, centred=True)
    centred.load_state_dict(network.state_dict())
    torch.testing.assert_close(centred(lr - 1), network(lr) - 1, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [(1, 1), (2, 7), (16, 16), (5, 40)])
def test_small_pictures_have_a_picture(size):
    assert body()(torch.rand(1, 3, *size)).shape == (1, 48, *size)


@pytest.mark.parametrize("refine", [0, 6])
def test_a_tile_on_the_grid_sees_what_the_picture_sees(refine):
    network, lr = body(refine=refine), torch.rand(1, 3, 150, 90)
    with torch.inference_mode():
        whole = network(lr)
        tile = network(lr[..., 30:, :])
    torch.testing.assert_close(tile[..., 48:, :], whole[..., 78:, :], atol=1e-5, rtol=0)
    with torch.inference_mode():
        off_the_grid = network(lr[..., 32:, :])
    assert (off_the_grid[..., 46:, :] - whole[..., 78:, :]).abs().max() > 1e-4


def test_what_is_fast_without_gradients_gives_the_same_picture():
    network, lr = body().to(memory_format=torch.channels_last), torch.rand(1, 3, 33, 40)
    with torch.inference_mode():
        fast = network(lr)
    torch.testing.assert_close(fast, network(lr).detach(), atol=5e-6, rtol=0)  # order of summation


@pytest.mark.parametrize("size", [(33, 40), (24, 131)])
def test_strips_change_no_bit(size, monkeypatch):
    network, lr = body().to(memory_format=torch.channels_last), torch.rand(1, 3, *size)
    with torch.inference_mode():
        whole = network(lr)
        monkeypatch.setattr("srcli.models.encoders.rlfn.STRIP", 8 * size[1])
        torch.testing.assert_close(network(lr), whole, atol=0, rtol=0)


@pytest.mark.parametrize("channels", [8, 52, 64])
def test_channels_that_fill_no_vector_change_no_bit(channels, monkeypatch):
    layer = torch.nn.Conv2d(52, channels, 3, padding=1).to(memory_format=torch.channels_last)
    x = torch.randn(1, 52, 30, 31).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        filled = fused_conv(layer, x, 0.05)
        torch.testing.assert_close(filled, F.leaky_relu(layer(x), 0.05), atol=1e-5, rtol=0)
        monkeypatch.setattr("srcli.models.layers.VECTOR", 1)
        torch.testing.assert_close(filled, fused_conv(layer, x, 0.05), atol=0, rtol=0)


def test_the_release_gives_the_same_picture_in_other_units():
    network, lr = body(), torch.rand(1, 3, 20, 20)
    of_bytes = body()
    of_bytes.load_state_dict(network.state_dict())
    network.load_state_dict(scaled(network.state_dict()))
    with torch.inference_mode():
        torch.testing.assert_close(network(lr * 2) * 127.5, of_bytes(lr * 255), atol=2e-3, rtol=1e-5)


def test_released_keys_are_renamed_and_our_own_left_alone():
    preset = load_preset("rlfn-x4")
    state = {"conv_1.bias": torch.ones(52), "block_1.esa.conv1.weight": torch.ones(16, 52, 1, 1)}
    renamed = rename(state, preset)
    assert renamed["encoder.conv_1.bias"][0] == pytest.approx(1 / 127.5)
    assert renamed["encoder.block_1.esa.conv1.weight"][0, 0] == pytest.approx(127.5)
    assert rename(renamed, preset)["encoder.conv_1.bias"] is renamed["encoder.conv_1.bias"]


def test_pixels_around_zero_are_those_around_one():
    network, centred = body(small_blocks=1), body(small_blocks=1, centred=True)
    centred.load_state_dict(network.state_dict())
    lr = 2 * torch.rand(1, 3, 20, 20)
    for scale in (2.0, 4.0):
        own, other = network.for_scale(scale)(lr), centred.for_scale(scale)(lr - 1)
        torch.testing.assert_close(other + 1, own, atol=1e-5, rtol=0)


def test_a_second_body_answers_small_scales_and_joins_between():
    network, lr = body(small_blocks=1), torch.rand(1, 3, 20, 20)
    assert network.for_scale(1.3)(lr).shape[1] == 12
    assert network.for_scale(2.5)(lr).shape[1] == 48
    both = network.for_scale(2.2)(lr)
    torch.testing.assert_close(both, torch.cat([network.small(lr), network(lr)], 1))
