"""Everything that can be wrong: one clear line, the right exit code, and nothing left behind."""

import errno
import json
import os
import pickle
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from srcli import resources
from srcli.batch import plan
from tests.cli.conftest import listing, picture, save


@pytest.fixture
def inputs(folder):
    """Pictures of which only `photo.png`, `photo.jpg` and `wide.png` are sound."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    save(folder / "photo.png", picture())
    save(folder / "photo.jpg", noise)
    save(folder / "noise.png", noise)
    save(folder / "wide.png", picture(1, 700))
    for name in ("noise.png", "photo.jpg"):
        whole = (folder / name).read_bytes()
        (folder / f"cut.{name[-3:]}").write_bytes(whole[: len(whole) // 2])
    (folder / "noise.png").unlink()
    (folder / "text.png").write_text("This is no picture.\n" * 100)
    (folder / "empty.png").touch()
    (folder / "archive.zip").write_bytes(b"PK\x03\x04" + bytes(100))
    (folder / "none").mkdir()
    return folder


@pytest.fixture
def refused(inputs, upscale, engine):
    """`refused(code, *words)`: the one line on stderr; nothing on stdout, nothing written, no network run."""

    def run(code, *words, **options):
        before = listing(inputs), sorted(path.name for path in inputs.iterdir())
        result = upscale(*words, **options)
        assert result.exit_code == code, result.stderr
        assert result.stdout == ""
        assert (listing(inputs), sorted(path.name for path in inputs.iterdir())) == before
        assert engine.calls == []
        (line,) = result.stderr.splitlines()
        assert line.startswith("error: ")
        return line

    return run


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["gone.png"], "gone.png does not exist"),
        (["none"], "the folder none holds no image"),
        (["none", "-r"], "the folder none holds no image"),
        (["*.gif"], r"no image matches \*\.gif"),
        (["@gone.txt"], "gone.txt"),
        (["photo.png", "--include", "*.gif"], "--include"),
    ],
)
def test_no_input_is_3(refused, words, message):
    assert re.search(message, refused(3, *words))


@pytest.mark.parametrize("name", ["text.png", "cut.png", "cut.jpg", "empty.png", "archive.zip"])
def test_a_file_that_is_no_sound_picture_is_1(upscale, engine, inputs, name):
    before = listing(inputs)
    result = upscale(name, "-s", "2")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert listing(inputs) == before
    (line,) = result.stderr.splitlines()
    assert name in line


def test_a_picture_over_the_input_limit_is_1(refused):
    assert "--max-pixels in=600" in refused(1, "photo.png", "--max-pixels", "in=500")


@pytest.mark.parametrize(
    "words",
    [
        ["--scale=0"],
        ["--scale=-inf"],
        ["-s", "2", "-W", "100"],
        ["-s", "2", "--short-side", "3"],
        ["-W", "100", "--max-side", "100"],
        ["--megapixels", "2", "--print", "30x40cm"],
        ["--max-side", "9", "--megapixels", "1"],
        ["-W", "0"],
        ["-H", "-5"],
        ["--megapixels", "nan"],
        ["--megapixels", "inf"],
        ["--print", "a lot"],
        ["-W", "10", "--fit", "cover"],
        ["-s", "2", "--fit", "exact"],
        ["--only-enlarge", "--only-shrink"],
        ["--json", "--jsonl"],
        ["-o", "-", "--json"],
        ["--overwrite", "--skip-existing"],
        ["--upgrade", "--skip-existing"],
        ["-f", "bmp"],
        ["-f", "png", "-o", "a.jpg"],
        ["-o", "a.bmp"],
        ["--name", "{nothing}"],
        ["--name", "../{stem}"],
        ["--encode", "background=plaid"],
        ["--frames", "last"],
        ["--max-pixels", "out=lots"],
        ["-o", ""],
        ["wide.png", "-o", "out.png"],
        ["wide.png", "-o", "-"],
        ["-"],
    ],
)
def test_options_that_contradict_or_mean_nothing_are_2(refused, words):
    assert refused(2, "photo.png", *words)


@pytest.mark.parametrize(
    "words", [["--fit", "stretch"], ["--precision", "fp8"], ["--quality", "0"], ["--unknown"], ["-W", "x"]]
)
def test_what_the_parser_refuses_is_2(upscale, engine, inputs, words):
    result = upscale("photo.png", *words)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert not (inputs / "photo_x4.png").exists()


def test_no_input_at_all_is_2(refused):
    assert "No input" in refused(2)


def test_an_unknown_model_is_2_with_a_suggestion(refused):
    line = refused(2, "photo.png", use="edsr-baseline-blent")
    assert "Did you mean edsr-baseline-blend, " in line


@pytest.mark.parametrize("words", [["-d", "abacus"], ["-t", "tiny"], ["-t", "3"]])
def test_an_unknown_device_or_tile_is_2(upscale, inputs, words):
    result = upscale("photo.png", "photo.jpg", *words)
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert not (inputs / "photo_x4.png").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["photo.png", "-s", "1e9"], "do not fit into png"),
        (["photo.png", "-s", "1e308"], "enlarged"),
        (["photo.png", "-s", "5000"], "--max-pixels out="),
        (["photo.jpg", "-W", "70000"], "do not fit into jpg: at most 65500"),
        (["photo.png", "-f", "webp", "-W", "17000"], "do not fit into webp: at most 16383"),
        (["wide.png", "-s", "2", "--max-pixels", "out=1k"], "--max-pixels out=2800"),
    ],
)
def test_a_target_over_a_limit_is_5(refused, words, message):
    assert message in refused(5, *words)


def test_a_target_over_the_memory_is_5_before_any_work(refused, upscale, monkeypatch):
    held = 0
    for name, amount in {"available_memory": lambda: 500_000_000, "own_memory": lambda: held}.items():
        monkeypatch.setattr(plan, name, amount)
    assert "memory" in refused(5, "photo.png", "-s", "100")
    held = 10**9  # of a batch's earlier pictures
    assert upscale("photo.png", "-s", "100", "--dry-run").exit_code == 0


def test_a_target_over_the_disk_is_5_before_any_work(refused, monkeypatch):
    usage = resources.shutil.disk_usage(".")
    monkeypatch.setattr(resources.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    assert "disk" in refused(5, "photo.png", "-s", "10")


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a file system that nobody can write to")
@pytest.mark.parametrize("output", ["/proc/out.png", "/proc/out/"])
def test_a_folder_that_cannot_be_written_is_5(refused, output):
    assert "cannot write" in refused(5, "photo.png", "-o", output)


def test_an_output_folder_that_is_a_file_is_5(refused):
    assert "cannot write" in refused(5, "photo.png", "-o", "text.png/deeper/")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_device_is_5(upscale, engine, inputs):
    result = upscale("photo.png", "-o", "/dev/full")
    assert result.exit_code == 5
    assert "disk is full" in result.stderr


@pytest.mark.slow
def test_a_small_disk_is_5_and_leaves_nothing(upscale, engine, inputs):
    disk = inputs / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=32k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("needs the right to mount")
    try:
        result = upscale("photo.jpg", "-s", "8", "-o", "disk/out.jpg")
        assert result.exit_code == 5
        assert listing(disk) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


class Bomb:
    """A pickle that creates a file when it is opened."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


