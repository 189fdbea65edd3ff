"""The training loop: photos to weights, resumable at any step, alone or on several processes.

`torchrun -m srcli train ..` and `accelerate launch -m srcli train ..` start the processes; their gradients are averaged
once per step. What a step sees and draws is a function of its number, so that a resumed run ends in the same weights.
"""

import json
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from srcli.data.benchmarks import Benchmark
from srcli.errors import SrcliError
from srcli.files import write_atomically
from srcli.models import count_parameters
from srcli.processes import joined_ranks
from srcli.train.adopt import settle
from srcli.train.batch_loader import Parts
from srcli.train.checkpoints import CONFIGURATION, begin_anew, locked, write_checkpoint
from srcli.train.log import (
    CheckedWithin,
    Limits,
    Progress,
    RunLog,
    StoppedError,
    dump_batches,
    model_card,
    stop_on_signal,
)
from srcli.train.recipe import Recipe
from srcli.train.run import Run, prepare

LOSSES_BEFORE_STOP = 20  # steps in a row without a finite loss
LIMIT = 1  # stands for a limit that is reached; no signal that is caught has this number
Report = Callable[[Progress], None]


@dataclass(frozen=True)
class RunOptions:
    """How often a call saves and logs, and the like; none of it changes the trained weights."""

    save_every: int = 500  # steps between checkpoints
    keep: int = 3  # how many earlier weights stay
    log_every: int = 50  # steps between lines of the log
    # threads that make samples ahead of time; None: 4 for a GPU, none for a CPU, which has no time to spare
    workers: int | None = None
    tensorboard: bool = False  # log for it as well
    benchmarks: Sequence[Benchmark] = ()  # further sets to validate on


def train(
    recipe: Recipe,
    data: list[Path],  # folders, images or tar shards
    out: Path,
    *,
    device: str = "cpu",
    limits: Limits | None = None,
    options: RunOptions = RunOptions(),
    init: Path | None = None,  # weights to start a new run from
    resume: str = "auto",  # "auto", "no", or the path of a run to continue in `out`
    report: Report | None = None,
    notify: Callable[[str], None] = lambda _line: None,
    force: bool = False,  # continue a run whose configuration has changed; with resume "no", begin one anew
) -> int | None:
    """Train, or continue, the run in folder `out`, and return the signal that ended it; see `checkpoints` for its files.

    `report` is called after every step, `notify` with lines to print, both in the first process only. Raises UsageError
    (`out` holds a run with another configuration, or another call trains there), NothingToDoError (no photo can be
    used, or there is nothing to resume), WeightsError (`init` does not fit, or the state is damaged), ResourceError
    (the disk is full; the last checkpoint is still there), SrcliError (no finite loss).
    """
    place = torch.device(device)
    with joined_ranks("nccl" if place.type == "cuda" else "gloo") as ranks, ExitStack() as held:
        new = not out.exists()  # made only after `prepare`: an error leaves no empty folder
        if ranks.rank == 0 and not new:
            held.enter_context(locked(out))
        run = prepare(
            recipe, data, out, place, ranks, init=init, resume=resume, notify=notify, force=force,
            benchmarks=options.benchmarks,
        )  # fmt: skip
        if ranks.rank > 0:
            return _loop(run, out, limits or Limits(), options)
        if new:
            held.enter_context(locked(out))
        if resume == "no":
            begin_anew(out)
        write_atomically(out / CONFIGURATION, json.dumps(run.configuration, indent=2).encode())
        log = RunLog(out, run.trainer.step, tensorboard=options.tensorboard)
        log.start(run.trainer.step, place, ranks.world)
        ended = _loop(run, out, limits or Limits(), options, log, report, notify)
        log.close()
        settle(run, out, notify)
        parameters = count_parameters(run.trainer.network)
        card = model_card(recipe, run.photos, run.trainer.taught, run.trainer.step, run.validated, parameters)
        write_atomically(out / "model_card.md", card.encode())
        return ended


