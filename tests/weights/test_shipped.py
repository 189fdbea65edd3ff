"""The models that come with the package: each loads, enlarges a picture, and stays close to it."""

import numpy as np
import pytest
import torch

from srcli.config.presets import DEFAULT_PRESET, REAL_WORLD_PRESET, list_presets
from srcli.config.sampling import choose_sampling
from srcli.engine.load import load_upscaler
from srcli.geometry import Size
from srcli.weights.files import bundled_folder, is_bundled
from tests.helpers.rendering import rows

SHIPPED = [preset for preset in list_presets() if is_bundled(preset)]


def test_a_model_of_every_kind_is_shipped():
    assert {DEFAULT_PRESET, REAL_WORLD_PRESET, "edsr-baseline-blend"} <= {preset.name for preset in SHIPPED}
    assert {"lit", "linf", "lia"} <= {preset.decoder.name for preset in SHIPPED}
    assert 2 in {preset.decoder.args.get("branches") for preset in SHIPPED}  # CLIT


def test_the_package_holds_weights_with_their_cards_and_nothing_else():
    files = [path for path in bundled_folder().iterdir() if path.is_file()]
    names = {preset.name for preset in SHIPPED}
    assert {path.name for path in files} == {f"{n}{end}" for n in names for end in (".safetensors", ".md")}
    assert sum(path.stat().st_size for path in files) <= 60e6
    most = {"rlfn-native": 2.5, "rlfn-linf-s": 2, "rlfn-lit-s": 2, "rlfn-clit2-s": 3, "fplia-small": 6}
    assert all(
        (bundled_folder() / f"{name}.safetensors").stat().st_size <= mb * 1e6 for name, mb in most.items()
    )


@pytest.mark.parametrize("preset", SHIPPED, ids=lambda preset: preset.name)
def test_a_shipped_model_gives_a_finite_picture_like_the_one_it_is_given(preset):
    y, x = torch.meshgrid(torch.linspace(0.2, 0.8, 10), torch.linspace(0.3, 0.7, 12), indexing="ij")
    lr = ((x + y) / 2).expand(1, 3, 10, 12).contiguous()  # grey: not all of them have learned every hue
    options = {}
    if preset.diffusion is not None:
        options["sampling"] = choose_sampling(preset, steps=4)
    sr = rows(load_upscaler(preset, device="cpu"), lr, Size(25, 30), **options)
    assert sr.shape == (25, 30, 3)
    assert np.isfinite(sr).all()
    wanted = torch.nn.functional.interpolate(lr, (25, 30), mode="bilinear")[0].permute(1, 2, 0).numpy()
    assert np.abs(sr - wanted).mean() < 0.1
    assert np.corrcoef(sr.ravel(), wanted.ravel())[0, 1] > 0.8
