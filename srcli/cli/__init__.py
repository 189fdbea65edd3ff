"""The command line: one Typer app, errors as exit codes, nothing heavy at import.

A command's module holds a thin function and imports what it needs inside it; its module must import without torch.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
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
    evaluate_options,
    explain,
    info,
    models,
    pareto,
    sweep,
    train,
    upscale,
    upscale_options,
)
from srcli.cli.console import end_lines, mind_streams, print_error
from srcli.cli.options import OFF, command, renewing
from srcli.errors import as_ours
from srcli.files import new_run
from srcli.processes import end_if_told, mind_signals


class Group(TyperGroup):
    """Commands whose errors, but for bugs, become one line on stderr and an exit code."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        _name_variables(self, "SRCLI")

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            ours = as_ours(error)
            print_error(ours)
            raise typer.Exit(ours.code) from error


def _name_variables(group: Any, prefix: str) -> None:
    """Let every option be given as SRCLI_<COMMAND>_<OPTION>, before what commands share, such as SRCLI_DEVICE."""
    for name, each in group.commands.items():
        own = f"{prefix}_{name}".upper().replace("-", "_")
        for option in each.params:
            long = [word[2:] for word in option.opts if word.startswith("--")]
            if long:
                shared = [option.envvar] if isinstance(option.envvar, str) else option.envvar or []
                option.envvar = [f"{own}_{long[0]}".upper().replace("-", "_"), *shared]
                option.show_envvar = False  # said once, in the help of `upscale`
                opposite = [word for word in option.secondary_opts if word.startswith("--")]
                if opposite and not opposite[0].startswith(
                    "--no-"
                ):  # two switches rather than one and its opposite
                    variable = f"{own}_{opposite[0][2:]}".upper().replace("-", "_")
                    option.resolve_envvar_value = partial(_either, option.resolve_envvar_value, variable)
        if hasattr(each, "commands"):
            _name_variables(each, own)


def _either(first: Callable[[Any], str | None], second: str, context: Any) -> str | None:
    """What the variables of two switches of one option say: the first, the opposite, or nothing."""
    value, other = first(context), os.environ.get(second, "")
    if value is not None and value.lower() not in OFF:
        return value
    return "0" if other.lower() not in OFF else None


app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # a bug keeps its plain traceback
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(cls=renewing(upscale_options.MOVED, upscale_options.GONE))(
    command(upscale_options.Request, upscale.upscale)
)
app.command()(command(train.Request, train.train))
app.command("eval", cls=renewing(evaluate_options.MOVED, {}))(
    command(evaluate_options.Request, evaluate.evaluate)
)
app.command("sweep-temperature")(command(sweep.Request, sweep.sweep_temperature))
app.command()(command(pareto.Request, pareto.pareto))
app.command()(compare.compare)
app.command()(command(explain.Request, explain.explain))
app.command()(info.info)
app.command()(doctor.doctor)
app.add_typer(cache.app, name="cache")
app.add_typer(bench.app, name="bench")
app.add_typer(data.app, name="data")
app.add_typer(models.app, name="models")


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
    new_run()


def main() -> None:
    """Run the command line and exit."""
    mind_streams()
    mind_signals()
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
