import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from typer.testing import CliRunner

from srcli.cli import app
from srcli.config.presets import DEFAULT_PRESET, list_presets, load_preset
from srcli.weights.build import build
from srcli.weights.checkpoint import load, save

TINY = """
title = "Tiny"
params = 1000
encoder = {name = "edsr", n_resblocks = 1, n_feats = 8}
decoder = {name = "blend", width = 8, hidden = [8]}
scales = {trained = [1, 6]}
"""


@pytest.fixture(autouse=True)
def _own_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("SRCLI_MODELS_DIR", str(tmp_path / "models"))
    monkeypatch.setenv("SRCLI_PRESETS_DIR", str(tmp_path / "presets"))
    monkeypatch.delenv("SRCLI_OFFLINE", raising=False)
    (tmp_path / "presets").mkdir()
    (tmp_path / "presets" / "tiny.toml").write_text(TINY, "utf-8")


@pytest.fixture
def release(tmp_path):
    """A checkpoint of the preset `tiny`, nested as the LIIF family does."""
    from srcli.config.presets import load_preset

    torch.manual_seed(0)
    state = {k.removeprefix("decoder."): v for k, v in build(load_preset("tiny")).state_dict().items()}
    torch.save({"model": {"name": "x", "args": {}, "sd": state}, "epoch": 1}, tmp_path / "x.pth")
    return tmp_path / "x.pth"


def run(*args: object, **env: str):
    return CliRunner().invoke(app, ["models", *map(str, args)], env=env)


def one_line(result) -> str:
    """The error: exactly one line, on stderr."""
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    return lines[0]


def test_list_shows_every_preset():
    result = run("list", "--all")
    assert result.exit_code == 0
    usable, rest = result.stdout.split("\n\n")[0], result.stdout.split("\nNETWORKS")[1]
    lines = usable.splitlines()
    assert lines[0].split() == ["NAME", "SIZE", "LICENCE", "S/MP", "DB", "FOR"]
    assert lines[1].split()[:2] == ["*", DEFAULT_PRESET]
    names = [line.replace("*", " ").split()[0] for line in lines[1:]]
    others = [line.split()[0] for line in rest.split("\n\n")[0].splitlines()[1:] if line.startswith("  ")]
    assert {*names, *others} == {preset.name for preset in list_presets()}
    assert not {*names} & {*others}
    assert next(line for line in rest.splitlines() if "  tiny" in line).split()[1:4] == ["0.00", "M", "1-6"]
    short = run("list").stdout
    assert "  tiny" not in short
    assert f"{len(others)} networks have no weights here: srcli models list --all" in short


def test_the_list_fits_80_columns_and_shows_what_models_reach():
    text = run("list", COLUMNS="80").stdout
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("\n") < 24
    default = load_preset(DEFAULT_PRESET)
    (row,) = (row for row in default.reported if (row.benchmark, row.scale) == ("set5", 4))
    line = next(line for line in text.splitlines() if line.startswith(f"* {DEFAULT_PRESET} "))
    assert line.split()[5:] == [f"{default.cost.cpu:.2f}", f"{row.psnr_y:.2f}", *default.purpose.split()]
    rows = {row["name"]: row for row in json.loads(run("list", "--json").stdout)}
    assert rows[DEFAULT_PRESET]["psnr_y"]["set5"]["4"] == row.psnr_y
    assert all(row["purpose"] for row in rows.values() if row["bundled"])


def test_list_as_json_can_be_relied_on():
    rows = json.loads(run("list", "--json").stdout)
    assert [row["name"] for row in rows] == [preset.name for preset in list_presets()]
    for row in rows:
        assert isinstance(row["bundled"], bool)
        assert isinstance(row["available"], bool)
        assert isinstance(row["license"], str)
        assert isinstance(row["params"], int)
        assert len(row["scales"]) == 2
        assert {"title", "size", "paper", "origin", "path"} <= row.keys()
    tiny = next(row for row in rows if row["name"] == "tiny")
    assert (tiny["params"], tiny["scales"], tiny["bundled"], tiny["available"]) == (
        1000,
        [1.0, 6.0],
        False,
        False,
    )


