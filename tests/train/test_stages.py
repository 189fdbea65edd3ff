"""The stages of the diffusion models: their numbers, their schedules, and what each of them trains."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from srcli.config.presets import Diffusion, Part, parse_preset
from srcli.data.device_sampler import DeviceSampler
from srcli.data.photos import Photo
from srcli.data.samples import Batch, Sampler, SampleSettings
from srcli.errors import PresetError
from srcli.models.noise_schedule import alphas_cumprod
from srcli.models.sr import Frame
from srcli.train.autoencoder_loss import PatchGAN, adversary_loss, balance
from srcli.train.batch_loader import BatchLoader
from srcli.train.diffusion_losses import noise_level, snr, with_noise, without_noise
from srcli.train.fplia_losses import denoised_once, published_temperature, short_temperature
from srcli.train.objectives import make_objective
from srcli.train.recipe import read_recipe
from srcli.train.trainer import Trainer
from srcli.weights.build import build
from tests.helpers.presets import EDSR, toml
from tests.helpers.weights import equal, weights_of

CPU = torch.device("cpu")
AUTOENCODER = {
    "widths": [8, 8, 8], "resblocks": 1, "decoder_widths": [8], "decoder_resblocks": 1, "norm": "pixel", "attention": False,
}  # fmt: skip
UNET = {"widths": [8, 16], "layers": 1, "attention": [False, False], "head_dim": 8, "groups": 4}
FPLIA = {
    "title": "tiny",
    "encoder": {"name": "perception", "fidelity": EDSR, "autoencoder": AUTOENCODER},
    "decoder": {"name": "lia", "perc_dim": 8, "dim": 8, "n_heads": 2, "radius": 1, "hidden": [8]},
    "generator": {"name": "fplia", "condition_dim": 8, **UNET},
    "diffusion": {},
}
ON_NATIVE = FPLIA | {
    "encoder": FPLIA["encoder"]
    | {"fidelity": {"name": "rlfn", "n_feats": 8, "n_blocks": 1, "attention": 4, "centred": True}},
    "decoder": FPLIA["decoder"] | {"skip": "native"},
}
KIM = {
    "title": "tiny",
    "encoder": {"name": "latent", "autoencoder": AUTOENCODER | {"variational": False}},
    "decoder": {"name": "liif", "hidden": [8], "feat_unfold": False},
    "generator": {"name": "kim", "condition_dim": 3, **UNET},
    "diffusion": {},
}
IDM = {
    "title": "tiny",
    "encoder": EDSR,
    "decoder": {"name": "canvas"},
    "generator": {
        "name": "idm", "condition_dim": 8, "widths": [8, 8], "layers": 1, "attention": [False, False], "hidden": 8,
        "dropout": 0.0, "groups": 4,
    },
    "diffusion": {"train_steps": 2000, "beta_start": 1e-6, "beta_end": 1e-2, "beta_schedule": "linear"},
}  # fmt: skip
DATA = "[data]\npatch = 8\nqueries = 16\npicture = 32\nscales = [4.0, 4.0]\nshrink = 0\n"
RUN = "[optim]\nsteps = 10\nbatch = 2\nlr = 1e-2\nwarmup = 0\nema = 0.9\nfreeze = {freeze}\n"


def photos(height=60, width=70, seed=0):
    rng = np.random.default_rng(seed)
    return [Photo("a", "a", rng.integers(0, 256, (height, width, 3), dtype=np.uint8))]


def trainer_of(tmp_path, network, objective, freeze=(), **changes):
    parts = "".join(f"{key} = {toml(value)}\n" for key, value in network.items())
    text = f"{parts}objective = {toml(objective)}\n{DATA}{RUN.format(freeze=list(freeze))}"
    path = tmp_path / "stage.toml"
    path.write_text(text)
    recipe = read_recipe(path, {key: str(value) for key, value in changes.items()})
    return Trainer(recipe, CPU)


def batches(trainer, count, kind=Sampler, **options):
    sampler = kind(photos(), trainer.recipe.data)
    loader = BatchLoader(trainer.recipe, sampler, trainer.ranks, **options)
    return [loader.step(step) for step in range(count)]


def moved(trainer, before):
    return {
        name for name, value in trainer.network.named_parameters() if not torch.equal(before[name], value)
    }


# --- numbers ------------------------------------------------------------------------------------------------------


def test_the_signal_to_noise_ratios_are_those_of_the_published_schedule():
    ratios = snr(alphas_cumprod(Diffusion()))
    known = {20: 29.9, 100: 4.84, 250: 1.15, 500: 0.177, 750: 0.0177, 979: 0.0009}
    for step, value in known.items():
        assert float(ratios[step]) == pytest.approx(value, rel=0.06 if step == 979 else 6e-3)


def test_the_published_temperature_falls_by_two_percent_every_thousand_steps():
    tau, passed = 1.0, {}
    for step in range(0, 400_000, 1000):  # as the authors' loop has it
        if tau >= 0.001:
            tau *= 0.98
        passed[step] = tau
    assert all(published_temperature(step) == pytest.approx(value) for step, value in passed.items())
    assert published_temperature(999) == pytest.approx(0.98)
    assert published_temperature(341_000) == pytest.approx(0.000998, rel=1e-3)
    # That of short runs reaches its end after four fifths.
    assert short_temperature(0, 100) == 1
    assert short_temperature(40, 100) == pytest.approx(10**-1.5)
    assert short_temperature(80, 100) == short_temperature(99, 100) == pytest.approx(1e-3)


def test_noise_put_in_can_be_taken_out():
    sample, noise = torch.randn(2, 3, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    alpha = alphas_cumprod(Diffusion())[torch.tensor([20, 500, 979])]
    noisy = with_noise(sample, noise, alpha)
    spread = [float(a.sqrt()) ** 2 + float((1 - a).sqrt()) ** 2 for a in alpha]
    assert spread == pytest.approx([1, 1, 1])
    assert torch.allclose(without_noise(noisy, noise, alpha), sample, atol=1e-4)


def test_hinge_losses_stop_where_the_judge_is_sure():
    real, made = torch.tensor([0.0, 1.0, 3.0]), torch.tensor([0.0, -1.0, 2.0])
    assert float(adversary_loss(real, made)) == pytest.approx((1 / 3 + (1 + 0 + 3) / 3) / 2)


def test_the_adversary_weighs_as_much_as_the_rest_at_the_last_layer():
    last = torch.tensor([1.0, 2.0], requires_grad=True)
    fit, fooled = (last * torch.tensor([3.0, 4.0])).sum(), 10 * last[0]
    assert float(balance(fit, fooled, last)) == pytest.approx(5 / 10, rel=1e-4)


def test_patches_are_judged_at_the_smallest_size_that_is_promised():
    judge = PatchGAN(width=4, layers=3)
    assert judge(torch.zeros(2, 3, 24, 24)).shape == (2, 1, 1, 1)
    with pytest.raises(RuntimeError):
        judge(torch.zeros(2, 3, 16, 16))


# --- samples ------------------------------------------------------------------------------------------------------


def test_a_picture_is_the_crop_that_the_queries_are_taken_from():
    settings = SampleSettings(patch=8, queries=20, scales=(4.0, 4.0), picture=32)
    for kind in (Sampler, lambda *args: DeviceSampler(*args, "cpu")):
        batch = kind(photos(90, 80, 3), settings).draw(0, 0, range(4))
        iy, ix = (((batch.coord + 1) / 2 * 32) - 0.5).round().long().unbind(-1)
        for n in range(4):
            assert torch.equal(batch.picture[n, :, iy[n], ix[n]].T, batch.hr[n])


def test_pictures_of_other_scales_are_resized_alike_on_the_device():
    data = photos(90, 80, 3), SampleSettings(patch=8, queries=5, scales=(1.0, 8.0), picture=32)
    a, b = (sampler.draw(0, 0, range(6)) for sampler in (Sampler(*data), DeviceSampler(*data, "cpu")))
    assert torch.equal(a.picture, b.picture)


def test_samples_of_a_pool_are_made_once_while_there_is_room(tmp_path):
    trainer = trainer_of(tmp_path, FPLIA, {"name": "latent-diffusion"}, ["encoder."], **{"data.pool": 3})
    made = []

    class Counted(Sampler):
        def draw(self, seed, step, numbers, *more):
            made.extend(numbers)
            return super().draw(seed, step, numbers, *more)

    kept = [batch.picture for (batch,) in batches(trainer, 9, Counted)]
    assert sorted(set(made)) == sorted(made) == [0, 1, 2]
    again = batches(trainer, 9, Counted, room=0)
    assert all(torch.equal(a, b.picture) for a, (b,) in zip(kept, again, strict=True))
    assert len(made) > 9


def test_a_pool_gives_few_samples_in_an_order_that_is_a_function_of_the_step(tmp_path):
    trainer = trainer_of(tmp_path, FPLIA, {"name": "latent-diffusion"}, ["encoder."], **{"data.pool": 5})
    seen = {}
    for (batch,) in batches(trainer, 12):
        for place, number in enumerate(batch.numbers):
            assert torch.equal(seen.setdefault(number, batch.picture[place]), batch.picture[place])
    assert set(seen) == set(range(5))
    (again,) = batches(trainer, 12)[7]
    (first,) = batches(trainer, 8)[7]
    assert again.numbers == first.numbers


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("relative", [0.0, 0.2])
def test_who_knows_the_noise_or_the_velocity_has_no_loss(prediction, relative):
    """A picture that is 0.3 beyond what LR says: told exactly, whichever is told, relative to LR or not."""
    table = IDM | {
        "generator": IDM["generator"] | {"relative": relative},
        "diffusion": IDM["diffusion"] | {"prediction": prediction},
    }
    preset = parse_preset(table, name="tiny")
    network = build(preset)
    lr = torch.rand(2, 3, 6, 6) - 0.5
    picture = nn.functional.interpolate(lr, (24, 24), mode="bicubic") + 0.3
    sample = torch.full_like(picture, 0.3 / relative) if relative else picture

    def told(noisy, level, condition):
        level = level.view(-1, 1, 1, 1)
        noise = (noisy - level * sample) / (1 - level**2).sqrt()
        return noise if prediction == "epsilon" else level * noise - (1 - level**2).sqrt() * sample

    network.generator.forward = told
    (loss,) = noise_level(diffusion=preset.diffusion, smallest=1.0)
    q = torch.zeros(2, 1, 2)
    batch = Batch(lr, torch.zeros(2, 1, 3), q, q[:, 0] + 1, picture=picture)
    assert float(loss(network, batch)) < 1e-4
    sample = sample + 0.1
    assert float(loss(network, batch)) > 1e-3


# --- what is trained ----------------------------------------------------------------------------------------------

PERC = ("decoder.streams.perc", "decoder.convs.p_", "decoder.features.p.", "decoder.norm.")
ALONE = (
    "decoder.streams.fid", "decoder.convs.f_", "decoder.features.f.", "decoder.norm.", "decoder.mlp.", "decoder.position.",
)  # fmt: skip
STAGES = {  # network, objective, what is frozen, beginnings of the names of what moves
    "fidelity": (FPLIA, {"name": "fidelity"}, ["encoder.autoencoder."], ("encoder.fidelity.", *ALONE)),
    "autoencoder": (
        FPLIA,
        {"name": "autoencoder", "gradient": 0.5, "spectrum": 0.1, "adversary": 0.5, "adversary_width": 4, "adversary_layers": 1},
        ["encoder.fidelity.", "decoder.mlp.", "decoder.position.", "generator."],
        ("encoder.autoencoder.", *PERC),
    ),
    "diffusion": (FPLIA, {"name": "latent-diffusion"}, ["encoder.", "decoder."], ("generator.",)),
    "finetune": (FPLIA, {"name": "lia-finetune", "temperature": "short"}, ["encoder.", "generator."], ("decoder.",)),
    "native-fidelity": (ON_NATIVE, {"name": "fidelity"}, ["encoder."], (*ALONE, "decoder.gains")),
    "native-autoencoder": (
        ON_NATIVE,
        {"name": "autoencoder", "smallest": 1.0, "adversary": 0.5, "adversary_width": 4, "adversary_layers": 1},
        ["encoder.fidelity.", "decoder.position.", "generator."],
        ("encoder.autoencoder.", *PERC, "decoder.mlp.", "decoder.gains"),
    ),
    "native-finetune": (ON_NATIVE, {"name": "lia-finetune"}, ["encoder.", "generator."], ("decoder.",)),
    "kim-autoencoder": (KIM, {"name": "autoencoder", "branch": "", "kl": 0.0}, ["generator."], ("encoder.", "decoder.")),
    "kim-diffusion": (KIM, {"name": "latent-diffusion", "min_snr": 5.0}, ["encoder.", "decoder."], ("generator.",)),
    "idm": (IDM, {"name": "noise-level"}, [], ("encoder.", "generator.")),
    "kim-alignment": (KIM, {"name": "alignment"}, ["encoder.", "decoder."], ("generator.",)),
}  # fmt: skip


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_moves_what_it_trains_and_nothing_else(stage, tmp_path):
    network, objective, freeze, expected = STAGES[stage]
    trainer = trainer_of(tmp_path, network, objective, freeze)
    # A window's values beyond the edge are zero: fidelity and its branch have a gradient.
    if stage == "fidelity":
        trainer.network.decoder.temperature.fill_(0.5)
    before = weights_of(trainer.network)
    for parts in batches(trainer, 3):
        assert np.isfinite(trainer.train_step(*parts))
    names = [name for name, _ in trainer.network.named_parameters()]
    found = moved(trainer, before)
    assert found <= {name for name in names if name.startswith(expected)}
    for beginning in expected:
        assert any(name.startswith(beginning) for name in found), beginning


def test_all_branches_and_their_votes_learn_from_a_hard_choice(tmp_path):
    trainer = trainer_of(tmp_path, FPLIA, {"name": "lia-finetune"}, ["encoder.", "generator."])
    (objective,) = trainer.objectives
    objective.begin(trainer.network, 0, 10)
    objective(trainer.network, trainer._normalised(batches(trainer, 1)[0][0])).backward()
    decoder = trainer.network.decoder
    learning = [*decoder.features.parameters(), *decoder.confidence.parameters(), *decoder.vote.parameters()]
    assert all(float(parameter.grad.abs().sum()) > 0 for parameter in learning)


@pytest.mark.parametrize("changes", [{"branches": ["f"]}, {"branches": ["p", "fp"]}])
def test_decoders_of_some_branches_are_trained_by_the_same_loss(changes, tmp_path):
    network = FPLIA | {"decoder": FPLIA["decoder"] | changes}
    trainer = trainer_of(tmp_path, network, {"name": "lia-finetune"}, ["encoder.", "generator."])
    before = weights_of(trainer.network)
    (parts,) = batches(trainer, 1)
    assert np.isfinite(trainer.train_step(*parts))
    names = {name for name, _ in trainer.network.decoder.named_parameters()}
    unused = {"streams.perc.weight", "streams.perc.bias"} if changes == {"branches": ["f"]} else set()
    still = {name for name in names if f"decoder.{name}" not in moved(trainer, before)}
    assert not {
        name for name in still - unused if name.endswith("weight") and not name.startswith("position")
    }


def test_the_temperature_follows_the_step_and_is_kept_with_the_averaged_weights(tmp_path):
    trainer = trainer_of(
        tmp_path, FPLIA, {"name": "lia-finetune", "temperature": "short"}, ["encoder.", "generator."]
    )
    trainer.step = 4
    trainer.train_step(*batches(trainer, 1)[0])
    for network in (trainer.network, trainer.average):
        assert float(network.decoder.temperature) == pytest.approx(10**-1.5)


def test_the_first_step_brings_latents_to_mean_zero_and_deviation_one(tmp_path):
    trainer = trainer_of(tmp_path, KIM, {"name": "latent-diffusion"}, ["encoder.", "decoder."])
    (parts,) = batches(trainer, 1)
    trainer.train_step(*parts)
    picture = parts[0].picture * 2 - 1
    for network in (trainer.network, trainer.average):
        z = network.generator.normalised(network.encoder.autoencoder.moments(picture)[0])
        assert torch.allclose(z.mean((0, 2, 3)), torch.zeros(3), atol=1e-5)
        assert torch.allclose(z.std((0, 2, 3)), torch.ones(3), atol=1e-5)


def test_latents_of_a_pool_are_computed_once(tmp_path):
    trainer = trainer_of(
        tmp_path, FPLIA, {"name": "latent-diffusion"}, ["encoder.", "decoder."], **{"data.pool": 3}
    )
    autoencoder, asked = trainer.network.encoder.autoencoder, []
    moments = autoencoder.moments
    autoencoder.moments = lambda x: (asked.append(len(x)), moments(x))[1]
    trainer.step = 1  # the first step measures the latents' scale besides
    for parts in batches(trainer, 9):
        trainer.train_step(*parts)
    assert sum(asked) <= 4  # a batch may have a new sample twice


# --- with the answer known ----------------------------------------------------------------------------------------


class Oracle(nn.Module):
    """A generator that knows the sample and so the noise."""

    def __init__(self, generator, sample):
        super().__init__()
        self.generator, self.sample, self.alphas = generator, sample, alphas_cumprod(Diffusion())
        self.normalised, self.denormalised = generator.normalised, generator.denormalised
        self.condition = generator.condition

    def forward(self, noisy, t, condition):
        alpha = self.alphas[t].view(-1, 1, 1, 1)
        return (noisy - alpha.sqrt() * self.sample) / (1 - alpha).sqrt()


def known(network, objective, **given):
    net = build(parse_preset(network, name="tiny"))
    (loss,) = make_objective(Part(objective, given), diffusion=Diffusion())
    settings = SampleSettings(patch=8, queries=16, scales=(4.0, 4.0), shrink=0, picture=32)
    batch = Sampler(photos(), settings).draw(0, 0, range(3))
    batch = batch._replace(lr=batch.lr * 2 - 1, hr=batch.hr * 2 - 1, picture=batch.picture * 2 - 1)
    net.generator.latent_std.fill_(0.5)
    with torch.no_grad():
        z = net.encoder.autoencoder.moments(batch.picture)[0]
    return net, loss, batch, z


def test_who_knows_the_noise_has_no_loss():
    net, loss, batch, z = known(KIM, "latent-diffusion", normalise=False)
    net.generator = Oracle(net.generator, net.generator.normalised(z))
    assert float(loss(net, batch).detach()) < 1e-8


@pytest.mark.parametrize("clamp", [0.0, 0.5])
def test_errors_at_clear_steps_count_less_with_a_clamp(clamp):
    net, loss, batch, z = known(KIM, "latent-diffusion", normalise=False, min_snr=clamp)
    torch.manual_seed(5)
    found = float(loss(net, batch).detach())  # an untrained generator says that there is no noise
    torch.manual_seed(5)
    t = torch.randint(1000, (3,))
    noise = torch.randn_like(z)
    alpha = alphas_cumprod(Diffusion())[t].double()
    ratio = alpha / (1 - alpha)
    factor = [min(float(r), clamp) / float(r) if clamp else 1.0 for r in ratio]
    assert found == pytest.approx(
        np.mean([f * float((n**2).mean()) for f, n in zip(factor, noise, strict=True)]), rel=1e-5
    )


def test_with_the_true_latent_only_the_decoder_errs_in_the_alignment():
    net, loss, batch, z = known(KIM, "alignment", error="l1")
    net.generator = Oracle(net.generator, net.generator.normalised(z))
    torch.manual_seed(5)
    found = float(loss(net, batch).detach())
    torch.manual_seed(5)
    alpha = alphas_cumprod(Diffusion())[torch.randint(1000, (3,))]
    colours = net(torch.cat([batch.lr, z], dim=1), batch.coord, batch.cell)
    error = (colours - batch.hr).abs().mean((1, 2)) * (alpha / (1 - alpha)).sqrt()
    assert found == pytest.approx(float(error.mean().detach()), rel=1e-3)


def test_the_alignment_reaches_the_generator_through_the_frozen_decoder():
    net, loss, batch, _ = known(KIM, "alignment")
    only, both = [], []
    for image, kept in ((0.0, only), (1.0, both)):
        (loss,) = make_objective(Part("alignment", {"image": image}), diffusion=Diffusion())
        torch.manual_seed(5)
        net.zero_grad()
        loss(net, batch).backward()
        kept.append(net.generator.unet.conv_out.weight.grad.clone())
    assert not torch.allclose(only[0], both[0])


@pytest.mark.parametrize("clamp", [0.0, 0.01])
def test_the_finetuning_loss_is_the_papers_sum(clamp):
    net, loss, batch, z = known(FPLIA, "lia-finetune", clamp=clamp)
    with torch.no_grad():  # a posterior without spread, so that the latent is known
        last = net.encoder.autoencoder.quant_conv
        last.weight[3:].zero_()
        last.bias[3:].fill_(-30.0)
    net.generator = Oracle(net.generator, net.generator.normalised(z))
    net.eval()  # the selection is the best branch, without noise
    torch.manual_seed(5)
    found = float(loss(net, batch).detach())
    torch.manual_seed(5)
    torch.randn_like(z)
    alpha = alphas_cumprod(Diffusion())[torch.randint(20, 980, (3,))]
    weight = alpha / (1 - alpha)
    weight = weight.clamp(max=clamp) if clamp else weight
    lia = net.decoder
    prepared = lia.prepare(
        net.encoder(torch.cat([batch.lr, z], dim=1)), batch.lr, Frame.whole(batch.lr, batch.cell)
    )
    error = {
        name: (lia.answers(prepared, batch.coord, (name,))[name] - batch.hr).square().mean((1, 2))
        for name in ("f", "p", "pf", "fp", "selected")
    }
    expected = (error["selected"] + error["f"] + weight * (error["p"] + error["pf"] + error["fp"])).mean()
    assert found == pytest.approx(float(expected.detach()), rel=2e-3)


def test_idm_tells_the_noise_at_levels_between_two_steps():
    net = build(parse_preset(IDM, name="tiny"))
    diffusion = parse_preset(IDM, name="tiny").diffusion
    (loss,) = make_objective(Part("noise-level"), diffusion=diffusion)
    settings = SampleSettings(patch=8, queries=1, scales=(4.0, 4.0), shrink=0, picture=32)
    batch = Sampler(photos(), settings).draw(0, 0, range(3))
    shown = []

    def forward(noisy, level, condition):
        shown.append((noisy, level, condition[0]))
        return torch.zeros_like(noisy)

    net.generator.forward = forward
    torch.manual_seed(0)
    found = [float(loss(net, batch).detach()) for _ in range(40)]
    assert np.mean(found) == pytest.approx((2 / np.pi) ** 0.5, abs=0.02)  # of |noise|
    sides = {noisy.shape[-1] for noisy, _, _ in shown}
    assert min(sides) >= 8
    assert max(sides) <= 32
    assert len(sides) > 10
    assert all(noisy.shape == condition.shape for noisy, _, condition in shown)
    lowest = float(alphas_cumprod(diffusion)[-1].sqrt())
    levels = torch.cat([level for _, level, _ in shown])
    assert lowest <= float(levels.min()) < 0.05
    assert 0.98 < float(levels.max()) <= 1


# --- the discriminator -------------------------------------------------------------------------------------------------

JUDGED = STAGES["autoencoder"][1] | {"gradient": 0, "spectrum": 0, "adversary_from": 2}


def test_the_discriminator_learns_from_its_step_on_and_resumes(tmp_path):
    one, other = (trainer_of(tmp_path, FPLIA, JUDGED, ["generator."]) for _ in range(2))
    steps = batches(one, 5)
    before = weights_of(one.adversary.network)
    for parts in steps[:2]:
        one.train_step(*parts)
    assert equal(weights_of(one.adversary.network), before)
    for parts in steps[2:4]:
        one.train_step(*parts)
    now = weights_of(one.adversary.network)
    assert all(not torch.equal(before[name], now[name]) for name in before if name.endswith("0.weight"))
    other.restore(copy.deepcopy(one.state()))
    assert one.train_step(*steps[4]) == other.train_step(*steps[4])
    for a, b in ((one.network, other.network), (one.adversary.network, other.adversary.network)):
        assert equal(weights_of(a), weights_of(b))


# --- measurements and refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["fidelity", "autoencoder", "diffusion", "kim-autoencoder"])
def test_stages_before_the_last_measure_what_they_train(stage, tmp_path):
    network, objective, freeze, _ = STAGES[stage]
    trainer = trainer_of(tmp_path, network, objective, freeze)
    lr, hr = torch.rand(1, 3, 8, 12) * 2 - 1, torch.rand(1, 3, 32, 48) * 2 - 1
    with torch.no_grad():
        found = trainer.stages[0].measure(trainer.average.eval(), [(lr, hr)])
    (value,) = found.values()
    assert np.isfinite(value)
    if stage == "diffusion":
        assert value == pytest.approx(0, abs=0.3)  # an untrained generator's error is the noise itself


def test_objectives_of_stages_say_what_does_not_fit():
    with pytest.raises(PresetError, match=r"\[diffusion\]"):
        make_objective(Part("latent-diffusion"))
    with pytest.raises(PresetError, match="takes no 'diffusion'"):
        make_objective(Part("alignment", {"diffusion": 1}), diffusion=Diffusion())
    for name, settings in (
        ("autoencoder", {"l1": -1.0}),
        ("autoencoder", {"perceptual": 1.0}),
        ("autoencoder", {"smallest": 0.0}),
        ("latent-diffusion", {"min_snr": -1.0}),
        ("lia-finetune", {"steps": (0.9, 0.1)}),
        ("alignment", {"image": -1.0}),
        ("noise-level", {"smallest": 2.0}),
    ):
        with pytest.raises(PresetError, match="objective"):
            make_objective(Part(name, settings), diffusion=Diffusion())
    net, loss, batch, _ = known(FPLIA, "autoencoder")
    with pytest.raises(PresetError, match="HR pictures"):
        loss(net, batch._replace(picture=None))
    wide = KIM["encoder"] | {"autoencoder": AUTOENCODER | {"decoder_widths": [16]}}
    net.decoder = build(parse_preset(KIM | {"encoder": wide}, name="tiny")).decoder
    with pytest.raises(PresetError, match="branches"):
        loss(net, batch)
    plain = build(parse_preset({"title": "t", "encoder": EDSR, "decoder": {"name": "blend"}}, name="tiny"))
    for name in ("fidelity", "autoencoder", "latent-diffusion", "lia-finetune", "alignment", "noise-level"):
        (loss,) = make_objective(Part(name), diffusion=Diffusion())
        with pytest.raises(PresetError):
            loss(plain, batch)


# --- one batch, learnt by heart -----------------------------------------------------------------------------------


def overfitted(trainer, steps):
    (parts,) = batches(trainer, 1)
    losses = [trainer.train_step(*parts) for _ in range(steps)]
    return np.array(losses), trainer._normalised(parts[0])


@pytest.mark.slow
def test_the_fidelity_branch_learns_a_crop_by_heart(tmp_path):
    decoder = FPLIA["decoder"] | {"dim": 32, "hidden": [64, 64]}
    network = FPLIA | {
        "decoder": decoder,
        "encoder": FPLIA["encoder"] | {"fidelity": EDSR | {"n_resblocks": 4, "n_feats": 32}},
    }
    network = network | {"generator": FPLIA["generator"] | {"condition_dim": 32}}
    changes = {
        "data.patch": 6, "data.queries": 576, "data.picture": 24, "optim.batch": 1, "optim.steps": 1500, "optim.lr": 3e-3,
    }  # fmt: skip
    trainer = trainer_of(tmp_path, network, {"name": "fidelity"}, **changes)
    losses, _ = overfitted(trainer, 1500)
    assert -10 * np.log10(losses[-50:].mean() / 4) > 40  # colours in [-1, 1]


@pytest.mark.slow
def test_a_generator_learns_the_noise_of_four_latents_by_heart(tmp_path):
    changes = {"optim.batch": 4, "optim.steps": 600, "optim.lr": 3e-3, "optim.ema": 0}
    trainer = trainer_of(tmp_path, FPLIA, {"name": "latent-diffusion"}, ["encoder.", "decoder."], **changes)
    trainer._seed = lambda *place: torch.manual_seed(0)  # the same steps and noise again and again
    losses, _ = overfitted(trainer, 600)
    assert losses[-20:].mean() < 0.05


@pytest.mark.slow
def test_what_is_selected_is_as_good_as_the_best_branch_of_a_batch_learnt_by_heart(tmp_path):
    objective = {"name": "lia-finetune", "temperature": "short", "clamp": 1.0}
    changes = {"optim.steps": 500, "optim.lr": 5e-3, "data.queries": 256, "optim.batch": 1}
    trainer = trainer_of(tmp_path, FPLIA, objective, ["encoder.", "generator."], **changes)
    _, batch = overfitted(trainer, 500)
    network, stage, errors = trainer.network.eval(), trainer.stages[0], []
    for _ in range(20):  # other steps and other noise
        with torch.no_grad():
            z, _ = denoised_once(network, batch, stage.alphas, stage.low, stage.high)
            feat = network.encoder(torch.cat([batch.lr, z], dim=1))
            prepared = network.decoder.prepare(feat, batch.lr, Frame.whole(batch.lr, batch.cell))
            answers = network.decoder.answers(prepared, batch.coord, ("selected", "f", "p", "pf", "fp"))
        errors.append([float((colours - batch.hr).square().mean()) for colours in answers.values()])
    selected, *branches = np.mean(errors, axis=0)
    assert selected <= 1.05 * min(branches)


@pytest.mark.slow
def test_the_autoencoder_learns_a_picture_by_heart(tmp_path):
    objective = {"name": "autoencoder", "smallest": 1.0, "kl": 0.0}
    changes = {"optim.steps": 500, "optim.lr": 5e-3, "optim.batch": 1}
    wide = FPLIA["encoder"] | {"autoencoder": AUTOENCODER | {"widths": [16, 16, 16], "decoder_widths": [16]}}
    network = FPLIA | {
        "encoder": wide,
        "decoder": FPLIA["decoder"] | {"perc_dim": 16, "dim": 16, "hidden": [32]},
    }
    trainer = trainer_of(tmp_path, network, objective, ["generator."], **changes)
    losses, _ = overfitted(trainer, 500)
    assert losses[-20:].mean() < 0.5 * losses[:5].mean()
