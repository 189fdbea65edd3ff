"""A network in other programs: what onnxruntime and torch.export give is what the engine gives."""

import itertools
import warnings

import numpy as np
import pytest
import torch

from srcli.config.presets import load_preset
from srcli.engine import export as exports
from srcli.engine.export import compared, export
from srcli.engine.upscaler import Upscaler
from srcli.errors import CheckError, UsageError
from srcli.geometry import Axis, Box, Grid, Size, output_size
from srcli.models.layers import bicubic_grid
from srcli.models.limiter import Limiter
from srcli.models.traced import TracedAxis, TracedGrid
from srcli.weights.build import build
from tests.helpers.presets import TINY, write_preset

SMALL_RLFN = {"name": "rlfn", "n_feats": 8, "n_blocks": 1, "attention": 4}
NETWORKS = {
    "two bodies": (SMALL_RLFN | {"small_blocks": 1}, {"name": "native"}),
    "blend": (TINY["encoder"], TINY["decoder"]),
    "liif": (TINY["encoder"], {"name": "liif", "hidden": [8]}),
    "lte": (TINY["encoder"], {"name": "lte", "hidden_dim": 8, "hidden": [8]}),
    "on native": (SMALL_RLFN, {"name": "blend", "width": 8, "hidden": [8], "skip": "native"}),
}
PLACES = [
    (9, 31, 0, 31, 0),
    (17, 40, 12, 39, 1),
    (60, 25, 0, 25, 0),
    (50, 201, 120, 201, 28),
    (7, 28, 0, 28, 0),
]


def upscaler(tmp_path, name, **more):
    encoder, decoder = NETWORKS[name]
    table = {
        "title": "Tiny",
        "encoder": encoder,
        "decoder": decoder,
        "engine": {"limit": True, "cell_clip": 4},
        **more,
    }
    preset = load_preset(write_preset(tmp_path, table))
    torch.manual_seed(1)
    network = build(preset)
    for each in network.parameters():
        each.data = each.data + 0.02 * torch.randn_like(each)  # factors that begin at nothing, too
    return Upscaler(network, preset, device="cpu", precision="fp32")


def traced(lr, hr, start, stop, origin):
    return TracedAxis(*map(torch.tensor, (lr, hr, start)), stop - start, torch.tensor(origin))


@pytest.mark.parametrize("place", PLACES)
def test_tables_of_traced_axes_are_those_of_axes(place):
    axis, other = Axis(*place), traced(*place)
    assert np.array_equal(axis.centres, other.centres)
    for name in ("neighbours", "nearest", "lerp"):
        for wanted, found in zip(getattr(axis, name)(), getattr(other, name)(), strict=True):
            assert np.array_equal(wanted, found), name
    picture = torch.rand(1, 3, 4 * axis.lr, 4 * axis.lr)[:, :, 4 * place[4] :, 4 * place[4] :]
    same = bicubic_grid(picture, Grid(axis, axis), 4) - bicubic_grid(picture, TracedGrid(other, other), 4)
    assert same.abs().max() < 2e-6


class Limited(torch.nn.Module):
    limit = Limiter((0, 0, 0), (1, 1, 1))

    def forward(self, phases, lr):
        return self.limit(phases, lr)


def test_the_limiter_without_branches_is_the_limiter():
    given = torch.randn(1, 48, 30, 41), torch.from_numpy(exports._picture(Size(30, 41)))
    program = torch.export.export(Limited(), given).module()
    assert torch.allclose(program(*given), Limited()(*given), atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "apart"), [*itertools.product(NETWORKS, (False, True))])
