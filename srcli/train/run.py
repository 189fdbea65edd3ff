"""Preparing a run: photos read, network built, weights and position loaded, memory measured."""

import os
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.weak import WeakIdKeyDictionary

from srcli.data.benchmarks import Benchmark
from srcli.data.device_sampler import make_sampler
from srcli.data.inspection import refuse_benchmarks
from srcli.data.photos import Photos, load_photos
from srcli.data.samples import Batch
from srcli.engine.device import choose_device, is_out_of_memory
from srcli.errors import ResourceError
from srcli.processes import Ranks
from srcli.resources import free_memory, give_back_freed_memory, in_words, input_bytes, nearest_folder
from srcli.train.batch_loader import BatchLoader, reach_note
from srcli.train.checkpoints import check_configuration, configuration, find_state, read_state
from srcli.train.recipe import Recipe
from srcli.train.trainer import Trainer
from srcli.train.validation import Validation
from srcli.weights.checkpoint import read
from srcli.weights.files import data_of

NAMED = 5  # new tensors that a message names


def device_here(name: str) -> torch.device:
    """As `choose_device`; each of several processes on a machine takes its own GPU."""
    device = choose_device(name).device
    if str(device) == "cuda" and "LOCAL_RANK" in os.environ:
        device = choose_device(f"cuda:{os.environ['LOCAL_RANK']}").device
        torch.cuda.set_device(device)
    return device


@dataclass
class Run:
    """Everything that a call of `train` works with."""

    recipe: Recipe  # what is trained, and how
    photos: Photos  # those of this process
    trainer: Trainer  # network, optimiser, position
    loader: BatchLoader  # its samples
    validation: Validation  # what it is measured on
    configuration: dict[str, Any]  # everything that decides the trained weights
    validated: dict[str, float] | None = None  # the last measurement, if it was at the last step
    step_validated: int | None = None  # the step of that measurement

    @property
    def samples_per_step(self) -> int:
        optim = self.recipe.optim
        return optim.batch * optim.accumulate * self.trainer.ranks.world

    def validate(self) -> dict[str, float]:
        trainer = self.trainer
        found = self.validation.measure(trainer.average, trainer.device, trainer.ranks)
        self.validated, self.step_validated = found or None, trainer.step
        return found

    def write_samples(self, out: Path) -> None:
        """Write some held-out pictures as the averaged weights enlarge them."""
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
    """A run at the step where it continues; nothing is written. Arguments are those of `train`; `dry` always reports memory."""
    notify = notify if ranks.rank == 0 else lambda _line: None
    state = find_state(resume, out, force=force)
    own = data[ranks.rank :: ranks.world] if recipe.split_shards else data
    trainer = Trainer(recipe, device, ranks)
    trainer.taught = _teachers(recipe, data, None if state is not None else init)
    for stage in trainer.stages:  # missing files of a loss are an error before photos are read
        stage.begin(trainer.network, trainer.step, recipe.optim.steps)
    photos = _read_photos(recipe, own, out, notify, force=force)
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
    loader = BatchLoader(recipe, make_sampler(photos.train, recipe.data, device), ranks, pinned=pinned)
    if note := reach_note(loader):
        notify(note)
    cut_to_fit(trainer, loader, notify, always=dry)
    held_out = photos.held_out
    if recipe.split_shards:  # what any process holds out, on all of them
        held_out = sorted(ranks.gathered(list(held_out)), key=lambda photo: photo.name)
    return Run(
        recipe, photos, trainer, loader, Validation(recipe, held_out, benchmarks, trainer.stages), record
    )


def _read_photos(
    recipe: Recipe, data: Sequence[Path], out: Path, notify: Callable[[str], None], *, force: bool
) -> Photos:
    photos = load_photos(
        data,
        smallest=recipe.data.patch,
        held_out=recipe.held_out,
        in_memory=input_bytes(),
        folder=nearest_folder(out),
    )
    for line in photos.skipped:
        notify(f"skipped {line}")
    for line in refuse_benchmarks(photos.train, force=force):
        notify(f"warning: {line}")
    notify(f"{len(photos.train)} photos to train on, {len(photos.held_out)} held out")
    if photos.on_disk:
        notify(
            f"{in_words(photos.on_disk)} of their pixels lie on the disk of {out}, as long as this call lasts"
        )
    return photos


def _teachers(recipe: Recipe, data: Sequence[Path], init: Path | None) -> list[str]:
    """Lines for the model card: the photos, weights the run starts from, its teacher, its perceptual backbone."""
    found, args = [path.name for path in data], recipe.objective.args
    for role, model in (("started from", init), ("teacher", args.get("teacher"))):
        if model is not None:
            found.append(f"{role} {Path(model).name}: {data_of(model)}")
    if judge := args.get("weights"):
        found.append(f"features of {Path(judge).name} (ImageNet)")
    return found


