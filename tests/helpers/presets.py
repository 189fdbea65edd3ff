"""Presets as files, and the tables that many tests share."""

import json

EDSR = {"name": "edsr", "n_resblocks": 1, "n_feats": 8, "mean_shift": False}
TINY = {"title": "Tiny", "encoder": EDSR, "decoder": {"name": "blend", "width": 8, "hidden": [8]}}


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
