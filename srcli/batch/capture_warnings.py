"""Warnings of a piece of work, gathered for its record; several threads may work at once."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

_here = threading.local()
_lock = threading.Lock()
_users = 0
_undo = ExitStack()


@contextmanager
def heard(into: list[str]) -> Iterator[None]:
    """Inside, what this thread is warned of is added to `into` rather than shown.

    `warnings.catch_warnings` belongs to the whole process: two threads that enter and leave it in turns undo each
    other's. So it is entered once, by the first, and left by the last.
    """
    global _users
    with _lock:
        if _users == 0:
            _undo.enter_context(warnings.catch_warnings())
            warnings.simplefilter("always")
            warnings.showwarning = _dispatched(warnings.showwarning)
        _users += 1
    outer, _here.sink = getattr(_here, "sink", None), into
    try:
        yield
    finally:
        _here.sink = outer
        with _lock:
            _users -= 1
            if _users == 0:
                _undo.close()


def _dispatched(shown: Any) -> Any:
    def show(message: Warning | str, *rest: Any, **more: Any) -> None:
        sink: list[str] | None = getattr(_here, "sink", None)
        if sink is None:
            shown(message, *rest, **more)
        else:
            sink.append(str(message))

    return show