def test_an_option_can_come_from_the_environment():
    assert json.loads(run("list", SRCLI_MODELS_LIST_JSON="1").stdout)


def test_list_can_be_limited_to_licences_that_allow_commercial_use():
    free = {
        row["name"]: row["license"]
        for row in json.loads(run("list", "--license", "commercial", "--json").stdout)
    }
    assert free["edsr-baseline-blend"] == "Apache-2.0"
    assert "unstated" not in free.values()
    same = json.loads(run("list", "--license", "apache-2.0", "--json").stdout)
    assert {row["name"] for row in same} == {name for name, id_ in free.items() if id_ == "Apache-2.0"}
    assert free["real-best"] == "BSD-3-Clause"
    assert json.loads(run("list", "--license", "MIT", "--json").stdout) == []
    assert run("list", "--license", "MIT").stdout == ""


def test_a_licence_is_not_what_taught_the_weights(tmp_path):
    """A permissive file whose teachers saw research pictures is commercial by its licence, and says so of its data."""
    text = TINY + '[weights]\nlicense = "MIT"\n[training]\ndata = "DF2K, by its teacher"\n'
    (tmp_path / "presets" / "tiny.toml").write_text(text, "utf-8")
    (line,) = (s for s in run("list", "--license", "commercial").stdout.splitlines() if s.startswith("tiny"))
    assert line.split()[1:] == ["DF2K,", "by", "its", "teacher"]
    assert "DF2K" not in run("list", "--all").stdout
    assert "DF2K, by its teacher" in run("info", "tiny").stdout
    assert "not stated" in run("info", "kim-small").stdout
    rows = {row["name"]: row for row in json.loads(run("list", "--data", "open", "--json").stdout)}
    assert {"tiny", "edsr-baseline-liif"}.isdisjoint(rows)
    assert all(row["data"].startswith("open photographs") and ";" not in row["data"] for row in rows.values())
    assert "edsr-baseline-blend" in rows
    listed = run("list", "--data", "open").stdout.split("TAUGHT BY")[1].splitlines()[1:]
    assert [line.split()[0] for line in listed] == list(rows)
    text = text.replace("[training]", "[training]\nopen_data = true")
    (tmp_path / "presets" / "tiny.toml").write_text(text, "utf-8")
    assert "tiny" in run("list", "--data", "open").stdout
    assert "(open photographs alone)" in run("info", "tiny").stdout
    assert run("list", "--data", "closed").exit_code == 2


def test_info_says_what_the_preset_says():
    text = run("info", "edsr-baseline-liif").stdout
    for fact in (
        "1,567,323",
        "BSD-3-Clause",
        "unstated",
        "dropbox.com",
        "arxiv.org/abs/2012.09161",
        "34.67",
        "x30",
    ):
        assert fact in text
    table = json.loads(run("info", "edsr-baseline-liif", "--json").stdout)
    assert table["preset"]["decoder"]["hidden"] == [256, 256, 256, 256]
    assert table["published"] is True


def test_info_reads_a_weights_file(tmp_path):
    from srcli.config.presets import load_preset

    preset = load_preset("tiny")
    save(tmp_path / "run.safetensors", build(preset), preset)
    result = run("info", tmp_path / "run.safetensors")
    assert result.exit_code == 0
    assert "tiny  (Tiny)" in result.stdout
    assert str(tmp_path / "run.safetensors") in result.stdout


def test_an_unknown_name_is_a_usage_error_with_a_suggestion():
    result = run("info", "edsr-baseline-blen")
    assert result.exit_code == 2
    assert "Did you mean edsr-baseline-blend, " in one_line(result)


