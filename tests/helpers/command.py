"""`srcli` in this process, and what it has written."""

import numpy as np
from PIL import Image
from typer.testing import CliRunner

from srcli.cli import app


def srcli(*words, code=0, **given):
    """The result of a command line; its exit code is `code`, or any for None."""
    done = CliRunner().invoke(app, [*map(str, words)], **given)
    assert code is None or done.exit_code == code, done.output + str(done.exception)
    return done


def pixels(path):
    """Those of a picture file (h, w, c), as whole numbers that do not wrap around."""
    with Image.open(path) as opened:
        return np.asarray(opened).astype(int)
