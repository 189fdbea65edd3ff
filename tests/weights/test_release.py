"""What `models pack` writes is a release that `models pull --from` reads, from a web server as it is."""

import hashlib
import json

import pytest
import torch

from srcli.weights.checkpoint import load
from srcli.weights.release import MANIFEST
from tests.helpers import cli
from tests.helpers.presets import save_tiny

LICENSED = {"license": "CC-BY-4.0"}


def run(*words, code=0):
    result = cli.run("models", *words, code=code)
    if code:
        assert result.stdout == ""
        assert len(result.stderr.splitlines()[-1]) > 0
    return result


@pytest.fixture
def model(tmp_path, monkeypatch):
    """Weights of a network that no preset names, in half precision."""
    monkeypatch.setenv("SRCLI_MODELS_DIR", str(tmp_path / "models"))
    return save_tiny(tmp_path / "tiny.safetensors", half=True, weights=LICENSED)


@pytest.fixture
def release(model, tmp_path, site):
    """The address of a release of two models on a web server, and what lies there."""
    other = save_tiny(model.with_name("other.safetensors"), 1, name="other", weights=LICENSED)
    run("pack", model, other, "-o", tmp_path / "release")
    site.files = {f"/v1/{path.name}": path.read_bytes() for path in (tmp_path / "release").iterdir()}
    return f"{site.address}/v1/{MANIFEST}"


def left(folder):
    return sorted(path.name for path in folder.glob("*") if not path.name.startswith("."))


def test_a_manifest_says_what_there_is(release, tmp_path, model):
    assert left(tmp_path / "release") == ["other.safetensors", MANIFEST, "tiny.safetensors"]
    about = json.loads((tmp_path / "release" / MANIFEST).read_text("utf-8"))
    content = model.read_bytes()
    assert about["format"] == 1
    assert about["models"][0] == {
        "name": "tiny",
        "title": "Tiny",
        "file": "tiny.safetensors",
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "license": "CC-BY-4.0",
    }
    run("pack", model, "-o", tmp_path / "release", code=6)
    run("pack", model, "-o", tmp_path / "release", "--overwrite")


def test_a_pulled_model_is_the_packed_one_byte_for_byte(release, tmp_path, model):
    result = run("pull", "tiny", "--from", release)
    here = tmp_path / "models/tiny.safetensors"
    assert here.read_bytes() == model.read_bytes()
    assert result.stdout.split() == ["tiny", hashlib.sha256(here.read_bytes()).hexdigest(), str(here)]
    assert f"--model {here}" in result.stderr  # no preset of that name: used by its path
    assert "licence CC-BY-4.0" in result.stderr
    assert left(tmp_path / "models") == ["tiny.md", "tiny.safetensors", "tiny.safetensors.sha256"]
    assert "CC-BY-4.0" in here.with_suffix(".md").read_text("utf-8")
    assert load(here).preset.weights.license == "CC-BY-4.0"
    run("pull", "all", "--from", release)
    assert {"tiny.safetensors", "other.safetensors"} <= set(left(tmp_path / "models"))


def test_a_model_of_a_known_name_is_used_by_it(site, tmp_path, monkeypatch, model):
    monkeypatch.setenv("SRCLI_MODELS_DIR", str(tmp_path / "models"))
    run("pack", "rlfn-linf-s", "-o", tmp_path / "release")
    site.files = {f"/{path.name}": path.read_bytes() for path in (tmp_path / "release").iterdir()}
    monkeypatch.setattr("srcli.weights.files.bundled_folder", lambda: tmp_path / "without it")
    result = run("pull", "rlfn-linf-s", "--from", f"{site.address}/{MANIFEST}")
    assert "--model rlfn-linf-s" in result.stderr
    assert load("rlfn-linf-s").path == tmp_path / "models/rlfn-linf-s.safetensors"


def test_a_broken_download_is_continued(release, site, tmp_path):
    whole = site.files["/v1/tiny.safetensors"]
    site.asked.clear()
    site.break_at = {"/v1/tiny.safetensors": 1000}
    assert "run it again" in run("pull", "tiny", "--from", release, code=4).stderr
    assert not (tmp_path / "models/tiny.safetensors").exists()
    run("pull", "tiny", "--from", release)
    assert site.asked == [None, None, None, "bytes=1000-"]
    assert (tmp_path / "models/tiny.safetensors").read_bytes() == whole
    site.asked.clear()
    run("pull", "tiny", "--from", release)  # it is here: only the manifest is asked for
    assert site.asked == [None]


def changed(content):
    return content[:-1] + bytes([content[-1] ^ 1])


def test_another_file_than_the_manifest_says_is_refused_and_removed(release, site, tmp_path):
    site.files["/v1/tiny.safetensors"] = changed(site.files["/v1/tiny.safetensors"])
    assert "SHA-256" in run("pull", "tiny", "--from", release, code=4).stderr
    assert left(tmp_path / "models") == []


def test_a_pinned_manifest_cannot_be_exchanged(release, site, tmp_path):
    pin = hashlib.sha256(site.files[f"/v1/{MANIFEST}"]).hexdigest()
    run("pull", "tiny", "--from", f"{release}#sha256={pin[:16]}")
    site.files[f"/v1/{MANIFEST}"] += b"\n"
    assert "another manifest" in run("pull", "tiny", "--from", f"{release}#sha256={pin}", code=4).stderr
    run("pull", "tiny", "--from", f"{release}#sha256=12", code=2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "../tiny"}, "not described"),
        ({"file": "a/tiny.safetensors"}, "not described"),
        ({"file": "tiny.pth"}, "not described"),
        ({"sha256": "0"}, "not described"),
        ({"size": "much"}, "no manifest"),
        ({"license": "MIT"}, "another licence"),
        ({"license": 3}, "no manifest"),
    ],
)
def test_a_manifest_is_not_believed_everything(release, site, tmp_path, change, message):
    about = json.loads(site.files[f"/v1/{MANIFEST}"])
    about["models"][0] |= change
    site.files[f"/v1/{MANIFEST}"] = json.dumps(about).encode()
    assert message in run("pull", "all", "--from", release, code=4).stderr
    assert left(tmp_path / "models") == []


@pytest.mark.parametrize(
    "content", [b"[]", b"no", b"<html>", b'{"models": 3}', b'{"format": 2, "models": []}']
)
def test_what_is_no_manifest_is_refused(release, site, tmp_path, content):
    site.files[f"/v1/{MANIFEST}"] = content
    run("pull", "all", "--from", release, code=4)
    assert left(tmp_path / "models") == []


def test_a_release_without_the_model_names_those_it_has(release):
    assert "tiny" in run("pull", "tinny", "--from", release, code=4).stderr
    assert "offline" in run("pull", "tiny", "--from", release, "--offline", code=4).stderr


def test_another_file_of_that_name_stays(release, tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models/tiny.safetensors").write_bytes(b"mine")
    run("pull", "tiny", "--from", release, code=6)
    assert (tmp_path / "models/tiny.safetensors").read_bytes() == b"mine"
    run("pull", "tiny", "--from", release, "--overwrite")


def test_what_cannot_be_given_on_is_not_packed(model, tmp_path):
    unstated = save_tiny(tmp_path / "un.safetensors")
    assert "licence" in run("pack", unstated, "-o", tmp_path / "out", code=4).stderr
    torch.save({}, tmp_path / "x.pth")
    assert "models import" in run("pack", tmp_path / "x.pth", "-o", tmp_path / "out", code=4).stderr
    assert "twice" in run("pack", model, model, "-o", tmp_path / "out", code=2).stderr
    assert not (tmp_path / "out").exists()