def test_import_then_path_then_verify(release, tmp_path):
    result = run("import", release, "--preset", "tiny", "--license", "MIT")
    assert result.exit_code == 0, result.stderr
    file = tmp_path / "models" / "tiny.safetensors"
    assert result.stdout.split() == ["tiny", load("tiny").sha256, str(file)]
    assert run("path", "tiny").stdout.strip() == str(file)
    assert run("path").stdout.strip() == str(tmp_path / "models")
    checked = run("verify", "tiny")
    assert checked.exit_code == 0
    assert checked.stdout.split()[:2] == ["tiny", "ok"]
    assert "tiny" in run("verify").stdout
    assert "  tiny" in run("list").stdout


def test_the_licence_that_was_said_when_weights_were_imported_counts(release, tmp_path):
    def stated():
        rows = {row["name"]: row["license"] for row in json.loads(run("list", "--json").stdout)}
        return rows["tiny"], json.loads(run("info", "tiny", "--json").stdout)["license"]

    assert stated() == ("unstated", "unstated")
    for license_id, commercial in (("CC-BY-NC-4.0", False), ("MIT", True), ("unstated", False)):
        run("import", release, "--preset", "tiny", "--license", license_id, "--overwrite")
        assert stated() == (license_id, license_id)
        assert ("tiny" in run("list", "--license", "commercial").stdout) == commercial
        assert "tiny" in run("list", "--license", license_id).stdout
        assert f"weights {license_id}" in run("info", "tiny").stdout
        assert load("tiny").preset.weights.license == license_id
    run("import", release, "--preset", "tiny", "--license", "MIT", "--overwrite")
    again = run("import", release, "--preset", "tiny", "--overwrite")
    assert again.exit_code == 4  # the licence of other weights is not that of these
    (tmp_path / "models" / "tiny.safetensors").write_bytes(b"damaged")
    assert stated() == ("unstated", "unstated")


def test_info_refuses_a_preset_that_describes_no_network(tmp_path):
    base = 'title = "x"\n[encoder]\nname = "{}"\n[decoder]\nname = "{}"\n{}'
    for number, (encoder, decoder, more, said) in enumerate(
        [
            ("edsr", "nonesuch", "", "unknown decoder 'nonesuch'"),
            ("edsrr", "liif", "", "Did you mean 'edsr'?"),
            ("edsr", "liif", "novelty = 1\n", "takes no 'novelty'"),
            ("edsr", "liif", 'hidden = "x"\n', "must be a list"),
            ("edsr", "liif", '[generator]\nname = "nothing"\n', "unknown generator"),
        ]
    ):
        path = tmp_path / f"p{number}.toml"
        path.write_text(base.format(encoder, decoder, more), "utf-8")
        result = run("info", path)
        assert result.exit_code == 2
        assert said in one_line(result)


def test_info_of_a_weights_file_of_an_unknown_network_is_refused_as_by_upscale(tmp_path, model):
    with safe_open(model, "pt") as file:
        about = file.metadata()
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    table = json.loads(about["preset"])
    table["decoder"] = {"name": "nonesuch"}
    save_file(tensors, tmp_path / "new.safetensors", {**about, "preset": json.dumps(table)})
    result = run("info", tmp_path / "new.safetensors")
    assert result.exit_code == 4
    assert "unknown decoder 'nonesuch'" in one_line(result)


def test_verify_finds_a_changed_file(release, tmp_path):
    run("import", release, "--preset", "tiny", "--license", "MIT")
    file = tmp_path / "models" / "tiny.safetensors"
    whole = bytearray(file.read_bytes())
    whole[-1] ^= 1
    file.write_bytes(whole)
    result = run("verify")
    assert result.exit_code == 7
    assert "tiny" in result.stderr
    assert "WRONG" in result.stdout
    with pytest.raises(Exception, match="SHA-256"):
        load("tiny")


def test_verify_of_weights_that_are_not_here_is_a_model_error():
    result = run("verify", "edsr-baseline-liif")
    assert result.exit_code == 4
    assert "srcli models pull edsr-baseline-liif" in one_line(result)


def test_import_finds_the_preset_itself(release):
    result = run("import", release, "--license", "MIT")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("tiny ")


