"""A dataclass of options as a command."""

from dataclasses import asdict, dataclass
from typing import Annotated

import typer
from typer.testing import CliRunner

from srcli.cli.options import command


@dataclass(frozen=True)
class Request:
    """Two options and an argument."""

    names: Annotated[list[str], typer.Argument(metavar="NAME...")]
    size: Annotated[int | None, typer.Option("--size", "-s", min=1, help="How large.")] = None
    loud: Annotated[bool, typer.Option("--loud")] = False


def greet(request: Request) -> None:
    """Say hello."""
    print(asdict(request))


def test_what_was_typed_arrives_beside_the_defaults_of_the_rest():
    app = typer.Typer()
    app.command()(command(Request, greet))
    done = CliRunner().invoke(app, ["a", "b", "-s", "3"])
    assert done.stdout == "{'names': ['a', 'b'], 'size': 3, 'loud': False}\n"
    assert CliRunner().invoke(app, []).exit_code == CliRunner().invoke(app, ["a", "-s", "0"]).exit_code == 2
    shown = CliRunner().invoke(app, ["--help"]).stdout
    assert all(words in shown for words in ("Say hello.", "NAME...", "--size", "How large.", "--loud"))
