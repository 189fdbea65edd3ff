"""A dataclass of options as a command."""

from dataclasses import asdict, dataclass
from typing import Annotated

from typer.testing import CliRunner

from srcli.cli.command import App, argument, command, option


@dataclass(frozen=True)
class Request:
    """Two options and an argument."""

    names: Annotated[list[str], argument("Whom.", "NAME...")]
    size: Annotated[int | None, option("How large.", "-s", min=1)] = None
    loud: Annotated[bool, option("Shout.")] = False


def greet(request: Request) -> None:
    """Say hello."""
    print(asdict(request))


def again(request: Request) -> None:
    """Say it again."""


def test_what_was_typed_arrives_beside_the_defaults_of_the_rest():
    app = App()
    app.command()(command(Request, greet))
    app.command()(command(Request, again))
    done = CliRunner().invoke(app, ["greet", "a", "b", "-s", "3"])
    assert done.stdout == "{'names': ['a', 'b'], 'size': 3, 'loud': False}\n"
    for words in (["greet"], ["greet", "a", "-s", "0"], []):
        assert CliRunner().invoke(app, words).exit_code == 2
    shown = CliRunner().invoke(app, ["greet", "--help"]).stdout
    assert all(words in shown for words in ("Say hello.", "NAME...", "-s, --size N", "How large.", "--loud"))