def _loop(
    run: Run,
    out: Path,
    limits: Limits,
    options: RunOptions,
    log: RunLog | None = None,
    report: Report | None = None,
    notify: Callable[[str], None] = lambda _line: None,
) -> int | None:
    """The steps of this call; the signal that ended them. Only the process with a `log` writes."""
    trainer, optim, every = run.trainer, run.recipe.optim, run.recipe.validation.every
    begin, spent, waited, within = trainer.step, 0.0, 0.0, False
    progress: Progress | None = None
    workers = options.workers if options.workers is not None else 4 * (trainer.device.type == "cuda")

    def ending(*, reached: bool) -> int:
        # The largest over all processes (a signal's number, LIMIT, or 0), so that all stop at the same step.
        return max(trainer.ranks.gathered([stopped() or LIMIT * reached]))

    def check() -> None:
        if ending(reached=limits.out_of_time()):
            raise StoppedError

    def within_pass() -> AbstractContextManager[object]:
        check()
        deep = trainer.ranks.world == 1 and optim.compile == "off"
        return CheckedWithin(check) if deep else nullcontext()

    with stop_on_signal() as stopped, run.loader.from_step(begin, workers, check) as loader:
        try:
            while trainer.step < optim.steps and not ending(reached=limits.reached(trainer.step)):
                clock = time.monotonic()
                parts = next(loader)
                waited += time.monotonic() - clock
                within = True
                loss = trainer.train_step(*parts, within=within_pass)
                within = False
                spent += time.monotonic() - clock
                _check_finite(run, out, parts)
                speed = (trainer.step - begin) * run.samples_per_step / spent
                progress = Progress(
                    trainer.step, loss, trainer.learning_rate(), speed, waited / spent, trainer.skipped
                )
                due = trainer.step % every == 0 or trainer.step == optim.steps
                if due:
                    with within_pass():
                        progress.validation = run.validate() or None
                first = trainer.step == begin + 1
                _keep_step(run, out, options, progress, log, report, within_pass, due=due, first=first)
        except StoppedError:
            trainer.drop_gradients()
        if within or run.step_validated != trainer.step:  # stopped in between
            _stop_between(run, out, options.keep, log, within_pass, within=within)
            if within:
                notify(f"stopped within step {trainer.step + 1}, which is done again when the run goes on")
            if report and progress and run.validated:
                report(replace(progress, validation=run.validated))
    return ending(reached=False) or None


def _keep_step(
    run: Run,
    out: Path,
    options: RunOptions,
    progress: Progress,
    log: RunLog | None,
    report: Report | None,
    within_pass: Callable[[], AbstractContextManager[object]],
    *,
    due: bool,
    first: bool,
) -> None:
    """Log and report a step, and save weights and pictures when they are `due`."""
    trainer = run.trainer
    if log and (due or trainer.step % options.log_every == 0 or first):
        log.add(progress)
    if report:
        report(progress)
    if log and (due or trainer.step % options.save_every == 0):
        write_checkpoint(trainer, out, progress.validation, keep=options.keep)
    if log and due:
        with within_pass() if trainer.ranks.world == 1 else nullcontext():
            run.write_samples(out)


def _stop_between(
    run: Run,
    out: Path,
    keep: int,
    log: RunLog | None,
    within_pass: Callable[[], AbstractContextManager[object]],
    *,
    within: bool,
) -> None:
    """Measure and save the weights of a call that ends between two measurements, or `within` a step."""
    if run.step_validated != run.trainer.step:
        run.validated = None
        with suppress(StoppedError), within_pass():
            run.validate()
    if log:
        write_checkpoint(run.trainer, out, keep=keep)
        log.stop(run.trainer.step, run.validated, within=within)


def _check_finite(run: Run, out: Path, parts: Parts) -> None:
    trainer = run.trainer
    if trainer.skipped_in_a_row < LOSSES_BEFORE_STOP:
        return
    dump = dump_batches(out, trainer.step, parts) if trainer.ranks.rank == 0 else None
    raise SrcliError(
        f"No finite loss in {LOSSES_BEFORE_STOP} steps up to step {trainer.step}; {out} keeps the last good state"
        + (f", {dump.name} the samples." if dump else "."),
        hint="Lower optim.lr, or use optim.precision fp32.",
    )


def dry_run(
    recipe: Recipe,
    data: list[Path],
    out: Path,
    *,
    device: str = "cpu",
    init: Path | None = None,
    resume: str = "auto",
    notify: Callable[[str], None] = lambda _line: None,
    force: bool = False,
) -> None:
    """Build all that `train` would, take two steps, report memory and speed, write nothing; raises as `train`."""
    from srcli.evaluate.cost import measured

    place = torch.device(device)
    with joined_ranks("nccl" if place.type == "cuda" else "gloo") as ranks:
        run = prepare(
            recipe, data, out, place, ranks, init=init, resume=resume, notify=notify, force=force, dry=True
        )
        notify = notify if ranks.rank == 0 else lambda _line: None
        trainer = run.trainer
        begin = trainer.step
        clock = time.monotonic()
        parts = run.loader.step(begin)
        waited = time.monotonic() - clock
        with measured(trainer.network, place) as first:
            trainer.train_step(*parts)
        with measured(trainer.network, place) as cost:  # the first step also warmed up
            trainer.train_step(*parts)
        seconds = waited + cost.seconds
        memory = max(first.memory or 0, cost.memory or 0)
        notify(
            f"{count_parameters(trainer.network):,} parameters on {place}; a step of {run.samples_per_step} samples "
            f"takes {seconds:.3g} s ({waited / seconds:.0%} for samples), {run.samples_per_step / seconds:.3g} samples/s"
            + (f", {memory / 2**20:.0f} MiB at most" if memory else "")
        )
        left = recipe.optim.steps - begin
        notify(
            f"{left} of {recipe.optim.steps} steps would take {left * seconds / 3600:.2g} h; nothing was written"
        )
