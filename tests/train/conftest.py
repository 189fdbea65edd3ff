"""A tiny recipe and a few photos."""

import numpy as np
import pytest
from PIL import Image

RECIPE = """
title = "tiny"
encoder = {name = "edsr", n_resblocks = 1, n_feats = 8, mean_shift = false}
decoder = {name = "blend", width = 8, hidden = [8]}
data = {patch = 12, queries = 36}
optim = {steps = 12, batch = 2, lr = 2e-3, warmup = 2, ema = 0.9}
validation = {every = 6, scales = [2], photos = 1, crop = 32}
"""


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text(RECIPE)
    return path


@pytest.fixture
def photos(tmp_path):
    """Three pictures to train on and one that is held out by its name."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for i, name in enumerate(("a", "b", "c", held_out_name())):
        noise = np.random.default_rng(i).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((64, 64), Image.Resampling.BICUBIC).save(folder / f"{name}.png")
    return folder


def held_out_name():
    from srcli.data.photos import is_held_out

    return next(name for name in map(str, range(1000)) if is_held_out(name))
