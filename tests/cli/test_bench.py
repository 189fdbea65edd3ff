"""`srcli bench`: benchmarks are listed, fetched from a server, verified, and their LR pictures written."""

import hashlib
import http.server
import json
import threading
import zipfile
from functools import partial

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from srcli.cli import app
from srcli.data import benchmark_files as bench_files
from srcli.data.benchmarks import find_spec
from tests.helpers.command import srcli

run = partial(srcli, "bench")


def put(path, size=(32, 24), seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(values).save(path)
    return path


@pytest.fixture
def own_set(tmp_path, monkeypatch):
    """A benchmark called Mine of two pictures, and the folder for it."""

    def write(*lines):
        file = tmp_path / "presets/benchmarks/mine.toml"
        file.parent.mkdir(parents=True, exist_ok=True)
        facts = ('title = "Mine"', 'license = "CC0"', 'source = "https://example.org"', "images = 2", *lines)
        file.write_text("\n".join(facts))

    write()
    monkeypatch.setenv("SRCLI_PRESETS_DIR", str(tmp_path / "presets"))
    monkeypatch.setenv("SRCLI_DATA_DIR", str(tmp_path / "data"))
    return write


def test_list_says_where_each_benchmark_is(own_set, tmp_path):
    put(tmp_path / "data/mine/a.png")
    rows = {row["name"]: row for row in json.loads(run("list", "--json").stdout)}
    assert rows["Mine"]["path"] == str(tmp_path / "data/mine")
    assert rows["Urban100"]["path"] is None
    assert rows["B100"]["aliases"] == ["BSD100", "BSDS100"]
    lines = run("list").stdout.splitlines()
    assert any(line.startswith("Urban100") and "not here" in line for line in lines)


def test_verify_finds_a_whole_set_whole_and_names_every_problem(own_set, tmp_path):
    folder = tmp_path / "data/Mine"
    for name in "ab":
        put(folder / f"HR/{name}.png")
        put(folder / f"LR_bicubic/X2/{name}x2.png", (16, 12))
    assert "2 pictures" in run("verify", "mine", "-s", "2,3").stdout
    put(folder / "LR_bicubic/X2/bx2.png", (9, 12))
    put(folder / "HR/c.png")
    result = run("verify", "mine", "-s", "2", code=7)
    assert "1 HR without LR (c)" in result.stdout
    put(folder / "LR_bicubic/X2/cx2.png", (16, 12))
    result = run("verify", "mine", "-s", "2", code=7)
    assert "b: " in result.stdout
    assert "do not belong together" in result.stdout
    assert "has 3 pictures, not 2" in result.stdout
    assert run("verify", "Urban100", code=4).stderr.startswith("error: Urban100 is not here")


def test_verify_compares_hashes_where_they_are_known(own_set, tmp_path):
    a, b = (put(tmp_path / f"data/Mine/{name}.png", seed=i) for i, name in enumerate("ab"))
    known = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (a, b)}
    asked = find_spec("mine"), tmp_path / "data/Mine", [2.0], known
    found = bench_files.verify(*asked)
    assert (found.hashed, found.findings) == (2, [])
    put(b, seed=9)
    (finding,) = bench_files.verify(*asked).findings
    assert finding.name == "b.png"
    assert "is not the file it should be" in finding.problem


@pytest.mark.parametrize(("name", "files"), [("Set5", 30), ("Set14", 28), ("B100", 200)])
def test_hashes_of_the_usual_copies_are_known(name, files):
    hashes = bench_files.known_hashes(find_spec(name))
    assert len(hashes) == files
    assert all(len(digest) == 64 and file.endswith(".png") for file, digest in hashes.items())


@pytest.fixture
def server(tmp_path):
    """A web server for the folder `www`."""
    (tmp_path / "www").mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(tmp_path / "www"))

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{served.server_port}"
        served.shutdown()


def pack(path, **names):
    with zipfile.ZipFile(path, "w") as archive:
        for name, source in names.items():
            archive.write(source, name.replace("__", "/") + ".png")


def test_fetch_names_the_licence_unpacks_and_does_nothing_twice(own_set, tmp_path, server):
    pack(tmp_path / "www/hr.zip", HR__a=put(tmp_path / "a.png"), HR__b=put(tmp_path / "b.png"))
    own_set(f'urls = ["{server}/hr.zip"]')
    result = run("fetch", "mine")
    assert "CC0" in result.stderr
    assert sorted(p.name for p in (tmp_path / "data/Mine/HR").iterdir()) == ["a.png", "b.png"]
    assert "2 pictures" in run("verify", "mine").stdout
    (tmp_path / "www/hr.zip").unlink()
    assert run("fetch", "mine").stderr == ""


def test_fetch_refuses_damage_escapes_and_what_has_no_link(own_set, tmp_path, server):
    assert "https://example.org" in run("fetch", "mine", code=4).stderr
    own_set(f'urls = ["{server}/hr.zip"]')
    assert "404" in run("fetch", "mine", code=4).stderr
    (tmp_path / "www/hr.zip").write_bytes(b"PK nothing")
    assert "no archive" in run("fetch", "mine", code=4).stderr
    (tmp_path / "www/hr.zip").unlink()
    pack(tmp_path / "www/hr.zip", **{"..__..__evil": put(tmp_path / "a.png")})
    (tmp_path / "data/Mine/hr.zip").unlink(missing_ok=True)
    assert "outside" in run("fetch", "mine", code=4).stderr
    assert not list(tmp_path.rglob("evil*"))
    assert "offline" in run("fetch", "mine", "--offline", code=4).stderr


