"""Decoders that look at everything: CiaoSR's and HIIF's own protocols, and the engine's bands and tiles."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from srcli.engine.tiling import averaged_rows, tile_starts
from srcli.errors import UsageError
from srcli.geometry import Box, Size
from srcli.models.sr import Tiling
from tests.helpers.presets import EDSR, tiny_engine
from tests.helpers.presets import noise_picture as photo
from tests.helpers.rendering import render, rows, upscaled

SWINIR = {"name": "swinir", "embed_dim": 12, "depths": [2], "n_heads": 2, "out_channels": 0, "crop": True}
CIAOSR = {"name": "ciaosr", "hidden": [16], "tile": 12, "overlap": 5}
HIIF = {"name": "hiif", "hidden_dim": 12, "levels": 3, "n_heads": 3}
LM_CIAOSR = {"name": "lm-ciaosr", "hidden": 16, "depth": 2, "width": 8, "latent": 16, "window": 8}


def upscaler(decoder, encoder=EDSR, **options):
    return tiny_engine(encoder=encoder, decoder=decoder, **options)


def rendered(sr, lr, target):
    """The network's answer for an image or a tile, on its own."""
    with torch.inference_mode():
        return sr.network.render((lr - 0.5) / 0.5, target) * 0.5 + 0.5


@pytest.mark.parametrize("decoder", [CIAOSR, HIIF, LM_CIAOSR], ids=lambda d: d["name"])
def test_tiles_do_not_matter_to_a_decoder_of_the_whole(decoder):
    lr, target = photo(21, 17), Size(67, 48)
    sr = upscaler(decoder, tile="none")
    expected = rendered(sr, lr, target).clamp(0, 1)
    for tile in ("none", 8):
        part = upscaler(decoder, tile=tile)
        sr, stats = render(part, lr, target)
        sr = torch.from_numpy(sr).permute(2, 0, 1)[None].clamp(0, 1)
        torch.testing.assert_close(sr, expected, atol=2e-5, rtol=0)
        assert stats.notes == [part.network.decoder.note]


@pytest.mark.parametrize(("h", "w"), [(31, 17), (12, 12), (9, 30), (13, 26)])
def test_tiles_apart_are_images_of_their_own_averaged(h, w):
    lr, scale = photo(h, w), 3
    sr = upscaler(CIAOSR | {"protocol": "official"})
    side = min(12, h, w)
    total, count = torch.zeros(1, 3, h * scale, w * scale), torch.zeros(h * scale, w * scale)
    for top in [*range(0, h - side, side - 5), h - side]:
        for left in [*range(0, w - side, side - 5), w - side]:
            tile = lr[..., top : top + side, left : left + side]
            at = [slice(start * scale, (start + side) * scale) for start in (top, left)]
            total[..., *at] += rendered(sr, tile, Size(side * scale, side * scale))
            count[*at] += 1
    found, stats = upscaled(sr, lr, scale)
    torch.testing.assert_close(found, (total / count).clamp(0, 1), atol=2e-6, rtol=0)
    assert stats.tile == (side, side)
    assert "decoded in tiles of 12" in stats.notes[0]
    if stats.tiles > 1:
        whole = upscaler(CIAOSR).upscale(lr, scale)
        assert (found - whole).abs().max() > 1e-4


@pytest.mark.parametrize("target", [Size(50, 51), Size(40, 60), Size(10, 10)])
def test_tiles_apart_need_a_whole_scale(target):
    with pytest.raises(UsageError, match="whole-number"):
        upscaler(CIAOSR | {"protocol": "official"}).upscale(photo(20, 20), size=target)


def test_tiles_apart_report_their_progress_and_serve_tiny_images():
    sr, shares = upscaler(CIAOSR | {"protocol": "official"}, SWINIR), []
    rows(sr, photo(30, 14), Size(60, 28), report=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert len(shares) > 2
    assert sr.upscale(photo(2, 3), 2).shape == (1, 3, 4, 6)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(2, 20), st.integers(0, 10), st.integers(1, 3))
def test_rows_of_tiles_are_the_average_of_all_tiles(h, w, side, overlap, scale):
    def enlarge(box):
        rng = np.random.default_rng([box.top, box.left])
        return torch.from_numpy(rng.random((box.size.h * scale, box.size.w * scale, 3), dtype=np.float32))

    tiling = Tiling(side, overlap)
    used, tops, lefts = tile_starts(Size(h, w), tiling)
    assert used == min(side, h, w)
    assert len(tops) <= math.ceil(h / max(1, used - overlap)) + h  # no endless overlaps
    total, count = torch.zeros(h * scale, w * scale, 3), torch.zeros(h * scale, w * scale, 1)
    for top in tops:
        for left in lefts:
            at = [slice(start * scale, (start + used) * scale) for start in (top, left)]
            total[*at] += enlarge(Box(top, left, top + used, left + used))
            count[*at] += 1
    assert count.min() >= 1
    rows = torch.cat(list(averaged_rows(enlarge, Size(h, w), scale, tiling)))
    torch.testing.assert_close(rows, total / count, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(("h", "w"), [(13, 18), (16, 9), (24, 24)])
def test_a_cropped_encoder_sees_the_image_reflected_without_its_edge(h, w):
    lr, target = photo(h, w), Size(2 * h, 2 * w)
    sr = upscaler(CIAOSR, SWINIR, tile="none")
    expected = rendered(sr, lr, target)  # reflected by the encoder itself
    torch.testing.assert_close(sr.upscale(lr, size=target), expected.clamp(0, 1), atol=2e-5, rtol=0)


def test_an_image_smaller_than_a_window_is_reflected_as_often_as_it_takes():
    for h, w in ((1, 1), (3, 2), (1, 20)):
        assert upscaler(CIAOSR, SWINIR).upscale(photo(h, w), 2).isfinite().all()
