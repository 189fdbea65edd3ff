"""Names, lists, links and manifests that point elsewhere: nothing is written outside the output folder."""

import json
import os

import fsspec
import pytest

from srcli.batch.inputs import find_inputs
from tests.cli.conftest import listing, picture, save


@pytest.fixture
def outside(folder):
    """A folder beside the working one, with somebody's file."""
    place = folder.parent / "outside"
    place.mkdir()
    (place / "a_x2.png").write_bytes(b"somebody's")
    return place


def untouched(outside):
    return listing(outside) == ["a_x2.png"] and (outside / "a_x2.png").read_bytes() == b"somebody's"


@pytest.mark.parametrize("name", ["../{stem}", "/tmp/{stem}", "x/../../{stem}"])
def test_a_template_cannot_leave_the_folder(upscale, engine, folder, outside, name):
    save(folder / "a.png", picture())
    assert upscale("a.png", "-s", "2", "-o", "out/", "--name", name).exit_code == 2
    assert listing(folder) == ["a.png"]


def test_neither_can_the_name_of_an_input(upscale, engine, folder, outside):
    save(folder / "in" / "b.png", picture()).rename(folder / "in" / "...png")
    result = upscale("in/...png", "-s", "2", "-o", "out/", "--name", "{stem}/outside/a_x2{ext}")
    assert result.exit_code == 2
    assert "not in the output folder" in result.stderr
    assert listing(folder) == ["in/...png"]


def test_neither_can_the_name_of_a_model(upscale, engine, folder, outside, model):
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    with safe_open(model, "pt") as opened:
        about = opened.metadata()
    about["preset"] = json.dumps({**json.loads(about["preset"]), "name": "../../outside/a"})
    save_file(load_file(model), folder / "evil.safetensors", about)
    save(folder / "a.png", picture())
    words = ("a.png", "-s", "2", "-o", "out/", "--name", "{model}_x2{ext}")
    result = upscale(*words, use=folder / "evil.safetensors")
    assert result.exit_code != 0
    assert untouched(outside)
    assert listing(folder) == ["a.png", "evil.safetensors"]


def test_a_list_of_far_away_files_fills_the_folder_and_nothing_else(upscale, engine, folder):
    far = save(folder.parent / "far" / "b.png", picture())
    (folder / "list.txt").write_text(f"../far/b.png\n{far}\n")
    assert upscale("@list.txt", "-s", "2", "-o", "out/").exit_code == 0
    assert listing(folder) == ["list.txt", "out/b_x2.png"]
    assert listing(far.parent) == ["b.png"]


@pytest.mark.skipif(os.name != "posix", reason="symbolic links")
def test_links_to_other_places_are_neither_followed_nor_replaced(upscale, engine, folder, outside):
    save(folder / "in" / "a.png", picture())
    (folder / "in" / "deep").symlink_to(outside, target_is_directory=True)
    save(outside.parent / "more" / "b.png", picture())
    (folder / "in" / "more").symlink_to(outside.parent / "more", target_is_directory=True)
    (folder / "out").mkdir()
    (folder / "out" / "a_x2.png").symlink_to(outside / "a_x2.png")
    assert upscale("in", "-r", "-s", "2", "-o", "out").exit_code == 6
    (folder / "out" / "a_x2.png").unlink()
    (folder / "out" / "a_x2.png").symlink_to(outside / "nothing.png")
    assert upscale("in", "-r", "-s", "2", "-o", "out").exit_code == 6
    assert untouched(outside)
    assert listing(folder / "out") == ["a_x2.png"]


