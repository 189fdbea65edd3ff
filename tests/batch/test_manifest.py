"""Shares of a batch: every picture belongs to exactly one, by its name alone; and the record of what is done."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srcli.batch.manifest import (
    Entry,
    Manifest,
    Shard,
    manifest_paths,
    parse_shard,
    progress_of,
    read_entries,
    shard_of,
)
from srcli.errors import UsageError


@given(st.lists(st.text(), unique=True, max_size=50), st.integers(1, 9))
def test_every_key_belongs_to_one_share(keys, count):
    owned = [k for i in range(count) for k in keys if Shard(i, count).owns(k)]
    assert sorted(owned) == sorted(keys)


def test_shares_never_change():  # as `b2sum -l 64` says: machines of different versions work together
    assert [shard_of(f"photo_{i}.jpg", 4) for i in range(8)] == [0, 0, 0, 0, 1, 0, 3, 2]


def test_shares_are_of_about_equal_size():
    sizes = [0] * 8
    for i in range(8000):
        sizes[shard_of(f"folder/{i:05d}.png", 8)] += 1
    assert max(sizes) - min(sizes) < 200


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_TASK_MIN": "1"}, (2, 4)),
        ({"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "4", "SLURM_PROCID": "0"}, (3, 4)),
        ({"JOB_COMPLETION_INDEX": "0", "JOB_COMPLETIONS": "5"}, (0, 5)),
        ({"RANK": "1", "WORLD_SIZE": "2"}, (1, 2)),
        ({"SLURM_PROCID": "6", "SLURM_NTASKS": "8"}, (6, 8)),
    ],
)
def test_job_systems_are_understood(environment, expected):
    assert parse_shard("auto", environment) == Shard(*expected)


@pytest.mark.parametrize("text", ["4/4", "-1/4", "0/0", "1", "a/b", "", "1/2/3", "auto"])
def test_no_share_is_a_usage_error(text):
    with pytest.raises(UsageError):
        parse_shard(text, {})


def test_kubernetes_without_a_count_says_what_to_set():
    with pytest.raises(UsageError, match="how many") as caught:
        parse_shard("auto", {"JOB_COMPLETION_INDEX": "1"})
    assert "JOB_COMPLETIONS" in caught.value.hint


def test_a_line_that_a_killed_process_left_is_passed_over_and_the_next_one_is_whole(tmp_path):
    path = tmp_path / "done.jsonl"
    Manifest(path).add("a", {"status": "done", "output": "-"})
    path.write_text(path.read_text() + '{"key": "b", "sta')
    Manifest(path).add("c", {"status": "failed", "error": {"message": "torn"}})
    assert [(e.key, e.status, e.message) for e in read_entries(path)] == [
        ("a", "done", None),
        ("c", "failed", "torn"),
    ]


@given(
    st.recursive(
        st.none() | st.integers() | st.text(),
        lambda x: st.lists(x, max_size=4) | st.dictionaries(st.text(), x, max_size=4),
        max_leaves=8,
    )
)
def test_foreign_lines_do_no_harm(content):
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.jsonl"
        path.write_text(
            json.dumps(content) + "\n" + json.dumps({"key": content, "stamp": content, "error": content})
        )
        for entry in read_entries(path):
            assert isinstance(entry.key, str)


def test_a_changed_output_is_not_vouched_for(tmp_path):
    output, manifest = tmp_path / "o.png", Manifest(tmp_path / "m.jsonl")
    output.write_bytes(b"first")
    manifest.add("k", {"status": "done", "output": str(output), "fingerprint": "f"})
    again = Manifest(tmp_path / "m.jsonl")
    entry = again.entry("k", output)
    assert entry is not None
    assert entry.fingerprint == "f"
    output.write_bytes(b"other bytes")
    assert again.entry("k", output) is None


def test_shares_have_files_of_their_own_and_are_read_together(tmp_path):
    place = tmp_path / "d[1].jsonl"
    for i in range(3):
        own, _ = manifest_paths(place, Shard(i, 3))
        Manifest(own).add(f"k{i}", {"status": "done", "output": f"o{i}"}, f"{i}/3")
    own, everything = manifest_paths(place, None)
    assert own == place
    assert {e.key for e in Manifest(own, everything).entries.values()} == {"k0", "k1", "k2"}


def test_what_is_missing_names_the_shares_to_run_again():
    keys = [f"{i}.png" for i in range(20)]
    entries = [Entry(k, f"o/{k}", "done", shard=f"{shard_of(k, 4)}/4") for k in keys if shard_of(k, 4) != 2]
    entries.append(Entry(keys[0], None, "failed", message="torn"))  # before or after it was done: it is done
    standing = progress_of(keys, entries)
    missing = [k for k in keys if shard_of(k, 4) == 2]
    assert (standing.missing, standing.failed, standing.shards) == (missing, {}, ["2/4"])
    assert progress_of(keys, entries, samples=2).done == []
