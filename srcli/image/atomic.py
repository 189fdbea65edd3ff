"""Files that exist whole or not at all: a temporary file beside the target, flushed, then renamed over it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from srcli.errors import ResourceError
from srcli.image.temporary import temporary_name

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
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
    temporary = target.parent / temporary_name()
    try:
        # O_EXCL | 0o666: nobody else's file, and the permissions the user's umask asks for.
        handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    except OSError as error:
        raise write_error(path, error) from error
    _temporary.add(temporary)
    try:
        with os.fdopen(handle, "w+b") as stream:
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
