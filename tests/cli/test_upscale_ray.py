"""`--workers ray`: the same bytes as without it, and what happens when an actor is killed."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from srcli.batch.ray import RayPool
from tests.cli.conftest import listing, picture, save
from tests.cli.test_upscale_workers import Deadly, items_of, work_of

ROOT = Path(__file__).parents[2]
needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="the extra [ray]")

# In a process of its own: Ray leaves threads, sockets and warnings behind. The first `deaths` actors are killed.
SCRIPT = """
import json, sys
from pathlib import Path
from tests.cli.test_upscale_ray import cluster_of
folder, deaths, workers = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
print(json.dumps(cluster_of(folder, deaths, workers)))
"""


def cluster_of(folder, deaths, workers):
    """(number, error) of every picture, by actors of which the first are killed at work."""
    work = work_of(folder / "out", Deadly, marker=folder / "marker", deaths=deaths)
    found = RayPool("cpu", workers).outcomes(*work, items_of(folder / "in", 5))
    return [(outcome.item[0], None if outcome.error is None else str(outcome.error)) for outcome in found]


def python(*words, cwd):
    # Ray makes its workers give way to everything else, which on a busy machine is for ever
    env = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_worker_niceness": "0"}
    return subprocess.run(
        [sys.executable, *map(str, words)], cwd=cwd, env=env, capture_output=True, text=True
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a.png", "--workers", "ray"], r'pip install "srcli[ray]"'),
        (["memory://a/b.png"], "--workers ray"),
        (["a.png", "-o", "memory://a/"], "Give --workers ray"),
    ],
)
def test_what_is_missing_is_a_usage_error(upscale, engine, folder, monkeypatch, words, message):
    monkeypatch.setitem(sys.modules, "ray", None)
    save(folder / "a.png", picture())
    if words[0] != "a.png":
        import fsspec

        fsspec.filesystem("memory").pipe_file("/a/b.png", (folder / "a.png").read_bytes())
    result = upscale(*words)
    assert result.exit_code == 2
    assert message in result.stderr
    assert listing(folder) == ["a.png"]


@needs_ray
@pytest.mark.slow
def test_the_files_are_those_of_a_plain_run(folder, model):
    for i in range(5):
        save(folder / "in" / f"s{i % 2}" / f"{i}.png", picture(9 + i, 12))
    words = ["-m", "srcli", "upscale", "in", "-r", "-s", "2.5", "-m", model, "--manifest", "m.jsonl"]
    plain = python(*words, "-o", "one", cwd=folder)
    assert plain.returncode == 0, plain.stderr
    save(folder / "in" / "bad.png", picture())
    (folder / "in" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    result = python(*words, "-o", f"file://{folder}/two/", "--workers", "ray", "--workers", "2", cwd=folder)
    assert result.returncode == 1, result.stderr
    assert "bad.png" in result.stderr
    names = listing(folder / "one")
    assert len(names) == 5
    assert listing(folder / "two") == names
    assert all((folder / "one" / n).read_bytes() == (folder / "two" / n).read_bytes() for n in names)
    (folder / "in" / "bad.png").unlink()
    again = python(*words, "-o", "two", "--workers", "ray", "--jsonl", cwd=folder)
    assert [json.loads(line)["status"] for line in again.stdout.splitlines()] == ["skipped"] * 5


@needs_ray
@pytest.mark.slow
@pytest.mark.parametrize(("workers", "deaths", "failures"), [(2, 1, 0), (1, 2, 1)])
def test_a_picture_whose_actor_is_killed_is_done_again_once(tmp_path, workers, deaths, failures):
    (tmp_path / "marker").mkdir()
    done = python("-c", SCRIPT, tmp_path, deaths, workers, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert sorted(number for number, _ in found) == [1, 2, 3, 4, 5]
    errors = [error for _, error in found if error is not None]
    assert len(errors) == failures
    assert all("actor is gone" in error for error in errors)
    assert len(listing(tmp_path / "out")) == 5 - failures
