"""Help fits a screen: few lines, no word broken, nothing of the library's own jargon."""

import re

import pytest
import typer
from typer.testing import CliRunner

from srcli.cli import app

LINES = 60


def commands(group=None, path=()):
    group = group or typer.main.get_command(app)
    yield path, group
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, (*path, name))


ALL = dict(commands())
FULL = {path for path, command in ALL.items() if getattr(command, "basic", ())}


def shown(path, width, *words):
    done = CliRunner().invoke(app, [*path, *words], env={"COLUMNS": str(width), "TERMINAL_WIDTH": str(width)})
    assert done.exit_code == 0, done.output
    return done.stdout


def words_of(command):
    """What the help of a command must hold whole: names, choices and every word of the texts."""
    for param in command.params:
        yield from (param.metavar or "").split()
        yield from (param.help or "").split()
        yield from (
            word for word in (*param.opts, *param.secondary_opts) if param.param_type_name == "option"
        )


@pytest.mark.parametrize("width", [80, 100, 160])
@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_help_fits_and_breaks_no_word(path, width):
    text = shown(path, width, "--help")
    assert text.count("\n") <= LINES
    whole = text + (shown(path, width, "--help-all") if path in FULL else "")
    assert max(map(len, whole.splitlines())) <= width
    assert not re.search(r"<(bool|int|float|str|path|list)|x<=|<=x|\[default", whole)
    known = set(re.split(r"[\s,/()]+", whole)) | set(whole.split())
    methods = {"Models that draw noise", "Diffusion models"}
    for param in ALL[path].params:
        if getattr(param, "rich_help_panel", None) in methods:
            continue
        for word in [*(param.metavar or "").split(), *(param.help or "").split()]:
            assert {word, word.rstrip(".")} & known or word.strip("(),.;") in known, (word, whole)
        for word in (*param.opts[:1], *param.secondary_opts) if param.param_type_name == "option" else ():
            assert word in whole


def test_the_help_of_upscale_names_what_most_need_and_the_rest_is_told_on_demand():
    first, rest = shown(("upscale",), 80, "--help"), shown(("upscale",), 80, "--help-all")
    basic = set(ALL["upscale",].basic)
    told = {name.replace("-", "_") for name in re.findall(r"--([a-z-]+)", first)}
    assert basic <= told
    assert told - basic <= {
        "scale",
        "max_side",
        "format",
        "help_all",
        "skip_existing",
        "verbose",
        "preview_at",
    }
    assert first.splitlines()[-1] == "All options: srcli upscale --help-all"
    assert "--fail-fast" in rest
    assert "--fail-fast" not in first


def test_upscale_has_at_most_48_options():
    params = [param for param in ALL["upscale",].params if param.param_type_name == "option"]
    assert len(params) <= 48


def test_options_of_a_method_are_told_where_the_model_has_it():
    plain = shown(("upscale",), 80, "--help-all")
    assert "--temperature T|auto" not in plain
    assert "Models that draw noise: --temperature, --seed, --samples; see srcli upscale" in plain
    noisy = shown(("upscale",), 80, "-m", "rlfn-linf-s", "--help")
    assert "--temperature T|auto|map=.." in noisy
    assert "--sampling" not in noisy
    assert "--sampling KEY=VALUE" in shown(("upscale",), 80, "--model=fplia-small", "--help-all")
    refused = CliRunner().invoke(app, ["upscale", "a.png", "-m", "rlfn-native", "-T", "0.5"])
    assert refused.exit_code == 2


def test_the_list_of_commands_tells_what_each_says_of_itself():
    text = shown((), 100, "--help")
    for (name, *rest), command in ((path, command) for path, command in ALL.items() if path):
        if not rest and hasattr(command, "commands"):
            assert " ".join(command.help.split()) in " ".join(text.split()), name


def test_a_command_without_words_runs(folder):
    assert CliRunner().invoke(app, ["cache", "info"]).exit_code == 0
