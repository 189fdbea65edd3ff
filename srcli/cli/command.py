"""How commands are put together: from a dataclass of options or a function, with help of one screen and errors in a line.

Options that few need are told by --help-all, those of a method (noise, diffusion) where -m names a model that has it.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Mapping
from functools import partial
from math import inf
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup
from typer.models import OptionInfo

from srcli.cli.console import print_error, say
from srcli.cli.mistakes import as_usage, check_for_mistakes, no_command, typed_value
from srcli.errors import UsageError, as_ours

NOISE, DIFFUSION = "Models that draw noise", "Diffusion models"  # panels of options that other models lack
WRONG_USAGE: Any = typer.BadParameter.__mro__[1]  # what Typer raises for all of it
OFF = ("", "0", "false", "f", "no", "n", "off")  # what a variable says to leave a switch as it is
ON = ("1", "true", "t", "yes", "y", "on")
KINDS = {int: "N", float: "N", Path: "FILE", str: "TEXT"}

Request = TypeVar("Request")


def option(text: str, *words: str, default: Any = ..., panel: str | None = None, **more: Any) -> Any:
    """An option with its help, as the value of a parameter or in the type that several commands share.

    Words, such as "-m NAME|FILE": with a dash its names (the long one is the parameter's), without one what stands for
    a value. Without `default` it is off or None if its type allows that, else required.
    """
    typed = " ".join(words).split()
    names = [word for word in typed if word.startswith("-")]
    metavar = next((word for word in typed if not word.startswith("-")), None)
    return typer.Option(
        default, *names, help=text, metavar=metavar, rich_help_panel=panel, show_envvar=False, **more
    )


def argument(text: str, metavar: str) -> Any:
    """What is typed without a name."""
    return typer.Argument(help=text, metavar=metavar, show_default=False)


class OurHelp:
    """What our commands and groups have in common: help as text, and flags without Typer's conversion of values.

    That imports a library that checks types, which takes a fifth of a second.
    """

    def get_help_option(self, ctx: Any) -> Any:
        found = super().get_help_option(ctx)  # type: ignore[misc]
        if found is not None:
            skip_conversion(found)
        return found

    def format_help(self, ctx: Any, formatter: Any) -> None:
        from srcli.cli.help import help_text

        formatter.write(help_text(self, ctx) + "\n")


def skip_conversion(flag: Any) -> None:
    """Leave the value of an absent flag unconverted: None."""
    process = partial(type(flag).process_value, flag)
    flag.process_value = lambda ctx, value: process(ctx, value) if value else None


class Command(OurHelp, TyperCommand):
    """A command with our help and errors, which knows its earlier options."""

    basic: tuple[str, ...] = ()  # options that --help tells, by the names of fields; all where it is empty
    kinds: Mapping[str, tuple[Any, Any]] = {}  # by parameter: the type of its values, and its `OptionInfo`
    bare: Mapping[str, str] = {}  # what is meant by an option that no X,Y follows
    # What to write in place of an earlier option, with {} for its value; it is replaced, with a note.
    moved: Mapping[str, str] = {}
    gone: Mapping[str, str] = {}  # what to do instead of an option that has left; that is the error

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        for param in self.params:
            kind, about = self.kinds[param.name]
            setattr(param, "process_value", partial(_processed, param, kind, about, param.process_value))  # noqa: B010

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Values from what was typed, or its help."""
        own = args[: args.index("--")] if "--" in args else args
        wanted = {"-h", "--help", "--help-all"}.intersection(own)
        if wanted and not ctx.resilient_parsing:
            from srcli.cli.help import help_text

            print(help_text(self, ctx, full="--help-all" in wanted, model=typed_value(own, "-m", "--model")))
            raise typer.Exit
        try:
            check_for_mistakes(own, self)
            after = [*args[1:], ""]
            args = [
                f"{word}={self.bare[word]}" if word in self.bare and not re.match(r"\d+,", next_) else word
                for word, next_ in zip(args, after, strict=False)
            ]
            for first, other in (
                (each.opts[0], each.secondary_opts[0]) for each in self.params if each.secondary_opts
            ):
                if {first, other} <= set(own) and not other.startswith("--no-"):
                    raise UsageError(f"{first} and {other} exclude each other.", hint="Give one of them.")
            prefix = f"SRCLI_{ctx.info_name}_".upper()
            return super().parse_args(ctx, _translate_earlier(args, prefix, self.moved, self.gone))
        except WRONG_USAGE as error:
            raise as_usage(error, ctx, own) from None


class Group(OurHelp, TyperGroup):
    """Commands whose errors, but for bugs, become one line on stderr and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except typer.Exit:
            raise
        except Exception as error:
            ours = as_usage(error, ctx, ()) if isinstance(error, WRONG_USAGE) else as_ours(error)
            print_error(ours)
            raise typer.Exit(ours.code) from error

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that was named, and what follows."""
        if args[0] not in self.commands and not ctx.resilient_parsing:
            raise no_command(args, ctx)
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing:
            from srcli.cli.help import help_text

            print(help_text(self, ctx))
            raise typer.Exit(UsageError.code)
        try:
            return super().parse_args(ctx, args)
        except WRONG_USAGE as error:
            ours = as_usage(error, ctx, args)
            if ctx.parent is not None:
                raise ours from None
            print_error(ours)
            raise typer.Exit(ours.code) from None


class App(typer.Typer):
    """Commands below one name."""

    def __init__(self, about: str = "") -> None:
        super().__init__(help=about, cls=Group, add_completion=False, pretty_exceptions_enable=False,
                         context_settings={"help_option_names": ["-h", "--help"]})  # fmt: skip

    def command(self, name: str | None = None, **settings: Any) -> Callable[[Any], Any]:
        """A decorator: the function becomes a command, and is left as it is."""
        settings["kinds"] = {}
        add = super().command(name, cls=type("Command", (Command,), settings))

        def decorate(call: Any) -> Any:
            settings["kinds"].update(_complete(call))
            add(call)
            return call

        return decorate


def single(run: Any, request: type | None = None, **settings: Any) -> App:
    """One command alone: a function of options, or of a dataclass of them; `settings` are attributes of `Command`."""
    app = App()
    app.command(**settings)(run if request is None else command(request, run))
    return app


def command(request: type[Request], run: Callable[[Request], None]) -> Callable[..., None]:
    """A function for Typer, with the name and the help of `run`, and a parameter for every field of `request`.

    `request`: a dataclass of options. `run`: what the command does with what was typed.
    """

    def call(**words: Any) -> None:
        run(request(**words))

    fields = inspect.signature(request).parameters.values()
    parameters = [field.replace(kind=field.KEYWORD_ONLY) for field in fields]
    call.__name__, call.__doc__ = run.__name__, run.__doc__
    call.__annotations__ = get_type_hints(request, include_extras=True)
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # mypy does not know it
    return call


def _complete(call: Any) -> dict[str, tuple[Any, Any]]:
    """Give every option its long name, its default and a word for its value; returns their types and options."""
    found = {}
    signature, hints = inspect.signature(call), get_type_hints(call, include_extras=True)
    for name, param in signature.parameters.items():
        is_shared = get_origin(hints[name]) is Annotated
        kind, about = get_args(hints[name]) if is_shared else (hints[name], param.default)
        found[name] = kind, about
        if not is_shared and about.default is ... and (kind is bool or NoneType in get_args(kind)):
            about.default = False if kind is bool else None
        if isinstance(about, OptionInfo):
            decls = about.param_decls or ()
            if not any(word.startswith("--") for word in decls):
                about.param_decls = (f"--{name.strip('_').replace('_', '-')}", *decls)
            about.metavar = about.metavar or _word_for(kind)
    call.__annotations__ = hints
    call.__signature__ = signature.replace(
        parameters=[param.replace(annotation=hints[name]) for name, param in signature.parameters.items()]
    )
    return found


def _processed(param: Any, kind: Any, about: Any, process: Callable[..., Any], ctx: Any, value: Any) -> Any:
    if value is None or value is param.default or param.value_is_missing(value):
        return process(ctx, None) if param.required else param.default
    try:
        return _converted(kind, about, value)
    except ValueError as error:
        raise typer.BadParameter(str(error), ctx=ctx, param=param) from None


def _converted(kind: Any, about: Any, value: Any) -> Any:
    """A value of a kind from words; raises ValueError."""
    args = [arg for arg in get_args(kind) if arg is not type(None)]
    if get_origin(kind) is list:
        return [_converted(args[0], about, each) for each in value]
    if get_origin(kind) is Literal:
        if value not in args:
            raise ValueError(value)
        return value
    if args:  # or None
        return _converted(args[0], about, value)
    if kind is bool:
        if not isinstance(value, bool) and value.lower() not in (*OFF, *ON):
            raise ValueError(value)
        return value if isinstance(value, bool) else value.lower() in ON
    found = kind(value)
    if kind in (int, float) and not (-inf if about.min is None else about.min) <= found <= (
        inf if about.max is None else about.max
    ):
        raise ValueError(value)
    return found


def _word_for(kind: Any) -> str | None:
    if get_origin(kind) is Literal:
        return "|".join(get_args(kind))
    return KINDS.get(kind) or next((word for part in get_args(kind) if (word := _word_for(part))), None)


def name_variables(command: Any, prefix: str) -> None:
    """Let every option be given as PREFIX_<OPTION>, before what commands share, such as SRCLI_DEVICE."""
    for name, each in getattr(command, "commands", {}).items():
        name_variables(each, f"{prefix}_{name}".upper().replace("-", "_"))
    for option in command.params:
        long = [word[2:] for word in option.opts if word.startswith("--")]
        if not long:
            continue
        shared = [option.envvar] if isinstance(option.envvar, str) else option.envvar or []
        option.envvar = [f"{prefix}_{long[0]}".upper().replace("-", "_"), *shared]
        opposite = [word for word in option.secondary_opts if word.startswith("--")]
        if opposite and not opposite[0].startswith("--no-"):  # two switches, not one and its opposite
            variable = f"{prefix}_{opposite[0][2:]}".upper().replace("-", "_")
            option.resolve_envvar_value = partial(_either, option.resolve_envvar_value, variable)


def _either(first: Callable[[Any], str | None], second: str, context: Any) -> str | None:
    """What the variables of two switches of one option say: the first, the opposite, or nothing."""
    value, other = first(context), os.environ.get(second, "")
    if value is not None and value.lower() not in OFF:
        return value
    return "0" if other.lower() not in OFF else None


# --- earlier options ----------------------------------------------------------------------------------------------


def _translate_earlier(
    args: list[str], prefix: str, moved: Mapping[str, str], gone: Mapping[str, str]
) -> list[str]:
    first, rest = [], list(args)
    for old, new in moved.items():
        value = os.environ.get(prefix + old.strip("-").upper().replace("-", "_"))
        if value is not None and ("{}" in new or value.lower() not in OFF):
            rest[:0] = [old, value] if "{}" in new else [old]
    kept: list[str] = []
    while rest and rest[0] != "--":
        word, equals, value = rest.pop(0).partition("=")
        if word in gone:
            raise UsageError(f"{word} has gone.", hint=gone[word])
        if word not in moved:
            kept.append(word + equals + value)
            continue
        if "{}" in moved[word] and not equals:
            if not rest:
                raise UsageError(f"{word} needs a value.")
            value = rest.pop(0)
        if not {"-q", "--quiet"}.intersection(args):
            say(f"{word} is now {moved[word].format('..')}")
        first += [part.format(value) for part in moved[word].split(" ") if part]
    return [*first, *kept, *rest]
