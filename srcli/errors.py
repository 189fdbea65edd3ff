"""What can go wrong for a person, as one tree; each leaf knows its exit code.

    SrcliError                 1   an item failed
    |-- UsageError             2   wrong option, value or configuration
    |   |-- PresetError        2   unknown preset or a key that does not belong
    |   `-- PluginError        2   a plug-in that cannot be imported, or has something else than it says
    |-- NothingToDoError       3   a named file does not exist; a folder or glob holds no image
    |-- ModelError             4   weights or data missing, refused, or with a wrong hash
    |   `-- WeightsError       4   a checkpoint that does not fit
    |-- ResourceError          5   memory, disk, device, or a format's limit
    |-- ExistsError            6   the output exists and must not be replaced
    |-- CheckError             7   a check asked for did not hold
    `-- ImageError             1   a file is no image, truncated, empty or unsupported

A message says what happened, where, and what to do next. What a decoder or the machine raises becomes one of these
in `decoding` and `as_ours`; anything else that is not a `SrcliError` is a bug and keeps its traceback.
"""

from __future__ import annotations

import difflib
import textwrap
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

FEW = 24  # names that are listed whole
PLUGINS: set[Path] = set()  # files and folders whose code is not ours, and runs here
NO_MEMORY = (
    "allocate memory",
    "failed to map segment",
    "start new thread",
    "nsufficient memory",
    "ut of memory",
)

# What needs torchvision, which fails to be imported where it was built for another torch.
TORCHVISION = (
    "Diffusion models, networks of spandrel and the metrics lpips, dists and fid need it, all else works."
)


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


class PluginError(UsageError):
    """A plug-in that cannot be imported, or has something else than it says."""


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
    """Return ``Did you mean 'x'? Known: a, b`` for an unknown word; of many names the nearest alone."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1)
    if len(names) > FEW:
        near = difflib.get_close_matches(word, names, n=3, cutoff=0.0)
        return f"Did you mean '{close[0]}'?" if close else f"Nearest: {', '.join(near)}."
    listed = "Known: " + ", ".join(names) + "."
    return f"Did you mean '{close[0]}'? {listed}" if close else listed


def placeholder(path: Path) -> str | None:
    """What a download or a checkout left in the place of a binary file, in words; None where it is not known.

    Raises:
        OSError: it is not readable.
    """
    with path.open("rb") as file:
        start = file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if start.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the file it stands for (git lfs pull fetches that)"
    if start.startswith(b"<"):
        return "a web page (an answer in the place of the file; open its link in a browser)"
    return None


def as_ours(error: Exception, *, bug: Literal["raise", "tell"] = "raise") -> SrcliError:
    """What the machine refuses (memory, a file, a shared library) as an error for people.

    Anything else is a bug, and raised again; or, where a batch has to go on, printed with its traceback.
    """
    if isinstance(error, SrcliError):
        return error
    if _is_out_of_memory(error):
        return ResourceError(
            f"memory ran out ({first_line(error)}).",
            hint="Choose a smaller size, close other programs, or raise the limit of the process (ulimit -v).",
        )
    if isinstance(error, OSError) and error.errno is not None and not isinstance(error, BrokenPipeError):
        where = "" if error.filename is None else f"{error.filename}: "
        return ResourceError(f"{where}{error.strerror}.", hint="Check the path and its permissions.")
    if isinstance(error, ImportError) and any(word in str(error) for word in ("shared object", "DLL load")):
        return ResourceError(f"a library cannot be loaded: {first_line(error)}.", hint="Install it again.")
    if pair := torchvision_mismatch(error):
        return pair
    if place := place_in_plugin(error):
        return SrcliError(
            f"{place} raised {type(error).__name__}: {first_line(error)}.", hint="Mend the plug-in."
        )
    if bug == "raise":
        raise error
    traceback.print_exception(error)
    return SrcliError(f"internal error: {type(error).__name__}: {error}")


def place_in_plugin(error: BaseException) -> str | None:
    """Where an error left the code of a plug-in, ``plug-in my.py, line 7,``; None where it was not in any."""
    if isinstance(error, SyntaxError) and error.filename and _of_plugin(error.filename):
        return f"plug-in {error.filename}, line {error.lineno},"
    frames = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    found = next((each for each in reversed(frames) if _of_plugin(each[0])), None)
    return f"plug-in {found[0]}, line {found[1]}," if found else None


def _of_plugin(file: str) -> bool:
    return any(Path(file).is_relative_to(place) for place in PLUGINS)


def torchvision_mismatch(error: BaseException) -> ResourceError | None:
    """What to tell of a library that imports torchvision, where that belongs to another torch; None for any other error."""
    cause: BaseException | None = error
    while cause is not None and "torchvision::" not in str(cause):
        cause = cause.__cause__ or cause.__context__
    if cause is None:
        return None
    pair = "pip install --force-reinstall torch torchvision"
    return ResourceError(
        "torch and torchvision do not belong together, so that torchvision cannot be imported.",
        hint=f"{TORCHVISION} Install a matching pair: {pair}",
    )


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or any(words in str(error) for words in NO_MEMORY)


@contextmanager
def decoding(name: str, form: str) -> Iterator[None]:
    """Inside, whatever a decoder raises on a hostile file becomes an error for people; its cause is kept.

    Args:
        name: of the file, for messages.
        form: what it is decoded as.

    Raises:
        ResourceError: memory ran out.
        ImageError: the decoder raised anything else.
    """
    try:
        yield
    except SrcliError:
        raise
    except Exception as error:
        if _is_out_of_memory(error):
            raise ResourceError(f"{name}: memory ran out.", hint="Close other programs.") from error
        about = f"{type(error).__name__}: {first_line(error)}"
        raise ImageError(
            f"{name} cannot be decoded ({form}, {about}).", hint="Copy or download it again."
        ) from error
