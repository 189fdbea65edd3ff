"""IDM's generator: any size, tiles, and the way up by hand."""

import math

import pytest
import torch
import torch.nn.functional as F

from srcli.config.presets import Part
from srcli.errors import PresetError
from srcli.geometry import Box, Grid, Size
from srcli.models import make
from srcli.models.decoders import DECODERS
from srcli.models.generators import GENERATORS
from srcli.models.generators.idm import IDM, ImplicitUp, NoiseLevel, Pyramid
from srcli.models.sr import Frame

SMALL = {
    "condition_dim": 5,
    "widths": (4, 8),
    "layers": 1,
    "attention": (False, True),
    "hidden": 6,
    "groups": 2,
}


def small() -> IDM:
    torch.manual_seed(0)
    network = IDM(**SMALL).eval()  # type: ignore[arg-type]
    torch.nn.init.normal_(network.conv_out.weight)
    return network


@pytest.mark.parametrize("size", [(8, 12), (7, 13), (1, 5)], ids=str)
@torch.no_grad()
def test_noise_of_any_size_is_predicted(size):
    network = small()
    condition = (torch.randn(2, 3, *size), torch.rand(2))
    noisy = torch.randn(2, 3, *size)
    noise = network(noisy, torch.tensor([0.3, 0.9]), condition)
    assert noise.shape == noisy.shape
    for other in ((condition[0] + 1, condition[1]), (condition[0], condition[1] + 0.1)):
        assert not torch.allclose(noise, network(noisy, torch.tensor([0.3, 0.9]), other))
    assert not torch.allclose(noise, network(noisy, torch.tensor([0.4, 0.9]), condition))


@torch.no_grad()
def test_a_batch_equals_its_pictures():
    network = small()
    noisy, t, condition = torch.randn(2, 3, 6, 7), torch.rand(2), (torch.randn(2, 3, 6, 7), torch.rand(2))
    together = network(noisy, t, condition)
    for i in range(2):
        one = network(noisy[i : i + 1], t[i : i + 1], tuple(each[i : i + 1] for each in condition))
        torch.testing.assert_close(together[i : i + 1], one, rtol=0, atol=1e-5)


@torch.no_grad()
def test_the_condition_repeats_features_and_knows_the_place_of_the_scale():
    network = small()
    lr, target = Size(4, 3), Size(11, 9)
    feat = torch.randn(1, 5, *lr)
    given, place = network.spread(feat, Grid.of(lr, target))
    repeated = F.interpolate(feat, target, mode="nearest-exact")
    torch.testing.assert_close(given, network.to_colours(repeated))
    assert place.item() == pytest.approx((math.sqrt(2.75 * 3) - 1) / 3)


@torch.no_grad()
def test_the_condition_of_a_part_equals_that_of_the_picture():
    network = small()
    lr, target = Size(8, 6), Size(24, 18)
    feat = torch.randn(1, 5, *lr)
    whole, _ = network.spread(feat, Grid.of(lr, target))
    part, _ = network.spread(feat[:, :, 2:6, 1:5], Grid.of(lr, target, Box(9, 6, 15, 12), (2, 1)))
    torch.testing.assert_close(part, whole[:, :, 9:15, 6:12])


@pytest.mark.parametrize(("scale", "place"), [(1, 0.0), (4, 1.0), (8, 1.0)])
@torch.no_grad()
def test_scales_lie_between_one_and_the_largest_trained(scale, place):
    lr = Size(2, 2)
    _, found = small().spread(torch.zeros(1, 5, 2, 2), Grid.of(lr, Size(2 * scale, 2 * scale)))
    assert found.item() == place


@torch.no_grad()
def test_the_way_up_takes_the_nearest_feature_and_its_offset_through_two_layers():
    torch.manual_seed(0)
    up = ImplicitUp(4, 6)
    x, given, place = torch.randn(1, 4, 3, 2), torch.randn(1, 4, 3, 2), torch.tensor([0.4])
    out = up(x, given, place, (5, 4))
    s1 = up.generated.weight[:, 0] * 0.4 + up.generated.bias
    s2 = up.given.weight[:, 0] * 0.4 + up.given.bias
    length = (s1**2 + s2**2 + 1e-8).sqrt()
    shift = up.shift(given)[0]
    for row, column in ((0, 0), (2, 3), (4, 1)):
        y, z = (row + 0.5) * 3 / 5, (column + 0.5) * 2 / 4
        i, j = int(y), int(z)
        feature = x[0, :, i, j] * s1 / length + shift[:, i, j] * s2 / length + up.bias
        feature = torch.where(feature > 0, feature, 0.2 * feature)
        offset = torch.tensor([y - i - 0.5, z - j - 0.5]) * 2
        by_hand = up.last(up.first(torch.cat([feature, offset])))
        torch.testing.assert_close(out[0, :, row, column], by_hand, rtol=0, atol=1e-5)


@torch.no_grad()
def test_the_pyramid_keeps_a_constant_away_from_the_border():
    torch.manual_seed(0)
    pyramid = Pyramid((4, 4))
    fine, coarse = pyramid(torch.ones(1, 3, 16, 16))
    assert coarse.shape == (1, 4, 8, 8)
    level = pyramid.levels[0]
    sums = (level.weight.sum((2, 3)) * fine[0, :, 8, 8]).sum(1) / 6 + level.bias
    by_hand = F.leaky_relu(sums, 0.2) * math.sqrt(2)
    torch.testing.assert_close(coarse[0, :, 4, 4], by_hand, rtol=0, atol=1e-5)


def test_levels_of_noise_are_told_apart_by_sines_and_cosines():
    network = NoiseLevel(4)
    seen = []
    network.mlp.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    network(torch.tensor([0.5]))
    by_hand = [math.sin(0.5), math.sin(0.005), math.cos(0.5), math.cos(0.005)]
    assert seen[0][0].tolist() == pytest.approx(by_hand)


@pytest.mark.parametrize(
    ("args", "word"),
    [({"attention": (True,)}, "levels"), ({"groups": 3}, "multiples"), ({"largest": 1.0}, "above 1")],
)
def test_sizes_that_do_not_fit_are_refused(args, word):
    with pytest.raises(PresetError, match=word):
        make(GENERATORS, "generator", Part("idm", {**SMALL, **args}), "test")


@torch.no_grad()
def test_before_anything_is_sampled_the_canvas_is_the_image_enlarged():
    decoder = make(DECODERS, "decoder", Part("canvas", {}), "test", in_dim=5)
    lr, target = torch.randn(1, 3, 4, 3), Size(9, 10)
    prepared = decoder.prepare(torch.zeros(1, 5, 4, 3), lr, Frame.of_grid(lr, target))
    expected = F.interpolate(lr, target, mode="bilinear")
    torch.testing.assert_close(decoder.render(prepared, Grid.of(Size(4, 3), target)), expected)
    centre = torch.zeros(1, 1, 2)
    torch.testing.assert_close(decoder.query(prepared, centre)[0, 0], lr[0, :, 1:3, 1].mean(1))
