"""Base models by `srcli models`: shown, fetched, checked, removed; and what is said where they are not here."""

import json
from functools import partial

import pytest

from srcli.config.base_models import load_base
from tests.helpers.command import srcli
from tests.helpers.hub import serve

FILES = load_base("sd2-base").files


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A Hub that has every file of Stable Diffusion 2, with its name in it; the folder of models."""
    monkeypatch.setenv("SRCLI_MODELS_DIR", str(tmp_path))
    for name in ("SRCLI_SD2_BASE", "SRCLI_DINO_VITB16"):
        monkeypatch.delenv(name, raising=False)

    def put(to, patterns):
        for file in patterns:
            (to / file).parent.mkdir(parents=True, exist_ok=True)
            (to / file).write_text(json.dumps(file))

    serve(monkeypatch, put, "abc")
    return tmp_path / "sd2-base"


run = partial(srcli, "models", code=None)


def line(name):
    return next(line for line in run("list", "--all").stdout.splitlines() if line.startswith(name))


def test_list_tells_how_to_get_a_base_model_and_then_where_it_is(folder):
    assert "models pull sd2-base" in line("sd2-base")
    assert "SRCLI_SD2_BASE=FOLDER" in line("sd2-base")
    assert "Open RAIL++-M" in line("sd2-base")
    assert run("pull", "sd2-base").exit_code == 0
    assert line("sd2-base").endswith(f"here: {folder}")
    rows = {row["name"]: row for row in json.loads(run("list", "--all", "--json").stdout)}
    paths = {each["name"]: each["path"] for each in rows["lgcaa"]["bases"]}
    assert paths == {"sd2-base": str(folder), "dino-vitb16": None}
    assert rows["edsr-baseline-blend"]["bases"] == []
    assert run("path", "sd2-base").stdout.strip() == str(folder)


def test_verify_hashes_what_was_fetched(folder):
    run("pull", "sd2-base")
    whole = run("verify", "sd2-base")
    assert whole.exit_code == 0
    assert [row.split()[:2] for row in whole.stdout.splitlines()] == [["sd2-base", "ok"]] * len(FILES)
    (folder / FILES[1]).write_text("changed")
    (folder / FILES[2]).unlink()
    for asked in (["verify", "sd2-base"], ["verify"]):
        broken = run(*asked)
        assert broken.exit_code == 7
        assert "sd2-base" in broken.stderr
        found = [row.split()[1] for row in broken.stdout.splitlines() if row.startswith("sd2-base")]
        assert sorted(found) == sorted(["WRONG", "MISSING", *["ok"] * (len(FILES) - 2)])


def test_of_a_folder_of_ones_own_the_files_are_looked_for(tmp_path, monkeypatch):
    mine = tmp_path / "mine"
    (mine / "unet").mkdir(parents=True)
    (mine / "unet" / "config.json").write_text("{}")
    monkeypatch.setenv("SRCLI_SD2_BASE", str(mine))
    found = run("verify", "sd2-base")
    assert found.exit_code == 7
    assert "no hash recorded" in found.stdout
    assert found.stdout.count("MISSING") == 2  # the settings of vae, and weights of any kind
    refused = run("rm", "sd2-base", "--yes")
    assert refused.exit_code != 0
    assert "stays" in refused.stderr
    assert mine.is_dir()


def test_rm_asks_and_removes(folder):
    run("pull", "sd2-base")
    assert run("rm", "sd2-base", input="n\n").exit_code == 0
    assert folder.is_dir()
    assert run("rm", "sd2-base", "--yes").exit_code == 0
    assert not folder.exists()


@pytest.mark.parametrize("asked", [["rm", "-y"], ["verify"], ["path"]], ids=lambda asked: asked[0])
def test_a_base_model_that_is_not_here_is_missed_with_the_command_that_gets_it(asked):
    missed = run(*asked, "dino-vitb16")
    assert missed.exit_code == 4
    assert "srcli models pull dino-vitb16" in missed.stderr
