"""How the latent restorer is trained: its losses, what is frozen, every row of the ablations, and where it starts."""

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from srcli.config.presets import Part
from srcli.data.samples import Batch
from srcli.errors import PresetError, ResourceError
from srcli.metrics.classifiers import CLASSIFIERS
from srcli.models.dpacm import wasserstein_1
from srcli.models.lgcaa import LocalGlobalAttention
from srcli.models.noise_schedule import alphas_cumprod
from srcli.train.lgcaa_loss import Denoising
from srcli.train.objectives import make_objective
from srcli.train.recipe import OptimSettings, read_recipe
from srcli.train.trainer import Trainer, make_optimiser
from tests.helpers.latent import UNET, base_folders, network, preset

RECIPE = Path(__file__).parents[2] / "presets/recipes/lgcaa-tiny.toml"


SIXTEEN = {"in_channels": 16, "out_channels": 16}


def batch(n=2, seed=0):
    draw = torch.Generator().manual_seed(seed)
    lr = torch.rand(n, 3, 8, 8, generator=draw) * 2 - 1
    picture = torch.rand(n, 3, 32, 32, generator=draw) * 2 - 1
    rest = [torch.zeros(n, 1, size) for size in (3, 2)]
    return Batch(lr, rest[0], rest[1], torch.zeros(n, 2), picture=picture)


def objective(prediction="epsilon", **args):
    settings = {"wasserstein": 2.0, "perceptual": 0.0} | args
    noise = preset(diffusion={"prediction": prediction}).diffusion
    (found,) = make_objective(Part("lgcaa", settings), diffusion=noise)
    return found


def step(made, loss):
    """The names of the parameters that one step of gradient descent changes."""
    made.train()
    before = {name: parameter.clone() for name, parameter in made.named_parameters()}
    parameters = [p for p in made.parameters() if p.requires_grad]
    torch.manual_seed(0)
    loss.begin(made, 0, 1)
    loss(made, batch()).backward()
    torch.optim.Adam(parameters, 1e-2).step()
    return {name for name, parameter in made.named_parameters() if not torch.equal(before[name], parameter)}


def test_the_loss_is_the_error_of_the_noise_and_dpacms_terms():
    made, data = network(opened=True), batch()
    values = {}
    for weight in (0.0, 1.0, 3.0):
        torch.manual_seed(4)
        with torch.no_grad():
            values[weight] = float(objective(wasserstein=weight)(made, data))
    enlarged = torch.nn.functional.interpolate(data.lr, size=(32, 32), mode="bicubic").clamp(-1, 1)
    with torch.no_grad():
        view = made.generator.viewed(enlarged)
    truth = torch.nn.functional.interpolate(data.picture, size=view.shape[-2:], mode="area")
    expected = float(wasserstein_1(view, truth).mean())
    assert values[1.0] - values[0.0] == pytest.approx(expected, rel=1e-3)
    assert values[3.0] - values[0.0] == pytest.approx(3 * expected, rel=1e-3)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_who_knows_the_picture_has_no_loss_and_gives_it_back_in_one_step(prediction):
    made, data = network(decoder={"name": "cosines"}, generator={"unet": {**UNET, **SIXTEEN}}), batch()
    alphas = alphas_cumprod(preset().diffusion)
    answer = made.decoder.encode(data.picture)

    def oracle(noisy, t, condition):
        share = alphas[t].view(-1, 1, 1, 1)
        noise = (noisy - share.sqrt() * answer[: len(noisy)]) / (1 - share).sqrt()
        return (
            noise
            if prediction == "epsilon"
            else share.sqrt() * noise - (1 - share).sqrt() * answer[: len(noisy)]
        )

    made.generator.forward = oracle
    loss = objective(prediction, wasserstein=0.0)
    assert float(loss(made, data)) < 1e-6
    pairs = [(data.lr[:1], made.decoder.decode(answer[:1]).clamp(-1, 1))]
    answer = made.decoder.encode(pairs[0][1])
    assert all(value > 60 for value in loss.measure(made, pairs).values())


