"""What a caller does to a process: signals and closed streams.

Ctrl-C and SIGTERM end a run soon, even while a library computes and Python does not get a word in.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

PATIENCE = 1.5  # seconds


def open_missing_streams() -> None:
    """Put the null device where the caller has closed stdin, stdout or stderr.

    Python leaves None there, and the next file to be opened would get the stream's number.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is not None:
            continue
        handle = os.open(os.devnull, os.O_RDWR)
        setattr(sys, name, os.fdopen(handle, "w" if number else "r", encoding="utf-8", errors="replace"))


@contextmanager
def ends_soon(patience: float = PATIENCE) -> Iterator[None]:
    """Inside, an interrupt unwinds as usual; if that takes longer than `patience` seconds, the process is ended.

    Python raises KeyboardInterrupt only between two of its own steps. A large picture spends seconds inside one
    call of an encoder, so a second thread watches: the interpreter writes the signal's number to a pipe at once.
    Temporary files are removed before the process ends with 128 + number.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    unwound = threading.Event()
    watch = threading.Thread(target=_watch, args=(reader, unwound, patience), daemon=True)
    watch.start()
    previous = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        yield
    finally:
        unwound.set()
        signal.set_wakeup_fd(previous)
        os.close(writer)  # the watcher reads the end and returns
        watch.join(patience)


def _watch(reader: int, unwound: threading.Event, patience: float) -> None:
    with suppress(OSError), os.fdopen(reader, "rb", buffering=0) as pipe:
        while number := pipe.read(1):
            if number[0] not in (signal.SIGINT, signal.SIGTERM):
                continue
            if unwound.wait(patience):
                return
            from srcli.files import remove_temporary_files

            remove_temporary_files()
            os._exit(128 + number[0])
