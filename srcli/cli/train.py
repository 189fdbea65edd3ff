"""`srcli train`: photos to weights, resumable at any step."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import typer

from srcli.cli import options
from srcli.cli.command import option, single
from srcli.cli.console import Console, Style
from srcli.errors import NothingToDoError, UsageError, suggest
from srcli.resources import duration, in_words, used_memory

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

    from srcli.train.log import Limits, Progress
    from srcli.train.loop import RunOptions
    from srcli.train.recipe import Recipe

LOGS = ("jsonl", "tensorboard")
SECONDS_BETWEEN_LINES = 10.0
SMOOTHED = 0.98  # of the loss that is shown
BEST_FEW = 6  # measurements that the dashboard lists
CURVE, BLOCKS = 50, "▁▂▃▄▅▆▇█"


BASIC = (
    "recipe", "data", "out", "variant", "init", "source", "resume", "max_steps", "max_minutes", "device", "val", "dry_run",
    "progress", "quiet",
)  # fmt: skip

stopping = partial(option, panel="Where this call stops")
keeping = partial(option, panel="Keeping")
changing = partial(option, panel="Changing the recipe")


@dataclass(frozen=True)
class Request:
    """The options, in the order of their help."""

    recipe: str = option("A packaged recipe, or the path of a TOML file.", "NAME|FILE", default="quick")
    data: list[Path] | None = option("Folder, image or tar shard of photos; repeatable.", "PATH")
    out: Path | None = option("Folder of the run (default: runs/RECIPE).", "--out -o --output DIR")
    variant: str | None = option("Another way to train that the recipe has, such as short.", "NAME")
    init: str | None = option("Start from the weights of a preset or safetensors file.", "NAME|FILE")
    source: str | None = option("The network for one factor that recipe adopt builds on.", "--from FILE|NAME")
    resume: str = option(
        "auto: the run in --out if there is one; no; or the path of a run.", "auto|no|DIR", default="auto"
    )
    max_steps: int | None = stopping("So many steps in all.", min=1)
    max_minutes: float | None = stopping("So many minutes from now.", min=0)
    max_hours: float | None = stopping("The same, in hours.", min=0)
    device: options.Device = "auto"
    workers: int | None = option(
        "Threads that make samples. (default: 4 for a GPU, else 0)", min=0, panel=options.RUN
    )
    data_on_device: bool = option(
        "Keep all photos in the device's memory and cut samples there.", panel=options.RUN
    )
    save_every: int = keeping("Steps between checkpoints.", min=1, default=500)
    keep: int = keeping("Earlier weights to keep in checkpoints/.", min=0, default=3)
    log: str = keeping("jsonl, or jsonl,tensorboard.", "NAME[,..]", default="jsonl")
    log_every: int = keeping("Steps between lines of log.jsonl.", min=1, default=50)
    val: str | None = keeping("Benchmarks to validate on besides held-out photos, as in eval.", "NAME[,..]")
    changes: list[str] | None = changing("A setting to change; repeatable.", "--set SECTION.KEY=VALUE")
    scales: str | None = changing("1:4, 'alternate 1:4|4:12' or 'cumulative 1:4|4:12'.", "RANGES")
    overfit: int = changing(
        "Train on that many samples, to see that a network learns.", min=0, show_default=False, default=0
    )
    force: bool = changing("Continue a run whose configuration has changed.")
    dry_run: bool = option("Take one step, tell memory and speed, write nothing.", panel=options.REPORT)
    progress: options.Progress = "auto"
    quiet: options.Quiet = False


def train(request: Request) -> None:
    """Train a network on your own photos, or continue a run.

    A run in --out is continued where it stopped. Limits say where this call stops; the schedules have the recipe's
    length. Ctrl-C saves and ends. Several processes: torchrun --nproc-per-node N -m srcli train ..
    """
    if not request.data:
        raise UsageError("no photos.", hint="Name a folder or tar shards: --data photos/")
    path = recipe_file(request.recipe)
    folder = request.out or Path("runs") / path.stem
    settings = _settings(path, request)
    for word in _logs(request):
        if word not in LOGS:
            raise UsageError(f"unknown log '{word}'.", hint=suggest(word, LOGS))

    from srcli.train.loop import dry_run
    from srcli.train.loop import train as run
    from srcli.train.run import device_here

    first = os.environ.get("RANK", "0") == "0"
    dashboard = Dashboard(settings.optim.steps, "none" if request.quiet or not first else request.progress)
    shared: dict[str, Any] = {
        "device": str(device_here(request.device)),
        "init": None if request.init is None else _weights(request.init),
        "resume": request.resume,
        "notify": dashboard.note,
        "force": request.force,
    }
    if request.dry_run:
        dry_run(settings, request.data, folder, **shared)
        return
    with dashboard:
        stopped = run(
            settings,
            request.data,
            folder,
            limits=_limits(request),
            options=_run_options(request),
            report=dashboard.report,
            **shared,
        )
    if first:
        source = f" --from {request.source}" if request.source else ""
        command = f"srcli train --recipe {request.recipe}{source} --data {request.data[0]} -o {folder}"
        dashboard.note(dashboard.ending(command))
        print(folder / "last.safetensors")
    if stopped is not None:
        raise typer.Exit(128 + stopped)


def _logs(request: Request) -> list[str]:
    return [word.strip() for word in request.log.split(",")]


def _limits(request: Request) -> Limits:
    from srcli.train.log import Limits

    hours = None if request.max_hours is None else 60 * request.max_hours
    minutes = [limit for limit in (request.max_minutes, hours) if limit is not None]
    return Limits(request.max_steps, 60 * min(minutes) if minutes else None)


def _run_options(request: Request) -> RunOptions:
    from srcli.data.benchmarks import open_benchmarks
    from srcli.train.loop import RunOptions

    return RunOptions(
        request.save_every,
        request.keep,
        request.log_every,
        request.workers,
        "tensorboard" in _logs(request),
        open_benchmarks(request.val.split(",")) if request.val else (),
    )


def recipe_file(name: str) -> Path:
    """The recipe file called `name`, or at that path.

    Raises PresetError (there is none of that name), NothingToDoError (a TOML path that does not exist).
    """
    from srcli.train.recipe import find_recipe

    path = Path(name)
    if path.suffix != ".toml":
        return find_recipe(name)
    if not path.is_file():
        raise NothingToDoError(f"recipe {path} does not exist.")
    return path


def _settings(path: Path, request: Request) -> Recipe:
    from srcli.train.recipe import read_recipe

    changes = {}
    for pair in request.changes or ():
        key, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"--set takes section.key=value, got '{pair}'.")
        changes[key.strip()] = value.strip()
    if request.scales is not None:
        changes["schedule.scales"] = f'"{request.scales}"'
    recipe = replace(read_recipe(path, changes, request.variant), overfit=request.overfit)
    if request.source is not None:
        from srcli.train.adopt import adopting

        recipe = adopting(recipe, request.source)
    if request.data_on_device:
        recipe = replace(recipe, data=replace(recipe.data, on_device=True))
    return recipe


def _weights(init: str) -> Path:
    """The weights file at the path `init`, or of the preset of that name."""
    from srcli.weights.files import find, resolve

    path = Path(init)
    return path if path.suffix == ".safetensors" and path.is_file() else find(resolve(init))


class Dashboard:
    """Progress of a run of `steps` on stderr, shown in a style; a context manager."""

    def __init__(self, steps: int, style: Style = "auto") -> None:
        self.steps = steps
        self.style = Console(style=style).style
        self.loss: float | None = None
        self.losses: list[float] = []  # a curve: smoothed, one in so many steps
        self.measured: list[tuple[int, Mapping[str, float]]] = []
        self.began: tuple[float, int] | None = None
        self.step = self.shown = 0.0
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if self.style == "rich":
            from rich.console import Console as Terminal
            from rich.live import Live
            from rich.text import Text

            text = Text("looking through the photos, making the network")
            self._live = Live(text, console=Terminal(stderr=True), auto_refresh=False, redirect_stdout=False)
            self._live.start(refresh=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def note(self, line: str) -> None:
        """A line that stays."""
        if self._live is not None:
            self._live.console.print(line, markup=False, highlight=False, soft_wrap=True)
        elif self.style != "none":
            print(line, file=sys.stderr, flush=True)

    def report(self, progress: Progress) -> None:
        """Show a step, if enough time has passed or it was measured."""
        now = time.monotonic()
        self.began = self.began or (now, progress.step - 1)
        share = SMOOTHED if self.loss is not None else 0.0
        self.loss = share * (self.loss or 0.0) + (1 - share) * progress.loss
        self.step = progress.step
        self.losses.append(self.loss)
        if len(self.losses) > 2 * CURVE:
            self.losses = self.losses[::2]
        if progress.validation:
            self.measured.append((progress.step, progress.validation))
        pause = 0.5 if self._live else SECONDS_BETWEEN_LINES
        if self.style == "none" or (not progress.validation and now - self.shown < pause):
            return
        self.shown = now
        if self._live is not None:
            self._live.update(self._drawn(progress), refresh=True)
        elif self.style == "json":
            event = {
                "event": "progress",
                "steps": self.steps,
                **asdict(progress),
                "seconds_left": self._seconds(),
            }
            print(json.dumps(event), file=sys.stderr, flush=True)
        else:
            print(self._line(progress), file=sys.stderr, flush=True)

    def ending(self, command: str) -> str:
        """Where the run stopped, and the command that goes on."""
        if self.step >= self.steps:
            return f"done: {self.steps:,} steps"
        return f"stopped at step {self.step:,} of {self.steps:,}; it goes on with: {command}"

    def left(self) -> str:
        """Time that the rest of the run takes at this call's speed, in words."""
        seconds = self._seconds()
        return "?" if seconds is None else duration(seconds)

    def _seconds(self) -> float | None:
        if self.began is None or self.step <= self.began[1] + 1:  # one step says little
            return None
        return (time.monotonic() - self.began[0]) / (self.step - self.began[1]) * (self.steps - self.step)

    def _line(self, progress: Progress) -> str:
        line = (
            f"step {progress.step}/{self.steps}  loss {progress.loss:.4f}  lr {progress.lr:.1e}  "
            f"{progress.samples_per_second:.3g} samples/s  {self.left()} left"
        )
        if progress.skipped:
            line += f"  {progress.skipped} skipped"
        return line + "".join(
            f"  {name} {value:.2f} dB" for name, value in (progress.validation or {}).items()
        )

    def _drawn(self, progress: Progress) -> RenderableType:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        facts = Table.grid(padding=(0, 2))
        share = progress.step / self.steps
        facts.add_row(f"step {progress.step:,}/{self.steps:,}, {share:.0%}", f"{self.left()} left")
        facts.add_row(f"loss {self.loss:.4f}", f"learning rate {progress.lr:.2e}")
        facts.add_row(
            f"{progress.samples_per_second:.3g} samples/s",
            f"{progress.data_share:.0%} of the time waits for samples",
        )
        facts.add_row(
            f"memory {in_words(used_memory())}", f"{progress.skipped} steps skipped: no finite loss"
        )
        bar = Table.grid()  # a bar alone ends no line
        bar.add_row(ProgressBar(self.steps, progress.step, width=60))
        parts: list[RenderableType] = [bar, facts]
        parts.append(Text(f"loss      {sparkline(self.losses)}"))
        if self.measured:
            first = next(iter(self.measured[-1][1]))
            curve = [values[first] for _, values in self.measured]
            best = max(self.measured, key=lambda each: each[1][first])
            parts.append(
                Text(f"held out  {sparkline(curve)}  best {best[1][first]:.2f} dB at step {best[0]:,}")
            )
            table = Table("step", *self.measured[-1][1], title=Text("held out, dB"), title_justify="left")
            for step, values in self.measured[-BEST_FEW:]:
                table.add_row(f"{step:,}", *(f"{value:.2f}" for value in values.values()))
            parts.append(table)
        return Group(*parts)


def sparkline(values: Sequence[float], columns: int = CURVE) -> str:
    """A curve in one line of blocks, from the least value to the largest; the last of each stretch is shown."""
    if not values:
        return ""
    stretch = -(-len(values) // columns)
    shown = values[::-1][::stretch][::-1]
    low, high = min(shown), max(shown)
    steps = [round((value - low) / (high - low or 1) * (len(BLOCKS) - 1)) for value in shown]
    return "".join(BLOCKS[step] for step in steps)


app = single(train, Request, basic=BASIC)
