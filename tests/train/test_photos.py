"""What a run is fed: benchmarks are refused, samples are cut on the device or degraded where the recipe says so."""

import errno

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from srcli.data.photos import load_photos
from srcli.errors import ModelError, ResourceError, UsageError
from srcli.train.log import Limits
from srcli.train.loop import train
from srcli.train.recipe import read_recipe
from tests.helpers.benchmark import picture_like


def test_a_benchmark_picture_among_the_photos_is_refused_unless_forced(recipe, photos, tmp_path):
    Image.fromarray(picture_like("Set14 img_003")).save(photos / "b.png")
    settings = read_recipe(recipe)
    with pytest.raises(ModelError, match=r"b\.png shows the picture Set14 img_003"):
        train(settings, [photos], tmp_path / "run")
    assert not (tmp_path / "run").exists()
    lines = []
    train(settings, [photos], tmp_path / "run", limits=Limits(steps=1), force=True, notify=lines.append)
    assert "warning: b.png shows the picture Set14 img_003" in lines


def test_a_run_fed_on_the_device_resumes_bit_for_bit(recipe, photos, tmp_path):
    settings = read_recipe(recipe, {"data.on_device": "true", "optim.steps": "6"})
    train(settings, [photos], tmp_path / "once")
    train(settings, [photos], tmp_path / "twice", limits=Limits(steps=2))
    train(settings, [photos], tmp_path / "twice")
    once, twice = (load_file(tmp_path / run / "last.safetensors") for run in ("once", "twice"))
    assert all(torch.equal(once[key], twice[key]) for key in once)


def test_degraded_photos_train_other_weights(recipe, photos, tmp_path):
    for name in ("bicubic", "realesrgan-seesr"):
        settings = read_recipe(recipe, {"data.degradation": f'"{name}"', "optim.steps": "2"})
        train(settings, [photos], tmp_path / name)
    a, b = (load_file(tmp_path / n / "last.safetensors") for n in ("bicubic", "realesrgan-seesr"))
    assert any(not torch.equal(a[key], b[key]) for key in a)
    with pytest.raises(UsageError, match="unknown degradation"):
        train(read_recipe(recipe, {"data.degradation": "blur"}), [photos], tmp_path / "run")


def test_photos_on_the_disk_are_those_in_memory(photos, tmp_path):
    memory = load_photos([photos], smallest=8)
    disk = load_photos([photos], smallest=8, in_memory=64 * 64 * 3, folder=tmp_path)
    assert disk.on_disk == 3 * 64 * 64 * 3
    assert not memory.on_disk
    for one, other in zip([*memory.train, *memory.held_out], [*disk.train, *disk.held_out], strict=True):
        assert one.name == other.name
        np.testing.assert_array_equal(one.pixels, other.pixels)


def test_a_full_disk_is_said(photos, tmp_path, monkeypatch):
    class Full:
        def write(self, _):
            raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr("srcli.data.photos.tempfile.TemporaryFile", lambda **_: Full())
    with pytest.raises(ResourceError, match="the disk is full"):
        load_photos([photos], smallest=8, in_memory=0, folder=tmp_path)
