"""What is installed is used, and fits together."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from srcli.cli import app
from srcli.evaluate import diagnosis as doctor

ROOT = Path(__file__).parents[1]
MODULES = {"torch-fidelity": "torch_fidelity"}
NOT_IMPORTED = {
    "accelerate": "starts the processes of `srcli train`, which need nothing of it",
    "imagecodecs": "tifffile imports it",
    "mkdocs-material": "builds the site of docs/",
}


def test_every_optional_package_is_imported_or_has_a_reason():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    code = "\n".join(path.read_text("utf-8") for path in (ROOT / "srcli").rglob("*.py"))
    for extra, packages in extras.items():
        for package in packages:
            name = re.match(r"[\w-]+", package)[0]
            if extra == "dev" or name in NOT_IMPORTED:
                continue
            module = MODULES.get(name, name)
            assert re.search(rf"(import|from) (torch\.utils\.)?{module}\b", code), (
                f"nothing imports {name} of [{extra}]"
            )


def test_torch_and_torchvision_belong_together():
    """In the environment that the README's commands make, and CI with them."""
    import torch
    import torchvision

    boxes = torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 2.1], [5, 5, 6, 6]])
    assert torchvision.ops.nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5).tolist() == [0, 2]
    assert doctor._check_pair().ok


def test_doctor_names_a_pair_that_does_not_fit(tmp_path, monkeypatch):
    (tmp_path / "torchvision.py").write_text(MISFIT)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 7
    words = " ".join(result.output.split())
    assert re.search(r"torch \d\S+ and torchvision \d\S+ do not belong together.*pip install", words)


MISFIT = 'raise RuntimeError("operator torchvision::nms does not exist")'
PLAIN = """
import sys
from srcli import Upscaler
from srcli.engine import memory_plan
Upscaler.from_preset("real-fast", device="cpu")
assert "diffusers" not in sys.modules
from srcli.errors import ResourceError
try:
    Upscaler.from_preset("fplia-small", device="cpu")
except ResourceError as error:
    print(error)
"""


def test_a_pair_that_does_not_fit_stops_only_what_needs_it(tmp_path):
    (tmp_path / "torchvision.py").write_text(MISFIT)
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    done = subprocess.run([sys.executable, "-c", PLAIN], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "do not belong together" in done.stdout
    assert "all else works" in done.stdout


@pytest.mark.parametrize("word", ["torch==", "index-url"])
def test_the_readme_names_no_half_of_a_pair(word):
    assert word not in (ROOT / "README.md").read_text("utf-8")
