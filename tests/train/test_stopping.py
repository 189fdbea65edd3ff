"""A signal or the end of the time gives up what is under way; the run goes on as if nothing had been."""

import functools
import signal
import time

import pytest
import torch

from srcli.train.log import Limits
from srcli.train.loop import train
from srcli.train.objectives import OBJECTIVES
from srcli.train.recipe import read_recipe
from srcli.train.validation import Validation
from tests.helpers.weights import same_weights

TWO_LOSSES = """
title = "two losses"
encoder = {name = "edsr", n_resblocks = 1, n_feats = 8, mean_shift = false}
decoder = {name = "linf", patch = 1, hidden_dim = 8, hidden = [8]}
pixels = {mean = 0.5, std = 0.5}
objective = {name = "linf-stage-2"}
data = {patch = 12, queries = 36}
optim = {steps = 4, batch = 2, warmup = 1, ema = 0.9}
validation = {every = 4, scales = [2], photos = 1, crop = 32}
"""


def signal_at_call(monkeypatch, name, number):
    """The signal comes in a pass forward of an objective, or, below 0, in that pass's way back."""
    seen, own = [], OBJECTIVES[name]

    def watched(loss):
        def counted(network, batch):
            seen.append(1)
            if len(seen) == number:
                signal.raise_signal(signal.SIGTERM)
            elif len(seen) == -number:
                first = next(network.encoder.parameters())
                first.register_hook(lambda _: signal.raise_signal(signal.SIGTERM))
            return loss(network, batch)

        return counted

    stand_in = functools.wraps(own)(lambda **args: tuple(map(watched, own(**args))))
    monkeypatch.setitem(OBJECTIVES, name, stand_in)


@pytest.mark.parametrize("number", [6, -6])
def test_a_signal_ends_a_pass_and_the_step_is_done_again(recipe, photos, tmp_path, monkeypatch, number):
    settings, lines = read_recipe(recipe), []
    train(settings, [photos], tmp_path / "whole")
    with monkeypatch.context() as patch:
        signal_at_call(patch, "l1", number)  # the first two are tried before the first step
        assert train(settings, [photos], tmp_path / "two", notify=lines.append) == signal.SIGTERM
    done = torch.load(tmp_path / "two/trainer.pt", weights_only=True)["step"]
    assert 0 < done < 6
    assert any(f"stopped within step {done + 1}" in line for line in lines)
    assert '"within_step": true' in (tmp_path / "two/log.jsonl").read_text()
    train(settings, [photos], tmp_path / "two")
    assert same_weights(tmp_path / "whole", tmp_path / "two")


@pytest.mark.parametrize("number", [7, 8])
def test_a_step_of_two_updates_goes_on_after_the_first(photos, tmp_path, monkeypatch, number):
    path = tmp_path / "two.toml"
    path.write_text(TWO_LOSSES)
    settings = read_recipe(path)
    train(settings, [photos], tmp_path / "whole")
    with monkeypatch.context() as patch:
        signal_at_call(patch, "linf-stage-2", number)
        train(settings, [photos], tmp_path / "two")
    state = torch.load(tmp_path / "two/trainer.pt", weights_only=True)
    assert state["step"] * 2 + state["updates"] > 0
    train(settings, [photos], tmp_path / "two")
    assert same_weights(tmp_path / "whole", tmp_path / "two")


def test_the_time_ends_within_validation(recipe, photos, tmp_path, monkeypatch):
    limits, own = Limits(seconds=1000), Validation.measure

    def measured(self, *args):
        limits.seconds = 0
        return own(self, *args)

    monkeypatch.setattr(Validation, "measure", measured)
    assert train(read_recipe(recipe), [photos], tmp_path / "run", limits=limits) is None
    assert torch.load(tmp_path / "run/trainer.pt", weights_only=True)["step"] == 6
    assert '"validation": null' in (tmp_path / "run/log.jsonl").read_text().splitlines()[-1]


def test_a_limit_of_minutes_holds_within_a_long_step(recipe, photos, tmp_path):
    settings = read_recipe(recipe, {"optim.accumulate": "2000", "validation.photos": "0"})
    start = time.monotonic()
    train(settings, [photos], tmp_path / "run", limits=Limits(seconds=1.5))
    assert time.monotonic() - start < 15  # the step takes minutes
    assert torch.load(tmp_path / "run/trainer.pt", weights_only=True)["step"] == 0
