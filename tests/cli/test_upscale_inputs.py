"""Which of the files that are there are enlarged: not results of others, and none that stand in each other's way."""

import json
import os
from pathlib import Path

import pytest

from srcli.batch.inputs import Source
from srcli.batch.naming import results_of_others
from tests.cli.conftest import listing, picture, save, size_of


@pytest.fixture
def shots(folder):
    """Two pictures, and their results beside them and in a folder."""
    save(folder / "shots" / "a.png", picture(6, 8))
    save(folder / "shots" / "big-b.jpg", picture(7, 9))
    return folder / "shots"


def enlarged(result):
    """The names of the inputs that were enlarged or are up to date."""
    assert result.exit_code == 0, result.stderr
    return [Path(json.loads(line)["input"]).name for line in result.stdout.splitlines()]


def test_results_of_earlier_runs_are_left_out_whatever_their_size_name_format_or_folder(
    upscale, engine, shots
):
    runs = (
        ["-s", "2"],
        ["-s", "3"],
        ["-s", "1.5", "-f", "webp", "--name", "{size}-{stem}"],
        ["-s", "1.7", "-f", "tiff", "-o", "shots/other"],
        ["-W", "77", "-f", "gif"],
        ["-s", "2"],
    )
    for i, run in enumerate(runs):
        result = upscale("shots", "-r", "--jsonl", *run)
        assert enlarged(result) == ["a.png", "big-b.jpg"]
        notes = [line for line in result.stderr.splitlines() if "left out" in line]
        assert notes == (
            [f"{2 * i} pictures are left out as results of others; --exclude none takes them"] if i else []
        )
    assert len(listing(shots)) == 12
    assert enlarged(upscale("shots/*", "-s", "4", "--jsonl")) == ["a.png", "big-b.jpg"]
    named = [shots / name for name in listing(shots)]
    assert enlarged(upscale(*named, "-s", "5", "--jsonl")) == ["a.png", "big-b.jpg"]
    result = upscale("shots", "-r", "-s", "1.1", "--exclude", "none", "--jsonl")
    assert len(enlarged(result)) == len(named) + 2


def test_results_of_files_that_are_not_there_are_enlarged(upscale, engine, folder, shots):
    assert upscale("shots", "-s", "2", "-o", "out").exit_code == 0
    assert enlarged(upscale("out", "-s", "2", "--jsonl")) == ["a_x2.png", "big-b_x2.jpg"]
    assert enlarged(upscale("out/a_x2.png", "-s", "3", "--jsonl")) == ["a_x2.png"]
    assert enlarged(upscale("shots/a.png", "out/a_x2.png", "-s", "3", "--jsonl")) == ["a.png"]
    assert enlarged(upscale("shots/a.png", "out/big-b_x2.jpg", "-s", "3", "--jsonl")) == [
        "a.png",
        "big-b_x2.jpg",
    ]


def test_what_an_editor_saved_is_a_result_all_the_same(upscale, engine, shots):
    assert upscale("shots", "-s", "2").exit_code == 0
    data = (shots / "a_x2.png").read_bytes()
    (shots / "a_x2.png").write_bytes(data + b"edited")
    assert enlarged(upscale("shots", "-s", "3", "--jsonl")) == ["a.png", "big-b.jpg"]


def test_a_result_is_known_by_its_name_when_its_origin_has_changed(upscale, engine, shots):
    assert upscale("shots", "-s", "2").exit_code == 0
    save(shots / "a.png", picture()[::-1])
    save(shots / "a1_x2.png", picture(8, 8))  # no record, no result
    assert enlarged(upscale("shots", "-s", "3", "--jsonl")) == ["a.png", "a1_x2.png", "big-b.jpg"]


def test_a_manifest_knows_results_without_a_record(upscale, engine, shots):
    words = ("shots", "--metadata", "unmarked", "--manifest", "m.jsonl", "--jsonl")
    for scale in ("2", "3", "2"):
        assert enlarged(upscale(*words, "-s", scale)) == ["a.png", "big-b.jpg"]
    status = upscale(*words, "-s", "2", "--status")
    assert (status.exit_code, status.stdout) == (0, "2 done, 0 failed, 0 missing, of 2\n")


