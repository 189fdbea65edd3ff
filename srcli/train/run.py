"""A run made ready: photos read, network built, weights and position taken up, configuration checked."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from srcli.data.benchmarks import Benchmark
from srcli.data.on_device import make_sampler
from srcli.data.photos import Photo, Photos, load_photos
from srcli.data.similar import refuse_benchmarks
from srcli.engine.device import choose_device
from srcli.processes import Ranks
from srcli.resources import in_words
from srcli.train.batch_loader import Feed, reach_note
from srcli.train.checkpoints import check_configuration, configuration, find_state, read_state
from srcli.train.memory import cut_to_fit
from srcli.train.recipe import Recipe
from srcli.train.trainer import Trainer
from srcli.train.validation import Validation
from srcli.weights import read
from srcli.weights.store import data_of

NAMED = 5  # new tensors that a message names


def device_here(name: str) -> torch.device:
    """The device called `name`, as `choose_device`; each of several processes on a machine takes its own GPU.

    Raises:
        UsageError: an unknown name.
        ResourceError: a device that this machine does not have.
    """
    device = choose_device(name).device
    if str(device) == "cuda" and "LOCAL_RANK" in os.environ:
        device = choose_device(f"cuda:{os.environ['LOCAL_RANK']}").device
        torch.cuda.set_device(device)
    return device


@dataclass
class Run:
    """What a call of `train` works with.

    Attributes:
        recipe: what is trained, and how.
        photos: those of this process.
        trainer: network, optimiser, position.
        feed: its samples.
        validation: what it is measured on.
        configuration: all that decides what it becomes.
        validated: the last measurement, if it was at the last step.
        step_validated: the step of that measurement.
    """

    recipe: Recipe
    photos: Photos
    trainer: Trainer
    feed: Feed
    validation: Validation
    configuration: dict[str, Any]
    validated: dict[str, float] | None = None
    step_validated: int | None = None

    @property
    def samples_per_step(self) -> int:
        """Over all processes."""
        optim = self.recipe.optim
        return optim.batch * optim.accumulate * self.trainer.ranks.world

    def validate(self) -> dict[str, float]:
        """Measure the averaged weights; all processes share the work."""
        trainer = self.trainer
        found = self.validation.measure(trainer.average, trainer.device, trainer.ranks)
        self.validated, self.step_validated = found or None, trainer.step
        return found

    def write_samples(self, out: Path) -> None:
        """Write what the averaged weights make of some held-out pictures."""
        path = out / "samples" / f"step_{self.trainer.step:08d}.png"
        self.validation.write_samples(self.trainer.average, self.trainer.device, path)


def prepare(
    recipe: Recipe,
    data: Sequence[Path],
    out: Path,
    device: torch.device,
    ranks: Ranks,
    *,
    init: Path | None,
    resume: str,
    notify: Callable[[str], None],
    force: bool,
    benchmarks: Sequence[Benchmark] = (),
    dry: bool = False,
) -> Run:
    """A run at the step where it continues; nothing is written. For the arguments see `train`; `dry` tells more."""
    notify = notify if ranks.rank == 0 else lambda _line: None
    state = find_state(resume, out, force=force)
    own = data[ranks.rank :: ranks.world] if recipe.split_shards else data
    trainer = Trainer(recipe, device, ranks)
    trainer.taught = _teachers(recipe, data, None if state is not None else init)
    for stage in trainer.stages:  # what its files lack is said before photos are read
        stage.begin(trainer.network, trainer.step, recipe.optim.steps)
    photos = load_photos(own, smallest=recipe.data.patch, held_out=recipe.held_out, folder=out)
    for line in photos.skipped:
        notify(f"skipped {line}")
    for line in refuse_benchmarks(photos.train, force=force):
        notify(f"warning: {line}")
    notify(f"{len(photos.train)} photos to train on, {len(photos.held_out)} held out")
    if photos.on_disk:
        notify(
            f"{in_words(photos.on_disk)} of their pixels lie on the disk of {out}, as long as this call lasts"
        )
    if recipe.optim.precision == "auto":
        notify(f"precision {trainer.precision}")
    record = configuration(recipe, photos, ranks)
    if state is not None:
        check_configuration(record, recipe, state.parent, force=force)
        trainer.restore(read_state(state, device), str(state))
        notify(f"continuing {state.parent} at step {trainer.step}")
        if init is not None:
            notify(f"{init} is not used: a run has its own weights")
    elif init is not None:
        new = trainer.start_from(read(init), str(init))
        if new:
            more = f" and {len(new) - NAMED} more" if len(new) > NAMED else ""
            notify(f"new, not in {init}: {', '.join(new[:NAMED])}{more}")
    pinned = device.type == "cuda" and not recipe.data.on_device
    feed = Feed(recipe, make_sampler(photos.train, recipe.data, device), ranks, pinned=pinned)
    note = reach_note(feed)
    if note:
        notify(note)
    cut_to_fit(trainer, feed, notify, always=dry)
    held_out = _together(photos.held_out, ranks) if recipe.split_shards else photos.held_out
    return Run(
        recipe, photos, trainer, feed, Validation(recipe, held_out, benchmarks, trainer.stages), record
    )


def _teachers(recipe: Recipe, data: Sequence[Path], init: Path | None) -> list[str]:
    """The photos, and what taught the weights that a run begins with, its teacher, and what judges its pictures."""
    found, args = [path.name for path in data], recipe.objective.args
    for role, model in (("started from", init), ("teacher", args.get("teacher"))):
        if model is not None:
            found.append(f"{role} {Path(model).name}: {data_of(model)}")
    if judge := args.get("weights"):
        found.append(f"features of {Path(judge).name} (ImageNet)")
    return found


def _together(held_out: Sequence[Photo], ranks: Ranks) -> list[Photo]:
    """The photos that any process holds out, by name, on all of them."""
    return sorted(ranks.gathered(list(held_out)), key=lambda photo: photo.name)
