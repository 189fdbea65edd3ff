"""The native picture, resampled: Pillow's kernel, equal for grids and coordinates, and a skip for other decoders."""

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from srcli.errors import PresetError
from srcli.geometry import Box, Grid, Size, bicubic, output_size
from srcli.models.decoders.liif import LIIF
from srcli.models.decoders.native import Native, NativePicture
from srcli.models.sr import Frame
from srcli.weights.build import build, check_parts
from tests.helpers.presets import EDSR, tiny
from tests.reference.sampling import queries

SIZE = Size(9, 7)
RLFN = {"name": "rlfn", "n_feats": 8, "n_blocks": 1, "attention": 4}
LINF = {"name": "linf", "patch": 3, "hidden_dim": 8, "hidden": [8], "flow_layers": 2}


def preset(decoder):
    return tiny(encoder=RLFN, decoder=decoder, pixels={"mean": 0.0, "std": 0.5})


@pytest.mark.parametrize(("old", "new"), [(12, 30), (12, 12), (40, 23), (40, 10), (7, 1)])
def test_taps_are_those_of_pillow_inside_the_picture(old, new):
    values = np.random.default_rng(0).random((1, old)).astype(np.float32)
    wanted = np.asarray(Image.fromarray(values, "F").resize((new, 1), Image.Resampling.BICUBIC))[0]
    taps = bicubic(old, new, -0.5)
    assert taps.weight.sum(1) == pytest.approx(np.ones(new), abs=1e-6)
    got = (values[0][taps.index] * taps.weight).sum(1)
    margin = int(np.ceil(2 * max(1, old / new) * new / old)) + 1
    assert got[margin : new - margin] == pytest.approx(wanted[margin : new - margin], abs=1e-5)


@pytest.mark.parametrize(("old", "new"), [(12, 30), (7, 40), (9, 9)])
def test_enlarging_is_opencvs_bicubic_up_to_the_border(old, new):
    values = np.random.default_rng(0).random((1, old)).astype(np.float32)
    wanted = cv2.resize(values, (new, 1), interpolation=cv2.INTER_CUBIC)[0]
    taps = bicubic(old, new)
    assert (values[0][taps.index] * taps.weight).sum(1) == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("scale", [1, 1.3, 2, 4, 4.3, 11, (2.5, 4.0)])
def test_query_equals_render(scale):
    target = output_size(SIZE, scale)
    feat, lr = torch.randn(2, 48, *SIZE), torch.zeros(2, 3, *SIZE)
    decoder = Native(in_dim=48)
    prepared = decoder.prepare(feat, lr, Frame.of_grid(lr, target))
    asked = decoder.query(prepared, queries(*target).expand(2, -1, -1))
    rendered = decoder.render(prepared, Grid.of(SIZE, target)).flatten(2).transpose(1, 2)
    torch.testing.assert_close(asked, rendered, atol=2e-5, rtol=0)


def test_at_its_own_factor_the_picture_is_itself_and_parts_are_parts():
    feat, lr = torch.randn(1, 48, *SIZE), torch.zeros(1, 3, *SIZE)
    frame = Frame.of_grid(lr, Size(36, 28))
    whole = NativePicture.of(feat, frame).grid(Grid.of(SIZE, Size(36, 28)))
    assert torch.equal(whole, F.pixel_shuffle(feat, 4))
    target = Size(21, 16)
    whole = NativePicture.of(feat, frame).grid(Grid.of(SIZE, target))
    grid = Grid.of(SIZE, target, Box(9, 4, 15, 12), (1, 0))
    part = NativePicture.of(feat[:, :, 1:], frame).grid(grid)
    assert torch.equal(part, whole[..., 9:15, 4:12])


