"""Learning from a self-ensemble: the teacher's mean against turned pictures, and the loss against its formula."""

import numpy as np
import pytest
import torch

from srcli.config.presets import Part, parse_preset
from srcli.data.photos import Photo
from srcli.data.samples import Batch, Sampler, SampleSettings
from srcli.errors import ModelError, PresetError
from srcli.geometry import centres, dihedral
from srcli.train.losses import Teacher, self_ensemble_mean
from srcli.train.objectives import make_objective
from srcli.weights.build import build
from srcli.weights.checkpoint import save
from tests.helpers.flow import tiny_flow
from tests.helpers.presets import TINY

TABLE = TINY | {"pixels": {"mean": 0.5, "std": 0.5}}


def network(seed):
    torch.manual_seed(seed)
    return build(parse_preset(TABLE, name="tiny")).eval()


@pytest.fixture
def teacher(tmp_path):
    path = tmp_path / "teacher.safetensors"
    save(path, network(2), parse_preset(TABLE, name="tiny"))
    return path


def drawn(numbers=(0, 1), **settings):
    rng = np.random.default_rng(0)
    photo = Photo("noise.png", "noise", rng.integers(0, 256, (60, 60, 3), dtype=np.uint8))
    settings = {"patch": 8, "scales": (1.5, 3.0), "queries": 20} | settings
    batch = Sampler([photo], SampleSettings(**settings)).draw(0, 0, numbers)
    return batch._replace(lr=batch.lr * 2 - 1, hr=batch.hr * 2 - 1)


def whole(net, lr, height, width):
    """The picture (height, width, 3) that a network makes of LR (h, w, 3)."""
    y, x = np.meshgrid(centres(height), centres(width), indexing="ij")
    coord = torch.from_numpy(np.stack([y.ravel(), x.ravel()], -1))[None]
    cell = torch.tensor([[2 / height, 2 / width]])
    with torch.no_grad():
        colours = net(torch.from_numpy(lr).permute(2, 0, 1)[None], coord, cell)
    return colours[0].reshape(height, width, 3).numpy()


def test_the_teacher_is_the_mean_of_turned_pictures_turned_back():
    net, (height, width) = network(1), (11, 17)
    lr = np.random.default_rng(1).normal(size=(5, 7, 3)).astype(np.float32)
    places = np.arange(height * width).reshape(height, width, 1)
    mean = np.zeros((height * width, 3))
    for turn in range(8):
        where = dihedral(places, turn)[..., 0]
        mean[where.ravel()] += whole(net, dihedral(lr, turn), *where.shape).reshape(-1, 3) / 8
    y, x = np.meshgrid(centres(height), centres(width), indexing="ij")
    coord = torch.from_numpy(np.stack([y.ravel(), x.ravel()], -1))[None]
    batch = Batch(
        torch.from_numpy(lr).permute(2, 0, 1)[None], torch.zeros(1, height * width, 3), coord,
        torch.tensor([[2 / height, 2 / width]]),
    )  # fmt: skip
    found = self_ensemble_mean(net, batch)[0].numpy()
    assert np.abs(found - mean).max() < 1e-5
    assert np.abs(found - whole(net, lr, height, width).reshape(-1, 3)).max() > 1e-2


@pytest.mark.parametrize("share", [0.0, 0.7, 1.0])
def test_the_loss_is_the_squared_error_to_the_mix(teacher, share):
    net, batch = network(1), drawn()
    (loss,) = make_objective(Part("self-ensemble", {"teacher": str(teacher), "share": share}))
    target = share * self_ensemble_mean(network(2), batch) + (1 - share) * batch.hr
    expected = (net(batch.lr, batch.coord, batch.cell) - target).detach().numpy() ** 2
    assert float(loss(net, batch).detach()) == pytest.approx(float(expected.mean()), rel=1e-5)


