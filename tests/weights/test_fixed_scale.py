"""Networks for one factor, as people share them: any size, tiles, import, and files that are none."""

import json
import pickle
import re
import sys
import warnings
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from srcli import Upscaler
from srcli.batch.loading import Model
from srcli.config.presets import load_preset
from srcli.engine.load import load_upscaler
from srcli.evaluate.cost import flops_per_pixel
from srcli.geometry import Size
from srcli.weights.checkpoint import load, network_shapes
from srcli.weights.files import metadata, sha256
from tests.helpers.cli import refusal, run
from tests.helpers.rendering import render
from tests.models.test_real_esrgan import official

spandrel = pytest.importorskip("spandrel")

SWIN = {"num_heads": [2], "upscale": 2, "upsampler": "pixelshuffledirect"}
NETWORKS = {  # architecture -> arguments, factor, the bias of its colours
    "SPAN": ({"num_in_ch": 3, "num_out_ch": 3, "feature_channels": 8}, 4, "upsampler.0.bias"),
    "Compact": ({"num_feat": 8, "num_conv": 2}, 4, None),
    "ESRGAN": ({"num_filters": 8, "num_blocks": 1, "scale": 2}, 2, "model.7.bias"),
    "PLKSR": ({"dim": 8, "n_blocks": 2, "upscaling_factor": 2, "kernel_size": 5}, 2, None),
    "SAFMN": ({"dim": 8, "n_blocks": 1, "upscaling_factor": 2}, 2, "to_img.0.bias"),
    "MoSR": ({"dim": 8, "n_block": 2, "upscale": 2}, 2, "upsampler.0.bias"),
    "DITN": ({"dim": 8, "ITL_blocks": 1, "SAL_blocks": 1, "upscale": 2}, 2, "upsample.0.bias"),
    "DnCNN": ({"in_nc": 3, "out_nc": 3, "nc": 8, "nb": 4}, 1, None),
    "RCAN": ({"scale": 2, "n_resgroups": 1, "n_resblocks": 1, "n_feats": 8, "reduction": 2, "norm": False}, 2, None),
    "OmniSR": ({"num_feat": 8, "up_scale": 2}, 2, "up.0.bias"),
    "DAT": ({**SWIN, "embed_dim": 16, "split_size": [4, 8], "depth": [1]}, 2, "upsample.0.bias"),
    "SwinIR": ({**SWIN, "embed_dim": 8, "depths": [2], "window_size": 8}, 2, "upsample.0.bias"),
}  # fmt: skip
EXACT = ("SPAN", "Compact", "ESRGAN", "PLKSR", "SAFMN", "MoSR", "DITN", "DnCNN")


def released(folder, name, suffix=".pth", **changed):
    """The file of a random network in its authors' layout."""
    args, factor, bias = NETWORKS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = getattr(import_module(f"spandrel.architectures.{name}"), name)(**{**args, **changed})
    state = {key: value.clone() for key, value in network.state_dict().items()}
    if bias:
        state[bias] += 0.5
    path = folder / f"{factor}x-{name}{suffix}"
    if suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save({"params_ema": state}, path)
    return path


