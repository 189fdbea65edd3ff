"""The command line, in this process."""

from typer.testing import CliRunner

from srcli.cli import app


def run(*words, code=0, **env):
    """What `srcli` answers to these words; it must end with `code`."""
    done = CliRunner().invoke(app, [str(word) for word in words], env=env)
    assert done.exit_code == code, done.output + str(done.exception)
    return done


def refusal(*words, code=4):
    """The one line of an error."""
    (line,) = (line for line in run(*words, code=code).stderr.splitlines() if line.startswith("error: "))
    return line
