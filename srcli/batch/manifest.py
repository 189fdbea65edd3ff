"""A record of what a batch has done, one JSON line per picture, and the shares of a batch for several machines.

It serves outputs that carry no record of their own (`--metadata strip`, `--metadata unmarked`), and tells for many
machines together what is done and what is missing. Nothing in it is ever used as a place to write to.

A share is by a hash of a picture's relative path, which never changes: adding or removing pictures moves none of the
others, and machines need not talk to each other.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from srcli.errors import ResourceError, UsageError

SUFFIX = ".jsonl"
KEPT = (
    "input", "output", "status", "in_size", "out_size", "format", "seconds", "model", "precision", "restore", "degradation",
    "limit", "fingerprint", "content", "error",
)  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """The last word on one result: what `Manifest.add` wrote, `key` is that of its `Source`."""

    key: str
    output: str | None
    status: str
    fingerprint: str | None = None
    content: str | None = None
    stamp: tuple[int, int] | None = None
    message: str | None = None
    shard: str | None = None
    model: dict[str, Any] | None = None
    precision: str | None = None

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.status in ("done", "skipped")


def stamp_of(path: Path) -> tuple[int, int] | None:
    """Size and time of change of a file; None if it is not there."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


class Manifest:
    """The lines that were there, in the file and in `others`, and new ones as they come.

    Raises ResourceError (it cannot be read or written).
    """

    def __init__(self, path: Path, others: Iterable[Path] = ()) -> None:
        self.path = path
        self.entries: dict[tuple[str, str | None], Entry] = {}
        for file in dict.fromkeys([*others, path]):
            for entry in read_entries(file):
                before = self.entries.get((entry.key, entry.output))
                if before is not None and entry.status == "skipped":  # as it was made then
                    entry = replace(entry, precision=before.precision)
                self.entries[entry.key, entry.output] = entry

    def entry(self, key: str, output: Path) -> Entry | None:
        """How the file at `output` was made, if its size and time are as they were or its content is recorded."""
        entry = self.entries.get((key, str(output)))
        if entry is None or entry.fingerprint is None:
            return None
        stamped = entry.stamp is not None and entry.stamp == stamp_of(output)
        return entry if stamped or entry.content is not None else None

    def add(self, key: str, record: dict[str, Any], shard: str | None = None) -> None:
        """One more result; the line is on the disk when this returns. `entries` stays what it was at the start."""
        output = record.get("output")
        stamp = stamp_of(Path(output)) if output not in (None, "-") else None
        facts = {name: record[name] for name in KEPT if record.get(name) is not None}
        line = {"key": key, "shard": shard, "stamp": stamp, **facts}
        text = json.dumps({k: v for k, v in line.items() if v is not None}, ensure_ascii=True) + "\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="ascii") as file:
                if file.tell() and not _ends_line(self.path):
                    file.write("\n")  # behind a line that a killed process left unfinished
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise ResourceError(f"cannot write the manifest {self.path}: {error.strerror}.") from error


def _ends_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def read_entries(path: Path) -> Iterator[Entry]:
    """The lines of a manifest, oldest first; unfinished and foreign lines are passed over."""
    try:
        lines = path.read_text("utf-8", errors="replace").splitlines() if path.is_file() else []
    except OSError as error:
        raise ResourceError(f"cannot read the manifest {path}: {error.strerror}.") from error
    for line in lines:
        try:
            content = json.loads(line)
        except (ValueError, RecursionError):
            continue
        entry = _entry(content)
        if entry is not None:
            yield entry


def _entry(content: Any) -> Entry | None:
    if not isinstance(content, dict) or not isinstance(content.get("key"), str):
        return None
    texts = {name: content.get(name) for name in ("output", "fingerprint", "content")}
    if any(not isinstance(value, str | None) for value in texts.values()):
        return None
    stamp, error = content.get("stamp"), content.get("error")
    pair = stamp if isinstance(stamp, list | tuple) and len(stamp) == 2 else None
    return Entry(
        content["key"],
        texts["output"],
        str(content.get("status")),
        texts["fingerprint"],
        texts["content"],
        None if pair is None or not all(isinstance(n, int) for n in pair) else (pair[0], pair[1]),
        str(error["message"]) if isinstance(error, dict) and "message" in error else None,
        content["shard"] if isinstance(content.get("shard"), str) else None,
        content["model"] if isinstance(content.get("model"), dict) else None,
        content["precision"] if isinstance(content.get("precision"), str) else None,
    )


