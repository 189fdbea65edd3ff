"""Whether there is room for a result, asked before the work rather than found out after it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from srcli.errors import ResourceError

LEAST_INPUT = 256 << 20
INPUT_SHARE = 0.25  # of the memory that is free
MEMORY_TABLE = Path("/proc/meminfo")
GROUP = Path("/sys/fs/cgroup")  # of a container, cgroup v2


def available_memory() -> int | None:
    """Bytes of memory that can still be taken by this process; None where the system does not tell."""
    known = [amount for amount in (_system_memory(), _group_memory()) if amount is not None]
    return min(known, default=None)


def _system_memory() -> int | None:
    with suppress(OSError, ValueError, IndexError):
        for line in MEMORY_TABLE.read_text("ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    with suppress(AttributeError, OSError, ValueError):
        pages, size = os.sysconf("SC_AVPHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
        return pages * size if pages > 0 and size > 0 else None
    return None


def _group_memory() -> int | None:
    with suppress(OSError, ValueError):
        limit = int((GROUP / "memory.max").read_text("ascii"))  # "max" is no number: no limit
        used = int((GROUP / "memory.current").read_text("ascii"))
        return max(0, limit - used + _reclaimable())
    return None


def _reclaimable() -> int:
    """Bytes of file cache that a container gives up on demand; they count as used."""
    with suppress(OSError, ValueError, IndexError):
        for line in (GROUP / "memory.stat").read_text("ascii").splitlines():
            if line.startswith("inactive_file "):
                return int(line.split()[1])
    return 0


def input_bytes() -> int:
    """Bytes of samples up to which an input is held in memory; larger ones lie on the disk, where they can."""
    free = available_memory()
    return LEAST_INPUT if free is None else max(LEAST_INPUT, int(free * INPUT_SHARE))


def check_memory(need: int, *, gathered: bool = False) -> None:
    """Refuse work that needs more memory than there is.

    Args:
        need: bytes.
        gathered: whether another format would need less.

    Raises:
        ResourceError: `need` bytes are more than is available.
    """
    free = available_memory()
    if free is not None and need > free:
        raise ResourceError(
            f"about {in_words(need)} of memory are needed and {in_words(free)} are free.",
            hint="Write PNG or TIFF, which need not be in memory as a whole, or choose a smaller size."
            if gathered
            else "Choose a smaller output, or close other programs.",
        )


def check_folder(folder: Path) -> None:
    """Refuse a folder in which no file can be made, whether it exists yet or not. Leaves nothing behind.

    Raises:
        ResourceError: it, or the folder it would be made in, is no folder or is not writable.
    """
    ancestor = existing(folder)
    try:
        with tempfile.TemporaryFile(dir=ancestor, prefix=".srcli-"):
            return
    except OSError as error:
        what = f"cannot write to {folder}"
        raise ResourceError(f"{what}: {error.strerror}.", hint="Choose another place with -o.") from error


def check_disk(folder: Path, need: int) -> None:
    """Refuse a result of `need` bytes where there is not that much space.

    Raises:
        ResourceError: the disk of `folder` has less.
    """
    free = shutil.disk_usage(existing(folder)).free
    if need > free:
        raise ResourceError(
            f"the result takes about {in_words(need)} and the disk of {folder} has {in_words(free)} left.",
            hint="Free some space, or choose another place with -o.",
        )


@contextmanager
def made_folder(folder: Path) -> Iterator[None]:
    """Inside, `folder` exists; folders made for it go away again if the block fails.

    Raises:
        ResourceError: it cannot be made.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ResourceError(f"cannot make the folder {folder}: {error.strerror}.") from error
        yield
    except BaseException:
        for path in missing:
            with suppress(OSError):  # never made, or another process has put something there
                path.rmdir()
        raise


def existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    absolute = folder.absolute()
    return next(path for path in (absolute, *absolute.parents) if path.exists())


def in_words(amount: int) -> str:
    """Bytes in words."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if amount >= size:
            return f"{amount / size:.1f} {unit}"
    return f"{amount / 1e3:.0f} kB"