def test_what_frozen_parts_say_of_a_pool_is_computed_once():
    made, data = network(), batch()
    asked, moments = [], made.decoder.moments
    made.decoder.moments = lambda x: (asked.append(len(x)), moments(x))[1]
    flipped, loss, values = data.with_each(lambda x: x.flip(0)), objective(), []
    rest = [(loss, flipped, (7, 4)), (objective(), flipped, (7, 4)), (loss, data, None)]
    for asks, each, numbers in [(loss, data, (4, 7)), *rest]:
        torch.manual_seed(1)
        with torch.no_grad():
            values.append(float(asks(made, each._replace(numbers=numbers))))
    assert asked == [2, 2, 2]  # the second time nothing is new, the last time no sample has a number
    assert values[1] == pytest.approx(values[2], rel=1e-5)


def test_dpacm_reaches_the_light_network_and_nothing_else():
    made = network(opened=True)
    torch.manual_seed(0)
    found = objective(wasserstein=1.0)
    torch.manual_seed(0)
    plain = torch.autograd.grad(
        objective(wasserstein=0.0)(made, batch()), list(made.generator.parameters()), allow_unused=True
    )
    torch.manual_seed(0)
    more = torch.autograd.grad(found(made, batch()), list(made.generator.parameters()), allow_unused=True)
    for (name, _), a, b in zip(made.generator.named_parameters(), plain, more, strict=True):
        own = name.startswith(("control.controlnet_cond_embedding.", "view."))
        if own:
            assert b is not None, name
            assert a is None or not torch.equal(a, b), name
        else:
            assert (a is None) == (b is None), name
            assert a is None or torch.allclose(a, b, atol=1e-7), name


def test_the_perceptual_term_is_the_given_distance_times_its_weight():
    made, values = network(opened=True), []
    for weight in (0.0, 0.5):
        loss = Denoising(
            preset().diffusion, 0.0, weight, lambda: lambda a, b: (a.mean() - b.mean()).abs() + 1, 64
        )
        loss.begin(made, 0, 1)
        torch.manual_seed(0)
        with torch.no_grad():
            values.append(float(loss(made, batch())))
    assert values[1] - values[0] >= 0.5


def test_a_judge_that_is_not_here_is_missed_before_the_first_step():
    with pytest.raises(PresetError, match="needs the file of squeezenet"):
        objective(perceptual=0.1, backbone="squeezenet").begin(network(), 0, 1)


def test_on_base_models_only_attention_and_what_is_new_is_trained(tmp_path):
    sd, dino = map(str, base_folders(tmp_path))
    made = network(
        encoder={"name": "dino", "base": dino},
        decoder={"name": "latents", "base": sd},
        generator={"name": "lgcaa", "base": sd, "condition_widths": [8, 8, 8], "checkpointing": True},
    )
    changed = step(made, objective())
    assert not any(name.startswith(("encoder.", "decoder.")) for name in changed)
    of_unet = {name for name in changed if name.startswith("generator.unet.")}
    assert of_unet
    assert all(".attn1." in name or ".attn2." in name for name in of_unet)
    for part in ("control.", "project.", "view."):
        assert any(name.startswith(f"generator.{part}") for name in changed)


