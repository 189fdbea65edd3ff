"""Commands with many options: a dataclass lists them, and what runs takes one of its instances."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar, get_type_hints

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
