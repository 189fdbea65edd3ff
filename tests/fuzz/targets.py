"""What is done with a mutant: what the program does with a file of that kind, up to its exit code."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout, suppress
from functools import cache
from pathlib import Path
from typing import Any

from typer.main import get_command

from srcli.batch.manifest import Manifest, progress_of
from srcli.cli import app, upscale
from srcli.config.presets import load_preset
from srcli.errors import SrcliError
from tests.fuzz.mutants import PICTURES, mutant, seeds

MAX_PIXELS = 1 << 16  # what a damaged header may claim and still be enlarged


def attempt(kind: str, number: int, folder: Path) -> bool:
    """Whether the mutant was accepted; False if it was refused with an error for people.

    Anything else that is raised is a bug. Of pictures, every other one is looked at by `info` and not enlarged.
    """
    return accepts(kind, mutant(kind, number), folder, enlarge=number % 2 == 1)


def accepts(kind: str, data: bytes, folder: Path, *, enlarge: bool = True) -> bool:
    """As `attempt`, for a file's content."""
    if kind in PICTURES:
        path = folder / "mutant.img"
        path.write_bytes(data)
        return use_picture(path, enlarge=enlarge)
    try:
        TARGETS[kind](data, folder)
    except SrcliError:
        return False
    return True


def use_picture(path: Path, *, enlarge: bool) -> bool:
    """`upscale FILE -s 2` or `info FILE`: whether the file was accepted."""
    words = ["info", str(path), "--json"]
    if enlarge:
        out = path.parent / "out"
        words = [
            "upscale", str(path), "-s", "2", "-o", f"{out}/", "--overwrite", "-m", str(tiny(path.parent)),
        ]  # fmt: skip
        words += ["--frames", "all", "--max-pixels", f"in={MAX_PIXELS}", "--device", "cpu", "--json"]
        upscale.loaded = engine  # type: ignore[assignment]  # once for all
    code, said, told = run(words)
    errors = [line for line in told.splitlines() if line.startswith("error: ")]
    if code not in (0, 1, 5) or "Traceback" in told or "internal error" in told or len(errors) != (code != 0):
        raise AssertionError(f"exit code {code}: {told[-200:]}")
    assert code or str(path) in said
    return code == 0


def run(words: list[str]) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of the command line in this process; what it does not catch passes through."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    with redirect_stdout(out), redirect_stderr(err):
        try:
            command().main(words, prog_name="srcli")
        except SystemExit as leaving:
            code = int(leaving.code or 0)
    return code, *(stream.buffer.getvalue().decode() for stream in (out, err))


@cache
def command() -> Any:
    """All commands; to put them together takes longer than most of what they do here."""
    return get_command(app)


@cache
def tiny(folder: Path) -> Path:
    """The smallest network's weights file."""
    path = folder / "tiny.safetensors"
    path.write_bytes(seeds("safetensors")[0])
    return path


def engine(model: Any, device: str, *_: object) -> object:
    """In place of `srcli.cli.upscale.loaded`."""
    return _engine(model.preset.name, model.load, device)


@cache
def _engine(_name: str, load: Callable[[str], object], device: str) -> object:
    return load(device)


def use_weights(data: bytes, folder: Path) -> None:
    """`upscale -m FILE.safetensors`."""
    from srcli.weights.checkpoint import load

    path = folder / "mutant.safetensors"
    path.write_bytes(data)
    load(path)


def use_preset(data: bytes, folder: Path) -> None:
    """`upscale -m FILE.toml`, and `train --recipe FILE.toml`."""
    from srcli.train.recipe import read_recipe
    from srcli.weights.build import build

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
    fit(read_foreign(path), load_preset("edsr-baseline-blend"))


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