def test_a_teacher_is_asked_once_about_samples_that_come_again(teacher):
    teaches, asked = Teacher(str(teacher), 0.9), []
    teaches.network.register_forward_pre_hook(lambda _, given: asked.append(len(given[0])))
    aims = [teaches.target(drawn(numbers)._replace(numbers=numbers)) for numbers in ((0, 1), (1, 2), (0, 2))]
    assert asked == [2] * 8 + [1] * 8
    assert not any(p.requires_grad for p in teaches.network.parameters())
    torch.testing.assert_close(aims[2], teaches.target(drawn((0, 2))))


def patches():
    """Samples with patches of 3x3 pixels, those at edges among them, of pictures of 16x16 pixels."""
    return drawn(scales=(2.0, 2.0), queries=200, shrink=0, around=3)


def taught(batch, net):
    """What a network's self-ensemble makes of the patches (B, Q, 9, 3), cut from its whole picture."""
    y, x = np.meshgrid(centres(16), centres(16), indexing="ij")
    coord = torch.from_numpy(np.stack([y.ravel(), x.ravel()], -1))[None].expand(len(batch.lr), -1, -1)
    pictures = self_ensemble_mean(net, batch._replace(coord=coord, hr=torch.zeros(len(batch.lr), 256, 3)))
    cut = []
    for picture, at in zip(pictures.reshape(-1, 16, 16, 3).numpy(), batch.coord.numpy(), strict=True):
        framed = np.pad(picture, ((1, 1), (1, 1), (0, 0)), mode="edge")
        places = np.rint((at + 1) * 8 - 0.5).astype(int)
        cut.append([framed[row : row + 3, col : col + 3].reshape(9, 3) for row, col in places])
    return torch.from_numpy(np.array(cut))


def test_a_teacher_of_patches_says_what_its_picture_shows_there(teacher):
    batch = patches()
    assert batch.coord.abs().max() > 1 - 0.08  # some lie at the edge
    aim = Teacher(str(teacher), 0.7).target(batch)
    expected = 0.7 * taught(batch, network(2)) + 0.3 * batch.hr
    assert (aim - expected).abs().max() < 1e-5


@torch.no_grad()
def test_the_mean_of_a_flow_aims_at_the_teacher_and_its_density_at_true_colours(teacher):
    _, flow = tiny_flow()
    batch = patches()
    settings = {"loss": "joint", "teacher": str(teacher), "share": 0.7}
    (colours,) = make_objective(Part("linf-stage-2", settings | {"nll": 0.0}))
    aimed = batch._replace(hr=0.7 * taught(batch, network(2)) + 0.3 * batch.hr)
    (plain,) = make_objective(Part("linf-stage-2", {"loss": "joint", "nll": 0.0}))
    assert float(colours(flow, batch)) == pytest.approx(float(plain(flow, aimed)), rel=1e-5)
    (both,) = make_objective(Part("linf-stage-2", settings | {"nll": 1.0}))
    (density,) = make_objective(Part("nll"))
    assert float(both(flow, batch) - colours(flow, batch)) == pytest.approx(
        float(density(flow, batch)), rel=1e-4
    )


@pytest.mark.parametrize(
    ("settings", "error", "match"),
    [
        ({}, PresetError, "teacher"),
        ({"teacher": "edsr-baseline-blend", "share": 1.5}, PresetError, "share"),
        ({"teacher": "rdn-liif"}, ModelError, "rdn-liif"),
        ({"teacher": "no-such-model"}, PresetError, "no-such-model"),
    ],
)
def test_what_cannot_teach_is_refused(settings, error, match, monkeypatch, tmp_path):
    monkeypatch.setenv("SRCLI_MODELS_DIR", str(tmp_path))
    with pytest.raises(error, match=match):
        make_objective(Part("self-ensemble", settings))


def test_a_teacher_that_sees_other_pixels_is_refused(tmp_path):
    other = parse_preset(TABLE | {"pixels": {"mean": 0.4, "std": 0.5}}, name="tiny")
    save(tmp_path / "other.safetensors", build(other), other)
    with pytest.raises(PresetError, match="mean and standard deviation"):
        make_objective(Part("self-ensemble", {"teacher": str(tmp_path / "other.safetensors")}))