def test_hostile_files_are_no_results(folder, monkeypatch):
    for i, data in enumerate((b"", b"srcli", b"\x89PNG\r\n\x1a\nsrcli", b"II*\0srcli" * 9, b"RIFFsrcliWEBP")):
        (folder / f"{i}.png").write_bytes(data)
    os.mkfifo(folder / "pipe.png")
    names = [*listing(folder), "gone.png", "x" * 5000]
    assert results_of_others([Source(folder / name) for name in names] + [Source(None)]) == set()


@pytest.mark.parametrize("words", [["shots"], ["shots/*"], ["shots/a.png", "shots/a_x2.png"]])
def test_a_picture_of_somebody_in_the_place_of_a_result_gives_one_message(upscale, engine, folder, words):
    save(folder / "shots" / "a.png", picture())
    before = save(folder / "shots" / "a_x2.png", picture(9, 9)).read_bytes()
    result = upscale(*words, "-s", "2")
    assert result.exit_code == 6
    (line,) = result.stderr.splitlines()
    assert line.startswith(
        "error: shots/a.png: its output shots/a_x2.png is an input as well, which srcli did not make"
    )
    assert (folder / "shots" / "a_x2.png").read_bytes() == before
    replaced = upscale(*words, "-s", "2", "--overwrite")
    assert replaced.exit_code == 2
    assert "is an input as well, and would be replaced" in replaced.stderr
    assert (folder / "shots" / "a_x2.png").read_bytes() == before
    assert listing(folder) == ["shots/a.png", "shots/a_x2.png"]
    assert "exists, skipped" in upscale(*words, "-s", "2", "--skip-existing").stdout
    assert upscale(*words, "-s", "2", "-o", "out").exit_code == 0
    assert listing(folder / "out") == ["a_x2.png", "a_x2_x2.png"]


# --- clashes ------------------------------------------------------------------------------------------------------


def test_inputs_with_one_output_fail_and_the_rest_is_done(upscale, engine, folder):
    for name in ("b.jpg", "b.png", "c.png", "x/b.jpg", "x/c.png", "x/c.jpg", "x/c.webp", "x/d.png"):
        save(folder / "in" / name, picture())
    words = ("in", "-r", "-s", "2", "-f", "png", "-o", "out")
    result = upscale(*words, "--jsonl")
    assert result.exit_code == 1
    error, summary = result.stderr.splitlines()
    assert "in/b.jpg and in/b.png would both be written to out/b_x2.png; " in error
    assert "in/x/c.jpg, in/x/c.png and in/x/c.webp would all be written to out/x/c_x2.png. " in error
    assert summary == "5 of 8 failed: in/b.jpg, in/b.png, in/x/c.jpg, in/x/c.png, in/x/c.webp"
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert [r["input"] for r in records if r["status"] == "done"] == ["in/c.png", "in/x/b.jpg", "in/x/d.png"]
    assert {r["error"]["code"] for r in records if r["status"] == "failed"} == {2}
    assert listing(folder / "out") == ["c_x2.png", "x/b_x2.png", "x/d_x2.png"]
    template = error.split("--name '")[1].split("'")[0]
    assert template == "{stem}_{suffix}_{size}{ext}"
    assert upscale(*words, "--name", template).exit_code == 0
    assert len(listing(folder / "out")) == 3 + 8


def test_with_fail_fast_nothing_is_begun(upscale, engine, folder):
    for name in ("b.jpg", "b.png", "c.png"):
        save(folder / "in" / name, picture())
    assert upscale("in", "-f", "png", "-o", "out", "--fail-fast").exit_code == 2
    assert upscale("in/c.png", "gone.png", "-o", "out", "--fail-fast").exit_code == 1
    assert engine.calls == []


