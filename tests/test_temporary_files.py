"""What a killed process left behind goes away; what a living one writes stays."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from srcli.cli import app
from srcli.files import atomic_write, new_run, remove_leftovers, temporary_name
from tests.train import conftest as training

recipe, photos = training.recipe, training.photos
posix = pytest.mark.skipif(os.name != "posix", reason="signals")
KILLED = """
import os, signal, sys
from pathlib import Path
from srcli.files import atomic_write
with atomic_write(Path(sys.argv[1])) as stream:
    stream.write(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@posix
def test_a_killed_process_leaves_one_file_which_the_next_run_removes(tmp_path):
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "a.png")], check=False)
    (left,) = names(tmp_path)
    (tmp_path / "other.tmp").touch()
    new_run()
    with atomic_write(tmp_path / "b.png") as stream:
        stream.write(b"whole")
        remove_leftovers(tmp_path)
        assert left not in names(tmp_path)
        assert len(names(tmp_path)) == 2, "what this process writes stays"
    assert names(tmp_path) == ["b.png", "other.tmp"]


@pytest.mark.parametrize(
    ("part", "value", "stays"),
    [
        (None, None, True),
        (1, "00000000", True),  # another machine's
        (2, str(2**22 + 1), False),  # beyond Linux' highest number
        pytest.param(
            3, "1", False, marks=pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="/proc")
        ),
    ],
)
def test_only_files_of_dead_processes_of_this_machine_are_removed(tmp_path, part, value, stays):
    parts = temporary_name().split("-")
    if part is not None:
        parts[part] = value
    (tmp_path / "-".join(parts)).touch()
    remove_leftovers(tmp_path)
    assert bool(names(tmp_path)) is stays


def test_a_folder_that_is_not_there_is_no_error(tmp_path):
    remove_leftovers(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def leave(folder, machine=None):
    """A file as a process that was killed leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = temporary_name().split("-")
    parts[2] = str(2**22 + 1)  # beyond Linux' highest number
    parts[1] = machine or parts[1]
    path = folder / "-".join(parts)
    path.touch()
    return path


def test_writing_to_a_folder_clears_it(tmp_path):
    leave(tmp_path)
    new_run()
    with atomic_write(tmp_path / "a.bin") as stream:
        stream.write(b"whole")
    assert names(tmp_path) == ["a.bin"]


@posix
@pytest.mark.parametrize(
    ("age", "held", "stays"), [(60, False, True), (7200, False, False), (7200, True, True)]
)
def test_files_of_other_machines_go_by_age_and_lock(tmp_path, age, held, stays):
    import fcntl

    path = leave(tmp_path, machine="00000000")
    os.utime(path, (time.time() - age,) * 2)
    with path.open("r+b") as file:
        if held:
            fcntl.flock(file, fcntl.LOCK_EX)
        new_run()
        remove_leftovers(tmp_path)
    assert path.exists() is stays


@posix
def test_what_is_being_written_is_locked(tmp_path):
    with atomic_write(tmp_path / "a.bin"):
        (path,) = tmp_path.iterdir()
        renamed = path.with_name(path.name.replace(path.name.split("-")[1], "00000000"))
        path.rename(renamed)  # as another machine sees it
        os.utime(renamed, (0, 0))
        new_run()
        remove_leftovers(tmp_path)
        assert renamed.exists()
        renamed.rename(path)


def test_a_run_that_goes_on_clears_its_folders(tmp_path, recipe, photos):
    arguments = ["train", "--recipe", str(recipe), "--data", str(photos), "-o", str(tmp_path / "run"), "-q"]
    assert main_code(*arguments) == 0
    left = [leave(tmp_path / "run" / name) for name in (".", "checkpoints", "samples")]
    assert main_code(*arguments) == 0
    assert not any(path.exists() for path in left)


def test_models_are_written_and_refused_without_leftovers(tmp_path):
    arguments = [
        "models",
        "merge",
        "edsr-baseline-blend",
        "edsr-baseline-blend",
        "-o",
        str(tmp_path / "a.safetensors"),
    ]
    for code in (0, 6):
        left = leave(tmp_path)
        assert main_code(*arguments) == code
        assert not left.exists()


def test_an_evaluation_clears_what_one_before_left(tmp_path, photos, monkeypatch):
    monkeypatch.setenv("SRCLI_CACHE_DIR", str(tmp_path / "cache"))
    left = leave(tmp_path / "out")
    pictures = ["--pred", str(photos), "--ref", str(photos)]
    assert main_code("eval", *pictures, "-s", "2", "-o", str(tmp_path / "out/rows.json")) == 0
    assert not left.exists()


def main_code(*arguments):
    return CliRunner().invoke(app, list(arguments)).exit_code
