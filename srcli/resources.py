"""The one reader of memory, disks and the limits that containers set: asked before the work, not found out after it."""

from __future__ import annotations

import ctypes
import gc
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from srcli.errors import ResourceError

if TYPE_CHECKING:
    import torch

LEAST_INPUT = 256 << 20
TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX, ARENA_MAX = -1, -3, -4, -8  # of glibc's mallopt
INPUT_SHARE = 0.25  # of the memory that is free
ASSUMED_FREE = 2 << 30  # where the system does not tell
PLENTY = 4 << 30  # bytes of memory, for a process that may take a quarter more than it needs
OBJECTS = 100_000  # made between two searches for cycles: importing torch makes a million, all of which stay
ROOT = Path("/")
# below /sys/fs/cgroup: where groups lie, their limit, what they use, and the file cache in it, which goes on demand
GROUPS = {
    "": ("", "memory.max", "memory.current", "inactive_file"),  # version 2
    "memory": ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


def keep_freed_memory(root: Path = ROOT) -> None:
    """From here on this process keeps what it frees, up to 256 MB, for what it takes next, if there is plenty of memory.

    glibc gives the memory of a layer's result back to the kernel and asks for it again with the next layer; finding and
    clearing it page by page takes up to a third of a network's time. Elsewhere nothing changes. Threads share one heap if
    this is called before the first of them: pages of their own heaps are given back at once. Gaps between what is kept make
    a process a quarter larger, so where memory is short it goes on as it was.
    """
    free = available_memory(root)
    if free is not None and free < PLENTY:
        return
    _set_malloc(ARENA_MAX, 1)
    _set_malloc(MMAP_MAX, 0)  # no block is mapped alone: such ones are given back at once
    _set_malloc(TRIM_THRESHOLD, 256 << 20)


def give_back_freed_memory() -> None:
    """From here on this process gives blocks of 4 MB and more back when it frees them.

    That is slower, but memory that is freed in another order than it was taken leaves no gaps: with them a training step
    of LIT took five times what its tensors do.
    """
    _set_malloc(MMAP_MAX, 1 << 16)  # as it is from the start
    _set_malloc(MMAP_THRESHOLD, 4 << 20)


def collect_rarely() -> None:
    """From here on this process seldom looks for objects that refer to each other and to which nothing else does."""
    gc.set_threshold(OBJECTS)


def _set_malloc(option: int, value: int) -> None:
    with suppress(OSError, AttributeError, TypeError):  # not glibc
        ctypes.CDLL(None).mallopt(option, value)


def available_memory(root: Path = ROOT) -> int | None:
    """Bytes of memory that this process can still take; None where the system does not tell.

    The least of what the machine has, what the control groups around the process leave (containers and batch systems set
    such limits), and its own limit of addresses. Looked up ten times a second at most: a batch of small pictures asks often.
    """
    return _available_memory(root, int(10 * time.monotonic()))


@lru_cache(maxsize=1)
def _available_memory(root: Path, _tenth: int) -> int | None:
    known = [_system_memory(root), *_group_memory(root), _own_limit(root)]
    return min((amount for amount in known if amount is not None), default=None)


def own_memory(root: Path = ROOT) -> int:
    """Bytes of memory that this process holds already; 0 where the system does not tell."""
    try:
        return int((root / "proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def free_memory(device: torch.device) -> int:
    """Bytes that can still be taken on `device`."""
    import torch

    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "xpu":
        return torch.xpu.mem_get_info(device)[0]
    if device.type == "mps":
        return max(0, torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    free = available_memory()
    if free is not None:
        return free
    pages = os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    return pages * os.sysconf("SC_PAGE_SIZE") // 2 if pages > 0 else ASSUMED_FREE


def used_memory() -> int:
    """Bytes in use at most: of the GPU where there is one, else of the process."""
    import torch

    if torch.cuda.is_available() and (most := torch.cuda.max_memory_allocated()):
        return most
    try:
        from resource import RUSAGE_SELF, getrusage
    except ImportError:  # Windows
        return 0
    return getrusage(RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _system_memory(root: Path) -> int | None:
    found = _entry(root / "proc/meminfo", "MemAvailable:")
    if found is not None:
        return found * 1024
    with suppress(AttributeError, OSError, ValueError):
        pages, size = os.sysconf("SC_AVPHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
        return pages * size if pages > 0 and size > 0 else None
    return None


def _group_memory(root: Path) -> Iterator[int]:
    """What the limits of the process's own group and of those around it leave."""
    own = dict.fromkeys(GROUPS, PurePosixPath())
    with suppress(OSError, ValueError):
        for line in (root / "proc/self/cgroup").read_text("utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            for kind in set(controllers.split(",")) & set(GROUPS):
                # Of a group outside what a container sees, ".." comes first; its own limit is at the top then.
                own[kind] = PurePosixPath() if ".." in path else PurePosixPath(path.lstrip("/"))
    for kind, (below, limit, usage, cache) in GROUPS.items():
        for group in (own[kind], *own[kind].parents):
            folder = root / "sys/fs/cgroup" / below / group
            with suppress(OSError, ValueError):  # no such group, or "max": no limit
                left = int((folder / limit).read_text("ascii")) - int((folder / usage).read_text("ascii"))
                yield max(0, left + (_entry(folder / "memory.stat", cache) or 0))


def _own_limit(root: Path) -> int | None:
    """What `ulimit -v` leaves."""
    with suppress(ImportError, OSError, ValueError, IndexError):
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit != resource.RLIM_INFINITY:
            pages = int((root / "proc/self/statm").read_text("ascii").split()[0])
            return max(0, limit - pages * resource.getpagesize())
    return None


def _entry(table: Path, name: str) -> int | None:
    """The number after a name that begins a line; None without it."""
    with suppress(OSError, ValueError, IndexError):
        for line in table.read_text("ascii").splitlines():
            words = line.split()
            if words[:1] == [name]:
                return int(words[1])
    return None


def input_bytes(root: Path = ROOT) -> int:
    """Bytes of samples up to which an input is held in memory; larger ones lie on the disk, where they can."""
    free = available_memory(root)
    return LEAST_INPUT if free is None else max(LEAST_INPUT, int(free * INPUT_SHARE))


def has_gpu(root: Path = ROOT) -> bool:
    """Whether there is a GPU of NVIDIA's, found without torch."""
    return any((root / "dev").glob("nvidia[0-9]*"))


def check_memory(need: int, free: int | None, *, gathered: bool = False) -> None:
    """Refuse work that needs more memory than there is.

    Args:
        need: bytes.
        free: bytes that can be taken, those that this process holds included; None where the system does not tell.
        gathered: whether another format would need less.

    Raises:
        ResourceError: `need` bytes are more than is available.
    """
    if free is not None and need > free:
        raise ResourceError(
            f"about {in_words(need)} of memory are needed and {in_words(free)} can be had.",
            hint="Write PNG or TIFF, which need not be in memory as a whole, or choose a smaller size."
            if gathered
            else "Choose a smaller output, or close other programs.",
        )


def check_folder(folder: Path) -> None:
    """Refuse a folder in which no file can be made, whether it exists yet or not. Leaves nothing behind.

    Raises:
        ResourceError: it, or the folder it would be made in, is no folder or is not writable.
    """
    ancestor = nearest_folder(folder)
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
    free = shutil.disk_usage(nearest_folder(folder)).free
    if need > free:
        raise ResourceError(
            f"the result takes about {in_words(need)} and the disk of {folder} has {in_words(free)} left.",
            hint="Free some space, or choose another place with -o.",
        )


def nearest_folder(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    absolute = folder.absolute()
    return next(path for path in (absolute, *absolute.parents) if path.exists())


def duration(seconds: float) -> str:
    """Seconds in words: 1.9 s, 3 min 20 s, 2 h 05 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def in_words(amount: int) -> str:
    """Bytes in words."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if amount >= size:
            return f"{amount / size:.1f} {unit}"
    return f"{amount / 1e3:.0f} kB"
