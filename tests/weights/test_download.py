import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from srcli.config.presets import Part, Preset, Weights, load_preset
from srcli.errors import ModelError, ResourceError, WeightsError
from srcli.weights.checkpoint import load, save
from srcli.weights.convert import import_file
from srcli.weights.download import direct, fetch, pull
from srcli.weights.files import hash_file
from tests.helpers.presets import network_of, tiny
from tests.helpers.site import Site
from tests.models.test_real_esrgan import official

TINY = tiny()
DRIVE = "https://drive.usercontent.google.com/download?id=1x_Y-z&export=download&confirm=t"


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    models = tmp_path / "models"
    monkeypatch.setenv("SRCLI_MODELS_DIR", str(models))
    return models


def release(tmp_path: Path) -> tuple[torch.nn.Module, bytes]:
    """A network, and its checkpoint as the LIIF family publishes it."""
    network = network_of(TINY)
    state = {key.removeprefix("decoder."): value for key, value in network.state_dict().items()}
    torch.save({"model": {"name": "blend", "args": {}, "sd": state}, "epoch": 1}, tmp_path / "release.pth")
    return network, (tmp_path / "release.pth").read_bytes()


def published(site: Site, *paths: str, **more: str) -> Preset:
    url, *mirrors = (site.address + path for path in paths)
    return replace(TINY, weights=Weights(url=url, mirrors=tuple(mirrors), **more))


def test_a_pulled_release_becomes_a_model_that_loads_by_name(site, folder, tmp_path):
    network, site.files["/x.pth"] = release(tmp_path)
    preset = published(site, "/x.pth")
    seen = []
    installed = pull(preset, report=lambda done, total: seen.append((done, total)))
    size = len(site.files["/x.pth"])
    assert seen[-1] == (size, size)
    loaded = load(preset)
    assert loaded.path == installed.path == folder / "tiny.safetensors"
    assert all(torch.equal(loaded.network.state_dict()[k], v) for k, v in network.state_dict().items())
    assert hash_file(installed.path).read_text("utf-8").split()[0] == loaded.sha256
    card = installed.path.with_suffix(".md").read_text("utf-8")
    assert preset.weights.url in card
    assert hashlib.sha256(site.files["/x.pth"]).hexdigest() in card
    left = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    assert left == {"tiny.safetensors", "tiny.safetensors.sha256", "tiny.md"}


@pytest.mark.parametrize(
    ("card", "stated"),
    [
        (b"---\ntags: [x]\nlicense: apache-2.0\n---\n# x", "Apache-2.0"),
        (b"---\nlicense: 'mit'\n---\n", "MIT"),
        (b"---\nlicense: my-own\n---\n", "unstated"),
        (b"# license: mit", "unstated"),
        (None, "unstated"),
    ],
)
def test_the_licence_is_the_one_that_the_model_card_states_now(site, folder, tmp_path, card, stated):
    _, site.files["/them/x/resolve/main/x.pth"] = release(tmp_path)
    if card is not None:
        site.files["/them/x/raw/main/README.md"] = card
    preset = published(site, "/them/x/resolve/main/x.pth")
    assert pull(preset).preset.weights.license == stated
    assert load(preset).preset.weights.license == stated
    ours = replace(preset, weights=replace(preset.weights, license="CC0-1.0"))
    assert pull(ours, overwrite=True).preset.weights.license == "CC0-1.0"


def test_our_own_format_is_pulled_as_well(site, folder, tmp_path):
    network, _ = release(tmp_path)
    save(tmp_path / "x.safetensors", network, TINY)
    site.files["/x.safetensors"] = (tmp_path / "x.safetensors").read_bytes()
    pull(published(site, "/x.safetensors"))
    assert (folder / "tiny.safetensors").is_file()


@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no ranges"])
def test_a_broken_download_is_continued(site, folder, tmp_path, ranges):
    _, site.files["/x.pth"] = release(tmp_path)
    site.ranges, site.break_after = ranges, 1000
    preset = published(site, "/x.pth")
    with pytest.raises(ModelError, match="run it again") as caught:
        pull(preset)
    assert caught.value.code == 4
    pull(preset)
    assert site.asked == [None, "bytes=1000-"]
    assert load(preset)


def test_a_download_that_was_complete_is_not_repeated(site, folder, tmp_path):
    _, site.files["/x.pth"] = release(tmp_path)
    folder.mkdir()
    (folder / "tiny.download.pth").write_bytes(site.files["/x.pth"])
    assert pull(published(site, "/x.pth")).path.is_file()


@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "application/octet-stream"])
def test_a_page_instead_of_a_file_is_an_error(site, folder, kind):
    site.files["/x.pth"] = b"\n<!DOCTYPE html><title>Virus scan warning</title>"
    site.kinds["/x.pth"] = kind
    with pytest.raises(ModelError, match=r"web page.*browser.*models import") as caught:
        pull(published(site, "/x.pth"))
    assert caught.value.code == 4
    assert not (folder / "tiny.safetensors").exists()