def test_many_clashes_are_named_up_to_ten(upscale, engine, folder):
    for i in range(13):
        save(folder / "in" / f"{i:02d}.png", picture(4, 4))
        save(folder / "in" / f"{i:02d}.jpg", picture(4, 4))
    (error, *_) = upscale("in", "-f", "png", "-o", "out").stderr.splitlines()
    assert error.count("would both") == 10
    assert "13 outputs in all" in error


@pytest.mark.parametrize(
    ("names", "options"),
    [
        (["a/p.png", "b/p.png"], ["-s", "2"]),
        (["a/p.png", "a/p.jpg"], ["-f", "webp"]),
        (["a/p.png", "a/p.jpg", "b/p.png"], ["-f", "webp"]),
        (["a/p.png", "a/p.jpg", "a/p_png_x4.webp"], ["-f", "webp"]),
        (["a/p.png", "b/p.jpg"], ["-s", "2", "--name", "same.png"]),
    ],
)
def test_the_template_that_is_offered_works(upscale, engine, folder, names, options):
    for i, name in enumerate(names):
        save(folder / name, picture(4 + i, 5))
    result = upscale(*names, *options, "-o", "out")
    assert "would " in result.stderr
    template = result.stderr.split("--name '")[1].split("'")[0]
    if "same.png" in options:
        options = options[:-2]
    assert upscale(*names, *options, "-o", "new", "--name", template).exit_code == 0
    assert sorted(size_of(folder / "new" / n)[1] for n in listing(folder / "new")) == sorted(
        (4 + i) * (2 if "2" in options else 4) for i in range(len(names))
    )


def test_folders_that_no_name_tells_apart_go_to_several(upscale, engine, folder):
    for name in ("a/x/p.png", "b/x/p.png"):
        save(folder / name, picture())
    result = upscale("a", "b", "-r", "-o", "out")
    assert "into several folders" in result.stderr


def test_samples_that_clash_are_told_apart(upscale, engine, folder, monkeypatch):
    from srcli.batch.naming import distinct_template

    sources = [Source(folder / name) for name in ("a.png", "a.png", "a.jpg", "a.jpg")]

    def pattern(at, source, template):
        fields = {"stem": "a", "suffix": source.path.suffix, "size": "x2", "parent": "in", "index": at % 2}
        return template.pattern(fields)

    assert distinct_template(sources, pattern, samples=True) == "{stem}_{suffix}_{size}_{index}{ext}"


def test_shares_report_their_own_clashes_only(upscale, engine, folder):
    for name in ("b.jpg", "b.png", "c.png", "d.png"):
        save(folder / "in" / name, picture())
    failed = []
    for share in ("0/2", "1/2"):
        result = upscale("in", "-f", "png", "-o", "out", "--shard", share, "--jsonl", "--manifest", "m.jsonl")
        failed += [r["input"] for r in map(json.loads, result.stdout.splitlines()) if r["status"] == "failed"]
    assert sorted(failed) == ["in/b.jpg", "in/b.png"]
    status = upscale("in", "-f", "png", "-o", "out", "--manifest", "m.jsonl", "--status")
    assert status.stdout.startswith("2 done, 2 failed, 0 missing, of 4")


def test_a_number_is_a_place_among_files_that_are_named(upscale, engine, folder):
    for name in "ab":
        save(folder / "in" / f"{name}.png", picture())
    words = ("-s", "2", "-o", "out", "--name", "{index:02d}")
    for found in (["in"], ["in/*"], ["in/a.png", "in"]):
        result = upscale(*found, *words)
        assert result.exit_code == 2
        assert "{index}" in result.stderr
    (folder / "list.txt").write_text("in/b.png\nin/a.png\n")
    assert upscale("@list.txt", *words).exit_code == 0
    assert (
        upscale("in/b.png", "in/a.png", "out/01.png", *words, "-s", "2").exit_code == 0
    )  # a result takes no number
    assert listing(folder / "out") == ["01.png", "02.png"]
