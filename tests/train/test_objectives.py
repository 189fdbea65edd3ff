"""Objectives: what they are worth on batches whose answer is known."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from srcli.config.presets import Part, parse_preset
from srcli.data.photos import Photo
from srcli.data.samples import Sampler, SampleSettings
from srcli.errors import ModelError, PresetError, UsageError
from srcli.metrics.classifiers import CLASSIFIERS, load_classifier
from srcli.models.sr import Frame
from srcli.train.objectives import make_objective
from srcli.weights.build import build
from tests.helpers.presets import TINY


def network(patch=3):
    torch.manual_seed(1)
    decoder = {"name": "linf", "patch": patch, "hidden_dim": 8, "hidden": [12], "flow_layers": 3}
    return build(parse_preset(TINY | {"decoder": decoder}, name="tiny"))


def regression():
    return build(parse_preset(TINY, name="tiny"))


def photo(side):
    rng = np.random.default_rng(0)
    return Photo("noise.png", "noise", rng.integers(0, 256, (side, side, 3), dtype=np.uint8))


def batch(size=2, side=90, patch=12, **settings):
    """Samples in the normalised domain."""
    sampler = Sampler([photo(side)], SampleSettings(patch=patch, scales=(1.0, 3.0), **settings))
    drawn = sampler.draw(0, 0, range(size))
    return drawn._replace(lr=drawn.lr * 2 - 1, hr=drawn.hr * 2 - 1)


def only(name, **settings):
    (loss,) = make_objective(Part(name, settings))
    return loss


def test_nll_is_the_mean_of_the_patches_negative_log_densities():
    net, drawn = network(), batch(queries=40, around=3)
    decoder = net.decoder
    prepared = decoder.prepare(net.encoder(drawn.lr), drawn.lr, Frame.whole(drawn.lr, drawn.cell))
    values = []
    for b in range(2):
        for q in range(40):
            # The residual pixel by pixel: the HR pixel, less the bilinear image there, zero beyond the crop.
            residual = torch.zeros(3, 3, 3)
            for row in range(3):
                for col in range(3):
                    step = torch.tensor([row - 1, col - 1]) * drawn.cell[b]
                    at = drawn.coord[b, q] + step
                    if bool((at.abs() < 1).all()):
                        where = at.flip(-1).reshape(1, 1, 1, 2)
                        flat = F.grid_sample(
                            drawn.lr[b : b + 1], where, padding_mode="border", align_corners=False
                        )
                        residual[:, row, col] = drawn.hr[b, q, 3 * row + col] - flat[0, :, 0, 0]
            condition = decoder.conditions(prepared, drawn.coord)[0].condition[b, q]
            values.append(decoder.imnet(residual.flatten(), condition)[1])
    expected = -torch.stack(values).mean()
    torch.testing.assert_close(only("nll")(net, drawn), expected, atol=1e-3, rtol=1e-5)


@pytest.mark.parametrize("patch", [1, 3])
def test_a_few_steps_on_one_batch_make_it_likelier(patch):
    net, drawn = network(patch), batch(queries=60, around=patch, dither=True)
    optimiser, loss = torch.optim.Adam(net.parameters(), 3e-3), only("nll")
    values = []
    for _ in range(25):
        optimiser.zero_grad()
        value = loss(net, drawn)
        value.backward()
        assert all(p.grad is not None for p in net.decoder.parameters())
        optimiser.step()
        values.append(value.item())
    assert values[-1] < values[0] - net.decoder.imnet.dim / 4


def test_stage_2_in_two_steps_adds_up_to_the_joint_loss():
    net, drawn = network(), batch(queries=30, around=3)
    density, colours = make_objective(Part("linf-stage-2", {"nll": 0.01, "l1": 2.0}))
    joint = only("linf-stage-2", nll=0.01, l1=2.0, loss="joint")
    parts = density(net, drawn) + colours(net, drawn)
    torch.testing.assert_close(joint(net, drawn), parts)
    torch.testing.assert_close(density(net, drawn), 0.01 * only("nll")(net, drawn))


def test_stage_2_l1_is_that_of_the_pictures_of_a_block():
    net = network()
    drawn = batch(1, around=3, block=12)
    _, colours = make_objective(Part("linf-stage-2"))
    # The block as a picture: patches (4, 4) in row-major order.
    hr = drawn.hr.reshape(4, 4, 3, 3, 3).permute(4, 0, 2, 1, 3).reshape(3, 12, 12)
    prepared = net.decoder.prepare(net.encoder(drawn.lr), drawn.lr, Frame.whole(drawn.lr, drawn.cell))
    patches = net.decoder.sample(prepared, drawn.coord)[0].reshape(4, 4, 3, 3, 3)
    sr = patches.permute(2, 0, 3, 1, 4).reshape(3, 12, 12)
    torch.testing.assert_close(colours(net, drawn), (sr - hr).abs().mean())


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_perceptual_loss_sees_the_pictures_and_reaches_the_network(name, tmp_path):
    torch.manual_seed(0)
    file = tmp_path / "backbone.safetensors"
    judge = CLASSIFIERS[name]()
    save_file({key: value.contiguous() for key, value in judge.state_dict().items()}, file)
    settings = {"nll": 0.0, "l1": 0.0, "perceptual": 1.0, "backbone": name, "weights": str(file)}
    net = network()
    drawn = batch(side=150, patch=48, around=3, block=48)
    for loss in ("steps", "joint"):
        *_, colours = make_objective(Part("linf-stage-2", {**settings, "loss": loss}))
        torch.manual_seed(5)
        value = colours(net, drawn)
        assert value.item() > 0
        (gradient,) = torch.autograd.grad(value, [net.decoder.layers[0].weight])
        assert gradient.abs().max() > 0
    # The same with pictures put together here.
    prepared = net.decoder.prepare(net.encoder(drawn.lr), drawn.lr, Frame.whole(drawn.lr, drawn.cell))
    torch.manual_seed(5)
    patches = net.decoder.sample(prepared, drawn.coord, 0.8 * torch.randn(2, 256, 27))
    sr = F.fold(patches.transpose(1, 2), (48, 48), 3, stride=3)
    hr = F.fold(drawn.hr.transpose(2, 3).flatten(2).transpose(1, 2), (48, 48), 3, stride=3)
    torch.testing.assert_close(value, judge(sr / 2 + 0.5, hr / 2 + 0.5), rtol=1e-4, atol=1e-7)


def test_random_pixels_are_no_picture(tmp_path):
    file = tmp_path / "backbone.safetensors"
    save_file({k: v.contiguous() for k, v in CLASSIFIERS["squeezenet"]().state_dict().items()}, file)
    settings = {"perceptual": 1.0, "backbone": "squeezenet", "weights": str(file), "loss": "joint"}
    with pytest.raises(PresetError, match="pictures") as caught:
        only("linf-stage-2", **settings)(network(), batch(queries=40, around=3))
    assert "data.block" in caught.value.hint


def test_distances_are_zero_for_equals_and_grow_with_blur():
    torch.manual_seed(0)
    a = torch.rand(1, 3, 64, 64)
    blurred = [F.avg_pool2d(a, k, 1, k // 2, count_include_pad=False) for k in (1, 3, 7)]
    for kind in CLASSIFIERS.values():
        judge = kind()
        with torch.no_grad():
            values = [float(judge(b, a)) for b in blurred]
        assert values[0] == 0
        assert values[0] < values[1] < values[2]


def test_a_backbone_of_another_network_is_refused(tmp_path):
    file = tmp_path / "other.safetensors"
    save_file({"features.0.weight": torch.zeros(1)}, file)
    with pytest.raises(ModelError, match="no squeezenet"):
        load_classifier("squeezenet", file)
    with pytest.raises(ModelError, match="does not exist"):
        load_classifier("squeezenet", tmp_path / "missing.pth")


def test_objectives_say_what_does_not_fit():
    with pytest.raises(PresetError, match="unknown objective"):
        make_objective(Part("nlll"))
    with pytest.raises(PresetError, match="takes no 'weight'"):
        make_objective(Part("linf-stage-2", {"weight": 1.0}))
    with pytest.raises(PresetError, match="at least 0"):
        make_objective(Part("linf-stage-2", {"nll": -1.0}))
    with pytest.raises(PresetError, match="needs the file of vgg19"):
        make_objective(Part("linf-stage-2", {"perceptual": 0.1}))
    with pytest.raises(PresetError, match="distribution"):
        only("nll")(regression(), batch(queries=5))
    with pytest.raises(PresetError, match="samples of that size") as caught:
        only("nll")(network(3), batch(queries=5))
    assert "data.around = 3" in caught.value.hint


@torch.no_grad()
def test_l1_and_l2_are_the_mean_absolute_and_squared_error():
    net, drawn = regression(), batch(queries=9)
    error = (net(drawn.lr, drawn.coord, drawn.cell) - drawn.hr).numpy()
    assert float(only("l1")(net, drawn)) == pytest.approx(float(np.abs(error).mean()), rel=1e-6)
    assert float(only("l2")(net, drawn)) == pytest.approx(float((error**2).mean()), rel=1e-6)


@pytest.mark.parametrize("settings", [{"around": 2}, {"around": 3, "block": 10}, {"block": 40}])
def test_samples_that_cannot_be_cut_are_refused(settings):
    with pytest.raises(UsageError, match=r"data\."):
        batch(**settings)


def test_perceptual_l1_is_the_weighted_sum_of_its_two_parts(tmp_path):
    torch.manual_seed(2)
    path = tmp_path / "squeezenet.safetensors"
    save_file(CLASSIFIERS["squeezenet"]().state_dict(), path)
    judge, net = load_classifier("squeezenet", path), regression()
    drawn = batch(side=200, patch=36, block=36)
    loss = only("perceptual-l1", l1=0.5, perceptual=2.0, weights=str(path))
    sr = net(drawn.lr, drawn.coord, drawn.cell)
    a, b = (x.reshape(2, 36, 36, 3).permute(0, 3, 1, 2) * 0.5 + 0.5 for x in (sr, drawn.hr))
    expected = 0.5 * (sr - drawn.hr).abs().mean() + 2 * judge(a, b)
    torch.testing.assert_close(loss(net, drawn), expected)
    loss(net, drawn).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())
    with pytest.raises(PresetError, match="at least 0"):
        only("perceptual-l1", perceptual=-1.0, weights=str(path))
