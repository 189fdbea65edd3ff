"""`srcli doctor`, `info`, `cache` and `models rm`: what there is, what it would take, and how to be rid of it."""

import hashlib
import json

import pytest
from PIL import Image
from typer.testing import CliRunner

from srcli.cli import app
from tests.cli.conftest import picture, save


@pytest.fixture(autouse=True)
def _own_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("SRCLI_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("SRCLI_MODELS_DIR", str(tmp_path / "models"))
    monkeypatch.chdir(tmp_path)


def srcli(*words):
    return CliRunner().invoke(app, list(words))


def test_doctor_enlarges_a_picture_and_says_how_it_went():
    result = srcli("doctor", "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == 0
    assert found["ok"]
    assert {check["name"] for check in found["checks"]} == {
        "torchvision",
        "bundled weights",
        "enlarging",
        "tiles",
    }
    assert "cpu" in found["devices"]


def test_doctor_fails_when_the_weights_are_not_what_they_should_be(monkeypatch, tmp_path):
    from srcli.weights import files as store

    (tmp_path / "edsr-baseline-blend.safetensors").write_bytes(b"no weights")
    monkeypatch.setattr(store, "bundled_folder", lambda: tmp_path)
    result = srcli("doctor")
    assert result.exit_code == 7
    assert "FAILED" in result.stdout


def test_a_report_does_not_tell_the_names_of_folders(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert str(tmp_path) in srcli("doctor").stdout
    assert str(tmp_path) not in srcli("doctor", "--report").stdout


def test_info_of_a_picture_says_what_the_file_says(tmp_path):
    Image.new("RGBA", (30, 20)).save(tmp_path / "a.png")
    facts = json.loads(srcli("info", "a.png", "--json").stdout)[0]
    assert (facts["width"], facts["height"], facts["alpha"], facts["depth"]) == (30, 20, True, "8")
    assert facts["bytes"] == (tmp_path / "a.png").stat().st_size


def test_info_with_a_scale_says_what_enlarging_would_take(tmp_path, model):
    Image.new("RGB", (30, 21)).save(tmp_path / "a.png")
    words = ("info", "a.png", str(model), "-s", "2.5", "-m", str(model), "--tile", "16", "--json")
    picture, weights = json.loads(srcli(*words).stdout)
    assert (picture["output width"], picture["output height"]) == (75, 52)
    assert picture["tiles"] == 4
    assert weights["sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()


def test_info_names_what_it_cannot_read_and_goes_on(tmp_path):
    (tmp_path / "a.txt").write_text("hello")
    Image.new("L", (3, 4)).save(tmp_path / "b.png")
    result = srcli("info", "a.txt", "b.png")
    assert result.exit_code == 1
    assert "a.txt" in result.stderr
    assert "gray" in result.stdout


def test_clearing_a_cache_leaves_models(tmp_path):
    keep = tmp_path / "models" / "mine.safetensors"
    gone = [tmp_path / "models" / "x.download.pth", tmp_path / "cache" / "eval" / "ab" / "row.json"]
    for path in (keep, *gone):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"1234")
    sizes = {c["name"]: c["bytes"] for c in json.loads(srcli("cache", "info", "--json").stdout)}
    assert sizes == {"eval": 4, "benchmarks": 0, "downloads": 4}
    assert srcli("cache", "clear", "-y").exit_code == 0
    assert keep.exists()
    assert not any(path.exists() for path in gone)


def test_an_unknown_cache_is_a_usage_error():
    result = srcli("cache", "clear", "evil")
    assert result.exit_code == 2
    assert "Did you mean 'eval'" in result.stderr


def test_removing_weights_removes_their_card_and_hash(tmp_path, model):
    folder = tmp_path / "models"
    words = ("models", "import", str(model), "--license", "MIT", "-o", str(folder / "mine.safetensors"))
    assert srcli(*words).exit_code == 0
    assert len(list(folder.iterdir())) == 3
    assert srcli("models", "rm", str(folder / "mine.safetensors"), "-y").exit_code == 0
    assert list(folder.iterdir()) == []


def test_weights_of_the_package_are_not_removed():
    result = srcli("models", "rm", "edsr-baseline-blend", "-y")
    assert result.exit_code == 2
    assert "stays" in result.stderr


def test_info_tells_how_a_picture_was_made(upscale, engine, folder):
    save(folder / "photo.png", picture())
    assert upscale("photo.png", "-s", "3", "-o", "made.webp").exit_code == 0
    told = CliRunner().invoke(app, ["info", "made.webp"]).stdout
    assert "by srcli: tiny, x3, seed 0, from 30x20" in told
    assert "made" not in CliRunner().invoke(app, ["info", "photo.png"]).stdout
