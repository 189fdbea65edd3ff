"""Several processes: the losses of one with twice the batch, each photo read once, one file of each kind."""

import json
import os
import socket
import subprocess
import sys

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from srcli.data.photos import load_photos
from srcli.processes import Ranks
from srcli.train.loop import RunOptions, train
from srcli.train.recipe import read_recipe
from srcli.train.run import prepare

STEPS = 10


def log_of(out):
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return lines[0], lines[1:]


def by_torchrun(words):
    """What two processes print that torchrun has started."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*launch, *words], env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def by_hand(words):
    """What two processes print that run a module, with what torchrun puts there in their environment."""
    return two_interpreters(["-m", *words])


def two_interpreters(arguments):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    processes = [
        subprocess.Popen(
            [sys.executable, *arguments],
            env={**os.environ, **common, "RANK": rank, "LOCAL_RANK": rank},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in "01"
    ]
    printed = [process.communicate(timeout=600) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], printed
    return "".join(stdout for stdout, _ in printed)


@pytest.mark.parametrize("start", [by_hand, pytest.param(by_torchrun, marks=pytest.mark.slow)])
def test_two_processes_have_the_losses_of_one_with_twice_the_batch(recipe, photos, tmp_path, start):
    changes = {"optim.steps": str(STEPS), "validation.every": str(STEPS)}
    settings = read_recipe(recipe, {**changes, "optim.batch": "4"})
    train(settings, [photos], tmp_path / "one", options=RunOptions(log_every=1))
    _, one = log_of(tmp_path / "one")

    words = ["srcli", "train", "--recipe", recipe, "--data", photos, "-o", tmp_path / "two", "-d", "cpu"]
    words += [word for key, value in changes.items() for word in ("--set", f"{key}={value}")]
    printed = start([*map(str, words), "--log-every", "1"])
    head, two = log_of(tmp_path / "two")

    assert head["processes"] == 2
    assert [line["step"] for line in two] == list(range(1, STEPS + 1))
    losses = [[line["loss"] for line in lines] for lines in (one, two)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert two[-1]["validation"]["psnr-y x2"] == pytest.approx(one[-1]["validation"]["psnr-y x2"], abs=1e-3)
    weights = [load_file(tmp_path / name / "last.safetensors") for name in ("one", "two")]
    assert all(torch.allclose(v, weights[1][k], atol=1e-3) for k, v in weights[0].items())  # kept as fp16
    assert printed.count("last.safetensors") == 1  # one process speaks


def test_nothing_of_the_group_is_left_at_exit():
    """Threads that outlive it abort the interpreter's exit, though not every time."""
    program = """
import weakref
import torch
from srcli.processes import joined_ranks
with joined_ranks() as ranks:
    group = weakref.ref(torch.distributed.group.WORLD)
    import torch.distributed.nn  # as optimisers do by themselves
    assert ranks.gathered([ranks.rank]) == [0, 1]
print("left" if group() else "gone")
"""
    assert two_interpreters(["-c", program]).split() == ["gone", "gone"]


class Doubled(Ranks):
    """A process whose fellow always answers the same as itself."""

    def gathered(self, values):
        return [*values, *values]


def test_shards_are_split_without_overlap(recipe, tmp_path):
    shards = []
    for name in "abcde":
        shards.append(tmp_path / name)
        shards[-1].mkdir()
        for i in range(3):
            Image.new("RGB", (40, 40), (i, i, i)).save(shards[-1] / f"{name}{i}.png")
    settings = read_recipe(recipe, {"data.split_shards": "true"})
    device = torch.device("cpu")
    runs = [
        prepare(
            settings, shards, tmp_path / "out", device, Doubled(rank, 2), init=None, resume="auto",
            notify=lambda _: None, force=False,
        )
        for rank in range(2)
    ]  # fmt: skip
    seen = [sorted(p.name for p in (*run.photos.train, *run.photos.held_out)) for run in runs]
    everything = load_photos(shards, smallest=12)
    assert not set(seen[0]) & set(seen[1])
    assert sorted(seen[0] + seen[1]) == sorted(p.name for p in (*everything.train, *everything.held_out))
    for run in runs:  # each counts what both have, and validates on it
        assert run.configuration["photos"]["train"] == 2 * len(run.photos.train)
        assert len(run.validation.crops) == len(run.photos.held_out)
