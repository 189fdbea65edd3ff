"""Option types that several commands have: a flag means and reads the same wherever it appears.

Every option can also be given by the environment, as SRCLI_<COMMAND>_<OPTION>; the shell's command line wins.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Literal, TypeVar, get_type_hints

import typer

from srcli.cli.console import say
from srcli.config.presets import successor

DRAW, RUN, REPORT = "Detail", "Running", "Reporting"

option = partial(typer.Option, show_envvar=False)  # every option has one: said once, in the command's help


def words(*texts: str | None) -> list[str]:
    """What stands between the commas of texts."""
    return [word.strip() for text in texts if text for word in text.split(",") if word.strip()]


def current(model: str, note: Callable[[str], None] = say) -> str:
    """The model to use for one that was named: itself, or the successor of one that has left, which is said."""
    new = successor(model)
    if new is not None:
        note(f"'{model}' has left; its successor '{new}' is used")
    return new or model


Device = Annotated[
    str,
    option(
        "--device",
        "-d",
        metavar="auto|cpu|cuda[:N]|mps|xpu",
        help="Where to run.",
        envvar="SRCLI_DEVICE",
        rich_help_panel=RUN,
    ),
]
Precision = Annotated[
    Literal["auto", "fp32", "bf16", "fp16"],
    option(help="Arithmetic; auto is bf16 on a GPU that has it, else fp32.", rich_help_panel=RUN),
]
Tile = Annotated[
    str,
    option(
        "--tile",
        "-t",
        metavar="auto|none|PX",
        help="Side of the pieces that are looked at; changes memory and time, and the picture only of diffusion models.",
        rich_help_panel=RUN,
    ),
]
Seed = Annotated[
    int,
    option(help="For models that draw random numbers; recorded in the output.", rich_help_panel=DRAW),
]
Offline = Annotated[
    bool,
    option(
        "--offline",
        help="Never use the network.",
        envvar="SRCLI_OFFLINE",
        rich_help_panel=RUN,
    ),
]
Quiet = Annotated[bool, option("--quiet", "-q", help="Only errors on stderr.", rich_help_panel=REPORT)]


Request = TypeVar("Request")


def command(request: type[Request], run: Callable[[Request], None]) -> Callable[..., None]:
    """A function for Typer, with the name and the help of `run`, and a parameter for every field of `request`.

    Args:
        request: a dataclass; the types of its fields are those of options.
        run: what the command does with what was typed.
    """
    hints = get_type_hints(request, include_extras=True)

    def call(**words: Any) -> None:
        run(request(**words))

    fields = inspect.signature(request).parameters.values()
    parameters = [field.replace(kind=field.KEYWORD_ONLY, annotation=hints[field.name]) for field in fields]
    call.__name__, call.__doc__, call.__annotations__ = run.__name__, run.__doc__, hints
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # mypy does not know it
    return call
