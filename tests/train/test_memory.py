"""A step is cut so that it fits into the memory, with the same gradient, or refused with the numbers."""

import ctypes
import os
from pathlib import Path

import pytest
import torch

from srcli.data.photos import load_photos
from srcli.data.samples import Batch, Sampler
from srcli.errors import ResourceError
from srcli.processes import Ranks
from srcli.train import run as memory
from srcli.train.batch_loader import BatchLoader
from srcli.train.log import Limits
from srcli.train.loop import train
from srcli.train.recipe import read_recipe
from srcli.train.trainer import Trainer
from tests.helpers.weights import same_weights
from tests.train.test_stopping import TWO_LOSSES


def made(recipe, photos, **changes):
    settings = read_recipe(recipe, {"optim.batch": "8", **changes})
    found = load_photos([photos], smallest=settings.data.patch)
    trainer = Trainer(settings, torch.device("cpu"))
    return trainer, BatchLoader(settings, Sampler(found.train, settings.data), Ranks())


def free(monkeypatch, amount):
    monkeypatch.setattr(memory, "free_memory", lambda _: amount)


def measured(trainer, batch):
    return memory._measured(trainer, batch, 1 << 40)


def enough(trainer, loader, samples):
    """Free memory in which a pass of so many samples just fits."""
    (one, gradients), (two, _) = (measured(trainer, loader.heaviest(n)) for n in (1, 2))
    return (min(one, two // 2) * samples + gradients + trainer.bytes_to_come) / memory.SHARE + 1000


def resident(key):
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="Linux")
def test_what_is_counted_is_what_the_process_takes(recipe, photos):
    trainer, loader = made(recipe, photos, **{"data.queries": "16000", "decoder.width": "32"})
    batch = loader.heaviest(4)
    trainer.try_pass(batch)  # what is loaded once
    ctypes.CDLL(None).malloc_trim(0)  # or the pass would go into what other tests have freed
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    trainer.try_pass(batch)
    grown = resident("VmHWM") - before
    counted = sum(measured(trainer, batch))
    assert 0.6 * grown < counted < 1.6 * grown
    assert counted > 10_000_000


def test_trying_a_pass_changes_nothing(recipe, photos):
    (one, loader), (two, _) = made(recipe, photos), made(recipe, photos)
    one.try_pass(loader.heaviest(3))
    assert all(p.grad is None for p in one.network.parameters())
    parts = loader.step(0)
    assert one.train_step(*parts) == two.train_step(*parts)
    assert all(map(torch.equal, one.network.parameters(), two.network.parameters()))


@pytest.mark.parametrize("pieces", [2, 4, 8])
def test_pieces_have_the_gradient_of_the_whole(recipe, photos, pieces):
    trainer, loader = made(recipe, photos)
    (batch,) = loader.step(0)
    gradients = []
    for count in (1, pieces):
        trainer.drop_gradients()
        parts = [trainer._normalised(piece) for piece in batch.pieces(count)]
        for part in parts:
            trainer._pass(trainer.network, trainer.objectives[0], part, len(parts), None)
        gradients.append(torch.cat([p.grad.flatten() for p in trainer.parameters]))
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


def test_pieces_are_those_of_the_batch_in_order():
    whole = Batch(*(torch.rand(6, 3, 2) for _ in range(4)), picture=torch.rand(6, 1), numbers=tuple(range(6)))
    parts = list(whole.pieces(3))
    assert [part.numbers for part in parts] == [(0, 1), (2, 3), (4, 5)]
    for column, name in enumerate(Batch._fields):
        if isinstance(whole[column], torch.Tensor):
            assert torch.equal(torch.cat([getattr(part, name) for part in parts]), whole[column])


def test_as_few_pieces_as_fit_are_taken(recipe, photos, monkeypatch):
    trainer, loader = made(recipe, photos)
    for samples in (1, 2, 4, 8):
        lines = []
        trainer.pieces = 1
        free(monkeypatch, enough(trainer, loader, samples))
        memory.cut_to_fit(trainer, loader, lines.append)
        assert trainer.pieces == 8 // samples
        assert bool(lines) is (samples < 8)
    free(monkeypatch, enough(trainer, loader, 1) // 2)
    with pytest.raises(ResourceError, match=r"one sample takes more than .* are free") as refusal:
        memory.cut_to_fit(trainer, loader, print)
    assert refusal.value.code == 5


def test_a_cascade_is_measured_at_its_largest(recipe, photos):
    changes = {"schedule.scales": '"alternate 1:2x1:4|1:4"', "data.scale_per": '"batch"'}
    settings = read_recipe(recipe, changes)
    heaviest = settings.scale_schedule.heaviest(patch=12)
    assert heaviest.scales == (8, 8)
    assert heaviest.stages[0] == (24, 24)
    assert settings.scale_schedule.heaviest(patch=12, largest=4).stages[0] == (12, 12)


def test_a_run_in_pieces_is_resumed_bit_for_bit(recipe, photos, tmp_path, monkeypatch):
    settings = read_recipe(recipe, {"optim.batch": "4"})
    trainer, loader = made(recipe, photos)
    free(monkeypatch, enough(trainer, loader, 2))
    train(settings, [photos], tmp_path / "whole")
    lines = []
    train(settings, [photos], tmp_path / "parts", limits=Limits(steps=5), notify=lines.append)
    assert any("2 passes of 2" in line for line in lines)
    free(monkeypatch, 1 << 40)  # more memory now: the run keeps its pieces
    train(settings, [photos], tmp_path / "parts")
    assert same_weights(tmp_path / "whole", tmp_path / "parts")


def test_two_losses_hold_one_set_of_gradients(photos, tmp_path):
    path = tmp_path / "two.toml"
    path.write_text(TWO_LOSSES)
    trainer, loader = made(path, photos)
    _, gradients = measured(trainer, loader.heaviest(1))
    assert gradients == sum(p.nbytes for p in trainer.parameters)
