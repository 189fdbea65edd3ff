"""Thera: its forms agree at every kind of scale, tiles do not show, and a pixel's field is what the docs say of it."""

import pytest
import torch

from srcli.engine.upscaler import Upscaler
from srcli.geometry import Axis, Grid, Size
from srcli.models.decoders import thera
from srcli.models.decoders.thera import offsets
from srcli.models.layers import grid_coord
from srcli.models.sr import Frame
from srcli.weights.build import build
from tests.helpers.presets import WIDE, tiny
from tests.reference.sampling import queries


def network(tail=None, **decoder):
    """A small network with features large enough to matter, for mean and deviation 0.5."""
    torch.manual_seed(4)
    encoder = WIDE if tail is None else {"name": "refined", "body": WIDE, "tail": tail}
    preset = tiny(encoder=encoder, decoder={"name": "thera", **decoder})
    made = build(preset)
    made.decoder.bias += torch.tensor([0.1, -0.2, 0.3])
    return made, preset


@pytest.mark.parametrize(
    ("tail", "scale"), [(None, 0.7), (None, 1.3), (None, 2.5), (None, 3), (None, (2.2, 4.0)), ("plus", 2.5)]
)
def test_tile_size_never_changes_a_bit(tail, scale):
    made, preset = network(tail)
    lr = torch.rand(1, 3, 103, 64, generator=torch.Generator().manual_seed(0))
    whole = Upscaler(made, preset, tile="none").upscale(lr, scale)
    for tile in (48, 97):
        assert torch.equal(Upscaler(made, preset, tile=tile).upscale(lr, scale), whole)


def test_tiles_of_windows_begin_on_windows():
    made, preset = network("pro")
    lr = torch.rand(1, 3, 60, 13, generator=torch.Generator().manual_seed(0))
    whole = Upscaler(made, preset, tile="none").upscale(lr, 2)
    assert (Upscaler(made, preset, tile=17).upscale(lr, 2) - whole).abs().max() < 1e-4


@pytest.mark.parametrize(("h", "w"), [(3, 2), (8, 8), (9, 15)])
def test_a_tail_of_windows_gives_the_size_it_is_given(h, w):
    made, _ = network("pro")
    assert made.encoder(torch.rand(1, 3, h, w)).shape == (1, 64, h, w)


@pytest.mark.parametrize("target", [Size(223, 181), Size(180, 240)])
def test_fields_are_made_for_some_rows_at_a_time(target):
    made, _ = network()
    assert target.h * target.w * 6 * len(made.decoder.components.T) > thera.HELD.cpu
    lr = torch.randn(1, 3, 30, 20)
    with torch.no_grad():
        prepared = made.decoder.prepare(made.encoder(lr), lr, Frame.of_grid(lr, target))
        whole = made.decoder.query(prepared, queries(*target)).transpose(1, 2).reshape(1, 3, *target)
        torch.testing.assert_close(made.render(lr, target), whole, atol=5e-4, rtol=0)  # angles are large


def test_halfway_between_two_pixels_is_the_later_one_everywhere():
    index, distance = offsets(Axis(4, 10, 0, 10))  # x2.5
    assert index.tolist() == [0, 0, 1, 1, 1, 2, 2, 3, 3, 3]
    assert distance[2] == -0.5
    made, _ = network()
    size, target = Size(20, 24), Size(50, 60)
    lr = torch.arange(480.0).reshape(1, 1, 20, 24).expand(1, 3, -1, -1).contiguous()
    made.decoder.out_conv.weight.data.zero_()
    made.decoder.out_conv.bias.data.zero_()
    with torch.no_grad():
        prepared = made.decoder.prepare(torch.zeros(1, WIDE["n_feats"], *size), lr, Frame.of_grid(lr, target))
        grid = Grid.of(size, target)
        queried = made.decoder.query(prepared, grid_coord(grid, lr)).transpose(1, 2).unflatten(2, target)
        assert torch.equal(made.decoder.render(prepared, grid), queried)


def test_blur_of_each_axis_by_its_own_scale_is_a_setting():
    plainly, _ = network()
    apart, _ = network(anisotropic=True)
    lr = torch.randn(1, 3, 8, 9)
    with torch.no_grad():
        torch.testing.assert_close(plainly.render(lr, Size(24, 27)), apart.render(lr, Size(24, 27)))
        tall = Frame.of_grid(lr, Size(8, 36))
        c, k = apart.decoder.components, apart.decoder.k
        torch.testing.assert_close(plainly.decoder.decay(tall)[0], torch.exp(-k * c.square().sum(0) / 4))
        expected = torch.exp(-k * (c[0] ** 2 + c[1] ** 2 / 16))
        torch.testing.assert_close(apart.decoder.decay(tall)[0], expected)


def test_gradient_is_that_of_finite_differences():
    made, _ = network()
    decoder, size = made.decoder.double(), Size(5, 6)
    feat, lr = torch.randn(1, WIDE["n_feats"], *size).double(), torch.zeros(1, 3, *size).double()
    for cell in ([[0.1, 0.2]], [[0.0, 0.0]]):
        prepared = decoder.prepare(feat, lr, Frame.whole(lr, torch.tensor(cell).double()))
        coord = torch.rand(1, 30, 2).double() * 1.9 - 0.95
        found = decoder.gradient(prepared, coord)
        for axis, length in enumerate(size):
            step = torch.zeros(2).double()
            step[axis] = 1e-7
            difference = decoder.query(prepared, coord + step) - decoder.query(prepared, coord - step)
            near = (difference.abs() < 1e-3).all(-1)  # not across the border of two fields
            assert near.float().mean() > 0.9
            slope = difference / (2e-7 * length / 2)
            torch.testing.assert_close(found[..., axis][near], slope[near], atol=1e-4, rtol=1e-4)