@pytest.mark.parametrize("name", ["evil.pth", "evil.ckpt", "evil.safetensors"])
def test_a_pickle_is_4_and_not_executed(upscale, inputs, tmp_path, name):
    (tmp_path / name).write_bytes(pickle.dumps(Bomb(tmp_path / "proof")))
    result = upscale("photo.png", use=tmp_path / name)
    assert result.exit_code == 4
    assert not (tmp_path / "proof").exists()
    assert len(result.stderr.splitlines()) == 1
    if not name.endswith(".safetensors"):
        assert "srcli models import" in result.stderr


def test_weights_that_are_missing_are_4(upscale, inputs, tmp_path):
    assert upscale("photo.png", use=tmp_path / "gone.safetensors").exit_code == 4
    preset = tmp_path / "own.toml"
    preset.write_text('title="Own"\n[encoder]\nname="edsr"\n[decoder]\nname="blend"\n')
    result = upscale("photo.png", "photo.jpg", use=preset)
    assert result.exit_code == 4  # for the run, not once for every picture
    assert "own.safetensors" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_weights_with_another_hash_are_4(upscale, inputs, tmp_path, model):
    (tmp_path / "own.safetensors").write_bytes(model.read_bytes())
    (tmp_path / "own.toml").write_text(
        'title="Own"\n[encoder]\nname="edsr"\nn_resblocks=1\nn_feats=8\nmean_shift=false\n'
        '[decoder]\nname="blend"\nwidth=8\nhidden=[8]\n'
        f'[weights]\nfile="own.safetensors"\nsha256="{"0" * 64}"\n'
    )
    result = upscale("photo.png", use=tmp_path / "own.toml")
    assert result.exit_code == 4
    assert "SHA-256" in result.stderr


