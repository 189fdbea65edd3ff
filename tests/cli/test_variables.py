"""Every option of every command has a variable of its own, named after both; shared ones come second."""

import typer
from typer.testing import CliRunner

from srcli.cli import app


def commands(group=None, path=()):
    group = group or typer.main.get_command(app)
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


def test_every_option_has_a_variable_of_its_own(monkeypatch):
    names = {}
    for path, command in commands():
        context = command.context_class(command)
        for option in command.params:
            for long in [word for word in option.opts if word.startswith("--")][:1]:
                name = "_".join(["srcli", *path, long[2:]]).upper().replace("-", "_")
                assert names.setdefault(name, option) is option, f"{name} belongs to two options"
                assert option.resolve_envvar_value(context) is None
                monkeypatch.setenv(name, "1")
                assert option.resolve_envvar_value(context) == "1", name
    assert len(names) > 200
    for path, command in commands():  # nothing but its own was set, and nothing else is heard
        for option in command.params:
            own = "_".join(["SRCLI", *path]).upper().replace("-", "_")
            heard = [name for name in option.envvar or () if name in names]
            assert all(name.startswith(own + "_") for name in heard), (path, option.opts)


def test_a_command_does_not_obey_the_variable_of_another(monkeypatch, tmp_path):
    monkeypatch.setenv("SRCLI_UPSCALE_DEVICE", "nonsense")
    monkeypatch.setenv("SRCLI_DEVICE", "cpu")
    arguments = ["eval", "--bench", "Set5", "--data", str(tmp_path), "-s", "2"]
    assert "nonsense" not in CliRunner().invoke(app, arguments).output
    found = CliRunner().invoke(app, ["doctor"], env={"SRCLI_DOCTOR_DEVICE": "nonsense"})
    assert found.exit_code == 2
    assert "nonsense" in found.output


def test_the_own_variable_comes_before_the_shared_one(monkeypatch):
    command = dict(commands())[("eval",)]
    option = next(option for option in command.params if "--device" in option.opts)
    monkeypatch.setenv("SRCLI_DEVICE", "cpu")
    assert option.resolve_envvar_value(command.context_class(command)) == "cpu"
    monkeypatch.setenv("SRCLI_EVAL_DEVICE", "cuda")
    assert option.resolve_envvar_value(command.context_class(command)) == "cuda"
    monkeypatch.setenv("SRCLI_UPSCALE_DEVICE", "mps")
    assert option.resolve_envvar_value(command.context_class(command)) == "cuda"
