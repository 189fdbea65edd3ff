"""Attention windows at a point, their picture, and `srcli explain`."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from srcli.cli import app
from srcli.config.presets import parse_preset
from srcli.engine.normalised_image import TensorSource
from srcli.engine.upscaler import Upscaler
from srcli.errors import UsageError
from srcli.evaluate.attention import COLOURS, attention_windows, windows_picture
from srcli.geometry import Size
from srcli.models.sr import Decoder, Frame
from srcli.weights.build import build
from srcli.weights.checkpoint import save
from tests.helpers.presets import EDSR

CLIT = {"name": "lit", "branches": 3, "side": 5, "base_dim": 16, "n_heads": 4, "hidden": [8]}


def preset_of(decoder, encoder=None):
    encoder = encoder or EDSR | {"n_feats": 16}
    return parse_preset({"title": "Tiny", "encoder": encoder, "decoder": decoder}, name="tiny")


def upscaler(decoder, encoder=None):
    preset = preset_of(decoder, encoder)
    torch.manual_seed(1)
    return Upscaler(build(preset), preset, device="cpu")


@pytest.mark.parametrize("at", [(0, 0), (20.3, 11.8), (39.5, 29.5), (-0.5, 14), (12.5, 7.5)])
@pytest.mark.parametrize("scale", [2, 6.3, 17])
def test_windows_are_those_of_the_whole_image(at, scale):
    sr, lr = upscaler(CLIT), torch.rand(1, 3, 30, 40)
    target = Size(round(30 * scale), round(40 * scale))
    windows = attention_windows(sr, TensorSource(lr), at, target)
    with torch.inference_mode():
        x = (lr - 0.5) / 0.5
        prepared = sr.network.decoder.prepare(sr.network.encoder(x), x, Frame.of_grid(x, target))
        coord = torch.tensor([[[(2 * at[1] + 1) / 30 - 1, (2 * at[0] + 1) / 40 - 1]]])
        expected = sr.network.decoder.attention_at(prepared, coord)
    assert len(windows) == len(expected) == {2: 1, 6.3: 2, 17: 3}[scale]
    for window, weights in zip(windows, expected, strict=True):
        np.testing.assert_allclose(window.weights, weights[0, 0], atol=1e-6)
        np.testing.assert_allclose(window.weights.sum((1, 2)), 1, atol=1e-5)
        for place, middle in zip(window.point, window.centre, strict=True):
            assert abs(place - middle) <= 0.5 + 1e-3


def test_encoders_with_windows_see_whole_ones():
    encoder = {"name": "swinir", "embed_dim": 12, "depths": [2], "n_heads": 2, "window": 8}
    sr, lr = upscaler({**CLIT, "side": 3}, encoder), torch.rand(1, 3, 45, 50)
    (window,) = attention_windows(sr, TensorSource(lr), (44, 37), Size(90, 100))
    assert window.weights.shape == (4, 3, 3)


def test_a_point_outside_or_a_network_without_windows_is_refused():
    sr, source = upscaler(CLIT), TensorSource(torch.rand(1, 3, 20, 30))
    for at in ((30, 3), (2, -1), (29.6, 1)):
        with pytest.raises(UsageError, match="outside the 30x20 picture"):
            attention_windows(sr, source, at, Size(40, 60))
    for decoder in ({"name": "blend", "width": 8, "hidden": [8]}, {**CLIT, "attention": False}):
        with pytest.raises(UsageError, match="no attention windows"):
            attention_windows(upscaler(decoder), source, (3, 3), Size(40, 60))


def test_the_picture_shows_every_branch_in_its_colour():
    sr, source = upscaler(CLIT), TensorSource(torch.rand(1, 3, 20, 30))
    windows = attention_windows(sr, source, (3, 17), Size(340, 510))
    content = windows_picture(source, windows, title="x17")
    pixels = np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).reshape(-1, 3)
    for colour in COLOURS:
        wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        assert (pixels == wanted).all(1).sum() > 100
    fewer = windows_picture(source, windows[:1], title="x17")
    assert Image.open(io.BytesIO(fewer)).size < Image.open(io.BytesIO(content)).size


@pytest.fixture
def explain(tmp_path, monkeypatch):
    """`explain(*words)` runs `srcli explain photo.png`."""
    monkeypatch.chdir(tmp_path)
    preset = preset_of(CLIT)
    save(tmp_path / "clit.safetensors", build(preset), preset)
    Image.fromarray((np.random.default_rng(0).random((20, 30, 3)) * 255).astype(np.uint8)).save("photo.png")
    return lambda *words: CliRunner().invoke(app, ["explain", "photo.png", *words])


def test_the_command_writes_a_picture_once(explain, tmp_path):
    done = explain("--at", "3,17.5", "-m", "clit.safetensors", "-s", "6", "--device", "cpu")
    assert done.exit_code == 0, done.output
    assert done.stdout.strip() == "photo_attention.png"
    assert (tmp_path / "photo_attention.png").read_bytes().startswith(b"\x89PNG")
    assert explain("--at", "3,17.5", "-m", "clit.safetensors").exit_code == 6
    again = explain("--at", "3,17.5", "-m", "clit.safetensors", "--overwrite", "--device", "cpu")
    assert again.exit_code == 0


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--at", "3", "-m", "clit.safetensors"], 2, "is no point"),
        (["--at", "30,3", "-m", "clit.safetensors"], 2, "outside"),
        (["--at", "3,3", "-m", "clit.safetensors", "-o", "a.jpg"], 2, "PNG"),
        (["--at", "3,3", "-m", "clit.safetensors", "-s", "0"], 2, "positive"),
        (["--at", "3,3", "-m", "edsr-baseline-lit"], 4, "not here"),
    ],
)
def test_wrong_words_have_their_exit_codes(explain, words, code, said, monkeypatch, tmp_path):
    monkeypatch.setenv("SRCLI_MODELS_DIR", str(tmp_path / "models"))
    done = explain(*words)
    assert done.exit_code == code
    assert said in done.stderr


def test_a_decoder_of_others_may_call_a_part_of_it_attention():
    class Foreign(Decoder):
        def __init__(self):
            super().__init__()
            self.attention = torch.nn.Linear(2, 3)

    assert Foreign().attention.out_features == 3
    assert not Foreign().has_windows
