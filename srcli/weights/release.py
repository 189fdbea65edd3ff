"""Releases: models that do not come with the package, as files beside a manifest, anywhere on the web.

    srcli-models.json   {"format": 1, "srcli": VERSION, "models": [{name, title, file, size, sha256, license}, ..]}
    FILE.safetensors    weights files of ours, byte for byte

The manifest is what is trusted: name it with ``#sha256=`` and digits of its own hash, and nothing can be exchanged.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import urllib.parse
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from srcli import __version__
from srcli.config.presets import Preset, load_preset
from srcli.errors import ModelError, PresetError, SrcliError, UsageError, WeightsError, suggest
from srcli.files import atomic_write, made_folder, sha256, write_atomically
from srcli.weights.checkpoint import check_header, shapes_inside
from srcli.weights.convert import Installed, card, check_free
from srcli.weights.download import Report, alone, fetch
from srcli.weights.files import (
    FIXED_SCALE,
    SUFFIX,
    UNSTATED,
    check_hash,
    check_license,
    find,
    hash_file,
    locate,
    metadata,
    models_folder,
    preset_inside,
    resolve,
)

MANIFEST = "srcli-models.json"
FORMAT = 1
PLAIN = re.compile(r"\w[\w.+-]*", re.ASCII)  # names and files: no folders, nothing to escape


@dataclass(frozen=True)
class Asset:
    """A model of a release: what it is called, and its file, of `size` bytes."""

    name: str
    title: str
    file: str
    size: int
    sha256: str
    license: str

    @classmethod
    def of(cls, table: Any, where: str) -> Asset:
        """An entry of a manifest. Raises ModelError (it is none)."""
        try:
            found = cls(**{each.name: table[each.name] for each in fields(cls)})
            plain = all(PLAIN.fullmatch(word) for word in (found.name, found.file))
            hashed = re.fullmatch("[0-9a-f]{64}", found.sha256)
            if not (plain and hashed and found.file.endswith(SUFFIX) and found.size > 0):
                raise ValueError(f"'{found.name}' is not described as a model")
            check_license(found.license)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ModelError(f"{where} is no manifest of models: {error}.") from error
        return found


def pack(models: Sequence[str], folder: Path, *, overwrite: bool = False) -> list[Asset]:
    """Copy the weights of models to a folder, with a manifest of them, to be put on the web as they are.

    `models` are presets or weights files of ours. Raises ModelError (weights that are missing, have another hash, are
    no file of ours, or whose licence is not stated), PresetError, UsageError (two of one name), ExistsError,
    ResourceError (it cannot be written).
    """
    sources: dict[str, Path] = {}
    assets: list[Asset] = []
    for model in models:
        preset = resolve(model)
        path = find(preset)
        name = path.stem if Path(model).suffix else preset.name
        if path.name in sources or name in [asset.name for asset in assets]:
            raise UsageError(f"'{name}' is named twice.")
        assets.append(_asset(name, preset, path))
        sources[path.name] = path
    for file in (*sources, MANIFEST):
        check_free(folder / file, overwrite=overwrite)
    manifest = {"format": FORMAT, "srcli": __version__, "models": [asdict(asset) for asset in assets]}
    with made_folder(folder):
        for file, path in sources.items():
            with path.open("rb") as source, atomic_write(folder / file) as copy:
                shutil.copyfileobj(source, copy)
        write_atomically(folder / MANIFEST, json.dumps(manifest, indent=2).encode() + b"\n")  # last
    return assets


def _asset(name: str, preset: Preset, path: Path) -> Asset:
    license_id = preset.weights.license
    if path.suffix != SUFFIX or "preset" not in metadata(path):
        raise ModelError(f"{path} is no weights file of ours.", hint=f"Make one: srcli models import {path}")
    if license_id == UNSTATED:
        raise ModelError(
            f"{path} cannot be given on: its licence is not stated.",
            hint=f"State it: srcli models import {path} --license SPDX -o FILE",
        )
    _check_inside(path, license_id)
    found = Asset(name, preset.title, path.name, path.stat().st_size, check_hash(preset, path), license_id)
    return Asset.of(asdict(found), str(path))


def _check_inside(path: Path, license_id: str) -> Preset:
    """The preset in a weights file, which fits the tensors in it and has this licence. Raises WeightsError."""
    preset = preset_inside(path)
    if preset.encoder.name == FIXED_SCALE:
        shapes_inside(path)
    else:
        check_header(preset, path)
    stated = metadata(path).get("license")
    if stated != license_id:
        raise WeightsError(
            f"{path} is under another licence ({stated}) than what is said of it ({license_id})."
        )
    return preset


def read_manifest(link: str) -> list[tuple[str, Asset]]:
    """The models of the release whose manifest lies at `link`, each with its own address.

    Raises UsageError (no digits behind ``#sha256=``), ModelError (no answer, no manifest, or another one).
    """
    url, _, pin = link.partition("#sha256=")
    if url != link and not re.fullmatch("[0-9a-f]{8,64}", pin):
        raise UsageError(f"{link}: a manifest is pinned by 8 to 64 digits of its SHA-256.")
    with tempfile.TemporaryDirectory() as folder:
        fetch(url, Path(folder) / MANIFEST)
        found, content = sha256(Path(folder) / MANIFEST), (Path(folder) / MANIFEST).read_bytes()
    if not found.startswith(pin):
        raise ModelError(f"{url} is another manifest than asked for: its SHA-256 is {found}.")
    try:
        table = json.loads(content)
        version, entries = table["format"], list(table["models"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(f"{url} is no manifest of models.", hint=f"It is called {MANIFEST}.") from error
    if version != FORMAT:
        raise ModelError(f"{url} is a manifest of format {version}.", hint="Get a newer srcli.")
    assets = [Asset.of(entry, url) for entry in entries]
    return [(urllib.parse.urljoin(url, asset.file), asset) for asset in assets]


def choose(found: Sequence[tuple[str, Asset]], names: Sequence[str]) -> list[tuple[str, Asset]]:
    """Those of the models that are named, or "all". Raises ModelError (one is not there)."""
    if list(names) == ["all"]:
        return list(found)
    known = {asset.name: (url, asset) for url, asset in found}
    for name in names:
        if name not in known:
            raise ModelError(f"the release has no model '{name}'.", hint=suggest(name, known))
    return [known[name] for name in names]


def pull_asset(
    url: str,
    asset: Asset,
    *,
    folder: Path | None = None,
    overwrite: bool = False,
    report: Report | None = None,
) -> Installed:
    """Fetch a model of a release as it is; an interrupted download is continued by the next call.

    Raises ModelError (no answer, or a wrong hash), WeightsError (no file of ours), ExistsError (another file of that
    name is there), ResourceError (it cannot be written).
    """
    folder = folder or models_folder()
    target = folder / asset.file
    part = folder / f"{asset.name}-{asset.sha256[:8]}.download{SUFFIX}"
    with alone(folder, asset.name):
        if not target.is_file() or sha256(target) != asset.sha256:
            check_free(target, overwrite=overwrite)
            fetch(url, part, report=report)
            try:
                _take(part, target, url, asset)
            except SrcliError:
                part.unlink()  # continuing it would never end
                raise
    preset = replace(preset_inside(target), name=asset.name)
    return Installed(target, preset, asset.sha256, named=_named(asset.name, target))


def _take(part: Path, target: Path, url: str, asset: Asset) -> None:
    found = sha256(part)
    if found != asset.sha256:
        raise ModelError(
            f"{url} gave another file than its manifest says: SHA-256 {found[:12]}.., not {asset.sha256[:12]}..."
        )
    preset = _check_inside(part, asset.license)
    about = card(preset, target, found, {"source": url})
    write_atomically(hash_file(target), f"{found}  {target.name}\n".encode())
    write_atomically(target.with_suffix(".md"), about.encode())
    part.replace(target)  # last: weights that are there are complete


def _named(name: str, path: Path) -> bool:
    try:
        return locate(load_preset(name)) == path
    except (PresetError, ModelError):
        return False
