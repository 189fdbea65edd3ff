"""The run over many pictures: a single one is a batch of one.

A picture that fails does not stop the rest. What ends the run is what would fail for every picture: a wrong
option, weights that are not there, a device that is not there.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from srcli.batch.degradation import NOTICE
from srcli.batch.inputs import Found, Source
from srcli.batch.job import Record, Settings
from srcli.batch.naming import (
    Clashes,
    Destination,
    Template,
    distinct_template,
    find_clashes,
    results_of_others,
)
from srcli.batch.overlap import Overlap
from srcli.batch.plan import output_path, output_words
from srcli.batch.provenance import read_origin
from srcli.batch.render import Engine
from srcli.batch.worker import Fatal, Item, Outcome, Worker
from srcli.errors import ExistsError, ModelError, NothingToDoError, SrcliError, UsageError, as_ours
from srcli.resources import duration, in_words

if TYPE_CHECKING:
    from srcli.batch.manifest import Shard
    from srcli.batch.pool import ProcessPool
    from srcli.batch.ray import RayPool

Style = Literal["lines", "jsonl", "json"]
SHOWN = 10  # names in the summary of failures


class Console(Protocol):
    """What a person reads while the work goes on: results on stdout, the rest on stderr; see `srcli.cli.console`."""

    @property
    def style(self) -> str: ...

    def result(self, line: str, *, asked: bool = False) -> None: ...

    def note(self, text: str) -> None: ...

    def detail(self, text: str) -> None: ...

    def error(self, error: SrcliError, label: str | None = None) -> None: ...

    def summary(self, text: str) -> None: ...

    def progress(self, files: int) -> AbstractContextManager[None]: ...

    def file(self, label: str, pixels: int) -> AbstractContextManager[Callable[[float], None]]: ...


@dataclass
class Results:
    """Writes records as they come: lines, JSON lines, or JSON at the end, an array for `many`."""

    console: Console
    style: Style = "lines"
    many: bool = False
    to_stderr: bool = False  # lines, where stdout carries the bytes of a picture
    _kept: list[dict[str, Any]] = field(default_factory=list, init=False)

    def add(self, record: Record) -> None:
        """One more record."""
        if self.style == "json":
            self._kept.append(asdict(record))
        elif self.style == "jsonl":
            self.console.result(as_json(record), asked=True)
        elif record.status != "failed":  # a failure has its line on stderr
            (self.console.note if self.to_stderr else self.console.result)(line(record))

    def close(self) -> None:
        """Nothing more comes."""
        if self.style != "json" or (not self._kept and not self.many):
            return
        whole = self._kept if self.many else self._kept[0]
        self.console.result(json.dumps(whole, indent=2, ensure_ascii=False), asked=True)
        self.style = "jsonl"  # printed; an interrupt may call this again


def as_json(record: Record) -> str:
    """A record as JSON in one line."""
    return json.dumps(asdict(record), ensure_ascii=False)


def line(record: Record) -> str:
    """A record in one line: ``photo.png 640x480 -> photo_x4.3.png 2752x2064 (edsr-baseline-blend, 1.9 s)``."""
    sizes = ["" if size is None else f" {size[0]}x{size[1]}" for size in (record.in_size, record.out_size)]
    how = record.model["name"] if record.model else "resized"
    if record.temperature is not None:
        how += f", temperature {record.temperature:.3g} {record.temperature_origin}"
    if record.status == "skipped":
        about = record.notes[-1] if record.notes else "skipped"
    elif record.status == "planned":
        about = f"{how}, about {in_words(record.memory or 0)} of memory"
    else:
        about = f"{how}, {duration(record.seconds or 0)}"
    return f"{record.input}{sizes[0]} -> {record.output}{sizes[1]} ({about})"


@dataclass
class Batch:
    """Runs one and the same job over inputs."""

    settings: Settings
    place: Destination
    console: Console
    results: Results
    load: Callable[[], Engine]  # makes the network when the first picture needs one
    dry_run: bool = False
    fail_fast: bool = False
    shard: Shard | None = None  # the part of the inputs that is done here; None: all
    pool: ProcessPool | RayPool | None = None  # workers that share the inputs
    include_outputs: bool = False  # enlarge results of earlier runs, too
    failures: list[tuple[str, SrcliError]] = field(default_factory=list, init=False)
    has_noticed: bool = field(default=False, init=False)

    @cached_property
    def engine(self) -> Engine:
        """The network, loaded once."""
        try:
            return self.load()
        except Exception as error:
            raise Fatal(as_ours(error)) from error

    def run(self, found: Found) -> int:
        """Do all; gives the exit code: of the failure where there is one input, 1 where one of several failed, else 0.

        Raises SrcliError (what would fail for every picture; two inputs for one output, with `fail_fast`),
        BrokenPipeError (nobody reads on; that is said).
        """
        everything, refused = self._select(found.sources)
        own = self._own_share(everything)
        work = [item for item in own if item[1] not in refused]
        pictures = len(work) * self.settings.samples
        count = len(own) + len(found.missing)
        try:
            with closing(self.results):  # what is finished is reported on an interrupt too
                for word, message in found.missing:
                    self._fail(word, NothingToDoError(message), word)
                for _, source in own:
                    if source in refused:
                        self._fail(source.label, refused[source], source.key, said=True)
                if not (self.fail_fast and self.failures):
                    with self.console.progress(pictures):
                        self._do(work)
        except BrokenPipeError:
            what = "nobody reads standard output any more, so that the run ends here."
            self.console.error(SrcliError(what, hint="Run it again to make the rest."))
            raise
        if not self.failures:
            return 0
        if count == 1:
            return self.failures[0][1].code
        names = [label for label, _ in self.failures]
        shown = ", ".join(names[:SHOWN]) + (", .." if len(names) > SHOWN else "")
        self.console.summary(f"{len(names)} of {count} failed: {shown}")
        return 1

    def _do(self, work: list[Item]) -> None:
        if self.dry_run:
            self._plan(work)
        elif self.pool is not None and len(work) >= self.pool.least:
            self._in_workers(self.pool, work)
        else:
            self._in_process(work)

    def _plan(self, work: list[Item]) -> None:
        worker = self._worker()
        for item in work:
            if self.fail_fast and self.failures:
                break
            try:
                outcome = Outcome(item, worker.plan(item, self._data(item[1])))
            except Exception as error:
                outcome = Outcome(item, [], error)
            self._report(outcome)

    def _worker(self) -> Worker:
        return Worker(self.settings, self.place, lambda: self.engine, self.console.file, sys.stdout.buffer)

    def _in_process(self, work: list[Item]) -> None:
        """In this process; records come in the order of the inputs."""
        with Overlap(self._worker(), self._data) as overlap:
            try:
                for outcome in overlap.outcomes(work):
                    self._report(outcome)
                    if self.fail_fast and self.failures:
                        break
            except (KeyboardInterrupt, SystemExit):
                for outcome in overlap.last_outcomes():
                    self._report(outcome)
                self.results.close()  # now: a thread may be busy for longer than an interrupt waits
                raise

    def _in_workers(self, pool: ProcessPool | RayPool, work: list[Item]) -> None:
        """With several processes; records come as they are ready."""
        with closing(pool.outcomes(self.settings, self.place, work)) as outcomes:
            try:
                for outcome in outcomes:
                    records: list[Record | None] = [*outcome.records]
                    for record in records or [None] * self.settings.samples:
                        made = None if record is None or record.status == "skipped" else record.out_size
                        width, height = made or (0, 0)
                        with self.console.file(outcome.item[1].label, height * width) as report:
                            report(1.0)
                    self._report(outcome)
                    if self.fail_fast and self.failures:
                        break
            except Fatal as error:
                raise error.cause from None

    def _report(self, outcome: Outcome) -> None:
        """Report what became of one input; raise what would be the same for every picture."""
        source, error = outcome.item[1], outcome.error
        for record in outcome.records:
            self._done(record)
            self._add_to_manifest(source.key, record)
        if error is None:
            return
        if isinstance(error, BrokenPipeError):
            raise error
        if isinstance(error, ModelError | Fatal):
            cause = error.cause if isinstance(error, Fatal) else error
            self.results.add(Record.failure(source.label, cause))
            raise cause from None
        self._fail(source.label, as_ours(error, bug="tell"), source.key)

    def _done(self, record: Record) -> None:
        self.results.add(record)
        if record.status != "skipped":
            for note in record.notes:
                if note != NOTICE or not self.has_noticed:  # of the first damaged picture alone
                    self.console.note(f"{record.input}: {note}")
                self.has_noticed |= note == NOTICE
        details = [("tile", record.tile), ("fingerprint", record.fingerprint)]
        for name, value in details if record.status == "done" else []:
            self.console.detail(f"{record.input}: {name} {value}")

    def _fail(self, label: str, error: SrcliError, key: str, *, said: bool = False) -> None:
        self.failures.append((label, error))
        record = Record.failure(label, error)
        self.results.add(record)
        if not said:
            self.console.error(error, label)
        self._add_to_manifest(key, record)

    @cached_property
    def _precisions(self) -> set[str]:
        """In which earlier runs and other shares have computed; empty once it is told that they differ."""
        manifest = self.settings.manifest
        return set() if manifest is None else {e.precision for e in manifest.entries.values() if e.precision}

    def _add_to_manifest(self, key: str, record: Record) -> None:
        if record.precision is not None and (others := self._precisions - {record.precision}):
            self._precisions.clear()
            told = f"other results of this batch were computed in {', '.join(sorted(others))}, these are in"
            self.console.note(f"{told} {record.precision}; --precision, on all machines, makes them alike")
        if self.settings.manifest is not None and not self.dry_run:
            self.settings.manifest.add(key, asdict(record), self.shard.name if self.shard else None)

    def _own_share(self, work: list[Item]) -> list[Item]:
        if self.shard is None:
            return work
        own = [(index, source) for index, source in work if self.shard.owns(source.key)]
        self.console.note(f"share {self.shard.name}: {len(own)} of {len(work)} files")
        return own

    def status(self, found: Found) -> int:
        """Print what the manifests say of these inputs, by share; 0 if all of them are done, else 1."""
        from srcli.batch.manifest import progress_of

        assert self.settings.manifest is not None
        work = self._own_share(self._select(found.sources)[0])
        keys = [source.key for _, source in work]
        state = progress_of(keys, self.settings.manifest.entries.values(), self.settings.samples)
        counts = f"{len(state.done)} done, {len(state.failed)} failed, {len(state.missing)} missing, of {len(keys)}"
        lines = [counts, *(f"failed: {key}: {message}" for key, message in state.failed.items())]
        lines += [f"missing: {key}" for key in state.missing]
        lines += [f"run again: --shard {shard}" for shard in state.shards]
        own, entries = set(keys), self.settings.manifest.entries.values()
        made = Counter(e.precision for e in entries if e.precision and e.finished and e.key in own)
        if len(made) > 1:
            several = ", ".join(f"{count} in {name}" for name, count in sorted(made.items()))
            lines.append(f"computed {several}; --precision and --overwrite make them alike")
        self.console.result("\n".join(lines), asked=True)
        return 0 if len(state.done) == len(keys) else 1

    def _data(self, source: Source) -> bytes | None:
        return sys.stdin.buffer.read() if source.path is None else None

    def _select(self, sources: list[Source]) -> tuple[list[Item], dict[Source, SrcliError]]:
        """The inputs that are to be enlarged, with their numbers, and errors (reported here) of those that cannot be.

        Results of earlier runs among them are left out.
        """
        left = set()
        if len(sources) > 1 and not self.include_outputs:
            left = results_of_others(sources, self.settings.manifest)
        work = list(enumerate((source for source in sources if source not in left), 1))
        several = [source for _, source in work for _ in range(self.settings.samples)]
        clashes = find_clashes(several, self._pattern, self._exact) if len(work) > 1 else Clashes([], [])
        refused = self._refuse_shared(clashes.shared, several)
        gone = set(left)
        for made, origin in clashes.inputs:
            if made is origin or made in gone or origin in gone or origin in refused:
                continue  # planning refuses it; or it is dealt with already
            error = self._conflict(made, origin)
            if error is None and not self.include_outputs:
                left.add(made)
            elif error is not None:
                refused[origin] = error
                self.console.error(error, origin.label)
            if not self.include_outputs:
                gone.add(made)
        for source in left:
            self.console.detail(f"{source.label} is left out")
        if left:
            what = f"{len(left)} pictures are left out as results of others; --exclude none takes them"
            one = "1 picture is left out as the result of another; --exclude none takes it"
            self.console.note(one if len(left) == 1 else what)
        return [item for item in work if item[1] not in gone], refused

    def _refuse_shared(
        self, shared: list[tuple[Path, list[Source]]], several: list[Source]
    ) -> dict[Source, SrcliError]:
        """Say which inputs have one output, and how to tell them apart; with `fail_fast` that is raised."""
        if not shared:
            return {}
        lines = [_clash(path, sources) for path, sources in shared]
        more = f"; and so on, {len(lines)} outputs in all" if len(lines) > SHOWN else ""
        template = distinct_template(several, self._pattern, samples=self.settings.samples > 1)
        hint = f"Tell them apart: --name '{template}'." if template else "Enlarge them into several folders."
        error = UsageError(f"{'; '.join(lines[:SHOWN])}{more}.", hint=hint)
        if self.fail_fast:
            raise error
        self.console.error(error)
        return {
            source: UsageError(f"{line}.", hint=hint)
            for line, (_, sources) in zip(lines, shared, strict=True)
            for source in sources
        }

    def _conflict(self, made: Source, origin: Source) -> SrcliError | None:
        """What is wrong with an input whose output is another input; None if that is an earlier result."""
        policy, what = self.settings.exists, f"its output {made.label} is an input as well"
        is_ours = made.path is None or made.uri is not None  # nothing in object storage is opened beforehand
        if made.path is not None and not is_ours:
            manifest = self.settings.manifest
            entry = None if manifest is None else manifest.entry(origin.key, made.path)
            is_ours = read_origin(made.path) is not None or entry is not None
        if policy == "overwrite" and (made.named or self.include_outputs or not is_ours):
            hint = "Leave one of them out, as with --exclude, or choose another -o or --name."
            return UsageError(f"{what}, and would be replaced.", hint=hint)
        if is_ours or self.include_outputs or policy in ("skip", "overwrite"):
            return None
        hint = "Choose another -o or --name."
        return ExistsError(f"{what}, which srcli did not make; neither is enlarged.", hint=hint)

    def _pattern(self, at: int, source: Source, template: Template | None = None) -> str:
        """Where a result goes as far as it is known from names; `at` counts the results of all inputs."""
        index, sample = at // self.settings.samples + 1, at % self.settings.samples + 1
        words = output_words(source, index, self.settings, sample=sample)
        place = self.place if template is None else replace(self.place, template=template)
        return place.pattern(source, words)

    def _exact(self, at: int, source: Source) -> Path | None:
        """Where a result goes; None if the run itself says what is wrong with it."""
        index, sample = at // self.settings.samples + 1, at % self.settings.samples + 1
        try:
            return output_path(source, index, self.settings, self.place, sample=sample)
        except SrcliError:
            if source.uri is None:
                return None
            # In object storage nothing is opened beforehand.
            return Path(self._pattern(at, source).replace("*", Path(source.uri).suffix))


def _clash(path: Path, sources: list[Source]) -> str:
    names = [source.label for source in sources[:3]]
    rest = len(sources) - len(names)
    names += [f"{rest} more"] if rest else []
    return f"{', '.join(names[:-1])} and {names[-1]} would {'both' if len(names) == 2 else 'all'} be written to {path}"
