"""What a person reads while work goes on: progress, notes and errors, all on stderr; results on stdout.

Rich is loaded only where a bar is drawn. Elsewhere there is plain text without escape codes, one line per event.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from srcli.errors import ResourceError, SrcliError
from srcli.files import write_error
from srcli.resources import duration

if TYPE_CHECKING:
    from rich.progress import Progress

Style = Literal["auto", "rich", "plain", "json", "none"]
INTERVAL = {"plain": 10.0, "json": 1.0, "rich": 0.1}  # seconds between reports


@dataclass
class Meter:
    """Share of the work that is done and the time that is left, counted in output pixels, not in files.

    A file that has not been opened yet is taken to be like those that have.
    """

    files: int
    started: float = field(default_factory=lambda: time.monotonic())
    finished: int = 0
    opened: int = 0  # of files that are, or were, worked on: their number and all their pixels
    asked: float = 0.0
    pixels: float = 0.0
    label: str = ""
    current: float = 0.0
    share: float = 0.0
    is_begun: bool = False  # a line tells less than the whole of the file

    def begin(self, label: str, pixels: int) -> None:
        """A file starts; one that is skipped, or failed before it could start, has no pixels."""
        if (
            pixels and not self.pixels
        ):  # loading the model, and skipping what is there, say nothing about the rest
            self.started = time.monotonic()
        self.label, self.current, self.share, self.is_begun = label, pixels, 0.0, False
        self.opened, self.asked = self.opened + bool(pixels), self.asked + pixels

    def end(self) -> None:
        """The file is done, skipped or failed."""
        self.pixels += self.current * self.share
        self.finished, self.current, self.share = self.finished + 1, 0.0, 0.0

    @property
    def done(self) -> float:
        """Pixels made so far."""
        return self.pixels + self.current * self.share

    @property
    def left(self) -> float:
        """Pixels to be made, an estimate for files not opened yet."""
        waiting = self.files - self.finished - (1 if self.current else 0)
        return self.current * (1 - self.share) + waiting * self.asked / max(1, self.opened)

    @property
    def seconds(self) -> float | None:
        """Time left, None before anything is known."""
        passed = time.monotonic() - self.started
        return self.left * passed / self.done if self.done > 0 and passed > 0 else None


class Lines(io.TextIOWrapper):
    """Text for whom it may concern: where its place is full, the rest is dropped and work goes on.

    Attributes:
        lost: why something was dropped.
    """

    lost: OSError | None = None

    def write(self, text: str) -> int:
        """As in `io.TextIOWrapper`."""
        try:
            return super().write(text)
        except BrokenPipeError:  # nobody reads on
            raise
        except OSError as error:
            self.drop(error)
        return len(text)

    def flush(self) -> None:
        """As in `io.TextIOWrapper`."""
        try:
            super().flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            self.drop(error)

    def drop(self, error: OSError) -> None:
        """Send what waits in buffers, and all that follows, nowhere."""
        self.lost = error
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self.fileno())
        os.close(null)


def mind_streams() -> None:
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


def end_lines(code: Any) -> Any:
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


def say(line: str) -> None:
    """A note for the person at the terminal; results go to stdout."""
    print(line, file=sys.stderr)


def write_file(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, and make its folder.

    Raises:
        ResourceError: it cannot be written.
    """
    from srcli.files import atomic_write
    from srcli.resources import made_folder

    with made_folder(path.parent), atomic_write(path) as file:
        file.write(content)


def terminal_width(*, most: int = 110) -> int:
    """Columns of the terminal, at most those that read well; plenty where nobody looks."""
    return min(shutil.get_terminal_size((most, 24)).columns, most)


def wrapped(text: str, width: int) -> list[str]:
    """Lines of whole words."""
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)


def print_wrapped(text: str) -> None:
    """A paragraph on stdout."""
    print("\n".join(wrapped(text, terminal_width())))


