"""The engine: tiles do not show, failures are handled, memory is bounded."""

import json
import warnings
from copy import deepcopy

import numpy as np
import pytest
import torch

from srcli.config.presets import parse_preset
from srcli.engine.device import to_numpy
from srcli.engine.normalised_image import TensorSource
from srcli.engine.request import RenderRequest
from srcli.engine.upscaler import Upscaler
from srcli.errors import ModelError, ResourceError, UsageError
from srcli.geometry import Size
from srcli.image.samples import quantise
from srcli.models.sr import Encoder
from tests.helpers.presets import WIDE, network_of, tiny
from tests.helpers.presets import noise_picture as photo
from tests.helpers.rendering import rows, upscaled

PRESET = tiny(encoder=WIDE)


@pytest.fixture(scope="module")
def network():
    return network_of(PRESET, 3)


@pytest.fixture
def copy(network):
    """The same network, to be broken."""
    return deepcopy(network)


def upscaler(network, **options):
    return Upscaler(network, PRESET, device="cpu", **options)


@pytest.mark.parametrize(
    ("told", "precision"),
    [
        ({"db_lost": 0.01, "samples_off": 0.001}, "bf16"),
        ({"db_lost": 0.011, "samples_off": 0.0}, "fp32"),
        ({"db_lost": 0.011, "samples_off": 0.1, "accepted": True}, "bf16"),
        ({"db_lost": -0.1, "samples_off": 0.0011}, "fp32"),
        (True, "fp32"),  # of older files: nobody measured it
        (None, "fp32"),
    ],
)
@pytest.mark.parametrize("instructions", [True, False])
def test_a_cpu_computes_in_bf16_what_is_known_to_bear_it(network, monkeypatch, told, precision, instructions):
    table = PRESET.to_dict()
    if told is not None:
        table["engine"] = {**table.get("engine", {}), "cpu_bf16": told}
    preset = parse_preset(table, name="tiny")
    monkeypatch.setattr("srcli.engine.device._cpu_computes_bf16", lambda: instructions)
    known = precision if instructions else "fp32"
    assert Upscaler(network, preset, device="cpu").precision == known
    assert parse_preset(json.loads(preset.to_json()), name="tiny") == preset
    assert Upscaler(network, preset, device="cpu", precision="bf16").precision == "bf16"


def test_tiles_take_what_the_preset_says_that_they_take(network):
    stated = {"cost": {"memory": [30, 20_000]}, "engine": {"tile_memory": 100}}
    engine = Upscaler(network, parse_preset(PRESET.to_dict() | stated, name="tiny"), device="cpu")
    picture = Size(200, 300)
    tile, halo = engine.tile_for(picture), engine.halo
    read = min(tile.h + 2 * halo, picture.h) * min(tile.w + 2 * halo, picture.w)
    assert 50_000_000 < read * 20_000 <= 100_000_000
    assert upscaler(network).tile_for(picture) == picture


def test_bytes_from_the_device_are_those_of_the_image_package(network):
    engine = upscaler(network)
    lr = photo(20, 30) * 1.5 - 0.25  # beyond black and white too
    floats = rows(engine, lr, Size(61, 77))
    rounded = rows(engine, lr, Size(61, 77), as_bytes=True)
    assert rounded.dtype == np.uint8
    assert np.array_equal(rounded, quantise(floats, "8"))
    halves = np.arange(0, 256, dtype=np.float32)[:-1, None] / 255 + np.float32(0.5 / 255)
    assert np.array_equal(to_numpy(torch.from_numpy(halves), as_bytes=True), quantise(halves, "8"))


@pytest.mark.parametrize("scale", [0.7, 1, 1.7, 3, 4.3, 8.01, (2.5, 4.0)])
def test_tile_size_never_changes_a_bit(network, scale):
    lr = photo(61, 83)
    whole = upscaler(network, tile="none").upscale(lr, scale)
    for tile in (8, 24, 48, "auto"):
        assert torch.equal(upscaler(network, tile=tile).upscale(lr, scale), whole)


