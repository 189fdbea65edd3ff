"""The README says what the program does."""

import re
import shlex
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

import srcli
from srcli import errors
from srcli.cli import COMMANDS, app

README = (Path(__file__).parent.parent / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
LINES = [line.split("#")[0].strip() for block in BLOCKS for line in block.splitlines()]


def upscale_lines():
    simple = [
        line for line in LINES if line.startswith("srcli upscale ") and "|" not in line and "<" not in line
    ]
    return [line.split(">")[0] for line in simple if " -m " not in line]


@pytest.mark.parametrize("line", upscale_lines())
def test_the_upscale_commands_plan_what_they_say(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RANK", "0")  # for --shard auto
    monkeypatch.setenv("WORLD_SIZE", "1")
    Path("shots").mkdir()
    for name in ("photo.png", "poster.png", "a.jpg", "old.jpg", "shots/b.png"):
        Image.new("RGB", (20, 16)).save(name)
    result = CliRunner().invoke(app, [*shlex.split(line)[1:], "--dry-run"])
    assert result.exit_code == (1 if "--status" in line else 0), result.output  # 1: nothing is done yet
    assert not list(tmp_path.rglob("*_x*"))


def test_every_command_named_exists():
    named = {match for line in LINES for match in re.findall(r"\bsrcli ([a-z][a-z-]*)", line)}
    assert named
    assert named <= COMMANDS.keys()


def test_the_table_of_exit_codes_covers_every_error():
    documented = {
        int(code) for row in re.findall(r"^\| ([\d, ]+) \|", README, re.MULTILINE) for code in row.split(",")
    }
    codes = {
        kind.code
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.SrcliError)
    }
    assert codes <= documented


def test_public_names_resolve_and_are_sorted():
    assert all(getattr(srcli, name) is not None for name in srcli.__all__)
    assert srcli.__all__ == sorted(srcli.__all__)
