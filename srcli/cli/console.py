"""What a person reads while work goes on: progress, notes and errors, all on stderr; results on stdout.

Rich is loaded only where a bar is drawn. Elsewhere there is plain text without escape codes, one line per event.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from srcli.errors import SrcliError
from srcli.resources import duration, in_words

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
    failed: int = 0
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


def say(line: str) -> None:
    """A note for the person at the terminal; results go to stdout."""
    print(line, file=sys.stderr)


def terminal_width(*, most: int = 110) -> int:
    """Columns of the terminal, at most those that read well; plenty where nobody looks."""
    return min(shutil.get_terminal_size((most, 24)).columns, most)


def table_width() -> int | None:
    """Columns that a table on stdout has; None where no terminal shows it."""
    return terminal_width(most=1000) if sys.stdout.isatty() else None


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

    With `quiet` only errors, and results that were asked for as JSON or as bytes; with `verbose` details as well. The
    `style` of progress "auto" is a bar on a terminal and plain lines elsewhere.
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
        if self._meter is not None:
            self._meter.failed += 1
        if self._bar is not None:
            self._bar.stop()
        print_error(error, label=label)
        if self._bar is not None:
            self._bar.start()

    def summary(self, text: str) -> None:
        """A line on stderr about what failed, printed with --quiet too."""
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
        try:
            with self._drawn("loading the model"):
                yield
        finally:
            self._meter = None

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

    @contextmanager
    def counting(
        self, what: str, shown: Callable[[float, float], str] = "{:g}/{:g}".format
    ) -> Iterator[Callable[[str, float, float | None], None]]:
        """Inside, what is yielded shows how much is done: of a label, how much, and of how much in all if that is known.

        `what`: is counted, for words: pictures. `shown`: how much is done, and of how much in all, in words.
        """
        started = time.monotonic()

        def report(label: str, done: float, total: float | None) -> None:
            if not self._is_due() or (not done and self._bar is None):
                return
            passed = time.monotonic() - started
            left = passed * (total - done) / done if total and done else None
            words = f"{shown(done, total or done)} {what}".rstrip() + _left(left)
            event = {"input": label, "done": done, "total": total, "seconds_left": left and round(left, 1)}
            self._show(label, done, total, words, event)

        with self._drawn(""):
            yield report

    @contextmanager
    def _drawn(self, what: str) -> Iterator[None]:
        """A bar inside, if that is the style; at once, with what is done first."""
        self._reported = time.monotonic()
        try:
            if self.style == "rich":
                with _bar() as self._bar:
                    self._bar.add_task(what, total=None, left="")
                    yield
            else:
                yield
        finally:
            self._bar = None

    def _is_due(self, *, at_once: bool = False) -> bool:
        now = time.monotonic()
        if self.style == "none" or (now - self._reported < INTERVAL[self.style] and not at_once):
            return False
        self._reported = now
        return True

    def _report(self, meter: Meter) -> None:
        if self._is_due(at_once=meter.is_begun and meter.share > 0.9999):
            meter.is_begun = meter.share <= 0.9999
            words = f"{meter.share:.0%}, {_describe(meter)}" if self._bar is None else _describe(meter)
            self._show(meter.label, meter.done, meter.done + meter.left, words, _event(meter))

    def _show(self, label: str, done: float, total: float | None, words: str, event: dict[str, Any]) -> None:
        if self._bar is not None:
            task = self._bar.task_ids[0]
            self._bar.update(task, description=label[-40:], completed=done, total=total, left=words)
        elif self.style == "json":
            self._say(json.dumps({"event": "progress", **event}, ensure_ascii=False))
        else:
            self._say(f"{label}: {words}")


def _describe(meter: Meter) -> str:
    parts = [f"{meter.finished + 1}/{meter.files}"] if meter.files > 1 else []
    parts += [f"{meter.failed} failed"] if meter.failed else []
    return (", ".join(parts) + _left(meter.seconds)).removeprefix(", ") or "started"


def _left(seconds: float | None) -> str:
    return "" if seconds is None else f", {duration(seconds)} left"


def _event(meter: Meter) -> dict[str, Any]:
    left = meter.seconds
    return {
        "input": meter.label,
        "share": round(meter.share, 4),
        "file": meter.finished + 1,
        "files": meter.files,
        "failed": meter.failed,
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
        TextColumn("{task.fields[left]}", markup=False),
    )
    # Redirecting would send results, which belong on stdout, to stderr.
    bar = Progress(
        *columns, console=Terminal(stderr=True), transient=True, redirect_stdout=False, redirect_stderr=False
    )
    with bar:
        yield bar


@contextmanager
def downloading(name: str, style: Style) -> Iterator[Callable[[int, int | None], None]]:
    """Inside, what is yielded shows how many bytes of `name` are there, and of how many."""

    def shown(done: float, total: float) -> str:
        return f"{in_words(int(done))} of {in_words(int(total))}"

    with Console(style=style).counting("", shown) as report:
        yield lambda done, total: report(name, done, total)