def print_columns(rows: Iterable[Iterable[str]]) -> None:
    """Rows of cells on stdout, in columns; the last one is wrapped at words where the terminal ends."""
    table = [tuple(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    left = sum(widths[:-1]) + 2 * len(widths[:-1])
    room = max(terminal_width() - left, 20)
    for *cells, last in table:
        start = "".join(f"{cell:{width}}  " for cell, width in zip(cells, widths, strict=False))
        lines = wrapped(last, room) if sys.stdout.isatty() or "COLUMNS" in os.environ else [last]
        for line in lines or [""]:
            print((start + line).rstrip())
            start = " " * left


def print_error(error: SrcliError, *, label: str | None = None) -> None:
    """One line on stderr, about the input `label` if there is one; red on a terminal, unless NO_COLOR is set."""
    head = "error:"
    if sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb":
        head = f"\x1b[1;31m{head}\x1b[0m"
    text = " ".join(str(error).split("\n"))
    print(head, text if label is None or label in text else f"{label}: {text}", file=sys.stderr)


class Console:
    """Prints results, notes and progress.

    Args:
        quiet: only errors, and results that were asked for as JSON or as bytes.
        verbose: details as well.
        style: how progress is shown; "auto" is a bar on a terminal and plain lines elsewhere.
    """

    def __init__(self, *, quiet: bool = False, verbose: bool = False, style: Style = "auto") -> None:
        self.quiet = quiet
        self.verbose = verbose
        terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        if style == "auto":
            style = "rich" if terminal else "plain"
        self.style: Style = "none" if quiet else style
        self._bar: Progress | None = None
        self._meter: Meter | None = None
        self._reported = 0.0

    def result(self, line: str, *, asked: bool = False) -> None:
        """A line on stdout; with --quiet only one that was `asked` for, such as JSON."""
        if self.quiet and not asked:
            return
        if self._bar is not None and sys.stdout.isatty():  # above the bar, not through it
            self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            print(line, flush=True)

    def note(self, text: str) -> None:
        """A line on stderr, unless quiet."""
        if not self.quiet:
            self._say(text)

    def detail(self, text: str) -> None:
        """A line on stderr, if verbose."""
        if self.verbose:
            self._say(text)

    def error(self, error: SrcliError, label: str | None = None) -> None:
        """An error, in one line on stderr."""
        if self._bar is not None:
            self._bar.stop()
        print_error(error, label=label)
        if self._bar is not None:
            self._bar.start()

    def summary(self, text: str) -> None:
        """A line on stderr about what failed, said even where only errors are wanted."""
        say(text)

    def _say(self, text: str) -> None:
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            print(
                f"{text}\n", end="", file=sys.stderr, flush=True
            )  # at once: another thread may be speaking too

    @contextmanager
    def progress(self, files: int) -> Iterator[None]:
        """Inside, `file` shows how far the work on `files` files is."""
        self._meter = Meter(files)
        self._reported = self._meter.started
        try:
            if self.style == "rich":
                with _bar() as self._bar:
                    self._bar.add_task("", total=1.0, left="")
                    yield
            else:
                yield
        finally:
            self._bar = self._meter = None

    @contextmanager
    def file(self, label: str, pixels: int) -> Iterator[Callable[[float], None]]:
        """Work on one file of `pixels` output pixels; yields the function that takes its finished share."""
        meter = self._meter
        assert meter is not None  # used inside `progress`
        meter.begin(label, pixels)

        def report(share: float) -> None:
            meter.share = share
            self._report(meter)

        try:
            self._report(meter)
            yield report
        finally:
            meter.end()

    def _report(self, meter: Meter) -> None:
        now = time.monotonic()
        is_last = meter.is_begun and meter.share > 0.9999
        if self.style == "none" or (now - self._reported < INTERVAL[self.style] and not is_last):
            return
        self._reported, meter.is_begun = now, meter.share <= 0.9999
        if self._bar is not None:
            self._bar.update(
                self._bar.task_ids[0],
                description=meter.label[-40:],
                completed=meter.done,
                total=meter.done + meter.left,
                left=_describe(meter),
            )
        elif self.style == "json":
            self._say(json.dumps(_event(meter), ensure_ascii=False))
        else:
            self._say(f"{meter.label}: {meter.share:.0%}, {_describe(meter)}")


def _describe(meter: Meter) -> str:
    count = f"{meter.finished + 1}/{meter.files}" if meter.files > 1 else ""
    left = meter.seconds
    time_left = "" if left is None else f"{duration(left)} left"
    return ", ".join(part for part in (count, time_left) if part) or "started"


def _event(meter: Meter) -> dict[str, Any]:
    left = meter.seconds
    return {
        "event": "progress",
        "input": meter.label,
        "share": round(meter.share, 4),
        "file": meter.finished + 1,
        "files": meter.files,
        "megapixels": round(meter.done / 1e6, 3),
        "seconds_left": None if left is None else round(left, 1),
    }


@contextmanager
def _bar() -> Iterator[Progress]:
    from rich.console import Console as Terminal
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[left]}"),
    )
    # Redirecting would send results, which belong on stdout, to stderr.
    bar = Progress(
        *columns,
        console=Terminal(stderr=True),
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    with bar:
        yield bar


@contextmanager
def download_bar(name: str) -> Iterator[Callable[[int, int | None], None] | None]:
    """A progress bar on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield None
        return
    from rich.console import Console as Terminal
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress("{task.description}", *columns, console=Terminal(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
