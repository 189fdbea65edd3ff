"""The latent restorer from picture to picture: tiles, seeds, memory, and what its dials do."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from srcli.config.sampling import Sampling, choose_sampling
from srcli.engine.load import upscaler_for
from srcli.engine.memory_plan import Outline, cost, plan_memory, stage, without_content
from srcli.engine.restorer import Restorer, decode, encode
from srcli.errors import ResourceError, UsageError
from srcli.geometry import Size
from srcli.models.noise_schedule import make_scheduler
from srcli.models.sr import Generator
from tests.helpers.latent import UNET, network, preset
from tests.helpers.rendering import render, rows, upscaled


@pytest.fixture(scope="module")
def tiny():
    return network()


def picture(h=9, w=13, seed=0):
    return torch.rand(1, 3, h, w, generator=torch.Generator().manual_seed(seed))


def restorer(net, *, tile="auto", fidelity=0.0, average=1, **changes):
    about = preset(**changes)
    sampling = dataclasses.replace(choose_sampling(about, average=average), fidelity=fidelity)
    return upscaler_for(net, about, device="cpu", precision="fp32", tile=tile, sampling=sampling)


class Known(Generator):
    """A generator that knows the clean latents of the picture that it is shown."""

    kind = "restoration"
    channels, multiple_of, context = 4, 2, 2

    def __init__(self, decoder, alphas, target):
        super().__init__()
        self.decoder, self.alphas, self.target = decoder, alphas, target

    def condition(self, encoder, lr):
        return torch.zeros(len(lr), 1, 1)

    def forward(self, noisy, t, condition):
        kept = self.alphas[t.long()].reshape(-1, 1, 1, 1)
        clean = self.target.expand_as(noisy)
        return (noisy - kept.sqrt() * clean) / (1 - kept).sqrt()


@pytest.mark.parametrize(
    "scale",
    [pytest.param(2, marks=pytest.mark.slow), pytest.param(3.7, marks=pytest.mark.slow), (1.3, 2.1)],
    ids=str,
)
def test_pictures_of_any_size_come_out_finite_and_the_same_each_time(tiny, scale):
    engine = restorer(tiny)
    assert isinstance(engine, Restorer)
    first = engine.upscale(picture(), scale, seed=3)
    down, across = scale if isinstance(scale, tuple) else (scale, scale)
    assert first.shape == (1, 3, round(9 * down), round(13 * across))
    assert bool(torch.isfinite(first).all())
    assert torch.equal(engine.upscale(picture(), scale, seed=3), first)
    assert not torch.equal(engine.upscale(picture(), scale, seed=4), first)


def test_a_generator_that_knows_the_answer_gives_it_back(tiny):
    target = torch.randn(1, 4, 1, 1)
    alphas = make_scheduler(preset().diffusion, Sampling("ddim", 3)).scheduler.alphas_cumprod.float()
    knowing = network(seed=1)
    knowing.generator = Known(knowing.decoder, alphas, target)
    engine = restorer(knowing, tile="none")
    engine.planned = lambda size, how: plan_memory(preset(), size, engine.sampling, free=1 << 40, tile="none")
    seen = []
    knowing.decoder.vae.post_quant_conv.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    engine.upscale(picture(), 3)
    torch.testing.assert_close(seen[0], target.expand_as(seen[0]), atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_what_is_told_relative_to_the_enlarged_picture_leaves_it_alone_where_it_is_nothing(prediction):
    net = network(
        decoder={"name": "cosines", "luma": 7, "chroma": 7},
        generator={"relative": True, "unet": {**UNET, "in_channels": 48, "out_channels": 48}},
        diffusion={"prediction": prediction},
    )
    seen = []

    def predicted(noisy, t, condition):  # all of it noise: the picture differs by nothing
        share = net.generator.shares[t.long()].reshape(-1, 1, 1, 1)
        seen.append(float(noisy.square().mean() / (1 - share).mean()))
        return noisy / (1 - share).sqrt() * (1 if prediction == "epsilon" else share.sqrt())

    net.generator._predicted = predicted
    engine = restorer(net, tile=8, diffusion={"prediction": prediction})
    lr = picture()
    target = Size(*(4 * side for side in lr.shape[-2:]))
    found, stats = render(engine, lr, target, seed=1)
    restored = torch.from_numpy(found).permute(2, 0, 1)[None].clamp(0, 1)
    wanted = interpolate(lr, size=restored.shape[-2:], mode="bicubic").clamp(0, 1)
    assert torch.allclose(restored, wanted, atol=1e-4)
    assert stats.tiles > 1
    assert seen[0] == pytest.approx(1, abs=0.2)  # what is left is the canvas's noise


def test_tiles_share_one_canvas_of_noise(tiny):
    lr = picture(8, 20)
    whole = restorer(tiny, tile="none").upscale(lr, 4)
    engine = restorer(tiny, tile=16, diffusion={"overlap": 8})
    cut, stats = upscaled(engine, lr, 4)
    assert stats.tiles > 1
    assert any("blended at every step" in note for note in stats.notes)
    other = restorer(tiny, tile="none").upscale(lr, 4, seed=9)
    assert float((cut - whole).square().mean()) < 0.5 * float((other - whole).square().mean())


@pytest.mark.slow
def test_fidelity_leaves_out_the_noisy_steps(tiny):
    lr = picture()
    calls = {}
    for fidelity in (0.0, 0.6, 0.99):
        engine = restorer(tiny, fidelity=fidelity, diffusion={"steps": 10})
        count = 0

        def counted(*args, inner=tiny.generator.unet.forward, **kwargs):
            nonlocal count
            count += 1
            return inner(*args, **kwargs)

        tiny.generator.unet.forward, kept = counted, tiny.generator.unet.forward
        engine.upscale(lr, 2)
        tiny.generator.unet.forward = kept
        calls[fidelity] = count
    assert calls == {0.0: 10, 0.6: 4, 0.99: 1}


def test_the_average_of_samples_is_their_mean(tiny):
    lr, engine = picture(), restorer(tiny, average=3)
    target = Size(18, 26)
    mean = rows(engine, lr, target, seed=5)
    alone = restorer(tiny)
    each = [rows(alone, lr, target, seed=seed) for seed in engine.sampling.seeds(5)]
    np.testing.assert_allclose(mean, np.mean(each, 0), atol=1e-5)


def test_a_temperature_is_refused(tiny):
    with pytest.raises(UsageError, match="no temperature"):
        rows(restorer(tiny), picture(), Size(18, 26), temperature=0.5)


# --- the auto-encoder in tiles ------------------------------------------------------------------------------------


def test_statistics_of_the_whole_picture_bring_tiles_closer_to_one_piece(tiny):
    smooth = interpolate(picture(5, 7), size=(96, 160), mode="bicubic").clamp(0, 1) * 2 - 1
    with torch.no_grad():
        latent = encode(tiny.decoder, smooth, None, 0)
        errors = {}
        for passes in (0, 1):
            cut = encode(tiny.decoder, smooth, 12, 4, passes=passes)
            back = decode(tiny.decoder, latent, 12, 4, passes=passes)
            whole = decode(tiny.decoder, latent, None, 0)
            errors[passes] = float((cut - latent).abs().mean() + (back - whole).abs().mean())
    assert errors[1] < 0.8 * errors[0]


def test_a_tile_that_is_the_picture_is_the_picture(tiny):
    latent = torch.randn(1, 4, 8, 8)
    with torch.no_grad():
        assert torch.equal(decode(tiny.decoder, latent, 64, 4), tiny.decoder.decode(latent))


# --- memory -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_tiles_shrink_until_memory_is_enough_and_then_it_is_refused():
    about = preset(diffusion={"tile": 32})
    sampling = choose_sampling(about)
    plenty = plan_memory(about, Size(400, 600), sampling, free=1 << 40)
    assert (plenty.tile, plenty.size) == (32, Size(100, 150))
    short = plan_memory(about, Size(400, 600), sampling, free=int(plenty.peak * 0.75))
    assert short.peak < 0.75 * plenty.peak
    assert (short.vae_tile or 999) < 999
    assert short.flops > plenty.flops
    with pytest.raises(ResourceError, match="smallest tiles"):
        plan_memory(about, Size(400, 600), sampling, free=5 << 20)


def test_a_forecast_says_what_a_person_wants_to_know():
    about = preset()
    lines = "\n".join(
        plan_memory(about, Size(200, 300), choose_sampling(about), free=1 << 40).lines(speed=1e9)
    )
    for word in ("canvas of 76x50 latents", "tiles of 16x16", "memory:", "TFLOP", "on this machine"):
        assert word in lines


def test_results_are_counted_while_they_live():
    with without_content():

        def call():
            a = torch.empty(1000)  # 4000 bytes
            for _ in range(5):
                a = a + 1  # two at a time
            return a.sum()

        assert cost(call).peak == 8000
        assert cost(lambda: torch.empty(30, 40) @ torch.empty(40, 50)).flops == 2 * 30 * 40 * 50


def test_memory_that_runs_out_in_the_auto_encoder_makes_smaller_tiles():
    lr, seen = picture(40, 40), []
    engine = restorer(network())

    def fails_once(_, given):
        seen.append(given[0].shape[-2:].numel())
        if len(seen) == 1:
            raise MemoryError

    engine.network.decoder.vae.post_quant_conv.register_forward_pre_hook(fails_once)
    restored, stats = upscaled(engine, lr, 4)
    assert bool(torch.isfinite(restored).all())
    assert max(seen[1:]) < seen[0]
    assert stats.tile_retries == 1
    assert any("memory ran out" in note for note in stats.notes)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["encoder", "decoder", "generator"])
def test_predicted_memory_is_within_a_fifth_of_what_the_allocator_gives(kind):
    changes = {
        "generator": {"unet": preset().generator.args["unet"] | {"block_out_channels": (32, 64)}},
        "decoder": {"vae": preset().decoder.args["vae"] | {"block_out_channels": (16, 32, 32)}},
    }
    predicted = Outline(preset(**changes)).cost(kind, Size(64, 64)).peak
    call = stage(network(**changes), kind, Size(64, 64))
    with torch.inference_mode():
        call()
        with torch.profiler.profile(
            activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
        ) as seen:
            call()
    events = [e for e in seen.profiler.kineto_results.events() if e.name() == "[memory]"]
    live = most = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        live += event.nbytes()
        most = max(most, live)
    assert predicted == pytest.approx(most, rel=0.2)


RESIDENT = """
import torch
from pathlib import Path
from srcli.geometry import Size
from tests.engine.test_restorer import restorer
from tests.helpers.latent import network


def most():  # since this program began; rusage would count the one that started it
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


torch.set_num_threads(1)
engine = restorer(network(), fidelity=0.9)  # one step is enough
engine.upscale(torch.rand(1, 3, 16, 16), 4)  # what the libraries take once
planned = max(engine.planned(Size(1024, 1024)).stages.values())
before = most()
engine.upscale(torch.rand(1, 3, 256, 256), 4)
print(planned, most() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="the system does not tell")
def test_the_memory_that_a_process_takes_is_within_a_fifth_of_the_plan():
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", RESIDENT], capture_output=True, text=True, check=True, cwd=root
    )
    planned, grown = map(int, done.stdout.split())
    assert planned == pytest.approx(grown, rel=0.2)