SHARE = 0.9  # of the free memory that a step may take; kernels need some that is not counted here
GAPS = 6  # a step may take so many times its tensors if freed memory is kept, see `give_back_freed_memory`


class _TooMuchError(Exception):
    """A pass needs more memory than allowed."""


class _Tracker(TorchDispatchMode):
    """Counts the bytes of all tensors that are made inside, on any device; `peak` leaves out gradients of parameters."""

    def __init__(self, parameters: Iterable[nn.Parameter], most: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.most = most
        self.now = self.peak = self.gradients = self.own = 0
        self.known = WeakIdKeyDictionary()
        self.hooks = [p.register_post_accumulate_grad_hook(self._gradient) for p in parameters]

    def __exit__(self, *error: Any) -> None:
        for hook in self.hooks:
            hook.remove()
        super().__exit__(*error)  # type: ignore[no-untyped-call]

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        tree_map_only(Tensor, self._seen, (args, kwargs))
        result = func(*args, **kwargs)
        tree_map_only(Tensor, self._made, result)
        return result

    def _seen(self, tensor: Tensor) -> None:
        self.known.setdefault(tensor.untyped_storage(), None)

    def _made(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage in self.known:
            return
        self.known[storage] = None
        size = storage.nbytes()
        weakref.finalize(storage, self._gone, size)
        self.now += size
        self.peak = max(self.peak, self.now - self.own)
        if self.now > self.most:
            raise _TooMuchError

    def _gone(self, size: int) -> None:
        self.now -= size

    def _gradient(self, parameter: Tensor) -> None:
        assert parameter.grad is not None
        self._own(parameter.nbytes)
        weakref.finalize(parameter.grad.untyped_storage(), self._own, -parameter.nbytes)

    def _own(self, size: int) -> None:
        self.own += size
        self.gradients = max(self.gradients, self.own)


def cut_to_fit(
    trainer: Trainer, loader: BatchLoader, notify: Callable[[str], None], *, always: bool = False
) -> None:
    """Set the number of pieces that `trainer` splits a batch into: as few as fit into memory, else ResourceError.

    A pass of one sample is measured, and if memory is tight one of two: no decoder needs more per sample for many. The
    gradient is the same but for the order of sums and for how noise is drawn. A run that had more pieces keeps them, so
    that it is resumed bit for bit.
    """
    batch, before = trainer.recipe.optim.batch, trainer.pieces
    free = free_memory(trainer.device)
    if trainer.device.type == "cpu":  # the processes of a machine share it
        free //= int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    room = int(free * SHARE) - trainer.bytes_to_come
    one = _measured(trainer, loader.heaviest(1), room)
    # A step takes gradients + sample * (samples of a pass).
    sample, gradients = one or (room, 1)
    if one and batch > 1 and gradients + batch * sample > room:
        two = _measured(trainer, loader.heaviest(2), room)
        sample = min(sample, two[0] // 2) if two else room
    most = 0 if one is None else max(1, (room - gradients) // sample)
    most = min(trainer.ranks.gathered([most]))  # all processes pass alike
    if not most:
        raise ResourceError(
            f"gradients and the optimizer's state take {in_words(trainer.bytes_to_come)}, and with them a step on one sample "
            f"takes more than may be used of the {in_words(free)} of memory that are free.",
            hint="Lower data.patch or data.queries with --set, take a smaller network, or free some memory.",
        )
    pieces = (n for n in range(min(before, batch), batch + 1) if batch % n == 0 and batch // n <= most)
    trainer.pieces = next(pieces)
    passes = batch // trainer.pieces
    needed = trainer.bytes_to_come + gradients + sample * passes
    if trainer.device.type == "cpu" and GAPS * needed > free:
        give_back_freed_memory()
    if trainer.pieces > 1 or always:
        notify(
            f"memory: a step takes about {in_words(needed)}, {in_words(free)} are free; one sample takes {in_words(sample)}"
            + (
                f", so {batch} go through in {trainer.pieces} passes of {passes}"
                if trainer.pieces > 1
                else ""
            )
        )
    if trainer.step and trainer.pieces != before:
        notify(f"there were {before} passes before: from here on, sums are rounded in another order")


def _measured(trainer: Trainer, batch: Batch, most: int) -> tuple[int, int] | None:
    """Peak bytes of the passes of a step without gradients, and bytes of gradients; None for more than `most`."""
    try:
        with _Tracker(trainer.parameters, most) as tracker:
            trainer.try_pass(batch)
    except _TooMuchError:
        return None
    except RuntimeError as error:
        if is_out_of_memory(error):
            return None
        raise
    return tracker.peak, tracker.gradients
