"""Diffusion models that sample the output's own pixels."""

import numpy as np
import pytest
import torch

from srcli.config.sampling import Sampling
from srcli.engine.load import upscaler_for
from srcli.errors import ResourceError, UsageError
from srcli.geometry import Size, nearest
from srcli.models.decoders import DECODERS
from srcli.models.encoders import ENCODERS
from srcli.models.sr import ImplicitSR, OutputGenerator
from tests.helpers.presets import noise_picture as photo
from tests.helpers.presets import tiny
from tests.helpers.rendering import render, rows

NOISE = {"train_steps": 2000, "beta_start": 1e-6, "beta_end": 1e-2, "beta_schedule": "linear"}
PRESET = tiny(generator={"name": "tiny"}, diffusion={**NOISE, "steps": 3, "tile": 32})


class Tiny(OutputGenerator):
    """Knows the picture that it wants: the nearest LR pixel, in the first three features."""

    multiple_of = 4
    context = 8
    live_channels = 8
    by_level = True

    def condition(self, encoder, lr):
        return torch.cat([lr, encoder(lr)], dim=1)

    def spread(self, feat, grid):
        rows, cols = (torch.from_numpy(axis.nearest().index) for axis in grid)
        scale = torch.tensor([grid.rows.scale])
        return feat[:, :3, rows][..., cols], scale

    def forward(self, noisy, level, condition):
        picture, scale = condition
        assert scale.shape == level.shape == noisy.shape[:1]
        assert picture.shape == noisy.shape
        self.calls.append(noisy.shape)
        level = level.view(-1, 1, 1, 1)
        return (noisy - level * picture) / (1 - level**2).sqrt()


def engine(**options):
    torch.manual_seed(3)
    encoder = ENCODERS["edsr"](n_resblocks=1, n_feats=8, mean_shift=False)
    generator = Tiny()
    generator.calls = []
    network = ImplicitSR(encoder, DECODERS["liif"](in_dim=encoder.out_dim, hidden=(8,)), generator)
    return upscaler_for(network, PRESET, device="cpu", **options)


@pytest.mark.parametrize("tile", ["none", 16, "auto"])
@pytest.mark.parametrize(
    ("h", "w", "target"), [(5, 5, Size(11, 13)), (9, 16, Size(30, 59)), (1, 2, Size(3, 5))]
)
def test_every_output_pixel_gets_the_condition_of_its_own_place(tile, h, w, target):
    lr = photo(h, w)
    found = rows(engine(tile=tile), lr, target)
    wanted = lr[0].permute(1, 2, 0).numpy()[nearest(h, target.h).index][:, nearest(w, target.w).index]
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_canvases_are_multiples_and_cut_where_the_preset_says():
    sr = engine()
    stats = render(sr, photo(9, 16), Size(27, 45))[1]
    assert {shape[-2:] for shape in sr.generator.calls} == {(28, 48)}
    assert stats.sample_tile is None
    stats = render(sr, photo(9, 16), Size(60, 45))[1]
    assert stats.sample_tile == (32, 32)
    assert any("32x32 output pixels" in note for note in stats.notes)


def test_samples_are_averaged_and_progress_is_told():
    sr = engine(sampling=Sampling(steps=2, average=3))
    told = []
    rows(sr, photo(5, 5), Size(8, 8), report=told.append)
    assert len(sr.generator.calls) == 6
    assert told == sorted(told)
    assert told[-1] == 1


def test_what_makes_no_sense_or_does_not_fit_is_refused():
    sr = engine()
    with pytest.raises(UsageError, match="no temperature"):
        rows(sr, photo(5, 5), Size(8, 8), temperature=0.5)
    with pytest.raises(UsageError, match="no branches"):
        engine(branch="f")
    with pytest.raises(ResourceError, match=r"500000x500000 pixels holds \d{5}\.0 GB"):
        rows(sr, photo(5, 5), Size(500_000, 500_000))


def test_fidelity_leaves_out_the_noisy_end_and_begins_with_the_enlarged_picture():
    lr, target = photo(8, 10), Size(20, 24)
    sr = engine()
    generator = sr.network.generator
    whole = rows(sr, lr, target, seed=1, sampling=Sampling("ddim", 10))
    assert len(generator.calls) == 10
    generator.calls.clear()
    rest = rows(sr, lr, target, seed=1, sampling=Sampling("ddim", 10, fidelity=0.7))
    assert len(generator.calls) == 3
    np.testing.assert_allclose(rest, whole, atol=2e-3)  # this generator knows its picture, wherever it begins
    seen = []
    generator.forward = lambda noisy, level, condition: seen.append((noisy, level)) or torch.zeros_like(noisy)
    rows(sr, lr, target, seed=1, sampling=Sampling("ddim", 10, fidelity=0.7))
    noisy, level = seen[0]
    enlarged = torch.nn.functional.interpolate((lr - 0.5) / 0.5, tuple(target), mode="bicubic")
    noise = (noisy - level * enlarged) / (1 - level**2).sqrt()
    assert abs(float(noise.mean())) < 0.1
    assert float(noise.std()) == pytest.approx(1, abs=0.05)


def test_what_samples_latents_has_no_fidelity():
    from tests.engine.test_latent import engine as latent_engine

    with pytest.raises(UsageError, match="no fidelity"):
        rows(latent_engine(), photo(6, 7), Size(9, 10), sampling=Sampling(steps=3, fidelity=0.5))


def test_a_relative_canvas_is_added_to_the_enlarged_picture():
    lr, target = photo(7, 9), Size(15, 22)
    sr = engine()
    sr.network.generator.relative = 0.5
    sr.network.generator.forward = lambda noisy, level, condition: (
        (noisy - 0.4 * level.view(-1, 1, 1, 1)) / (1 - level.view(-1, 1, 1, 1) ** 2).sqrt()
    )  # knows that the canvas is 0.4 everywhere, and pixels are half of what is normalised
    enlarged = torch.nn.functional.interpolate(lr, tuple(target), mode="bicubic")[0].permute(1, 2, 0).numpy()
    for sampling in (Sampling("ddim", 5), Sampling("ddim", 5, fidelity=0.5)):
        np.testing.assert_allclose(rows(sr, lr, target, sampling=sampling), enlarged + 0.1, atol=2e-3)