class Progress(NamedTuple):
    """How far a batch is."""

    done: list[str]  # keys
    failed: dict[str, str]  # keys and messages
    missing: list[str]
    shards: list[str]  # as typed, that have work left


def progress_of(keys: Sequence[str], entries: Iterable[Entry], samples: int = 1) -> Progress:
    """How far the work on `keys` is; a later success takes back an earlier failure."""
    finished: dict[str, set[str | None]] = {}
    messages: dict[str, str] = {}
    counts: list[int] = []
    for entry in entries:
        _, _, count = (entry.shard or "").partition("/")
        counts += [int(count)] if count.isdigit() and int(count) else []
        if entry.finished:
            finished.setdefault(entry.key, set()).add(entry.output)
        else:
            messages[entry.key] = entry.message or entry.status
    done = [key for key in keys if len(finished.get(key, ())) >= samples]
    left = [key for key in keys if len(finished.get(key, ())) < samples]
    failed = {key: messages[key] for key in left if key in messages}
    missing = [key for key in left if key not in failed]
    shards = sorted({shard_of(key, counts[-1]) for key in left}) if counts else []
    return Progress(done, failed, missing, [f"{index}/{counts[-1]}" for index in shards])


def manifest_paths(place: Path, shard: Shard | None) -> tuple[Path, list[Path]]:
    """The file to write, and all that belong to the same work.

    A share has a file of its own beside the others, so that machines never write to the same one:
    ``done.jsonl`` becomes ``done.0-of-4.jsonl``.
    """
    if place.suffix.lower() != SUFFIX:
        raise UsageError(f"--manifest takes a {SUFFIX} file, got '{place}'.")
    stem = place.name[: -len(SUFFIX)]
    beside = sorted(place.parent.glob(f"{glob.escape(stem)}.*-of-*{SUFFIX}")) if place.parent.is_dir() else []
    own = place if shard is None else place.with_name(f"{stem}.{shard.index}-of-{shard.count}{SUFFIX}")
    return own, [place, *beside]


# --- shares: which of several machines does which picture ---------------------------------------------------------

# Number of this process, how many there are, and the lowest number, as job systems tell them.
SYSTEMS = (
    ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", "SLURM_ARRAY_TASK_MIN"),
    ("JOB_COMPLETION_INDEX", "JOB_COMPLETIONS", ""),  # Kubernetes sets the first; the second is set by hand
    ("RANK", "WORLD_SIZE", ""),
    ("SLURM_PROCID", "SLURM_NTASKS", ""),
)


@dataclass(frozen=True)
class Shard:
    """One share of the work: `index`, from 0, of `count`."""

    index: int
    count: int

    @property
    def name(self) -> str:
        """As typed: 0/4."""
        return f"{self.index}/{self.count}"

    def owns(self, key: str) -> bool:
        """Whether the picture called `key` belongs to it."""
        return shard_of(key, self.count) == self.index


def shard_of(key: str, count: int) -> int:
    """The number in [0, count) of the share that `key` belongs to."""
    digest = hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "big") % count


def parse_shard(text: str, environment: Mapping[str, str]) -> Shard:
    """``I/N`` with I from 0, or "auto" for what SLURM, Kubernetes or torchrun say.

    Raises UsageError (anything else, or "auto" where no such system is).
    """
    if text == "auto":
        return _found(environment)
    first, slash, second = text.partition("/")
    if not (slash and first.isdigit() and second.isdigit()):
        raise UsageError(f"--shard takes I/N, such as 0/4, or auto, got '{text}'.")
    return _checked(int(first), int(second))


def _found(environment: Mapping[str, str]) -> Shard:
    for index, count, lowest in SYSTEMS:
        words = [environment.get(name, "") for name in (index, count)]
        if all(word.isdigit() for word in words):
            start = environment.get(lowest, "0")
            return _checked(int(words[0]) - (int(start) if start.isdigit() else 0), int(words[1]))
    if environment.get("JOB_COMPLETION_INDEX"):
        raise UsageError(
            "Kubernetes tells the index of this pod but not how many there are.",
            hint="Set JOB_COMPLETIONS in the pod's environment, or give --shard $JOB_COMPLETION_INDEX/N.",
        )
    raise UsageError(
        "--shard auto finds no job system.", hint="Give --shard I/N, with I from 0: --shard 0/4 and so on."
    )


def _checked(index: int, count: int) -> Shard:
    if count < 1 or not 0 <= index < count:
        raise UsageError(f"--shard {index}/{count}: the first number runs from 0 to {max(0, count - 1)}.")
    return Shard(index, count)
