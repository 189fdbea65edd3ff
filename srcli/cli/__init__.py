"""The command line: one Typer app, errors as exit codes, nothing heavy at import.

A command's module is imported when the command is named, and imports what it needs inside its functions: without torch.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, ClassVar

import typer

from srcli import __version__
from srcli.cli.command import Group, lighten, name_variables
from srcli.cli.streams import end_lines, mind_streams
from srcli.config.plugins import add_file
from srcli.errors import NothingToDoError
from srcli.files import new_run
from srcli.processes import end_if_told, mind_signals
from srcli.resources import keep_freed_memory

COMMANDS = {  # the module of each, and what it does
    "upscale": ("upscale", "Enlarge pictures by any factor, or to any size."),
    "models": ("models", "List, inspect, fetch, check and convert models."),
    "compare": ("compare", "Compare two pictures, or one picture enlarged by several models."),
    "info": ("info", "Show what a picture or a weights file is, and what enlarging it would take."),
    "doctor": ("doctor", "Say whether this machine is ready, and what to do if not."),
    "eval": ("evaluate", "Measure models on benchmarks."),
    "bench": ("bench", "List, fetch and check benchmarks; make LR pictures."),
    "pareto": ("pareto", "Draw fidelity against perception, and name the models that nothing beats in both."),
    "sweep-temperature": ("sweep", "Measure a model at many temperatures, and recommend one for each scale."),
    "explain": ("explain", "Draw what a network looks at, which branch answers, or how samples differ."),
    "train": ("train", "Train a network on your own photos, or continue a run."),
    "data": ("data", "Check, count and pack training photos."),
    "cache": ("cache", "Show or clear what is kept between runs; models are kept."),
}


class Commands(Mapping[str, Any]):
    """The commands by name, each imported when it is asked for."""

    def __getitem__(self, name: str) -> Any:
        return _command(name)

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


@cache
def _command(name: str) -> Any:
    module, _ = COMMANDS[name]
    found = typer.main.get_command(import_module(f"srcli.cli.{module}").app)
    found.name = name
    name_variables(found, f"SRCLI_{name}".upper().replace("-", "_"))
    return found


class Root(Group):
    """All commands."""

    about: ClassVar = {name: about for name, (_, about) in COMMANDS.items()}

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands: Any = Commands()

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """The rest."""
        for param in self.params:
            lighten(param)
        return super().parse_args(ctx, args)


app = typer.Typer(name="srcli", cls=Root, pretty_exceptions_enable=False)  # a bug keeps its plain traceback


def _print_version(asked: bool) -> None:
    if asked:
        print(f"srcli {__version__}")
        raise typer.Exit


@app.callback(context_settings={"help_option_names": ["-h", "--help"]})
def root(
    version: Annotated[
        bool,
        typer.Option("--version", "-V", help="Print the version.", is_eager=True, callback=_print_version),
    ] = False,
    plugin: Annotated[
        list[Path] | None,
        typer.Option(
            help="Python file with your own decoders, metrics, .. before the command; repeatable.",
            metavar="FILE.py",
        ),
    ] = None,
) -> None:
    """Enlarge images by any factor, train and compare the networks that do it.

    srcli upscale photo.png --scale 4.3
    """
    new_run()
    for file in plugin or ():
        if not file.is_file():
            raise NothingToDoError(f"plug-in {file} does not exist.")
        add_file(file)


def main() -> None:
    """Run the command line and exit."""
    mind_streams()
    mind_signals()
    keep_freed_memory()
    code: object = None
    try:
        app(prog_name="srcli")
    except SystemExit as leaving:
        code = leaving.code
    except BaseException:  # of a library that was interrupted, perhaps
        end_if_told()
        raise
    end_if_told()
    sys.exit(end_lines(code))
