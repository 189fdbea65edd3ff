"""Reading costs: each input is opened and hashed once, and the weights are hashed once."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.cli.conftest import picture, save

# Files by name: how often they were opened, and hashed as a whole.
SCRIPT = """
import hashlib, json, os, sys
from collections import Counter
opened, hashed = Counter(), Counter()

def watch(event, words):
    if event == "open" and isinstance(words[0], str | bytes):
        opened[os.path.basename(os.fsdecode(words[0]))] += 1

def file_digest(file, kind):
    hashed[os.path.basename(file.name)] += 1
    return plain(file, kind)

plain, hashlib.file_digest = hashlib.file_digest, file_digest
sys.addaudithook(watch)
from typer.testing import CliRunner
from srcli.cli import app
for names in (["one.png"], ["two.png", "three.jpg"]):
    result = CliRunner().invoke(app, ["upscale", *names, "-s", "2", "-o", "out/", "-m", sys.argv[1], "--jsonl"])
    assert result.exit_code == 0, result.output
print(json.dumps({"opened": opened, "hashed": hashed}))
"""


def test_each_input_is_opened_and_hashed_once_and_so_are_the_weights(folder, model):
    for name in ("one.png", "two.png", "three.jpg"):
        save(folder / name, picture(9, 12))
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(model)], cwd=folder, env=env, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    # Among several inputs each is looked at beforehand: it may be the result of another one.
    assert {name: found["opened"][name] for name in ("one.png", "two.png", "three.jpg")} == {
        "one.png": 1,
        "two.png": 2,
        "three.jpg": 2,
    }
    assert {name: found["hashed"].get(name) for name in ("one.png", "two.png", "three.jpg", model.name)} == {
        "one.png": 1,
        "two.png": 1,
        "three.jpg": 1,
        model.name: 1,
    }
