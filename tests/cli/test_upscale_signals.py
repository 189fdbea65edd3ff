"""Ctrl-C, SIGTERM and a terminal that is closed: in the middle of a batch, twice, and inside imports."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import listing, picture, save

# The second picture takes for ever: between bands, or inside one call that Python cannot interrupt.
# A shell lets what it starts in the background ignore Ctrl-C, `nohup` SIGHUP, and children inherit that.
SCRIPT = """
import hashlib, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
from srcli.cli import main, upscale
from tests.cli.conftest import Bicubic

class Slow(Bicubic):
    def rows(self, *args):
        for band in super().rows(*args):
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
        (signal.SIGHUP, 129, False),
        pytest.param(signal.SIGINT, 130, False, marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, 143, True, marks=pytest.mark.slow),
    ],
)
def test_an_interrupt_ends_within_two_seconds_and_leaves_no_partial_file(folder, model, number, code, stuck):
    for name in ("a.png", "b.png", "c.png"):
        save(folder / name, picture())
    words = ["upscale", "a.png", "b.png", "c.png", "-m", str(model), "-o", "out/new/", "--jsonl"]
    earlier = processor_time()
    process = started(SCRIPT.format(stuck=stuck), *words)
    before = float(process.stderr.readline())
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=600)
    assert processor_time() - earlier - before < 2  # as on the clock of an idle machine
    assert process.returncode == code, stderr
    assert "Traceback" not in stderr
    assert '"a.png"' in stdout
    assert listing(folder / "out") == ["new/a_x4.png"]


# An import that takes long, and whose library makes something else of what interrupts it.
IMPORTING = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

class Finder:
    def find_spec(self, name, *_):
        if name == "{module}":
            print("now", flush=True)
            try:
                time.sleep(60)
            except BaseException:
                raise ImportError(name)

sys.meta_path.insert(0, Finder())
from srcli.__main__ import main
main()
"""


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("module", ["srcli.cli", "srcli.image.probe"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_inside_an_import_has_its_code_and_no_traceback(folder, module, number):
    save(folder / "a.png", picture())
    process = started(IMPORTING.format(module=module), "info", "a.png")
    assert process.stdout.readline() == "now\n"
    process.send_signal(number)
    _, stderr = process.communicate(timeout=30)
    assert (process.returncode, stderr) == (128 + number, "")


# Unwinding takes for ever: the second time it is meant.
UNWINDING = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from pathlib import Path
from srcli.cli import info, main
from srcli.files import atomic_write
import srcli.processes
srcli.processes.PATIENCE = 60

def stuck(path):
    with atomic_write(Path("b.png")) as file:
        try:
            print("now", flush=True)
            time.sleep(60)
        finally:
            print("now", flush=True)
            time.sleep(60)

info._picture = stuck
main()
"""


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_second_interrupt_ends_at_once_and_leaves_no_temporary_file(folder):
    save(folder / "a.png", picture())
    process = started(UNWINDING, "info", "a.png")
    for _ in range(2):
        assert process.stdout.readline() == "now\n"
        process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert (process.returncode, stderr) == (130, "")
    assert listing(folder) == ["a.png"]


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_what_the_caller_has_it_ignore_is_ignored(folder):
    save(folder / "a.png", picture())
    ignoring = UNWINDING.replace("default_int_handler", "SIG_IGN").replace("sleep(60)", "sleep(0.3)")
    process = started(ignoring, "info", "a.png")
    assert process.stdout.readline() == "now\n"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode != 130


def started(script, *words):
    """A process that runs a script with these arguments."""
    return subprocess.Popen(
        [sys.executable, "-c", script, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
