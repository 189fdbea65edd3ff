"""What is done with a mutant: what the program does with a file of that kind, up to its exit code."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from srcli.errors import SrcliError
from srcli.image import read_provenance
from srcli.inputs import Source
from srcli.job import Settings, records_of
from srcli.manifest import Manifest, progress_of
from srcli.outputs import Destination, Template
from srcli.presets import load_preset
from srcli.sizes import size_rule
from tests.cli.conftest import Bicubic
from tests.fuzz.mutants import mutant

SETTINGS = Settings(
    rule=size_rule(max_side=40),
    preset=load_preset("edsr-s-blend"),
    weights_sha256=lambda: "0" * 64,
)
PLACE = Destination(Template("{stem}{ext}"), stdout=True)


def attempt(kind: str, number: int, folder: Path) -> bool:
    """Whether the mutant was accepted; False if it was refused with an error for people.

    Anything else that is raised is a bug.
    """
    return accepts(kind, mutant(kind, number), folder)


def accepts(kind: str, data: bytes, folder: Path) -> bool:
    """As `attempt`, for a file's content."""
    try:
        TARGETS.get(kind, upscale)(data, folder)
    except SrcliError:
        return False
    return True


def upscale(data: bytes, _folder: Path) -> None:
    """Read, enlarge without a network, write in the file's own format; and ask what made it."""
    read_provenance(data)
    stdout = io.BytesIO()
    settings = replace(SETTINGS, frames="first" if data[:2] in (b"II", b"MM") else "all")  # pages, animations
    records = list(records_of(1, Source(None), settings, PLACE, Bicubic, data=data, stdout=stdout))
    assert [record.status for record in records] == ["done"]
    assert stdout.getvalue()


def use_weights(data: bytes, folder: Path) -> None:
    """`upscale -m FILE.safetensors`."""
    from srcli.weights import load

    path = folder / "mutant.safetensors"
    path.write_bytes(data)
    load(path)


def use_preset(data: bytes, folder: Path) -> None:
    """`upscale -m FILE.toml`, and `train --recipe FILE.toml`."""
    from srcli.models import build
    from srcli.recipe import read_recipe

    path = folder / "mutant.toml"
    path.write_bytes(data)
    with suppress(SrcliError):
        read_recipe(path)
    build(load_preset(path))


def import_checkpoint(data: bytes, folder: Path) -> None:
    """`models import FILE.pth`."""
    from srcli.weights.official import fit, read_foreign

    path = folder / "mutant.pth"
    path.write_bytes(data)
    fit(read_foreign(path), load_preset("edsr-s-blend"))


def read_manifest(data: bytes, folder: Path) -> None:
    """`upscale --manifest FILE.jsonl --status`, and whether an output is up to date."""
    path = folder / "mutant.jsonl"
    path.write_bytes(data)
    manifest = Manifest(path)
    progress_of(["a.png", "b.png"], manifest.entries.values())
    for key, output in list(manifest.entries):
        manifest.entry(key, Path(output or "-"))


TARGETS: dict[str, Callable[[bytes, Path], None]] = {
    "safetensors": use_weights,
    "toml": use_preset,
    "checkpoint": import_checkpoint,
    "manifest": read_manifest,
}
