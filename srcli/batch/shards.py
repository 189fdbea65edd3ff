"""Which of several machines does which picture: by a hash of its relative path, which never changes.

Adding or removing pictures moves none of the others, and machines need not talk to each other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from srcli.batch.inputs import Source
from srcli.errors import UsageError

# Number of this process, how many there are, and the lowest number, as job systems tell them.
SYSTEMS = (
    ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", "SLURM_ARRAY_TASK_MIN"),
    (
        "JOB_COMPLETION_INDEX",
        "JOB_COMPLETIONS",
        None,
    ),  # Kubernetes tells the first; the second is set by hand
    ("RANK", "WORLD_SIZE", None),
    ("SLURM_PROCID", "SLURM_NTASKS", None),
)


@dataclass(frozen=True)
class Shard:
    """One share of the work.

    Attributes:
        index: which, from 0.
        count: of how many.
    """

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


def key_of(source: Source) -> str:
    """The same for a picture on every machine: its path below the folder that was named, or as it was named."""
    if source.path is None:
        return "-"
    if source.named and source.uri is not None:
        return source.uri
    return (source.path if source.named else source.under / source.path.name).as_posix()


def parse_shard(text: str, environment: Mapping[str, str]) -> Shard:
    """``I/N`` with I from 0, or "auto" for what SLURM, Kubernetes or torchrun say.

    Raises:
        UsageError: anything else, or "auto" where no such system is.
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
            start = environment.get(lowest or "", "0")
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
