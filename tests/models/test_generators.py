"""The generators of latents and the UNet behind them."""

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from srcli.config.presets import Part, parse_preset
from srcli.errors import PresetError
from srcli.models import make
from srcli.models.encoders import ENCODERS
from srcli.models.generators import GENERATORS
from srcli.weights.build import build
from tests.helpers.presets import EDSR

SIZES = {"widths": (8, 16), "layers": 1, "attention": (True, False), "n_heads": 2, "groups": 4}
AUTOENCODER = {
    "widths": (4, 8, 8),
    "resblocks": 1,
    "decoder_widths": (8,),
    "decoder_resblocks": 1,
    "groups": 4,
}
FIDELITY = {**EDSR, "n_feats": 6}


def generator(name: str = "fplia", **args: object) -> torch.nn.Module:
    torch.manual_seed(0)
    network = make(GENERATORS, "generator", Part(name, {"condition_dim": 6, **SIZES, **args}), "test").eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)  # untrained, it predicts zeros
    return network


def encoder() -> torch.nn.Module:
    torch.manual_seed(0)
    part = Part("perception", {"fidelity": FIDELITY, "autoencoder": AUTOENCODER})
    return make(ENCODERS, "encoder", part, "test").eval()


@pytest.mark.parametrize(
    ("args", "millions"),
    [
        (
            {
                "condition_dim": 64,
                "widths": (320, 640, 1280, 1280),
                "attention": (True, True, True, False),
                "n_heads": 8,
                "upsample": "bilinear",
            },
            642.1,
        ),
        ({"condition_dim": 3, "widths": (160, 320, 320, 640), "attention": (False,) * 4}, 105.4),
        (
            {"condition_dim": 64, "widths": (64, 128, 192), "layers": 1, "attention": (False, False, True)},
            7.2,
        ),
    ],
)
def test_published_sizes_have_the_published_parameters(args, millions):
    with torch.device("meta"):
        network = make(GENERATORS, "generator", Part("fplia", args), "test")
    assert round(sum(p.numel() for p in network.parameters()) / 1e6, 1) == millions


@torch.no_grad()
def test_the_noise_has_the_shape_of_the_canvas_and_depends_on_step_and_condition():
    network = generator()
    noisy, condition = torch.randn(2, 3, 4, 6), torch.randn(2, 6, 4, 6)
    noise = network(noisy, torch.tensor([3, 700]), condition)
    assert noise.shape == noisy.shape
    assert not torch.allclose(noise, network(noisy, torch.tensor([4, 700]), condition))
    assert not torch.allclose(noise, network(noisy, torch.tensor([3, 700]), condition + 1))


@torch.no_grad()
def test_an_untrained_unet_predicts_no_noise():
    network = make(GENERATORS, "generator", Part("kim", {"condition_dim": 3, **SIZES}), "test")
    noisy = torch.randn(1, 3, 4, 4)
    assert not network(noisy, torch.tensor([9]), noisy).any()


def test_latents_come_back_from_the_units_of_the_canvas():
    network = generator()
    network.latent_mean[0, :, 0, 0] = torch.tensor([1.0, 2.0, 3.0])
    network.latent_std[0, :, 0, 0] = torch.tensor([0.5, 1.0, 4.0])
    latent = torch.randn(1, 3, 2, 2)
    canvas = network.normalised(latent)
    torch.testing.assert_close(canvas[0, 2], (latent[0, 2] - 3) / 4)
    torch.testing.assert_close(network.denormalised(canvas), latent)
    assert {"latent_mean", "latent_std"} < set(network.state_dict())


@torch.no_grad()
def test_conditions_are_features_for_fplia_and_a_latent_for_kim():
    lr, seen = torch.rand(1, 3, 4, 6) * 2 - 1, encoder()
    assert torch.equal(generator().condition(seen, lr), seen.fidelity(lr))
    kim = generator("kim", condition_dim=3)
    kim.latent_std.fill_(2)
    picture = lr.repeat_interleave(4, -1).repeat_interleave(4, -2)
    expected = seen.autoencoder.moments(picture)[0] / 2
    torch.testing.assert_close(kim.condition(seen, lr), expected)