def whole(path, lr):
    """What spandrel makes of a picture (1, 3, h, w) with a file, (H, W, 3)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = spandrel.ModelLoader().load_from_file(path)
    return network(lr)[0].permute(1, 2, 0).numpy()


def pixels_of(path):
    """A picture (3, h, w) in [0, 1]."""
    with Image.open(path) as image:
        return torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255


@pytest.fixture
def photo(tmp_path):
    y, x = np.mgrid[:23, :31]
    pixels = 127 + 100 * np.stack([np.sin(x / 4), np.cos(y / 3), np.sin((x + y) / 5)], axis=-1)
    Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.mark.parametrize("name", NETWORKS)
def test_any_architecture_gives_its_own_picture_and_any_size(tmp_path, photo, name):
    path = released(tmp_path, name)
    before = f"{path}+rlfn-native" if NETWORKS[name][1] == 1 else path
    run("upscale", photo, "-s", "2.7", "-m", before, "-o", tmp_path / "large.png")
    assert pixels_of(tmp_path / "large.png").shape == (3, 62, 84)
    factor, lr = NETWORKS[name][1], torch.rand(1, 3, 23, 31)
    made, _ = render(load_upscaler(path, device="cpu"), lr, Size(23 * factor, 31 * factor))
    wanted = whole(path, lr)
    assert wanted.std() > 0.01
    np.testing.assert_allclose(made, wanted, atol=2e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_tiles_give_the_whole_networks_picture_or_say_that_they_do_not_quite(tmp_path, name):
    path, factor = released(tmp_path, name), NETWORKS[name][1]
    size = (34, 300) if len(name) % 2 else (300, 34)
    lr = torch.rand(1, 3, *size)
    made, stats = render(load_upscaler(path, device="cpu", tile=64), lr, Size(*(factor * n for n in size)))
    assert stats.tiles == 5
    exact = not any("128 LR pixels of context; results differ slightly" in note for note in stats.notes)
    assert exact == (name in EXACT)
    np.testing.assert_allclose(made, whole(path, lr), atol=2e-4 if exact else 0.04)


def test_a_network_that_must_not_be_cut_is_one_tile(tmp_path, monkeypatch):
    path = released(tmp_path, "Compact")
    init = spandrel.ImageModelDescriptor.__init__
    internal = {"tiling": spandrel.ModelTiling.INTERNAL}
    monkeypatch.setattr(
        spandrel.ImageModelDescriptor, "__init__", lambda self, *a, **k: init(self, *a, **{**k, **internal})
    )
    _, stats = render(load_upscaler(path, device="cpu", tile=64), torch.rand(1, 3, 70, 200), Size(140, 400))
    assert stats.tiles == 1


def test_gradients_go_through(tmp_path):
    lr = torch.rand(1, 3, 20, 20, requires_grad=True)
    load_upscaler(released(tmp_path, "MoSR"), device="cpu").upscale(lr, 1.5).sum().backward()
    assert lr.grad.abs().sum() > 0


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_an_imported_network_has_a_licence_and_gives_the_same_picture(tmp_path, photo, monkeypatch, suffix):
    monkeypatch.setenv("SRCLI_MODELS_DIR", str(tmp_path / "models"))
    path = released(tmp_path, "SPAN", suffix)
    assert "licence" in refusal("models", "import", path)
    run("models", "import", path, "--license", "mit")
    made = tmp_path / "models/4x-SPAN.safetensors"
    assert metadata(made)["license"] == "MIT"
    about = json.loads(run("models", "info", made, "--json").stdout)
    assert (about["title"], about["scales"], about["license"]) == ("SPAN x4", [4, 4], "MIT")
    assert about["sha256"] == sha256(made)
    for model, output in ((path, "before.png"), (made, "after.png")):
        run("upscale", photo, "-s", "1.9", "-m", model, "-o", tmp_path / output)
    assert torch.equal(pixels_of(tmp_path / "before.png"), pixels_of(tmp_path / "after.png"))
    run("models", "import", made, "--license", "Apache-2.0", "-o", tmp_path / "again.safetensors")
    assert metadata(tmp_path / "again.safetensors")["license"] == "Apache-2.0"
    assert "not merged" in refusal("models", "merge", made, made, "-o", tmp_path / "merged.safetensors")
    assert "commercial" in refusal("upscale", photo, "-m", path, "--license", "commercial")


def test_an_imported_network_is_a_model_of_its_name(tmp_path, photo, monkeypatch):
    monkeypatch.setenv("SRCLI_MODELS_DIR", str(tmp_path / "models"))
    done = run("models", "import", released(tmp_path, "SPAN"), "--license", "MIT")
    assert "--model 4x-SPAN" in done.stderr
    assert "of the code MIT, Apache-2.0 or public domain" in done.stderr
    assert re.search(r"^  4x-SPAN +\d.* MB +MIT .* SPAN x4", run("models", "list").stdout, re.MULTILINE)
    run("upscale", photo, "-s", "2", "-m", "4x-SPAN", "-o", tmp_path / "large.png")
    assert pixels_of(tmp_path / "large.png").shape == (3, 46, 62)
    assert "4x-SPAN" in run("models", "verify").stdout


def test_a_network_that_keeps_the_size_comes_before_another(tmp_path, photo):
    first, other = released(tmp_path, "DnCNN"), released(tmp_path, "Compact")
    line = refusal("upscale", photo, "-s", "4", "-m", first, "-o", tmp_path / "no.png", code=2)
    assert "keeps the size" in line
    assert "-m 1x-DnCNN.pth+rlfn-native" in line
    assert "before '+'" in refusal(
        "upscale", photo, "-m", f"{other}+{first}", "-o", tmp_path / "no.png", code=2
    )
    assert "diffusion" in refusal(
        "upscale", photo, "-m", f"{first}+fplia-small", "-o", tmp_path / "no.png", code=2
    )
    assert not (tmp_path / "no.png").exists()
    run("upscale", photo, "-s", "1", "-m", first, "-o", tmp_path / "same.png")
    wanted = whole(first, pixels_of(photo)[None]).clip(0, 1)
    np.testing.assert_allclose(pixels_of(tmp_path / "same.png").permute(1, 2, 0), wanted, atol=0.6 / 255)
    lr = torch.rand(1, 3, 23, 31)
    clean = torch.from_numpy(whole(first, lr)).permute(2, 0, 1)[None].clamp(0, 1)
    both = load_upscaler(f"{first}+{other}", device="cpu")
    np.testing.assert_allclose(
        both.upscale(lr, 4)[0].permute(1, 2, 0), whole(other, clean).clip(0, 1), atol=2e-4
    )
    lr.requires_grad_()
    slow = both.upscale(lr, 4)
    torch.testing.assert_close(slow.detach(), both.upscale(lr.detach(), 4), atol=1e-3, rtol=0)
    assert both.preset.name == "1x-DnCNN+4x-Compact"
    alone = load_upscaler(other, device="cpu")
    assert both.weights_sha256 not in (
        alone.weights_sha256,
        load_upscaler(first, device="cpu").weights_sha256,
    )
    assert Model(both.preset).weights_sha256() == both.weights_sha256
    run("models", "import", first, "--license", "CC-BY-NC-4.0", "-o", tmp_path / "nc.safetensors")
    chain = f"{tmp_path / 'nc.safetensors'}+rlfn-native"
    assert "CC-BY-NC-4.0 AND Apache-2.0" in refusal("upscale", photo, "-m", chain, "--license", "commercial")


def test_operations_are_counted_and_times_measured(tmp_path, photo, monkeypatch):
    monkeypatch.setenv("SRCLI_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("SRCLI_MODELS_DIR", str(tmp_path / "models"))
    run("models", "import", released(tmp_path, "Compact"), "--license", "MIT")
    # 3 -> 8, 8 -> 8 twice, 8 -> 48 channels, 3x3 each, for 16 pixels
    assert flops_per_pixel("4x-Compact", 4.0) == pytest.approx(2 * 9 * (24 + 64 + 64 + 384) / 16, rel=1e-3)
    (tmp_path / "data").mkdir()
    Image.open(photo).save(tmp_path / "data/photo.png")
    words = ("eval", "--data", tmp_path / "data", "-s", "2", "-m", "4x-Compact")
    assert "4x-Compact" in run(*words, "--timing", "1").stdout
    run(*words, "-o", tmp_path / "rows.json")
    done = run("pareto", tmp_path / "rows.json", "--x", "flops", "--y", "psnr")
    assert "4x-Compact" in done.stdout


def test_what_a_file_is_can_be_asked(tmp_path):
    path = released(tmp_path, "Compact")
    assert "RealESRGAN Compact x4" in run("info", path).stdout
    assert "(architecture RealESRGAN Compact, factor 4)" in run("models", "info", path).stdout


def test_measuring_comparing_and_batches_take_it(tmp_path, photo, monkeypatch):
    path = released(tmp_path, "Compact")
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        (folder / name).write_bytes(photo.read_bytes())
    run("upscale", folder, "-s", "2.7", "-m", path, "-o", tmp_path / "large")
    assert [pixels_of(each).shape for each in (tmp_path / "large").iterdir()] == [(3, 62, 84)] * 2
    monkeypatch.setenv("SRCLI_CACHE_DIR", str(tmp_path / "cache"))
    words = ("eval", "--data", folder, "-s", "2.5", "-m", path, "--metrics", "psnr", "--format", "csv")
    assert "4x-Compact" in run(*words, "--timing", "1").stdout
    run("compare", photo, "-s", "2", "-m", path, "-m", "bicubic", "-o", tmp_path / "page.html")
    assert "4x-Compact" in (tmp_path / "page.html").read_text("utf-8")


class Code:
    def __reduce__(self):
        return (Path.touch, (Path("was-here"),))


def test_files_that_are_none_are_refused_in_a_line(tmp_path, photo, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_file({"model.layers.0.self_attn.q_proj.weight": torch.zeros(8, 8)}, "words.safetensors")
    (tmp_path / "code.pth").write_bytes(pickle.dumps({"params": Code()}))
    torch.save({"params": {"a": 1}}, "empty.pth")
    (tmp_path / "cut.pth").write_bytes(released(tmp_path, "Compact").read_bytes()[:2000])
    fits_not = torch.load(released(tmp_path, "MoSR"))["params_ema"]
    torch.save(dict(list(fits_not.items())[:-1]), "part.pth")
    (tmp_path / "grey").mkdir()
    grey = released(tmp_path / "grey", "DnCNN", in_nc=1, out_nc=1)
    for file, words in {
        "words.safetensors": "no architecture that spandrel knows",
        "code.pth": "would run code",
        "empty.pth": "no architecture",
        "cut.pth": "no checkpoint, or is damaged",
        "part.pth": "part.pth",
        grey: "1 channels to 1",
        "absent.pth": "does not exist",
    }.items():
        assert words in refusal("upscale", photo, "-m", file, "-o", "large.png")
    assert not (tmp_path / "was-here").exists()
    assert not (tmp_path / "large.png").exists()
    assert "fits no preset" in refusal("models", "import", "words.safetensors", "--license", "MIT")


def test_without_spandrel_its_extra_is_named(tmp_path, photo, monkeypatch):
    path = released(tmp_path, "Compact")
    monkeypatch.setitem(sys.modules, "spandrel", None)
    assert 'pip install "srcli[zoo]"' in refusal("upscale", photo, "-m", path, code=5)
    assert 'pip install "srcli[zoo]"' in refusal("models", "import", path, "--license", "MIT")


def test_networks_of_the_extra_package_join_where_it_is_installed(tmp_path, monkeypatch):
    asked = []
    extra = SimpleNamespace(install=lambda **how: asked.append(how))
    monkeypatch.setitem(sys.modules, "spandrel_extra_arches", extra)
    load(released(tmp_path, "Compact"))
    assert {"ignore_duplicates": True} in asked


def test_what_is_saved_from_memory_is_read_again(tmp_path):
    own = Upscaler.from_preset(released(tmp_path, "SAFMN"), device="cpu")
    own.preset = replace(own.preset, weights=replace(own.preset.weights, license="MIT"))
    own.save_pretrained(tmp_path / "folder")
    lr = torch.rand(1, 3, 20, 24)
    again = Upscaler.from_pretrained(tmp_path / "folder", device="cpu")
    assert torch.equal(own.upscale(lr, 1.7), again.upscale(lr, 1.7))


def test_real_esrgan_through_this_door_is_the_preset(tmp_path, photo):
    ours = load("real-best").network.encoder
    state = {official(f"encoder.{key}"): value for key, value in ours.state_dict().items()}
    save_file({key: value.half() for key, value in state.items()}, tmp_path / "RealESRGAN.safetensors")
    other = load(tmp_path / "RealESRGAN.safetensors")
    assert other.preset.title == "ESRGAN x4"
    lr = pixels_of(photo).unsqueeze(0)[..., :16, :16]
    with torch.inference_mode():
        torch.testing.assert_close(other.network.encoder(lr), ours(lr).clamp(0, 1), atol=2e-3, rtol=0)


def test_what_srcli_has_itself_and_spandrel_does_not_know(tmp_path, photo):
    rlfn = {
        key.removeprefix("encoder."): torch.zeros(shape)
        for key, shape in network_shapes(load_preset("rlfn-x4")).items()
    }
    save_file(rlfn, tmp_path / "rlfn.safetensors")
    line = refusal("upscale", photo, "-m", tmp_path / "rlfn.safetensors")
    assert "no architecture that spandrel knows" in line
    assert "models import" in line