def test_engine_equals_one_call_of_the_network(network):
    lr = photo(40, 37)
    for target in (Size(100, 111), Size(13, 300)):
        with torch.inference_mode():
            whole = (network.render((lr - 0.5) / 0.5, target) * 0.5 + 0.5).clamp(0, 1)
        torch.testing.assert_close(
            upscaler(network).upscale(lr, size=target), whole, atol=2e-6, rtol=0
        )  # NCHW and channels_last sum in another order


def test_bands_come_from_top_to_bottom_and_are_small(network):
    source, shares = TensorSource(photo(300, 400)), []
    strips = list(
        upscaler(network).upscale_rows(source, Size(330, 400), RenderRequest(report=shares.append)).rows
    )
    assert len(strips) > 3
    assert sum(len(strip) for strip in strips) == 330
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_half_precision_nan_is_computed_again_in_fp32_with_one_warning(network, copy):
    class Fragile(Encoder):
        out_dim, halo = 16, 4

        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, x):
            out = self.inner(x)
            return out * float("nan") if torch.is_autocast_enabled("cpu") else out

    copy.encoder = Fragile(copy.encoder)
    lr = photo(40, 40)
    sr = upscaler(copy, precision="bf16", tile=16)
    with pytest.warns(RuntimeWarning, match="computed in fp32") as caught:
        result, stats = upscaled(sr, lr, 2)
    assert len(caught) == 1
    assert stats.fp32_fallbacks == 9
    assert torch.isfinite(result).all()
    assert (result - upscaler(network).upscale(lr, 2)).abs().max() < 0.02  # the decoder still ran in bf16


def test_weights_that_give_nan_in_fp32_are_an_error(copy):
    with torch.no_grad():
        copy.encoder.head[0].weight.fill_(float("nan"))
    with pytest.raises(ModelError, match="damaged"):
        upscaler(copy).upscale(photo(20, 20), 2)


def test_out_of_memory_halves_the_tile_and_changes_nothing(copy):
    most = [1 << 20]

    def forbid(_, given):
        if given[0][0, 0].numel() > most[0]:
            raise torch.OutOfMemoryError("no memory")

    copy.encoder.register_forward_pre_hook(forbid)
    lr, sr = photo(100, 90), upscaler(copy, tile="none")
    whole = sr.upscale(lr, 2)
    most[0] = 60 * 60
    halved, stats = upscaled(sr, lr, 2)
    assert torch.equal(halved, whole)
    assert stats.tile_retries > 0
    most[0] = 0
    with pytest.raises(ResourceError, match="Out of memory"):
        sr.upscale(lr, 2)


def test_unknown_devices_precisions_and_tiles_are_refused(network):
    with pytest.raises(UsageError, match="cuda"):
        Upscaler(network, PRESET, device="cudda")
    with pytest.raises(UsageError, match="bf16"):
        upscaler(network, precision="bf17")
    for tile in ("7", "-3", "big"):
        with pytest.raises(UsageError, match="--tile"):
            upscaler(network, tile=tile)
    if not torch.cuda.is_available():
        with pytest.raises(ResourceError, match="cuda"):
            Upscaler(network, PRESET, device="cuda")


def test_nothing_warns_in_ordinary_use(network):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert upscaler(network).upscale(photo(20, 22), 2.5).shape == (1, 3, 50, 55)


def test_a_halo_below_the_exact_one_is_said_and_stays_close(network):
    short = tiny("short", encoder=WIDE, engine={"halo": 2})
    lr = photo(96, 96)
    whole, cut = (Upscaler(network, short, device="cpu", tile=t) for t in ("none", 48))
    (exact, about), (near, about_tiles) = upscaled(whole, lr, 2), upscaled(cut, lr, 2)
    assert 0 < (exact - near).abs().max() < 0.1
    assert about.notes == []
    assert "2 LR pixels of context" in about_tiles.notes[0]


def test_a_decoder_that_is_not_local_is_prepared_once_for_the_whole_image(network, copy):
    lr = photo(200, 180)  # two bands
    local = upscaler(network).upscale(lr, 1.1)
    copy.decoder.local = False
    calls, prepare = [], copy.decoder.prepare
    copy.decoder.prepare = lambda *a: calls.append(a[2].box) or prepare(*a)
    torch.testing.assert_close(upscaler(copy).upscale(lr, 1.1), local, atol=1e-6, rtol=0)
    assert calls == [(0, 0, 200, 180)]