ROWS = {
    None: {
        "attn1.local.",
        "attn1.everywhere.",
        "attn1.mlp.",
        "attn1.norm_merged.",
        "attn1.pretrained.",
        "view.",
    },
    "no-lgcaa": {"attn1.to_q.", "view."},
    "local": {"attn1.local.", "attn1.mlp.", "attn1.pretrained.", "view."},
    "global": {"attn1.everywhere.", "attn1.mlp.", "attn1.pretrained.", "view."},
    "no-norm": {"attn1.local.", "attn1.everywhere.", "attn1.mlp.", "attn1.pretrained.", "view."},
    "no-dpacm": {"attn1.local.", "attn1.everywhere.", "attn1.mlp.", "attn1.pretrained."},
    "perceptual-only": {"attn1.local.", "attn1.everywhere.", "attn1.mlp.", "view."},
    "wasserstein-only": {"attn1.local.", "attn1.everywhere.", "attn1.mlp.", "view."},
}
EVERY = {"attn1.to_q.", "attn1.local.", "attn1.everywhere.", "attn1.norm_merged.", "view."}


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_every_row_of_the_ablations_trains_what_it_has(row, tmp_path):
    recipe = read_recipe(RECIPE, variant=row)
    given = {
        key: value
        for key, value in recipe.preset.generator.args.items()
        if key in ("parts", "merge_norm", "dpacm")
    }
    made = network(opened=True, generator=given)
    judge = tmp_path / "squeezenet.safetensors"
    save_file(CLASSIFIERS["squeezenet"]().state_dict(), judge)
    args = recipe.objective.args | {"backbone": "squeezenet", "weights": str(judge)}
    (loss,) = make_objective(Part(recipe.objective.name, args), diffusion=recipe.preset.diffusion)
    changed = {name for name in step(made, loss) if ".control." not in name}
    for piece in ROWS[row]:
        assert any(piece in name for name in changed), piece
    for piece in EVERY - ROWS[row] - ({"attn1.norm_merged."} if row != "no-norm" else set()):
        assert not any(f".{piece}" in name for name in changed), piece
    if row == "no-norm":
        assert not any("norm_merged" in name for name in changed)
    wanted = {"perceptual-only": (0.0, 0.3), "wasserstein-only": (2.0, 0.0), "no-dpacm": (0.0, 0.0)}
    assert (loss.wasserstein, loss.perceptual) == wanted.get(row, (2.0, 0.3))


def test_lgcaa_starts_from_a_network_with_standard_attention_as_it_was():
    prior = network(seed=3, generator={"parts": "none", "dpacm": False})
    made = network(seed=4, opened=False)
    recipe = read_recipe(RECIPE)
    trainer = SimpleNamespace(network=made, average=network(seed=5, opened=False), recipe=recipe)
    new = Trainer.start_from(trainer, prior.state_dict(), "the prior")
    assert new
    assert all("attn1." in name or name.startswith("generator.view.") for name in new)
    data = batch()
    enlarged = torch.nn.functional.interpolate(data.lr, size=(32, 32), mode="bicubic")
    noisy, t = torch.randn(2, 4, 8, 8), torch.tensor([3, 900])
    with torch.no_grad():
        condition = prior.condition(data.lr, enlarged)
        assert torch.equal(made.generator(noisy, t, condition), prior.generator(noisy, t, condition))
    for module in made.modules():
        if isinstance(module, LocalGlobalAttention):
            assert torch.equal(module.local.to_q.weight, module.pretrained.to_q.weight)
            assert torch.equal(module.everywhere.to_out.bias, module.pretrained.to_out[0].bias)


def test_one_step_estimates_are_measured_on_pictures_of_any_size():
    made = network().eval()
    pairs = [(torch.rand(1, 3, 11, 9) * 2 - 1, torch.rand(1, 3, 44, 36) * 2 - 1)]
    with torch.no_grad():
        assert list(objective().measure(made, pairs)) == ["psnr-y from noise", "psnr-y one step"]


def test_hr_pictures_and_a_latent_restorer_are_needed():
    with pytest.raises(PresetError, match="HR pictures"):
        objective()(network(), batch()._replace(picture=None))


def test_an_optimiser_in_8_bits_is_the_packages_or_is_missed(monkeypatch, tmp_path):
    settings = OptimSettings(optimiser="adamw-8bit", lr=0.01, decay_weights=0.02)
    if importlib.util.find_spec("bitsandbytes") is None:
        with pytest.raises(ResourceError, match="bitsandbytes"):
            make_optimiser(settings, [])
    (tmp_path / "bitsandbytes.py").write_text(
        "class optim:\n    AdamW8bit = staticmethod(lambda _, **given: given)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "bitsandbytes", raising=False)
    made = make_optimiser(settings, [])
    monkeypatch.delitem(sys.modules, "bitsandbytes")
    assert made == {"lr": 0.01, "betas": (0.9, 0.99), "weight_decay": 0.02}