def test_weights_of_another_network_are_4_and_name_the_first_keys(upscale, inputs, tmp_path, model):
    (tmp_path / "own.safetensors").write_bytes(model.read_bytes())
    (tmp_path / "own.toml").write_text(
        'title="Own"\n[encoder]\nname="edsr"\nn_resblocks=2\nn_feats=8\nmean_shift=false\n'
        '[decoder]\nname="blend"\nwidth=8\nhidden=[8]\n[weights]\nfile="own.safetensors"\n'
    )
    result = upscale("photo.png", use=tmp_path / "own.toml")
    assert result.exit_code == 4
    assert "missing (encoder.body.1" in result.stderr


def test_a_licence_that_forbids_commercial_use_is_4_where_that_matters(upscale, engine, inputs):
    result = upscale("photo.png", "--license", "commercial")
    assert result.exit_code == 4
    assert "CC-BY-NC-4.0" in result.stderr
    assert engine.calls == []


def test_memory_that_runs_out_is_5(upscale, engine, inputs):
    before = listing(inputs)
    engine.fail, engine.fail_at = MemoryError(), 30
    result = upscale("photo.png")
    assert result.exit_code == 5
    assert "memory ran out" in result.stderr
    assert listing(inputs) == before


def test_an_error_in_json_has_its_parts(upscale, engine, inputs):
    record = json.loads(upscale("empty.png", "--json").stdout)
    assert record["status"] == "failed"
    assert record["error"]["code"] == 1
    assert record["error"]["type"] == "ImageError"
    assert "0 bytes" in record["error"]["message"]
    assert json.loads(upscale("gone.png", "--json").stdout)["error"]["code"] == 3


@pytest.mark.parametrize("words", [[], ["--jsonl"], ["--json"], ["--dry-run"], ["-q", "--jsonl"]])
def test_a_reader_that_leaves_ends_the_run_and_that_is_said(upscale, engine, inputs, monkeypatch, words):
    def gone(_console, _line, **_):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr("srcli.cli.console.Console.result", gone)
    result = upscale("photo.png", "photo.jpg", "-s", "2", "-o", "out", *words)
    assert result.exit_code == 1
    assert result.stderr.count("nobody reads standard output any more") == 1
    assert not list(inputs.rglob("*.tmp"))


def test_a_link_to_nothing_says_where_it_leads(refused, inputs):
    (inputs / "link.png").symlink_to("gone/photo.png")
    before = inputs / "link.png"
    assert "link.png is a link to gone/photo.png, which does not exist" in refused(3, before.name)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_1(upscale, engine, inputs):
    (inputs / "photo.png").chmod(0)
    assert upscale("photo.png").exit_code == 1
