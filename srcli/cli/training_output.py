"""What a person sees of a training: a dashboard on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Self

from srcli.resources import duration

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

    from srcli.train.log import Progress

SECONDS_BETWEEN_LINES = 10.0
SMOOTHED = 0.98  # of the loss that is shown
BEST_FEW = 6  # measurements that the dashboard lists


class Dashboard:
    """Progress of a run, on stderr; a context manager.

    Args:
        steps: of the whole run.
        quiet: show nothing.
        live: draw a dashboard; None: on a terminal.
    """

    def __init__(self, steps: int, *, quiet: bool = False, live: bool | None = None) -> None:
        self.steps = steps
        self.quiet = quiet
        terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self.draws = (terminal if live is None else live) and not quiet
        self.loss: float | None = None
        self.measured: list[tuple[int, Mapping[str, float]]] = []
        self.began: tuple[float, int] | None = None
        self.shown = 0.0
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if self.draws:
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(stderr=True), auto_refresh=False, redirect_stdout=False)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def note(self, line: str) -> None:
        """A line that stays."""
        if self.quiet:
            return
        if self._live is not None:
            self._live.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            print(line, file=sys.stderr, flush=True)

    def report(self, progress: Progress) -> None:
        """Show a step, if enough time has passed or it was measured."""
        now = time.monotonic()
        self.began = self.began or (now, progress.step - 1)
        share = SMOOTHED if self.loss is not None else 0.0
        self.loss = share * (self.loss or 0.0) + (1 - share) * progress.loss
        if progress.validation:
            self.measured.append((progress.step, progress.validation))
        pause = 0.5 if self._live else SECONDS_BETWEEN_LINES
        if self.quiet or (not progress.validation and now - self.shown < pause):
            return
        self.shown = now
        if self._live is not None:
            self._live.update(self._drawn(progress), refresh=True)
        else:
            print(self._line(progress), file=sys.stderr, flush=True)

    def left(self, step: int) -> str:
        """Time that the rest of the run takes at this call's speed, in words."""
        if self.began is None or step <= self.began[1] + 1:  # one step says little
            return "?"
        seconds = (time.monotonic() - self.began[0]) / (step - self.began[1]) * (self.steps - step)
        return duration(seconds)

    def _line(self, progress: Progress) -> str:
        line = (
            f"step {progress.step}/{self.steps}  loss {progress.loss:.4f}  lr {progress.lr:.1e}  "
            f"{progress.samples_per_second:.3g} samples/s  {self.left(progress.step)} left"
        )
        if progress.skipped:
            line += f"  {progress.skipped} skipped"
        return line + "".join(
            f"  {name} {value:.2f} dB" for name, value in (progress.validation or {}).items()
        )

    def _drawn(self, progress: Progress) -> RenderableType:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        facts = Table.grid(padding=(0, 2))
        facts.add_row(f"step {progress.step:,}/{self.steps:,}", f"{self.left(progress.step)} left")
        facts.add_row(f"loss {self.loss:.4f}", f"learning rate {progress.lr:.2e}")
        facts.add_row(
            f"{progress.samples_per_second:.3g} samples/s",
            f"{progress.data_share:.0%} of the time waits for samples",
        )
        if progress.skipped:
            facts.add_row(f"{progress.skipped} steps skipped", "no finite loss")
        parts: list[RenderableType] = [ProgressBar(self.steps, progress.step), facts]
        if self.measured:
            table = Table("step", *self.measured[-1][1], title=Text("held out, dB"), title_justify="left")
            for step, values in self.measured[-BEST_FEW:]:
                table.add_row(f"{step:,}", *(f"{value:.2f}" for value in values.values()))
            parts.append(table)
        return Group(*parts)
