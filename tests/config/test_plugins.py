"""Plug-ins: the example package as it is installed, its decoder as a file alone, and those that do not work."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from srcli.cli import app
from srcli.config import plugins
from srcli.config.plugins import Registry
from srcli.errors import PLUGINS
from srcli.metrics import METRICS
from srcli.models.decoders import DECODERS
from srcli.models.encoders import ENCODERS
from srcli.train.objectives import OBJECTIVES
from tests.helpers.decoders import DIM, check, filled

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs" / "examples" / "plugin"
DECODER = EXAMPLE / "srcli_smooth" / "decoder.py"
RECIPE = """
title = "t"
encoder = {name = "edsr", n_resblocks = 1, n_feats = 8, mean_shift = false}
decoder = {name = "smooth-mlp", hidden = [8]}
data = {patch = 12, queries = 36}
optim = {steps = 2, batch = 2}
"""


@pytest.fixture(autouse=True)
def _as_before(tmp_path, monkeypatch):
    monkeypatch.setenv("SRCLI_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv(plugins.VARIABLE, "")
    monkeypatch.chdir(tmp_path)
    _forget()
    yield
    _forget()


def _forget():
    for table in (ENCODERS, DECODERS, OBJECTIVES, METRICS):
        for name in table.foreign:
            del table[name]
        table.foreign, table.files = set(), ()
    plugins._installed.cache_clear()
    plugins._run.cache_clear()
    PLUGINS.clear()
    for name in [name for name in sys.modules if name.startswith(("srcli_smooth", "srcli_plugin_"))]:
        del sys.modules[name]


@pytest.fixture(scope="session")
def installed(tmp_path_factory):
    """The folder that the example is installed into, as pip does it."""
    pytest.importorskip("setuptools")
    source, target = tmp_path_factory.mktemp("source") / "plugin", tmp_path_factory.mktemp("site")
    shutil.copytree(EXAMPLE, source)
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--no-build-isolation"]
    done = subprocess.run([*pip, "--target", target, source], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for i in range(3):
        picture = Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).resize((96, 96))
        picture.save(tmp_path / f"photos/p{i}.png")
    picture.crop((0, 0, 40, 30)).save(tmp_path / "in.png")
    return tmp_path / "photos"


def run(*words, code=0):
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == code, done.output + str(done.exception)
    return done


def line_of(*words, code):
    (line,) = (line for line in run(*words, code=code).stderr.splitlines() if line.startswith("error: "))
    return line


def plugin(text):
    Path("mine.py").write_text(text, "utf-8")
    return "mine.py"


def pixels(path):
    return np.asarray(Image.open(path)).astype(int)


def use(weights, *before):
    """Enlarge and measure with a weights file."""
    run(*before, "upscale", "in.png", "-m", weights, "-s", "2.3", "-o", "whole.png", "--tile", "none", "-q")
    run(*before, "upscale", "in.png", "-m", weights, "-s", "2.3", "-o", "tiles.png", "--tile", "16", "-q")
    assert pixels("whole.png").shape == (69, 92, 3)
    assert np.abs(pixels("whole.png") - pixels("tiles.png")).max() <= 1


def test_the_installed_example_is_found_by_name_everywhere(installed, photos, monkeypatch):
    monkeypatch.syspath_prepend(str(installed))
    assert "one-conv-smooth" in run("models", "list", "--all").stdout
    assert not any(name.startswith("srcli_smooth.") for name in sys.modules)
    quick = ("--set", "optim.steps=2", "--set", "optim.batch=2", "--set", "data.patch=12", "-q")
    run("train", "--recipe", "smooth", "--data", photos, "-o", "run", *quick)
    use("run/last.safetensors")
    words = (
        "eval",
        "--data",
        photos,
        "-s",
        "2",
        "-m",
        "run/last.safetensors",
        "--metrics",
        "mae",
        "--format",
        "csv",
    )
    assert "mae" in run(*words).stdout
    assert not list(Path("cache").rglob("*.json"))  # of code that may be another tomorrow
    assert "mean absolute error, RGB" in run("eval", "--list-metrics").stdout


def test_its_decoder_keeps_the_contract_of_ours():
    assert len(DECODER.read_text("utf-8").splitlines()) <= 40
    plugins.add_file(DECODER)
    check(filled(DECODERS["smooth-mlp"](in_dim=DIM)))


def test_a_file_trains_enlarges_and_is_measured(photos):
    Path("tiny.toml").write_text(RECIPE, "utf-8")
    shutil.copy(DECODER, "mine.py")
    before = ("--plugin", "mine.py")
    run(*before, "train", "--recipe", "tiny.toml", "--data", photos, "-o", "run", "-q")
    use("run/last.safetensors", *before)
    words = (
        "eval",
        "--data",
        photos,
        "-s",
        "2",
        "-m",
        "run/last.safetensors",
        "--metrics",
        "psnr",
        "--format",
        "csv",
    )
    assert "psnr" in run(*before, *words).stdout
    assert os.environ[plugins.VARIABLE] == str(
        Path("mine.py").absolute()
    )  # which processes of a pool have, too


def test_without_it_the_decoder_is_asked_for(photos):
    Path("tiny.toml").write_text(RECIPE, "utf-8")
    line = line_of("train", "--recipe", "tiny.toml", "--data", photos, "-o", "run", code=2)
    assert "unknown decoder 'smooth-mlp'" in line
    assert "srcli --plugin FILE.py" in line
    assert DECODERS.get("smooth-mlp") is None
    with pytest.raises(KeyError):
        DECODERS["smooth-mlp"]


BODY = "from srcli.models.decoders.blend import Blend\n\nclass Mine(Blend):\n    "
WRONG = {  # a file's text -> words of the error
    "import nothing_like_this\n": ("mine.py, line 1,", "ModuleNotFoundError"),
    "x = 1\ny = x / 0\n": ("mine.py, line 2,", "ZeroDivisionError"),
    "def f(:\n": ("mine.py, line 1,", "SyntaxError"),
    "DECODERS = {'mine': int}\n": ("'mine' is no decoder",),
    f"{BODY}pass\nDECODERS = {{'liif': Mine}}\n": ("there is a decoder 'liif'", "Name it otherwise"),
}


@pytest.mark.parametrize("text", WRONG)
def test_a_plugin_that_cannot_be_used_is_one_line(photos, text):
    line = line_of("--plugin", plugin(text), "upscale", "in.png", "-s", "2", code=2)
    assert all(word in line for word in WRONG[text]), line
    assert not Path("in_x2.png").exists()


RAISES = {  # a method that raises -> the exit code of training
    "__init__(self, *, in_dim: int):\n        raise ValueError('no such thing')\n": 2,
    "query(self, prepared, coord):\n        raise RuntimeError('no such thing')\n": 1,
    "render(self, prepared, grid):\n        return {}['no such thing']\n": 1,
}


@pytest.mark.parametrize("text", RAISES)
def test_a_plugin_that_raises_names_its_line(photos, text):
    file = plugin(f"{BODY}def {text}\nDECODERS = {{'mine': Mine}}\n")
    recipe = RECIPE.replace('name = "smooth-mlp", hidden = [8]', 'name = "mine"').replace(
        "queries = 36", 'queries = 36, held_out = ["p0"]'
    )
    Path("mine.toml").write_text(recipe + "validation = {photos = 1, crop = 32}\n", "utf-8")
    words = ("--plugin", file, "train", "--recipe", "mine.toml", "--data", photos, "-o", "run", "-q")
    line = line_of(*words, code=RAISES[text])
    assert "mine.py, line 5," in line
    assert "no such thing" in line


def test_files_that_are_none(photos):
    assert "does not exist" in line_of("--plugin", "absent.py", "upscale", "in.png", code=3)
    os.environ[plugins.VARIABLE] = "absent.py"
    assert "no Python file" in line_of("upscale", "in.png", code=2)


def test_start_up_looks_for_no_packages():
    code = "from srcli.cli import app; app(['models', 'path', 'rlfn-native'], standalone_mode=False)"
    more = "; import sys; assert 'importlib.metadata' not in sys.modules or not plugins._installed.cache_info().currsize"
    done = subprocess.run(
        [sys.executable, "-c", f"from srcli.config import plugins; {code}{more}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_our_own_names_win_over_a_packages():
    table = Registry("decoder", object, {"blend": 1})
    assert table["blend"] == 1
    assert "blend" in table
    assert plugins._installed.cache_info().currsize == 0
