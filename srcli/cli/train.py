"""`srcli train`: photos to weights, resumable at any step."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from srcli.errors import NothingToDoError, UsageError, suggest
from srcli.presets import preset_folders

if TYPE_CHECKING:
    from srcli.train import Progress

SECONDS_BETWEEN_LINES = 10


def train(
    data: Annotated[
        list[Path], typer.Option("--data", help="Folder, image or tar shard of photos; repeatable.")
    ],
    recipe: Annotated[
        str, typer.Option("--recipe", help="A packaged recipe, or the path of a TOML file.")
    ] = "edsr-s-blend",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder of the run.", show_default="runs/RECIPE")
    ] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="A setting to change, as section.key=value; repeatable.")
    ] = None,
    max_steps: Annotated[
        int | None, typer.Option("--max-steps", min=1, help="Stop this call after that many steps in all.")
    ] = None,
    max_minutes: Annotated[
        float | None, typer.Option("--max-minutes", min=0, help="Stop this call after that many minutes.")
    ] = None,
    init: Annotated[
        Path | None, typer.Option("--init", help="Start from the weights in this safetensors file.")
    ] = None,
    device: Annotated[str, typer.Option("--device", "-d", help="auto, cpu, cuda[:i], mps or xpu.")] = "auto",
    save_every: Annotated[int, typer.Option("--save-every", min=1, help="Steps between checkpoints.")] = 500,
    force: Annotated[
        bool, typer.Option("--force", help="Continue a run whose configuration has changed.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress lines.")] = False,
) -> None:
    """Train a network on your own photos, or continue a run.

    A run in --out is continued where it stopped. Limits say where this call stops; the learning rate's schedule
    has the recipe's length. Ctrl-C saves and ends.
    """
    from srcli.engine.device import choose_device
    from srcli.recipe import read_recipe
    from srcli.train import Limits
    from srcli.train import train as run

    path = find_recipe(recipe)
    settings = read_recipe(path, _changes(changes or []))
    folder = out or Path("runs") / path.stem
    limits = Limits(max_steps, None if max_minutes is None else 60 * max_minutes)
    stopped = run(
        settings,
        data,
        folder,
        device=str(choose_device(device).device),
        limits=limits,
        init=init,
        save_every=save_every,
        report=None if quiet else _Lines(settings.optim.steps),
        notify=lambda line: print(line, file=sys.stderr),
        force=force,
    )
    print(folder / "last.safetensors")
    if stopped is not None:
        raise typer.Exit(128 + stopped)


def find_recipe(name: str) -> Path:
    """The recipe file called `name`, or at that path.

    Raises:
        UsageError: there is none.
        NothingToDoError: a TOML path that does not exist.
    """
    path = Path(name)
    if path.suffix == ".toml":
        if not path.is_file():
            raise NothingToDoError(f"recipe {path} does not exist.")
        return path
    known = {p.stem: p for folder in reversed(preset_folders()) for p in (folder / "recipes").glob("*.toml")}
    if name not in known:
        raise UsageError(f"unknown recipe '{name}'.", hint=suggest(name, known))
    return known[name]


def _changes(pairs: list[str]) -> dict[str, str]:
    changes = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or "." not in key:
            raise UsageError(f"--set takes section.key=value, got '{pair}'.")
        changes[key.strip()] = value.strip()
    return changes


class _Lines:
    """A line on stderr every few seconds and at every validation."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.printed = 0.0

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if not progress.validation and now - self.printed < SECONDS_BETWEEN_LINES:
            return
        self.printed = now
        line = (
            f"step {progress.step}/{self.steps}  loss {progress.loss:.4f}  lr {progress.lr:.1e}  "
            f"{progress.samples_per_second:.0f} samples/s"
        )
        for name, value in (progress.validation or {}).items():
            line += f"  {name} {value:.2f} dB"
        print(line, file=sys.stderr, flush=True)