def test_two_pictures_are_blended_by_the_scale():
    lr, decoder = torch.zeros(1, 3, *SIZE), Native(in_dim=48)
    for scale, share in ((2.0, 1.0), (2.25, 0.5), (2.5, 0.0)):
        target = output_size(Size(4, 4), scale)
        frame = Frame.of_grid(lr[..., :4, :4], target)
        both = torch.cat([torch.ones(1, 12, 4, 4), torch.zeros(1, 48, 4, 4)], 1)
        colours = decoder.render(decoder.prepare(both, lr, frame), Grid.of(Size(4, 4), target))
        torch.testing.assert_close(colours, torch.full_like(colours, share))


@pytest.mark.parametrize(
    "decoder",
    [{"name": "blend", "width": 8, "hidden": [8]}, {"name": "liif", "hidden": [8]},
     {"name": "lit", "base_dim": 8, "n_heads": 2, "side": 3, "hidden": [8]},
     LINF],
    ids=lambda part: part["name"],
)  # fmt: skip
def test_any_decoder_adds_to_the_native_picture(decoder):
    network = build(preset({**decoder, "skip": "native"})).eval()
    alone = build(preset({"name": "native"})).eval()
    alone.encoder.load_state_dict(network.encoder.state_dict())
    lr, target = torch.rand(1, 3, 11, 9), Size(29, 24)
    if decoder["name"] != "linf":  # training begins with the native picture itself
        assert torch.equal(network.render(lr, target), alone.render(lr, target))
        torch.nn.init.ones_(network.decoder.factor)
    inner, features = network.decoder.decoder, network.encoder.features
    lr, target = torch.rand(1, 3, 11, 9), Size(29, 24)
    frame, grid = Frame.of_grid(lr, target), Grid.of(Size(11, 9), target)
    with torch.inference_mode():
        added = inner.render(inner.prepare(features(lr), torch.zeros_like(lr), frame), grid)
        got = network.render(lr, target)
        torch.testing.assert_close(got, added + alone.render(lr, target), atol=1e-5, rtol=0)
        if decoder["name"] == "linf":  # its query is the middle of a patch around the coordinate
            return
        asked = network.decoder.query(
            network.decoder.prepare(network.encoder(lr), lr, frame), queries(*target)
        )
    torch.testing.assert_close(asked, got.flatten(2).transpose(1, 2), atol=5e-5, rtol=0)


def test_the_density_of_a_sample_around_the_native_picture_is_that_of_its_noise():
    network = build(preset({**LINF, "skip": "native"})).eval()
    lr, coord, noise = torch.rand(1, 3, 12, 12), torch.rand(1, 5, 2) - 0.5, torch.randn(1, 5, 27)
    frame = Frame.whole(lr, torch.tensor([[2 / 36, 2 / 36]]))
    with torch.inference_mode():
        prepared = network.decoder.prepare(network.encoder(lr), lr, frame)
        near, far = (network.decoder.sample(prepared, coord, t * noise) for t in (0.1, 3.0))
        density = network.decoder.log_density
        middle = density(prepared, coord, network.decoder.sample(prepared, coord))
        assert (density(prepared, coord, near) > density(prepared, coord, far)).all()
        expected = middle - (noise**2).sum(-1) * 0.5 * 9
    torch.testing.assert_close(density(prepared, coord, far), expected, atol=1e-3, rtol=1e-4)


def test_the_skip_that_is_the_default_may_be_named_and_another_is_refused():
    liif = {"name": "liif", "hidden": [8]}
    check_parts(preset({**liif, "skip": "bilinear"}))
    assert isinstance(build(preset({**liif, "skip": "bilinear"})).decoder, LIIF)
    check_parts(preset({**liif, "skip": "native"}))
    with pytest.raises(PresetError, match="is 'bilinear' or 'native', not 'cubic'"):
        build(preset({**liif, "skip": "cubic"}))


def test_an_encoder_without_an_upsampler_is_refused():
    for decoder in ({"name": "native"}, {"name": "liif", "hidden": [8], "skip": "native"}):
        with pytest.raises(PresetError, match="native picture"):
            build(tiny(encoder=EDSR, decoder=decoder))
