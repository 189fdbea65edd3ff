"""What can go wrong for a person, as one tree; each leaf knows its exit code.

    SrcliError                 1   an item failed
    |-- UsageError             2   wrong option, value or configuration
    |   `-- PresetError        2   unknown preset or a key that does not belong
    |-- NothingToDoError       3   a named file does not exist; a folder or glob holds no image
    |-- ModelError             4   weights or data missing, refused, or with a wrong hash
    |   `-- WeightsError       4   a checkpoint that does not fit
    |-- ResourceError          5   memory, disk, device, or a format's limit
    |-- ExistsError            6   the output exists and must not be replaced
    |-- CheckError             7   a check asked for did not hold
    `-- ImageError             1   a file is no image, truncated, empty or unsupported

A message says what happened, where, and what to do next. Anything that is not a `SrcliError` is a bug and
keeps its traceback.
"""

from __future__ import annotations

import difflib
import textwrap
from collections.abc import Iterable


class SrcliError(Exception):
    """An error with a message meant for people and an exit code meant for scripts.

    Args:
        message: what happened, and where.
        hint: what to do next; shown on the same line.
    """

    code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message if hint is None else f"{message} {hint}")
        self.message = message
        self.hint = hint


class UsageError(SrcliError):
    """A wrong option, value or configuration."""

    code = 2


class PresetError(UsageError):
    """An unknown preset or part, or a key that does not belong."""


class NothingToDoError(SrcliError):
    """A named file does not exist, or a folder or glob holds no image."""

    code = 3


class ModelError(SrcliError):
    """Weights or data are missing, refused, or have a wrong hash."""

    code = 4


class WeightsError(ModelError):
    """A checkpoint that does not fit the network."""


class ResourceError(SrcliError):
    """Memory, disk, device, or a limit of the output format."""

    code = 5


class ExistsError(SrcliError):
    """The output exists and the policy is not to replace it."""

    code = 6


class CheckError(SrcliError):
    """A check that was asked for did not hold."""

    code = 7


class ImageError(SrcliError):
    """A file that is no image, is truncated or empty, or is of an unsupported kind."""


def first_line(error: BaseException, *, last: bool = False) -> str:
    """The first line of another library's message (or its last), cut between words, without its full stop."""
    lines = [line for line in map(str.strip, str(error).splitlines()) if line] or [type(error).__name__]
    return textwrap.shorten(lines[-1 if last else 0], 200, placeholder=" ..").rstrip(". ")


def suggest(word: str, known: Iterable[str]) -> str:
    """Return ``Did you mean 'x'? Known: a, b`` for an unknown word."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1)
    listed = "Known: " + ", ".join(names) + "."
    return f"Did you mean '{close[0]}'? {listed}" if close else listed
