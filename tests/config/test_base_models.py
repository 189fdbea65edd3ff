"""Base models in folders: found, fetched, refused, and what is trained on them in a file of its own."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from srcli.config.base_models import bases_of, find_base, load_base, locate_base
from srcli.config.presets import load_preset
from srcli.errors import ExistsError, ModelError, PresetError, WeightsError
from srcli.geometry import Size
from srcli.weights.build import build
from srcli.weights.checkpoint import load, load_into, own_state, read, save
from srcli.weights.download import pull_base, remove_base
from srcli.weights.files import find
from tests.helpers.hub import serve
from tests.helpers.latent import base_folders, preset


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return base_folders(tmp_path_factory.mktemp("bases"))


@pytest.fixture
def models(tmp_path, monkeypatch):
    monkeypatch.setenv("SRCLI_MODELS_DIR", str(tmp_path / "models"))
    for name in ("SRCLI_SD2_BASE", "SRCLI_DINO_VITB16"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "models"


@pytest.fixture
def hub(folders, monkeypatch):
    """A Hub that has the tiny folder under the name that is asked for; a list of what was asked."""
    return serve(monkeypatch, lambda to, _: shutil.copytree(folders[0], to, dirs_exist_ok=True), "0123abc")


def based(folders, **changes):
    sd, dino = map(str, folders)
    return preset(
        encoder={"name": "dino", "base": dino},
        decoder={"name": "latents", "base": sd},
        generator={"name": "lgcaa", "base": sd, "condition_widths": [8, 8, 8], "local_window": 4},
        **changes,
    )


def test_a_base_model_is_fetched_at_one_commit_and_found_offline_afterwards(models, hub):
    about = load_base("sd2-base")
    assert locate_base("sd2-base") is None
    folder = pull_base("sd2-base")
    assert hub[0] == (about.repository, about.revision)
    assert hub[1] == (about.repository, "0123abc", about.files)
    assert json.loads((folder / "srcli.json").read_text())["commit"] == "0123abc"
    assert find_base("sd2-base") == folder == models / "sd2-base"
    assert pull_base("sd2-base", offline=True) == folder
    assert len(hub) == 2
    assert remove_base("sd2-base") == folder
    assert locate_base("sd2-base") is None


def test_an_interrupted_fetch_is_not_taken_for_a_base_model(models, hub, monkeypatch):
    (models / "sd2-base" / ".cache").mkdir(parents=True)
    assert locate_base("sd2-base") is None
    assert (pull_base("sd2-base") / "srcli.json").is_file()


def test_nothing_is_fetched_offline_or_over_a_folder_of_the_users(models, hub):
    with pytest.raises(ModelError, match="offline") as refused:
        pull_base("sd2-base", offline=True)
    assert "srcli models pull sd2-base --to FOLDER" in str(refused.value.hint)
    (models / "sd2-base").mkdir(parents=True)
    (models / "sd2-base" / "mine.txt").write_text("mine")
    with pytest.raises(ExistsError, match="not fetched by srcli"):
        pull_base("sd2-base")
    assert hub == []


def test_a_repository_can_be_replaced_by_a_file_of_ones_own(models, hub, tmp_path, monkeypatch):
    own = tmp_path / "presets" / "bases"
    own.mkdir(parents=True)
    text = 'title = "mine"\nrepository = "me/sd2"\nrevision = "v1"\nlicense = "MIT"\nfiles = ["unet/config.json"]\n'
    (own / "sd2-base.toml").write_text(text)
    monkeypatch.setenv("SRCLI_PRESETS_DIR", str(own.parent))
    pull_base("sd2-base")
    assert hub[0] == ("me/sd2", "v1")
    with pytest.raises(PresetError, match="unknown base model"):
        load_base("sd3")


def test_without_base_models_it_is_said_how_to_get_them(models):
    lgcaa = load_preset("lgcaa")
    assert bases_of(lgcaa) == ["sd2-base", "dino-vitb16"]
    with pytest.raises(ModelError) as refused:
        find(lgcaa)
    assert refused.value.code == 4
    assert "srcli models pull sd2-base dino-vitb16" in str(refused.value.hint)
    assert "srcli train --recipe lgcaa" in str(refused.value.hint)
    assert "Open RAIL++-M" in refused.value.message


def test_only_what_is_trained_is_saved_and_it_loads_strictly_on_top(folders, tmp_path):
    about = based(folders)
    network = build(about)
    trained = own_state(network)
    assert not any(key.startswith(("encoder.", "decoder.")) for key in trained)
    assert not any("generator.unet" in key and "attn" not in key for key in trained)
    assert {key.split(".")[1] for key in trained} == {"unet", "control", "project", "view"}
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter += 0.1
    path = tmp_path / "mine.safetensors"
    save(path, network, about)
    again = load(path)
    for key, value in network.state_dict().items():
        assert torch.equal(again.network.state_dict()[key], value), key
    with pytest.raises(WeightsError, match="1 missing"):
        load_into(build(about), dict(list(read(path).items())[1:]), where="it")


def test_the_unet_of_a_folder_is_unchanged_while_gates_are_shut(folders):
    from diffusers import UNet2DConditionModel

    network = build(based(folders)).eval()
    published = UNet2DConditionModel.from_pretrained(folders[0] / "unet").eval()
    noisy, tokens, t = torch.randn(1, 4, 6, 8), torch.randn(1, 5, 6), torch.tensor([10])
    with torch.no_grad():
        ours = network.generator.unet(noisy, t, tokens, cross_attention_kwargs={"grid": Size(6, 8)}).sample
        assert torch.equal(ours, published(noisy, t, tokens).sample)


def test_a_folder_of_something_else_is_refused(folders, tmp_path):
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "config.json").write_text("{}")
    with pytest.raises(WeightsError, match="holds no"):
        build(preset(generator={"name": "lgcaa", "base": str(tmp_path)}))
    shutil.copytree(folders[0], tmp_path / "sd")
    config = Path(tmp_path / "sd" / "unet" / "config.json")
    table = json.loads(config.read_text())
    config.write_text(json.dumps(table | {"layers_per_block": 2}))
    with pytest.raises(WeightsError, match=r"expected shape|missing"):
        build(preset(generator={"name": "lgcaa", "base": str(tmp_path / "sd")}))


def test_a_named_variable_of_the_environment_gives_the_folder(folders, models, monkeypatch):
    monkeypatch.setenv("SRCLI_SD2_BASE", str(folders[0]))
    assert find_base("sd2-base") == folders[0]
