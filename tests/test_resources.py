import platform
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from srcli.errors import ResourceError
from srcli.resources import (
    LEAST_INPUT,
    available_memory,
    check_disk,
    check_folder,
    check_memory,
    free_memory,
    in_words,
    input_bytes,
)


def group(folder, limit, used, cache, *, version=2):
    """Write the files that the kernel shows of a control group."""
    names = ("memory.max", "memory.current", "inactive_file")
    if version == 1:
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\n{names[2]} {cache}\n")


@pytest.fixture
def machine(tmp_path):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text("MemTotal:       8000 kB\nMemAvailable:   3000 kB\n")
    return tmp_path


def test_available_memory_is_what_the_system_says(machine):
    assert available_memory(machine) == 3000 * 1024


@pytest.mark.parametrize(
    ("limit", "free"), [(1_000_000, 150_000), ("max", 3000 * 1024), (10**12, 3000 * 1024), (800_000, 0)]
)
def test_a_container_of_version_2_has_what_its_limit_leaves(machine, limit, free):
    group(machine / "sys/fs/cgroup", limit, 900_000, 50_000)
    assert available_memory(machine) == free


@pytest.mark.parametrize(("limit", "free"), [(1_000_000, 150_000), (9223372036854771712, 3000 * 1024)])
def test_a_container_of_version_1_has_what_its_limit_leaves(machine, limit, free):
    (machine / "proc/self/cgroup").write_text("5:cpu,cpuacct:/docker/1f\n4:memory:/docker/1f\n")
    group(machine / "sys/fs/cgroup/memory", limit, 900_000, 50_000, version=1)
    assert available_memory(machine) == free


@pytest.mark.parametrize(
    ("version", "line"), [(1, "7:cpuset,memory:/slurm/job_1/step_0"), (2, "0::/slurm/job_1/step_0")]
)
def test_the_strictest_group_around_a_process_counts(machine, version, line):
    (machine / "proc/self/cgroup").write_text(f"1:name=systemd:/\n{line}\n")
    top = machine / "sys/fs/cgroup" / ("memory" if version == 1 else "")
    group(top / "slurm/job_1/step_0", 2_000_000, 0, 0, version=version)
    group(top / "slurm/job_1", 1_000_000, 300_000, 0, version=version)
    group(top / "slurm/job_2", 10, 10, 0, version=version)  # another's
    assert available_memory(machine) == 700_000


def test_a_group_outside_of_what_the_container_sees_is_that_at_the_top(machine):
    (machine / "proc/self/cgroup").write_text("0::/../../other\n")
    group(machine / "sys/fs/cgroup", 500_000, 100_000, 0)
    group(machine / "sys/other", 10, 10, 0)
    assert available_memory(machine) == 400_000


def test_the_engine_reads_the_same_memory():
    assert free_memory(torch.device("cpu")) == pytest.approx(available_memory(), rel=0.2)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="Linux")
def test_a_limit_of_addresses_counts():
    limit = f"import resource as r; r.setrlimit(r.RLIMIT_AS, ({1 << 30}, {1 << 30}));"
    show = "from srcli.resources import available_memory; print(available_memory())"
    free = int(subprocess.run([sys.executable, "-c", limit + show], capture_output=True, check=True).stdout)
    assert (1 << 29) < free < (1 << 30)


def test_available_memory_is_about_right_here():
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    free = available_memory()
    assert free is None or 10_000_000 < free < 1000 * max(used, 1 << 32)


def test_more_memory_than_there_is_is_refused_with_numbers(machine):
    check_memory(3_000_000, available_memory(machine))
    with pytest.raises(ResourceError, match=r"3\.2 MB.*3\.1 MB"):
        check_memory(3_200_000, available_memory(machine))


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


@pytest.mark.parametrize(
    ("amount", "text"),
    [(1_500, "2 kB"), (2_500_000, "2.5 MB"), (3 * 10**9, "3.0 GB"), (2 * 10**12, "2.0 TB")],
)
def test_bytes_read_as_words(amount, text):
    assert in_words(amount) == text


def test_inputs_beyond_a_share_of_the_memory_lie_on_the_disk(machine):
    assert input_bytes(machine) == LEAST_INPUT
    (machine / "proc/meminfo").write_text(f"MemAvailable:   {8 << 20} kB\n")
    time.sleep(0.11)  # it is looked up ten times a second at most
    assert input_bytes(machine) == 2 << 30


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators are left as they are")
def test_memory_that_is_freed_is_kept_where_there_is_plenty(machine):
    code = """if True:
        import pathlib, sys
        import numpy as np
        import srcli.resources

        def resident():
            return int(open("/proc/self/statm").read().split()[1]) * 4 // 1024

        getattr(srcli.resources, sys.argv[1])(*map(pathlib.Path, sys.argv[2:]))
        blocks = [np.ones(6 << 20, np.uint8) for _ in range(24)]
        full = resident()
        del blocks[:-1]
        print(full - resident())
    """

    def given_back(name, *root):
        return int(subprocess.check_output([sys.executable, "-c", code, name, *root]))

    assert given_back("give_back_freed_memory") > 110
    for megabytes, kept in ((8000, True), (1000, False)):
        (machine / "proc/meminfo").write_text(f"MemAvailable:   {megabytes << 10} kB\n")
        assert (given_back("keep_freed_memory", machine) < 20) == kept


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators are left as they are")
def test_threads_of_the_command_line_keep_what_they_free():
    code = """if True:
        import resource
        from concurrent.futures import ThreadPoolExecutor
        import srcli.cli

        def fill(size):
            for _ in range(4):
                b"x" * (size << 20)

        def in_threads(**_):
            for pool in [ThreadPoolExecutor(1) for _ in range(3)]:
                for size in (48, 72):
                    pool.submit(fill, size).result()
            print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

        srcli.cli.app = in_threads
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        srcli.cli.main()
    """
    faults = int(subprocess.check_output([sys.executable, "-c", code]))
    assert faults * resource.getpagesize() < 100 << 20
