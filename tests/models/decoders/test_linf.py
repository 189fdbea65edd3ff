"""LINF: the fast form equals the plain one for any scale, box and ensemble; samples are mean plus direction."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from srcli.geometry import Axis, Box, Grid, Size, output_size
from srcli.models.decoders import DECODERS
from srcli.models.sr import Frame
from tests.helpers.decoders import DIM, check_bfloat16, check_halo, inputs
from tests.reference import linf
from tests.reference.deviation import deviation, gradient_deviation
from tests.reference.sampling import lr_size, queries, skip

BOUND = 1e-5  # float32, order of summation
ONE_FLOW = ["fourier", "fourier-unweighted", "local-condition"]
ENSEMBLES = [*ONE_FLOW, "local"]
SIZES = [(h, w) for h in (18, 19, 20) for w in (22, 24)]  # every remainder of three
every_patch = pytest.mark.parametrize("patch", [1, 3])


def build(patch, ensemble="fourier", **options):
    """A small decoder with weights that make every input matter."""
    torch.manual_seed(1)
    decoder = DECODERS["linf"](
        in_dim=DIM, patch=patch, hidden_dim=16, hidden=(20, 16), ensemble=ensemble, **options
    )
    with torch.no_grad():
        for name, parameter in decoder.named_parameters():
            if name.startswith("imnet."):
                parameter.add_(0.05 * torch.randn_like(parameter))
            else:
                fan_in = parameter[0].numel() if parameter.ndim > 1 else 100
                # Raw scales of a few units would shrink by thousands, and samples grow by as much.
                gain = 0.4 if name.startswith("layers.4") else 1.0
                parameter.normal_(0, gain / fan_in**0.5)
    return decoder


def noise_for(decoder, grid, batch=2):
    torch.manual_seed(3)
    return torch.randn(batch, decoder.noise_channels, *grid.patches(decoder.patch).size)


@every_patch
@pytest.mark.parametrize("ensemble", ENSEMBLES)
@pytest.mark.parametrize("scale", [1, 2.5, (2.5, 4.0), 0.7, 9])
@torch.no_grad()
def test_a_picture_equals_the_plain_form_at_any_temperature(patch, ensemble, scale):
    decoder = build(patch, ensemble)
    size = lr_size(scale)
    feat, lr = inputs(*size)
    target = output_size(size, scale)
    frame, grid = Frame.of_grid(lr, target, cell_clip=4), Grid.of(size, target)
    noise = noise_for(decoder, grid)
    prepared = decoder.prepare(feat, lr, frame)
    mean, direction = decoder.render_affine(prepared, grid, noise)
    assert torch.equal(decoder.render(prepared, grid), mean)
    for tau in (0, 0.3, 1):
        expected = linf.picture(decoder, feat, lr, target, frame.cell.expand(2, 2), tau * noise)
        assert deviation(mean + tau * direction, expected) < BOUND


@every_patch
@pytest.mark.parametrize("target", SIZES)
@torch.no_grad()
def test_sizes_that_are_no_multiple_of_the_patch_are_covered(patch, target):
    decoder = build(patch)
    feat, lr = inputs(6, 7)
    frame, grid = Frame.of_grid(lr, Size(*target)), Grid.of(Size(6, 7), Size(*target))
    noise = noise_for(decoder, grid)
    mean, direction = decoder.render_affine(decoder.prepare(feat, lr, frame), grid, noise)
    assert (
        deviation(mean + direction, linf.picture(decoder, feat, lr, target, frame.cell.expand(2, 2), noise))
        < BOUND
    )


@every_patch
@settings(deadline=None, max_examples=10)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**16))
def test_the_condition_equals_the_plain_form_at_scattered_coordinates(patch, h, w, seed):
    decoder = build(patch)
    feat, lr = inputs(h, w)
    rng = torch.Generator().manual_seed(seed)
    coord = torch.rand(2, 40, 2, generator=rng) * 2 - 1
    cell = torch.rand(2, 2, generator=rng) / 8 + 0.01
    with torch.no_grad():
        prepared = decoder.prepare(feat, lr, Frame.whole(lr, cell))
        assert (
            deviation(
                decoder.conditions(prepared, coord)[0].condition, linf.condition(decoder, feat, coord, cell)
            )
            < BOUND
        )


@every_patch
@pytest.mark.parametrize("ensemble", ONE_FLOW)
def test_gradients_equal_those_of_the_plain_form(patch, ensemble):
    decoder = build(patch, ensemble)
    feat, lr = inputs(5, 6)
    feat.requires_grad_()
    coord, cell = torch.rand(2, 30, 2) * 2 - 1, torch.tensor([[0.1, 0.2], [0.07, 0.05]])
    read = [p for name, p in decoder.named_parameters() if not name.startswith("imnet.")]
    fast = decoder.conditions(decoder.prepare(feat, lr, Frame.whole(lr, cell)), coord)[0].condition
    slow = linf.condition(decoder, feat, coord, cell)
    assert gradient_deviation(fast, slow, [feat, *read]) < BOUND


@every_patch
@pytest.mark.parametrize("scale", [2, 3.3, (1.7, 4.6)])
@torch.no_grad()
def test_bands_and_boxes_of_the_image_render_as_the_whole(patch, scale):
    decoder = build(patch)
    size = Size(17, 14)
    feat, lr = inputs(*size, batch=1)
    target = output_size(size, scale)
    frame, grid = Frame.of_grid(lr, target), Grid.of(size, target)
    noise = noise_for(decoder, grid, batch=1)
    whole = decoder.render_affine(decoder.prepare(feat, lr, frame), grid, noise)
    for box in (
        Box(0, 0, 12, target.w),
        Box(12, 0, target.h, target.w),
        Box(9, 6, target.h - 8, target.w - 5),
    ):
        top, bottom = Axis(size.h, target.h, box.top, box.bottom).source(decoder.halo)
        left, right = Axis(size.w, target.w, box.left, box.right).source(decoder.halo)
        seen = (..., slice(top, bottom), slice(left, right))
        part = Frame(size, Box(top, left, bottom, right), frame.cell, target)
        rect = Grid.of(size, target, box, origin=(top, left))
        patches = rect.patches(patch)
        drawn = noise[:, :, patches.rows.start : patches.rows.stop, patches.cols.start : patches.cols.stop]
        rendered = decoder.render_affine(decoder.prepare(feat[seen], lr[seen], part), rect, drawn)
        for ours, all_of_it in zip(rendered, whole, strict=True):
            torch.testing.assert_close(ours, all_of_it[..., *box.slices], atol=5e-6, rtol=1e-5)


@every_patch
def test_answers_depend_on_nothing_beyond_the_halo(patch):
    for y, x in ((0.3, -0.8), (-0.95, 0.1), (0.55, 0.99)):
        check_halo(build(patch), y, x, 2)


@every_patch
@torch.no_grad()
def test_samples_and_densities_of_patches_are_of_the_pixels_around(patch):
    decoder = build(patch)
    feat, lr = inputs(6, 6)
    target = Size(15, 15)
    frame, grid = Frame.of_grid(lr, target), Grid.of(Size(6, 6), target)
    prepared = decoder.prepare(feat, lr, frame)
    at, noise = linf.centres(target, patch).expand(2, -1, -1), noise_for(decoder, grid)
    mean, direction = decoder.render_affine(prepared, grid, noise)
    patches = torch.nn.functional.unfold(mean + direction, patch, stride=patch).transpose(1, 2)
    drawn = noise.flatten(2).transpose(1, 2)
    assert deviation(decoder.sample(prepared, at, drawn), patches) < BOUND
    given = linf.condition(decoder, feat, at, frame.cell.expand(2, 2))
    flat = skip(lr, queries(*target).expand(2, -1, -1)).transpose(1, 2).reshape(2, 3, *target)
    residual = patches - torch.nn.functional.unfold(flat, patch, stride=patch).transpose(1, 2)
    expected = decoder.imnet(residual, given)[1]
    torch.testing.assert_close(decoder.log_density(prepared, at, patches), expected, atol=1e-3, rtol=1e-4)


@every_patch
@pytest.mark.parametrize("ensemble", ENSEMBLES)
def test_the_density_is_that_of_the_samples(patch, ensemble):
    """log p(x) = log N(z) - log |det dx/dz|, the Jacobian by automatic differentiation."""
    decoder = build(patch, ensemble)
    feat, lr = inputs(5, 5, batch=1)
    prepared = decoder.prepare(feat, lr, Frame.of_grid(lr, Size(15, 15)))
    at = linf.centres((15, 15), patch)[:, 3:4]
    z = torch.randn(1, 1, decoder.noise_channels)
    x = decoder.sample(prepared, at, z)
    jacobian = torch.autograd.functional.jacobian(lambda noise: decoder.sample(prepared, at, noise), z)
    flat = jacobian.reshape(z.numel(), z.numel()).double()
    normal = -0.5 * (z.square() + math.log(2 * math.pi)).sum()
    expected = normal.item() - float(torch.linalg.slogdet(flat).logabsdet)
    assert decoder.log_density(prepared, at, x).item() == pytest.approx(expected, rel=1e-3, abs=5e-3)


def test_the_local_ensemble_can_be_trained_on_its_density():
    decoder = build(1, "local")
    feat, lr = inputs(5, 5)
    prepared = decoder.prepare(feat, lr, Frame.of_grid(lr, Size(15, 15)))
    decoder.log_density(
        prepared, linf.centres((15, 15), 1).expand(2, -1, -1), torch.randn(2, 225, 3)
    ).mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in decoder.parameters())


@torch.no_grad()
def test_pixels_of_a_patch_beyond_the_crop_count_as_zero_residual():
    decoder = build(3)
    feat, lr = inputs(6, 6)
    frame = Frame.of_grid(lr, Size(12, 12))
    prepared = decoder.prepare(feat, lr, frame)
    corner = torch.full((2, 1, 2), -1 + 1 / 12)
    hr = torch.randn(2, 1, 27)
    inside = torch.tensor([0, 0, 0, 0, 1, 1, 0, 1, 1], dtype=torch.bool).repeat(3)
    other = torch.where(inside, hr, torch.randn(2, 1, 27))
    density = decoder.log_density(prepared, corner, hr)
    assert torch.equal(density, decoder.log_density(prepared, corner, other))
    assert not torch.equal(density, decoder.log_density(prepared, corner, hr + 0.1))


@pytest.mark.parametrize("ensemble", ["fourier", "local"])
@torch.no_grad()
def test_the_official_border_differs_only_where_the_middle_pixel_is_beyond_the_image(ensemble):
    ours, official = build(3, ensemble), build(3, ensemble, protocol="official")
    feat, lr = inputs(6, 8)
    for target, rows, cols in (((19, 24), 1, 0), ((18, 25), 0, 1), ((19, 25), 1, 1), ((20, 23), 0, 0)):
        frame, grid = Frame.of_grid(lr, Size(*target)), Grid.of(Size(6, 8), Size(*target))
        a, b = (d.render(d.prepare(feat, lr, frame), grid) for d in (ours, official))
        differs = (a != b).any(0).any(0)
        expected = torch.zeros(target, dtype=torch.bool)
        expected[target[0] - rows :] = True
        expected[:, target[1] - cols :] = True
        assert torch.equal(differs, expected)
    assert ours.local
    assert not official.local


def test_bfloat16_features_give_float32_colours_nearby():
    check_bfloat16(build(3))


def test_a_patch_of_two_is_refused():
    with pytest.raises(ValueError, match="1 or 3"):
        DECODERS["linf"](in_dim=4, patch=2)


@pytest.mark.parametrize("ensemble", ["fourier", "local", "local-condition"])
def test_gradients_go_through_a_grid(ensemble):
    decoder, (feat, lr) = build(3, ensemble), inputs(4, 5, batch=1)
    prepared = decoder.prepare(feat.requires_grad_(), lr, Frame.of_grid(lr, Size(7, 9)))
    decoder.render(prepared, Grid.of(Size(4, 5), Size(7, 9))).sum().backward()
    assert feat.grad.abs().sum() > 0
