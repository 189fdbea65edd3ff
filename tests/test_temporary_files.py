"""What a killed process left behind goes away; what a living one writes stays."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from srcli.files import atomic_write, new_run, remove_leftovers, temporary_name

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
