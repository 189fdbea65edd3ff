"""Checkpoints of CiaoSR and LM-CiaoSR under the names their authors gave: known, renamed, loaded, the same picture."""

import re

import pytest
import torch

from srcli.config.presets import load_preset
from srcli.geometry import Size
from srcli.weights.checkpoint import load
from srcli.weights.convert import import_file
from srcli.weights.official import identify, network_shapes, rename, unwrap
from tests.helpers.presets import EDSR, network_of, tiny, write_preset
from tests.parity.ciaosr import NAMES

# Our names -> those of the framework that CiaoSR was made in; decoders keep theirs.
FRAMEWORK = (
    *NAMES,
    (r"^encoder\.SFENet(\d)\.", r"sfe\1."),
    (r"^encoder\.RDBs\.(\d+)\.convs\.(\d+)\.conv\.0\.", r"rdbs.\1.layers.\2.conv."),
    (r"^encoder\.RDBs\.(\d+)\.LFF\.", r"rdbs.\1.lff."),
    (r"^encoder\.GFF\.", "gff."),
    (r"^encoder\.", ""),  # SwinIR's own names
)
CIAOSR = ["edsr-baseline-ciaosr", "rdn-ciaosr", "swinir-ciaosr"]
TINY = tiny(
    "tiny-ciaosr",
    encoder={**EDSR, "n_resblocks": 16, "n_feats": 4},
    decoder={"name": "ciaosr", "hidden": [8]},
    pixels={"mean": [0.4488, 0.4371, 0.4040], "std": 1.0},
)


def framework(key: str) -> str:
    for pattern, name in FRAMEWORK:
        key = re.sub(pattern, name, key)
    return f"generator.{key}"


@pytest.mark.parametrize("name", CIAOSR)
def test_the_frameworks_checkpoints_are_known_and_renamed(name):
    shapes = network_shapes(load_preset(name))
    state = {framework(key): torch.empty(shape, device="meta") for key, shape in shapes.items()}
    assert len(state) == len(shapes)
    checkpoint = unwrap({"meta": {"iter": 1}, "state_dict": state, "optimizer": {}}, "x.pth")
    assert identify(checkpoint, "x.pth").name == name
    renamed = rename(checkpoint.state, load_preset(name))
    assert {key: tuple(value.shape) for key, value in renamed.items()} == shapes


def test_published_names_are_the_ones_expected():
    """A few names and shapes as the authors' file for EDSR has them."""
    shapes = {
        framework(key): shape for key, shape in network_shapes(load_preset("edsr-baseline-ciaosr")).items()
    }
    assert shapes["generator.conv_first.weight"] == (64, 3, 3, 3)
    assert shapes["generator.body.15.conv2.bias"] == (64,)
    assert shapes["generator.imnet_k.layers.8.weight"] == (576, 256)
    assert shapes["generator.imnet_v.layers.0.weight"] == (256, 644)
    assert shapes["generator.cs_attn.conv_match_1.0.weight"] == (32, 64, 1, 1)
    assert shapes["generator.cs_attn.escape_NaN"] == (1,)


def test_lm_ciaosrs_render_mlp_is_renamed():
    preset = load_preset("edsr-baseline-lm-ciaosr")
    shapes = network_shapes(preset)
    ours = {key: key.removeprefix("decoder.").replace("imnet.", "imnet_q.") for key in shapes}
    assert "imnet_q.layers.16.weight" in ours.values()
    state = {ours[key]: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    checkpoint = unwrap({"model": {"name": "lmciaosr", "args": {}, "sd": state}}, "x.pth")
    assert identify(checkpoint, "x.pth") == preset
    assert set(rename(checkpoint.state, preset)) == set(shapes)


def test_an_imported_checkpoint_gives_the_same_picture(tmp_path, monkeypatch):
    monkeypatch.setenv("SRCLI_MODELS_DIR", str(tmp_path / "models"))
    monkeypatch.setenv("SRCLI_PRESETS_DIR", str(tmp_path))
    table = {k: v for k, v in TINY.to_dict().items() if k in ("title", "encoder", "decoder", "pixels")}
    write_preset(tmp_path, table, TINY.name)
    network = network_of(TINY).eval()
    state = {framework(key): value for key, value in network.state_dict().items()}
    torch.save({"meta": {}, "state_dict": state}, tmp_path / "x.pth")
    import_file(tmp_path / "x.pth", license_id="CC-BY-NC-4.0")
    loaded = load("tiny-ciaosr")
    assert (loaded.preset.encoder, loaded.preset.decoder) == (TINY.encoder, TINY.decoder)
    lr = torch.rand(1, 3, 7, 9)
    with torch.no_grad():
        assert torch.equal(loaded.network.render(lr, Size(15, 20)), network.render(lr, Size(15, 20)))
