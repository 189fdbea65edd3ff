"""Samplers, tiles and noise, against the formulas they stand for."""

import math
from itertools import pairwise

import diffusers
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from srcli.config.presets import Diffusion
from srcli.config.sampling import SAMPLERS, Sampling
from srcli.engine.diffusion import Plan, denoise, plan_tiles
from srcli.engine.noise import SampleNoise
from srcli.errors import ModelError, ResourceError, UsageError
from srcli.geometry import Size
from srcli.models.noise_schedule import alphas_cumprod, betas, make_scheduler

OURS = Diffusion()
IDM = Diffusion(train_steps=2000, beta_start=1e-6, beta_end=1e-2, beta_schedule="linear", clip=True)
SMALL = Size(6, 10)


def latent(size=SMALL, channels=3, seed=9):
    return torch.from_numpy(np.random.default_rng(seed).uniform(-0.9, 0.9, (1, channels, *size))).float()


def whole(size=SMALL):
    return Plan(plan_tiles(size, None, 0))


def denoised(network, plan, sampler, steps, seed=1, **more):
    noise = SampleNoise(seed, 3, plan.tiles.size)
    return denoise(network, noise, make_scheduler(OURS, Sampling(sampler, steps)), plan, **more)


def oracle(clean):
    """Knows the noise, because it knows the picture; t is sqrt(alpha-bar)."""

    def predict(noisy, level, boxes):
        known = torch.cat([clean[(..., *box.slices)] for box in boxes])
        level = level.view(-1, 1, 1, 1)
        return (noisy - level * known) / (1 - level**2).sqrt()

    return predict


@pytest.mark.parametrize("steps", [1, 2, 7, 20])
@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("diffusion", [OURS, IDM], ids=["latent", "idm"])
def test_with_the_true_noise_every_sampler_returns_the_picture(diffusion, sampler, steps):
    clean = latent()
    sampling = Sampling(sampler, steps, eta=0.7 if sampler == "ddim" else 0.0)
    schedule = make_scheduler(diffusion, sampling)
    canvas, _ = denoise(oracle(clean), SampleNoise(1, 3, SMALL), schedule, whole(), by_level=True)
    torch.testing.assert_close(canvas, clean, rtol=0, atol=2e-4)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_sampling_from_a_noised_picture_with_the_true_noise_returns_it_too(sampler):
    clean = latent()
    schedule = make_scheduler(OURS, Sampling(sampler, 10))
    begin = schedule.begin_near(500)
    assert schedule.times[begin] <= 500 < schedule.times[begin - 1]
    seen = []
    truth = oracle(clean)

    def predict(noisy, level, boxes):
        seen.append(truth(noisy, level, boxes))
        return seen[-1]

    noise = SampleNoise(1, 3, SMALL)
    canvas, _ = denoise(predict, noise, schedule, whole(), by_level=True, start=clean, begin=begin)
    assert len(seen) == 10 - begin
    torch.testing.assert_close(seen[0], noise(0), rtol=0, atol=1e-4)  # the noise that was added, and no other
    torch.testing.assert_close(canvas, clean, rtol=0, atol=2e-4)


def a_network(noisy, t, boxes):
    """Nearly what is right for white noise as a picture, so that canvases stay in range."""
    return noisy * (t.view(-1, 1, 1, 1) / 1000) + 0.1 * torch.sin(3 * noisy)


def official_closed_form(noise):
    """FPLIA's and Kim's sampler from the formulas: 199 calls at 991, 986, .. 1; eta 1, ending at the first variance."""
    beta = np.linspace(math.sqrt(0.0015), math.sqrt(0.0155), 1000) ** 2
    share = np.cumprod(1 - beta)
    times = np.arange(0, 1000, 5)[::-1] + 1
    x = noise(0).double()
    for n, t in enumerate(times[1:], 1):
        after = share[t - 5] if t >= 5 else share[0]
        eps = a_network(x.float(), torch.tensor([float(t)]), None).double()
        clean = (x - math.sqrt(1 - share[t]) * eps) / math.sqrt(share[t])
        sigma = math.sqrt((1 - after) / (1 - share[t]) * (1 - share[t] / after))
        x = math.sqrt(after) * clean + math.sqrt(1 - after - sigma**2) * eps + sigma * noise(n).double()
    return x