@pytest.mark.skipif(os.name != "posix", reason="symbolic links")
@pytest.mark.parametrize(
    ("link", "target", "options"),
    [
        ("out/a_x2.png", "outside/a_x2.png", ["-o", "out"]),
        ("out/a_x2.png", "outside/new.png", ["-o", "out/"]),
        ("out/a_x2.png", "here/a.png", ["-o", "out"]),  # an input, and beside it
        ("out/deep", "outside", ["-o", "out", "--name", "deep/{stem}_{size}"]),
        ("out/deep", "outside", ["-o", "out", "--name", "deep/new/{stem}"]),
        ("out/in", "outside", ["-o", "out", "--name", "{parent}/{stem}_{size}"]),
        ("in/a_x2.png", "outside/a_x2.png", []),
    ],
)
@pytest.mark.parametrize("how", ["absolute", "relative"])
def test_links_are_not_followed_when_outputs_are_replaced(
    upscale, engine, folder, outside, link, target, options, how
):
    save(folder / "a.png", picture())
    save(folder / "in" / "a.png", picture())
    place = folder / link
    place.parent.mkdir(exist_ok=True)
    goal = folder.parent / target if target.startswith(("outside", "here")) else folder / target
    place.symlink_to(goal if how == "absolute" else os.path.relpath(goal, place.parent))
    before = (folder / "a.png").read_bytes(), (folder / "in" / "a.png").read_bytes()
    for policy in (["--overwrite"], []):
        result = upscale("in/a.png", "-s", "2", *options, *policy)
        assert result.exit_code == 6, result.stderr
        assert place.is_symlink()
    assert untouched(outside)
    assert before == ((folder / "a.png").read_bytes(), (folder / "in" / "a.png").read_bytes())


@pytest.mark.skipif(os.name != "posix", reason="symbolic links")
def test_a_folder_that_is_a_link_and_links_inside_it_are_followed(upscale, engine, folder):
    save(folder / "in" / "x" / "a.png", picture())
    (folder / "real" / "y").mkdir(parents=True)
    (folder / "out").symlink_to("real", target_is_directory=True)
    (folder / "real" / "x").symlink_to("y", target_is_directory=True)
    (folder / "input").symlink_to("in", target_is_directory=True)
    assert upscale("input", "-r", "-s", "2", "-o", "out", "--overwrite").exit_code == 0
    assert (folder / "real" / "y" / "a_x2.png").is_file()
    assert upscale("input/x", "-s", "2").exit_code == 0
    assert (folder / "in" / "x" / "a_x2.png").is_file()


def test_a_parent_that_is_written_with_dots_has_its_name(upscale, engine, folder):
    save(folder / "a.png", picture())
    (folder / "deep").mkdir()
    os.chdir(folder / "deep")
    assert upscale("../a.png", "-s", "2", "-o", "out/", "--name", "{parent}/{stem}").exit_code == 0
    assert listing(folder / "deep") == ["out/here/a.png"]


def test_a_manifest_names_no_place_to_write_to(upscale, engine, folder, outside):
    save(folder / "a.png", picture())
    stamp = (outside / "a_x2.png").stat()
    entry = {
        "key": "a.png",
        "status": "done",
        "output": str(outside / "a_x2.png"),
        "fingerprint": "0" * 32,
        "stamp": [stamp.st_size, stamp.st_mtime_ns],
    }
    lines = [entry, {**entry, "output": "../outside/a_x2.png"}, {**entry, "key": "../outside/a_x2.png"}]
    (folder / "m.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    words = ("a.png", "-s", "2", "-o", "out/", "--manifest", "m.jsonl")
    assert upscale(*words).exit_code == 0
    assert upscale(*words, "--status").exit_code == 0
    assert untouched(outside)
    assert listing(folder) == ["a.png", "m.jsonl", "out/a_x2.png"]


def test_keys_of_a_store_that_leave_it_are_passed_over_and_said(tmp_path):
    system = fsspec.filesystem("memory")
    system.store.clear()
    data = save(tmp_path / "a.png", picture()).read_bytes()
    system.pipe_file("/bucket/in/a.png", data)
    system.store["/bucket/in/../../evil.png"] = system.store["/bucket/in/a.png"]
    try:
        found = find_inputs(["memory://bucket/in"], recursive=True)
    finally:
        system.store.clear()
    assert [source.label for source in found.sources] == ["memory://bucket/in/a.png"]
    assert ["no place" in message for _, message in found.missing] == [True]
