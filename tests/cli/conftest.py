"""A folder to work in, pictures, a tiny model, and `srcli upscale` with or without its network."""

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from srcli.batch.loading import Model
from srcli.cli import app
from srcli.geometry import Size
from srcli.image.resize import resize
from tests.helpers.rendering import StandIn

SETTINGS = ("SRCLI_DEVICE", "SRCLI_OFFLINE", "SRCLI_NO_PROVENANCE")


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """A weights file of a small network with random weights."""
    import torch

    from srcli.config.presets import parse_preset
    from srcli.weights.build import build
    from srcli.weights.checkpoint import save

    table = {
        "title": "Tiny",
        "encoder": {"name": "edsr", "n_resblocks": 1, "n_feats": 8, "mean_shift": False},
        "decoder": {"name": "blend", "width": 8, "hidden": [8]},
        "weights": {"license": "CC-BY-NC-4.0"},
    }
    preset = parse_preset(table, name="tiny")
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save(path, build(preset), preset)
    return path


@pytest.fixture(scope="session")
def fplia(tmp_path_factory):
    """A weights file of a tiny FPLIA with random weights."""
    from srcli.config.presets import parse_preset
    from srcli.weights.checkpoint import save as save_weights
    from tests.engine.test_latent import TINY, engine

    preset = parse_preset({**TINY, "training": {"experimental": True}}, name="tiny-fplia")
    path = tmp_path_factory.mktemp("model") / "tiny-fplia.safetensors"
    save_weights(path, engine().network, preset)
    return path


class Bicubic(StandIn):
    """A stand-in for the network; remembers what it was asked for.

    Attributes:
        calls: (input size, output size) of every picture.
        fail: raised in the middle of a picture whose width is `fail_at`.
    """

    def __init__(self):
        self.calls = []
        self.fail = None
        self.fail_at = None

    def rows(self, source, target, request, stats):
        size = Size(*source.size)
        self.calls.append((size, target))
        stats.tile = size
        picture = resize(np.ascontiguousarray(source.strip(0, size.h)), target, kernel="bicubic")
        for top in range(0, target.h, 7):
            if self.fail is not None and size.w == self.fail_at and top > 0:
                raise self.fail
            yield picture[top : top + 7]
            if request.report is not None:
                request.report(min(top + 7, target.h) / target.h)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working directory, away from what the person running the tests has set."""
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SRCLI_MODELS_DIR", str(tmp_path / "models"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.fixture
def in_place(monkeypatch):
    """`in_place(engine)` puts a stand-in in the place of the network, and gives it back."""

    def put(engine, of="srcli.cli.upscale.loaded"):
        monkeypatch.setattr(of, lambda *_: engine)
        return engine

    return put


@pytest.fixture
def engine(in_place):
    """The stand-in, in place of the network."""
    return in_place(Bicubic())


@pytest.fixture
def upscale(folder, model):
    """`upscale(*words)` runs `srcli upscale` with the tiny model; `data` is standard input."""

    def run(*words, data=None, use=model, **env):
        words = ["upscale", "--model", str(use), *map(str, words)]
        return CliRunner().invoke(app, words, input=data, env=env)

    return run


class BicubicModel(Model):
    """A model without weights, whose network is `Bicubic`."""

    def weights_sha256(self):
        return "0" * 64

    def load(self, _device):
        return Bicubic()


def picture(height=20, width=30, *, mode="RGB", top=255):
    """A smooth picture (h, w, c), uint8 or, for a larger `top`, uint16."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [x / width, y / height, (x + y) / (width + height), 0.2 + 0.8 * x / width]
    wanted = {"L": planes[:1], "LA": [planes[0], planes[3]], "RGB": planes[:3], "RGBA": planes}[mode]
    return (np.stack(wanted, -1) * top).astype(np.uint8 if top < 256 else np.uint16)


def save(path, samples, **options):
    """Write samples as a picture, with folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(samples[..., 0] if samples.shape[2] == 1 else samples).save(path, **options)
    return path


def listing(folder):
    """Every file below a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def size_of(path):
    """(width, height) of a picture."""
    with Image.open(path) as opened:
        return opened.size


def kind_of(path):
    """Format and mode of a picture, in Pillow's words."""
    with Image.open(path) as opened:
        return opened.format, opened.mode