def test_make_lr_writes_what_an_evaluation_would_make(tmp_path):
    put(tmp_path / "hr/a.png", (33, 25))
    written = run("make-lr", tmp_path / "hr", "-o", tmp_path / "lr", "-s", "2,2.5").stdout.splitlines()
    assert written == [str(tmp_path / "lr/X2/a.png"), str(tmp_path / "lr/X2.5/a.png")]
    with Image.open(tmp_path / "hr/a.png") as hr, Image.open(tmp_path / "lr/X2.5/a.png") as lr:
        expected = hr.crop((0, 0, 32, 25)).resize((13, 10), Image.Resampling.BICUBIC)
        np.testing.assert_array_equal(np.asarray(lr), np.asarray(expected))
    assert run("make-lr", tmp_path / "hr", "-o", tmp_path / "lr", "-s", "2").stdout == ""
    run("make-lr", tmp_path / "none", "-o", tmp_path / "lr", code=3)
    run("make-lr", tmp_path / "hr", "-o", tmp_path / "lr", "-s", "0", code=2)


def test_make_lr_degrades_every_picture_in_its_own_way_and_again_alike(tmp_path):
    for seed in range(2):
        put_photo(tmp_path / f"hr/{seed}.png", (64, 48), seed=0)
    words = ("make-lr", tmp_path / "hr", "--method", "realesrgan-stablesr", "-s", "2,4")
    first, again, other = (
        [Image.open(path) for path in run(*words, "-o", tmp_path / out, "--seed", seed).stdout.split()]
        for out, seed in (("a", 3), ("b", 3), ("c", 4))
    )
    assert [lr.size for lr in first] == [(32, 24), (32, 24), (16, 12), (16, 12)]
    assert [lr.tobytes() for lr in first] == [lr.tobytes() for lr in again]
    assert all(a.tobytes() != b.tobytes() for a, b in zip(first, other, strict=True))
    assert first[0].tobytes() != first[1].tobytes()  # one photo, two numbers


def put_photo(path, size=(560, 530), seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    small = np.random.default_rng(seed).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).save(path)
    return path


def test_make_lr_makes_pairs_that_eval_reads(tmp_path):
    for i, name in enumerate(("0801", "0802")):
        put_photo(tmp_path / f"DIV2K/DIV2K_valid_HR/{name}.png", seed=i)
    words = ("make-lr", "DIV2K-Val-Real", "--data", tmp_path, "--count", 3)
    folder = tmp_path / "DIV2K-Val-Real"
    names = ["0801_00", "0801_01", "0802_00"]
    assert run(*words).stdout.split() == [str(folder / f"lq/{name}.png") for name in names]
    lines = [json.loads(line) for line in (folder / "degradations.jsonl").read_text().splitlines()]
    for line in lines:
        with (
            Image.open(tmp_path / "DIV2K/DIV2K_valid_HR" / line["photograph"]) as whole,
            Image.open(folder / f"gt/{line['name']}.png") as hr,
            Image.open(folder / f"lq/{line['name']}.png") as lr,
        ):
            box = (line["left"], line["top"], line["left"] + 512, line["top"] + 512)
            assert hr.tobytes() == whole.crop(box).tobytes()
            assert lr.size == (128, 128)
            assert lr.tobytes() != hr.resize((128, 128), Image.Resampling.BICUBIC).tobytes()
    command = ["eval", "--bench", "DIV2K-Val-Real", "--data", tmp_path, "-s", "4", "-m", "bicubic", "--json"]
    result = CliRunner().invoke(app, list(map(str, command)))
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)
    assert "real-isr" in json.dumps(rows)
    assert all(name in json.dumps(rows) for name in names)


def test_pairs_are_continued_and_those_of_another_seed_are_not_mixed_in(tmp_path):
    put_photo(tmp_path / "hr/a.png")
    words = ("make-lr", "div2k-val-real", "--from", tmp_path / "hr", "-o", tmp_path / "out", "--count")
    first = run(*words, 2).stdout.split()
    pixels = [Image.open(path).tobytes() for path in first]
    (tmp_path / "out/lq/a_01.png").unlink()
    assert run(*words, 2).stdout.split() == first[1:]
    assert [Image.open(path).tobytes() for path in first] == pixels
    run(*words, 2, "--seed", 1, code=6)
    run(*words, 1, "--seed", 1, "--overwrite")
    assert [p.name for p in (tmp_path / "out/gt").iterdir()] == ["a_00.png"]
    assert Image.open(first[0]).tobytes() != pixels[0]


def test_pairs_of_nothing_or_of_small_pictures_are_refused(tmp_path):
    words = ("make-lr", "DIV2K-Val-Real", "--data", tmp_path)
    assert "DIV2K is not here" in run(*words, code=4).stderr
    put(tmp_path / "hr/a.png", (600, 400))
    assert "600x400" in run(*words, "--from", tmp_path / "hr", code=1).stderr
    assert "--output" in run("make-lr", tmp_path / "hr", code=2).stderr
    assert "realesrgan" in run(*words, "--degradation", "blur", code=2).stderr
