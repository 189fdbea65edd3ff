"""`srcli upscale` shared out over machines, and its manifest."""

import json

import pytest

from tests.cli.conftest import listing, picture, save


@pytest.fixture
def shots(folder):
    for i in range(12):
        save(folder / "shots" / f"s{i % 3}" / f"{i}.png", picture(4 + i, 5))
    return folder / "shots"


def test_shares_together_do_what_one_run_does(upscale, engine, folder, shots):
    assert upscale("shots", "-r", "-s", "2", "-o", "whole").exit_code == 0
    for i in range(3):
        result = upscale("shots", "-r", "-s", "2", "-o", "parts", "--shard", f"{i}/3")
        assert result.exit_code == 0, result.stderr
        assert f"share {i}/3" in result.stderr
    names = listing(folder / "whole")
    assert len(names) == 12
    assert listing(folder / "parts") == names
    assert all((folder / "whole" / n).read_bytes() == (folder / "parts" / n).read_bytes() for n in names)


def test_status_names_the_shares_that_are_missing(upscale, engine, folder, shots):
    words = ("shots", "-r", "-s", "2", "-o", "out", "--manifest", "done.jsonl")
    (shots / "s0" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    codes = [upscale(*words, "--shard", f"{i}/4").exit_code for i in (0, 1, 3)]
    before = upscale(*words, "--status")
    assert before.exit_code == 1
    again = [line.rpartition(" ")[2] for line in before.stdout.splitlines() if line.startswith("run again")]
    assert "2/4" in again
    assert set(again) <= {"2/4", *(f"{i}/4" for i, code in zip((0, 1, 3), codes, strict=True) if code)}
    (shots / "s0" / "broken.png").unlink()
    for share in again:
        assert upscale(*words, "--shard", share).exit_code == 0
    after = upscale(*words, "--status")
    assert after.exit_code == 0
    assert after.stdout == "12 done, 0 failed, 0 missing, of 12\n"


def test_shares_that_compute_in_different_precisions_say_so(upscale, engine, folder, shots, monkeypatch):
    words = ("shots", "-r", "-s", "2", "-o", "out", "--manifest", "done.jsonl")
    assert "computed in" not in upscale(*words, "--shard", "0/2").stderr
    monkeypatch.setattr(type(engine), "precision", "bf16")
    second = upscale(*words, "--shard", "1/2").stderr
    assert second.count("other results of this batch were computed in fp32, these are in bf16") == 1
    upscale(*words)  # all is up to date
    lines = [
        json.loads(line) for path in folder.glob("done*.jsonl") for line in path.read_text().splitlines()
    ]
    made = [line["precision"] for line in lines if line["status"] == "done"]
    counts = f"computed {made.count('bf16')} in bf16, {made.count('fp32')} in fp32"
    assert 0 < made.count("bf16") < len(made) == 12
    assert counts in upscale(*words, "--status").stdout


def test_a_manifest_vouches_for_outputs_that_carry_no_record(upscale, engine, folder):
    save(folder / "a.png", picture())
    words = ("a.png", "-s", "2", "--metadata", "unmarked", "--manifest", "m.jsonl")
    assert upscale(*words).exit_code == 0
    again = upscale(*words)
    assert (again.exit_code, len(engine.calls)) == (0, 1)
    assert "up to date" in again.stdout
    assert upscale("a.png", "-s", "2", "--metadata", "unmarked").exit_code == 6
    (folder / "a_x2.png").write_bytes(b"somebody's")
    assert upscale(*words).exit_code == 6
    assert (folder / "a_x2.png").read_bytes() == b"somebody's"
    lines = [json.loads(line) for line in (folder / "m.jsonl").read_text().splitlines()]
    assert [line["status"] for line in lines] == ["done", "skipped", "failed"]


def test_a_dry_run_writes_no_manifest(upscale, engine, folder):
    save(folder / "a.png", picture())
    assert upscale("a.png", "--dry-run", "--manifest", "m.jsonl").exit_code == 0
    assert listing(folder) == ["a.png"]


@pytest.mark.parametrize(
    "words", [["--shard", "4/4"], ["--shard", "x"], ["--manifest", "m.txt"], ["--status"]]
)
def test_wrong_words_are_usage_errors(upscale, engine, folder, words):
    save(folder / "a.png", picture())
    assert upscale("a.png", *words).exit_code == 2