def test_another_file_than_expected_is_refused_and_removed(site, folder, tmp_path):
    _, site.files["/x.pth"] = release(tmp_path)
    right = hashlib.sha256(site.files["/x.pth"]).hexdigest()
    with pytest.raises(ModelError, match="SHA-256") as caught:
        pull(published(site, "/x.pth", download_sha256="0" * 64))
    assert caught.value.code == 4
    assert [path for path in folder.iterdir() if not path.name.startswith(".")] == []
    assert pull(published(site, "/x.pth", download_sha256=right)).path.is_file()


def test_a_damaged_file_is_refused_and_not_continued_for_ever(site, folder, tmp_path):
    _, whole = release(tmp_path)
    site.files["/x.pth"] = whole[:-1000]
    with pytest.raises(WeightsError, match="damaged"):
        pull(published(site, "/x.pth"))
    assert [path for path in folder.iterdir() if not path.name.startswith(".")] == []


def test_weights_of_another_network_are_refused(site, folder, tmp_path):
    _, site.files["/x.pth"] = release(tmp_path)
    wide = replace(published(site, "/x.pth"), decoder=Part("blend", {"width": 16, "hidden": (8,)}))
    with pytest.raises(WeightsError, match="does not fit"):
        pull(wide)


def test_a_mirror_is_tried_when_the_first_link_is_dead(site, folder, tmp_path):
    _, site.files["/mirror.pth"] = release(tmp_path)
    assert pull(published(site, "/gone.pth", "/mirror.pth")).path.is_file()


def test_all_dead_links_are_named(site, folder):
    with pytest.raises(ModelError, match=r"/a\.pth answered 404.*/b\.pth answered 404"):
        pull(published(site, "/a.pth", "/b.pth"))


def test_a_server_that_is_not_there_is_an_error(folder):
    with pytest.raises(ModelError, match=r"127\.0\.0\.1:9") as caught:
        pull(replace(TINY, weights=Weights(url="http://127.0.0.1:9/x.pth")))
    assert caught.value.code == 4


def test_offline_asks_nobody(site, folder):
    with pytest.raises(ModelError, match="offline") as caught:
        pull(published(site, "/x.pth"), offline=True)
    assert caught.value.code == 4
    assert site.asked == []


def test_where_nothing_is_published_the_other_ways_are_named(folder):
    with pytest.raises(ModelError, match=r"srcli train.*srcli models import") as caught:
        pull(replace(TINY, weights=Weights(note="The authors publish no file.")))
    assert caught.value.code == 4


def test_only_web_addresses_are_opened(tmp_path):
    with pytest.raises(ModelError, match="web address"):
        fetch(Path("/etc/hostname").as_uri(), tmp_path / "x")


def test_an_unwritable_folder_is_a_resource_error(site, tmp_path):
    (tmp_path / "file").write_text("x", "utf-8")
    with pytest.raises(ResourceError) as caught:
        pull(published(site, "/x.pth"), folder=tmp_path / "file" / "models")
    assert caught.value.code == 5


@pytest.mark.parametrize(
    ("link", "address"),
    [
        ("https://drive.google.com/file/d/1x_Y-z/view?usp=sharing", DRIVE),
        ("https://drive.google.com/uc?id=1x_Y-z", DRIVE),
        ("https://www.dropbox.com/s/abc/x.pth?dl=0", "https://www.dropbox.com/s/abc/x.pth?dl=1"),
        ("https://example.org/x.pth?dl=0", "https://example.org/x.pth?dl=0"),
    ],
)
def test_links_to_pages_become_links_to_files(link, address):
    assert direct(link) == address


@pytest.mark.parametrize("name", ["realesrgan-x4plus-anime-6b", "realesr-general-x4v3"])
def test_real_esrgans_releases_are_pulled_checked_and_known(site, folder, tmp_path, name):
    preset = load_preset(name)
    network = network_of(preset)
    state = {official(key): value for key, value in network.state_dict().items()}
    torch.save({"params_ema" if "conv_first.weight" in state else "params": state}, tmp_path / "x.pth")
    site.files["/x.pth"] = content = (tmp_path / "x.pth").read_bytes()
    assert preset.weights.download_sha256 != hashlib.sha256(content).hexdigest()
    here = replace(preset.weights, url=site.address + "/x.pth")
    with pytest.raises(ModelError):  # another file than the one that was published
        pull(replace(preset, weights=here))
    here = replace(here, download_sha256=hashlib.sha256(content).hexdigest())
    pull(replace(preset, weights=here))
    loaded = load(name)
    assert loaded.path.parent == folder
    assert all(torch.equal(loaded.network.state_dict()[k], v) for k, v in network.state_dict().items())
    import_file(tmp_path / "x.pth", license_id=None, output=tmp_path / "own.safetensors")
    assert load(tmp_path / "own.safetensors").preset.name == name
