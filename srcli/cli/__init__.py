"""The command line: one Typer app, errors as exit codes, nothing heavy at import.

A command's module holds a thin function and imports what it needs inside it; its module must import without torch.
"""

from __future__ import annotations

import signal
from types import FrameType
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from srcli import __version__
from srcli.cli import (
    bench,
    cache,
    compare,
    data,
    doctor,
    evaluate,
    explain,
    info,
    models,
    pareto,
    sweep,
    train,
    upscale,
    upscale_request,
)
from srcli.cli.command import command
from srcli.cli.console import print_error
from srcli.cli.signals import open_missing_streams
from srcli.errors import SrcliError


class Group(TyperGroup):
    """Commands whose `SrcliError` becomes one line on stderr and its exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except SrcliError as error:
            print_error(error)
            raise typer.Exit(error.code) from error


def _environment(command: str) -> dict[str, Any]:
    """Every option of a command can be given as SRCLI_<COMMAND>_<OPTION>."""
    return {"auto_envvar_prefix": f"SRCLI_{command.upper()}"}


app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # a bug keeps its plain traceback
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(context_settings=_environment("upscale"))(command(upscale_request.Request, upscale.upscale))
app.command(context_settings=_environment("train"))(command(train.Request, train.train))
app.command("eval", context_settings=_environment("eval"))(command(evaluate.Request, evaluate.evaluate))
app.command("sweep-temperature", context_settings=_environment("sweep_temperature"))(
    command(sweep.Request, sweep.sweep_temperature)
)
app.command(context_settings=_environment("pareto"))(command(pareto.Request, pareto.pareto))
app.command(context_settings=_environment("compare"))(compare.compare)
app.command(context_settings=_environment("explain"))(explain.explain)
app.command(context_settings=_environment("info"))(info.info)
app.command(context_settings=_environment("doctor"))(doctor.doctor)
app.add_typer(cache.app, name="cache", context_settings=_environment("cache"))
app.add_typer(bench.app, name="bench", context_settings=_environment("bench"))
app.add_typer(data.app, name="data", context_settings=_environment("data"))
app.add_typer(models.app, name="models", context_settings=_environment("models"))


def _print_version(asked: bool) -> None:
    if asked:
        print(f"srcli {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option("--version", "-V", help="Print the version.", is_eager=True, callback=_print_version),
    ] = False,
) -> None:
    """Enlarge images by any factor, train and compare the networks that do it."""


def _terminate(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + signal.SIGTERM)  # unwinds, so that temporary files are removed


def main() -> None:
    """Run the command line and exit."""
    open_missing_streams()
    signal.signal(signal.SIGTERM, _terminate)
    app(prog_name="srcli")
