"""One step at a time: learning rates, accumulation, averages, objectives, and weights to start from."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from srcli.data.photos import Photo
from srcli.data.samples import Batch, Sampler
from srcli.errors import PresetError, WeightsError
from srcli.processes import Ranks
from srcli.train.batch_loader import BatchLoader
from srcli.train.objectives import OBJECTIVES, colour_l1
from srcli.train.recipe import read_recipe
from srcli.train.trainer import Trainer, training_precision
from tests.helpers.weights import equal, weights_of
from tests.train.conftest import RECIPE

CPU = torch.device("cpu")
LIT = {"decoder": '{name = "lit", base_dim = 8, n_heads = 2, side = 3, hidden = [8]}'}
CLIT2 = {"decoder": '{name = "lit", branches = 2, base_dim = 8, n_heads = 2, side = 3, hidden = [8]}'}


def batch_of(seed, size=2, side=12, queries=36):
    rng = torch.Generator().manual_seed(seed)
    parts = [(size, 3, side, side), (size, queries, 3), (size, queries, 2)]
    lr, hr, coord = (torch.rand(shape, generator=rng) for shape in parts)
    return Batch(lr, hr, coord * 2 - 1, torch.full((size, 2), 2 / 30))


def joined(*batches):
    return Batch(*(torch.cat(part) for part in zip(*(batch[:4] for batch in batches), strict=True)))


def feed_of(settings, rank=0, world=1):
    pixels = np.random.default_rng(0).integers(0, 256, (60, 70, 3), dtype=np.uint8)
    return BatchLoader(settings, Sampler([Photo("a", "a", pixels)], settings.data), Ranks(rank, world))


def test_a_step_without_a_finite_loss_changes_nothing(recipe):
    trainer = Trainer(read_recipe(recipe), CPU)
    before, average = weights_of(trainer.network), weights_of(trainer.average)
    batch = batch_of(0)
    trainer.train_step(batch._replace(hr=torch.full_like(batch.hr, torch.nan)))
    assert (trainer.skipped, trainer.skipped_in_a_row, trainer.step) == (1, 1, 1)
    assert equal(before, weights_of(trainer.network))
    assert equal(average, weights_of(trainer.average))
    trainer.train_step(batch)
    assert (trainer.skipped, trainer.skipped_in_a_row) == (1, 0)
    assert not equal(before, weights_of(trainer.network))


def test_frozen_parameters_stay_and_the_others_move(recipe):
    trainer = Trainer(read_recipe(recipe, {"optim.freeze": '["encoder."]'}), CPU)
    before = weights_of(trainer.network)
    trainer.train_step(batch_of(0))
    moved = {k for k, v in trainer.network.named_parameters() if not torch.equal(before[k], v)}
    assert moved == {k for k, _ in trainer.network.named_parameters() if k.startswith("decoder.")}


@pytest.mark.parametrize("freeze", ["encodr.", ""])
def test_freezing_nothing_or_everything_is_refused(recipe, freeze):
    with pytest.raises(PresetError, match=r"optim\.freeze"):
        Trainer(read_recipe(recipe, {"optim.freeze": f'["{freeze}"]'}), CPU)


def rates(settings):
    trainer = Trainer(settings, CPU)
    found = []
    for trainer.step in range(settings.optim.steps + 1):
        found.append(trainer.learning_rate())
    return found


def test_the_learning_rate_warms_up_and_falls_to_its_end(recipe):
    found = rates(read_recipe(recipe, {"optim.lr_start": "4e-4"}))
    assert found[0] == pytest.approx((4e-4 + 2e-3) / 2)  # half of the two steps of warm-up
    assert max(found) == found[2] == pytest.approx(2e-3)
    assert found[7] == pytest.approx((2e-3 + 1e-6) / 2)  # half-way down a cosine
    assert found[-1] == pytest.approx(1e-6)


def test_the_learning_rate_halves_at_milestones(recipe):
    changes = {"optim.decay": "steps", "optim.milestones": "[3, 7]", "optim.warmup": "0", "optim.lr": "1e-4"}
    assert rates(read_recipe(recipe, changes)) == pytest.approx([1e-4] * 3 + [5e-5] * 4 + [2.5e-5] * 6)


def test_the_average_follows_with_its_decay_and_is_the_network_without_one(recipe):
    trainer = Trainer(read_recipe(recipe), CPU)
    expected = {k: v.double() for k, v in weights_of(trainer.network).items()}
    for step in range(4):
        trainer.train_step(batch_of(step))
        decay = min(0.9, (1 + step) / (10 + step))
        current = trainer.network.state_dict()
        expected = {k: decay * v + (1 - decay) * current[k] for k, v in expected.items()}
    for key, value in trainer.average.state_dict().items():
        assert torch.allclose(value.double(), expected[key], atol=1e-6)
    plain = Trainer(read_recipe(recipe, {"optim.ema": "0"}), CPU)
    plain.train_step(batch_of(0))
    assert equal(weights_of(plain.network), weights_of(plain.average))


def test_a_step_in_parts_is_a_step_on_all_of_them(recipe):
    parts, whole = (Trainer(read_recipe(recipe, {"optim.ema": "0"}), CPU) for _ in range(2))
    for step in range(3):
        batches = [batch_of(10 * step + i) for i in range(3)]
        losses = parts.train_step(*batches), whole.train_step(joined(*batches))
        assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    for key, value in whole.network.state_dict().items():  # Adam divides by small numbers
        assert torch.allclose(value, parts.network.state_dict()[key], rtol=1e-3, atol=1e-5)


@given(step=st.integers(0, 50), part=st.integers(0, 1), batch=st.integers(1, 3))
def test_two_processes_see_what_one_sees_with_twice_the_batch(tmp_path_factory, step, part, batch):
    path = tmp_path_factory.mktemp("recipe") / "tiny.toml"
    path.write_text(RECIPE)
    settings = read_recipe(path, {"optim.batch": str(batch), "optim.accumulate": "2"})
    both = [feed_of(settings, rank, 2).step(step)[part] for rank in range(2)]
    twice = read_recipe(path, {"optim.batch": str(2 * batch), "optim.accumulate": "2"})
    alone = feed_of(twice).step(step)[part]
    assert all(torch.equal(a, b) for a, b in zip(joined(*both)[:4], alone[:4], strict=True))


def test_the_two_losses_of_an_objective_have_a_step_each(recipe, monkeypatch):
    def l1_then_bias():
        (l1,) = colour_l1()
        return l1, lambda network, batch: network(batch.lr, batch.coord, batch.cell).mean() * 3

    monkeypatch.setitem(OBJECTIVES, "two", l1_then_bias)
    settings = read_recipe(recipe, {"objective": '{name = "two"}', "optim.clip": "0"})
    trainer, slow = Trainer(settings, CPU), Trainer(settings, CPU)
    batch = batch_of(0)
    loss = trainer.train_step(batch)
    adam = torch.optim.Adam(slow.network.parameters(), lr=slow.learning_rate(), betas=(0.9, 0.99))
    seen = batch._replace(lr=(batch.lr - 0.5) / 0.5, hr=(batch.hr - 0.5) / 0.5)
    total = 0.0
    for objective in l1_then_bias():
        adam.zero_grad()
        value = objective(slow.network, seen)
        value.backward()
        adam.step()
        total += value.item()
    assert loss == pytest.approx(total, rel=1e-5)
    for key, value in slow.network.state_dict().items():
        assert torch.allclose(value, trainer.network.state_dict()[key], atol=2e-6)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_goes_down_the_same_way(recipe, precision):
    plain, half = (Trainer(read_recipe(recipe, {"optim.precision": p}), CPU) for p in ("fp32", precision))
    losses = [[trainer.train_step(batch_of(0)) for _ in range(8)] for trainer in (plain, half)]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)
    assert losses[1] != losses[0]
    assert all(p.dtype == torch.float32 for p in half.network.parameters())


def test_precision_follows_the_processor_where_it_is_left_to_it(tmp_path):
    for flags, expected in (("fpu avx512_bf16", "bf16"), ("fpu amx_bf16", "bf16"), ("fpu avx2", "fp32")):
        (tmp_path / "cpuinfo").write_text(flags)
        assert training_precision("auto", CPU, tmp_path / "cpuinfo") == expected
    assert training_precision("fp16", CPU) == "fp16"


def test_weights_are_taken_whole_grown_or_from_the_encoder_alone(recipe):
    source = Trainer(read_recipe(recipe, {"optim.seed": "5"}), CPU)
    weights = weights_of(source.network)
    same = Trainer(read_recipe(recipe), CPU)
    assert same.start_from(weights, "w") == []
    assert equal(weights, weights_of(same.average))
    deeper = Trainer(read_recipe(recipe, {"encoder.n_resblocks": "2"}), CPU)
    assert deeper.start_from(weights, "w") == []
    batch = batch_of(0)
    answers = [t.network(batch.lr, batch.coord, batch.cell) for t in (source, deeper)]
    assert torch.allclose(*answers, atol=1e-6)  # the further block begins as the identity
    other = Trainer(read_recipe(recipe, {**LIT, "init.take": "encoder"}), CPU)
    before = weights_of(other.network)
    new = other.start_from(weights, "w")
    assert set(new) == {key for key in before if key.startswith("decoder.")}
    for key, value in other.network.state_dict().items():
        assert torch.equal(value, weights[key] if key.startswith("encoder.") else before[key])


def test_weights_that_do_not_fit_are_refused_with_a_way_out(recipe):
    weights = weights_of(Trainer(read_recipe(recipe), CPU).network)
    other = Trainer(read_recipe(recipe, LIT), CPU)
    before = weights_of(other.network)
    with pytest.raises(WeightsError, match=r"init\.take=encoder"):
        other.start_from(weights, "w.safetensors")
    with pytest.raises(WeightsError, match="no encoder"):
        other.start_from({"a": torch.zeros(1)}, "w.safetensors")
    wider = Trainer(read_recipe(recipe, {"encoder.n_feats": "16", "init.take": "encoder"}), CPU)
    with pytest.raises(WeightsError, match="does not fit"):
        wider.start_from(weights, "w.safetensors")
    assert equal(before, weights_of(other.network))


def test_a_cascade_continues_the_network_of_one_branch(recipe):
    one, two = Trainer(read_recipe(recipe, LIT), CPU), Trainer(read_recipe(recipe, CLIT2), CPU)
    new = two.start_from(weights_of(one.network), "lit")
    assert new
    assert all(".1." in key for key in new)  # the second of each list
    batch = batch_of(0)  # a scale of 2.5: the first branch alone
    answers = [t.network(batch.lr, batch.coord, batch.cell) for t in (one, two)]
    assert torch.equal(*answers)


@pytest.mark.parametrize("native", [False, True])
def test_branches_learn_once_they_have_joined(recipe, native):
    changes = {
        "schedule.scales": "cumulative 1:2|1:2x1:2",
        "schedule.joins": "[0.0, 0.5]",
        "data.scale_per": "batch",
    }
    if native:
        rlfn = '{name = "rlfn", n_feats = 8, n_blocks = 1, attention = 4}'
        changes |= {"encoder": rlfn, "decoder.skip": "native"}
    settings = read_recipe(recipe, {**CLIT2, **changes})
    trainer, loader = Trainer(settings, CPU), feed_of(settings)
    start = weights_of(trainer.network)
    later = [key for key in start if ".1." in key and "imnets" in key]
    for step in range(6):
        trainer.train_step(*loader.step(step))
    middle = weights_of(trainer.network)
    assert all(torch.equal(start[key], middle[key]) for key in later)
    first = loader.step(6)
    assert first[0].stages is not None
    trainer.train_step(*first)
    end = trainer.network.state_dict()
    assert not any(torch.equal(middle[key], end[key]) for key in later)


def test_cascades_that_the_network_cannot_answer_are_refused(recipe):
    with pytest.raises(PresetError, match="asks for 2 branches; decoder 'blend' has 1"):
        Trainer(read_recipe(recipe, {"schedule.scales": "alternate 1:4x1:4|1:4"}), CPU)
    with pytest.raises(PresetError, match="scale_per"):
        Trainer(read_recipe(recipe, {**CLIT2, "schedule.scales": "1:8"}), CPU)
    settings = read_recipe(recipe, {**CLIT2, "schedule.scales": "1:8", "data.scale_per": "batch"})
    assert Trainer(settings, CPU).network.decoder.n_branches == 2


def test_the_noise_of_an_objective_is_a_function_of_the_step(recipe, monkeypatch):
    drawn = []

    def noisy():
        (l1,) = colour_l1()

        def loss(network, batch):
            drawn.append(torch.rand(()).item())
            return l1(network, batch)

        return (loss,)

    monkeypatch.setitem(OBJECTIVES, "noisy", noisy)
    settings = read_recipe(recipe, {"objective": '{name = "noisy"}'})
    first, second = Trainer(settings, CPU), Trainer(settings, CPU)
    for _ in range(3):
        first.train_step(batch_of(0))
    state = copy.deepcopy(first.state())
    first.train_step(batch_of(0))
    second.restore(state)
    torch.rand(7)
    second.train_step(batch_of(0))
    assert drawn[3] == drawn[4]
    assert len(set(drawn)) == 4


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # torch.compile itself uses what torch deprecates
def test_a_compiled_network_learns_the_same(recipe):
    plain, compiled = (
        Trainer(read_recipe(recipe, {"optim.compile": mode}), CPU) for mode in ("off", "default")
    )
    losses = [[trainer.train_step(batch_of(0)) for _ in range(3)] for trainer in (plain, compiled)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert set(compiled.state()["network"]) == set(plain.state()["network"])
