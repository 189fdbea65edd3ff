"""Ctrl-C and SIGTERM in the middle of a batch."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import listing, picture, save

# The second picture takes for ever: between bands, or inside one call that Python cannot interrupt.
# A shell lets what it starts in the background ignore Ctrl-C, and children inherit that.
SCRIPT = """
import hashlib, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from srcli.cli import main, upscale
from tests.cli.conftest import Bicubic

class Slow(Bicubic):
    def rows(self, source, target, *, report=None):
        for band in super().rows(source, target, report=report):
            if len(self.calls) > 1:
                print(time.process_time(), file=sys.stderr, flush=True)
                if {stuck}:
                    hashlib.pbkdf2_hmac("sha256", b"", b"", 100_000_000)
                while True:
                    time.sleep(0.01)
            yield band

upscale.loaded = lambda *_: Slow()
main()
"""


def processor_time():
    """Seconds of processor time that processes of this one took, as far as they have ended."""
    import resource

    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


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
    earlier = processor_time()
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(stuck=stuck), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": root},
    )
    before = float(process.stderr.readline())
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=600)
    assert processor_time() - earlier - before < 2  # as on the clock of an idle machine
    assert process.returncode == code, stderr
    assert "Traceback" not in stderr
    assert '"a.png"' in stdout
    assert listing(folder / "out") == ["new/a_x4.png"]
