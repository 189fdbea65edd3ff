"""Several processes for one batch: the same files as one, and what happens when a process dies."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from srcli.batch.inputs import Source
from srcli.batch.job import Settings
from srcli.batch.naming import Destination, Template
from srcli.batch.pool import ProcessPool
from srcli.batch.sizes import size_rule
from srcli.batch.worker import Fatal
from srcli.cli import app
from srcli.config.presets import load_preset
from srcli.errors import ModelError
from tests.cli.conftest import BicubicModel, listing, picture, save


@dataclass
class Deadly(BicubicModel):
    """The first processes are killed while its network is loaded."""

    marker: Path = Path()
    deaths: int = 0

    def load(self, device):
        if len(list(self.marker.iterdir())) < self.deaths:
            (self.marker / str(os.getpid())).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().load(device)


class Absent(BicubicModel):
    def load(self, _device):
        raise ModelError("the weights are gone.")


@pytest.fixture
def no_torch(tmp_path, monkeypatch):
    """New processes import an empty torch: the network is a stand-in, and torch takes more than a second of each."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "torch.py").write_text("def set_num_threads(_count): pass")
    monkeypatch.syspath_prepend(tmp_path / "empty")


def work_of(folder, kind, **more):
    model = kind(load_preset("edsr-baseline-blend"), **more)
    settings = Settings(size_rule(scale="2"), model)
    return settings, Destination(Template("{stem}{ext}"), folder=folder)


def items_of(folder, count):
    return [(i, Source(save(folder / f"{i}.png", picture(4, 5 + i)))) for i in range(1, count + 1)]


def test_several_processes_make_the_same_files_as_one(folder, model):
    for i in range(5):
        save(folder / "in" / f"{i}.png", picture(9 + i, 12))
    words = ["upscale", "in", "-s", "2.5", "-m", str(model)]
    assert CliRunner().invoke(app, [*words, "-o", "one"]).exit_code == 0
    (folder / "in" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    result = CliRunner().invoke(app, [*words, "-o", "two", "--workers", "2", "--device", "cpu"])
    assert result.exit_code == 1
    assert "bad.png" in result.stderr
    names = listing(folder / "one")
    assert len(names) == 5
    assert listing(folder / "two") == names
    assert all((folder / "one" / n).read_bytes() == (folder / "two" / n).read_bytes() for n in names)


def test_a_process_that_dies_gives_its_picture_back_once(tmp_path, no_torch):
    (tmp_path / "marker").mkdir()
    items = items_of(tmp_path / "in", 3)
    # Two processes die at the first picture, which then has failed, and one at the second, which the next one does.
    work = work_of(tmp_path / "out", Deadly, marker=tmp_path / "marker", deaths=3)
    found = list(ProcessPool(("cpu",), 1).outcomes(*work, items))
    assert sorted(outcome.item for outcome in found) == items
    first, *others = [outcome.error for outcome in found]
    assert "signal 9" in str(first)
    assert others == [None, None]
    assert len(listing(tmp_path / "out")) == 2
    assert len(list((tmp_path / "marker").iterdir())) == 3


def test_what_is_the_same_for_every_picture_ends_the_batch(tmp_path, no_torch):
    work, items = work_of(tmp_path / "out", Absent), items_of(tmp_path / "in", 4)
    with pytest.raises(Fatal, match="weights are gone"):
        list(ProcessPool(("cpu", "cpu"), 1).outcomes(*work, items))
    assert not Path(tmp_path / "out").exists()
