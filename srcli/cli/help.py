"""What --help and --help-all print, and the pages of the manual are made of."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

from srcli.cli.command import DIFFUSION, NOISE
from srcli.cli.console import terminal_width, wrapped
from srcli.config.presets import Preset
from srcli.config.sampling import is_sampled
from srcli.config.temperature import is_generative

METHODS: dict[str, tuple[Callable[[Preset], bool], str]] = {  # which models have it, and one of them
    NOISE: (lambda preset: is_generative(preset) or is_sampled(preset), "rlfn-linf-s"),
    DIFFUSION: (is_sampled, "fplia-small"),
}
ANY = "*"  # stands for models of all methods
LEFT = 32  # columns of the names of options


def help_text(command: Any, ctx: Any, *, full: bool = False, model: str | None = None) -> str:
    """What --help prints, or for `full` --help-all; with the options of the methods of a `model`."""
    width = terminal_width()
    lines = [f"Usage: {ctx.command_path} {_usage(command)}", ""]
    for paragraph in (command.help or "").strip().split("\n\n"):
        text = " ".join(paragraph.split())
        is_example = text.startswith("srcli ")
        if is_example and lines[-1] == "" and lines[-2].startswith("  srcli"):
            lines.pop()
        lines += [f"  {text}", ""] if is_example else [*wrapped(text, width), ""]
    found = list(sections(command, full=full, model=model))
    column = min(LEFT, 4 + max((len(left) for _, rows in found for left, _ in rows), default=0))
    for heading, rows in found:
        lines += [_bold(heading), *(line for row in rows for line in _row(*row, column, width)), ""]
    return "\n".join(lines + _more(command, ctx, full=full, model=model, width=width)).rstrip()


def sections(
    command: Any, *, full: bool = True, model: str | None = None
) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Headings with arguments, commands and options, each as what is typed and what it does."""
    found: dict[str, list[tuple[str, str]]] = {}
    for name in getattr(command, "commands", ()):
        about, _, _ = command.commands[name].help.strip().partition("\n")
        found.setdefault("Commands", []).append((name, about))
    preset = _preset(model)
    basic = set() if full else set(getattr(command, "basic", ()))
    for each in command.params:
        if each.param_type_name == "argument":
            if each.help:
                found.setdefault("Arguments", []).append((each.metavar or each.name.upper(), each.help))
            continue
        panel = _panel(each)
        if panel in METHODS:
            if model != ANY and (preset is None or not METHODS[panel][0](preset)):
                continue
        elif basic and each.name.strip("_") not in basic:
            continue
        text = each.help if full or not basic else _first_sentence(each.help)
        found.setdefault(panel, []).append((_names(each), text + _default(each)))
    yield from sorted(found.items(), key=lambda item: item[0] in METHODS)


def _panel(param: Any) -> str:
    return param.rich_help_panel or "Options"


def _preset(model: str | None) -> Preset | None:
    if model in (None, ANY):
        return None
    from srcli.weights.files import resolve

    return resolve(str(model))


def _usage(command: Any) -> str:
    words = [
        each.metavar or each.name.upper() for each in command.params if each.param_type_name == "argument"
    ]
    return " ".join(["COMMAND" if hasattr(command, "commands") else "[OPTIONS]", *words])


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=[.;])\s", text, maxsplit=1)[0].rstrip(";.") + "."


def _names(option: Any) -> str:
    short = [word for word in (*option.opts, *option.secondary_opts) if not word.startswith("--")]
    long = [word for word in option.opts if word.startswith("--")][:1]
    long += [word for word in option.secondary_opts if word.startswith("--")][:1]
    value = "" if option.is_flag or option.metavar is None else f" {option.metavar}"
    return ("/".join(short) + ", " if short else "    ") + "/".join(long) + value


def _default(option: Any) -> str:
    value = option.default
    if option.is_flag or value in (None, "", []) or not option.show_default or "(default" in option.help:
        return ""
    return f" (default: {value})"


def _row(left: str, right: str, column: int, width: int) -> list[str]:
    lines = wrapped(right, width - column)
    if len(left) > column - 4:
        return [f"  {left}", *(" " * column + line for line in lines)]
    return [f"  {left}".ljust(column) + lines[0], *(" " * column + line for line in lines[1:])]


def _bold(text: str) -> str:
    plain = not sys.stdout.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return text if plain else f"\x1b[1m{text}\x1b[0m"


def _more(command: Any, ctx: Any, *, full: bool, model: str | None, width: int) -> list[str]:
    """What else there is to read."""
    if hasattr(command, "commands"):
        return wrapped(f"{ctx.command_path} COMMAND --help tells what a command does.", width)
    texts = (
        [] if full or not getattr(command, "basic", ()) else [f"All options: {ctx.command_path} --help-all"]
    )
    if model is None and full:
        for heading, (_, example) in METHODS.items():
            names = [
                _names(each).split()[-1 if each.is_flag else -2]
                for each in command.params
                if _panel(each) == heading
            ]
            if names:
                texts.append(f"{heading}: {', '.join(names)}; see {ctx.command_path} -m {example} --help-all")
    return [line for text in texts for line in wrapped(text, width)]


def markdown(command: Any, name: str) -> str:
    """The page of a command: all that --help-all tells, and the options of methods."""
    lines = [f"# {name}", "", f"`{name} {_usage(command)}`", ""]
    for paragraph in (command.help or "").strip().split("\n\n"):
        text = " ".join(paragraph.split())
        lines += ["```sh", text, "```", ""] if text.startswith("srcli ") else [text, ""]
    for heading, rows in sections(command, model=ANY):
        lines += [f"## {heading}", ""]
        lines += [
            f"- `{left.strip()}`  \n  {right.replace('<', '&lt;').replace('*', '&#42;')}"
            for left, right in rows
        ]
        lines.append("")
    return "\n".join(lines)
