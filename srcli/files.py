"""Files that exist whole or not at all: a temporary file beside the target, flushed, then renamed over it.

The name of a temporary file says who writes it: machine, process, and when that started, since process numbers are used
again: ``.srcli-<machine>-<process>-<start>-<random>.tmp``. What a killed process left is removed by the next run that
writes to the same folder; what another machine left (a container that is gone), after an hour, if nobody holds its lock.
"""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from srcli.errors import ResourceError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NAME = re.compile(r"\.srcli-([0-9a-f]{8})-(\d+)-(\d+)-[0-9a-f]{12}\.tmp")
PROCESSES = Path("/proc")
# Endings of the pictures that folders and patterns are searched for; a file that is named is always tried.
PICTURES = frozenset(
    {".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".webp", ".tif", ".tiff", ".avif", ".avifs"}
    | {".heic", ".heif", ".hif", ".heics", ".heifs", ".bmp", ".dib", ".gif", ".tga", ".ico"}
    | {".ppm", ".pgm", ".pbm", ".pnm"}
)
JUNK_FILES = frozenset({"thumbs.db", "desktop.ini", "icon\r"})  # of file managers
ABANDONED = 3600  # seconds without a byte
_temporary: set[Path] = set()  # files being written now


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """A binary stream (readable, seekable) whose content becomes `path` when the block ends without an exception.

    The temporary file lies in the target's folder, so that the final rename cannot cross file systems; it is
    removed on every exception, an interrupt included. A symbolic link is followed, an existing file keeps its
    permissions, a device or pipe is written to directly.

    Raises:
        ResourceError: the folder is missing or not writable, or the disk is full. Only errors of the file
            system are translated; whatever else the block raises passes through.
    """
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise ResourceError(f"cannot write {path}: it is a folder.")
    if target.exists() and not target.is_file():
        # A device or a pipe, such as /dev/null: it must be written to, not replaced.
        try:
            with target.open("wb", buffering=0) as device:
                yield device
        except OSError as error:
            raise write_error(path, error) from error
        return
    remove_leftovers(target.parent)
    temporary = target.parent / temporary_name()
    try:
        # O_EXCL | 0o666: nobody else's file, and the permissions the user's umask asks for.
        handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    except OSError as error:
        raise write_error(path, error) from error
    _temporary.add(temporary)
    try:
        with os.fdopen(handle, "w+b") as stream:
            _locked(handle)
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        if target.exists():
            temporary.chmod(target.stat().st_mode & 0o7777)
        temporary.replace(target)
        _flush_folder(target.parent)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError) and error.errno is not None:
            raise write_error(path, error) from error
        raise
    finally:
        _temporary.discard(temporary)


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file that is either complete or absent, in a folder that is made if need be.

    Raises:
        ResourceError: the disk is full or the folder is not writable.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(path.parent, error) from error
    with atomic_write(path) as file:
        file.write(data)


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


def remove_temporary_files() -> None:
    """Remove what is being written now: the last thing before a process ends without unwinding."""
    for temporary in list(_temporary):
        with suppress(OSError):
            temporary.unlink()


def write_error(path: Path | str, error: OSError) -> ResourceError:
    """What to tell a person when `path` could not be written."""
    if error.errno in FULL:
        return ResourceError(
            f"cannot write {path}: the disk is full.",
            hint="Free some space, or choose another folder with -o.",
        )
    if error.errno == errno.ENOENT:
        return ResourceError(f"cannot write {path}: the folder does not exist.", hint="Create it first.")
    reason = os.strerror(error.errno) if error.errno else str(error)
    return ResourceError(f"cannot write {path}: {reason}.", hint="Choose another place with -o.")


def _flush_folder(folder: Path) -> None:
    """Make the rename itself survive a power cut, where the system can flush a folder (not on Windows)."""
    if os.name != "posix":
        return
    with suppress(OSError):  # some network file systems refuse; the file itself is already safe
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


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
            if found is None:
                continue
            with suppress(OSError):  # another run was faster, or (on Windows) it is still open
                here = found[1] == _machine()
                if _is_abandoned(entry) if not here else not _is_alive(int(found[2]), int(found[3])):
                    os.unlink(entry.path)  # noqa: PTH108


def _is_abandoned(entry: os.DirEntry[str]) -> bool:
    """Whether a file of another machine is old, and nobody writes it."""
    if time.time() - entry.stat().st_mtime < ABANDONED:
        return False
    handle = os.open(entry.path, os.O_RDWR)
    try:
        return _locked(handle)
    finally:
        os.close(handle)


def _locked(handle: int) -> bool:
    """Lock an open file until it is closed; False where another has it, or the file system has no locks."""
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    except ImportError:  # Windows refuses to remove an open file
        pass
    return True


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


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal; read once for as long as the file stays as it is."""
    status = path.stat()
    return _sha256(path.absolute(), status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@lru_cache(maxsize=64)
def _sha256(path: Path, *_state: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_folder(name: str) -> Path:
    """Where something is kept between runs: below `$SRCLI_CACHE_DIR` or the user's cache."""
    import platformdirs

    return (
        Path(os.environ.get("SRCLI_CACHE_DIR") or platformdirs.user_cache_dir("srcli", appauthor=False))
        / name
    )
