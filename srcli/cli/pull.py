"""`srcli models pull`, `pack` and `push`: weights from the web, and to it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from srcli.cli import options
from srcli.cli.command import argument, option
from srcli.cli.console import Style, downloading, say
from srcli.config.base_models import base_names, load_base
from srcli.config.presets import list_presets
from srcli.errors import ModelError, UsageError
from srcli.resources import in_words

if TYPE_CHECKING:
    from srcli.weights.convert import Installed


def pull(
    names: list[str] = argument(
        "Presets, 'all' for every one with a link, 'metrics' for what LPIPS looks through, base models such as "
        "sd2-base, or hf:user/repo again.",
        "NAME...",
    ),
    to: Path | None = option("Folder to write to, instead of the folder of models.", "DIR"),
    release: str | None = option(
        "Take NAME, or all, from a release that 'models pack' made: the address of its srcli-models.json, with "
        "#sha256=DIGITS behind it to pin it.",
        "--from ADDRESS",
    ),
    offline: options.Offline = False,
    overwrite: options.Overwrite = False,
    progress: options.Progress = "auto",
) -> None:
    """Fetch published weights from where their authors put them, check and convert them."""
    from srcli.config.presets import load_preset
    from srcli.weights import download
    from srcli.weights.files import locate

    if release is not None:
        _pull_release(release, names, to, progress, offline=offline, overwrite=overwrite)
        return
    if "metrics" in names:
        _pull_backbones(to, progress, offline=offline, overwrite=overwrite)
        names = [name for name in names if name != "metrics"]
    for name in [name for name in names if name.startswith("hf:")]:
        _pull_hub(name, to, offline=offline)
        names = [other for other in names if other != name]
    bases, names = split_bases(names)
    for name in bases:
        _pull_base(name, to, offline=offline, overwrite=overwrite)
    everything = [preset for preset in list_presets() if preset.weights.links]
    chosen = everything if names == ["all"] else [load_preset(name) for name in names]
    for preset in chosen:
        here = locate(preset) if to is None else to / preset.weights_file
        if here is not None and here.is_file() and not overwrite:
            print(f"{preset.name} is here: {here}")
            continue
        for link in preset.weights.links[:1]:
            say(f"{preset.name} from {link}")
            say(f"licence: weights {preset.weights.license}, code {preset.code_license or 'unstated'}")
        with downloading(preset.name, progress) as report:
            installed = download.pull(preset, folder=to, offline=offline, overwrite=overwrite, report=report)
        print_installed(installed)


def _pull_release(
    link: str, names: list[str], to: Path | None, progress: Style, *, offline: bool, overwrite: bool
) -> None:
    from srcli.weights.release import choose, pull_asset, read_manifest

    if offline:
        raise ModelError(
            "no release is fetched: offline.",
            hint=f"On a machine with a network: srcli models pull NAME --from {link} --to FOLDER",
        )
    for url, asset in choose(read_manifest(link), names):
        say(f"{asset.name} from {url}, {in_words(asset.size)}, licence {asset.license}")
        with downloading(asset.name, progress) as report:
            installed = pull_asset(url, asset, folder=to, overwrite=overwrite, report=report)
        print_installed(installed)


def _pull_hub(name: str, to: Path | None, *, offline: bool) -> None:
    from srcli.weights.hub import Reference

    if to is not None:
        raise UsageError("--to: what comes from the Hub lies in its cache.", hint="Set HF_HOME to move it.")
    if offline:
        options.go_offline()
    reference = Reference.parse(name)
    path = reference.fetch(refresh=True)
    print(f"{name} {path}")
    say(
        f"licence: weights {reference.preset().weights.license}; use it: srcli upscale photo.png -s 4 -m {name}"
    )


def push(
    name: str = argument("A preset, or a weights file of ours.", "NAME"),
    repository: str = argument("Where to; it is made if there is none.", "hf:USER/REPO"),
    private: bool = option("Make it private, if it is new."),
) -> None:
    """Put a model on the Hub, with its licence and a card; log in before: hf auth login."""
    from srcli.weights.files import find, resolve
    from srcli.weights.hub import Reference, copy_to
    from srcli.weights.hub import push as push_file

    target = Reference.parse(repository)
    if target.revision or target.file:
        raise UsageError(f"{repository}: a model goes to the main branch of hf:USER/REPO.")
    preset = resolve(name)
    print(push_file(target.repo, preset, copy_to(find(preset)), private=private or None))
    say(f"use it: srcli upscale photo.png -s 4 -m hf:{target.repo}")


def pack(
    names: list[str] = argument("Presets, or weights files of ours.", "NAME..."),
    output: Path = option("Folder to write to.", "-o DIR"),
    overwrite: options.Overwrite = False,
) -> None:
    """Copy models to a folder with a manifest of hashes and licences, for a release that `pull --from` reads."""
    from srcli.files import sha256
    from srcli.weights.release import MANIFEST
    from srcli.weights.release import pack as pack_files

    for asset in pack_files(names, output, overwrite=overwrite):
        print(f"{asset.name} {asset.sha256} {output / asset.file}")
        say(f"{asset.title}: {in_words(asset.size)}, licence {asset.license}")
    pin = sha256(output / MANIFEST)
    say(f"put {output} on the web, then: srcli models pull all --from ADDRESS/{MANIFEST}#sha256={pin}")


def _pull_backbones(to: Path | None, progress: Style, *, offline: bool, overwrite: bool) -> None:
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
        with downloading(part.name, progress) as report:
            download.fetch(url, part, report=report)

    for path in backbones.pull(fetch, to=to, overwrite=overwrite):
        print(path)


def print_installed(installed: Installed) -> None:
    """Name, hash and place of new weights on standard output; beside it, how they are used."""
    use = installed.preset.name if installed.named else installed.path
    print(f"{installed.preset.name} {installed.sha256} {installed.path}")
    own = installed.preset
    say(
        f"{own.title}: licence of the weights {own.weights.license}, of the code {own.code_license or 'unstated'}"
    )
    if installed.path.is_dir():
        say(f"make one file of it, to use it: srcli models import {installed.path} -o NAME.safetensors")
    else:
        say(f"use it: srcli upscale photo.png --scale 4 --model {use}")


def split_bases(names: list[str]) -> tuple[list[str], list[str]]:
    """The base models among names, and the others."""
    known = base_names()
    return [name for name in names if name in known], [name for name in names if name not in known]


def _pull_base(name: str, to: Path | None, *, offline: bool, overwrite: bool) -> None:
    from srcli.weights.download import pull_base

    about = load_base(name)
    size = "" if about.size is None else f", about {about.size / 1e6:.1f} MB"
    say(f"{name} from {about.repository} at {about.revision}{size}")
    say(f"licence: {about.license}" + (f"; {about.note}" if about.note else ""))
    print(pull_base(name, folder=to, offline=offline, overwrite=overwrite))
