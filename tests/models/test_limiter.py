"""The limiter bounds what hostile pictures get, and leaves photographs alone."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from srcli.models.limiter import Limiter, colours_around, with_low_frequencies
from tests.helpers.hostile import drift, hostile, outside, photograph


def limited(phases, lr):
    """The limiter in plain units."""
    return Limiter((0, 0, 0), (1, 1, 1))(phases.flatten(1, 2), lr).unflatten(1, (3, -1))


def to_phases(picture, factor=4):
    return F.pixel_unshuffle(picture, factor).unflatten(1, (3, -1))


def to_picture(phases):
    return F.pixel_shuffle(phases.flatten(1, 2), int(phases.shape[2] ** 0.5))


def to_tensor(pixels):
    return torch.tensor(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None].float() / 255


def to_bytes(picture):
    return (picture[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()


def wild(lr, seed):
    """What a bad network might give: the picture with strong errors, overshoot and a tint."""
    g = torch.Generator().manual_seed(seed)
    large = F.interpolate(lr, scale_factor=4, mode="nearest")
    return large * 1.4 - 0.2 + 0.3 * torch.randn(large.shape, generator=g)


@pytest.mark.parametrize("seed", range(12))
def test_whatever_the_network_says_colours_and_means_stay_near(seed):
    pixels = hostile(seed)
    lr = to_tensor(pixels)
    out = to_bytes(to_picture(limited(to_phases(wild(lr, seed)), lr)))
    assert drift(pixels, out) <= 40
    drawn = np.kron(colours_around(lr)[0].numpy() <= 8, np.ones((4, 4), bool))
    assert outside(pixels, out, levels=65, side=7) == 0  # ranges are enlarged bilinearly
    if drawn.all():
        assert outside(pixels, out, levels=2) == 0


def test_flat_fields_stay_flat_up_to_the_border():
    lr = torch.zeros(1, 3, 12, 12)
    lr[:, 1] = 1
    out = limited(to_phases(wild(lr, 0)), lr)
    assert (out - lr.unsqueeze(2)).abs().max() <= 1.01 / 255


def test_gray_stays_gray_and_colours_beside_it_stay():
    lr = torch.rand(1, 1, 16, 24).expand(1, 3, 16, 24).clone()
    lr[..., 18:] = torch.rand(1, 3, 16, 6)
    out = to_picture(limited(to_phases(wild(lr, 1)), lr))
    tint = out.amax(1) - out.amin(1)
    assert tint[..., : 15 * 4].max() == 0
    assert tint[..., 20 * 4 :].mean() > 0.1


def test_a_faithful_picture_of_a_photograph_is_left_alone():
    pixels = photograph(np.random.default_rng(5), 40)
    lr = to_tensor(pixels)
    faithful = to_phases(F.interpolate(lr, scale_factor=4, mode="bicubic"))
    changed = (limited(faithful, lr) - faithful.clamp(0, 1)).abs()
    assert (changed > 1.01 / 255).float().mean() < 0.01


def test_tiles_do_not_show():
    lr = to_tensor(np.concatenate([hostile(i) for i in range(4)]))
    phases = to_phases(wild(lr, 2))
    whole = limited(phases, lr)
    part = limited(phases[..., 40:120, :], lr[..., 40:120, :])
    assert torch.equal(part[..., 20:60, :], whole[..., 60:100, :])


def test_colours_are_counted():
    g = np.random.default_rng(0)
    pixels = g.integers(0, 3, (9, 8, 3), dtype=np.uint8)
    padded = np.pad(pixels, ((2, 2), (2, 2), (0, 0)), mode="edge")
    for y in range(9):
        for x in range(8):
            wanted = len(np.unique(padded[y : y + 5, x : x + 5].reshape(-1, 3), axis=0))
            inner = len(np.unique(padded[y + 1 : y + 4, x + 1 : x + 4].reshape(-1, 3), axis=0))
            assert colours_around(to_tensor(pixels))[0, y, x] == (25 if inner == 9 else wanted)


def test_units_are_those_of_the_preset():
    lr = torch.rand(1, 3, 10, 10)
    phases = to_phases(wild(lr, 3))
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.4, 0.3)
    m, s = (torch.tensor(v).reshape(1, 3, 1, 1) for v in (mean, std))
    given = ((phases - m[..., None]) / s[..., None]).flatten(1, 2)
    got = Limiter(mean, std)(given, (lr - m) / s).unflatten(1, (3, -1)) * s[..., None] + m[..., None]
    torch.testing.assert_close(got, limited(phases, lr), atol=5e-6, rtol=0)


def test_low_frequencies_are_the_inputs_and_detail_is_the_networks():
    g = np.random.default_rng(5)
    lr = to_tensor(photograph(g, 64))
    texture = 0.05 * torch.randn(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    shifted = F.interpolate(lr, scale_factor=4, mode="bicubic") * 0.9 - torch.tensor([0.02, 0, -0.03]).view(
        3, 1, 1
    )
    limiter = Limiter((0, 0, 0), (1, 1, 1), with_low_frequencies)
    out = to_phases((shifted + texture).clamp(0, 1))
    out = limiter(out.flatten(1, 2), lr).unflatten(1, (3, -1)).clamp(0, 1)

    def off(phases):
        return F.avg_pool2d(phases.mean(2) - lr, 8, stride=1).abs() * 255

    assert off(to_phases(shifted)).mean() > 10
    assert off(out).mean() < 0.5
    assert off(out).quantile(0.999) < 3
    kept = to_picture(out) - F.interpolate(lr, scale_factor=4, mode="bicubic")
    assert np.corrcoef(kept.flatten(), texture.flatten())[0, 1] > 0.6


def test_low_frequencies_reach_as_far_as_said():
    lr, phases = torch.rand(1, 3, 60, 40), torch.rand(1, 3, 16, 60, 40)
    limiter = Limiter((0, 0, 0), (1, 1, 1), with_low_frequencies)
    whole, part = (
        limiter(phases.flatten(1, 2), lr),
        limiter(phases[..., 10:, :].flatten(1, 2), lr[..., 10:, :]),
    )
    reach = 19  # Gaussians 16, enlarging them bilinearly and means a pixel more each at most
    torch.testing.assert_close(part[..., reach:, :], whole[..., 10 + reach :, :], atol=1e-6, rtol=0)
    assert (part[..., :10, :] - whole[..., 10:20, :]).abs().max() > 1e-4
