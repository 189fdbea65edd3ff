"""Networks that are small enough for tests: as presets, in an engine, and as files; and a picture for them."""

import json

import numpy as np

EDSR = {"name": "edsr", "n_resblocks": 1, "n_feats": 8, "mean_shift": False}
WIDE = {**EDSR, "n_feats": 16}  # of whose features tiles have the bits of the whole
BLEND = {"name": "blend", "width": 8, "hidden": [8]}
TINY = {"title": "Tiny", "encoder": EDSR, "decoder": BLEND}


def tiny(name="tiny", **sections):
    """The preset of a small network, with `sections` in the place of its own."""
    from srcli.config.presets import parse_preset

    return parse_preset({**TINY, **sections}, name=name)


def network_of(preset, seed=0):
    """A preset's network, with the same random weights every time."""
    import torch

    from srcli.weights.build import build

    torch.manual_seed(seed)
    return build(preset)


def tiny_engine(name="tiny", *, encoder=EDSR, decoder=BLEND, seed=3, **options):
    """The engine of a small network on the CPU."""
    from srcli.engine.load import upscaler_for

    preset = tiny(name, encoder=encoder, decoder=decoder)
    return upscaler_for(network_of(preset, seed), preset, device="cpu", **options)


def save_tiny(path, seed=0, *, name="tiny", extra=None, half=False, **sections):
    """The weights file of a small network."""
    from srcli.weights.checkpoint import save

    preset = tiny(name, **sections)
    save(path, network_of(preset, seed), preset, extra=extra, half=half)
    return path


def noise_picture(h, w, seed=0):
    """A picture (1, 3, h, w) in [0, 1] of noise."""
    import torch

    return torch.from_numpy(np.random.default_rng(seed).random((1, 3, h, w), dtype=np.float32))


def toml(value):
    """A value of a preset, tables in line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value)


def write_preset(folder, table, name="tiny"):
    """The preset's file, whose name is the preset's."""
    path = folder / f"{name}.toml"
    path.write_text("".join(f"{key} = {toml(value)}\n" for key, value in table.items()), "utf-8")
    return path
