"""The house keeps its promises: the user's own choices, its limits, and a newcomer's first decoder and metric."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from srcli import cli
from srcli.cli import app
from srcli.config.presets import load_preset
from srcli.geometry import Grid, Size
from srcli.metrics import METRICS
from srcli.models.decoders import DECODERS
from srcli.models.layers import grid_coord
from srcli.models.sr import Frame
from srcli.weights.build import build
from srcli.weights.checkpoint import save
from tests.benchmarks import gpu

ROOT = Path(__file__).parents[1]
CHOSEN = {"typer", "rich", "torch", "diffusers", "lpips", "PIL", "numpy", "cv2"}
COMMANDS = {"upscale", "train", "eval", "sweep-temperature", "pareto"}


def run(*words, code=0):
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == code, result.output + str(result.exception)
    return result


def test_the_five_commands_and_the_top_level_are_there():
    assert cli.COMMANDS.keys() >= COMMANDS
    for name in ("pyproject.toml", "README.md", "srcli", "tests", "presets", "LICENSE"):
        assert (ROOT / name).exists(), name


def test_modules_have_at_most_400_lines_and_functions_60():
    long = {}
    for path in (ROOT / "srcli").rglob("*.py"):
        text = path.read_text("utf-8")
        assert text.count("\n") <= 400, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno >= 60:
                long[node.name] = node.end_lineno - node.lineno + 1
    assert long == {}


def test_the_chosen_libraries_are_imported_by_code_that_runs():
    imported = set()
    for path in (ROOT / "srcli").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module.partition(".")[0])
            elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "import_module":
                imported |= {arg.value for arg in node.args if isinstance(arg, ast.Constant)}
    assert imported >= CHOSEN
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    names = {re.match(r"[\w-]+", line)[0] for line in declared}
    assert names >= {"typer", "rich", "torch", "diffusers", "lpips", "pillow", "numpy", "opencv-python"}


@pytest.mark.parametrize(
    "does", ["import srcli", "from srcli.cli import app; app(['--help'], standalone_mode=False)"]
)
def test_torch_waits_until_it_is_needed(does):
    code = f"import sys; {does}; assert not {{'torch', 'diffusers', 'cv2', 'pyvips'}} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_a_plain_run_imports_no_more_than_it_needs(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "in.png")
    words = ["upscale", "in.png", "-s", "2", "-o", "out.png", "-q"]
    code = f"import sys; from srcli.cli import app; app({words}, standalone_mode=False); print(*sys.modules)"
    loaded = set(subprocess.check_output([sys.executable, "-c", code], cwd=tmp_path, text=True).split())
    assert "torch" in loaded
    others = {"diffusers", "transformers", "torchvision", "scipy", "lpips", "matplotlib", "rich", "spandrel"}
    others |= {"onnx", "onnxruntime", "huggingface_hub", "imagecodecs", "tifffile", "sympy", "torch._dynamo"}
    assert not loaded & others
    assert {m for m in loaded if m.startswith("srcli.models.decoders.")} == {"srcli.models.decoders.native"}


def test_the_script_for_gpus_runs(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--device", "cpu", "--quick"])
    gpu.main()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert all("bf16" in line or "ms" in line for line in lines)


def test_a_benchmark_is_measured_by_its_name(tmp_path, monkeypatch):
    monkeypatch.setenv("SRCLI_CACHE_DIR", str(tmp_path / "cache"))
    folder = tmp_path / "data/Urban100/HR"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (12, 12, 3), np.uint8)).resize((48, 48)).save(folder / "img_001.png")
    words = ("--bench", "Urban100", "--data", tmp_path / "data", "-s", "2", "-m", "bicubic", "--json")
    (row,) = json.loads(run("eval", *words).stdout)["rows"]
    assert 10 < row["psnr-y"] < 60


def test_a_shell_loop_knows_which_pictures_failed(tmp_path):
    Image.new("RGB", (8, 8), (40, 90, 200)).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"no picture")
    loop = f'for f in bad.png good.png; do "{sys.executable}" -m srcli upscale "$f" -s 2 -q 2> e; echo "$f $?"; done'
    done = subprocess.run(
        ["sh", "-c", loop], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.stdout.split("\n")[:2] == ["bad.png 1", "good.png 0"]
    assert (tmp_path / "good_x2.png").exists()
    assert not (tmp_path / "bad_x2.png").exists()


def blocks(kind):
    return re.findall(rf"```{kind}\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text("utf-8"), re.DOTALL)


@pytest.fixture
def newcomer(tmp_path, monkeypatch):
    """What CONTRIBUTING.md says: one file, one line, one preset, here outside the package."""
    file, line = blocks("python")
    names: dict = {}
    exec(compile(file, "nearest_mlp.py", "exec"), names)
    key, value = re.match(r'\s*"([\w-]+)": "\.nearest_mlp:(\w+)",', line).groups()
    monkeypatch.setitem(DECODERS, key, names[value])
    monkeypatch.setenv("SRCLI_PRESETS_DIR", str(tmp_path))
    monkeypatch.setenv("SRCLI_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "edsr-nearest-mlp.toml").write_text(blocks("toml")[0], "utf-8")
    torch.manual_seed(0)
    preset = load_preset("edsr-nearest-mlp")
    path = tmp_path / "weights.safetensors"
    save(path, build(preset), preset)
    return path


def test_a_new_decoder_answers_a_grid_as_it_answers_points(newcomer):
    network = build(load_preset("edsr-nearest-mlp")).eval()
    lr, target = torch.rand(1, 3, 9, 11), Size(21, 30)
    with torch.no_grad():
        feat, frame = network.encoder(lr), Frame.of_grid(lr, target)
        prepared = network.decoder.prepare(feat, lr, frame)
        grid = Grid.of(Size(9, 11), target)
        points = network.decoder.query(prepared, grid_coord(grid, lr))
        assert torch.allclose(
            network.decoder.render(prepared, grid), points.mT.reshape(1, 3, *target), atol=1e-5
        )


def test_a_new_decoder_tiles_upscales_trains_and_is_measured(newcomer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for i in range(3):
        picture = Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).resize((96, 96))
        picture.save(tmp_path / f"photos/p{i}.png")
    picture.crop((0, 0, 40, 30)).save("in.png")
    run("upscale", "in.png", "-m", newcomer, "-s", "2.3", "-o", "whole.png", "--tile", "none", "-q")
    run("upscale", "in.png", "-m", newcomer, "-s", "2.3", "-o", "tiles.png", "--tile", "16", "-q")
    whole, tiles = (np.asarray(Image.open(name)).astype(int) for name in ("whole.png", "tiles.png"))
    assert whole.shape == (69, 92, 3)
    assert np.abs(whole - tiles).max() <= 1
    recipe = 'preset = "edsr-nearest-mlp"\n[data]\npatch = 12\nqueries = 16\n[optim]\nsteps = 2\nbatch = 2\n'
    (tmp_path / "new.toml").write_text(recipe, "utf-8")
    run("train", "--recipe", "new.toml", "--data", "photos", "--out", "run", "-q")
    assert (tmp_path / "run/last.safetensors").exists()
    run("upscale", "in.png", "-m", "run/last.safetensors", "-s", "2", "-o", "trained.png", "-q")


def test_a_new_metric_is_a_function_and_an_entry(tmp_path, monkeypatch):
    monkeypatch.setenv("SRCLI_CACHE_DIR", str(tmp_path / "cache"))
    toy = replace(METRICS["psnr"], name="worst", measure=lambda s: float(np.abs(s.sr - s.hr).max()), unit="")
    monkeypatch.setitem(METRICS, "worst", toy)
    folder = tmp_path / "data/Set5/HR"
    folder.mkdir(parents=True)
    Image.new("RGB", (24, 24), (10, 20, 30)).save(folder / "a.png")
    words = ("--bench", "Set5", "--data", tmp_path / "data", "-s", "2", "-m", "bicubic", "--metrics", "worst")
    (row,) = json.loads(run("eval", *words, "--json").stdout)["rows"]
    assert row["worst"] == pytest.approx(0, abs=1e-6)
