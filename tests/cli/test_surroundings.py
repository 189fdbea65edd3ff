"""What a shell, a service or a container may do to a process: no streams, few files, no home, another locale."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from srcli.cli import app
from tests.cli.conftest import listing, picture, save

pytestmark = pytest.mark.skipif(os.name != "posix", reason="a shell")
ROOT = str(Path(__file__).parents[2])
SCRIPT = "from srcli.cli import main, upscale; from tests.cli.conftest import Bicubic; upscale.loaded = lambda *_: Bicubic(); main()"


def shell(folder, words, *, before="", environment=None):
    """A run of `srcli upscale` in a shell, without its network."""
    line = f'{before} "{sys.executable}" -c "$SCRIPT" upscale {words}'
    known = {**os.environ} if environment is None else environment
    known |= {"SCRIPT": SCRIPT, "PYTHONPATH": ROOT, "SRCLI_MODELS_DIR": str(folder / "models")}
    return subprocess.run(
        ["/bin/sh", "-c", line], env=known, cwd=folder, capture_output=True, timeout=120, check=False
    )


def test_without_streams_home_locale_and_terminal_it_works_all_the_same(folder):
    save(folder / "größe 漢.png", picture())
    clean = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = shell(folder, "*.png -s 2 -o out/ <&- >&- 2>&-; code=$?; exit $code", environment=clean)
    assert done.returncode == 0
    assert listing(folder / "out") == ["größe 漢_x2.png"]


@pytest.mark.slow
def test_few_files_may_be_open(folder):
    for i in range(40):
        save(folder / "in" / f"{i}.png", picture())
    done = shell(folder, "in -s 2 -o out/ --jsonl", before="ulimit -n 40;")
    assert done.returncode == 0, done.stderr
    assert len(listing(folder / "out")) == 40


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_behind_standard_output_is_5_without_a_traceback(folder):
    save(folder / "a.png", picture())
    done = shell(folder, "a.png -s 2 -f png -o - > /dev/full")
    assert done.returncode == 5
    assert b"the disk is full" in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize(
    ("streams", "code", "said"),
    [
        ("--jsonl > /dev/full", 5, [b"error: cannot write standard output: the disk is full."]),
        ("2> /dev/full", 0, [b"a.png", b"b.png"]),
    ],
)
def test_a_batch_goes_on_where_nothing_can_be_said(folder, streams, code, said):
    save(folder / "a.png", picture())
    save(folder / "b.png", picture())
    done = shell(folder, f"a.png b.png -s 2 -o out/ {streams}")
    lines = (done.stderr if code else done.stdout).splitlines()
    assert done.returncode == code
    assert [line[: len(begin)] for line, begin in zip(lines, said, strict=True)] == said
    assert listing(folder / "out") == ["a_x2.png", "b_x2.png"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_results_on_a_full_device_are_5_in_one_line():
    words = ["/bin/sh", "-c", f'"{sys.executable}" -m srcli --version > /dev/full']
    done = subprocess.run(words, env={**os.environ, "PYTHONPATH": ROOT}, capture_output=True, check=False)
    assert (done.returncode, done.stderr.count(b"\n")) == (5, 1)
    assert b"standard output" in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="a limit on addresses")
@pytest.mark.parametrize("words", ["-s 2 -o out/", "-s 2 -o out/ --workers 2"])
def test_too_little_memory_for_a_library_is_5_in_one_line(folder, model, words):
    save(folder / "a.png", picture())
    save(folder / "b.png", picture())
    line = f'ulimit -v 1500000; "{sys.executable}" -m srcli upscale a.png b.png -m "{model}" {words}'
    done = subprocess.run(
        ["/bin/sh", "-c", line], env={**os.environ, "PYTHONPATH": ROOT}, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr.count(b"\n")) == (5, 1)
    assert done.stderr.startswith(b"error: memory ran out")
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    "words",
    [
        "info a.png -s inf",
        "info a.png -s 0",
        "data check {fifo}",
        "data check /dev/zero",
        "train --data {fifo}",
    ],
)
def test_odd_values_and_files_end_in_one_line(folder, words):
    save(folder / "a.png", picture())
    os.mkfifo(folder / "fifo")
    done = CliRunner().invoke(app, words.format(fifo=folder / "fifo").split())
    assert done.exit_code == (2 if "info" in words else 1)
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("encoding", "shown"), [("ascii:strict", b"\\u6f22"), ("utf-8:strict", "漢".encode() + b"\xff")]
)
def test_names_that_the_terminal_cannot_show_do_not_end_a_batch(folder, encoding, shown):
    save(folder / os.fsdecode("漢".encode() + b"\xff.png"), picture())
    done = shell(folder, "*.png -s 2 -o out/", environment={**os.environ, "PYTHONIOENCODING": encoding})
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(shown)