def test_import_to_a_file_of_choice(release, tmp_path):
    output = tmp_path / "own name.safetensors"
    result = run("import", release, "--license", "LicenseRef-Mine", "-o", output)
    assert result.exit_code == 0
    assert f"--model {output}" in result.stderr
    assert load(output).preset.weights.license == "LicenseRef-Mine"


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["--license", "free"], 4, "licence"),
        ([], 4, "--license"),
        (["--license", "MIT", "--preset", "edsr-baseline-liif"], 4, "missing (encoder."),
        (["--license", "MIT", "--preset", "tinny"], 2, "Did you mean tiny, "),
        (["--license", "MIT", "--output", "x.pth"], 4, ".safetensors"),
    ],
)
def test_what_cannot_be_imported_is_said_in_one_line(release, args, code, words):
    result = run("import", release, *args)
    assert result.exit_code == code
    assert words in one_line(result)


def test_import_does_not_replace_a_file_unasked(release):
    assert run("import", release, "--license", "MIT").exit_code == 0
    result = run("import", release, "--license", "MIT")
    assert result.exit_code == 6
    assert "--overwrite" in one_line(result)
    assert run("import", release, "--license", "MIT", "--overwrite").exit_code == 0


def test_a_missing_or_damaged_file_is_a_model_error(tmp_path):
    assert run("import", tmp_path / "none.pth", "--license", "MIT").exit_code == 4
    (tmp_path / "x.pth").write_bytes(b"no checkpoint")
    assert "damaged" in one_line(run("import", tmp_path / "x.pth", "--license", "MIT"))


def test_pull_without_a_link_names_the_other_ways():
    result = run("pull", "edsr-baseline-metasr")
    assert result.exit_code == 4
    for way in ("srcli train", "srcli models import FILE --preset edsr-baseline-metasr"):
        assert way in one_line(result)


@pytest.mark.parametrize(("args", "env"), [(["--offline"], {}), ([], {"SRCLI_OFFLINE": "1"})])
def test_pull_offline_shows_source_and_licence_and_refuses(args, env):
    result = run("pull", "edsr-baseline-liif", *args, **env)
    assert result.exit_code == 4
    assert "dropbox.com" in result.stderr
    assert "licence: weights unstated, code BSD-3-Clause" in result.stderr
    assert "offline" in result.stderr.splitlines()[-1]


def test_pull_of_what_is_here_does_nothing(release):
    run("import", release, "--license", "MIT")
    result = run("pull", "tiny", "--offline")
    assert result.exit_code == 0
    assert "tiny is here" in result.stdout


def test_a_broken_pipe_ends_quietly():
    command = [sys.executable, "-m", "srcli", "models", "list", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""


def failure(*, terminal: bool, **env: str) -> bytes:
    """What a failing command writes to stderr."""
    reader, writer = os.openpty() if terminal else os.pipe()
    clean = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "TERM")}
    command = [sys.executable, "-m", "srcli", "models", "info", "nothing"]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=writer, env={**clean, "TERM": "xterm", **env}, check=False
    )
    assert done.returncode == 2
    assert done.stdout == b""
    text = os.read(reader, 10_000)
    os.close(reader)
    os.close(writer)
    return text


@pytest.mark.skipif(os.name == "nt", reason="needs a pseudo-terminal")
def test_errors_are_red_only_on_a_terminal_that_wants_colour():
    assert failure(terminal=True).startswith(b"\x1b[1;31merror:\x1b[0m unknown preset 'nothing'")
    assert failure(terminal=True, NO_COLOR="1").startswith(b"error: ")
    assert failure(terminal=True, TERM="dumb").startswith(b"error: ")
    assert failure(terminal=False).startswith(b"error: ")


def test_version_and_help():
    from srcli import __version__

    runner = CliRunner()
    assert runner.invoke(app, ["-V"]).stdout == f"srcli {__version__}\n"
    assert "models" in runner.invoke(app, ["-h"]).stdout
    assert runner.invoke(app, ["nothing"]).exit_code == 2
    assert runner.invoke(app, ["models", "list", "--wrong"]).exit_code == 2
