"""A preset's file with its temperatures set: what `srcli sweep-temperature --write-preset` writes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from srcli.config.presets import Preset
from srcli.weights.files import bundled_folder, locate, models_folder


def with_temperatures(preset: Preset, target: Path, temperatures: Mapping[float, float]) -> str:
    """The text of `target`: the preset's own file, comments included, with its temperatures by scale set.

    Scales that are not in `temperatures` keep what is recorded for them. The copy finds the same weights.

    Args:
        preset: from a file or from inside a weights file.
        target: where the text will stand; decides how the weights are referred to.
        temperatures: by scale.
    """
    import tomlkit

    original = None if preset.folder is None else preset.folder / f"{preset.name}.toml"
    if original is None:
        plain = {key: value for key, value in preset.to_dict().items() if key != "name"}
        document = tomlkit.parse(tomlkit.dumps(plain))
    else:
        document = tomlkit.parse(original.read_text("utf-8"))
    _put(document, "temperature", "scales", _scales(document, temperatures))
    if original is None or original.absolute() != target.absolute():
        _put(document, "weights", "file", _weights(preset, target))
    return tomlkit.dumps(document)


def _scales(document: Any, temperatures: Mapping[float, float]) -> Any:
    """An inline table, by rising scale."""
    import tomlkit

    known = {float(k): float(v) for k, v in document.get("temperature", {}).get("scales", {}).items()}
    table = tomlkit.inline_table()
    table.update({f"{scale:g}": value for scale, value in sorted((known | dict(temperatures)).items())})
    return table


def _put(document: Any, section: str, key: str, value: Any) -> None:
    import tomlkit

    if section not in document:
        document[section] = tomlkit.table()
    document[section][key] = value


def _weights(preset: Preset, target: Path) -> str:
    """How `target` names the preset's weights: by name where every preset finds them, else by a relative path."""
    found = locate(preset)
    if found is None or found.parent in (bundled_folder(), models_folder()):
        return preset.weights_file
    return os.path.relpath(found.absolute(), target.absolute().parent)
