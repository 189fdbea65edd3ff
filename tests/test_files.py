"""A file is written whole or not at all, and nothing is left behind."""

import errno
import io
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from srcli.errors import ResourceError
from srcli.files import atomic_write, made_folder
from srcli.image.read import read_image
from srcli.image.write import write_image
from tests.image.make import texture


def listing(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_file_appears_whole(tmp_path):
    path = tmp_path / "a.bin"
    with atomic_write(path) as stream:
        stream.write(b"half")
        assert not path.exists()
        stream.write(b" and half")
    assert path.read_bytes() == b"half and half"
    assert listing(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), SystemExit(3), MemoryError()])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def write() -> None:
        with atomic_write(path) as stream:
            stream.write(b"new")
            raise error

    with pytest.raises(type(error)):
        write()
    assert path.read_bytes() == b"old"
    assert listing(tmp_path) == ["a.bin"]


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "disk is full"), (errno.EDQUOT, "disk is full"), (errno.EIO, "Input/output error")],
)
def test_an_error_of_the_disk_is_a_resource_error(tmp_path, number, words):
    with pytest.raises(ResourceError, match=words) as refusal, atomic_write(tmp_path / "a.bin"):
        raise OSError(number, os.strerror(number))
    assert refusal.value.code == 5
    assert str(tmp_path / "a.bin") in str(refusal.value)
    assert listing(tmp_path) == []


def test_other_errors_pass_through(tmp_path):
    with pytest.raises(OSError, match="encoder") as error, atomic_write(tmp_path / "a.bin"):
        raise OSError("encoder error")
    assert not isinstance(error.value, ResourceError)


def test_a_missing_or_closed_folder_is_a_resource_error(tmp_path):
    with (
        pytest.raises(ResourceError, match="folder does not exist"),
        atomic_write(tmp_path / "none" / "a.bin"),
    ):
        pass
    with pytest.raises(ResourceError, match="is a folder"), atomic_write(tmp_path):
        pass
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ResourceError, match="cannot write"), atomic_write(tmp_path / "file" / "a.bin"):
        pass


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_a_resource_error(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(ResourceError, match="Permission denied"), atomic_write(tmp_path / "a.bin"):
        pass


def test_a_refused_folder_is_a_resource_error(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(ResourceError, match="Permission denied"), atomic_write(tmp_path / "a.bin"):
        pass


@pytest.mark.skipif(os.name != "posix", reason="permissions and links of POSIX")
def test_permissions_and_links_are_respected(tmp_path):
    old_mask = os.umask(0o027)
    try:
        with atomic_write(tmp_path / "new.bin") as stream:
            stream.write(b"1")
    finally:
        os.umask(old_mask)
    assert (tmp_path / "new.bin").stat().st_mode & 0o777 == 0o640
    target, link = tmp_path / "target.bin", tmp_path / "link.bin"
    target.write_bytes(b"old")
    target.chmod(0o604)
    link.symlink_to(target)
    with atomic_write(link) as stream:
        stream.write(b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    assert target.stat().st_mode & 0o777 == 0o604


@pytest.mark.skipif(os.name != "posix", reason="/dev/null")
def test_a_device_is_written_to_and_not_replaced():
    write_image(Path(os.devnull), texture(5, 5, 3, np.uint8), output_format="tiff")
    assert not Path(os.devnull).is_file()


@pytest.mark.parametrize("name", ["png", "jpg", "webp", "tiff", "avif"])
def test_a_disk_that_fills_up_leaves_nothing(tmp_path, name, monkeypatch):
    real = os.fdopen

    class Small:
        """A stream with room for 500 bytes."""

        def __init__(self, stream):
            self.stream, self.room = stream, 500

        def write(self, data):
            self.room -= len(data)
            if self.room < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            return self.stream.write(data)

        def writelines(self, parts):
            for part in parts:
                self.write(part)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.stream.close()

        def __getattr__(self, attribute):
            return getattr(self.stream, attribute)

    monkeypatch.setattr(os, "fdopen", lambda *args: Small(real(*args)))
    with pytest.raises(ResourceError, match="disk is full"):
        write_image(tmp_path / f"a.{name}", texture(64, 64, 3, np.uint8))
    assert listing(tmp_path) == []


def test_a_full_disk_leaves_nothing(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small tmpfs is not permitted")
    try:
        for name in ("png", "tiff", "webp"):
            with pytest.raises(ResourceError, match="disk is full"):
                write_image(
                    disk / f"a.{name}",
                    texture(300, 300, 3, np.uint8),
                    **({"lossless": True} if name == "webp" else {}),
                )
            assert listing(disk) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_pictures_reach_paths_and_streams_alike(tmp_path):
    samples = texture(9, 8, 3, np.uint16)
    for name in ("png", "tiff"):
        path = tmp_path / f"größe 漢字.{name}"
        write_image(path, samples)
        stream = io.BytesIO()
        write_image(stream, samples, output_format=name)
        assert path.read_bytes() == stream.getvalue()
        assert np.array_equal(read_image(path).pixels, samples)


class Pipe(io.RawIOBase):
    """A stream that only goes forward, such as standard output."""

    def __init__(self):
        self.data = b""

    def writable(self):
        return True

    def seekable(self):
        return False

    def write(self, data):
        self.data += bytes(data)
        return len(data)


@pytest.mark.parametrize("name", ["png", "jpg", "webp", "tiff", "avif"])
def test_standard_output_need_not_seek(name):
    pipe, stream = Pipe(), io.BytesIO()
    samples = texture(9, 8, 3, np.uint8)
    write_image(pipe, samples, output_format=name)
    write_image(stream, samples, output_format=name)
    assert pipe.data == stream.getvalue()


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


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a file system that nobody can write to")
def test_a_folder_that_cannot_be_made_is_named():
    with pytest.raises(ResourceError, match="cannot make"), made_folder(Path("/proc/results")):
        pass
