"""Controllable multi-scale rendering: levels chosen, rendered and joined as the text says; tables built likewise."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F

from srcli.errors import UsageError
from srcli.geometry import Axis, Box, Grid, Size, output_size
from srcli.models.decoders import DECODERS
from srcli.models.sr import Frame, pixel_cell
from tests.reference import cmsr
from tests.reference.cmsr import build_table, choose_table, levels_of, multiscale_halo, render_multiscale
from tests.reference.lmf import latent_map, plain
from tests.reference.sampling import nearest, queries

DIM = 5
every_decoder = pytest.mark.parametrize("name", ["lm-liif", "lm-lte"])
X6 = ((1, 0.40), (1.5, 0.46), (2, 0.53), (4, 0.62), (6, 1))  # intensities of these networks are 0.3 to 0.8


def build(name):
    torch.manual_seed(1)
    decoder = DECODERS[name](in_dim=DIM, depth=2, width=8, latent=12)
    with torch.no_grad():
        for parameter in decoder.parameters():
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 100
            parameter.normal_(0, 1 / fan_in**0.5)
    return decoder


def inputs(h, w, batch=1):
    torch.manual_seed(2)
    return torch.randn(batch, DIM, h, w), torch.randn(batch, 3, h, w)


def prepare(decoder, feat, lr, target):
    return decoder.prepare(feat, lr, Frame.of_grid(lr, target, cell_clip=4))


def slowly(decoder, feat, lr, target, table):
    """Every level in full, every pixel chosen on its own."""
    size = Size(*lr.shape[-2:])
    cell = pixel_cell(size, target, cell_clip=4)
    units = decoder.depth * decoder.width
    shifts = latent_map(decoder, feat, cell.expand(len(lr), 2))[:, units : 2 * units]
    scale = math.sqrt(target.h * target.w / (size.h * size.w))
    levels = [level for level, _ in table if level < scale]
    thresholds = [threshold for level, threshold in table if level < scale]
    if not levels or thresholds[-1] < 1:
        levels, thresholds = [*levels, scale], [*thresholds, 1]
    sr, counts = lr, []
    for k, level in enumerate(levels):
        per_axis = tuple(min(level, whole / part) for whole, part in zip(target, size, strict=True))
        small = output_size(size, per_axis) if level < scale else target
        coord = queries(*small).expand(len(lr), -1, -1)
        cell_here = pixel_cell(size, small, cell_clip=4)
        full = plain(decoder, feat, lr, coord, cell.expand(len(lr), 2), cell_here)
        mu = nearest(shifts.abs().mean(1, keepdim=True), coord)[..., 0]
        ours = torch.ones_like(mu, dtype=torch.bool)
        if k > 0:
            ours &= mu >= thresholds[k - 1]
        if k < len(levels) - 1:
            ours &= mu <= thresholds[k]
        counts.append(int(ours.sum()))
        sr = F.interpolate(sr, size=tuple(small), mode="bilinear", align_corners=False)
        full = full.transpose(1, 2).reshape(sr.shape)
        sr = torch.where(ours.reshape(len(lr), 1, *small), full, sr)
    return F.interpolate(sr, size=tuple(target), mode="bilinear", align_corners=False), counts


@every_decoder
@pytest.mark.parametrize("dense", [0.0, 1.0])
@pytest.mark.parametrize("scale", [1, 3.3, 6, 7.7, (2.5, 9.0)])
def test_levels_give_what_the_slow_form_gives(name, scale, dense, monkeypatch):
    monkeypatch.setattr(cmsr, "DENSE", dense)
    decoder, size = build(name), Size(7, 6)
    feat, lr = inputs(*size, batch=2)
    target = output_size(size, scale)
    with torch.no_grad():
        expected, counts = slowly(decoder, feat, lr, target, X6)
        sr = render_multiscale(decoder, prepare(decoder, feat, lr, target), Grid.of(size, target), X6)
    assert min(counts) > 0
    torch.testing.assert_close(sr, expected, atol=1e-5 * max(1, float(expected.std())), rtol=0)


@every_decoder
def test_a_capped_table_never_renders_above_its_last_level(name):
    decoder, size, target = build(name), Size(7, 6), Size(56, 48)
    feat, lr = inputs(*size)
    table = ((1, 0.40), (2, 1), (8, 1))
    with torch.no_grad():
        expected, counts = slowly(decoder, feat, lr, target, table)
        sr = render_multiscale(decoder, prepare(decoder, feat, lr, target), Grid.of(size, target), table)
    assert len(counts) == 2
    torch.testing.assert_close(sr, expected, atol=1e-5 * max(1, float(expected.std())), rtol=0)


@every_decoder
def test_without_levels_the_full_rendering_is_left(name):
    decoder, size, target = build(name), Size(6, 5), Size(27, 31)
    feat, lr = inputs(*size)
    grid = Grid.of(size, target)
    with torch.no_grad():
        prepared = prepare(decoder, feat, lr, target)
        sr, full = render_multiscale(decoder, prepared, grid, ()), decoder.render(prepared, grid)
    torch.testing.assert_close(sr, full, atol=1e-6, rtol=0)


@every_decoder
@pytest.mark.parametrize("scale", [6, (4.3, 7.1)])
def test_bands_and_boxes_of_the_image_render_as_the_whole(name, scale):
    decoder = build(name)
    h, w = size = Size(23, 21)
    feat, lr = inputs(*size)
    target = output_size(size, scale)
    frame = Frame.of_grid(lr, target, cell_clip=4)
    with torch.no_grad():
        whole = render_multiscale(decoder, decoder.prepare(feat, lr, frame), Grid.of(size, target), X6)
        for box in (Box(0, 0, 30, target.w), Box(40, 33, 71, target.w - 35), Box(target.h - 31, 0, *target)):
            halo = multiscale_halo(decoder, levels_of(X6, 5))
            top, bottom = Axis(h, target.h, box.top, box.bottom).source(halo)
            left, right = Axis(w, target.w, box.left, box.right).source(halo)
            seen = (..., slice(top, bottom), slice(left, right))
            part = Frame(size, Box(top, left, bottom, right), frame.cell, target)
            prepared = decoder.prepare(feat[seen], lr[seen], part)
            grid = Grid.of(size, target, box, origin=(top, left))
            rendered = render_multiscale(decoder, prepared, grid, X6)
            torch.testing.assert_close(rendered, whole[..., *box.slices], atol=5e-6, rtol=1e-6)


def test_the_table_is_that_of_the_next_larger_scale():
    tables = {"12": ((1, 0.3),), "6": ((1, 0.2),), "8": ((1, 0.1),)}
    chosen = {scale: choose_table(tables, scale)[0][1] for scale in (2, 6, 6.01, 8, 11, 12, 40)}
    assert chosen == {2: 0.2, 6: 0.2, 6.01: 0.1, 8: 0.1, 11: 0.3, 12: 0.3, 40: 0.3}


def test_levels_share_the_intensities_without_a_gap():
    levels = levels_of(((1, 0.3), (2, 0.4), (4, 0.5), (6, 1)), 5)
    assert [level.scale for level in levels] == [1, 2, 4, 5]
    assert levels[0].low == -math.inf
    assert levels[-1].high == math.inf
    assert [level.high for level in levels[:-1]] == [level.low for level in levels[1:]] == [0.3, 0.4, 0.5]


@every_decoder
def test_the_authors_protocol_equals_ours_away_from_the_border(name):
    decoder, size, target = build(name), Size(9, 8), Size(54, 48)
    feat, lr = inputs(*size)
    grid = Grid.of(size, target)
    with torch.no_grad():
        prepared = prepare(decoder, feat, lr, target)
        table = [
            step for step in X6 if step[0] != 1.5
        ]  # at 1.5 pixels lie between LR pixels: rounding decides
        ours = render_multiscale(decoder, prepared, grid, table)
        theirs = render_multiscale(decoder, prepared, grid, table, protocol="official")
        full = decoder.render(prepared, grid)
    inner = (..., slice(12, -12), slice(12, -12))
    torch.testing.assert_close(theirs[inner], ours[inner], atol=2e-4, rtol=0)
    assert (theirs - ours).abs().max() > 1e-2  # queries beyond the outer centres read the border
    assert (ours - full)[inner].abs().max() > 1e-2


def test_the_authors_protocol_renders_in_full_up_to_scale_4():
    decoder, size, target = build("lm-liif"), Size(6, 5), Size(24, 20)
    feat, lr = inputs(*size)
    grid = Grid.of(size, target)
    with torch.no_grad():
        prepared = prepare(decoder, feat, lr, target)
        sr = render_multiscale(decoder, prepared, grid, X6, protocol="official")
        assert torch.equal(sr, decoder.render(prepared, grid))


@pytest.mark.parametrize(
    ("target", "box", "message"),
    [(Size(33, 31), None, "33 x 31"), (Size(36, 30), Box(0, 0, 20, 30), "whole image")],
)
def test_the_authors_protocol_refuses_what_their_code_cannot_render(target, box, message):
    decoder, size = build("lm-liif"), Size(6, 5)
    feat, lr = inputs(*size)
    prepared = prepare(decoder, feat, lr, target)
    with pytest.raises(UsageError, match=message):
        render_multiscale(decoder, prepared, Grid.of(size, target, box), X6, protocol="official")


def limits_slowly(decoder, feat, lr, scale, levels, candidates, mse, width):
    """One image's limit for each level, candidate by candidate."""
    size = Size(*lr.shape[-2:])
    target = output_size(size, scale)
    cell = pixel_cell(size, target, cell_clip=4)
    full = plain(decoder, feat, lr, queries(*target), cell)[0]
    units = decoder.depth * decoder.width
    mu = nearest(latent_map(decoder, feat, cell)[:, units : 2 * units].abs().mean(1, True), queries(*target))[
        0, :, 0
    ]
    waiting, settled, limits = list(candidates), 0.0, []
    for level in levels:
        small = output_size(size, level)
        coarse = plain(decoder, feat, lr, queries(*small), cell, pixel_cell(size, small, cell_clip=4))
        coarse = coarse.transpose(1, 2).reshape(1, 3, *small)
        enlarged = (
            F.interpolate(coarse, size=tuple(target), mode="bilinear", align_corners=False)[0].flatten(1).T
        )
        limit = 1.0
        for candidate in list(waiting):
            pixels = (mu - candidate).abs() <= width
            if not pixels.any():
                continue
            if F.mse_loss(enlarged[pixels], full[pixels]) > mse:
                limit = settled
                break
            settled = candidate
            waiting.remove(candidate)
        limits.append(limit)
    return limits


