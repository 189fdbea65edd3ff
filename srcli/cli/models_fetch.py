"""What brings a model here: `srcli models pull`, `import` and `merge`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from srcli.cli import base_models
from srcli.cli.console import say
from srcli.config.presets import list_presets
from srcli.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from srcli.weights.convert import Installed

Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing weights file.")]


def pull(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME",
            help="Presets, 'all' for every one with a link, 'metrics' for what LPIPS looks through, "
            "or base models such as sd2-base.",
        ),
    ],
    to: Annotated[
        Path | None, typer.Option(help="Folder to write to, instead of the folder of models.")
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Never use the network.", envvar="SRCLI_OFFLINE")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Fetch published weights from where their authors put them, check and convert them."""
    from srcli.config.presets import load_preset
    from srcli.weights import download
    from srcli.weights.files import locate

    if "metrics" in names:
        _pull_backbones(to, offline=offline, overwrite=overwrite)
        names = [name for name in names if name != "metrics"]
    bases, names = base_models.split(names)
    for name in bases:
        base_models.pull(name, to, offline=offline, overwrite=overwrite)
    chosen = (
        [p for p in list_presets() if p.weights.links]
        if names == ["all"]
        else [load_preset(n) for n in names]
    )
    for preset in chosen:
        here = locate(preset) if to is None else to / preset.weights_file
        if here is not None and here.is_file() and not overwrite:
            print(f"{preset.name} is here: {here}")
            continue
        for link in preset.weights.links[:1]:
            say(f"{preset.name} from {link}")
            say(f"licence: weights {preset.weights.license}, code {preset.code_license or 'unstated'}")
        with _progress(preset.name) as report:
            installed = download.pull(preset, folder=to, offline=offline, overwrite=overwrite, report=report)
        _print_installed(installed)


def _pull_backbones(to: Path | None, *, offline: bool, overwrite: bool) -> None:
    from srcli.metrics import backbones
    from srcli.weights import download

    def fetch(url: str, part: Path) -> None:
        if offline:
            raise ModelError(
                f"{part.name.removesuffix('.download')} is not fetched: offline.",
                hint=f"On a machine with a network: {backbones.PULL} --to FOLDER",
            )
        terms = next(b.license for b in backbones.BACKBONES.values() if b.url == url)
        say(f"{url}, {terms}")
        with _progress(part.name) as report:
            download.fetch(url, part, report=report)

    for path in backbones.pull(fetch, to=to, overwrite=overwrite):
        print(path)


def import_model(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A .pth, .ckpt or .safetensors file, or a folder.")
    ],
    preset: Annotated[
        str, typer.Option(help="The network it belongs to; 'auto' finds it by its keys.")
    ] = "auto",
    license_id: Annotated[
        str | None,
        typer.Option(
            "--license",
            help="SPDX identifier of the weights, or 'unstated'.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="File to write, instead of one in the folder of models; without a suffix, a folder of parts.",
        ),
    ] = None,
    trust_pickle: Annotated[
        bool, typer.Option("--trust-pickle", help="Let the file run code. Only for files that you made.")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Convert a checkpoint to safetensors, safely, so that it can be used by name."""
    from srcli.weights.convert import import_file

    if trust_pickle:
        say(f"warning: whatever code is in {file} is run.")
    installed = import_file(
        file,
        preset=preset,
        license_id=license_id,
        output=output,
        trust_pickle=trust_pickle,
        overwrite=overwrite,
    )
    _print_installed(installed)


def merge(
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL", help="Presets or weights files of one network.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The weights file to write.")],
    encoder: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Take the encoder of this model instead, to train on from there."),
    ] = None,
    half: Annotated[bool, typer.Option("--half", help="Write fp16, half the size.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Write the mean of several weights of one network, for example of two ends of a training."""
    from srcli.weights.convert import merge as merge_files

    preset = merge_files(models, output, encoder=encoder, half=half, overwrite=overwrite)
    print(output)
    say(f"{preset.title}; use it: srcli upscale photo.png --scale 4 --model {output}")


def _print_installed(installed: Installed) -> None:
    use = installed.preset.name if installed.named else installed.path
    print(f"{installed.preset.name} {installed.sha256} {installed.path}")
    if installed.path.is_dir():
        say(f"make one file of it, to use it: srcli models import {installed.path} -o NAME.safetensors")
    else:
        say(f"use it: srcli upscale photo.png --scale 4 --model {use}")


@contextmanager
def _progress(name: str) -> Iterator[Callable[[int, int | None], None] | None]:
    """A progress bar on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress("{task.description}", *columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
