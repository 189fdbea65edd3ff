"""The command line: one Typer app, errors as exit codes, nothing heavy at import.

A command's module is imported when the command is named, and imports what it needs inside its functions: without torch.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from srcli import __version__
from srcli.cli.command import Group, name_variables, skip_conversion
from srcli.cli.streams import flush_stdout, guard_streams
from srcli.config.plugins import add_file
from srcli.errors import NothingToDoError
from srcli.files import new_run
from srcli.processes import end_if_signalled, handle_signals
from srcli.resources import collect_rarely, keep_freed_memory

COMMANDS = {  # the module of each
    "upscale": "upscale",
    "models": "models",
    "compare": "compare",
    "info": "info",
    "doctor": "doctor",
    "eval": "evaluate",
    "bench": "bench",
    "pareto": "pareto",
    "sweep-temperature": "sweep",
    "explain": "explain",
    "train": "train",
    "data": "data",
    "web": "web",
    "cache": "cache",
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
    found = typer.main.get_command(import_module(f"srcli.cli.{COMMANDS[name]}").app)
    found.name = name
    name_variables(found, f"SRCLI_{name}".upper().replace("-", "_"))
    return found


class Root(Group):
    """All commands."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands: Any = Commands()

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        for param in self.params:
            skip_conversion(param)
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
    keep_freed_memory()  # before the first thread
    guard_streams()
    handle_signals()
    collect_rarely()
    code: object = None
    try:
        app(prog_name="srcli")
    except SystemExit as leaving:
        code = leaving.code
    except BaseException:  # of a library that was interrupted, perhaps
        end_if_signalled()
        raise
    end_if_signalled()
    sys.exit(flush_stdout(code))
