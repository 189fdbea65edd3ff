"""Metrics that look through a network: what is said when it is not here, and LPIPS by its definition."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from srcli.cli import app
from srcli.errors import ModelError
from srcli.files import sha256
from srcli.metrics import METRICS, backbones
from srcli.metrics.iqa import _network as iqa_network
from srcli.metrics.perceptual import _dists_network, dists, lpips, lpips_network


@pytest.fixture
def nothing_here(tmp_path, monkeypatch):
    """A machine without any backbone, and with the networks of earlier tests forgotten."""
    monkeypatch.setenv("SRCLI_MODELS_DIR", str(tmp_path / "models"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("SRCLI_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    for forgotten in (backbones.checked.cache_clear, lpips_network.cache_clear, backbones._named.clear):
        forgotten()
    yield tmp_path
    for forgotten in (backbones.checked.cache_clear, lpips_network.cache_clear, backbones._named.clear):
        forgotten()


def published(monkeypatch, name, path):
    """Let a file be the one that is published as a backbone."""
    about = SimpleNamespace(file=path.name, digits=sha256(path)[:8], url=f"https://example.org/{path.name}")
    monkeypatch.setitem(backbones.BACKBONES, name, about)


def put_picture(folder):
    from PIL import Image

    folder.mkdir()
    values = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(values).save(folder / "a.png")


def evaluate(*words, code):
    result = CliRunner().invoke(app, ["eval", "--data", "hr", "-m", "bicubic", "-s", "2", *words])
    assert result.exit_code == code, result.output
    return result


def test_a_broken_pair_is_named_with_the_command_that_mends_it(nothing_here, monkeypatch):
    put_picture(nothing_here / "hr")
    built_for_another_torch = 'raise RuntimeError("operator torchvision::nms does not exist")'
    (nothing_here / "lpips.py").write_text(built_for_another_torch)
    monkeypatch.syspath_prepend(nothing_here)
    monkeypatch.delitem(sys.modules, "lpips", raising=False)
    (line,) = evaluate("--metrics", "lpips", code=4).stderr.strip().splitlines()
    assert f"torch {backbones.importlib.metadata.version('torch')}" in line
    assert "torchvision" in line
    assert "pip install --force-reinstall torch torchvision" in line
    assert "srcli models pull metrics" in line


def test_lpips_is_left_out_of_the_default_and_the_header_says_so(nothing_here):
    put_picture(nothing_here / "hr")
    text = evaluate(code=0).stdout
    assert "lpips is left out: its backbone alexnet-owt-7be5be79.pth is not here" in text
    header = next(line for line in text.splitlines() if line.startswith("model "))
    assert "psnr-y" in header
    assert "lpips" not in header
    assert METRICS["lpips"].missing() is not None


def test_a_metric_that_was_asked_for_and_has_no_backbone_says_so_in_its_cell(nothing_here):
    put_picture(nothing_here / "hr")
    text = evaluate("--metrics", "psnr,lpips", code=0).stdout
    header, line = (next(x for x in text.splitlines() if x.startswith(w)) for w in ("model ", "bicubic "))
    assert "lpips" in header
    assert "no backbone" in line
    assert "lpips cannot be measured: " in text
    assert "lpips" not in json.loads(evaluate("--metrics", "psnr,lpips", "--json", code=0).stdout)["mean"][0]
    assert "--lpips-backbone FILE" in evaluate("--metrics", "lpips", code=4).stderr
    assert "lpips" in evaluate("--metrics", "psnr", "--fail-under", "lpips=0.2", code=4).stderr


def test_a_local_backbone_is_taken_after_its_hash(nothing_here, monkeypatch):
    put_picture(nothing_here / "hr")
    mine = nothing_here / "mine.pth"
    assert "does not exist" in evaluate("--metrics", "lpips", "--lpips-backbone", "mine.pth", code=4).stderr
    mine.write_bytes(b"not a classifier")
    refused = evaluate("--metrics", "psnr,lpips", "--lpips-backbone", "mine.pth", code=4).stderr
    assert "mine.pth is none of the backbones" in refused
    published(monkeypatch, "alex", mine)
    backbones.use(mine)
    assert backbones.checked("alex") == mine
    assert METRICS["lpips"].missing() == backbones.import_problem("lpips")
    mine.write_bytes(b"replaced")
    backbones.checked.cache_clear()
    with pytest.raises(ModelError, match="not the file it should be"):
        backbones.checked("alex")


def test_backbones_are_found_in_our_folder_and_in_that_of_torch(nothing_here):
    for folder in ("models/metrics/checkpoints", "torch/hub/checkpoints"):
        path = nothing_here / folder / "squeezenet1_1-b8a52dc0.pth"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"other")
        assert backbones.locate("squeeze") == path
        with pytest.raises(ModelError, match="not the file it should be"):
            backbones.checked("squeeze")
        path.unlink()
    with pytest.raises(ModelError, match="srcli models pull metrics"):
        backbones.checked("squeeze")


def test_pull_checks_what_came_and_fetches_nothing_twice(nothing_here, monkeypatch):
    content, asked, folder = b"weights", [], nothing_here / "models/metrics/checkpoints"
    folder.mkdir(parents=True)
    for backbone in backbones.BACKBONES.values():
        (folder / backbone.file).touch()
    (folder / "net.pth").write_bytes(content)
    published(monkeypatch, "alex", folder / "net.pth")
    (folder / "net.pth").unlink()

    def fetch(url, part):
        asked.append(url)
        part.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content)

    assert backbones.pull(fetch)[0] == backbones.pull(fetch)[0] == folder / "net.pth"
    assert asked == ["https://example.org/net.pth"]
    content = b"other"
    with pytest.raises(ModelError, match="another file"):
        backbones.pull(fetch, to=nothing_here / "copy")
    assert list((nothing_here / "copy").iterdir()) == []


def test_pull_offline_says_how_to_get_the_files(nothing_here):
    result = CliRunner().invoke(app, ["models", "pull", "metrics", "--offline"])
    assert result.exit_code == 4
    assert "srcli models pull metrics --to FOLDER" in result.stderr


def slow_lpips(state, linear, a, b):
    """LPIPS of AlexNet from the paper: unit-normalised features, squared differences, weights, mean over pixels."""
    shift = torch.tensor([-0.030, -0.088, -0.188]).reshape(1, 3, 1, 1)
    scale = torch.tensor([0.458, 0.448, 0.450]).reshape(1, 3, 1, 1)
    total = 0.0
    x = [
        (torch.tensor(p * 2 - 1, dtype=torch.float32).permute(2, 0, 1)[None] - shift) / scale for p in (a, b)
    ]
    layers = [(0, 4, 2), (3, 1, 2), (6, 1, 1), (8, 1, 1), (10, 1, 1)]
    for number, (index, stride, padding) in enumerate(layers):
        if index in (3, 6):
            x = [torch.nn.functional.max_pool2d(v, 3, 2) for v in x]
        weight, bias = state[f"features.{index}.weight"], state[f"features.{index}.bias"]
        x = [torch.relu(torch.nn.functional.conv2d(v, weight, bias, stride, padding)) for v in x]
        unit = [v / (v.square().sum(1, keepdim=True).sqrt() + 1e-10) for v in x]
        total += (linear[number].reshape(1, -1, 1, 1) * (unit[0] - unit[1]) ** 2).sum(1).mean()
    return float(total)


def test_lpips_equals_its_definition_with_any_backbone(nothing_here, monkeypatch):
    if problem := backbones.import_problem("lpips"):
        pytest.skip(problem)
    shapes = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}
    state = {}
    for index, (out, inside, side) in shapes.items():
        state[f"features.{index}.weight"] = torch.randn(out, inside, side, side) / (inside * side**2) ** 0.5
        state[f"features.{index}.bias"] = torch.randn(out) / 10
    path = nothing_here / "models/metrics/checkpoints/alexnet-owt-7be5be79.pth"
    path.parent.mkdir(parents=True)
    torch.save({**state, "classifier.1.weight": torch.zeros(1)}, path)
    published(monkeypatch, "alex", path)
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 70, 80, 3))
    linear = [getattr(lpips_network("alex"), f"lin{i}").model[1].weight.detach() for i in range(5)]
    assert lpips(a, b) == pytest.approx(slow_lpips(state, linear, a, b), rel=1e-5)
    assert lpips(a, a) == 0


def test_dists_takes_its_backbone_from_the_checked_file(nothing_here, monkeypatch):
    if problem := backbones.import_problem("torchvision"):
        pytest.skip(problem)
    from torchvision.models import vgg16

    path = nothing_here / "models/metrics/checkpoints/vgg16-397923af.pth"
    path.parent.mkdir(parents=True)
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in vgg16(init_weights=False).state_dict().items()}
    # The classifier has nine numbers of ten, and is not looked at.
    monkeypatch.setattr(torch.nn.Linear, "reset_parameters", lambda _: None)
    state = {key: torch.zeros(()).expand(shape) for key, shape in shapes.items()}
    for key, shape in shapes.items():
        if key.startswith("features.") and len(shape) == 4:
            state[key] = torch.randn(shape) * (2 / shape[1:].numel()) ** 0.5
    torch.save(state, path)
    published(monkeypatch, "vgg", path)
    _dists_network.cache_clear()
    before = torch.hub.get_dir()
    a, b = np.random.default_rng(0).random((2, 64, 80, 3))
    assert dists(a, a) == pytest.approx(0, abs=1e-5)
    assert 0 < dists(a, b) < 1
    assert torch.hub.get_dir() == before
    _dists_network.cache_clear()


def test_metrics_of_pyiqa_carry_their_licence_and_say_how_to_get_them(nothing_here, monkeypatch):
    put_picture(nothing_here / "hr")
    if backbones.import_problem("pyiqa"):
        assert 'pip install "srcli[iqa]"' in evaluate("--metrics", "musiq", code=4).stderr
    asked = []

    def create_metric(name, device):
        asked.append((name, device))
        return lambda x: x.mean() * 100

    monkeypatch.setitem(sys.modules, "pyiqa", SimpleNamespace(create_metric=create_metric))
    iqa_network.cache_clear()
    text = evaluate("--metrics", "musiq,psnr", "--protocol", "rgb", code=0).stdout
    iqa_network.cache_clear()
    assert "PolyForm Noncommercial" in text
    assert asked == [("musiq", "cpu")]
    (line,) = [line for line in text.splitlines() if line.startswith("bicubic")]
    assert 40 < float(line.split()[4]) < 60
