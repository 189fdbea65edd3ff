"""`python -m srcli` is `srcli`."""

import atexit
import os
import signal
import sys
from contextlib import suppress


def main() -> None:
    """Run the command line and exit; signals end the process without a traceback while it is still imported."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda number, _frame: os._exit(128 + number))
    code: object = 1  # of an exception
    # What is registered first runs last; taking torch down would take a quarter of a short run's time.
    atexit.register(lambda: _end(code))
    from srcli.cli import main as run

    try:
        run()
    except SystemExit as leaving:
        code = leaving.code
        raise


def _end(code: object) -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    main()