def test_onnxruntime_gives_what_the_engine_gives(tmp_path, name, apart):
    onnxruntime, onnx = pytest.importorskip("onnxruntime"), pytest.importorskip("onnx")
    sr = upscaler(tmp_path, name)
    paths = export(sr, tmp_path / "model.onnx", apart=apart).paths
    assert sorted(tmp_path.glob("*.onnx")) == sorted(paths)
    sessions = {
        each.name.removeprefix("model").removesuffix(".onnx"): onnxruntime.InferenceSession(each)
        for each in paths
    }
    said = sessions[".decoder" if apart else ""].get_modelmeta().custom_metadata_map
    assert said["model"] == "tiny"
    assert {each.version for each in onnx.load(paths[0]).opset_import if not each.domain} == {18}
    if apart:
        return
    for sides, scale in (((2, 5), 3.7), ((12, 9), 2.25), ((33, 20), 1.0), ((16, 17), 0.6), ((8, 8), 7.9)):
        lr = torch.rand(1, 3, *sides)
        target = output_size(Size(*sides), scale)
        (found,) = sessions[""].run(None, {"image": lr.numpy(), "size": np.array(target)})
        assert found.shape == (1, 3, *target)
        assert np.abs(found - sr.upscale(lr, size=target).numpy()).max() < 1e-4, (sides, scale)


@pytest.mark.slow
def test_a_program_of_torch_export_is_loaded_without_srcli_and_gives_the_same(tmp_path):
    sr = upscaler(tmp_path, "two bodies")
    (path,) = export(sr, tmp_path / "model.pt2").paths
    call, lr = torch.export.load(path).module(), torch.rand(1, 3, 31, 34)
    found = call(image=lr, size=torch.tensor([50, 78]))
    assert torch.allclose(found, sr.upscale(lr, size=(50, 78)), atol=1e-4)


@pytest.mark.slow
def test_eight_bits_are_near(tmp_path):
    pytest.importorskip("onnxruntime")
    sr = upscaler(tmp_path, "two bodies")
    done = export(sr, tmp_path / "model.onnx", int8=True)
    assert 25 < done.psnr < 80


@pytest.mark.parametrize(
    ("decoder", "why"),
    [
        ({"name": "hiif"}, "whole picture"),
        pytest.param({"name": "metasr"}, "torch.export", marks=pytest.mark.slow),
    ],
)
def test_what_cannot_be_exported_is_refused_and_nothing_is_written(tmp_path, decoder, why, monkeypatch):
    monkeypatch.setitem(NETWORKS, "other", (TINY["encoder"], decoder))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(UsageError, match=f"cannot be exported.*{why}"):
            export(upscaler(tmp_path, "other"), tmp_path / "model.pt2")
    assert not list(tmp_path.glob("*.pt2"))
    assert not list(tmp_path.glob(".srcli*"))


def test_what_differs_is_not_written(tmp_path, monkeypatch):
    sr = upscaler(tmp_path, "blend")
    monkeypatch.setattr(
        exports, "_traced", lambda *_: lambda given: np.zeros((1, 3, *given["size"]), np.float32)
    )
    with pytest.raises(CheckError, match="differ"):
        export(sr, tmp_path / "model.pt2")
    assert not list(tmp_path.glob("*.pt2"))


def test_the_comparison_covers_boxes_of_parts(tmp_path):
    """Parts are called as other programs would, with boxes from the engine's own decoder."""
    sr = upscaler(tmp_path, "blend")
    network, asked = sr.network, []

    def decoder(given):
        asked.append(given["corner"])
        (left, top), feat = given["corner"][::-1], torch.from_numpy(given["features"])
        from srcli.models.sr import Frame, pixel_cell

        whole, size, box = (
            Size(*map(int, given["whole"])),
            Size(*map(int, given["size"])),
            Box(*map(int, given["box"])),
        )
        cell = pixel_cell(whole, size, cell_clip=4)
        mean, std = (torch.tensor(each).reshape(1, 3, 1, 1) for each in sr.preset.mean_std)
        with torch.no_grad():
            lr = (torch.from_numpy(given["image"]) - mean) / std
            prepared = network.decoder.prepare(feat, lr, Frame(whole, Box(0, 0, *whole), cell, size))
            out = (
                network.decoder.render(prepared, Grid.of(whole, size, box, (int(top), int(left)))) * std
                + mean
            )
        return out.clamp(0, 1).numpy()

    def encoder(given):
        with torch.no_grad():
            return exports._parts(sr)[0]["encoder"](torch.from_numpy(given["image"])).numpy()

    difference, psnr = compared(sr, {"encoder": encoder, "decoder": decoder})
    assert difference < 1e-5
    assert psnr > 90
    assert {tuple(each) for each in asked} > {(0, 0)}
