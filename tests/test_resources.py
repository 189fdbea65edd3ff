import resource
from pathlib import Path

import pytest

from srcli import resources
from srcli.errors import ResourceError
from srcli.resources import available_memory, check_disk, check_folder, check_memory, in_words, made_folder


def test_available_memory_is_what_the_system_says(tmp_path, monkeypatch):
    table, group = tmp_path / "meminfo", tmp_path / "group"
    table.write_text("MemTotal:       8000 kB\nMemAvailable:   3000 kB\n")
    monkeypatch.setattr(resources, "MEMORY_TABLE", table)
    monkeypatch.setattr(resources, "GROUP", group)
    assert available_memory() == 3000 * 1024
    group.mkdir()
    (group / "memory.max").write_text("1000000\n")
    (group / "memory.current").write_text("900000\n")
    (group / "memory.stat").write_text("anon 5\ninactive_file 50000\n")
    assert available_memory() == 150_000
    (group / "memory.max").write_text("max\n")
    assert available_memory() == 3000 * 1024


def test_available_memory_is_about_right_here():
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    free = available_memory()
    assert free is None or 10_000_000 < free < 1000 * max(used, 1 << 32)


def test_more_memory_than_there_is_is_refused_with_numbers(monkeypatch):
    monkeypatch.setattr(resources, "available_memory", lambda: 2_000_000_000)
    check_memory(1_900_000_000)
    with pytest.raises(ResourceError, match=r"2\.1 GB.*2\.0 GB"):
        check_memory(2_100_000_000)
    monkeypatch.setattr(resources, "available_memory", lambda: None)
    check_memory(1 << 60)


def test_more_space_than_a_disk_has_is_refused(tmp_path):
    check_disk(tmp_path / "not" / "yet", 1)
    with pytest.raises(ResourceError, match="disk"):
        check_disk(tmp_path / "not" / "yet", 1 << 60)


def test_a_folder_that_can_be_made_passes_and_is_not_made(tmp_path):
    check_folder(tmp_path / "a" / "b")
    check_folder(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("folder", ["file", "file/below"])
def test_a_folder_that_is_a_file_is_refused(tmp_path, folder):
    (tmp_path / "file").touch()
    with pytest.raises(ResourceError, match="cannot write"):
        check_folder(tmp_path / folder)


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a file system that nobody can write to")
def test_a_folder_that_cannot_be_written_is_refused():
    with pytest.raises(ResourceError, match="cannot write"):
        check_folder(Path("/proc/results"))
    with pytest.raises(ResourceError, match="cannot make"), made_folder(Path("/proc/results")):
        pass


def test_folders_made_for_a_result_go_when_it_fails(tmp_path):
    (tmp_path / "kept").mkdir()

    def interrupted():
        with made_folder(tmp_path / "kept" / "a" / "b"):
            assert (tmp_path / "kept" / "a" / "b").is_dir()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [path.name for path in tmp_path.rglob("*")] == ["kept"]
    with made_folder(tmp_path / "kept" / "a" / "b"):
        pass
    assert (tmp_path / "kept" / "a" / "b").is_dir()


@pytest.mark.parametrize(
    ("amount", "text"),
    [(1_500, "2 kB"), (2_500_000, "2.5 MB"), (3 * 10**9, "3.0 GB"), (2 * 10**12, "2.0 TB")],
)
def test_bytes_read_as_words(amount, text):
    assert in_words(amount) == text


def test_inputs_beyond_a_share_of_the_memory_lie_on_the_disk(monkeypatch):
    monkeypatch.setattr(resources, "available_memory", lambda: 8 << 30)
    assert resources.input_bytes() == 2 << 30
    monkeypatch.setattr(resources, "available_memory", lambda: 100 << 20)
    assert resources.input_bytes() == resources.LEAST_INPUT