def test_the_official_protocol_is_the_closed_form_with_199_calls():
    noise = SampleNoise(2454, 3, SMALL)
    sampling = Sampling("ddim", 200, 1.0, skip=1, official=True)
    schedule = make_scheduler(OURS, sampling)
    assert schedule.calls == sampling.calls == 199
    assert schedule.times[0] == 991
    assert schedule.times[-1] == 1
    canvas, _ = denoise(a_network, lambda n: noise(n).double(), schedule, whole())
    formula = official_closed_form(noise)
    assert float((canvas - formula).abs().max() / formula.abs().max()) < 1e-6


def test_ancestral_sampling_is_ddpm_of_diffusers():
    noise = torch.Generator().manual_seed(4)
    drawn = [torch.randn((1, 3, *SMALL), generator=noise) for _ in range(41)]
    theirs = diffusers.DDPMScheduler(
        2000, trained_betas=betas(IDM).numpy(), clip_sample=True, timestep_spacing="trailing"
    )
    theirs.set_timesteps(40)
    again = torch.Generator().manual_seed(4)
    x = torch.randn((1, 3, *SMALL), generator=again)
    for t in theirs.timesteps:
        x = theirs.step(a_network(x, t.float(), None), t, x, generator=again).prev_sample
    schedule = make_scheduler(IDM, Sampling("ddpm", 40))
    canvas, _ = denoise(a_network, lambda n: drawn[n], schedule, whole())
    torch.testing.assert_close(canvas, x, rtol=1e-4, atol=1e-5)


def test_the_noise_of_training_is_that_of_diffusers():
    theirs = diffusers.DDIMScheduler(1000, beta_start=0.0015, beta_end=0.0155, beta_schedule="scaled_linear")
    torch.testing.assert_close(alphas_cumprod(OURS), theirs.alphas_cumprod, rtol=2e-5, atol=0)
    assert float(alphas_cumprod(OURS)[999]) == pytest.approx(0.00067, abs=1e-5)
    assert float(alphas_cumprod(IDM)[-1]) == pytest.approx(4.4e-5, abs=1e-6)


