import argparse
import hashlib
import json
import math
import os
import pickle
import re
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from srcli.config.presets import Part, Preset, Weights, list_presets, load_preset
from srcli.errors import ExistsError, ModelError, SrcliError, WeightsError, first_line
from srcli.files import sha256
from srcli.models.generators import GENERATORS
from srcli.weights.checkpoint import load, load_into, read, save
from srcli.weights.convert import import_file
from srcli.weights.files import bundled_folder, check_license, find, is_bundled, locate, metadata, resolve
from srcli.weights.official import Checkpoint, identify, network_shapes, read_foreign, unwrap
from tests.helpers.presets import network_of, save_tiny, tiny, write_preset

TINY = tiny()
LIIF = tiny("tiny-liif", decoder={"name": "liif", "hidden": [8]})


@pytest.fixture(autouse=True)
def _own_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("SRCLI_MODELS_DIR", str(tmp_path / "models"))
    monkeypatch.delenv("SRCLI_PRESETS_DIR", raising=False)


@pytest.fixture
def _few_calls(monkeypatch):
    monkeypatch.setattr("srcli.weights.build.MOST_CALLS", 1000)  # to be quick


def official(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """State dict under the names of the releases, where the decoder is the outermost module."""
    return {key.removeprefix("decoder."): value for key, value in network.state_dict().items()}


def as_preset_file(folder: Path, preset: Preset) -> Path:
    parts = {
        name: {"name": part.name, **part.args}
        for name in ("encoder", "decoder")
        if (part := getattr(preset, name))
    }
    return write_preset(folder, {"title": preset.title, **parts}, preset.name)


# --- our files ----------------------------------------------------------------------------------------------------


def test_saved_weights_come_back_bit_for_bit_with_their_preset(tmp_path):
    network, path = network_of(TINY), tmp_path / "run.safetensors"
    save(path, network, TINY, extra={"steps": "12"})
    loaded = load(path)
    assert loaded.path == path
    assert loaded.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (loaded.preset.encoder, loaded.preset.decoder) == (TINY.encoder, TINY.decoder)
    assert not loaded.network.training
    for key, value in network.state_dict().items():
        assert torch.equal(loaded.network.state_dict()[key], value), key
    about = metadata(path)
    assert (about["steps"], about["license"], about["srcli_format"]) == ("12", "unstated", "2")


def test_half_weights_are_half_as_large_and_load_as_fp32(tmp_path):
    network = network_of(TINY)
    full, half = tmp_path / "full.safetensors", tmp_path / "half.safetensors"
    save(full, network, TINY)
    save(half, network, TINY, half=True)
    tensors = sum(value.numel() * 4 for value in network.state_dict().values())
    assert full.stat().st_size - half.stat().st_size == pytest.approx(tensors / 2, abs=64)
    for key, value in read(half).items():
        assert value.dtype == torch.float32
        assert torch.equal(value, network.state_dict()[key].half().float())


def test_the_same_weights_are_the_same_bytes_whatever_the_order(tmp_path):
    network, extra = network_of(TINY), {"source": "Größe", "a": "1", "zz": "2", "m": "3", "b": "4"}
    files = [tmp_path / f"{i}.safetensors" for i in range(8)]  # one order in 10! would be equal by chance
    for i, path in enumerate(files):
        ordered = sorted(extra.items(), reverse=bool(i % 2))
        save(path, network, TINY, extra=dict(ordered))
    assert len({path.read_bytes() for path in files}) == 1
    assert {key: metadata(files[0])[key] for key in extra} == extra
    whole = files[0].read_bytes()
    assert struct.unpack("<Q", whole[:8])[0] % 8 == 0
    for key, value in load_file(files[0]).items():
        assert torch.equal(value, network.state_dict()[key])


def test_what_is_true_of_one_file_only_is_not_written_into_another(tmp_path):
    preset = replace(TINY, weights=Weights(file=str(tmp_path / "secret" / "x.safetensors"), sha256="0" * 64))
    save(tmp_path / "y.safetensors", network_of(TINY), preset)
    assert "secret" not in metadata(tmp_path / "y.safetensors")["preset"]
    assert "sha256" not in metadata(tmp_path / "y.safetensors")["preset"]


def test_a_checkpoint_of_another_network_is_described_by_its_first_keys(tmp_path):
    network = network_of(TINY)
    state = dict(network.state_dict())
    removed = [key for key in state if key.startswith("encoder.body")][:6]
    for key in removed:
        del state[key]
    state["decoder.extra.weight"] = torch.zeros(1)
    state["decoder.mlp.layers.0.weight"] = torch.zeros(8, 9)
    with pytest.raises(WeightsError) as caught:
        load_into(network, state, where="x.safetensors")
    message = str(caught.value)
    assert caught.value.code == 4
    assert f"6 missing ({', '.join(removed[:5])}, ..)" in message
    assert "1 unexpected (decoder.extra.weight)" in message
    assert "1 of another shape (decoder.mlp.layers.0.weight [8, 9] instead of [8, 8])" in message


def damaged(kind: str, whole: bytes) -> bytes:
    length = struct.unpack("<Q", whole[:8])[0]
    return {
        "truncated": whole[: len(whole) // 2],
        "header only": whole[: 8 + length],
        "cut header": whole[: length // 2],
        "text": b"this is no weights file at all",
        "empty": b"",
        "huge header": struct.pack("<Q", 2**62) + whole[8:],
        "deep header": struct.pack("<Q", 200_000) + b"[" * 200_000,
    }[kind]


@pytest.mark.parametrize(
    "kind", ["truncated", "header only", "cut header", "text", "empty", "huge header", "deep header"]
)
def test_a_damaged_file_is_refused(tmp_path, kind):
    path = save_tiny(tmp_path / "x.safetensors")
    path.write_bytes(damaged(kind, path.read_bytes()))
    with pytest.raises(WeightsError, match=r"x\.safetensors") as caught:
        load(path)
    assert caught.value.code == 4
    assert "\n" not in str(caught.value)


def test_a_safetensors_file_without_a_preset_says_what_to_do(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(WeightsError, match="srcli models import"):
        load(tmp_path / "x.safetensors")


def test_a_preset_of_another_version_inside_a_file_is_a_weights_error(tmp_path):
    table = {**TINY.to_dict(), "novelty": 1}
    save_file({"a": torch.zeros(1)}, tmp_path / "x.safetensors", metadata={"preset": json.dumps(table)})
    with pytest.raises(WeightsError, match="novelty"):
        resolve(tmp_path / "x.safetensors")


def rewritten(path: Path, **changes: object) -> Path:
    """The file with other settings of its encoder in the preset that it carries; its tensors as they were."""
    table = json.loads(metadata(path)["preset"])
    for key, value in changes.items():
        section, _, name = key.partition("__")
        table[section] = {**table.get(section, {}), name: value} if name else value
    save_file(load_file(path), path, metadata={"preset": json.dumps(table)})
    return path


HOSTILE = {
    "blocks": {"encoder__n_resblocks": 10**9},
    "one block more": {"encoder__n_resblocks": 2},
    "features": {"encoder__n_feats": 10**6},
    "beyond any integer": {"encoder__n_feats": 10**30},
    "negative": {"encoder__n_feats": -8},
    "a list": {"decoder__hidden": [10**9, 10**9]},
    "layers in a list": {"decoder": {"name": "lm-liif", "depth": 10**9}},
    "levels in a list": {"decoder": {"name": "hiif", "levels": 10**9}},
    "blocks in a list": {"encoder": {"name": "swinir", "depths": [10**9]}},
    "unknown part": {"decoder__name": "nonesuch"},
    "unknown argument": {"decoder__novelty": 1},
    "steps": {"diffusion__train_steps": 10**12},
}


@pytest.mark.usefixtures("_few_calls")
@pytest.mark.parametrize(
    ("way", "changes"),
    [
        *(pytest.param("load", changes, id=name) for name, changes in HOSTILE.items()),
        *(pytest.param("import", HOSTILE[name], id=f"import {name}") for name in ("blocks", "unknown part")),
    ],
)
def test_a_preset_that_its_file_does_not_hold_is_refused_before_it_takes_memory(tmp_path, way, changes):
    path = save_tiny(tmp_path / "x.safetensors")
    rewritten(path, **changes)
    with pytest.raises(WeightsError, match=r"x\.safetensors|tiny") as caught:
        load(path) if way == "load" else import_file(path, license_id="MIT")
    assert caught.value.code == 4
    assert torch.is_grad_enabled()
    assert "\n" not in str(caught.value)


def test_a_header_that_promises_more_than_the_file_holds_is_refused_before_it_takes_memory(tmp_path):
    huge = replace(TINY, encoder=Part("edsr", {"n_resblocks": 1, "n_feats": 10**4}))
    header: dict[str, object] = {"__metadata__": {"preset": huge.to_json()}}
    end = 0
    for key, shape in network_shapes(huge).items():
        begin, end = end, end + 4 * math.prod(shape)
        header[key] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(1000))
    with pytest.raises(WeightsError, match=r"x\.safetensors"):
        load(path)


@pytest.mark.usefixtures("_few_calls")
@pytest.mark.parametrize(
    ("encoder", "said"),
    [({"n_resblocks": 10**9}, "layers"), ({"n_feats": 10**6}, "values")],
    ids=["layers", "values"],
)
def test_a_preset_of_ones_own_that_is_larger_than_any_network_is_refused(tmp_path, encoder, said):
    path = as_preset_file(tmp_path, replace(TINY, encoder=Part("edsr", encoder)))
    with pytest.raises(ModelError, match=said) as caught:
        network_of(load_preset(path))
    assert caught.value.code == 4
    save_tiny(tmp_path / "models" / "tiny.safetensors")
    with pytest.raises(ModelError):  # beside weights that are here
        load(load_preset(path))


# --- finding ------------------------------------------------------------------------------------------------------


def test_weights_beside_a_preset_file_come_before_the_folder_of_models(tmp_path):
    path = as_preset_file(tmp_path, TINY)
    path.write_text(path.read_text("utf-8") + '[weights]\nfile = "own.safetensors"\n', "utf-8")
    preset = load_preset(path)
    assert locate(preset) is None
    (tmp_path / "models").mkdir()
    for folder in (tmp_path / "models", tmp_path):
        save_tiny(folder / "own.safetensors")
        assert find(preset) == folder / "own.safetensors"


def test_weights_that_came_with_the_package_come_first(tmp_path):
    preset = load_preset("edsr-baseline-blend")
    name = f"{preset.name}.safetensors"
    save(tmp_path / "models" / name, network_of(preset), preset)
    assert is_bundled(preset)
    assert not is_bundled(TINY)
    assert find(preset) == bundled_folder() / name
    installed = import_file(tmp_path / "models" / name, license_id="MIT", output=tmp_path / name)
    assert not installed.named  # the name goes on meaning what came with the package


def test_missing_weights_say_how_to_get_them():
    with pytest.raises(ModelError, match="srcli models import") as caught:
        find(TINY)
    assert caught.value.code == 4
    with pytest.raises(ModelError, match="srcli models pull tiny"):
        find(replace(TINY, weights=Weights(url="https://example.org/x.pth")))


@pytest.mark.parametrize("recorded", ["in the preset", "beside the file"])
def test_a_wrong_hash_is_refused(tmp_path, recorded):
    path = save_tiny(tmp_path / "models" / "tiny.safetensors")
    right = sha256(path)
    preset = replace(TINY, weights=Weights(sha256=right)) if recorded == "in the preset" else TINY
    if recorded == "beside the file":
        path.with_name("tiny.safetensors.sha256").write_text(f"{right}  tiny.safetensors\n", "utf-8")
    assert load(preset).sha256 == right
    save_tiny(path, seed=1)
    with pytest.raises(ModelError, match="SHA-256") as caught:
        load(preset)
    assert caught.value.code == 4


@pytest.mark.parametrize("by", ["file", "name", "preset", "import", "folder"])
def test_the_local_ensemble_of_older_weights_is_what_it_was(tmp_path, monkeypatch, by):
    """Format 1 called "local" what is "local-condition" now; keys and shapes tell them not apart."""
    monkeypatch.setenv("SRCLI_PRESETS_DIR", str(tmp_path))
    old = replace(
        TINY,
        kind="flow",
        decoder=Part("linf", {"hidden_dim": 8, "hidden": (8,), "flow_layers": 2, "ensemble": "local"}),
    )
    as_preset_file(tmp_path, old)
    path = tmp_path / "models" / "tiny.safetensors"
    save(path, network_of(old), old)
    assert load(path).network.decoder.ensemble == load("tiny").network.decoder.ensemble == "local"
    save(path, network_of(old), old, extra={"srcli_format": "1"})
    if by == "import":
        again = import_file(path, license_id="MIT", output=tmp_path / "again.safetensors").path
        assert metadata(again)["srcli_format"] == "2"
        assert load(again).network.decoder.ensemble == "local-condition"
    elif by == "folder":
        folder = import_file(path, license_id="MIT", output=tmp_path / "again").path
        index = json.loads((folder / "model_index.json").read_text())
        assert index["preset"]["decoder"]["ensemble"] == "local-condition"
        index["preset"]["decoder"]["ensemble"] = "local"
        del index["srcli_format"]
        (folder / "model_index.json").write_text(json.dumps(index))
        back = import_file(folder, license_id="MIT", output=tmp_path / "back.safetensors").path
        assert load(back).network.decoder.ensemble == "local-condition"
    else:
        named = {"file": path, "name": "tiny", "preset": load_preset("tiny")}[by]
        assert load(named).network.decoder.ensemble == "local-condition"


# --- published files ----------------------------------------------------------------------------------------------


def nestings(state: dict[str, torch.Tensor]) -> dict[str, object]:
    optimiser = {"name": "adam", "args": {"lr": 1e-4}, "sd": {"state": {}, "param_groups": []}}
    return {
        "liif family": {
            "model": {"name": "x", "args": {"n": 1}, "sd": state},
            "optimizer": optimiser,
            "epoch": 7,
        },
        "several gpus": {
            "model": {"name": "x", "args": {}, "sd": {f"module.{k}": v for k, v in state.items()}}
        },
        "mmcv": {"meta": {"iter": 3}, "state_dict": {f"generator.{k}": v for k, v in state.items()}},
        "basicsr": {"params": {"other": torch.zeros(1)}, "params_ema": state},
        "bare": state,
    }


@pytest.mark.parametrize("kind", list(nestings({})))
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_published_layouts_give_the_same_tensors(tmp_path, kind, zipped):
    state = official(network_of(LIIF))
    path = tmp_path / "x.pth"
    torch.save(nestings(state)[kind], path, _use_new_zipfile_serialization=zipped)
    checkpoint = read_foreign(path)
    assert checkpoint.state.keys() == state.keys()
    assert all(torch.equal(checkpoint.state[key], value) for key, value in state.items())
    assert checkpoint.name == ("x" if kind in ("liif family", "several gpus") else None)
    assert dict(checkpoint.args) == ({"n": 1} if kind == "liif family" else {})


def test_half_precision_releases_are_read_as_fp32():
    checkpoint = unwrap({"state_dict": {"a": torch.ones(2).half(), "steps": torch.tensor(3)}}, "x")
    assert checkpoint.state["a"].dtype == torch.float32
    assert checkpoint.state["steps"].dtype == torch.int64


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, [1, 2], {"model": {"sd": {}}}, "text"])
def test_a_file_without_weights_is_refused(content):
    with pytest.raises(WeightsError, match="no weights"):
        unwrap(content, "x.pth")


IN_PARTS = [each for each in list_presets() if each.generator is None or each.generator.name in GENERATORS]


@pytest.mark.parametrize("preset", IN_PARTS, ids=lambda preset: preset.name)
def test_a_release_is_known_by_its_keys_whatever_it_calls_itself(preset):
    keys = {key.removeprefix("decoder."): shape for key, shape in network_shapes(preset).items()}
    checkpoint = Checkpoint(
        {k: torch.empty(shape, device="meta") for k, shape in keys.items()}, name="swinir"
    )
    same = [each for each in IN_PARTS if (each.encoder, each.decoder) == (preset.encoder, preset.decoder)]
    same = [each for each in same if not is_bundled(each)] or same  # those wait for no file
    if len(same) > 1:
        with pytest.raises(WeightsError, match=", ".join(each.name for each in same)):
            identify(checkpoint, "x.pth")
    else:
        assert identify(checkpoint, "x.pth") == same[0]


def test_published_key_names_load_into_liif():
    """A few names and shapes as the LIIF authors' releases have them."""
    keys = {
        k.removeprefix("decoder."): v for k, v in network_shapes(load_preset("edsr-baseline-liif")).items()
    }
    assert keys["encoder.sub_mean.weight"] == (3, 3, 1, 1)
    assert keys["encoder.head.0.weight"] == (64, 3, 3, 3)
    assert keys["encoder.body.15.body.2.bias"] == (64,)
    assert keys["encoder.body.16.weight"] == (64, 64, 3, 3)
    assert keys["imnet.layers.0.weight"] == (256, 580)
    assert keys["imnet.layers.8.weight"] == (3, 256)


def test_a_checkpoint_of_no_preset_names_what_differs(tmp_path):
    path = tmp_path / "x.pth"
    torch.save({"model": {"name": "liif", "args": {}, "sd": official(network_of(LIIF))}}, path)
    with pytest.raises(WeightsError, match=r"'liif'.*fits no preset"):
        import_file(path, license_id="MIT")
    with pytest.raises(WeightsError, match=r"encoder\.body\.1\.body\.0\.weight"):
        import_file(path, preset="edsr-baseline-liif", license_id="MIT")


def test_import_makes_a_model_that_loads_by_name(tmp_path, monkeypatch):
    monkeypatch.setenv("SRCLI_PRESETS_DIR", str(tmp_path))
    as_preset_file(tmp_path, LIIF)
    state = official(network_of(LIIF))
    torch.save({"model": {"name": "swinir", "args": {}, "sd": state}}, tmp_path / "epoch-last.pth")
    installed = import_file(tmp_path / "epoch-last.pth", license_id="mit")
    assert installed.path == tmp_path / "models" / "tiny-liif.safetensors"
    assert installed.named
    assert installed.preset.weights.license == "MIT"
    loaded = load("tiny-liif")
    assert loaded.sha256 == installed.sha256 == hashlib.sha256(installed.path.read_bytes()).hexdigest()
    for key, value in official(loaded.network).items():
        assert torch.equal(value, state[key])
    assert installed.sha256 in installed.path.with_suffix(".md").read_text("utf-8")
    assert "epoch-last.pth" in installed.path.with_suffix(".md").read_text("utf-8")
    with pytest.raises(ExistsError) as caught:
        import_file(tmp_path / "epoch-last.pth", license_id="MIT")
    assert caught.value.code == 6
    import_file(tmp_path / "epoch-last.pth", license_id="MIT", overwrite=True)


def test_a_switch_that_leaves_no_trace_in_the_keys_is_taken_from_the_file(tmp_path, monkeypatch):
    monkeypatch.setenv("SRCLI_PRESETS_DIR", str(tmp_path))
    as_preset_file(tmp_path, LIIF)
    args = {"local_ensemble": False, "cell_decode": True, "imnet_spec": {"name": "mlp"}}
    model = {"name": "liif", "args": args, "sd": official(network_of(LIIF))}
    torch.save({"model": model}, tmp_path / "plain.pth")
    installed = import_file(tmp_path / "plain.pth", license_id="MIT")
    assert installed.preset.decoder.args["local_ensemble"] is False
    assert installed.preset.name == "plain"  # the preset's name stands for the network with the ensemble
    assert installed.path.name == "plain.safetensors"
    assert load(installed.path).network.decoder.local_ensemble is False


def test_our_own_file_can_be_imported_again(tmp_path, monkeypatch):
    monkeypatch.setenv("SRCLI_PRESETS_DIR", str(tmp_path))
    as_preset_file(tmp_path, TINY)
    save_tiny(tmp_path / "run.safetensors")
    installed = import_file(tmp_path / "run.safetensors", license_id="CC0-1.0")
    assert installed.path == tmp_path / "models" / "tiny.safetensors"
    assert load("tiny").preset.decoder == TINY.decoder


class Bomb:
    """A pickle that creates a folder when it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def write_bomb(folder: Path, *, bare: bool) -> tuple[Path, Path]:
    path, mark = folder / "x.pth", folder / "was-here"
    content = {"state_dict": official(network_of(LIIF)), "bomb": Bomb(mark)}
    if bare:
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path)
    return path, mark


@pytest.mark.parametrize("bare", [True, False], ids=["bare pickle", "torch file"])
def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, bare):
    path, mark = write_bomb(tmp_path, bare=bare)
    refused = r"x\.pth" if bare else r"x\.pth.*run code \(\w+\.mkdir\).*--trust-pickle"
    with pytest.raises(ModelError, match=refused) as caught:
        import_file(path, preset="edsr-baseline-liif", license_id="MIT")
    assert caught.value.code == 4
    assert not mark.exists()
    with pytest.raises(ModelError, match="models import") as caught:
        load(path)
    assert caught.value.code == 4
    assert not mark.exists()


def test_trust_is_the_only_door(tmp_path):
    path, mark = write_bomb(tmp_path, bare=False)
    checkpoint = read_foreign(path, trust_pickle=True)
    assert mark.exists()
    assert checkpoint.state.keys() == official(network_of(LIIF)).keys()


@pytest.mark.parametrize(
    "content", [b"", b"no checkpoint", b"\x80\x04.", b"PK\x03\x04 truncated", b"\x80\x02}q\x00("]
)
@pytest.mark.parametrize("trust", [True, False])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path, content, trust):
    path = tmp_path / "x.pth"
    path.write_bytes(content)
    with pytest.raises(SrcliError, match=r"x\.pth") as caught:
        read_foreign(path, trust_pickle=trust)
    assert caught.value.code == 4


def test_a_legacy_file_whose_storage_is_missing_is_refused(tmp_path):
    """torch answers this damage with an AssertionError."""
    path = tmp_path / "x.pth"
    torch.save({"a": torch.zeros(2)}, path, _use_new_zipfile_serialization=False)
    whole = path.read_bytes()
    keys = sorted(re.findall(rb"\d{8,}", whole), key=whole.rindex)
    at = whole.rindex(keys[-1])
    path.write_bytes(whole[:at] + b"x" + whole[at + 1 :])
    with pytest.raises(WeightsError, match="damaged"):
        read_foreign(path)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("core", ["core", "_core"])
def test_numbers_and_settings_beside_the_weights_are_read_without_trust(tmp_path, zipped, core):
    state, path = official(network_of(LIIF)), tmp_path / "x.ckpt"
    beside = {
        "psnr": np.float64(31.5),
        "best": np.float32(3),
        "step": np.int64(7),
        "flag": np.bool_(True),
        "name": np.str_("x"),
        "curve": np.arange(3.0),
        "rng": np.random.RandomState(0).get_state(),
        "args": argparse.Namespace(lr=np.float32(1e-4), out=Path("runs"), scales=[2, 4]),
    }
    torch.save({"state_dict": state, **beside}, path, _use_new_zipfile_serialization=zipped)
    whole, here = path.read_bytes(), np.float64(0).__reduce__()[0].__module__
    assert here.startswith("numpy.")
    if not zipped:  # the module's name as the other of NumPy 1 and 2 writes it; a zip has sums of its files
        path.write_bytes(whole.replace(here.encode(), f"numpy.{core}.multiarray".encode()))
    checkpoint = read_foreign(path)
    assert all(torch.equal(checkpoint.state[key], value) for key, value in state.items())


def test_code_within_settings_is_refused_as_ever(tmp_path):
    path = tmp_path / "x.ckpt"
    torch.save({"a": torch.zeros(1), "args": argparse.Namespace(x=Bomb(tmp_path / "here"))}, path)
    with pytest.raises(ModelError, match="run code"):
        read_foreign(path)
    torch.save({"a": torch.zeros(1), "o": np.array([Bomb(tmp_path / "here")], dtype=object)}, path)
    with pytest.raises(ModelError, match=r"x\.ckpt"):
        read_foreign(path)
    assert not (tmp_path / "here").exists()


@pytest.mark.parametrize(
    "prefix", ["model.", "module.", "model.module.", "module.model._orig_mod.", "_orig_mod."]
)
def test_prefixes_of_wrappers_are_stripped(prefix):
    state = official(network_of(LIIF))
    wrapped = {f"{prefix}{key}": value for key, value in state.items()}
    assert unwrap({"state_dict": wrapped, "pytorch-lightning_version": "2"}, "x").state.keys() == state.keys()
    wrapped |= {"criterion.net.0.weight": torch.zeros(1), "lpips.lin0.weight": torch.zeros(1)}
    assert unwrap({"state_dict": wrapped}, "x").state.keys() == state.keys()


@pytest.mark.parametrize("name", ["x.pth", "x.ckpt", "x.safetensors"])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 6000000\n", "Git LFS pointer"),
        (b"<!DOCTYPE html>\n<html><body>quota</body></html>", "web page"),
        (b"\xef\xbb\xbf\n\n  <!-- x -->\n<HTML>", "web page"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "web page"),
    ],
    ids=["pointer", "page", "page with a mark", "answer of a store"],
)
def test_what_a_download_left_in_place_of_a_checkpoint_is_named(tmp_path, name, content, said):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=rf"{re.escape(name)} is a {said}") as caught:
        import_file(path, license_id="MIT")
    assert caught.value.code == 4
    if path.suffix == ".safetensors":
        with pytest.raises(WeightsError, match=f"is a {said}"):
            load(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", ["x.pth", "x.safetensors"])
def test_weights_that_are_not_numbers_are_not_imported(tmp_path, monkeypatch, value, name):
    monkeypatch.setenv("SRCLI_PRESETS_DIR", str(tmp_path))
    as_preset_file(tmp_path, TINY)
    network, path = network_of(TINY), tmp_path / name
    with torch.no_grad():
        network.decoder.mlp.layers[0].weight[0, 0] = value
    if name == "x.pth":
        torch.save(network.state_dict(), path)
    else:
        save(path, network, TINY)
    with pytest.raises(
        WeightsError, match=r"1 of \d+ tensors, such as decoder\.mlp\.layers\.0\.weight"
    ) as caught:
        import_file(path, preset="tiny", license_id="MIT")
    assert caught.value.code == 4
    assert not (tmp_path / "models").exists()


def test_a_long_reason_is_cut_between_words():
    said = first_line(ValueError("abcdefghi " * 100 + "\nmore"))
    assert len(said) <= 200
    assert set(said.removesuffix(" ..").split()) == {"abcdefghi"}


def test_a_truncated_checkpoint_is_refused(tmp_path):
    path = tmp_path / "x.pth"
    torch.save(official(network_of(LIIF)), path)
    whole = path.read_bytes()
    for share in (0.1, 0.5, 0.9, 0.99):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(WeightsError, match="damaged"):
            read_foreign(path)


@pytest.mark.parametrize(
    ("given", "kept"),
    [("mit", "MIT"), ("LicenseRef-My.Own-1", "LicenseRef-My.Own-1"), ("Unstated", "unstated")],
)
def test_a_licence_is_kept_in_its_usual_spelling(given, kept):
    assert check_license(given) == kept


@pytest.mark.parametrize("given", [None, "", "free", "LicenseRef-", "LicenseRef-a b", "MIT; rm"])
def test_an_unknown_licence_is_refused(given):
    with pytest.raises(ModelError, match="licence") as caught:
        check_license(given)
    assert caught.value.code == 4


def test_import_asks_for_a_licence_where_the_preset_states_none(tmp_path):
    preset = load_preset("edsr-baseline-blend")
    save(tmp_path / "run.safetensors", network_of(preset), replace(preset, weights=Weights()))
    with pytest.raises(ModelError, match="licence"):
        import_file(tmp_path / "run.safetensors", license_id=None)
    installed = import_file(tmp_path / "run.safetensors", preset="edsr-baseline-blend", license_id=None)
    assert installed.preset.weights.license == "Apache-2.0"