@every_decoder
def test_a_table_holds_the_lowest_limits_of_the_images(name):
    decoder, levels = build(name), (1, 2, 3)
    torch.manual_seed(3)
    smooth = [torch.randn(1, DIM, 2, 2), torch.randn(1, DIM, 3, 2), torch.randn(1, DIM, 2, 3)]
    images = [
        (F.interpolate(maps, size=(12, 11), mode="bicubic"), torch.randn(1, 3, 12, 11)) for maps in smooth
    ]
    candidates = [k / 20 for k in range(21)]
    for mse in (2e-3, 1e-2):
        with torch.no_grad():
            limits = [limits_slowly(decoder, *image, 5, levels, candidates, mse, 0.0205) for image in images]
        assert any(0 < limit < 1 for limit in itertools.chain(*limits)), "nothing between never and always"
        table = build_table(
            decoder, images, 5, levels=(*levels, 5, 6), candidates=candidates, mse=mse, width=0.0205
        )
        lowest = [min(column) for column in zip(*limits, strict=True)]
        expected = [min(lowest[k:]) for k in range(len(levels))]
        assert table == [*zip(levels, expected, strict=True), (5, 1.0)]


@every_decoder
def test_a_stricter_error_gives_lower_thresholds_and_a_closer_picture(name):
    decoder, size, scale = build(name), Size(12, 11), 6
    torch.manual_seed(3)
    feat, lr = (
        F.interpolate(torch.randn(1, DIM, 3, 3), size=tuple(size), mode="bicubic"),
        torch.randn(1, 3, *size),
    )
    target = output_size(size, scale)
    grid, errors, tables = Grid.of(size, target), [], []
    with torch.no_grad():
        prepared = prepare(decoder, feat, lr, target)
        full = decoder.render(prepared, grid)
        for mse in (0, 1e-4, 1e-2, 1e9):
            tables.append(build_table(decoder, [(feat, lr)], scale, mse=mse, width=0.02))
            sr = render_multiscale(decoder, prepared, grid, tables[-1])
            errors.append(float((sr - full).square().mean()))
    assert [threshold for _, threshold in tables[0]] == [0.0] * (len(tables[0]) - 1) + [1.0]
    assert [threshold for _, threshold in tables[-1]] == [1.0] * len(tables[-1])
    for stricter, looser in itertools.pairwise(tables):
        assert all(a <= b for (_, a), (_, b) in zip(stricter, looser, strict=True))
    assert errors == sorted(errors)
    assert errors[0] < 1e-10 < errors[-1]
