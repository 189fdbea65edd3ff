"""kill -9 at random moments of a batch, and the same command again."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.conftest import listing, picture, save

ROOT = Path(__file__).parents[2]


def command(folder, model, out, workers=1):
    words = ["upscale", "in", "-r", "-s", "2", "-o", out, "-m", str(model), "--jsonl", "--device", "cpu"]
    words += ["--manifest", f"{out}.jsonl", "--workers", str(workers), "--progress", "none"]
    return subprocess.Popen(
        [sys.executable, "-m", "srcli", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )


def stamps(folder):
    """Time and inode of every finished output: another inode is another file."""
    paths = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".srcli-")]
    return {str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.stat().st_ino) for path in paths}


def stray(folder):
    return [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".png"]


def killed_again_and_again(folder, model, kills, files, *, workers=1, seed=0, say=lambda _line: None):
    """Kill the batch `kills` times; begin anew whenever it is finished. Raises AssertionError.

    Returns (kills in the middle of work, runs that finished, temporary files that kills left).
    """
    draw, reference = random.Random(seed), {}
    for i in range(files):
        save(folder / "in" / f"s{i % 3}" / f"{i}.png", picture(9 + i % 7, 12))
    whole = command(folder, model, "whole")
    whole.communicate()
    assert whole.returncode == 0
    reference = {name: (folder / "whole" / name).read_bytes() for name in listing(folder / "whole")}
    assert len(reference) == files
    out, middle, finished, left = folder / "out", 0, 0, 0
    for number in range(kills):
        before = stamps(out)
        process = command(folder, model, "out", workers)
        wanted = len(before) + draw.randrange(-files // 10, files // 4)  # lines to wait for
        if wanted <= 0:  # or while it starts
            time.sleep(draw.uniform(0, 4))
        lines = 0
        while lines < wanted and process.stdout.readline():
            lines += 1
        time.sleep(draw.uniform(0, 0.05))
        process.kill()
        rest, _ = process.communicate()
        now = stamps(out)
        assert before.items() <= now.items(), "a finished output was made again"
        for name in now.keys() - before.keys():
            assert (out / name).read_bytes() == reference[name], f"{name} is not complete"
        middle += len(before) < len(now) < files
        left += len(stray(out)) if out.exists() else 0
        say(
            f"kill {number + 1}: {len(before)} -> {len(now)} of {files} done, {len(rest.splitlines())} unread"
        )
        if process.returncode == 0:
            assert set(now) == set(reference)
        if len(now) == files:
            finished += 1
            _finish(folder, model, reference)
            for path in sorted(out.rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
            (folder / "out.jsonl").unlink()
    _finish(folder, model, reference)
    return middle, finished, left


def _finish(folder, model, reference):
    """A last run, undisturbed: everything is there and right, what was there is untouched, nothing else is left."""
    before = stamps(folder / "out")
    process = command(folder, model, "out")
    process.communicate()
    assert process.returncode == 0
    assert before.items() <= stamps(folder / "out").items()
    assert {name: (folder / "out" / name).read_bytes() for name in listing(folder / "out")} == reference
    assert stray(folder / "out") == []


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("workers", [1, 2])
def test_a_batch_that_is_killed_is_continued_and_nothing_is_done_twice(folder, model, workers):
    middle, _, _ = killed_again_and_again(folder, model, 4, 40, workers=workers)
    assert middle > 0
