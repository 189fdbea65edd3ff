"""Diffusion models whose latent is sampled once and decoded at any size."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from srcli.config.presets import parse_preset
from srcli.config.sampling import Sampling, choose_sampling
from srcli.engine.latent_diffusion_upscaler import Extended, LatentDiffusionUpscaler
from srcli.engine.load import upscaler_for
from srcli.engine.normalised_image import TensorSource
from srcli.engine.request import RenderRequest
from srcli.engine.upscaler import Upscaler
from srcli.errors import ModelError, ResourceError, UsageError
from srcli.geometry import Size
from srcli.weights.build import build
from tests.helpers.presets import EDSR, network_of, tiny, write_preset
from tests.helpers.presets import noise_picture as photo
from tests.helpers.rendering import render, rows

AUTOENCODER = {
    "widths": [8, 8, 8],
    "resblocks": 1,
    "decoder_widths": [8],
    "decoder_resblocks": 1,
    "attention": False,
    "norm": "pixel",
}
TINY = {
    "title": "tiny",
    "encoder": {"name": "perception", "fidelity": EDSR, "autoencoder": AUTOENCODER},
    "decoder": {"name": "lia", "perc_dim": 8, "dim": 8, "n_heads": 2, "radius": 1, "hidden": [8]},
    "generator": {
        "name": "fplia",
        "condition_dim": 8,
        "widths": [8, 8],
        "layers": 1,
        "attention": [False, True],
        "head_dim": 8,
        "groups": 4,
    },
    "diffusion": {"steps": 3, "tile": 16, "overlap": 8},
}
KIM = {
    **TINY,
    "encoder": {"name": "latent", "autoencoder": AUTOENCODER},
    "decoder": {"name": "liif", "hidden": [8]},
    "generator": {**TINY["generator"], "name": "kim", "condition_dim": 3},
}
RLFN = {"name": "rlfn", "n_feats": 8, "n_blocks": 1, "attention": 4}
NATIVE = {
    **TINY,
    "encoder": {**TINY["encoder"], "fidelity": {**RLFN, "centred": True}},
    "decoder": {**TINY["decoder"], "skip": "native"},
}
PRESETS = {"fplia": TINY, "native": NATIVE, "kim": KIM}


EXTRACTORS = [
    EDSR,
    {"name": "rdn", "n_feats": 8, "n_blocks": 1, "n_layers": 2, "growth": 4},
    {"name": "swinir", "embed_dim": 12, "depths": [2], "n_heads": 2, "window": 4, "out_channels": 8},
]


def engine(kind="fplia", table=None, **options):
    """The same weights every time; none are zero, so that the generator says something."""
    preset = parse_preset(table or PRESETS[kind], name=kind)
    network = network_of(preset, 3)
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.normal_(0, 0.3)
        if kind == "native":
            network.decoder.gains.copy_(torch.tensor([0.5, 1.0, 1.0, 1.0]))
    return upscaler_for(network, preset, device="cpu", **options)


@pytest.mark.parametrize("kind", list(PRESETS))
@pytest.mark.parametrize(("h", "w"), [(5, 5), (9, 14), (1, 3)])
def test_any_size_of_input_gives_any_size_of_output(kind, h, w):
    sr = rows(engine(kind), photo(h, w), Size(round(2.3 * h), 4 * w))
    assert sr.shape == (round(2.3 * h), 4 * w, 3)
    assert np.isfinite(sr).all()


@pytest.mark.parametrize("extractor", EXTRACTORS, ids=lambda part: part["name"])
@pytest.mark.parametrize("generator", ["fplia", "kim"])
def test_extractor_and_generator_are_exchanged_by_configuration_alone(extractor, generator):
    channels = {"fplia": 8, "kim": 3}[generator]
    table = TINY | {
        "encoder": TINY["encoder"] | {"fidelity": extractor},
        "generator": TINY["generator"] | {"name": generator, "condition_dim": channels},
    }
    lr = photo(9, 14)
    sr = [rows(engine(table=table), lr, Size(20, 31), seed=seed) for seed in (1, 2)]
    assert sr[0].shape == (20, 31, 3)
    assert np.isfinite(sr[0]).all()
    assert np.abs(sr[0] - sr[1]).max() > 1e-3


@pytest.mark.parametrize("limit", [True, False])
def test_on_a_native_picture_branch_f_begins_as_that_picture(limit):
    fplia = engine("native", branch="f", limit=limit)
    alone = tiny(encoder=RLFN, decoder={"name": "native"}, pixels={"mean": 0.0, "std": 0.5})
    network = build(alone)
    network.encoder.load_state_dict(fplia.network.encoder.fidelity.state_dict())
    lr, target = photo(10, 14), Size(23, 33)
    wanted = rows(upscaler_for(network, alone, device="cpu", limit=limit), lr, target)
    torch.nn.init.zeros_(fplia.network.decoder.lia.gains)
    assert rows(fplia, lr, target) == pytest.approx(wanted, abs=2e-6)
    torch.nn.init.ones_(fplia.network.decoder.lia.gains)
    assert np.abs(rows(fplia, lr, target) - wanted).max() > 1e-3


def test_every_branch_adds_its_own_share_to_the_native_picture_and_the_choice_is_one_of_them():
    lr, target = photo(9, 12), Size(25, 30)
    sr = engine("native")
    latent = sr.latent(TensorSource(lr), seed=2)
    scores = []
    chosen = rows(sr, lr, target, latent=latent, scores=lambda _, s: scores.append(s))
    each = np.stack(
        [rows(engine("native", branch=b), lr, target, latent=latent) for b in ("f", "p", "pf", "fp")]
    )
    winner = np.concatenate(scores, axis=1).argmax(0)
    assert len(set(winner.ravel())) > 1
    assert chosen == pytest.approx(np.take_along_axis(each, winner[None, ..., None], 0)[0], abs=1e-5)
    assert set(build(sr.preset).decoder.gains.tolist()) == {0.0, 1.0}  # f begins with nothing


def test_one_latent_serves_all_scales_and_is_what_the_seed_means():
    lr = photo(9, 12)
    sr = engine()
    calls = count_calls(sr)
    latent = sr.latent(TensorSource(lr), seed=4)
    assert len(calls) == 3
    for target in (Size(23, 30), Size(36, 48)):
        from_latent = rows(sr, lr, target, latent=latent)
        assert len(calls) == 3
        assert np.array_equal(from_latent, rows(engine(), lr, target, seed=4))
    other = rows(engine(), lr, Size(23, 30), seed=5)
    assert np.abs(other - rows(sr, lr, Size(23, 30), latent=latent)).max() > 1e-3


def count_calls(sr):
    calls = []
    sr.network.generator.register_forward_pre_hook(lambda module, given: calls.append(given[0].shape))
    return calls


def test_the_engine_gives_what_the_parts_give_by_hand():
    lr = photo(8, 12)
    sr = engine()
    source = TensorSource(lr)
    latent = sr.latent(source, seed=1)
    with torch.inference_mode():
        x = (lr - 0.5) / 0.5
        by_hand = sr.network.render(torch.cat([x, latent.values], dim=1), Size(20, 30)) * 0.5 + 0.5
    found = rows(sr, lr, Size(20, 30), latent=latent)
    np.testing.assert_allclose(found, by_hand[0].permute(1, 2, 0).numpy(), atol=2e-5)


def test_large_canvases_are_cut_into_equal_tiles():
    lr = photo(24, 44)
    sr = engine(tile=16)
    calls = count_calls(sr)
    whole = sr.latent(TensorSource(lr), seed=2)
    assert {shape[-2:] for shape in calls} == {(16, 16)}
    assert whole.stats.sample_tile == (16, 16)
    stats = render(sr, lr, Size(30, 60), latent=whole)[1]
    assert any("blended tiles of 16x16" in note for note in stats.notes)


def test_the_preset_decides_from_which_size_on_a_canvas_is_cut():
    for lr, cut in ((photo(20, 20), False), (photo(20, 22), True)):
        latent = engine().latent(TensorSource(lr), seed=2)
        assert (latent.stats.sample_tile is not None) == cut
        whole = engine(tile="none").latent(TensorSource(lr), seed=2)
        assert whole.stats.sample_tile is None


def test_the_mean_of_several_samples_is_the_mean_of_their_pictures():
    lr, target = photo(7, 9), Size(15, 20)
    sampling = Sampling(steps=2, average=3)
    sr = engine(sampling=sampling)
    seeds = sampling.seeds(6)
    assert seeds[0] == 6
    assert len(set(seeds)) == 3
    single = replace(sampling, average=1)
    apart = [rows(sr, lr, target, seed=seed, sampling=single) for seed in seeds]
    np.testing.assert_allclose(rows(sr, lr, target, seed=6), np.mean(apart, axis=0), atol=1e-6)


def test_the_scores_of_the_branches_come_with_the_rows_and_decide_them():
    lr, target = photo(10, 11), Size(25, 33)
    sr = engine()
    source = TensorSource(lr)
    latent = sr.latent(source, seed=3)
    scores = []
    found = rows(sr, lr, target, latent=latent, scores=lambda top, part: scores.append((top, part)))
    assert scores[0][0] == 0
    votes = np.concatenate([part for _, part in scores], axis=1)
    assert votes.shape == (4, *target)
    np.testing.assert_array_equal(found, rows(sr, lr, target, latent=latent))
    branches = [rows(engine(branch=name), lr, target, latent=latent) for name in sr.branches]
    assert sr.branches == ("f", "p", "pf", "fp")
    expected = np.choose(votes.argmax(axis=0)[..., None], branches)
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_the_branch_of_fidelity_needs_no_latent():
    sr = engine(branch="f")
    calls = count_calls(sr)
    first, second = (rows(sr, photo(6, 8), Size(15, 20), seed=seed) for seed in (1, 2))
    assert not calls
    assert np.array_equal(first, second)


def test_official_padding_is_a_reflected_window_more_and_is_cut_off_again():
    pixels = np.arange(8 * 9 * 3, dtype=np.float32).reshape(8, 9, 3)
    source = TensorSource(torch.from_numpy(pixels).permute(2, 0, 1)[None])
    extended = Extended(source, 8)
    assert extended.size == (16, 16)
    reflected = np.pad(pixels, ((0, 7), (0, 7), (0, 0)), mode="reflect")
    np.testing.assert_array_equal(extended.strip(0, 15)[:, :16], reflected[:15])
    np.testing.assert_array_equal(extended.strip(9, 12), reflected[9:12])
    lr = torch.rand(1, 3, 8, 9)
    sampling = Sampling("ddim", 2, 1.0, window=8)
    found = rows(engine(), lr, Size(20, 23), sampling=sampling)
    padded = torch.from_numpy(Extended(TensorSource(lr), 8).strip(0, 16)).permute(2, 0, 1)[None]
    by_hand = rows(engine(), padded, Size(40, round(16 * 23 / 9)), sampling=replace(sampling, window=1))
    np.testing.assert_allclose(found, by_hand[:20, :23], atol=1e-5)


def test_half_precision_stays_close():
    lr, target = photo(8, 8), Size(17, 17)
    full = rows(engine(precision="fp32"), lr, target, seed=1)
    half = rows(engine(precision="bf16"), lr, target, seed=1)
    assert 0 < np.abs(full - half).mean() < 0.05


def test_what_makes_no_sense_is_refused():
    sr = engine()
    source, target = TensorSource(photo(6, 6)), Size(9, 9)
    with pytest.raises(UsageError, match="takes no temperature"):
        sr.upscale_rows(source, target, RenderRequest(temperature=0.5))
    with pytest.raises(UsageError, match="seed"):
        sr.upscale_rows(source, target, RenderRequest(seed=-1))
    with pytest.raises(UsageError, match="picture of"):
        sr.upscale_rows(TensorSource(photo(6, 7)), target, RenderRequest(latent=sr.latent(source)))
    with pytest.raises(UsageError, match="no branch 'x'"):
        engine(branch="x")
    with pytest.raises(UsageError, match="chooses no branch"):
        engine("kim").upscale_rows(source, target, RenderRequest(scores=lambda top, scores: None))
    with pytest.raises(UsageError, match="no one choice"):
        sr.upscale_rows(source, target, RenderRequest(sampling=Sampling(average=2), scores=print))


def test_weights_that_give_no_numbers_and_memory_that_is_not_there_are_named():
    sr = engine(tile=32)
    source = TensorSource(photo(40, 40))
    with torch.no_grad():
        next(sr.network.generator.parameters()).fill_(float("nan"))
    with pytest.raises(ModelError, match="step 1 of 3"):
        sr.latent(source)
    sr = engine(tile=32)

    def full(module, given):
        raise torch.OutOfMemoryError("out of memory")

    sr.network.generator.register_forward_pre_hook(full)
    with pytest.raises(ResourceError, match=r"canvas of 40x40.*32x32 at a time"):
        sr.latent(source)


def test_a_network_without_a_generator_has_the_plain_engine():
    preset = tiny()
    plain = upscaler_for(build(preset), preset, device="cpu")
    assert type(plain) is Upscaler
    assert choose_sampling(preset) is None
    assert isinstance(engine(), LatentDiffusionUpscaler)
    with pytest.raises(UsageError, match="no diffusion model"):
        upscaler_for(build(preset), preset, device="cpu", branch="f")


def test_operations_are_counted_for_any_number_of_steps(tmp_path):
    from srcli.evaluate.cost import flops_per_pixel

    preset = str(write_preset(tmp_path, TINY))
    one, own, five = (flops_per_pixel(preset, 2.0, steps, side=16) for steps in (1, None, 5))
    assert five > one
    assert own == pytest.approx((one + five) / 2, rel=0.02)  # three; branches chosen cost differently
