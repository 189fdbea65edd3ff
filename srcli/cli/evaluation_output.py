"""What `srcli eval` prints: progress on stderr, results in one of six formats on stdout or in a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

from srcli.cli.console import Console, print_error, say
from srcli.cli.options import words
from srcli.errors import CheckError, SrcliError, UsageError
from srcli.files import write_atomically

if TYPE_CHECKING:
    from srcli.data.benchmarks import Benchmark
    from srcli.evaluate.report import Options
    from srcli.evaluate.rows import Mean, Row
    from srcli.evaluate.run import Evaluation, Failure
    from srcli.evaluate.tables import Table

Chosen = Literal["table", "json", "jsonl", "csv", "md", "latex"]
SUFFIXES = {
    ".json": "json", ".jsonl": "jsonl", ".csv": "csv", ".md": "md", ".tex": "latex", ".txt": "table"
}  # fmt: skip


@contextmanager
def evaluation_progress(
    console: Console, draws: int = 1
) -> Iterator[Callable[[Row | Failure, int, int], None]]:
    """What an evaluation reports to, inside: on which of its pictures it is. Each has so many `draws`."""
    at = [0, 0]  # the picture that is measured, and its results so far

    with console.counting("pictures") as show:

        def report(outcome: Row | Failure, number: int, total: int) -> None:
            at[:] = number, at[1] + 1 if number == at[0] else 1
            done = number - 1 + min(at[1] / draws, 1) if number else 0
            show(f"{outcome.benchmark} x{outcome.scale:g}", round(done, 2), total)

        yield report


def benchmarks(names: Sequence[str] | None, data: Path | None, lr: Path | None = None) -> list[Benchmark]:
    """What --bench and --data name; where one is missing, where it was looked for and how to get it, in a line each."""
    from srcli.data.benchmarks import MissingBenchmarkError, open_benchmarks, open_folder

    called = words(*(names or ()))
    if called and lr is not None:
        raise UsageError("--lr goes with --data and without --bench.")
    if not called:
        if data is None:
            hint = "Name benchmarks (--bench Set5) or a folder (--data DIR)."
            raise UsageError("Nothing to evaluate on.", hint=hint)
        return [open_folder(data, lr)]
    try:
        return open_benchmarks(called, data)
    except MissingBenchmarkError as error:
        print_error(SrcliError(error.message))
        if error.hint:
            say(error.hint)
        raise typer.Exit(error.code) from error


def use_backbone(path: Path | None) -> None:
    """Take the file of --lpips-backbone, if there is one."""
    if path is not None:
        from srcli.metrics import backbones

        backbones.use(path)


def render(found: Evaluation, options: Options, chosen: Chosen, width: int | None = None) -> str:
    """An evaluation in the chosen format; plain tables fit `width`."""
    from srcli.evaluate.report import document, tables
    from srcli.evaluate.rows import json_text, jsonl_text

    if chosen == "json":
        return json_text(document(found, options)) + "\n"
    if chosen == "jsonl":
        return jsonl_text(found.rows)
    shown = [] if chosen == "csv" else tables(found, options, bold=chosen != "table")
    return rows_text([row.to_dict() for row in found.rows], shown, chosen, width)


def rows_text(
    rows: Sequence[dict[str, Any]], tables: Sequence[Table], chosen: Chosen, width: int | None = None
) -> str:
    """Rows as JSON or CSV, or the tables that show them."""
    from srcli.evaluate.rows import csv_text, json_text
    from srcli.evaluate.tables import table_text

    if chosen == "json":
        return json_text(rows) + "\n"
    if chosen == "jsonl":
        return "".join(f"{dumps(row)}\n" for row in rows)
    if chosen == "csv":
        return csv_text(rows)
    return "\n".join(table_text(table, chosen, width) for table in tables)


def write(text: str, output: Path | None, console: Console) -> None:
    """To a file, whole or not at all, or to stdout.

    Raises ResourceError (the file cannot be written).
    """
    if output is None:
        print(text, end="", flush=True)
        return
    write_atomically(output, text.encode())
    console.note(f"wrote {output}")


def finish(found: Evaluation, thresholds: dict[str, float]) -> int:
    """Say what failed; the exit code: 1 for failed pictures.

    Raises CheckError (the mean of a model is worse than a threshold).
    """
    for failure in found.failures:
        by = f" by {failure.model}" if failure.model else ""
        print_error(
            SrcliError(failure.message), label=f"{failure.benchmark} {failure.image} x{failure.scale:g}{by}"
        )
    if found.failures:
        failed = {(f.benchmark, f.image, f.scale) for f in found.failures}
        others = {(r.benchmark, r.image, r.scale) for r in found.rows} - failed
        rest = "; the others were measured" if others else ""
        say(f"{len(failed)} of {len(failed) + len(others)} pictures failed{rest}.")
    problems = _worse(found, thresholds)
    if problems:
        raise CheckError(f"--fail-under does not hold: {'; '.join(problems)}.")
    return 1 if found.failures else 0


def _worse(found: Evaluation, thresholds: dict[str, float]) -> list[str]:
    if not thresholds:
        return []
    from srcli.evaluate.rows import means
    from srcli.metrics import METRICS

    every = means(found.rows)
    checked: list[Mean] = [m for m in every if m.row.family != "interpolation"] or every
    problems = []
    for mean in checked:
        for name, limit in thresholds.items():
            value = mean.row.metrics[name]
            if (value < limit) if METRICS[name].higher_is_better else (value > limit):
                row = mean.row
                problems.append(
                    f"{row.model} on {row.benchmark} x{row.scale:g}: {name} {value:.4g}, not {limit:g}"
                )
    return problems