def test_bilinear_and_nearest_upsampling_have_the_same_keys_and_differ():
    nearest, bilinear = generator(), generator(upsample="bilinear")
    bilinear.load_state_dict(nearest.state_dict())
    noisy, condition, t = torch.randn(1, 3, 4, 4), torch.randn(1, 6, 4, 4), torch.tensor([5])
    with torch.no_grad():
        assert not torch.allclose(nearest(noisy, t, condition), bilinear(noisy, t, condition))


def test_upsampling_is_what_torch_calls_bilinear():
    upsample = generator(upsample="bilinear").unet.up_blocks[0].upsamplers[0]
    x = torch.randn(1, 16, 2, 3)
    with torch.no_grad():
        expected = F.conv2d(
            F.interpolate(x, (4, 6), mode="bilinear"), upsample.conv.weight, upsample.conv.bias, padding=1
        )
        torch.testing.assert_close(upsample(x), expected)


@pytest.mark.parametrize(
    "args", [{"attention": (True,)}, {"groups": 3}, {"n_heads": 3}, {"widths": (8,)}], ids=str
)
def test_sizes_that_do_not_fit_are_refused(args):
    with pytest.raises(PresetError, match=r"levels|multiples"):
        generator(**args)


@pytest.mark.slow
def test_other_networks_are_built_without_diffusers():
    code = (
        "import sys; from srcli.weights.build import build; from srcli.config.presets import load_preset;"
        "build(load_preset('edsr-baseline-blend')); assert 'diffusers' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


PERCEPTION = {"name": "perception", "fidelity": FIDELITY, "autoencoder": AUTOENCODER}
LATENT = {"name": "latent", "autoencoder": AUTOENCODER}


@pytest.mark.parametrize(
    ("encoder", "generator", "message"),
    [
        (PERCEPTION, {"name": "fplia", "condition_dim": 6}, None),
        (PERCEPTION, {"name": "kim", "condition_dim": 3}, None),
        (PERCEPTION, {"name": "fplia", "condition_dim": 7}, "condition_dim is 7, but the encoder gives 6"),
        (PERCEPTION, {"name": "kim", "condition_dim": 6}, "condition_dim is 6, but the encoder gives 3"),
        (PERCEPTION, {"name": "kim", "condition_dim": 3, "channels": 4}, "4 channels, the other takes 3"),
        (LATENT, {"name": "fplia", "condition_dim": 6}, "'perception'"),
        (FIDELITY, {"name": "kim", "condition_dim": 3}, "3 channels, the other takes 0"),
        (PERCEPTION, {"name": "kim"}, "needs condition_dim"),
        (PERCEPTION, {"name": "idm", "condition_dim": 14}, "expects a latent"),
        (FIDELITY, {"name": "idm", "condition_dim": 5}, "condition_dim is 5, but the encoder gives 6"),
    ],
    ids=lambda value: value["name"] if isinstance(value, dict) else None,
)
def test_a_generator_that_does_not_fit_its_encoder_is_refused(encoder, generator, message):
    sizes = {"widths": [8, 16], "layers": 1, "attention": [True, False], "groups": 4}
    heads = {"hidden": 8} if generator["name"] == "idm" else {"n_heads": 2}
    table = {
        "title": "tiny",
        "encoder": encoder,
        "decoder": {"name": "liif", "hidden": [8]},
        "generator": {**sizes, **heads, **generator},
        "diffusion": {},
    }
    preset = parse_preset(table, name="tiny")
    if message is None:
        assert build(preset).generator is not None
    else:
        with pytest.raises(PresetError, match=message):
            build(preset)
