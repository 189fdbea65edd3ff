"""Names of temporary files, and which of them nobody is writing any more.

A name says who writes: the machine, the process, and when it started, since numbers of processes come again:
``.srcli-<machine>-<process>-<start>-<random>.tmp``. What a killed process left is removed by the next run that
writes to the same folder on the same machine; files of other machines cannot be judged and stay.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import secrets
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

NAME = re.compile(r"\.srcli-([0-9a-f]{8})-(\d+)-(\d+)-[0-9a-f]{12}\.tmp")
PROCESSES = Path("/proc")


def temporary_name() -> str:
    """A new name for a file that this process writes."""
    pid = os.getpid()
    return f".srcli-{_machine()}-{pid}-{_started(pid) or 0}-{secrets.token_hex(6)}.tmp"


def remove_leftovers(folder: Path) -> None:
    """Remove what dead processes of this machine left in a folder; it is looked through once per `new_run`."""
    _remove_leftovers(os.path.abspath(folder))  # noqa: PTH100 - not `resolve`: asked for every picture


def new_run() -> None:
    """From here on every folder is looked through again."""
    _remove_leftovers.cache_clear()


@lru_cache(maxsize=256)
def _remove_leftovers(folder: str) -> None:
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            found = NAME.fullmatch(entry.name)
            if found is None or found[1] != _machine() or _is_alive(int(found[2]), int(found[3])):
                continue
            with suppress(OSError):  # another run was faster, or (on Windows) it is still open
                os.unlink(entry.path)  # noqa: PTH108


def _machine() -> str:
    """A short word for where numbers of processes mean something: the host and, in a container, its own space."""
    space = ""
    with suppress(OSError):
        space = str((PROCESSES / "self/ns/pid").stat().st_ino)
    return hashlib.blake2b(f"{platform.node()}/{space}".encode(), digest_size=4).hexdigest()


def _started(pid: int) -> int | None:
    """When a process started, in the kernel's ticks since the start of the machine: no clock can shift it.

    None where there is no such process (one that ended and was not fetched counts), or the system does not tell.
    """
    try:
        line = (PROCESSES / str(pid) / "stat").read_bytes()
        fields = line.rpartition(b")")[2].split()  # from the third of proc(5) on; a name may hold blanks
        return None if fields[0] in (b"Z", b"X") else int(fields[19])
    except (OSError, ValueError, IndexError):
        return None


def _is_alive(pid: int, started: int) -> bool:
    """Whether the process that wrote the name may still be there."""
    if (PROCESSES / "self").exists():
        return _started(pid) == started
    if os.name != "posix":
        return False  # Windows refuses to remove an open file; asking for the process would end it
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # it is somebody else's
    return True
