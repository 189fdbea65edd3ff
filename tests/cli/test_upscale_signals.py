"""Ctrl-C and SIGTERM in the middle of a batch."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.conftest import listing, picture, save

# The second picture takes for ever: between bands, or inside one call that Python cannot interrupt.
SCRIPT = """
import hashlib, sys, time
from srcli.cli import main, upscale
from tests.cli.conftest import Bicubic

class Slow(Bicubic):
    def rows(self, source, target, *, report=None):
        for band in super().rows(source, target, report=report):
            if len(self.calls) > 1:
                print("busy", file=sys.stderr, flush=True)
                if {stuck}:
                    hashlib.pbkdf2_hmac("sha256", b"", b"", 100_000_000)
                while True:
                    time.sleep(0.01)
            yield band

upscale._load = lambda *_: Slow()
main()
"""


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize(
    ("number", "code", "stuck"),
    [
        (signal.SIGINT, 130, True),
        (signal.SIGTERM, 143, False),
        pytest.param(signal.SIGINT, 130, False, marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, 143, True, marks=pytest.mark.slow),
    ],
)
def test_an_interrupt_ends_within_two_seconds_and_leaves_no_partial_file(folder, model, number, code, stuck):
    for name in ("a.png", "b.png", "c.png"):
        save(folder / name, picture())
    words = ["upscale", "a.png", "b.png", "c.png", "-m", str(model), "-o", "out/new/", "--jsonl"]
    root = str(Path(__file__).parents[2])
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(stuck=stuck), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": root},
    )
    assert process.stderr.readline() == "busy\n"
    started = time.monotonic()
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=30)
    assert time.monotonic() - started < 2
    assert process.returncode == code, stderr
    assert "Traceback" not in stderr
    assert '"a.png"' in stdout
    assert listing(folder / "out") == ["new/a_x4.png"]
