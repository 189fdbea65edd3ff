"""`python -m srcli` is `srcli`."""

import os
import signal


def main() -> None:
    """Run the command line and exit; signals end the process without a traceback while it is still imported."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda number, _frame: os._exit(128 + number))
    from srcli.cli import main as run

    run()


if __name__ == "__main__":
    main()