@pytest.mark.parametrize(
    ("size", "side", "overlap", "multiple"),
    [(SMALL, None, 0, 1), (Size(40, 64), 32, 8, 8), (Size(33, 70), 16, 5, 1), (Size(16, 129), 64, 40, 1)],
)
def test_tiles_are_equal_overlap_and_weigh_one_together(size, side, overlap, multiple):
    tiles = plan_tiles(size, side, overlap, multiple)
    total = torch.zeros(size)
    for box, weight in zip(tiles.boxes, tiles.weights, strict=True):
        assert box.size == tiles.side == weight.shape
        assert box.top % multiple == box.left % multiple == 0
        assert float(weight.min()) > 0
        total[box.slices] += weight
    torch.testing.assert_close(total, torch.ones(size), rtol=0, atol=1e-6)
    lefts = sorted({box.left for box in tiles.boxes})
    shared = min(overlap, tiles.side.w // 2 // multiple * multiple)
    assert all(b - a <= tiles.side.w - shared for a, b in pairwise(lefts))


def blurring(noisy, t, boxes):
    """A network that looks one pixel around, given zeros outside its tile."""
    kernel = torch.full((3, 1, 3, 3), 1 / 9)
    return torch.tanh(F.conv2d(noisy, kernel, padding=1, groups=3)) * 0.9


def test_tiles_do_not_change_what_a_pointwise_network_samples():
    size = Size(40, 52)
    plans = [Plan(plan_tiles(size, None, 0)), Plan(plan_tiles(size, 16, 4), 3), Plan(plan_tiles(size, 24, 9))]
    results = [denoised(a_network, plan, "dpm++-sde", 6, seed=3)[0] for plan in plans]
    torch.testing.assert_close(results[1], results[0], rtol=0, atol=2e-5)
    torch.testing.assert_close(results[2], results[0], rtol=0, atol=2e-5)


def test_tiles_show_only_where_a_network_sees_their_edge():
    size = Size(24, 64)
    canvas = SampleNoise(3, 3, size)(0)
    tiles = plan_tiles(size, 32, 16)
    one = blurring(canvas, None, None)
    blended = torch.zeros_like(one)
    for box, weight in zip(tiles.boxes, tiles.weights, strict=True):
        blended[(..., *box.slices)] += weight * blurring(canvas[(..., *box.slices)], None, None)
    # The edge pixel of a tile, the only one that sees outside of it, hardly counts.
    assert float((blended - one).abs().max()) < 0.01
    (sampled, _), (plain, _) = (denoised(blurring, plan, "ddim", 1) for plan in (Plan(tiles), whole(size)))
    assert float((sampled - plain).abs().max()) > 0


@pytest.mark.parametrize("sampler", ["dpm++", "ddpm"])
def test_a_seed_means_one_canvas_however_many_tiles_are_predicted_at_a_time(sampler):
    size = Size(20, 40)
    tiles = plan_tiles(size, 16, 4)
    found = [
        denoised(blurring, Plan(tiles, batch), sampler, 4, seed)[0]
        for seed, batch in ((5, 1), (5, 4), (6, 1))
    ]
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-6)
    assert float((found[0] - found[2]).abs().max()) > 0.1


def test_noise_depends_on_seed_place_and_step_alone():
    small, large = SampleNoise(7, 2, Size(4, 6)), SampleNoise(7, 2, Size(9, 11))
    assert torch.equal(large(0)[:, :, :4, :6], small(0))
    assert torch.equal(small(3), SampleNoise(7, 2, Size(4, 6))(3))
    both = torch.stack([SampleNoise(7, 2, Size(64, 64))(n).flatten() for n in (0, 1, 2)])
    assert float((torch.corrcoef(both) - torch.eye(3)).abs().max()) < 0.05
    assert float(both.std()) == pytest.approx(1, abs=0.03)


def test_when_memory_runs_out_fewer_tiles_are_predicted_and_then_smaller_ones():
    size = Size(64, 128)
    sizes = []

    def hungry(noisy, t, boxes):
        sizes.append(noisy.shape[0] * noisy.shape[2] * noisy.shape[3])
        if sizes[-1] > 32 * 32:
            raise MemoryError
        return a_network(noisy, t, boxes)

    plan = Plan(plan_tiles(size, 64, 16), batch=2)
    canvas, used = denoised(hungry, plan, "ddim", 2)
    assert sizes[:3] == [2 * 64 * 64, 64 * 64, 32 * 32]
    assert used.tiles.side == (32, 32)
    roomy, _ = denoised(a_network, plan, "ddim", 2)
    torch.testing.assert_close(canvas, roomy, rtol=0, atol=2e-5)


def test_too_little_memory_for_the_smallest_tile_is_said_in_numbers():
    def impossible(noisy, t, boxes):
        raise MemoryError

    plan = Plan(plan_tiles(Size(64, 128), 64, 16))
    with pytest.raises(ResourceError, match=r"canvas of 128x64.*32x32 at a time"):
        denoised(impossible, plan, "ddim", 2)


def test_a_prediction_that_is_no_number_is_refused():
    def damaged(noisy, t, boxes):
        return noisy * math.nan

    with pytest.raises(ModelError, match="step 1 of 3"):
        denoised(damaged, whole(), "dpm++", 3)


def test_beginning_later_needs_something_to_begin_from():
    with pytest.raises(UsageError, match="begin at call 2 of 4"):
        denoised(a_network, whole(), "dpm++", 4, begin=2)
