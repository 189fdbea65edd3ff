"""What the command line must not import to answer a simple question."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

HEAVY = (
    "torch", "torchvision", "numpy", "cv2", "scipy", "diffusers", "lpips", "PIL", "matplotlib",
    "huggingface_hub",
)  # fmt: skip
BESIDE_TORCH = (  # what enlarging by the default has no use for, some of it a second to import
    "torchvision", "cv2", "scipy", "diffusers", "transformers", "lpips", "matplotlib", "huggingface_hub", "sympy",
    "torch._dynamo", "torch._inductor", "torch.utils.flop_counter", "onnx", "spandrel", "ray",
)  # fmt: skip
PROGRAM = """
import sys
sys.argv = ["srcli", *{args!r}]
from srcli.cli import main
try:
    main()
except SystemExit as end:
    assert end.code in (0, None), end.code
heavy = [name for name in {heavy!r} if name in sys.modules]
print("HEAVY", *heavy, file=sys.stderr)
"""


@pytest.mark.parametrize(
    "args",
    [
        ["--help"],
        ["--version"],
        ["models", "list"],
        ["models", "list", "--json"],
        ["models", "info", "edsr-baseline-blend"],
        ["models", "path"],
    ],
    ids=" ".join,
)
def test_light_commands_import_nothing_heavy(args):
    program = PROGRAM.format(args=args, heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "HEAVY"
    assert done.stdout


@pytest.mark.parametrize("side", [40, 8])  # measured for damage, and too small for it
def test_enlarging_imports_torch_and_little_else(tmp_path, side):
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    args = ["upscale", str(tmp_path / "photo.png"), "-s", "2"]
    program = PROGRAM.format(args=args, heavy=("torch", *BESIDE_TORCH))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == "HEAVY torch"
    assert (tmp_path / "photo_x2.png").is_file()


def test_the_check_sees_a_heavy_import():
    program = PROGRAM.format(args=["--version"], heavy=("srcli.cli", "torch"))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == "HEAVY srcli.cli"


def test_plain_modules_import_nothing_heavy():
    program = (
        "import sys, srcli, srcli.errors, srcli.config.presets, srcli.weights, srcli.weights.files, srcli.weights.official,"
        f"srcli.weights.convert, srcli.weights.download; print(*[n for n in {HEAVY!r} if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize(("args", "code"), [(["--version"], 0), (["upscale", "nonesuch.png"], 3)])
def test_the_process_ends_without_taking_down_its_libraries(args, code):
    program = f"""
import atexit, sys, threading, time
class Library:
    def __del__(self):
        print("taken down")
library = Library()
from srcli.__main__ import main
def imported():
    while "srcli.cli" not in sys.modules:
        time.sleep(0.01)
    atexit.register(print, "handler")
threading.Thread(target=imported).start()
sys.argv = ["srcli", *{args!r}]
main()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert done.stdout.splitlines()[-1] == "handler"
