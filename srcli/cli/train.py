"""`srcli train`: photos to weights, resumable at any step."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from srcli.errors import NothingToDoError, UsageError, suggest

if TYPE_CHECKING:
    from srcli.train.log import Limits
    from srcli.train.loop import RunOptions
    from srcli.train.recipe import Recipe

LOGS = ("jsonl", "tensorboard")


@dataclass(frozen=True)
class Request:
    """The options, in the order of their help."""

    recipe: Annotated[
        str, typer.Option("--recipe", help="A packaged recipe, or the path of a TOML file.")
    ] = "quick"
    data: Annotated[
        list[Path] | None, typer.Option("--data", help="Folder, image or tar shard of photos; repeatable.")
    ] = None
    data_on_device: Annotated[
        bool,
        typer.Option(
            "--data-on-device", help="Keep all photos in the device's memory and cut samples there."
        ),
    ] = False
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder of the run.", show_default="runs/RECIPE")
    ] = None
    variant: Annotated[
        str | None, typer.Option("--variant", help="Another way to train that the recipe has, such as short.")
    ] = None
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="A setting to change, as section.key=value; repeatable.")
    ] = None
    scales: Annotated[
        str | None,
        typer.Option("--scales", help="1:4, 'alternate 1:4|4:12' or 'cumulative 1:4|4:12'."),
    ] = None
    init: Annotated[
        str | None, typer.Option("--init", help="Start from the weights of a preset or safetensors file.")
    ] = None
    resume: Annotated[
        str,
        typer.Option("--resume", help="auto: the run in --out if there is one; no; or the path of a run."),
    ] = "auto"
    max_steps: Annotated[
        int | None, typer.Option("--max-steps", min=1, help="Stop this call after that many steps in all.")
    ] = None
    max_minutes: Annotated[
        float | None, typer.Option("--max-minutes", min=0, help="Stop this call after that many minutes.")
    ] = None
    max_hours: Annotated[float | None, typer.Option("--max-hours", min=0, help="The same, in hours.")] = None
    device: Annotated[str, typer.Option("--device", "-d", help="auto, cpu, cuda[:i], mps or xpu.")] = "auto"
    save_every: Annotated[int, typer.Option("--save-every", min=1, help="Steps between checkpoints.")] = 500
    keep: Annotated[int, typer.Option("--keep", min=0, help="Earlier weights to keep in checkpoints/.")] = 3
    log: Annotated[str, typer.Option("--log", help="jsonl, or jsonl,tensorboard.")] = "jsonl"
    log_every: Annotated[
        int, typer.Option("--log-every", min=1, help="Steps between lines of log.jsonl.")
    ] = 50
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers", min=0, help="Threads that make samples.", show_default="4 for a GPU, else 0"
        ),
    ] = None
    val: Annotated[
        str | None,
        typer.Option("--val", help="Benchmarks to validate on besides held-out photos, as in eval."),
    ] = None
    overfit: Annotated[
        int,
        typer.Option("--overfit", min=0, help="Train on that many samples, to see that a network learns."),
    ] = 0
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Take one step, tell memory and speed, write nothing.")
    ] = False
    force: Annotated[
        bool, typer.Option("--force", help="Continue a run whose configuration has changed.")
    ] = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress lines.")] = False


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

    from srcli.cli.training_output import Dashboard
    from srcli.train.loop import dry_run
    from srcli.train.loop import train as run
    from srcli.train.run import device_here

    first = os.environ.get("RANK", "0") == "0"
    screen = Dashboard(settings.optim.steps, quiet=request.quiet or not first)
    same: dict[str, Any] = {
        "device": str(device_here(request.device)),
        "init": None if request.init is None else _weights(request.init),
        "resume": request.resume,
        "notify": screen.note,
        "force": request.force,
    }
    if request.dry_run:
        dry_run(settings, request.data, folder, **same)
        return
    with screen:
        stopped = run(
            settings,
            request.data,
            folder,
            limits=_limits(request),
            options=_habits(request),
            report=screen.report,
            **same,
        )
    if first:
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


def _habits(request: Request) -> RunOptions:
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

    Raises:
        PresetError: there is none of that name.
        NothingToDoError: a TOML path that does not exist.
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
    if request.data_on_device:
        recipe = replace(recipe, data=replace(recipe.data, on_device=True))
    return recipe


def _weights(init: str) -> Path:
    """The weights file at the path `init`, or of the preset of that name.

    Raises:
        PresetError: no such preset.
        ModelError: its weights are not here.
    """
    from srcli.weights.files import find, resolve

    path = Path(init)
    return path if path.suffix == ".safetensors" and path.is_file() else find(resolve(init))
