"""Standard streams that are closed, full, or read by nobody."""

from __future__ import annotations

import io
import os
import sys
from typing import Any

from srcli.cli.console import print_error
from srcli.errors import ResourceError
from srcli.files import write_error


class Lines(io.TextIOWrapper):
    """A stream of text that may fail: once its disk is full, the rest is dropped and work goes on."""

    lost: OSError | None = None  # why something was dropped

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except BrokenPipeError:  # nobody reads on
            raise
        except OSError as error:
            self.drop(error)
        return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            self.drop(error)

    def drop(self, error: OSError) -> None:
        """Send what is buffered, and all that follows, to the null device."""
        self.lost = error
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self.fileno())
        os.close(null)


def guard_streams() -> None:
    """Put the null device where the caller has closed stdin, stdout or stderr, and `Lines` over the last two.

    Python leaves None for a closed one, and the next file to be opened would get the stream's number.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream: Any = getattr(sys, name)
        if stream is None:
            handle = os.open(os.devnull, os.O_RDWR)
            stream = os.fdopen(handle, "w" if number else "r", encoding="utf-8", errors="replace")
        if number and isinstance(stream, io.TextIOWrapper):
            kept = {key: getattr(stream, key) for key in ("encoding", "errors", "line_buffering")}
            if kept["errors"] == "strict":  # names are bytes, and no reason to end
                kept["errors"] = (
                    "surrogateescape" if kept["encoding"].lower() == "utf-8" else "backslashreplace"
                )
            stream = Lines(stream.detach(), **kept)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def flush_stdout(code: Any) -> Any:
    """Write what waits for standard output; `code`, or 5 where it is full and work went on without it."""
    lines = sys.stdout
    if not isinstance(lines, Lines):  # Typer's, which is silent: nobody reads on
        return code
    try:
        lines.flush()
    except BrokenPipeError as error:
        lines.drop(error)
        return code or 1
    if lines.lost is None or code == ResourceError.code:
        return code
    print_error(write_error("standard output", lines.lost))
    return code or ResourceError.code
