"""Real-ESRGAN's networks equal their authors' description, from files in the official layout, also in tiles and strips."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from srcli.config.presets import load_preset
from srcli.engine.load import upscaler_for
from srcli.geometry import Size
from srcli.weights.build import build
from srcli.weights.checkpoint import load
from srcli.weights.official import Checkpoint, identify, network_shapes, rename
from tests.helpers import presets
from tests.helpers.rendering import render

FAMILY = ["realesrgan-x4plus", "realesrgan-x2plus", "realesrgan-x4plus-anime-6b", "realesr-general-x4v3"]
TINY = {"n_feats": 8, "n_blocks": 2, "growth": 4}


def tiny(name="rrdb", **args):
    return presets.tiny(
        encoder={"name": name, **args}, decoder={"name": "native"}, pixels={"mean": 0.0, "std": 1.0}
    )


def released(preset, seed=0):
    """Random weights under the names of the release."""
    g = torch.Generator().manual_seed(seed)
    return {
        official(key): torch.randn(shape, generator=g) * (0.2 if key.endswith("bias") else 0.15)
        for key, shape in network_shapes(preset).items()
    }


def official(key):
    """A key of ours as xinntao/Real-ESRGAN has it."""
    for ours, theirs in (
        ("encoder.", ""),
        ("RRDB_trunk", "body"),
        ("RDB", "rdb"),
        ("trunk_conv", "conv_body"),
        ("upconv", "conv_up"),
        ("HRconv", "conv_hr"),
    ):
        key = key.replace(ours, theirs)
    return key


def plain(state, lr, factor=4):
    """RRDBNet in words: (1, 3, h, w) -> (1, 3, factor h, factor w)."""

    def conv(x, name):
        return F.conv2d(x, state[f"{name}.weight"].float(), state[f"{name}.bias"].float(), padding=1)

    first = trunk = conv(F.pixel_unshuffle(lr, 4 // factor), "conv_first")
    blocks = 1 + max(int(key.split(".")[1]) for key in state if key.startswith("body."))
    for i in range(blocks):
        block = trunk
        for j in (1, 2, 3):
            maps = [block]
            for k in (1, 2, 3, 4):
                maps.append(F.leaky_relu(conv(torch.cat(maps, 1), f"body.{i}.rdb{j}.conv{k}"), 0.2))
            block = block + 0.2 * conv(torch.cat(maps, 1), f"body.{i}.rdb{j}.conv5")
        trunk = trunk + 0.2 * block
    x = first + conv(trunk, "conv_body")
    for name in ("conv_up1", "conv_up2"):
        x = F.leaky_relu(conv(x.repeat_interleave(2, 2).repeat_interleave(2, 3), name), 0.2)
    return conv(F.leaky_relu(conv(x, "conv_hr"), 0.2), "conv_last")


def plain_compact(state, lr):
    """SRVGGNetCompact in words, for factor 4."""
    x = lr
    last = max(int(key.split(".")[1]) for key in state)
    for n in range(0, last + 1, 2):
        x = F.conv2d(x, state[f"body.{n}.weight"], state[f"body.{n}.bias"], padding=1)
        if n < last:
            x = torch.where(x > 0, x, x * state[f"body.{n + 1}.weight"].view(1, -1, 1, 1))
    return F.pixel_shuffle(x, 4) + lr.repeat_interleave(4, 2).repeat_interleave(4, 3)


def network(preset, state):
    made = build(preset)
    made.load_state_dict(rename(state, preset))
    return made.eval()


@pytest.mark.parametrize("factor", [4, 2])
def test_rrdb_gives_the_plain_networks_picture(factor):
    preset = tiny(factor=factor, **TINY)
    state, lr = released(preset), torch.rand(1, 3, 22, 30)
    with torch.inference_mode():
        made = F.pixel_shuffle(network(preset, state).encoder(lr), factor)
        wanted = plain(state, lr, factor)
    assert wanted.std() > 0.1
    torch.testing.assert_close(made, wanted, atol=1e-3, rtol=1e-4)


def test_compact_gives_the_plain_networks_picture():
    preset = tiny("srvgg", n_feats=8, n_convs=3)
    state, lr = released(preset), torch.rand(1, 3, 12, 17)
    with torch.inference_mode():
        made = F.pixel_shuffle(network(preset, state).encoder(lr), 4)
    torch.testing.assert_close(made, plain_compact(state, lr), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["rrdb", "rrdb-x2", "srvgg"])
def test_an_independent_implementation_agrees(name):
    spandrel = pytest.importorskip("spandrel")
    wide = {"n_feats": 8, "n_blocks": 1}  # it finds out all sizes but the growth
    args = {"rrdb": wide, "rrdb-x2": wide | {"factor": 2}, "srvgg": {"n_feats": 8, "n_convs": 3}}[name]
    preset = tiny(name.partition("-")[0], **args)
    state, lr = released(preset), torch.rand(1, 3, 20, 26)
    other = spandrel.ModelLoader().load_from_state_dict(dict(state)).model
    with torch.inference_mode():
        made = F.pixel_shuffle(network(preset, state).encoder(lr), args.get("factor", 4))
        torch.testing.assert_close(made, other(lr), atol=1e-3, rtol=1e-4)


def test_the_upsampler_in_strips_gives_the_same_picture():
    preset = tiny(n_feats=4, n_blocks=1, growth=2)
    state, lr = released(preset), torch.rand(1, 3, 150, 140)  # two strips
    with torch.inference_mode():
        made = F.pixel_shuffle(network(preset, state).encoder(lr), 4)
        torch.testing.assert_close(made, plain(state, lr), atol=1e-4, rtol=1e-4)


def test_odd_sides_are_completed_as_the_authors_do_and_tiles_agree():
    preset = tiny(factor=2, n_feats=4, n_blocks=1, growth=2)
    state, lr = released(preset), torch.rand(1, 3, 61, 47)
    made = {}
    for tile in ("none", 16):
        engine = upscaler_for(network(preset, state), preset, device="cpu", tile=tile)
        engine.network.encoder.practical_halo = None
        made[tile], stats = render(engine, lr, Size(122, 94))
    assert stats.tiles > 4
    wanted = plain(state, F.pad(lr, (0, 1, 0, 1), mode="reflect"), 2)[0, :, :122, :94].permute(1, 2, 0)
    np.testing.assert_allclose(made["none"], wanted, atol=1e-3)  # the native grid: no resampling
    np.testing.assert_allclose(made[16], made["none"], atol=1e-5)


@pytest.mark.parametrize("name", FAMILY)
def test_the_releases_are_known_by_their_keys(name):
    shapes = network_shapes(load_preset(name))
    state = {official(key): torch.empty(shape, device="meta") for key, shape in shapes.items()}
    assert ("conv_up1.weight" in state) == name.startswith("realesrgan")
    assert identify(Checkpoint(state), "x.pth").name == name


def test_the_shipped_weights_give_the_authors_picture_and_bf16_is_near():
    loaded = load("real-best")
    state = {official(key): value for key, value in loaded.network.state_dict().items()}
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    lr = (0.5 + 0.4 * torch.stack([torch.tanh(y - x - 2), torch.tanh(x - 8), torch.sin(y / 4)]))[None]
    with torch.inference_mode():
        wanted = plain(state, lr)
        exact = F.pixel_shuffle(loaded.network.encoder(lr), 4)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = F.pixel_shuffle(loaded.network.encoder(lr), 4)
    assert (exact - wanted).abs().max() < 1e-3
    assert 10 * torch.log10(1 / (rounded - wanted).square().mean()) > 45
