"""What the command line must not import to answer a simple question."""

import subprocess
import sys

import pytest

HEAVY = (
    "torch", "torchvision", "numpy", "cv2", "scipy", "diffusers", "lpips", "PIL", "matplotlib",
    "huggingface_hub",
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
